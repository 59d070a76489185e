//! What operators say: commands about the server rather than about items.
//!
//! Most of memcached's are about machinery that is not here. They are answered as memcached answers where that machinery
//! is switched off, or with its 'OK' where a wish is noted that nothing depends on.

use crate::config::{Dump, Shutdown};
use crate::server::Server;
use crate::service::reload::What;
use crate::session::text::classic::Sentence;
use crate::session::text::dump::Page;
use crate::session::text::line::{is_number, unsigned};
use crate::session::text::note::Saying;
use crate::session::text::{Asked, Request, Step};

/// memcached's least memory, in megabytes.
const MEMORY_MB_MIN: u64 = 8;
/// A number of megabytes above which it was meant to be one of bytes.
const MEMORY_MB_MAX: u64 = 1_000_000_000;

/// What a line asks for that is no classic command.
pub(super) fn request(
    command: &[u8],
    sentence: &Sentence<'_>,
    request: Request<'_>,
    asked: &mut Asked<'_>,
) -> Step {
    let saying = match command {
        b"quit" => return Step::Close,
        b"verbosity" => verbosity(sentence),
        b"cache_memlimit" => cache_memlimit(sentence, request.server),
        b"slabs" => slabs(sentence),
        b"lru" => lru(sentence),
        b"lru_crawler" => match lru_crawler(sentence, request.server) {
            Ok(page) => {
                asked.ops.push(page.op(request.place.at));
                return Step::Pause { bytes: request.line.bytes };
            }
            Err(saying) => saying,
        },
        b"watch" => Saying::NoWatch,
        b"shutdown" => match shutdown(sentence, request.server) {
            Ok(()) => return Step::Close,
            Err(saying) => saying,
        },
        b"refresh_certs" => refresh_certs(request.server),
        _ => Saying::Error,
    };
    let may_be_quiet =
        matches!(command, b"verbosity" | b"cache_memlimit" | b"lru") && saying != Saying::Error;
    request.say_unless(may_be_quiet && sentence.is_quiet(), saying, asked)
}

/// Both of memcached's modes answer what has been asked for, as every end here does.
fn shutdown(sentence: &Sentence<'_>, server: &Server) -> Result<(), Saying> {
    match (server.config.shutdown, sentence.words()) {
        (Shutdown::Refused, _) => Err(Saying::ShutdownOff),
        (Shutdown::Allowed, [] | [b"graceful"]) => {
            server.shut_down();
            Ok(())
        }
        (Shutdown::Allowed, _) => Err(Saying::ShutdownMode),
    }
}

/// The level is taken, and stays what the command line said.
fn verbosity(sentence: &Sentence<'_>) -> Saying {
    match sentence.words() {
        [level] | [level, _] if unsigned(level).is_some() => Saying::Ok,
        [_] | [_, _] => Saying::BadLine,
        _ => Saying::Error,
    }
}

/// The memory is mapped once, so what it is may be asked for, and nothing else.
fn cache_memlimit(sentence: &Sentence<'_>, server: &Server) -> Saying {
    let ([megabytes] | [megabytes, _]) = sentence.words() else { return Saying::Error };
    let is_limit = |megabytes: u64| {
        let bytes = megabytes.checked_mul(1 << 20).and_then(|bytes| usize::try_from(bytes).ok());
        bytes == Some(server.config.memory_bytes_max)
    };
    match unsigned(megabytes) {
        None => Saying::Error,
        Some(..MEMORY_MB_MIN) => Saying::MemlimitSmall,
        Some(megabytes) if megabytes > MEMORY_MB_MAX => Saying::MemlimitUnit,
        Some(megabytes) if is_limit(megabytes) => Saying::Ok,
        Some(_) => Saying::MemlimitFixed,
    }
}

/// They are read by a thread that has the time. What comes of it is told by the log, and by `stats`.
fn refresh_certs(server: &Server) -> Saying {
    if server.tls.is_none() {
        return Saying::NoTls;
    }
    server.reloads.ask(What::Certificates);
    Saying::Ok
}

/// There are no slab classes between which pages could be moved.
fn slabs(sentence: &Sentence<'_>) -> Saying {
    match sentence.words() {
        [b"reassign", _, _] => Saying::ReassignOff,
        [b"automove", b"ratio", _, ..] => Saying::Ok,
        [b"automove", b"ratio", ..] => Saying::Error,
        [b"automove", level, ..] => match unsigned(level) {
            Some(0..=2) => Saying::Ok,
            Some(_) => Saying::Error,
            None => Saying::BadLine,
        },
        _ => Saying::Error,
    }
}

/// Nothing here depends on how memcached would share its memory among its queues.
fn lru(sentence: &Sentence<'_>) -> Saying {
    match sentence.words() {
        [b"tune", hot, warm, hot_factor, warm_factor, ..] => {
            match (unsigned(hot), unsigned(warm), decimal(hot_factor), decimal(warm_factor)) {
                (Some(hot), Some(warm), Some(hot_factor), Some(warm_factor)) => {
                    if hot.saturating_add(warm) > 80 {
                        Saying::LruShares
                    } else if hot_factor <= 0.0 || warm_factor <= 0.0 {
                        Saying::LruFactors
                    } else {
                        Saying::Ok
                    }
                }
                _ => Saying::Error,
            }
        }
        [b"mode", b"flat" | b"segmented", ..] => Saying::Ok,
        [b"temp_ttl", seconds, ..] if is_number(seconds) => Saying::Ok,
        _ => Saying::Error,
    }
}

/// What has ended is swept all the time, so that there is nothing to start, to stop or to tune.
/// Its dumps are of all items, whatever class they are asked of.
fn lru_crawler(sentence: &Sentence<'_>, server: &Server) -> Result<Page, Saying> {
    Err(match sentence.words() {
        [b"enable" | b"disable"] | [b"crawl", b"all"] => Saying::Ok,
        [b"crawl", classes] if are_classes(classes) => Saying::Ok,
        [b"metadump" | b"mgdump", _] if server.config.dump == Dump::Refused => Saying::DumpOff,
        [b"metadump", b"all" | b"hash"] => return Ok(Page::METADUMP),
        [b"metadump", classes] if are_classes(classes) => return Ok(Page::METADUMP),
        [b"mgdump", b"all" | b"hash"] => return Ok(Page::MGDUMP),
        [b"mgdump", classes] if are_classes(classes) => return Ok(Page::MGDUMP),
        [b"crawl" | b"metadump" | b"mgdump", _] => Saying::CrawlerClass,
        [b"tocrawl", count] => unsigned(count).map_or(Saying::BadLine, |_| Saying::Ok),
        [b"sleep", microseconds] => match unsigned(microseconds) {
            None => Saying::BadLine,
            Some(..=1_000_000) => Saying::Ok,
            Some(_) => Saying::CrawlerSleep,
        },
        _ => Saying::Error,
    })
}

/// A list of slab classes: all items are told as of class 1.
fn are_classes(word: &[u8]) -> bool {
    word.split(|&byte| byte == b',').all(|class| matches!(unsigned(class), Some(1..=63)))
}

fn decimal(word: &[u8]) -> Option<f64> {
    str::from_utf8(word).ok()?.parse().ok()
}

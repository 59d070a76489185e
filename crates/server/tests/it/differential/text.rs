//! The text protocol, classic and meta, held against memcached's.
//!
//! Answers are compared line by line. The numbering of CAS may differ as in the binary protocol, a remaining time by
//! the seconds that pass meanwhile, and the time since an item was last read is not compared.

mod requests;

use std::io::{self, BufRead, BufReader, Read, Write as _};
use std::net::TcpStream;

use self::requests::{Generator, SYNC_KEY};
use super::side::{memcached, memcached_without_cas};
use super::stream::{Batch, Difference, Pair, Protocol};
use super::{CasBijection, CasPair, SEED_DEFAULT, is_version, run};
use crate::client::wait_until;
use crate::harness::Server;

const OPS_DEFAULT: u32 = 5000;

/// A remaining time is read from two servers whose seconds begin at different times.
const TTL_SECONDS_APART_MAX: u64 = 2;

#[test]
fn memwire_answers_text_as_memcached_does() {
    let Some(theirs) = memcached() else { return };
    let ours = Server::start(&["-m", "256"]);
    let (seed, ops_count) = run(OPS_DEFAULT);
    if let Err(difference) = compare(&ours, &theirs, seed, ops_count) {
        panic!("seed {seed}: {difference}");
    }
}

/// Nothing is generated that memcached answers by chance.
#[test]
fn memcached_answers_text_as_it_did() {
    let [Some(ours), Some(theirs)] = [memcached(), memcached()] else { return };
    if let Err(difference) = compare(&ours, &theirs, SEED_DEFAULT, 2000) {
        panic!("seed {SEED_DEFAULT}: {difference}");
    }
}

/// The canary: if the comparison cannot tell these two apart, it tells nothing.
#[test]
fn a_server_without_cas_is_noticed_in_text() {
    let Some(theirs) = memcached() else { return };
    let ours = memcached_without_cas();
    assert!(compare(&ours, &theirs, SEED_DEFAULT, 1000).is_err());
}

/// `me` tells of insides, too, which are each server's own.
#[test]
fn an_item_is_described_as_memcached_describes_it() {
    let Some(theirs) = memcached() else { return };
    let ours = Server::start(&["-m", "256"]);
    let [ours, theirs] = [&ours, &theirs].map(|server| {
        let mut lines = Lines::connect(server);
        let stored = lines.ask("set k 7 0 5\r\nvalue\r\n");
        let told =
            ["me k", "mg k v", "me k", "me k x", "me nobody"].map(|line| lines.ask(&format!("{line}\r\n")));
        (stored, told.map(|line| line.split(' ').map(own_left_out).collect::<Vec<_>>().join(" ")))
    });
    assert_eq!(ours, theirs);
    assert!(ours.1[2].starts_with("ME k exp=-1 la= cas= fetch=yes"), "{}", ours.1[2]);
}

/// A word of `me`'s answer, without what a server has for itself.
fn own_left_out(word: &str) -> &str {
    let own = ["la=", "cas=", "cls=", "size="];
    own.into_iter().find(|name| word.starts_with(name)).unwrap_or(word)
}

/// When that is, is no second: 1.6.18 fires early, and takes what comes in the second of the flush.
#[test]
fn a_flush_to_come_takes_what_is_there_and_leaves_what_comes_later() {
    let Some(theirs) = memcached() else { return };
    for server in [Server::start(&["-m", "256"]), theirs] {
        let mut lines = Lines::connect(&server);
        assert_eq!(lines.ask("set k 0 0 1\r\n1\r\n"), "STORED\r\n");
        assert_eq!(lines.ask("flush_all 100000\r\n"), "OK\r\n");
        assert_eq!(lines.ask("mg k\r\n"), "HD\r\n", "it is to come");
        assert_eq!(lines.ask("flush_all 1\r\n"), "OK\r\n");
        wait_until("it is flushed", || lines.ask("mg k\r\n") == "EN\r\n");
        wait_until("what comes later stays", || {
            assert_eq!(lines.ask("set k 0 0 1\r\n2\r\n"), "STORED\r\n");
            lines.ask("mg k\r\n") == "HD\r\n"
        });
    }
}

/// A connection on which every request is answered in one line, and the data that it announces.
struct Lines(BufReader<TcpStream>);

impl Lines {
    fn connect(server: &Server) -> Self {
        Self(BufReader::new(server.connect()))
    }

    fn ask(&mut self, request: &str) -> String {
        self.0.get_mut().write_all(request.as_bytes()).expect("the server reads");
        let answer = Text::read(&mut self.0).expect("an answer").expect("no close");
        String::from_utf8(Text::show(&answer)).expect("text")
    }
}

fn compare(ours: &Server, theirs: &Server, seed: u64, ops_count: u32) -> Result<(), Box<Difference>> {
    let mut pair = Pair::connect(ours, theirs, Text::default());
    let mut generator = Generator::new(seed);
    while generator.ops_count() < ops_count {
        for (ours, theirs) in pair.exchange(&generator.batch())? {
            if let Some((key, cas)) = ours.key().zip(ours.cas().zip(theirs.cas())) {
                generator.saw(key, CasPair { ours: cas.0, theirs: cas.1 });
            }
        }
    }
    Ok(())
}

#[derive(Default)]
struct Text {
    cas: CasBijection,
}

impl Protocol for Text {
    type Answer = Answer;

    fn read(reader: &mut BufReader<TcpStream>) -> io::Result<Option<Answer>> {
        let mut line = Vec::new();
        reader.read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(None);
        }
        let mut answer = Answer { line, data: Vec::new() };
        if let Some(len) = answer.data_len() {
            let len_with_end = len.checked_add(2).ok_or(io::ErrorKind::InvalidData)?;
            reader.take(len_with_end).read_to_end(&mut answer.data)?;
        }
        Ok(Some(answer))
    }

    fn is_last(answers: &[Answer], batch: &Batch) -> bool {
        let Some([sync, end]) = answers.last_chunk::<2>() else {
            return false;
        };
        let number =
            batch.requests.last().map_or_else(Vec::new, |request| format!("{}\r\n", request.op).into_bytes());
        end.line == b"END\r\n" && sync.word(1) == Some(SYNC_KEY.as_bytes()) && sync.data == number
    }

    fn same(&mut self, _index: usize, ours: &Answer, theirs: &Answer, _batch: &Batch) -> bool {
        let (our_parts, their_parts) = (ours.parts(), theirs.parts());
        ours.data == theirs.data
            && our_parts.len() == their_parts.len()
            && our_parts.iter().zip(&their_parts).all(|(our, their)| self.same_part(our, their))
    }

    fn show(answer: &Answer) -> Vec<u8> {
        [&answer.line[..], &answer.data].concat()
    }
}

impl Text {
    fn same_part(&mut self, ours: &Part<'_>, theirs: &Part<'_>) -> bool {
        match (ours, theirs) {
            (Part::Exact(ours), Part::Exact(theirs)) => ours == theirs,
            (&Part::Cas(ours), &Part::Cas(theirs)) => self.cas.admits(CasPair { ours, theirs }),
            (Part::Ttl(ours), Part::Ttl(theirs)) => ours.abs_diff(*theirs) <= TTL_SECONDS_APART_MAX,
            (Part::Own, Part::Own) => true,
            _ => false,
        }
    }
}

/// A line, and the data that it announces.
struct Answer {
    line: Vec<u8>,
    data: Vec<u8>,
}

/// What a word of an answer is held against.
enum Part<'a> {
    Exact(&'a [u8]),
    Cas(u64),
    Ttl(u64),
    /// Each server has its own.
    Own,
}

impl Answer {
    fn words(&self) -> impl Iterator<Item = &[u8]> {
        self.line.split(|&byte| byte == b' ')
    }

    fn word(&self, index: usize) -> Option<&[u8]> {
        self.words().nth(index).map(<[u8]>::trim_ascii_end)
    }

    fn data_len(&self) -> Option<u64> {
        let index = match self.word(0)? {
            b"VALUE" => 3,
            b"VA" => 1,
            _ => return None,
        };
        number(self.word(index)?)
    }

    fn parts(&self) -> Vec<Part<'_>> {
        let kind = self.word(0).unwrap_or_default();
        self.words().enumerate().map(|(index, word)| part(kind, index, word)).collect()
    }

    /// The key that it says it is about, if it is not coded.
    fn key(&self) -> Option<&[u8]> {
        match self.word(0)? {
            b"VALUE" => self.word(1),
            kind if is_meta(kind) && self.words().all(|word| word.trim_ascii_end() != b"b") => {
                self.words().skip(1).find_map(|word| word.trim_ascii_end().strip_prefix(b"k"))
            }
            _ => None,
        }
    }

    fn cas(&self) -> Option<u64> {
        self.parts().into_iter().find_map(|part| match part {
            Part::Cas(cas) => Some(cas),
            _ => None,
        })
    }
}

fn is_meta(kind: &[u8]) -> bool {
    matches!(kind, b"VA" | b"HD" | b"EN" | b"NF" | b"NS" | b"EX")
}

fn part<'a>(kind: &[u8], index: usize, word: &'a [u8]) -> Part<'a> {
    let trimmed = word.trim_ascii_end();
    let after = |prefix: &[u8]| trimmed.strip_prefix(prefix).and_then(number);
    let special = match kind {
        _ if index == 0 => None,
        b"VALUE" if index == 4 => number(trimmed).map(Part::Cas),
        b"VERSION" => is_version(trimmed).then_some(Part::Own),
        kind if is_meta(kind) && (index > 1 || kind != b"VA") => match trimmed.first() {
            Some(b'c') => after(b"c").map(Part::Cas),
            Some(b't') => after(b"t").map(Part::Ttl),
            Some(b'l') => after(b"l").map(|_| Part::Own),
            _ => None,
        },
        _ => None,
    };
    special.unwrap_or(Part::Exact(word))
}

fn number(word: &[u8]) -> Option<u64> {
    str::from_utf8(word).ok()?.parse().ok()
}

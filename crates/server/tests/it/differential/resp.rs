//! Redis's protocol, held against Debian's Redis.
//!
//! Answers are compared byte by byte, in RESP2 and RESP3. Remaining times may differ by the seconds that pass and by
//! rounding, since memwire keeps whole seconds; the order of keys is each server's own.

mod requests;

use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader, Read, Write as _};
use std::net::TcpStream;

use self::requests::{Generator, command};
use super::stream::{Batch, Difference, Pair, Protocol};
use super::{SEED_DEFAULT, run};
use crate::harness::{Redis, Server, skip_or_fail};

const OPS_DEFAULT: u32 = 5000;
/// After so many operations all keys are walked through.
const OPS_PER_WALK: u32 = 500;

const TTL_MS_APART_MAX: u64 = 2000;

/// Arrays in arrays, no deeper than any answer is.
const DEPTH_MAX: usize = 4;

#[test]
fn memwire_answers_as_redis_does() {
    let Some(theirs) = Redis::start(&[]) else {
        return skip_or_fail("redis-server");
    };
    // No value comes to this limit: Redis's own is at 512 MiB.
    let ours = Server::start(&["-m", "512", "-I", "64m"]);
    let (seed, ops_count) = run(OPS_DEFAULT);
    if let Err(difference) = compare(&ours, &theirs, seed, ops_count) {
        panic!("seed {seed}: {difference}");
    }
}

/// Whoever asks for these asks for them once.
#[test]
fn what_is_rare_is_answered_byte_by_byte_as_redis_does() {
    let Some(theirs) = Redis::start(&[]) else {
        return skip_or_fail("redis-server");
    };
    let ours = Server::start(&[]);
    for requests in [
        &["COMMAND INFO nope"][..],
        &["CLIENT NO-EVICT x"],
        &["CLIENT NO-EVICT"],
        &["CLIENT NO-EVICT off"],
        &["GETEX missing EX 0", "GETEX missing PXAT -1", "GETEX missing EX abc", "GETEX missing EX"],
        &["SET k v", "GETEX k EX 0", "GETEX k EX abc", "GETEX k PERSIST EX 0", "FLUSHALL"],
        &["PING", "", "PING", "", "", "PING"],
    ] {
        let requests: Vec<u8> = requests.iter().flat_map(|request| line(request)).collect();
        let (our_answers, their_answers) = (raw(&ours, &requests), raw(&theirs, &requests));
        assert!(
            our_answers == their_answers,
            "{}: ours {}, theirs {}",
            requests.escape_ascii(),
            our_answers.escape_ascii(),
            their_answers.escape_ascii()
        );
    }
}

/// A request of these words, or an empty line.
fn line(words: &str) -> Vec<u8> {
    if words.is_empty() {
        return b"\r\n".into();
    }
    command(&words.split(' ').map(str::as_bytes).collect::<Vec<_>>())
}

/// All that a server answers, as it comes.
fn raw(server: &Server, requests: &[u8]) -> Vec<u8> {
    const END: &[u8] = b"$7\r\nthe end\r\n";
    let mut socket = server.connect();
    socket.write_all(&[requests, &command(&[b"ECHO", b"the end"])].concat()).expect("the server reads");
    let (mut answers, mut reader) = (Vec::new(), BufReader::new(socket));
    while !answers.ends_with(END) {
        let read = reader.read_until(b'\n', &mut answers).expect("an answer");
        assert!(read > 0, "the end behind {}", answers.escape_ascii());
    }
    answers
}

/// Nothing is generated that Redis answers by chance.
#[test]
fn redis_answers_as_it_did() {
    let [Some(ours), Some(theirs)] = [&[], &[]].map(|args| Redis::start(args)) else {
        return skip_or_fail("redis-server");
    };
    if let Err(difference) = compare(&ours, &theirs, SEED_DEFAULT, 2000) {
        panic!("seed {SEED_DEFAULT}: {difference}");
    }
}

/// The canary: if the comparison cannot tell these two apart, it tells nothing.
#[test]
fn a_server_without_one_of_the_commands_is_noticed() {
    let Some(theirs) = Redis::start(&[]) else {
        return skip_or_fail("redis-server");
    };
    let ours = Redis::start(&["--rename-command", "APPEND", "JOIN"]).expect("redis is installed");
    assert!(compare(&ours, &theirs, SEED_DEFAULT, 1000).is_err());
}

fn compare(ours: &Server, theirs: &Server, seed: u64, ops_count: u32) -> Result<(), Box<Difference>> {
    let mut pair = Pair::connect(ours, theirs, Resp);
    let mut generator = Generator::new(seed);
    let mut walked_count = 0;
    while generator.ops_count() < ops_count {
        pair.exchange(&generator.batch())?;
        if generator.ops_count() / OPS_PER_WALK > walked_count {
            walked_count += 1;
            let options = generator.scan_options();
            let options: Vec<&[u8]> = options.iter().map(Vec::as_slice).collect();
            let (our_keys, their_keys) = (walk(ours, &options), walk(theirs, &options));
            assert_eq!(our_keys, their_keys, "SCAN with {options:?}, ours and theirs");
        }
    }
    Ok(())
}

/// All keys that SCAN tells of on its way from 0 to 0.
fn walk(server: &Server, options: &[&[u8]]) -> BTreeSet<Vec<u8>> {
    const STEPS_MAX: u32 = 10_000;
    let mut writer = server.connect();
    let mut reader = BufReader::new(writer.try_clone().expect("a socket can be cloned"));
    let mut keys = BTreeSet::new();
    let mut cursor = b"0".to_vec();
    for _ in 0..STEPS_MAX {
        writer.write_all(&command(&[&[b"SCAN", &cursor[..]], options].concat())).expect("the server reads");
        let answer = Resp::read(&mut reader).expect("an answer").expect("no close");
        let [next, found] = &answer.items[..] else {
            panic!("SCAN {} {options:?}: {}", cursor.escape_ascii(), Resp::show(&answer).escape_ascii());
        };
        keys.extend(found.items.iter().map(|key| key.data.clone()));
        cursor.clone_from(&next.data);
        if cursor == b"0" {
            return keys;
        }
    }
    panic!("SCAN comes to no end");
}

struct Resp;

/// A value: its first line, what follows it, or the values that it consists of.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Answer {
    line: Vec<u8>,
    data: Vec<u8>,
    items: Vec<Answer>,
}

impl Protocol for Resp {
    type Answer = Answer;

    fn read(reader: &mut BufReader<TcpStream>) -> io::Result<Option<Answer>> {
        read(reader, 0)
    }

    fn is_last(answers: &[Answer], batch: &Batch) -> bool {
        answers.len() == batch.requests.len()
    }

    fn same(&mut self, index: usize, ours: &Answer, theirs: &Answer, batch: &Batch) -> bool {
        let name = batch.requests.get(index).map(|request| name_in(&request.bytes)).unwrap_or_default();
        match &name[..] {
            b"TTL" | b"EXPIRETIME" => same_time(ours, theirs, TTL_MS_APART_MAX / 1000),
            b"PTTL" | b"PEXPIRETIME" => same_time(ours, theirs, TTL_MS_APART_MAX),
            b"RANDOMKEY" => ours.line.first() == theirs.line.first() && ours.is_null() == theirs.is_null(),
            b"KEYS" => ours.line == theirs.line && ours.sorted() == theirs.sorted(),
            // Cursors are each server's own, and so is what lies behind one: `walk` looks at all steps together.
            b"SCAN" if ours.items.len() == 2 => ours.line == theirs.line && theirs.items.len() == 2,
            // What a server says of itself is its own.
            b"HELLO" if ours.items.len() > 6 => ours.line.first() == theirs.line.first(),
            _ => ours == theirs,
        }
    }

    fn show(answer: &Answer) -> Vec<u8> {
        let mut shown = [&answer.line[..], &answer.data].concat();
        for item in &answer.items {
            shown.extend(Self::show(item));
        }
        shown
    }
}

impl Answer {
    fn is_null(&self) -> bool {
        matches!(&self.line[..], b"$-1\r\n" | b"*-1\r\n" | b"_\r\n")
    }

    fn sorted(&self) -> BTreeSet<&Self> {
        self.items.iter().collect()
    }

    fn number(&self) -> Option<i64> {
        str::from_utf8(self.line.strip_prefix(b":")?).ok()?.trim_end().parse().ok()
    }
}

fn read(reader: &mut BufReader<TcpStream>, depth: usize) -> io::Result<Option<Answer>> {
    if depth > DEPTH_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut answer = Answer { line: Vec::new(), data: Vec::new(), items: Vec::new() };
    reader.read_until(b'\n', &mut answer.line)?;
    let Some((kind, count)) = answer.line.split_first() else {
        return Ok(None);
    };
    let count =
        str::from_utf8(count).ok().and_then(|count| count.trim_end().parse::<u64>().ok()).unwrap_or(0);
    let items_count = match kind {
        b'$' | b'=' if !answer.is_null() => {
            reader.take(count + 2).read_to_end(&mut answer.data)?;
            answer.data.truncate(answer.data.strip_suffix(b"\r\n").ok_or(io::ErrorKind::InvalidData)?.len());
            0
        }
        b'*' | b'~' | b'>' => count,
        b'%' => count * 2,
        _ => 0,
    };
    for _ in 0..items_count {
        answer.items.push(read(reader, depth + 1)?.ok_or(io::ErrorKind::UnexpectedEof)?);
    }
    Ok(Some(answer))
}

fn same_time(ours: &Answer, theirs: &Answer, apart_max: u64) -> bool {
    match (ours.number(), theirs.number()) {
        (Some(ours @ 0..), Some(theirs @ 0..)) => ours.abs_diff(theirs) <= apart_max,
        _ => ours == theirs,
    }
}

/// The command's name in capitals: the second line of an array's first string.
fn name_in(request: &[u8]) -> Vec<u8> {
    let line = request.split(|&byte| byte == b'\n').nth(2).unwrap_or_default();
    line.trim_ascii_end().to_ascii_uppercase()
}

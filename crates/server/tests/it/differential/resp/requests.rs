//! Random Redis commands that meet each other: few keys, every command that memwire has, good ones and broken ones.
//!
//! What differs on purpose is not generated:
//!
//! - keys that are empty or over 250 bytes, and databases but for 0;
//! - times under 100 s and beyond 2^32 s: memwire keeps whole seconds, in 32 bits;
//! - commands that Redis knows and memwire does not;
//! - commands in one line without lengths, for a human's hands;
//! - cursors that no SCAN has answered;
//! - what is not stored (PING, ECHO) of more than 32 KiB;
//! - MSETNX of more than 128 KiB, which memwire does not hold together.

use super::super::material::{LARGE_BYTES, MEDIUM_BYTES_MAX, Pool, SMALL_BYTES_MAX};
use super::super::stream::{Batch, Ending, Request};
use crate::harness::Random;

const KEYS_COUNT: usize = 24;
/// So many of the keys mostly hold numbers, and counters mostly go to them.
const COUNTERS_COUNT: usize = 8;

/// Redis reads 16 KiB at a time, and closes without a look at what it has not read.
const CLOSING_BATCH_BYTES_MAX: usize = 8 << 10;

/// What an argument is made of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Argument {
    Key,
    CounterKey,
    Keys,
    /// Keys and values by turns.
    Pairs,
    ShortPairs,
    Message,
    Value,
    Piece,
    Step,
    Index,
    Offset,
    Seconds,
    Millis,
    /// Times that do not come twice: whether one is greater than the other does not hang on when it was said.
    OtherSeconds,
    OtherMillis,
    /// A time as Unix counts it.
    At,
    Pattern,
    SetOptions,
    ExpireOptions,
    GetexOptions,
    /// One of these, or nothing where that is an empty string.
    OneOf(&'static [&'static str]),
}

use Argument::{
    At, CounterKey, ExpireOptions, GetexOptions, Index, Key, Keys, Message, Millis, Offset, OneOf,
    OtherMillis, OtherSeconds, Pairs, Pattern, Piece, Seconds, SetOptions, ShortPairs, Step, Value,
};

/// Every command, how often it comes, and its arguments.
const COMMANDS: [(&str, usize, &[Argument]); 48] = [
    ("PING", 5, &[]),
    ("PING", 5, &[Message]),
    ("ECHO", 5, &[Message]),
    ("SELECT", 5, &[OneOf(&["0", "0", "-1", "16", "abc", "00", "99999999999999999999"])]),
    ("DBSIZE", 10, &[]),
    ("FLUSHALL", 1, &[OneOf(&["", "ASYNC", "sync", "never"])]),
    ("FLUSHDB", 1, &[OneOf(&["", "ASYNC", "sync", "never"])]),
    ("HELLO", 4, &[OneOf(&["", "2", "3", "3", "4", "1", "abc", "-3"])]),
    ("TYPE", 15, &[Key]),
    ("GET", 100, &[Key]),
    ("SET", 80, &[Key, Value]),
    ("SET", 100, &[Key, Value, SetOptions]),
    ("GETSET", 20, &[Key, Value]),
    ("GETDEL", 20, &[Key]),
    ("GETEX", 30, &[Key, GetexOptions]),
    ("SETNX", 15, &[Key, Value]),
    ("SETEX", 15, &[Key, Seconds, Value]),
    ("PSETEX", 15, &[Key, Millis, Value]),
    ("MGET", 30, &[Keys]),
    ("MSET", 20, &[Pairs]),
    ("MSETNX", 10, &[ShortPairs]),
    ("APPEND", 30, &[Key, Piece]),
    ("STRLEN", 20, &[Key]),
    ("GETRANGE", 30, &[Key, Index, Index]),
    ("SETRANGE", 30, &[Key, Offset, Piece]),
    ("INCR", 30, &[CounterKey]),
    ("DECR", 20, &[CounterKey]),
    ("INCRBY", 30, &[CounterKey, Step]),
    ("DECRBY", 20, &[CounterKey, Step]),
    ("DEL", 15, &[Keys]),
    ("DEL", 15, &[Key]),
    ("UNLINK", 10, &[Keys]),
    ("EXISTS", 15, &[Keys]),
    ("EXPIRE", 15, &[Key, Seconds]),
    ("EXPIRE", 15, &[Key, OtherSeconds, ExpireOptions]),
    ("PEXPIRE", 15, &[Key, Millis]),
    ("PEXPIRE", 10, &[Key, OtherMillis, ExpireOptions]),
    ("EXPIREAT", 15, &[Key, At]),
    ("EXPIREAT", 10, &[Key, At, ExpireOptions]),
    ("TTL", 30, &[Key]),
    ("PTTL", 30, &[Key]),
    ("PERSIST", 15, &[Key]),
    ("TOUCH", 15, &[Keys]),
    ("RANDOMKEY", 10, &[]),
    ("KEYS", 10, &[Pattern]),
    ("SCAN", 5, &[OneOf(&["abc", "1.5", "99999999999999999999999"])]),
    ("SCAN", 5, &[OneOf(&["0"]), OneOf(&["COUNT", "MATCH", "TYPE", "FOO"]), OneOf(&["", "0", "-1", "abc"])]),
    ("UNLINK", 5, &[Key]),
];

pub(super) struct Generator {
    random: Random,
    pool: Pool,
    keys: Vec<Vec<u8>>,
    ops_count: u32,
    requests: Vec<Request>,
}

impl Generator {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let pool = Pool::new(&mut random);
        let keys = keys(&mut random);
        Self { random, pool, keys, ops_count: 0, requests: Vec::new() }
    }

    pub(super) fn ops_count(&self) -> u32 {
        self.ops_count
    }

    /// The next requests to send.
    pub(super) fn batch(&mut self) -> Batch {
        let ending = if self.random.chance(1, 25) { Ending::Close } else { Ending::Answer };
        let count = match (ending, self.random.below(10)) {
            (Ending::Close, _) => self.random.below(5),
            (_, 0..3) => 1,
            (_, 3..8) => 2 + self.random.below(7),
            _ => 9 + self.random.below(40),
        };
        for _ in 0..count {
            let before = self.requests.len();
            self.request();
            if ending == Ending::Close && self.bytes_count() > CLOSING_BATCH_BYTES_MAX {
                self.requests.truncate(before);
            }
        }
        if ending == Ending::Close {
            self.end();
        }
        Batch { requests: std::mem::take(&mut self.requests), ending }
    }

    /// Options of a SCAN that goes over all keys.
    pub(super) fn scan_options(&mut self) -> Vec<Vec<u8>> {
        let mut options: Vec<[Vec<u8>; 2]> = Vec::new();
        if self.random.chance(1, 2) {
            options.push([b"MATCH".to_vec(), self.pattern()]);
        }
        if self.random.chance(1, 2) {
            let count = 1 + self.random.below(30);
            options.push([b"count".to_vec(), count.to_string().into_bytes()]);
        }
        if self.random.chance(1, 4) {
            options.push([b"TYPE".to_vec(), self.random.pick(&["string", "list"]).as_bytes().to_vec()]);
        }
        if self.random.chance(1, 2) {
            options.reverse();
        }
        options.into_iter().flatten().collect()
    }

    fn bytes_count(&self) -> usize {
        self.requests.iter().map(|request| request.bytes.len()).sum()
    }

    fn request(&mut self) {
        if self.random.chance(1, 60) {
            return self.unknown();
        }
        let (name, shape) = self.command();
        let mut words = vec![self.cased(name)];
        for &argument in shape {
            self.argument(argument, &mut words);
        }
        let is_of_keys = shape.iter().any(|argument| matches!(argument, Keys | Pairs | ShortPairs));
        match self.random.below(25) {
            0 if words.len() > 1 => drop(words.pop()),
            1 => words.push(b"more".to_vec()),
            // An empty key differs on purpose, so a key is not exchanged.
            2 if words.len() > 2 && !is_of_keys => {
                let at = 2 + self.random.below(words.len() - 2);
                words[at] = self.wrong_number();
            }
            _ => {}
        }
        if let [name, key, _, _, ..] = &words[..]
            && name.eq_ignore_ascii_case(b"GETEX")
        {
            // Redis does not look at the time where there is no item, and memwire always does.
            self.push(&[b"SETNX".to_vec(), key.clone(), b"x".to_vec()]);
        }
        self.push(&words);
        if let [name, key, _, _, ..] = &words[..]
            && (name.eq_ignore_ascii_case(b"SET") || name.eq_ignore_ascii_case(b"GETEX"))
        {
            // What has ended already stays and is counted by DBSIZE until Redis, or memwire, comes across it.
            self.push(&[b"EXISTS".to_vec(), key.clone()]);
        }
    }

    fn command(&mut self) -> (&'static str, &'static [Argument]) {
        let mut left = self.random.below(COMMANDS.iter().map(|(_, weight, _)| weight).sum());
        for (name, weight, shape) in COMMANDS {
            if left < weight {
                return (name, shape);
            }
            left -= weight;
        }
        unreachable!("below the sum of the weights");
    }

    fn cased(&mut self, name: &str) -> Vec<u8> {
        match self.random.below(4) {
            0 => name.to_ascii_lowercase().into_bytes(),
            1 => name
                .bytes()
                .map(|byte| if self.random.chance(1, 2) { byte.to_ascii_lowercase() } else { byte })
                .collect(),
            _ => name.as_bytes().to_vec(),
        }
    }

    fn argument(&mut self, argument: Argument, words: &mut Vec<Vec<u8>>) {
        match argument {
            Key => words.push(self.key()),
            CounterKey if self.random.chance(3, 4) => {
                words.push(self.random.pick(&self.keys[..COUNTERS_COUNT]).clone());
            }
            CounterKey => words.push(self.key()),
            Keys => {
                for _ in 0..=self.few() {
                    words.push(self.key());
                }
            }
            Pairs | ShortPairs => {
                for _ in 0..=self.few() {
                    let key = self.key();
                    let mut value = self.value(&key);
                    if argument == ShortPairs {
                        value.truncate(SMALL_BYTES_MAX);
                    }
                    words.extend([key, value]);
                }
            }
            Message => words.push(self.pool.bytes(&mut self.random, MEDIUM_BYTES_MAX)),
            Value => {
                let key = words.get(1).cloned().unwrap_or_default();
                words.push(self.value(&key));
            }
            Piece => words.push(self.piece()),
            Step => words.push(self.integer().into_bytes()),
            Index => words.push(self.index().to_string().into_bytes()),
            Offset => words.push(self.offset().to_string().into_bytes()),
            Seconds => words.push(self.seconds().to_string().into_bytes()),
            Millis => words.push(self.millis().to_string().into_bytes()),
            OtherSeconds => words.push(self.other_seconds().to_string().into_bytes()),
            OtherMillis => words.push((self.other_seconds() * 1000).to_string().into_bytes()),
            At => words.push(self.at().to_string().into_bytes()),
            Pattern => words.push(self.pattern()),
            SetOptions => {
                self.options(words, &["NX", "XX", "GET", "GET", "KEEPTTL", "EX", "PX", "EXAT", "PXAT"])
            }
            GetexOptions => self.options(words, &["EX", "PX", "EXAT", "PXAT", "PERSIST"]),
            ExpireOptions => self.options(words, &["NX", "XX", "GT", "LT"]),
            OneOf(choices) => {
                let choice = *self.random.pick(choices);
                if !choice.is_empty() {
                    words.push(choice.as_bytes().to_vec());
                }
            }
        }
    }

    /// Mostly one, in any order, and now and then some that exclude each other.
    fn options(&mut self, words: &mut Vec<Vec<u8>>, options: &[&str]) {
        let count = *self.random.pick(&[0, 1, 1, 1, 1, 2, 2, 3]);
        for _ in 0..count {
            let option = *self.random.pick(options);
            words.push(self.cased(option));
            match option {
                "EX" => words.push(self.seconds().to_string().into_bytes()),
                "PX" => words.push(self.millis().to_string().into_bytes()),
                "EXAT" => words.push(self.at().to_string().into_bytes()),
                "PXAT" => words.push((self.at() * 1000).to_string().into_bytes()),
                _ => {}
            }
        }
    }

    /// Names that no server knows, and arguments of which Redis shows the beginning.
    fn unknown(&mut self) {
        const NAMES: [&str; 7] = ["FOO", "foo", "getx", "SET ", "", "n\r\nn", "a'b"];
        let mut words = vec![self.random.pick(&NAMES).as_bytes().to_vec()];
        if self.random.chance(1, 5) {
            words[0] = vec![b'x'; 100 + self.random.below(100)];
        }
        for _ in 0..self.random.below(6) {
            let len = self.random.below(60);
            // Without NUL, at which the error's text would end.
            let word = self.random.bytes(len).into_iter().map(|byte| byte.max(1)).collect();
            words.push(if self.random.chance(1, 2) { self.key() } else { word });
        }
        self.push(&words);
    }

    /// The last request of a connection: one that breaks the protocol, asks for the end, or is not whole.
    fn end(&mut self) {
        const BROKEN: [&str; 13] = [
            "*1\r\n$4\r\nQUIT\r\n",
            "*2\r\n$4\r\nquit\r\n$1\r\nx\r\n",
            "*abc\r\n",
            "*1x\r\n",
            "*2000000000\r\n",
            "*1048577\r\n",
            "*1\r\nPING\r\n",
            "*1\r\n:4\r\n",
            "*1\r\n$abc\r\n",
            "*1\r\n$-1\r\n",
            "*1\r\n$-2\r\n",
            "*1\r\n$600000000\r\n",
            "*1\r\n*1\r\n$4\r\nPING\r\n",
        ];
        const CUT_SHORT: [&str; 5] =
            ["*2\r\n$3\r\nGET\r\n$1\r\n", "*2\r\n$3\r\nGET\r\n", "*2\r\n$3\r\nGE", "*1\r", "*"];
        let is_broken = self.random.chance(3, 4);
        let last = if is_broken { *self.random.pick(&BROKEN) } else { *self.random.pick(&CUT_SHORT) };
        self.push_bytes(Vec::new(), last.as_bytes().to_vec());
        // Behind an end nothing is executed.
        if is_broken && self.random.chance(1, 2) {
            self.push_bytes(Vec::new(), command(&[b"SET", b"n", b"behind the end"]));
        }
    }

    fn push(&mut self, words: &[Vec<u8>]) {
        let parts: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        let key = words.get(1).cloned().unwrap_or_default();
        self.push_bytes(key, command(&parts));
    }

    fn push_bytes(&mut self, key: Vec<u8>, bytes: Vec<u8>) {
        let op = self.ops_count;
        self.ops_count += 1;
        self.requests.push(Request { op, key, bytes, cas: None });
    }

    fn few(&mut self) -> usize {
        if self.random.chance(1, 20) { self.random.below(60) } else { self.random.below(4) }
    }

    fn key(&mut self) -> Vec<u8> {
        self.random.pick(&self.keys).clone()
    }

    fn value(&mut self, key: &[u8]) -> Vec<u8> {
        let is_counter = self.keys[..COUNTERS_COUNT].iter().any(|counter| counter == key);
        if is_counter && self.random.chance(3, 4) {
            return self.integer().into_bytes();
        }
        let bytes_max = match self.random.below(1000) {
            0..3 => return self.pool.sized(&mut self.random, LARGE_BYTES),
            3..600 => SMALL_BYTES_MAX,
            _ => MEDIUM_BYTES_MAX,
        };
        self.pool.bytes(&mut self.random, bytes_max)
    }

    fn piece(&mut self) -> Vec<u8> {
        const PIECES: [&str; 6] = ["", "0", "7", "-", "x", "\0x"];
        match self.random.below(500) {
            0 => self.pool.sized(&mut self.random, LARGE_BYTES),
            1..300 => self.random.pick(&PIECES).as_bytes().to_vec(),
            _ => self.pool.bytes(&mut self.random, SMALL_BYTES_MAX),
        }
    }

    /// What is an integer to Redis, and what is not.
    fn integer(&mut self) -> String {
        const ODD: [&str; 20] = [
            "",
            "-0",
            "+1",
            " 1",
            "1 ",
            "007",
            "1.0",
            "1e3",
            "0x10",
            "abc",
            "--1",
            "-",
            "9223372036854775807",
            "9223372036854775806",
            "-9223372036854775808",
            "-9223372036854775807",
            "9223372036854775808",
            "-9223372036854775809",
            "18446744073709551615",
            "99999999999999999999999",
        ];
        match self.random.below(10) {
            0..3 => (*self.random.pick(&ODD)).into(),
            3..5 => format!("-{}", 1 + self.random.below(1000)),
            _ => self.random.below(1000).to_string(),
        }
    }

    fn index(&mut self) -> i64 {
        let index = self.random.below(80) as i64;
        *self.random.pick(&[0, 1, -1, index, -index, index, 1000, -5000, i64::MAX, i64::MIN])
    }

    fn offset(&mut self) -> i64 {
        let offset = self.random.below(80) as i64;
        *self.random.pick(&[0, 0, 1, offset, offset, offset, 4000, -1, 1 << 29, i64::MAX])
    }

    fn seconds(&mut self) -> i64 {
        *self.random.pick(&[100, 1000, 100_000, 2_592_000, 2_592_001, 100_000_000, 0, -1, -1000])
    }

    fn millis(&mut self) -> i64 {
        *self.random.pick(&[100_000, 100_500, 999_999, 2_592_000_000, 10_000_000_000, 0, -1, -100_000])
    }

    fn other_seconds(&mut self) -> i64 {
        200 + self.random.below(500_000_000) as i64
    }

    fn at(&mut self) -> i64 {
        *self.random.pick(&[
            2_000_000_000,
            2_147_483_647,
            4_000_000_000,
            4_000_000_000,
            0,
            1,
            -1,
            1_000_000_000,
        ])
    }

    fn wrong_number(&mut self) -> Vec<u8> {
        const WRONG: [&str; 11] = [
            "abc",
            "-1",
            "1.5",
            "",
            "+500",
            " 500",
            "500 ",
            "0",
            "9223372036854775808",
            "-9223372036854775809",
            "99999999999999999999",
        ];
        self.random.pick(&WRONG).as_bytes().to_vec()
    }

    fn pattern(&mut self) -> Vec<u8> {
        const PATTERNS: [&str; 24] = [
            "*", "**", "n*", "*n", "*n*", "?", "??", "n?", "[n]*", "[a-n]*", "[n-a]*", "[^n]*", "[^a-m]?",
            "[", "[n", "[n-", "n]", "\\n*", "\\*", "*\\", "", "none", "k[0-9]*", "*:*:?",
        ];
        if self.random.chance(1, 6) {
            // A key as a pattern, of whatever bytes.
            return self.key();
        }
        self.random.pick(&PATTERNS).as_bytes().to_vec()
    }
}

/// A command as an array of strings.
pub(super) fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n", word.len()).into_bytes());
        bytes.extend(*word);
        bytes.extend(b"\r\n");
    }
    bytes
}

/// Keys of all lengths, some of them beginnings of others, some with any byte in them.
fn keys(random: &mut Random) -> Vec<Vec<u8>> {
    let mut keys: Vec<Vec<u8>> = [&b"n"[..], b"nn", b"0", b"-1", b"k7:x:y", b"*", b"[n]", b"a b\r\n", b"\0"]
        .into_iter()
        .map(<[u8]>::to_vec)
        .collect();
    keys.extend([vec![b'n'; 249], vec![b'n'; 250]]);
    while keys.len() < KEYS_COUNT {
        let key_len = match random.below(3) {
            0 => 1 + random.below(250),
            _ => 1 + random.below(24),
        };
        let key = random.bytes(key_len);
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys
}

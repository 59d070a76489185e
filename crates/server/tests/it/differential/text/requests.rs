//! Random lines of text that meet each other: few keys, all commands, good lines and broken ones.
//!
//! What memcached 1.6.18 answers by chance is not generated, nor what differs on purpose; `meta` and `malformed` say the
//! rest where they leave it out. Beside what the binary
//! protocol's generator names (counters near 2^63, values about as large as the limit, a counter behind an unsent
//! answer with the same item):
//!
//! - lengths of more than 32 bits: memcached takes what is left of them in 32 bits;
//! - lines over 2048 bytes: whether memcached closes depends on how the line was cut up on its way;
//! - `flush_all` with a delay: 1.6.18 fires early, and what an earlier flush has taken is there again (a test of its own);
//! - `me` of a key that has been stored: it finds items that have ended (of one that is there: a test of its own);
//! - commands of administration: `stats` but for `reset`, `slabs`, `lru`, `watch` and the like.

mod malformed;
mod meta;

use std::collections::{HashMap, HashSet};

use super::super::CasPair;
use super::super::material::{MEDIUM_BYTES_MAX, Pool, number};
use super::super::stream::{Batch, Ending, Request};
use crate::harness::Random;

/// The key of the request that ends a batch. Nothing else has it.
pub(super) const SYNC_KEY: &str = "sync";

const KEYS_COUNT: usize = 24;
/// So many of the keys mostly hold numbers, and counters mostly go to them.
const COUNTERS_COUNT: usize = 8;
/// How many of a key's CAS numbers are remembered, so that some of them are old.
const CAS_COUNT: usize = 4;

/// memcached reads 16 KiB at a time. What it has not read when it closes resets the connection and
/// takes answers with it, so a batch that ends with a close is well below that.
const CLOSING_BATCH_BYTES_MAX: usize = 8 << 10;

#[derive(Clone, Copy)]
enum Kind {
    Get,
    GetAndTouch,
    Touch,
    Store,
    Cas,
    Concatenate,
    Count,
    CountNearTheTop,
    Delete,
    Flush,
    Simple,
    Malformed,
    MetaGet,
    MetaSet,
    MetaDelete,
    MetaCount,
    MetaOther,
}

/// How often each kind comes, in a thousand.
const WEIGHTS: [(Kind, usize); 17] = [
    (Kind::Get, 150),
    (Kind::GetAndTouch, 40),
    (Kind::Touch, 30),
    (Kind::Store, 160),
    (Kind::Cas, 50),
    (Kind::Concatenate, 50),
    (Kind::Count, 90),
    (Kind::CountNearTheTop, 8),
    (Kind::Delete, 40),
    (Kind::Flush, 4),
    (Kind::Simple, 18),
    (Kind::Malformed, 60),
    (Kind::MetaGet, 110),
    (Kind::MetaSet, 90),
    (Kind::MetaDelete, 40),
    (Kind::MetaCount, 50),
    (Kind::MetaOther, 10),
];

pub(super) struct Generator {
    random: Random,
    pool: Pool,
    keys: Vec<Vec<u8>>,
    /// Keys of any bytes, as base64: meta commands alone can name them.
    coded_keys: Vec<Vec<u8>>,
    ops_count: u32,
    known: HashMap<Vec<u8>, Vec<CasPair>>,
    requests: Vec<Request>,
    /// Keys of this batch whose item may wait in an answer that has not been sent.
    read: HashSet<Vec<u8>>,
}

impl Generator {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let pool = Pool::new(&mut random);
        let keys = keys(&mut random);
        let coded_keys = (0..4)
            .map(|_| {
                let key_len = 1 + random.below(60);
                base64(&random.bytes(key_len))
            })
            .collect();
        Self {
            random,
            pool,
            keys,
            coded_keys,
            ops_count: 0,
            known: HashMap::new(),
            requests: Vec::new(),
            read: HashSet::new(),
        }
    }

    pub(super) fn ops_count(&self) -> u32 {
        self.ops_count
    }

    /// The next requests to send.
    pub(super) fn batch(&mut self) -> Batch {
        self.read.clear();
        let ending = if self.random.chance(1, 25) { Ending::Close } else { Ending::Answer };
        match ending {
            Ending::Answer => self.open_batch(),
            Ending::Close => self.closing_batch(),
        }
        Batch::new(std::mem::take(&mut self.requests), ending, &mut self.random)
    }

    /// Learns the CAS that both servers answered for a key.
    pub(super) fn saw(&mut self, key: &[u8], cas: CasPair) {
        let known = self.known.entry(key.to_vec()).or_default();
        if known.last() != Some(&cas) {
            known.push(cas);
            known.drain(..known.len().saturating_sub(CAS_COUNT));
        }
    }

    fn open_batch(&mut self) {
        let count = match self.random.below(10) {
            0..3 => 1,
            3..8 => 2 + self.random.below(7),
            _ => 9 + self.random.below(40),
        };
        for _ in 0..count {
            self.request();
        }
        let number = self.ops_count.to_string();
        let (head, len) = (format!("set {SYNC_KEY} 0 0"), number.len());
        self.push(b"", format!("{head} {len} noreply\r\n{number}\r\nget {SYNC_KEY}\r\n").as_bytes());
    }

    /// A request that asks for the end, or a broken one that may swallow what follows: then memcached throws away what
    /// it has not sent of the answers before it, so there are none.
    fn closing_batch(&mut self) {
        match self.random.below(8) {
            0 => self.quit("quit"),
            1 => self.quit("quit now"),
            2 => return self.cut_short(),
            _ => self.mutation(),
        }
        self.push(b"", b"get n\r\nmn\r\n");
    }

    fn quit(&mut self, line: &str) {
        for _ in 0..self.random.below(5) {
            let before = self.requests.len();
            self.request();
            if self.requests.iter().map(|request| request.bytes.len()).sum::<usize>()
                > CLOSING_BATCH_BYTES_MAX
            {
                self.requests.truncate(before);
            }
        }
        self.push_line(b"", line.as_bytes());
    }

    fn request(&mut self) {
        match self.kind() {
            Kind::Get => self.get(),
            Kind::GetAndTouch => self.get_and_touch(),
            Kind::Touch => self.touch(),
            Kind::Store => self.store(),
            Kind::Cas => self.store_with_cas(),
            Kind::Concatenate => self.concatenate(),
            Kind::Count => self.count(),
            Kind::CountNearTheTop => self.count_near_the_top(),
            Kind::Delete => self.delete(),
            Kind::Flush => self.flush(),
            Kind::Simple => self.simple(),
            Kind::Malformed => self.malformed(),
            Kind::MetaGet => self.meta_get(),
            Kind::MetaSet => self.meta_set(),
            Kind::MetaDelete => self.meta_delete(),
            Kind::MetaCount => self.meta_count(),
            Kind::MetaOther => self.meta_other(),
        }
    }

    fn kind(&mut self) -> Kind {
        let mut left = self.random.below(WEIGHTS.iter().map(|(_, weight)| weight).sum());
        for (kind, weight) in WEIGHTS {
            if left < weight {
                return kind;
            }
            left -= weight;
        }
        unreachable!("below the sum of the weights");
    }

    fn get(&mut self) {
        let verb = *self.random.pick(&["get", "gets"]);
        let line = [verb.as_bytes(), &self.some_keys()].concat();
        self.push_line(b"", &line);
    }

    fn get_and_touch(&mut self) {
        let (verb, expiration) = (*self.random.pick(&["gat", "gats"]), self.expiration());
        let line = [format!("{verb} {expiration}").as_bytes(), &self.some_keys()].concat();
        self.push_line(b"", &line);
    }

    /// One key, or some, or more than memcached cuts a line into at a time, each behind a space.
    fn some_keys(&mut self) -> Vec<u8> {
        let count = match self.random.below(20) {
            0..12 => 1,
            12..18 => 2 + self.random.below(5),
            _ => 20 + self.random.below(20),
        };
        let mut line = Vec::new();
        for _ in 0..count {
            let mut key = self.key();
            if line.len() + key.len() > 1500 {
                key = b"n".to_vec();
            }
            self.read.insert(key.clone());
            line.push(b' ');
            line.extend(key);
        }
        line
    }

    fn touch(&mut self) {
        let (key, expiration) = (self.key(), self.expiration());
        let noreply = self.noreply();
        self.push_line(
            &key.clone(),
            &[b"touch ", &key[..], format!(" {expiration}{noreply}").as_bytes()].concat(),
        );
    }

    fn store(&mut self) {
        let (verb, key) = (*self.random.pick(&["set", "set", "set", "add", "replace"]), self.key());
        let value = self.value(&key);
        let head = self.store_head(verb, &key, value.len());
        let noreply = self.noreply();
        self.push_store(&key, &head, noreply, &value);
    }

    fn store_with_cas(&mut self) {
        let key = self.key();
        let (value, cas) = (self.value(&key), self.cas(&key));
        let head = [&self.store_head("cas", &key, value.len())[..], b" "].concat();
        let noreply = self.noreply();
        self.push_store(&key, &head, noreply, &value);
        self.with_cas(head.len(), cas);
    }

    fn concatenate(&mut self) {
        let (verb, key) = (*self.random.pick(&["append", "prepend"]), self.key());
        let piece = self.piece(&key);
        let head = self.store_head(verb, &key, piece.len());
        let noreply = self.noreply();
        self.push_store(&key, &head, noreply, &piece);
    }

    fn store_head(&mut self, verb: &str, key: &[u8], len: usize) -> Vec<u8> {
        let (flags, expiration) = (self.flags(), self.expiration());
        [verb.as_bytes(), b" ", key, format!(" {flags} {expiration} {len}").as_bytes()].concat()
    }

    fn push_store(&mut self, key: &[u8], head: &[u8], noreply: &str, value: &[u8]) {
        self.push(key, &[head, noreply.as_bytes(), b"\r\n", value, b"\r\n"].concat());
    }

    fn count(&mut self) {
        let verb = *self.random.pick(&["incr", "decr"]);
        let key = self.counter_or_any_key();
        let delta = self.delta(verb == "decr");
        let noreply = self.noreply();
        self.push_line(
            &key.clone(),
            &[verb.as_bytes(), b" ", &key, format!(" {delta}{noreply}").as_bytes()].concat(),
        );
        self.settle(&key);
    }

    fn delta(&mut self, is_downwards: bool) -> u64 {
        match self.random.below(8) {
            0 => 0,
            1 => 1_000_000 + self.random.below(1_000_000_000) as u64,
            // Only downwards: a large increment would leave a value at 2^63 or above.
            2 if is_downwards => *self.random.pick(&[u64::MAX, 1 << 63]),
            _ => *self.random.pick(&[1, 1, 1, 2, 9, 10, 90, 100, 1000]),
        }
    }

    /// Wrap, floor and the numbers that need all 64 bits, with a NUL behind them: see the binary protocol's generator.
    fn count_near_the_top(&mut self) {
        let key = self.counter_key();
        let any = self.random.next();
        let value = *self.random.pick(&[u64::MAX, u64::MAX - 1, u64::MAX - 9, 1 << 63, (1 << 63) - 1, any]);
        let delta = *self.random.pick(&[0, 1, 2, 10, 1 << 63, u64::MAX, any]);
        let verb = *self.random.pick(&["incr", "decr"]);
        let value = format!("{value} \0");
        let head = [b"set ", &key[..], format!(" 0 0 {}", value.len()).as_bytes()].concat();
        self.push_store(&key, &head, "", value.as_bytes());
        self.push_line(&key.clone(), &[verb.as_bytes(), b" ", &key, format!(" {delta}").as_bytes()].concat());
        self.push_line(&key.clone(), &[b"gets ", &key[..]].concat());
        self.overwrite(&key);
    }

    /// memcached pads a counter in place with spaces unless an answer that holds the item has not gone
    /// out: then it makes a new item without padding. Which it is depends on how far memcached has come
    /// with its sending, so a key that was counted behind an answer that holds it is overwritten.
    fn settle(&mut self, key: &[u8]) {
        if self.read.contains(key) {
            self.overwrite(key);
        }
    }

    /// Stores a small number that stays.
    fn overwrite(&mut self, key: &[u8]) {
        let value = self.random.below(1000).to_string();
        let head = [b"set ", key, format!(" 0 0 {}", value.len()).as_bytes()].concat();
        self.push_store(key, &head, " noreply", value.as_bytes());
        self.read.remove(key);
    }

    fn delete(&mut self) {
        let key = self.key();
        let behind = *self.random.pick(&["", "", "", " 0", " noreply", " 0 noreply", " 5", " x"]);
        self.push_line(&key.clone(), &[b"delete ", &key[..], behind.as_bytes()].concat());
    }

    fn flush(&mut self) {
        let line =
            *self.random.pick(&["flush_all", "flush_all 0", "flush_all noreply", "flush_all 0 noreply"]);
        self.push_line(b"", line.as_bytes());
    }

    fn simple(&mut self) {
        let lines = [
            "version",
            "version x",
            "mn",
            "mn x",
            "verbosity 0",
            "verbosity 0 noreply",
            "verbosity",
            "verbosity x",
            "verbosity 0 0 0",
            "flush_all x",
            "shutdown",
            "stats reset",
        ];
        let line = *self.random.pick(&lines);
        self.push_line(b"", line.as_bytes());
    }

    /// Pushes a line, which may be a store with its data, too. memcached takes a bare newline behind a command, not
    /// behind data.
    fn push_line(&mut self, key: &[u8], line: &[u8]) {
        let may_be_bare = !line.contains(&b'\n') && self.random.chance(1, 20);
        self.push(key, &[line, if may_be_bare { b"\n" } else { b"\r\n" }].concat());
    }

    fn push(&mut self, key: &[u8], bytes: &[u8]) {
        let op = self.ops_count;
        self.ops_count += 1;
        self.requests.push(Request { op, key: key.to_vec(), bytes: bytes.to_vec(), cas: None });
    }

    /// Puts a CAS into the last request.
    fn with_cas(&mut self, at: usize, cas: CasPair) {
        self.requests.last_mut().expect("a request was pushed").cas = Some((at, cas));
    }

    fn key(&mut self) -> Vec<u8> {
        self.random.pick(&self.keys).clone()
    }

    fn counter_key(&mut self) -> Vec<u8> {
        self.random.pick(&self.keys[..COUNTERS_COUNT]).clone()
    }

    fn counter_or_any_key(&mut self) -> Vec<u8> {
        if self.random.chance(3, 4) { self.counter_key() } else { self.key() }
    }

    fn is_counter(&self, key: &[u8]) -> bool {
        self.keys[..COUNTERS_COUNT].iter().any(|counter| counter == key)
    }

    fn value(&mut self, key: &[u8]) -> Vec<u8> {
        if self.is_counter(key) && self.random.chance(3, 4) {
            return number(&mut self.random);
        }
        self.pool.value(&mut self.random)
    }

    fn piece(&mut self, key: &[u8]) -> Vec<u8> {
        let bytes_max = if key.len() > 8 { MEDIUM_BYTES_MAX } else { 64 };
        self.pool.piece(&mut self.random, bytes_max)
    }

    /// Mostly one that the key has had.
    fn cas(&mut self, key: &[u8]) -> CasPair {
        let known = self.known.get(key);
        match (self.random.below(20), known) {
            (0, _) => CasPair::both(0),
            // No server counts this far.
            (1, _) | (_, None) => CasPair::both(0xdead_0000_0000_0000 | self.random.next() >> 16),
            (2..5, Some(known)) => *self.random.pick(known),
            (_, Some(known)) => known.last().copied().unwrap_or_default(),
        }
    }

    fn expiration(&mut self) -> i64 {
        match self.random.below(10) {
            0..6 => 0,
            6 => *self.random.pick(&[100_000, 2_592_000]),
            7 | 8 => *self.random.pick(&[2_000_000_000, i64::from(i32::MAX)]),
            _ => *self.random.pick(&[-1, -1, -1000, 2_592_001, 1_000_000_000]),
        }
    }

    fn flags(&mut self) -> u32 {
        if self.random.chance(1, 2) { 0 } else { self.random.next() as u32 }
    }

    fn noreply(&mut self) -> &'static str {
        if self.random.chance(1, 4) { " noreply" } else { "" }
    }
}

/// Keys of all lengths, some of them beginnings of others, with any byte that may stand in a key.
fn keys(random: &mut Random) -> Vec<Vec<u8>> {
    let mut keys: Vec<Vec<u8>> =
        vec![b"n".to_vec(), b"nn".to_vec(), b"0".to_vec(), b"-1".to_vec(), vec![b'n'; 249], vec![b'n'; 250]];
    while keys.len() < KEYS_COUNT {
        let key_len = match random.below(3) {
            0 => 1 + random.below(250),
            _ => 1 + random.below(24),
        };
        let key: Vec<u8> = random.bytes(key_len).into_iter().map(|byte| byte % 222 + 33).collect();
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys
}

fn base64(bytes: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut coded = Vec::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().chain([&0, &0]).take(3).fold(0, |bits, &byte| bits << 8 | usize::from(byte));
        for digit in 0..4 {
            coded.push(if digit <= chunk.len() { DIGITS[bits >> (18 - 6 * digit) & 63] } else { b'=' });
        }
    }
    coded
}

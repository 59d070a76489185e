//! Random requests that meet each other: few keys, many commands, and the CAS numbers that were seen.
//!
//! What memcached 1.6.18 answers by chance is not generated. Each such case has its reason where it
//! is left out:
//!
//! - counters at 2^63 and above, but for the ones of [`Generator::count_near_the_top`];
//! - values of nothing but white space, in [`Pool::bytes`];
//! - values about as large as the limit, at `LARGE_BYTES` and `TOO_LARGE_BYTES` of [`Pool`];
//! - a counter behind an unsent answer with the same item, in [`Generator::push`];
//! - requests before a wrong magic, in [`Generator::wrong_magic`];
//! - unknown opcodes with extras or a key, in [`Generator::unknown`];
//! - surplus bytes behind TOUCH, GAT and STAT, in [`is_well_formed`];
//! - FLUSH with a delay: 1.6.18 fires it early.

use std::collections::{HashMap, HashSet};

use super::super::CasPair;
use super::super::material::{MEDIUM_BYTES_MAX, Pool, SMALL_BYTES_MAX, number};
use crate::harness::{Random, packet};

const GET: u8 = 0x00;
const SET: u8 = 0x01;
const ADD: u8 = 0x02;
const REPLACE: u8 = 0x03;
const DELETE: u8 = 0x04;
const INCR: u8 = 0x05;
const DECR: u8 = 0x06;
const QUIT: u8 = 0x07;
const FLUSH: u8 = 0x08;
const GETQ: u8 = 0x09;
const NOOP: u8 = 0x0a;
pub(super) const VERSION: u8 = 0x0b;
const GETK: u8 = 0x0c;
const GETKQ: u8 = 0x0d;
const APPEND: u8 = 0x0e;
const PREPEND: u8 = 0x0f;
const STAT: u8 = 0x10;
const SETQ: u8 = 0x11;
const ADDQ: u8 = 0x12;
const REPLACEQ: u8 = 0x13;
const DELETEQ: u8 = 0x14;
const INCRQ: u8 = 0x15;
const DECRQ: u8 = 0x16;
const QUITQ: u8 = 0x17;
const FLUSHQ: u8 = 0x18;
const APPENDQ: u8 = 0x19;
const PREPENDQ: u8 = 0x1a;
const VERBOSITY: u8 = 0x1b;
const TOUCH: u8 = 0x1c;
const GAT: u8 = 0x1d;
const GATQ: u8 = 0x1e;
const SASL_LIST_MECHS: u8 = 0x20;
const SASL_AUTH: u8 = 0x21;
const SASL_STEP: u8 = 0x22;
const GATK: u8 = 0x23;
const GATKQ: u8 = 0x24;

/// Every opcode that memcached knows.
const KNOWN: [u8; 35] = [
    GET,
    SET,
    ADD,
    REPLACE,
    DELETE,
    INCR,
    DECR,
    QUIT,
    FLUSH,
    GETQ,
    NOOP,
    VERSION,
    GETK,
    GETKQ,
    APPEND,
    PREPEND,
    STAT,
    SETQ,
    ADDQ,
    REPLACEQ,
    DELETEQ,
    INCRQ,
    DECRQ,
    QUITQ,
    FLUSHQ,
    APPENDQ,
    PREPENDQ,
    TOUCH,
    GAT,
    GATQ,
    SASL_LIST_MECHS,
    SASL_AUTH,
    SASL_STEP,
    GATK,
    GATKQ,
];

const KEYS_COUNT: usize = 24;
/// So many of the keys mostly hold numbers, and counters mostly go to them.
const COUNTERS_COUNT: usize = 8;
/// How many of a key's CAS numbers are remembered, so that some of them are old.
const CAS_COUNT: usize = 4;

/// memcached reads 16 KiB at a time. What it has not read when it closes resets the connection and
/// takes answers with it, so a batch that ends with a close is well below that.
const CLOSING_BATCH_BYTES_MAX: usize = 8 << 10;

#[derive(Clone, Debug)]
pub(super) struct Request {
    /// Its number, which is also its opaque.
    pub(super) op: u32,
    pub(super) key: Vec<u8>,
    cas: CasPair,
    packet: Vec<u8>,
}

impl Request {
    /// The bytes with the CAS of one of the servers.
    pub(super) fn packet(&self, side: fn(CasPair) -> u64) -> Vec<u8> {
        let mut packet = self.packet.clone();
        packet[16..24].copy_from_slice(&side(self.cas).to_be_bytes());
        packet
    }
}

/// What the last request of a batch does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// It is a NOOP, whose answer says that there are no more.
    Noop,
    /// It makes the server close the connection.
    Close,
}

/// Requests that go out in one write.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) requests: Vec<Request>,
    pub(super) ending: Ending,
}

impl Batch {
    pub(super) fn last_op(&self) -> u32 {
        self.requests.last().map_or(0, |request| request.op)
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Get,
    GetAndTouch,
    Touch,
    Store,
    Concatenate,
    Count,
    CountNearTheTop,
    Delete,
    Flush,
    Noop,
    Version,
    Unknown,
    Sasl,
}

/// How often each kind comes, in a thousand.
const WEIGHTS: [(Kind, usize); 13] = [
    (Kind::Get, 260),
    (Kind::GetAndTouch, 90),
    (Kind::Touch, 50),
    (Kind::Store, 240),
    (Kind::Concatenate, 90),
    (Kind::Count, 140),
    (Kind::CountNearTheTop, 20),
    (Kind::Delete, 55),
    (Kind::Flush, 4),
    (Kind::Noop, 10),
    (Kind::Version, 8),
    (Kind::Unknown, 25),
    (Kind::Sasl, 8),
];

pub(super) struct Generator {
    random: Random,
    pool: Pool,
    keys: Vec<Vec<u8>>,
    ops_count: u32,
    known: HashMap<Vec<u8>, Vec<CasPair>>,
    requests: Vec<Request>,
    last_ending: Ending,
    /// Keys of this batch whose item may wait in an answer that has not been sent.
    read: HashSet<Vec<u8>>,
    /// Keys of this batch that were counted while read.
    unsettled: HashSet<Vec<u8>>,
}

impl Generator {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let pool = Pool::new(&mut random);
        let keys = keys(&mut random);
        Self {
            random,
            pool,
            keys,
            ops_count: 0,
            known: HashMap::new(),
            requests: Vec::new(),
            last_ending: Ending::Close,
            read: HashSet::new(),
            unsettled: HashSet::new(),
        }
    }

    pub(super) fn ops_count(&self) -> u32 {
        self.ops_count
    }

    /// The next requests to send.
    pub(super) fn batch(&mut self) -> Batch {
        self.read.clear();
        // The first byte on a connection decides its protocol, so a wrong magic may not be the first.
        let is_first = self.last_ending == Ending::Close;
        self.last_ending = if !is_first && self.random.chance(1, 50) { Ending::Close } else { Ending::Noop };
        match self.last_ending {
            Ending::Noop => self.open_batch(),
            Ending::Close => self.closing_batch(),
        }
        Batch { requests: std::mem::take(&mut self.requests), ending: self.last_ending }
    }

    /// Learns the CAS that both servers answered to the request `op` of `batch`.
    pub(super) fn saw(&mut self, op: u32, cas: CasPair, batch: &Batch) {
        let Some(request) = batch.requests.iter().find(|request| request.op == op) else {
            return;
        };
        if cas == CasPair::default() || request.key.is_empty() {
            return;
        }
        let known = self.known.entry(request.key.clone()).or_default();
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
        self.settle();
        self.push(NOOP, b"", b"", b"", CasPair::default());
    }

    fn closing_batch(&mut self) {
        if self.random.chance(1, 10) {
            return self.wrong_magic();
        }
        for _ in 0..self.random.below(5) {
            let before = self.requests.len();
            self.request();
            if self.bytes_count() > CLOSING_BATCH_BYTES_MAX {
                self.requests.truncate(before);
            }
        }
        self.settle();
        match self.random.below(9) {
            0 => self.push(QUIT, b"", b"", b"", CasPair::default()),
            1 => self.push(QUITQ, b"", b"", b"", CasPair::default()),
            2 => self.short_body(),
            3 => self.long_key(),
            4 => self.huge_body(),
            _ => self.wrong_shape(),
        }
    }

    fn bytes_count(&self) -> usize {
        self.requests.iter().map(|request| request.packet.len()).sum()
    }

    fn request(&mut self) {
        match self.kind() {
            Kind::Get => self.get(),
            Kind::GetAndTouch => self.get_and_touch(),
            Kind::Touch => self.touch(),
            Kind::Store => self.store(),
            Kind::Concatenate => self.concatenate(),
            Kind::Count => self.count(),
            Kind::CountNearTheTop => self.count_near_the_top(),
            Kind::Delete => self.delete(),
            Kind::Flush => self.flush(),
            Kind::Noop => self.push(NOOP, b"", b"", b"", CasPair::default()),
            Kind::Version => self.push(VERSION, b"", b"", b"", CasPair::default()),
            Kind::Unknown => self.unknown(),
            Kind::Sasl => self.sasl(),
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
        let (opcode, key) = (*self.random.pick(&[GET, GETQ, GETK, GETKQ]), self.key());
        let cas = self.cas(&key);
        self.push(opcode, &key, b"", b"", cas);
    }

    fn get_and_touch(&mut self) {
        let (opcode, key) = (*self.random.pick(&[GAT, GATQ, GATK, GATKQ]), self.key());
        let (extras, cas) = (self.expiration().to_be_bytes(), self.cas(&key));
        self.push(opcode, &key, &extras, b"", cas);
    }

    fn touch(&mut self) {
        let key = self.key();
        let (extras, cas) = (self.expiration().to_be_bytes(), self.cas(&key));
        self.push(TOUCH, &key, &extras, b"", cas);
    }

    fn store(&mut self) {
        let opcodes = [SET, SETQ, SET, SETQ, SET, ADD, ADDQ, REPLACE, REPLACEQ];
        let (opcode, key) = (*self.random.pick(&opcodes), self.key());
        let (extras, value, cas) = (self.store_extras(), self.value(&key), self.cas(&key));
        self.push(opcode, &key, &extras, &value, cas);
    }

    fn concatenate(&mut self) {
        let (opcode, key) = (*self.random.pick(&[APPEND, PREPEND, APPENDQ, PREPENDQ]), self.key());
        let (piece, cas) = (self.piece(&key), self.cas(&key));
        self.push(opcode, &key, b"", &piece, cas);
    }

    fn delete(&mut self) {
        let (opcode, key) = (*self.random.pick(&[DELETE, DELETEQ]), self.key());
        let cas = self.cas(&key);
        self.push(opcode, &key, b"", b"", cas);
    }

    fn count(&mut self) {
        let opcode = *self.random.pick(&[INCR, DECR, INCRQ, DECRQ]);
        let key = if self.random.chance(3, 4) { self.counter_key() } else { self.key() };
        let delta = match self.random.below(8) {
            0 => 0,
            1 => 1_000_000 + self.random.below(1_000_000_000) as u64,
            // Only downwards: a large increment would leave a value at 2^63 or above.
            2 if matches!(opcode, DECR | DECRQ) => *self.random.pick(&[u64::MAX, 1 << 63]),
            _ => *self.random.pick(&[1, 1, 1, 2, 9, 10, 90, 100, 1000]),
        };
        let initial = *self.random.pick(&[0, 1, 9, 10, 100, 4_294_967_296]);
        let expiration = if self.random.chance(1, 2) { u32::MAX } else { self.expiration() };
        let cas = self.cas(&key);
        self.push(opcode, &key, &count_extras(delta, initial, expiration), b"", cas);
    }

    /// Wrap, floor and the numbers that need all 64 bits.
    ///
    /// For a number from 2^63 up, 1.6.18 looks for a minus sign behind it, and goes on to the next NUL
    /// byte, past the end of the item: what another item left there decides between the sum and a
    /// spurious 0x06. So such a number is counted only while a NUL of its own follows it, and then replaced.
    fn count_near_the_top(&mut self) {
        let key = self.counter_key();
        let any = self.random.next();
        let value = *self.random.pick(&[u64::MAX, u64::MAX - 1, u64::MAX - 9, 1 << 63, (1 << 63) - 1, any]);
        let delta = *self.random.pick(&[0, 1, 2, 10, 1 << 63, u64::MAX, any]);
        let opcode = *self.random.pick(&[INCR, DECR, INCRQ, DECRQ]);
        if self.random.chance(1, 3) {
            self.push(DELETEQ, &key, b"", b"", CasPair::default());
            self.push(opcode, &key, &count_extras(delta, value, 0), b"", CasPair::default());
        } else {
            let extras = self.store_extras_for_good();
            self.push(SETQ, &key, &extras, format!("{value} \0").as_bytes(), CasPair::default());
            self.push(opcode, &key, &count_extras(delta, 0, u32::MAX), b"", CasPair::default());
        }
        self.push(GETK, &key, b"", b"", CasPair::default());
        self.overwrite(&key);
    }

    fn flush(&mut self) {
        let opcode = *self.random.pick(&[FLUSH, FLUSHQ]);
        let extras: &[u8] = if self.random.chance(1, 2) { &[] } else { &[0; 4] };
        self.push(opcode, b"", extras, b"", CasPair::default());
    }

    /// memcached skips the body of an unknown command and then, once more, as many bytes as the key
    /// and the extras have. With neither it keeps its place.
    fn unknown(&mut self) {
        if self.random.chance(1, 2) {
            let opcode = 0x25 + self.random.below(0x100 - 0x25) as u8;
            return self.push(opcode, b"", b"", b"", CasPair::default());
        }
        let opcode = *self.random.pick(&[VERBOSITY, 0x1f, 0x25, 0x30, 0x3c, 0x45, 0x80]);
        let body = self.pool.bytes(&mut self.random, SMALL_BYTES_MAX);
        self.push(opcode, b"", b"", &body, CasPair::default());
    }

    fn sasl(&mut self) {
        match *self.random.pick(&[SASL_LIST_MECHS, SASL_AUTH, SASL_STEP]) {
            SASL_LIST_MECHS => self.push(SASL_LIST_MECHS, b"", b"", b"", CasPair::default()),
            opcode => self.push(opcode, b"PLAIN", b"", b"\0user\0password", CasPair::default()),
        }
    }

    /// Alone in its batch: memcached closes at once, and answers that it has not sent are lost.
    fn wrong_magic(&mut self) {
        let magic = *self.random.pick(&[0x00, 0x7f, 0x81, 0xff]);
        self.get();
        self.patch(0, &[magic]);
    }

    fn huge_body(&mut self) {
        self.get();
        self.patch(8, &u32::MAX.to_be_bytes());
    }

    /// Makes the header of the last request say something else at `offset`.
    fn patch(&mut self, offset: usize, bytes: &[u8]) {
        let packet = &mut self.requests.last_mut().expect("a request was pushed").packet;
        packet[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    /// Key and extras that are longer than the body. memcached says so when all of both have come.
    fn short_body(&mut self) {
        let opcode = self.random.below(0x100) as u8;
        let (key, extras) = (self.key(), [0; 8]);
        self.push(opcode, &key, &extras, b"", CasPair::default());
        let body_len = self.random.below(key.len() + extras.len()) as u32;
        self.patch(8, &body_len.to_be_bytes());
    }

    fn long_key(&mut self) {
        let opcode = self.random.below(0x100) as u8;
        let key_len = 251 + self.random.below(50);
        let extras_len = *self.random.pick(&[0, 4, 8, 20]);
        let key = self.pool.slice(&mut self.random, key_len);
        self.push(opcode, &key, &vec![0; extras_len], b"", CasPair::default());
    }

    fn wrong_shape(&mut self) {
        loop {
            let opcode = *self.random.pick(&KNOWN);
            let key = if self.random.chance(1, 2) { self.key() } else { Vec::new() };
            let extras = vec![0; *self.random.pick(&[0, 1, 4, 8, 19, 20, 21, 255])];
            let value_len = *self.random.pick(&[0, 0, 1, 30]);
            let value = self.pool.slice(&mut self.random, value_len);
            if !is_well_formed(opcode, key.len(), extras.len(), value.len()) {
                return self.push(opcode, &key, &extras, &value, CasPair::default());
            }
        }
    }

    /// Adds a request to the batch.
    ///
    /// memcached pads a counter in place with spaces unless an answer that holds the item has not gone
    /// out: then it makes a new item without padding. Which it is depends on how far memcached has come
    /// with its sending. So a key that was counted behind an answer that holds it is counted on, where
    /// the padding does not show, or overwritten.
    fn push(&mut self, opcode: u8, key: &[u8], extras: &[u8], value: &[u8], cas: CasPair) {
        match opcode {
            INCR | DECR | INCRQ | DECRQ if self.read.contains(key) => {
                self.unsettled.insert(key.to_vec());
            }
            INCR | DECR | INCRQ | DECRQ => {}
            _ if self.unsettled.remove(key) => self.overwrite(key),
            _ => {}
        }
        match opcode {
            // TOUCH answers no value and holds the item all the same.
            GET | GETQ | GETK | GETKQ | TOUCH | GAT | GATQ | GATK | GATKQ => {
                self.read.insert(key.to_vec());
            }
            SET | SETQ | DELETE | DELETEQ if cas == CasPair::default() => {
                self.read.remove(key);
            }
            _ => {}
        }
        let op = self.ops_count;
        self.ops_count += 1;
        let packet = packet(opcode, key, extras, value, 0, op);
        self.requests.push(Request { op, key: key.to_vec(), cas, packet });
    }

    /// Stores a small number that stays.
    fn overwrite(&mut self, key: &[u8]) {
        let value = self.random.below(1000).to_string();
        let extras = self.store_extras_for_good();
        self.push(SETQ, key, &extras, value.as_bytes(), CasPair::default());
    }

    fn settle(&mut self) {
        // A set has no order that a seed could repeat.
        let mut keys: Vec<_> = self.unsettled.drain().collect();
        keys.sort();
        for key in keys {
            self.overwrite(&key);
        }
    }

    fn key(&mut self) -> Vec<u8> {
        self.random.pick(&self.keys).clone()
    }

    fn counter_key(&mut self) -> Vec<u8> {
        self.random.pick(&self.keys[..COUNTERS_COUNT]).clone()
    }

    fn cas(&mut self, key: &[u8]) -> CasPair {
        match self.random.below(20) {
            // No server counts this far.
            0 => CasPair::both(0xdead_0000_0000_0000 | self.random.next() >> 16),
            1 | 2 => self.known.get(key).map_or_else(CasPair::default, |known| *self.random.pick(known)),
            3..7 => self.known.get(key).and_then(|known| known.last()).copied().unwrap_or_default(),
            _ => CasPair::default(),
        }
    }

    fn expiration(&mut self) -> u32 {
        match self.random.below(10) {
            0..6 => 0,
            6 => *self.random.pick(&[100_000, 2_592_000]),
            7 | 8 => *self.random.pick(&[4_000_000_000, i32::MAX as u32, 1 << 31, u32::MAX]),
            _ => *self.random.pick(&[2_592_001, 1_000_000_000]),
        }
    }

    fn store_extras(&mut self) -> [u8; 8] {
        let (flags, expiration) = (self.flags(), self.expiration());
        (u64::from(flags) << 32 | u64::from(expiration)).to_be_bytes()
    }

    fn store_extras_for_good(&mut self) -> [u8; 8] {
        (u64::from(self.flags()) << 32).to_be_bytes()
    }

    fn flags(&mut self) -> u32 {
        if self.random.chance(1, 2) { 0 } else { self.random.next() as u32 }
    }

    fn value(&mut self, key: &[u8]) -> Vec<u8> {
        let is_counter = self.keys[..COUNTERS_COUNT].iter().any(|counter| counter == key);
        if is_counter && self.random.chance(3, 4) {
            return number(&mut self.random);
        }
        self.pool.value(&mut self.random)
    }

    fn piece(&mut self, key: &[u8]) -> Vec<u8> {
        let bytes_max = if key.len() > 8 { MEDIUM_BYTES_MAX } else { SMALL_BYTES_MAX };
        self.pool.piece(&mut self.random, bytes_max)
    }
}

/// Keys of all lengths, some of them beginnings of others, some with any byte in them.
fn keys(random: &mut Random) -> Vec<Vec<u8>> {
    let mut keys: Vec<Vec<u8>> =
        vec![b"n".to_vec(), b"nn".to_vec(), vec![0], vec![0, 0], vec![b'n'; 249], vec![b'n'; 250]];
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

fn count_extras(delta: u64, initial: u64, expiration: u32) -> Vec<u8> {
    [&delta.to_be_bytes()[..], &initial.to_be_bytes(), &expiration.to_be_bytes()].concat()
}

/// Whether memcached accepts the shape. It does not look for surplus bytes behind TOUCH, GAT and STAT,
/// and takes them for the next request.
fn is_well_formed(opcode: u8, key_len: usize, extras_len: usize, value_len: usize) -> bool {
    let (has_key, has_value) = (key_len > 0, value_len > 0);
    match opcode {
        GET | GETQ | GETK | GETKQ | DELETE | DELETEQ => has_key && extras_len == 0 && !has_value,
        SET | ADD | REPLACE | SETQ | ADDQ | REPLACEQ => has_key && extras_len == 8,
        INCR | DECR | INCRQ | DECRQ => has_key && extras_len == 20 && !has_value,
        APPEND | PREPEND | APPENDQ | PREPENDQ | SASL_AUTH | SASL_STEP => has_key && extras_len == 0,
        TOUCH | GAT | GATQ | GATK | GATKQ => has_key && extras_len == 4,
        FLUSH | FLUSHQ => !has_key && matches!(extras_len, 0 | 4) && !has_value,
        STAT => extras_len == 0,
        _ => !has_key && extras_len == 0 && !has_value,
    }
}

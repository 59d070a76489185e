//! One store, four ways in: what one protocol has written, the others read.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use crate::client::{Answer, Client, Request, op, status, stored};
use crate::harness::{Random, Server};

/// A connection that speaks in lines: classic text, meta and RESP.
pub(crate) struct Lines {
    pub(crate) writer: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Lines {
    pub(crate) fn connect(server: &Server) -> Self {
        let writer = server.connect();
        let reader = BufReader::new(writer.try_clone().expect("a socket can be cloned"));
        Self { writer, reader }
    }

    pub(crate) fn line(&mut self) -> String {
        let mut line = Vec::new();
        self.reader.read_until(b'\n', &mut line).expect("an answer");
        String::from_utf8(line).expect("an answer in ASCII").trim_end().to_owned()
    }

    pub(crate) fn send(&mut self, lines: &str) {
        self.writer.write_all(format!("{lines}\r\n").as_bytes()).expect("the server reads");
    }

    /// The first line of the answer to these lines.
    #[track_caller]
    pub(crate) fn ask(&mut self, request: impl AsRef<[u8]>) -> String {
        self.writer.write_all(&[request.as_ref(), b"\r\n"].concat()).expect("the server reads");
        self.line()
    }

    /// So many bytes and what ends them.
    pub(crate) fn data(&mut self, len: usize) -> Vec<u8> {
        let mut data = vec![0; len + 2];
        self.reader.read_exact(&mut data).expect("the data");
        assert_eq!(data.split_off(len), b"\r\n");
        data
    }

    /// What `gets` answers: flags, CAS, value.
    #[track_caller]
    fn gets(&mut self, key: &str) -> Option<(u32, u64, Vec<u8>)> {
        let line = self.ask(format!("gets {key}"));
        if line == "END" {
            return None;
        }
        let words: Vec<&str> = line.split(' ').collect();
        let ["VALUE", name, flags, len, cas] = words[..] else {
            panic!("{line}");
        };
        assert_eq!(name, key);
        let value = self.data(len.parse().expect("a length"));
        assert_eq!(self.line(), "END");
        Some((flags.parse().expect("flags"), cas.parse().expect("a CAS"), value))
    }

    /// What RESP's commands answer: a line, or the string that it announces.
    #[track_caller]
    fn command(&mut self, words: &[&[u8]]) -> Vec<u8> {
        let mut request = format!("*{}", words.len()).into_bytes();
        for word in words {
            request.extend(format!("\r\n${}\r\n", word.len()).into_bytes());
            request.extend(*word);
        }
        let line = self.ask(request);
        match line.strip_prefix('$').and_then(|len| len.parse().ok()) {
            Some(len) => self.data(len),
            None => line.into_bytes(),
        }
    }

    #[track_caller]
    fn number(&mut self, words: &[&[u8]]) -> i64 {
        let answer = String::from_utf8(self.command(words)).expect("a number");
        answer.strip_prefix(':').and_then(|number| number.parse().ok()).expect("a number")
    }
}

struct Everyone {
    binary: Client,
    text: Lines,
    resp: Lines,
}

impl Everyone {
    fn connect(server: &Server) -> Self {
        Self { binary: Client::connect(server), text: Lines::connect(server), resp: Lines::connect(server) }
    }

    /// All read the item as this, and agree in its CAS.
    #[track_caller]
    fn read(&mut self, key: &str, flags: u32, value: &[u8]) {
        let binary = self.binary.ask(&Request::of(op::GET, key));
        assert!(binary == Answer::hit(flags, value, binary.cas), "binary");
        assert!(self.text.gets(key) == Some((flags, binary.cas, value.to_vec())), "text");
        let meta = self.text.ask(format!("mg {key} v f c s"));
        assert_eq!(meta, format!("VA {len} f{flags} c{cas} s{len}", len = value.len(), cas = binary.cas));
        assert!(self.text.data(value.len()) == value, "meta");
        assert!(self.resp.command(&[b"GET", key.as_bytes()]) == value, "RESP");
        assert_eq!(self.resp.number(&[b"STRLEN", key.as_bytes()]), value.len() as i64);
    }

    /// All say that there are about so many seconds left, or that it stays.
    #[track_caller]
    fn ends_in(&mut self, key: &str, seconds: Option<i64>) {
        let meta = self.text.ask(format!("mg {key} t"));
        let meta: i64 = meta.strip_prefix("HD t").and_then(|left| left.parse().ok()).expect("a time");
        let resp = self.resp.number(&[b"TTL", key.as_bytes()]);
        for left in [meta, resp] {
            match seconds {
                None => assert_eq!(left, -1),
                // A second of rounding, and some for a busy machine.
                Some(seconds) => assert!((seconds - 8..=seconds + 1).contains(&left), "{left} of {seconds}"),
            }
        }
    }

    #[track_caller]
    fn miss(&mut self, key: &str) {
        assert_eq!(self.binary.ask(&Request::of(op::GET, key)), Answer::error(status::NOT_FOUND));
        assert_eq!(self.text.gets(key), None);
        assert_eq!(self.text.ask(format!("mg {key} v")), "EN");
        assert_eq!(self.resp.command(&[b"GET", key.as_bytes()]), b"$-1");
        assert_eq!(self.resp.number(&[b"TTL", key.as_bytes()]), -2);
    }
}

/// Lengths around every way that a value may take: copied, lent, in a mapping of its own.
const LENGTHS: [usize; 9] = [0, 1, 100, 2047, 2048, 8_000, 9_000, 100_000, 1_000_000];

#[test]
fn a_value_of_any_length_and_any_bytes_reads_the_same_everywhere() {
    let server = Server::start(&[]);
    let mut all = Everyone::connect(&server);
    let mut random = Random::new(7);
    for len in LENGTHS {
        let value = random.bytes(len);
        all.binary.ask(&Request::store(op::SET, "binary", &value).extras(stored(0xdead_beef, 0)));
        all.read("binary", 0xdead_beef, &value);

        let set = [format!("set text 4294967295 0 {len}\r\n").as_bytes(), &value].concat();
        assert_eq!(all.text.ask(set), "STORED");
        all.read("text", u32::MAX, &value);

        let set = [format!("ms meta {len} F7\r\n").as_bytes(), &value].concat();
        assert_eq!(all.text.ask(set), "HD");
        all.read("meta", 7, &value);

        assert_eq!(all.resp.command(&[b"SET", b"resp", &value]), b"+OK");
        all.read("resp", 0, &value);
    }
}

#[test]
fn an_expiration_set_in_one_protocol_is_told_in_the_others() {
    let server = Server::start(&[]);
    let mut all = Everyone::connect(&server);
    all.binary.ask(&Request::store(op::SET, "k", "v").extras(stored(0, 1000)));
    all.ends_in("k", Some(1000));
    assert_eq!(all.text.ask("touch k 2000"), "TOUCHED");
    all.ends_in("k", Some(2000));
    assert_eq!(all.text.ask("mg k T3000"), "HD");
    all.ends_in("k", Some(3000));
    assert_eq!(all.resp.number(&[b"EXPIRE", b"k", b"4000"]), 1);
    all.ends_in("k", Some(4000));
    assert_eq!(all.resp.command(&[b"SET", b"k", b"w", b"KEEPTTL"]), b"+OK");
    all.ends_in("k", Some(4000));
    all.binary.ask(&Request::touch(op::TOUCH, "k", 0));
    all.ends_in("k", None);
    assert_eq!(all.resp.command(&[b"SET", b"k", b"v", b"EX", b"500"]), b"+OK");
    all.ends_in("k", Some(500));
    assert_eq!(all.resp.number(&[b"PERSIST", b"k"]), 1);
    all.ends_in("k", None);
    assert_eq!(all.text.ask("set k 0 -1 1\r\nv"), "STORED");
    all.miss("k");
    all.binary.set("k", "v");
    assert_eq!(all.resp.number(&[b"EXPIRE", b"k", b"-1"]), 1);
    all.miss("k");
    // What Redis sets has no end, whatever it had before.
    assert_eq!(all.text.ask("set k 5 1000 1\r\nv"), "STORED");
    assert_eq!(all.resp.command(&[b"SET", b"k", b"w"]), b"+OK");
    all.read("k", 0, b"w");
    all.ends_in("k", None);
}

#[test]
fn a_cas_from_one_protocol_is_good_in_the_others() {
    let server = Server::start(&[]);
    let mut all = Everyone::connect(&server);
    let cas = all.binary.ask(&Request::store(op::SET, "k", "1")).cas;
    assert_eq!(all.text.ask(format!("cas k 0 0 1 {cas}\r\n2")), "STORED");
    assert_eq!(all.binary.ask(&Request::store(op::SET, "k", "x").cas(cas)), Answer::error(status::EXISTS));
    let (_, cas, _) = all.text.gets("k").expect("it was set");
    assert_eq!(all.text.ask(format!("ms k 1 C{cas}\r\n3")), "HD");
    assert_eq!(all.text.ask(format!("ms k 1 C{cas}\r\n4")), "EX");
    let (_, cas, _) = all.text.gets("k").expect("it was set");
    // Redis has none, and changes it as everybody does.
    assert_eq!(all.resp.command(&[b"SET", b"k", b"5"]), b"+OK");
    assert_eq!(all.text.ask(format!("cas k 0 0 1 {cas}\r\n6")), "EXISTS");
    all.read("k", 0, b"5");
    let (_, cas, _) = all.text.gets("k").expect("it was set");
    assert_eq!(all.text.ask(format!("md k C{}", cas + 1)), "EX");
    assert_eq!(all.binary.ask(&Request::of(op::DELETE, "k").cas(cas)).status, 0);
    all.miss("k");
}

#[test]
fn all_count_on_the_same_number() {
    let server = Server::start(&[]);
    let mut all = Everyone::connect(&server);
    let counted = all.binary.ask(&Request::count(op::INCR, "n", 1, 100, 0));
    assert_eq!(counted, Answer::number(100, counted.cas));
    assert_eq!(all.text.ask("incr n 1"), "101");
    assert_eq!(all.text.ask("ma n D2 v"), "VA 3");
    assert_eq!(all.text.data(3), b"103");
    assert_eq!(all.resp.number(&[b"INCRBY", b"n", b"4"]), 107);
    all.read("n", 0, b"107");
    assert_eq!(all.resp.number(&[b"DECR", b"n"]), 106);
    let counted = all.binary.ask(&Request::count(op::DECR, "n", 6, 0, 0));
    assert_eq!(counted, Answer::number(100, counted.cas));
    // memcached pads a number that became shorter, and everybody takes it for a number all the same.
    assert_eq!(all.text.ask("decr n 1"), "99");
    assert_eq!(all.resp.number(&[b"INCR", b"n"]), 100);
    assert_eq!(all.text.ask("decr n 1"), "99");
    let counted = all.binary.ask(&Request::count(op::DECR, "n", 90, 0, 0));
    assert_eq!(counted, Answer::number(9, counted.cas));
    assert_eq!(all.resp.number(&[b"DECRBY", b"n", b"10"]), -1);
    // Only Redis knows numbers below zero.
    all.read("n", 0, b"-1");
    assert_eq!(all.text.ask("incr n 1"), "CLIENT_ERROR cannot increment or decrement non-numeric value");
    let refused = all.binary.ask(&Request::count(op::INCR, "n", 1, 0, 0));
    assert_eq!(refused, Answer::error(status::NON_NUMERIC));
    assert_eq!(all.resp.number(&[b"INCR", b"n"]), 0);
    assert_eq!(all.text.ask("incr n 18446744073709551615"), "18446744073709551615");
    assert_eq!(all.resp.command(&[b"INCR", b"n"]), b"-ERR value is not an integer or out of range");
}

#[test]
fn all_append_to_the_same_value() {
    let server = Server::start(&[]);
    let mut all = Everyone::connect(&server);
    all.binary.ask(&Request::store(op::SET, "k", "0").extras(stored(9, 1000)));
    assert_eq!(all.binary.ask(&Request::concat(op::APPEND, "k", "1")).status, 0);
    assert_eq!(all.text.ask("append k 0 0 1\r\n2"), "STORED");
    assert_eq!(all.text.ask("ms k 1 MA\r\n3"), "HD");
    assert_eq!(all.resp.number(&[b"APPEND", b"k", b"4"]), 5);
    all.read("k", 9, b"01234");
    assert_eq!(all.resp.number(&[b"SETRANGE", b"k", b"7", b"7"]), 8);
    assert_eq!(all.text.ask("prepend k 0 0 1\r\n<"), "STORED");
    all.read("k", 9, b"<01234\0\x007");
    all.ends_in("k", Some(1000));
    assert_eq!(all.resp.command(&[b"GETRANGE", b"k", b"1", b"3"]), b"012");
}

#[test]
fn what_one_deletes_or_flushes_is_gone_for_all() {
    let server = Server::start(&[]);
    let mut all = Everyone::connect(&server);
    for round in 0..6 {
        all.binary.set("k", "v");
        all.binary.set("other", "v");
        match round {
            0 => assert_eq!(all.text.ask("delete k"), "DELETED"),
            1 => assert_eq!(all.text.ask("md k"), "HD"),
            2 => assert_eq!(all.resp.number(&[b"DEL", b"k"]), 1),
            3 => assert_eq!(all.resp.command(&[b"GETDEL", b"k"]), b"v"),
            4 => assert_eq!(all.text.ask("flush_all"), "OK"),
            _ => assert_eq!(all.resp.command(&[b"FLUSHALL"]), b"+OK"),
        }
        all.miss("k");
        assert_eq!(all.resp.number(&[b"EXISTS", b"other"]), i64::from(round < 4));
    }
}

/// An item that is made stale by meta is an item to the others.
#[test]
fn a_stale_item_is_read_as_any_other() {
    let server = Server::start(&[]);
    let mut all = Everyone::connect(&server);
    all.binary.set("k", "v");
    assert_eq!(all.text.ask("md k I T1000"), "HD");
    assert_eq!(all.text.ask("mg k v"), "VA 1 X W");
    assert_eq!(all.text.data(1), b"v");
    assert_eq!(all.resp.command(&[b"GET", b"k"]), b"v");
    assert_eq!(all.binary.get("k").expect("a hit"), b"v");
    all.ends_in_stale("k");
    assert_eq!(all.resp.command(&[b"SET", b"k", b"w"]), b"+OK");
    assert_eq!(all.text.ask("mg k v"), "VA 1");
    assert_eq!(all.text.data(1), b"w");
}

impl Everyone {
    /// As [`ends_in`](Self::ends_in), of an item whose next value somebody has gone to fetch.
    #[track_caller]
    fn ends_in_stale(&mut self, key: &str) {
        let meta = self.text.ask(format!("mg {key} k"));
        assert_eq!(meta, format!("HD k{key} Z X"));
        assert!((990..=1001).contains(&self.resp.number(&[b"TTL", key.as_bytes()])));
    }
}

/// Binary keys in base64 are the same keys.
#[test]
fn a_coded_key_is_the_key_itself() {
    let server = Server::start(&[]);
    let mut all = Everyone::connect(&server);
    let key = b"a \0key\r\n";
    all.binary.set(key, "v");
    assert_eq!(all.text.ask("mg YSAAa2V5DQo= b k v"), "VA 1 kYSAAa2V5DQo= b");
    assert_eq!(all.text.data(1), b"v");
    assert_eq!(all.resp.command(&[b"GET", key]), b"v");
    assert_eq!(all.resp.command(&[b"SET", key, b"w"]), b"+OK");
    assert_eq!(all.binary.get(key).expect("a hit"), b"w");
}

//! The text protocol, from the socket to the engine and back, over a transport in the test's hands.
//!
//! What is answered to what was read off memcached 1.6.18, and off the sources of 1.6.45 for what is newer.

use std::cell::Cell;
use std::fmt::Write;
use std::io::{self, IoSlice};
use std::sync::Arc;

use memwire::clock::Clock;
use memwire::config::Config;
use memwire::limits::{BYTES_PER_RUN, OPS_PER_TURN, READ_BYTES_PER_TURN};
use memwire::message::{Batch, ConnId};
use memwire::net::connection::{Connection, Traffic, Wish};
use memwire::net::socket::Transport;
use memwire::server::Server;
use memwire::session::Output;
use memwire::storage::Engine;
use memwire::storage::engine::{EngineConfig, Stress};

use crate::packets::legal;
use crate::world::START;

/// A server without threads, and the time.
pub(crate) struct Room {
    pub(crate) server: Server,
    pub(crate) engine: Engine,
    now: u32,
    /// Whether all of it is looked through behind each request.
    is_verified: bool,
}

/// A connection to it.
pub(crate) struct Client {
    pub(crate) connection: Connection<Wire>,
}

#[derive(Debug, Default)]
pub(crate) struct Wire {
    arrived: Vec<u8>,
    read: usize,
    written: Vec<u8>,
    is_shut: Cell<bool>,
}

impl Transport for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = &self.arrived[self.read..];
        let len = rest.len().min(buffer.len());
        if len == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        buffer[..len].copy_from_slice(&rest[..len]);
        self.read += len;
        Ok(len)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.written.extend(slices.iter().flat_map(|slice| slice.to_vec()));
        Ok(slices.iter().map(|slice| slice.len()).sum())
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.is_shut.set(true);
        Ok(())
    }
}

impl Room {
    pub(crate) fn new(config: Config) -> Self {
        Self::stressed(config, Stress::None)
    }

    /// One in which every item is moved all the time.
    fn stressed(config: Config, stress: Stress) -> Self {
        let server = Server::new(config, Clock::start(), 7);
        let config = EngineConfig { stress, ..server.config.engine() };
        let engine = Engine::new(config, Arc::clone(&server.meter)).unwrap();
        Self { server, engine, now: START, is_verified: true }
    }

    pub(crate) fn connect(&self) -> Client {
        Client { connection: Connection::new(Wire::default(), &self.server.meter) }
    }

    /// What `client` reads when it has sent `bytes`.
    fn send(&mut self, client: &mut Client, bytes: impl AsRef<[u8]>) -> Vec<u8> {
        let connection = &mut client.connection;
        connection.socket().arrived.extend_from_slice(bytes.as_ref());
        connection.set_readable();
        let (mut batch, mut output, mut traffic) = (Batch::default(), Output::default(), Traffic::default());
        while matches!(connection.wish(), Wish::Turn) {
            let id = ConnId { slot: 0, generation: 0 };
            connection.take_turn(id, &mut batch, &self.server, &mut traffic);
            assert!(batch.ops.len() <= OPS_PER_TURN + 1024, "{} operations in a turn", batch.ops.len());
            self.engine.execute(&mut batch, self.now);
            for run in &batch.runs {
                connection.take_answers(run, &batch, &self.server, &mut output, &mut traffic);
            }
            batch.recycle();
        }
        if self.is_verified {
            self.engine.verify().unwrap();
        }
        std::mem::take(&mut connection.socket().written)
    }

    /// The same as text, and whether that was the end.
    pub(crate) fn ask(&mut self, client: &mut Client, bytes: impl AsRef<[u8]>) -> String {
        let told = self.send(client, bytes);
        let end = if client.connection.socket().is_shut.get() { "<end>" } else { "" };
        format!("{}{end}", String::from_utf8_lossy(&told))
    }
}

fn small() -> Config {
    Config { memory_bytes_max: 9 << 20, ..Config::default() }
}

/// What a fresh server answers to `requests`, which have no carriage returns here, and neither have the answers.
fn told(requests: &str) -> String {
    let mut room = Room::new(small());
    let mut client = room.connect();
    room.ask(&mut client, requests.replace('\n', "\r\n")).replace("\r\n", "\n")
}

const CONVERSATIONS: &[(&str, &str)] = &[
    ("\n", "ERROR\n"),
    (
        "get\nget \ngets\ngat\ngat 10\ngat x a\nGET a\n",
        "ERROR\nERROR\nERROR\nERROR\nEND\nCLIENT_ERROR invalid exptime argument\nERROR\n",
    ),
    (
        "set a 5 0 2\nhi\n  get  b a  a \ngets a\ngat 0 a\ngats 0 a b\nbget a\n",
        "STORED\nVALUE a 5 2\nhi\nVALUE a 5 2\nhi\nEND\nVALUE a 5 2 1\nhi\nEND\nVALUE a 5 2\nhi\n\
         END\nVALUE a 5 2 1\nhi\nEND\nVALUE a 5 2\nhi\nEND\n",
    ),
    ("set a 0 0 1\nabc\nmn\n", "CLIENT_ERROR bad data chunk\nERROR\nMN\n"),
    ("set a 0 0 3 noreply\nabcd\nmn\n", "ERROR\nMN\n"),
    ("set a x 0 1\nx\nmn\n", "CLIENT_ERROR bad command line format\nERROR\nMN\n"),
    (
        "set a 0 0 -1\nset a 0 0 2147483646\nset a 0 0 x noreply\nmn\n",
        "CLIENT_ERROR bad command line format\nCLIENT_ERROR bad command line format\nMN\n",
    ),
    ("set a 0 0\nset a 0 0 1 foo bar\nmn\n", "ERROR\nERROR\nMN\n"),
    (
        "set a 4294967296 0 1 foo\nx\nset b -1 0 1\nset c +5 +0 +1\nx\nget a b c\n",
        "STORED\nCLIENT_ERROR bad command line format\nSTORED\nVALUE a 0 1\nx\nVALUE c 5 1\nx\n\
         END\n",
    ),
    ("set a 0 -1 1\nx\nset b 0 2147483648 1\nx\nget a b\n", "STORED\nSTORED\nEND\n"),
    (
        "cas a 0 0 1 0\nx\nset a 0 0 1\nx\ncas a 0 0 1 0\ny\ncas a 0 0 1 1\nz\ncas a 0 0 1 1\nz\n\
         cas a 0 0 1 x\ncas a 0 0 1\nget a\n",
        "NOT_FOUND\nSTORED\nEXISTS\nSTORED\nEXISTS\nCLIENT_ERROR bad command line format\nERROR\n\
         VALUE a 0 1\nz\nEND\n",
    ),
    (
        "add a 0 0 1\nx\nadd a 0 0 1\ny\nreplace b 0 0 1\nx\nreplace a 5 0 1\ny\nappend a 0 0 1\n\
         z\nprepend a 0 0 1\nw\nappend b 0 0 1\nx\nprepend b 0 0 1\nx\nget a\n",
        "STORED\nNOT_STORED\nNOT_STORED\nSTORED\nSTORED\nSTORED\nNOT_STORED\nNOT_STORED\n\
         VALUE a 5 3\nwyz\nEND\n",
    ),
    (
        "set a 0 0 0\n\ndelete a 1\ndelete a\ndelete a 0\ndelete a noreply\ndelete a 0 noreply\n\
         delete a 1 noreply\ndelete a 0 0\ndelete\ndelete a b c d\n",
        "STORED\nCLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]\nDELETED\n\
         NOT_FOUND\nCLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]\nERROR\n\
         ERROR\n",
    ),
    (
        "incr n 1\nset n 0 0 2\n10\nincr n 5\ndecr n 100\nincr n 18446744073709551615\nincr n 1\n\
         incr n -1\nincr n x\nincr n\nincr n 1 noreply\nincr n 1 2\nincr n 1 2 3\n",
        "NOT_FOUND\nSTORED\n15\n0\n18446744073709551615\n0\n\
         CLIENT_ERROR invalid numeric delta argument\nCLIENT_ERROR invalid numeric delta argument\n\
         ERROR\n2\nERROR\n",
    ),
    (
        "set s 0 0 1\nx\nincr s 1\ndecr s 1\n",
        "STORED\nCLIENT_ERROR cannot increment or decrement non-numeric value\n\
         CLIENT_ERROR cannot increment or decrement non-numeric value\n",
    ),
    (
        "set s 0 0 1\nx\ntouch t 0\ntouch s 0\ntouch s x\ntouch s\ntouch s 0 noreply\ntouch s -1\n\
         get s\n",
        "STORED\nNOT_FOUND\nTOUCHED\nCLIENT_ERROR invalid exptime argument\nERROR\nTOUCHED\nEND\n",
    ),
    (
        "set s 0 0 1\nx\nflush_all x\nflush_all 100\nget s\nflush_all noreply\nget s\n\
         flush_all 0 0 0\nflush_all 0 noreply\nflush_all -1\n",
        "STORED\nCLIENT_ERROR invalid exptime argument\nOK\nVALUE s 0 1\nx\nEND\nEND\nERROR\nOK\n",
    ),
    (
        "verbosity\nverbosity 1\nverbosity 0 noreply\nverbosity x\n",
        "ERROR\nOK\nCLIENT_ERROR bad command line format\n",
    ),
    ("version\nversion 1\nquit\nmn\n", "VERSION 1.6.45\nVERSION 1.6.45\n<end>"),
    (
        "stats nonsense\nstats reset\nstats detail\nstats detail on\nget a:b\nstats detail dump\n\
         stats detail off\nstats sizes\n",
        "ERROR\nRESET\nCLIENT_ERROR usage: stats detail on|off|dump\nOK\nEND\n\
         PREFIX a get 1 hit 0 set 0 del 0\nEND\nOK\nSTAT sizes_status disabled\nEND\n",
    ),
    (
        "cache_memlimit\ncache_memlimit x\ncache_memlimit 7\ncache_memlimit 9\ncache_memlimit 64\n\
         cache_memlimit 1000000001\n",
        "ERROR\nERROR\nMEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m\nOK\n\
         MEMLIMIT_ADJUST_FAILED out of bounds or unable to adjust\n\
         MEMLIMIT_ADJUST_FAILED input value is megabytes not bytes\n",
    ),
    (
        "shutdown\nslabs\nslabs automove 0\nlru\nlru tune 60 25 0.1 2.0\nlru tune 10 25 0 2.0\n\
         lru_crawler\nlru_crawler crawl x\nlru_crawler sleep 10000000\nwatch\nrefresh_certs\n\
         extstore x\n",
        "ERROR: shutdown not enabled\nERROR\nOK\nERROR\n\
         ERROR hot and warm pcts must not exceed 80\n\
         ERROR hot/warm age factors must be greater than 0\nERROR\nBADCLASS invalid class id\n\
         CLIENT_ERROR sleep must be one second or less\nCLIENT_ERROR watch commands not allowed\n\
         Error TLS not enabled\nERROR\n",
    ),
    (
        "mg\nms\nms a\nmd\nma\nme\nmx\nmn x\n",
        "ERROR\nERROR\nCLIENT_ERROR bad command line format\nERROR\nERROR\n\
         CLIENT_ERROR bad command line format\nERROR\nMN\n",
    ),
    (
        "ms a 1\nx\nmg a s v f c t k Oabc q\nmg a\nmg b\nmg b k O1\nmg b k O1 q\nmn\n",
        "HD\nVA 1 s1 f0 c1 t-1 ka Oabc\nx\nHD\nEN\nEN kb O1\nMN\n",
    ),
    (
        "mg a v v\nmg a !\nmg a Nx\nmg a N\nmg a Dx\nmg a Jx\nmg a Fx\nmg a M\nmg a MXX\nmg a b\n\
         mg !!!! b\nmg a v t f s c k h l q u O1 P2 L3 T5 R6 C7 J9 D1\n",
        "CLIENT_ERROR duplicate flag\nCLIENT_ERROR invalid flag\n\
         CLIENT_ERROR bad token in command line format\n\
         CLIENT_ERROR bad token in command line format\nCLIENT_ERROR invalid numeric delta value\n\
         CLIENT_ERROR invalid numeric initial value\nCLIENT_ERROR bad command line format\n\
         CLIENT_ERROR incorrect length for M token\nCLIENT_ERROR incorrect length for M token\n\
         CLIENT_ERROR error decoding key\nCLIENT_ERROR error decoding key\n\
         CLIENT_ERROR options flags are too long\n",
    ),
    (
        "ms AAECAw== 3 b k\nabc\nmg AAECAw== b k v\nmg AAECAw== k b\nmd AAECAw== b k\n\
         ma AAECAw== b k\nmg AAECAw== b k q\nmn\n",
        "HD kAAECAw== b\nVA 3 kAAECAw== b\nabc\nHD kAAECAw== b\nHD kAAECAw== b\nNF kAAECAw== b\n\
         MN\n",
    ),
    (
        "ms a 2 c k s Ox\nhi\nms a 2 q\nhi\nms a 2 ME\nhi\nms b 2 MR\nhi\nms b 2 MA\nhi\n\
         ms a 2 MA c s\nho\nms a 2 MP\nha\nmg a v\nms a 2 MX\nhi\nms a 2 v v\nhi\nms a 2\nhixx\n\
         ms a 2 q\nhixx\nmn\n",
        "HD c1 ka s2 Ox\nNS\nNS\nNS\nHD c3 s4\nHD\nVA 6\nhahiho\n\
         CLIENT_ERROR invalid mode for ms M token\nCLIENT_ERROR duplicate flag\n\
         CLIENT_ERROR bad data chunk\nERROR\nCLIENT_ERROR bad data chunk\nERROR\nMN\n",
    ),
    (
        "ms a 2 C1\nhi\nms a 2 C0\nhi\nms a 2\nhi\nms a 2 C0\nho\nms a 2 C9 k\nho\nms a 2 C1 ME\n\
         hi\nms a 2 C9 MA\nhi\nms a 2 C0 MA\nhi\nms a 2 C2 MR c\nho\n",
        "NF\nNF\nHD\nEX\nEX ka\nNS\nEX\nHD\nHD c3\n",
    ),
    (
        "md a k Oq\nms a 1\nx\nmd a C9\nmd a C0 k\nmd a C1 q\nmd a q\nmd a x v v\nmd a Cx\nmn\n",
        "NF ka Oq\nHD\nEX\nEX ka\nNF\nCLIENT_ERROR invalid or duplicate flag\n\
         CLIENT_ERROR invalid or duplicate flag\nMN\n",
    ),
    (
        "ms a 2 T100 F7\nhi\nmd a I T30\nmg a c\nmg a t s c v f\nmg a v\nms a 2\nho\nmg a v\n",
        "HD\nHD\nHD c2 X W\nVA 2 t30 s2 c2 f7 Z X\nhi\nVA 2 Z X\nhi\nHD\nVA 2\nho\n",
    ),
    (
        "ms a 2 T100\nhi\nmg a s t R30 v\nmg a R200 t v\nmg a R200 t v\ntouch a 300\nmg a v\n\
         ms a 2 T100\nxx\nmg a v\n",
        "HD\nVA 2 s2 t100\nhi\nVA 2 t100 W\nhi\nVA 2 t100 Z\nhi\nTOUCHED\nVA 2 Z\nhi\nHD\nVA 2\n\
         xx\n",
    ),
    (
        "mg n N30 v t c k Oz\nmg n N30 v t c\nmg n v t f h\nms n 2 T10\nxx\nmg n N30 v t\n",
        "VA 0 t30 c1 kn Oz W\n\nVA 0 t30 c1 Z\n\nVA 0 t30 f0 h1 Z\n\nHD\nVA 2 t10\nxx\n",
    ),
    (
        "ms h 1\nx\nmg h u h l\nmg h h l\nmg h h l\nmg h T30 t\nmg h t T40\nmg h t\nmg h T-1\n\
         mg h\nmg i T30\n",
        "HD\nHD h0 l0\nHD h0 l0\nHD h1 l0\nHD t30\nHD t30\nHD t40\nHD\nEN\nEN\n",
    ),
    (
        "ma n\nma n N0\nma n N0 v\nma n v D5\nma n MD v\nma n M- D100 v\nma n M+ v t c k Oab\n\
         ma n q\nma n MX\nma n Dx\nma n T30 t\nma n t T0\nma n C99 v\nma n C0 v\n",
        "NF\nHD\nVA 1\n1\nVA 1\n6\nVA 1\n5\nVA 1\n0\nVA 1 t-1 c6 kn Oab\n1\n\
         CLIENT_ERROR invalid mode for ma M token\nCLIENT_ERROR invalid or duplicate flag\nHD t30\n\
         HD t30\nEX\nVA 1\n5\n",
    ),
    (
        "ma n N30 J13 v t\nma n N30 J13 D2 v t k O1\nset n 0 0 1\nx\nma n q\n",
        "VA 2 t30\n13\nVA 2 t30 kn O1\n15\nSTORED\n\
         CLIENT_ERROR cannot increment or decrement non-numeric value\n",
    ),
    (
        "ms a 1 T100 c\nx\nms a 1 I C1844\ny\nms a 1 c\ny\nms a 1 I C1\nz\nmg a v t\nmg a v\n",
        "HD c1\nEX\nHD c2\nHD\nVA 1 t-1 X W\nz\nVA 1 Z X\nz\n",
    ),
    (
        "ms a 1 T100\nx\nme a\nmg a\nme a\nme YQ== b\nme b\nme ! b\n",
        "HD\nME a exp=-100 la=0 cas=1 fetch=no cls=1 size=40\nHD\n\
         ME a exp=-100 la=0 cas=1 fetch=yes cls=1 size=40\n\
         ME YQ== exp=-100 la=0 cas=1 fetch=yes cls=1 size=40\nEN\n\
         CLIENT_ERROR bad command line format\n",
    ),
    // From here on newer than 1.6.18.
    ("ms a 1 c\nx\nmg a v C1 c\nmg a v C2 c\n", "HD c1\nHD c1\nVA 1 c1\nx\n"),
    (
        "ms a 1 E500 c\nx\nmg a c v\nms a 1 C500 E600\ny\nmg a c v\nma b N0 E7 c\nma b E9 c v\n\
         ma b c\nmg d N0 E77 c\n",
        "HD c500\nVA 1 c500\nx\nHD\nVA 1 c600\ny\nHD c7\nVA 1 c9\n1\nHD c5\nHD c77 W\n",
    ),
    (
        "ms a 1 E500\nx\nmd a I\nmg a c v\nmd a I E900\nmg a c v\nmd a x\nmg a c v s\nmd a x I E3\n\
         mg a c v\n",
        "HD\nHD\nVA 1 c2 X W\nx\nHD\nVA 1 c900 X W\nx\nHD\nVA 0 c900 s0\n\nHD\nVA 0 c3 X W\n\n",
    ),
    (
        "ms a 2 MA N30 s\nhi\nmg a t\nms a 2 MA N60 s c\nho\nmg a v t\n",
        "HD s2\nHD t30\nHD s4 c2\nVA 4 t30\nhiho\n",
    ),
];

#[test]
fn everything_is_answered_as_memcached_answers_it() {
    for (requests, answers) in CONVERSATIONS {
        assert_eq!(told(requests), *answers, "{requests}");
    }
}

#[test]
fn what_is_cut_up_on_its_way_is_answered_the_same() {
    for (requests, answers) in CONVERSATIONS {
        let requests = requests.replace('\n', "\r\n");
        for cut in 0..=requests.len() {
            let mut room = Room::new(small());
            let mut client = room.connect();
            let (first, second) = requests.as_bytes().split_at(cut);
            let mut told = room.ask(&mut client, first);
            if !told.ends_with("<end>") {
                told += &room.ask(&mut client, second);
            }
            assert_eq!(told.replace("\r\n", "\n"), *answers, "{requests}, cut at {cut}");
        }
    }
}

#[test]
fn a_newline_alone_ends_a_line_but_not_a_value() {
    let mut room = Room::new(Config::default());
    let mut client = room.connect();
    assert_eq!(
        room.ask(&mut client, "mn\nset a 0 0 1\nx\r\nget a\n"),
        "MN\r\nSTORED\r\nVALUE a 0 1\r\nx\r\nEND\r\n"
    );
    assert_eq!(room.ask(&mut client, "set a 0 0 1\nx\n\n"), "CLIENT_ERROR bad data chunk\r\n");
}

#[test]
fn keys_have_250_bytes_at_most() {
    let [fits, long] = [250, 251].map(|len| "k".repeat(len));
    let bad = "CLIENT_ERROR bad command line format\n";
    assert_eq!(
        told(&format!("set {fits} 0 0 1\nx\nget {fits}\n")),
        format!("STORED\nVALUE {fits} 0 1\nx\nEND\n")
    );
    for request in [
        format!("get a {long} a"),
        format!("gets {long}"),
        format!("gat 0 {long}"),
        format!("set {long} 0 0 1"),
        format!("delete {long}"),
        format!("incr {long} 1"),
        format!("touch {long} 0"),
        format!("mg {long} v"),
        format!("ms {long} 1"),
        format!("md {long}"),
        format!("ma {long}"),
        format!("me {long}"),
    ] {
        assert_eq!(
            told(&format!("set a 0 0 0\n\n{request}\nmn\n")),
            format!("STORED\n{bad}MN\n"),
            "{request}"
        );
    }
}

#[test]
fn a_line_of_2049_bytes_is_the_end_unless_it_is_a_list_of_keys() {
    for (beginning, answer) in [
        ("a".repeat(2048), ""),
        ("a".repeat(2049), "<end>"),
        (format!("gat 0 {}", "a ".repeat(1100)), "<end>"),
        (" ".repeat(2049), "<end>"),
        (format!("{}get {}", " ".repeat(101), "a ".repeat(1100)), "<end>"),
        (format!("{}get {}", " ".repeat(100), "a ".repeat(1100)), ""),
        (format!("gets {}", "a ".repeat(1100)), ""),
        (format!("get {}", "a".repeat(2100)), "CLIENT_ERROR bad command line format\r\n"),
    ] {
        let mut room = Room::new(Config::default());
        let mut client = room.connect();
        assert_eq!(room.ask(&mut client, format!("mn\r\n{beginning}")), format!("MN\r\n{answer}"));
        if answer.starts_with("CLIENT") {
            assert_eq!(room.ask(&mut client, "aaa\r\nmn\r\n"), "MN\r\n", "the rest of the line is nothing");
        } else if answer.is_empty() && !beginning.starts_with('a') {
            assert_eq!(room.ask(&mut client, "b\r\nmn\r\n"), "END\r\nMN\r\n");
        }
    }
}

/// So much is asked for in so few bytes that what was read waits for its turn.
#[test]
fn many_short_requests_are_served_some_at_a_time() {
    let mut room = Room::new(small());
    let mut client = room.connect();
    assert_eq!(room.ask(&mut client, "\n".repeat(100_000)), "ERROR\r\n".repeat(100_000));
    let keys = "k ".repeat(1000);
    let told = room.ask(&mut client, format!("get {keys}\r\n").repeat(100));
    assert_eq!(told, "END\r\n".repeat(100));
    let told = room.ask(&mut client, format!("set k 0 0 0\r\n\r\ngets {}\r\nmn\r\n", keys.repeat(100)));
    assert_eq!(told.matches("VALUE k 0 0 1\r\n\r\n").count(), 100_000);
    assert!(told.starts_with("STORED\r\nVALUE") && told.ends_with("\r\nEND\r\nMN\r\n"));
}

/// A list whose answer is cut short goes on at the key where it was cut.
#[test]
fn a_list_of_any_length_is_answered_key_by_key_and_ends_once() {
    const KEYS: usize = 3000;
    let mut room = Room::new(Config::default());
    room.is_verified = false;
    let mut client = room.connect();
    let value = "v".repeat(1500);
    let mut expected = String::new();
    for key in 0..KEYS {
        if key % 3 != 0 {
            let request = format!("set key{key} {key} 0 {}\r\n{value}\r\n", value.len());
            assert_eq!(room.ask(&mut client, request), "STORED\r\n");
            write!(expected, "VALUE key{key} {key} {}\r\n{value}\r\n", value.len()).unwrap();
        }
    }
    assert!(expected.len() > 10 * BYTES_PER_RUN);
    let keys: Vec<_> = (0..KEYS).map(|key| format!("key{key}")).collect();
    let told = room.ask(&mut client, format!("get {}\r\nmn\r\n", keys.join(" ")));
    assert!(told == format!("{expected}END\r\nMN\r\n"), "{} bytes", told.len());
    // As many as a line holds, over and over.
    for command in ["get", "gat 0"] {
        let line = format!("{command} {}\r\n", keys[..200].join(" "));
        let told = room.ask(&mut client, line.repeat(5));
        assert_eq!((told.matches("VALUE key").count(), told.matches("END\r\n").count()), (5 * 133, 5));
    }
    // In the smallest pieces.
    let request = format!("gets {}  \r\nmn\r\n", keys.join("  "));
    let mut told = String::new();
    for piece in request.as_bytes().chunks(7) {
        told += &room.ask(&mut client, piece);
    }
    assert_eq!((told.matches("VALUE key").count(), told.matches("END\r\n").count()), (2000, 1));
    assert!(told.ends_with("END\r\nMN\r\n"));
}

#[test]
fn large_values_come_and_go_by_themselves() {
    let mut room = Room::new(Config::default());
    let mut client = room.connect();
    let value = "x".repeat(500_000);
    for (set, get) in [("set a 3 0 500000", "get a"), ("ms a 500000 F3", "mg a v f")] {
        let stored = if set.starts_with("ms") { "HD\r\n" } else { "STORED\r\n" };
        let request = format!("{set}\r\n{value}\r\n{get}\r\nmn\r\n");
        for pieces in [request.len(), READ_BYTES_PER_TURN / 3, 250_001] {
            let mut told = String::new();
            for piece in request.as_bytes().chunks(pieces) {
                told += &room.ask(&mut client, piece);
            }
            assert!(told.starts_with(stored) && told.ends_with("MN\r\n"), "{}", &told[..50]);
            assert_eq!(told.matches('x').count(), 500_000);
        }
        let broken = format!("{set}\r\n{value}xx\r\nmn\r\n");
        assert_eq!(room.ask(&mut client, broken), "CLIENT_ERROR bad data chunk\r\nERROR\r\nMN\r\n");
        assert!(room.ask(&mut client, format!("{get}\r\n")).len() > 500_000, "the old value is there");
    }
}

#[test]
fn a_value_too_large_is_skipped_and_a_set_ends_the_old_one() {
    let value = "x".repeat(2_000_000);
    let too_large = "SERVER_ERROR object too large for cache\r\n";
    for (request, answer, is_kept) in [
        ("set a 0 0 2000000", too_large, false),
        ("set a 0 0 2000000 noreply", "", false),
        ("add a 0 0 2000000", too_large, true),
        ("cas a 0 0 2000000 1", too_large, true),
        ("append a 0 0 2000000", too_large, true),
        ("ms a 2000000 q", too_large, false),
        ("ms YQ== 2000000 b", too_large, false),
        ("ms a 2000000 v v", "CLIENT_ERROR duplicate flag\r\n", true),
    ] {
        for piece in [4_000_000, 100_000] {
            let mut room = Room::new(Config::default());
            let mut client = room.connect();
            let requests = format!("set a 0 0 1\r\nx\r\n{request}\r\n{value}\r\nmg a\r\n");
            let mut told = String::new();
            for piece in requests.as_bytes().chunks(piece) {
                told += &room.ask(&mut client, piece);
            }
            let found = if is_kept { "HD" } else { "EN" };
            assert_eq!(told, format!("STORED\r\n{answer}{found}\r\n"), "{request}");
        }
    }
}

#[test]
fn all_protocols_see_the_same_items() {
    let mut room = Room::new(Config::default());
    let (mut text, mut binary) = (room.connect(), room.connect());
    let stored = [&7_u32.to_be_bytes()[..], &0_u32.to_be_bytes()].concat();
    let mut set = legal(0x11, b"key", b"value", 0);
    set[24..32].copy_from_slice(&stored);
    assert_eq!(room.send(&mut binary, set), b"", "a quiet set that succeeds");
    assert_eq!(room.ask(&mut text, "gets key\r\n"), "VALUE key 7 5 1\r\nvalue\r\nEND\r\n");
    assert_eq!(room.ask(&mut text, "ms a2V5 3 b F9 E4711\r\nnew\r\n"), "HD\r\n");
    let told = room.send(&mut binary, legal(0x00, b"key", b"", 0));
    assert_eq!((&told[16..24], &told[24..]), (&4711_u64.to_be_bytes()[..], &b"\0\0\0\x09new"[..]));
    assert_eq!(room.send(&mut binary, legal(0x14, b"key", b"", 4710)).len(), 44, "another version: an error");
    assert_eq!(room.send(&mut binary, legal(0x14, b"key", b"", 4711)), b"");
    assert_eq!(room.ask(&mut text, "mg key\r\n"), "EN\r\n");
}

/// The engine's versions tell what a flush has ended. A client's own one must not.
#[test]
fn a_version_of_the_clients_own_neither_survives_a_flush_nor_falls_to_an_earlier_one() {
    for stress in [Stress::None, Stress::Relocate] {
        let mut room = Room::stressed(Config::default(), stress);
        let mut client = room.connect();
        for _ in 0..10 {
            room.ask(&mut client, "set a 0 0 1\r\nx\r\n");
        }
        assert_eq!(room.ask(&mut client, "flush_all\r\nms low 1 E1\r\nx\r\n"), "OK\r\nHD\r\n");
        assert_eq!(room.ask(&mut client, "ms high 1 E18446744073709551615\r\nx\r\n"), "HD\r\n");
        let told = "HD c1\r\nHD c18446744073709551615\r\n";
        assert_eq!(room.ask(&mut client, "mg low c\r\nmg high c\r\n"), told);
        assert_eq!(
            room.ask(&mut client, "set b 0 0 1\r\nx\r\ngets b\r\n"),
            "STORED\r\nVALUE b 0 1 13\r\nx\r\nEND\r\n"
        );
        assert_eq!(
            room.ask(&mut client, "flush_all\r\nmg low\r\nmg high\r\nmg b\r\n"),
            "OK\r\nEN\r\nEN\r\nEN\r\n"
        );
    }
}

#[test]
fn marks_survive_moves_and_other_commands_but_not_a_new_value() {
    let mut room = Room::stressed(Config::default(), Stress::Relocate);
    let mut client = room.connect();
    room.ask(&mut client, "ms a 1\r\n5\r\nmg a\r\nmd a I\r\n");
    room.now += 40;
    assert_eq!(room.ask(&mut client, "mg a h l v\r\n"), "VA 1 h1 l40 X W\r\n5\r\n");
    room.now += 2;
    assert_eq!(room.ask(&mut client, "incr a 1\r\ntouch a 100\r\n"), "6\r\nTOUCHED\r\n");
    assert_eq!(room.ask(&mut client, "mg a h l v t\r\n"), "VA 1 h1 l0 t100 Z X\r\n6\r\n");
    assert_eq!(
        room.ask(&mut client, "append a 0 0 1\r\n7\r\nmg a h v t\r\n"),
        "STORED\r\nVA 2 h0 t100\r\n67\r\n"
    );
}

#[test]
fn the_last_read_is_told_within_a_minute() {
    let mut room = Room::new(Config::default());
    let mut client = room.connect();
    room.ask(&mut client, "set a 0 0 1\r\nx\r\n");
    room.now += 30;
    assert_eq!(
        room.ask(&mut client, "mg a u l\r\nget a\r\nmg a u l\r\n"),
        "HD l30\r\nVALUE a 0 1\r\nx\r\nEND\r\nHD l0\r\n"
    );
    for _ in 0..10 {
        room.ask(&mut client, "get a\r\n");
    }
    room.now += 59;
    room.ask(&mut client, "get a\r\n");
    assert_eq!(
        room.ask(&mut client, "mg a u l\r\n"),
        "HD l59\r\n",
        "an item that is read often is not written to"
    );
    room.now += 1;
    room.ask(&mut client, "get a\r\n");
    assert_eq!(room.ask(&mut client, "mg a u l\r\n"), "HD l0\r\n");
}

#[test]
fn a_dump_tells_every_item_once_and_then_the_next_request_is_answered() {
    let mut room = Room::new(Config::default());
    let mut client = room.connect();
    assert_eq!(room.ask(&mut client, "lru_crawler metadump all\r\nmn\r\n"), "END\r\nMN\r\n");
    room.is_verified = false;
    for key in 0..3000 {
        room.ask(&mut client, format!("set key{key} 0 0 1\r\nx\r\n"));
    }
    room.ask(&mut client, "ms AAEg 2 b T100\r\nxx\r\ntouch key7 -1\r\nget key8\r\n");
    let told = room.ask(&mut client, "mn\r\nlru_crawler metadump all\r\nmn\r\nlru_crawler metadump x\r\n");
    assert!(told.starts_with("MN\r\nkey=") && told.ends_with("\nEND\r\nMN\r\nBADCLASS invalid class id\r\n"));
    let mut lines: Vec<_> = told.lines().filter(|line| line.starts_with("key=")).collect();
    lines.sort_unstable();
    lines.dedup();
    assert_eq!(lines.len(), 3000);
    let binary = format!("key=%00%01%20 exp={} la={START} cas=3001 fetch=no cls=1 size=40", START + 100);
    assert!(lines.contains(&binary.as_str()), "{}", lines[0]);
    assert!(lines.contains(&format!("key=key8 exp=-1 la={START} cas=9 fetch=yes cls=1 size=40").as_str()));
    let told = room.ask(&mut client, "lru_crawler mgdump hash\r\nmn\r\n");
    assert!(told.ends_with("EN\r\nMN\r\n") && told.contains("mg key8\r\n") && told.contains("mg AAEg b\r\n"));
    assert_eq!(told.matches("mg ").count(), 3000);
}

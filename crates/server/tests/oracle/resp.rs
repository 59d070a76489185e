//! Redis's protocol over a connection that is in the test's hands: what is asked and what is answered, byte by byte.

use memwire::config::Config;
use memwire::meter::Crowding;
use memwire::net::connection::{Connection, Wish};

use crate::connections::{Desk, Wire};

/// A client with a server of its own.
struct Redis {
    desk: Desk,
    connection: Connection<Wire>,
}

impl Redis {
    fn new() -> Self {
        Self::with(Config { item_bytes_max: 4 << 20, ..Config::default() })
    }

    fn with(config: Config) -> Self {
        let desk = Desk::new(config);
        let connection = desk.connect();
        Self { desk, connection }
    }

    /// Sends bytes, and gives what was answered since the last time.
    fn send(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.desk.receive(&mut self.connection, bytes);
        self.desk.engine.verify().unwrap();
        std::mem::take(&mut self.connection.socket().written)
    }

    /// A request in words, and its answer as text.
    fn ask(&mut self, request: &str) -> String {
        String::from_utf8(self.send(&words(request))).unwrap()
    }

    #[track_caller]
    fn asserts(&mut self, story: &[(&str, &str)]) {
        for (request, answer) in story {
            assert_eq!(self.ask(request), answer.replace('|', "\r\n"), "{request}");
        }
    }

    fn is_closing(&mut self) -> bool {
        matches!(self.connection.wish(), Wish::Linger | Wish::Close)
    }
}

fn request<T: AsRef<[u8]>>(args: &[T]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args.iter().map(AsRef::as_ref) {
        bytes.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        bytes.extend_from_slice(arg);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// Arguments between spaces; `''` is an empty one.
fn words(text: &str) -> Vec<u8> {
    let args: Vec<&str> = text.split(' ').map(|word| if word == "''" { "" } else { word }).collect();
    request(&args)
}

/// A value of this length, no two alike.
fn value(len: usize) -> Vec<u8> {
    (0..len).map(|at| b'a' + ((at + len) % 23) as u8).collect()
}

fn bulk(bytes: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

const NOT_INT: &str = "-ERR value is not an integer or out of range|";
const OVERFLOW: &str = "-ERR increment or decrement would overflow|";

#[test]
fn strings_are_set_and_read() {
    Redis::new().asserts(&[
        ("GET k", "$-1|"),
        ("SET k v", "+OK|"),
        ("gEt k", "$1|v|"),
        ("SET k ''", "+OK|"),
        ("GET k", "$0||"),
        ("SET k w NX", "$-1|"),
        ("SET k w XX GET", "$0||"),
        ("SET n w XX", "$-1|"),
        ("SET n w NX GET", "$-1|"),
        ("SET n x NX GET", "$1|w|"),
        ("SET n x GET", "$1|w|"),
        ("SETNX n y", ":0|"),
        ("SETNX m y", ":1|"),
        ("GETSET m z", "$1|y|"),
        ("GETDEL m", "$1|z|"),
        ("GETDEL m", "$-1|"),
        ("MGET k m n", "*3|$1|w|$-1|$1|x|"),
        ("EXISTS k k m n", ":3|"),
        ("TOUCH k m", ":1|"),
        ("DEL k m n", ":2|"),
        ("MSET a 1 b 2", "+OK|"),
        ("UNLINK a b a", ":2|"),
        ("TYPE a", "+none|"),
        ("SET k v NX XX", "-ERR syntax error|"),
        ("SET k v EX", "-ERR syntax error|"),
        ("SET k v EX 10 PX 10", "-ERR syntax error|"),
        ("SET k v EX 10 KEEPTTL", "-ERR syntax error|"),
        ("SET k v EX 0", "-ERR invalid expire time in 'set' command|"),
        ("SET k v EX x", NOT_INT),
        ("SETEX k 0 v", "-ERR invalid expire time in 'setex' command|"),
        ("GET k", "$-1|"),
    ]);
}

#[test]
fn parts_of_strings_are_read_and_written() {
    Redis::new().asserts(&[
        ("APPEND k Hello", ":5|"),
        ("APPEND k World", ":10|"),
        ("STRLEN k", ":10|"),
        ("STRLEN n", ":0|"),
        ("GETRANGE k 0 4", "$5|Hello|"),
        ("GETRANGE k -5 -1", "$5|World|"),
        ("GETRANGE k 8 100", "$2|ld|"),
        ("GETRANGE k 5 4", "$0||"),
        ("GETRANGE k -1 -5", "$0||"),
        ("GETRANGE k -100 1", "$2|He|"),
        ("SUBSTR n 0 1", "$0||"),
        ("GETRANGE k x 1", NOT_INT),
        ("SETRANGE k 5 XY", ":10|"),
        ("GET k", "$10|HelloXYrld|"),
        ("SETRANGE n 3 x", ":4|"),
        ("GET n", "$4|\0\0\0x|"),
        ("SETRANGE m 3 ''", ":0|"),
        ("EXISTS m", ":0|"),
        ("SETRANGE k -1 x", "-ERR offset is out of range|"),
        ("SETRANGE k 536870911 x", "-ERR string exceeds maximum allowed size (proto-max-bulk-len)|"),
    ]);
}

#[test]
fn numbers_have_64_bits_with_a_sign() {
    Redis::new().asserts(&[
        ("INCR n", ":1|"),
        ("DECRBY n 12", ":-11|"),
        ("GET n", "$3|-11|"),
        ("INCRBY n 20", ":9|"),
        ("GET n", "$1|9|"),
        ("SET n 9223372036854775806", "+OK|"),
        ("INCR n", ":9223372036854775807|"),
        ("INCR n", OVERFLOW),
        ("DECRBY n -9223372036854775808", "-ERR decrement would overflow|"),
        ("INCRBY n -9223372036854775808", ":-1|"),
        ("DECRBY n 9223372036854775807", ":-9223372036854775808|"),
        ("DECR n", OVERFLOW),
        ("INCRBY n 1.5", NOT_INT),
        ("SET n 007", "+OK|"),
        ("INCR n", NOT_INT),
        ("SET n ''", "+OK|"),
        ("INCR n", NOT_INT),
    ]);
}

#[test]
fn times_are_told_in_whole_seconds_and_never_more_than_was_asked_for() {
    Redis::new().asserts(&[
        ("TTL k", ":-2|"),
        ("GETEX k EX 0", "$-1|"),
        ("GETEX k EX abc", "$-1|"),
        ("GETEX k EX", "-ERR syntax error|"),
        ("SET k v", "+OK|"),
        ("TTL k", ":-1|"),
        ("EXPIRETIME k", ":-1|"),
        ("EXPIRE k 100", ":1|"),
        ("TTL k", ":100|"),
        ("PTTL k", ":100000|"),
        ("SET k w KEEPTTL", "+OK|"),
        ("TTL k", ":100|"),
        ("APPEND k x", ":2|"),
        ("TTL k", ":100|"),
        ("EXPIRE k 50 GT", ":0|"),
        ("EXPIRE k 50 LT", ":1|"),
        ("EXPIRE k 60 NX", ":0|"),
        ("EXPIRE k 60 XX GT", ":1|"),
        ("EXPIRE k 60 NX GT", "-ERR NX and XX, GT or LT options at the same time are not compatible|"),
        ("EXPIRE k 60 GT LT", "-ERR GT and LT options at the same time are not compatible|"),
        ("EXPIRE k 60 ABC", "-ERR Unsupported option ABC|"),
        ("EXPIRE k 9223372036854775807", "-ERR invalid expire time in 'expire' command|"),
        ("PERSIST k", ":1|"),
        ("PERSIST k", ":0|"),
        ("EXPIRE k 50 GT", ":0|"),
        ("PEXPIRE k 1500", ":1|"),
        ("TTL k", ":2|"),
        ("EXPIREAT k 4000000000", ":1|"),
        ("EXPIRETIME k", ":4000000000|"),
        ("PEXPIRETIME k", ":4000000000000|"),
        ("GETEX k PXAT 4000000000001", "$2|wx|"),
        ("EXPIRETIME k", ":4000000001|"),
        ("GETEX k EX 0", "-ERR invalid expire time in 'getex' command|"),
        ("GETEX k PERSIST", "$2|wx|"),
        ("TTL k", ":-1|"),
        ("SET k v", "+OK|"),
        ("SETEX k 10 v", "+OK|"),
        ("SET k v", "+OK|"),
        ("TTL k", ":-1|"),
        ("EXPIRE k -1", ":1|"),
        ("EXISTS k", ":0|"),
        ("EXPIRE k 1", ":0|"),
        ("SET k v EXAT 1", "+OK|"),
        ("EXISTS k", ":0|"),
    ]);
}

#[test]
fn msetnx_sets_all_or_none() {
    Redis::new().asserts(&[
        ("MSETNX a 1 b 2 a 3", ":1|"),
        ("MGET a b", "*2|$1|3|$1|2|"),
        ("MSETNX c 1 b 9", ":0|"),
        ("MGET b c", "*2|$1|2|$-1|"),
        ("MSETNX c 1 d 2", ":1|"),
        ("MSETNX c", "-ERR wrong number of arguments for 'msetnx' command|"),
        ("MSETNX e 1 f", "-ERR wrong number of arguments for 'msetnx' command|"),
    ]);
}

#[test]
fn what_is_wrong_is_told_in_rediss_words() {
    Redis::new().asserts(&[
        ("FOO bar baz", "-ERR unknown command 'FOO', with args beginning with: 'bar' 'baz' |"),
        ("a\r\nb", "-ERR unknown command 'a  b', with args beginning with: |"),
        ("GET", "-ERR wrong number of arguments for 'get' command|"),
        ("get a b", "-ERR wrong number of arguments for 'get' command|"),
        ("MSET a", "-ERR wrong number of arguments for 'mset' command|"),
        ("PING a b", "-ERR wrong number of arguments for 'ping' command|"),
        ("CLIENT FOO", "-ERR unknown subcommand 'FOO'. Try CLIENT HELP.|"),
        ("CLIENT NO-EVICT x", "-ERR syntax error|"),
        ("SELECT 1", "-ERR DB index is out of range|"),
        ("SCAN x", "-ERR invalid cursor|"),
        ("SCAN 0 COUNT 0", "-ERR syntax error|"),
        ("HELLO 4", "-NOPROTO unsupported protocol version|"),
        ("FLUSHALL x", "-ERR syntax error|"),
        ("SET '' v", "-ERR key is empty|"),
        ("GET ''", "-ERR key is empty|"),
        ("MGET ''", "*1|$-1|"),
        ("PING", "+PONG|"),
    ]);
    let mut redis = Redis::new();
    let told = "-ERR wrong number of arguments for 'client|setname' command\r\n";
    assert_eq!(redis.ask("CLIENT SETNAME"), told);
    assert_eq!(redis.ask("CLIENT NO-EVICT"), told.replace("setname", "no-evict"));
    let long = "k".repeat(251);
    assert_eq!(redis.ask(&format!("SET {long} v")), "-ERR key is too long, limit is 250 bytes\r\n");
    assert_eq!(redis.ask(&format!("EXISTS {long}")), ":0\r\n");
    assert_eq!(redis.ask(&format!("MSET a 1 {long} 2 b 3")), "-ERR key is too long, limit is 250 bytes\r\n");
    let quoted = format!("FOO {} {}", "x".repeat(100), "y".repeat(100));
    let told = format!(
        "-ERR unknown command 'FOO', with args beginning with: '{}' '{}' \r\n",
        "x".repeat(100),
        "y".repeat(25)
    );
    assert_eq!(redis.ask(&quoted), told);
}

#[test]
fn what_is_no_request_is_answered_and_the_connection_closed() {
    for (bytes, told) in [
        (&b"*1\r\n:1\r\n"[..], "expected '$', got ':'"),
        (b"*x\r\n", "invalid multibulk length"),
        (b"*2147483648\r\n", "invalid multibulk length"),
        (b"*11111111111111111111111111111111111", "invalid multibulk length"),
        (b"*1\r\n$-1\r\n", "invalid bulk length"),
        (b"*1\r\n$536870913\r\n", "invalid bulk length"),
        (b"*2\r\n$3\r\nGET\r\n$1x\r\n", "invalid bulk length"),
        (b"*3\r\n$4\r\nMGET\r\n$1\r\na\r\nGET\r\n", "expected '$', got 'G'"),
        (b"*1\r\n$4\r\nPING\r\nGET a\r\n", "expected '*', got 'G'"),
    ] {
        let mut redis = Redis::new();
        let answer = String::from_utf8(redis.send(bytes)).unwrap();
        let told = format!("-ERR Protocol error: {told}\r\n");
        assert!(answer.ends_with(&told), "{}: {answer}", bytes.escape_ascii());
        assert!(redis.is_closing());
    }
    let mut redis = Redis::new();
    let ping = words("PING");
    let between = [&ping[..], b"\r\n", &ping, b"\n\r\n\n", &ping, b"\r"].concat();
    assert_eq!(redis.send(&between), b"+PONG\r\n+PONG\r\n+PONG\r\n", "an empty line asks for nothing");
    assert_eq!(redis.send(&[b"\n", &ping[..]].concat()), b"+PONG\r\n");
    assert!(redis.send(b"\r*1").ends_with(b"expected '*', got ' '\r\n"));
    assert!(redis.is_closing());
    let mut redis = Redis::new();
    assert_eq!(
        redis.send(b"*0\r\n*-1\r\n*1\r\n$4\r\nPING\r\n"),
        b"+PONG\r\n",
        "no arguments ask for nothing"
    );
    assert_eq!(redis.send(b"*1\r\n$4\r\nQUIT\r\n*1\r\n$4\r\nPING\r\n"), b"+OK\r\n");
    assert!(redis.is_closing());
}

#[test]
fn a_client_chooses_its_version_in_the_middle_of_a_pipeline() {
    let mut redis = Redis::new();
    let pipeline =
        ["GET k", "HELLO 3 SETNAME me", "GET k", "CLIENT GETNAME", "CONFIG GET save", "RESET", "GET k"];
    let answers = redis.send(&pipeline.map(words).concat());
    let hello = "%7|$6|server|$5|redis|$7|version|$6|7.0.15|$5|proto|:3|$2|id|:1|$4|mode|$10|standalone|$4|role|$6|master|$7|modules|*0|";
    let expected = format!("$-1|{hello}_|$2|me|%1|$4|save|$0||+RESET|$-1|");
    assert_eq!(String::from_utf8(answers).unwrap(), expected.replace('|', "\r\n"));
}

#[test]
fn the_server_tells_of_itself() {
    let mut redis = Redis::new();
    redis.asserts(&[
        ("DBSIZE", ":0|"),
        ("MSET a 1 b 2 c 3", "+OK|"),
        ("DBSIZE", ":3|"),
        ("FLUSHALL", "+OK|"),
        ("DBSIZE", ":0|"),
        ("SET a 1", "+OK|"),
        ("DBSIZE", ":1|"),
        ("RANDOMKEY", "$1|a|"),
        ("FLUSHDB ASYNC", "+OK|"),
        ("RANDOMKEY", "$-1|"),
        ("ECHO hello", "$5|hello|"),
        ("PING hello", "$5|hello|"),
        ("SELECT 0", "+OK|"),
        ("AUTH default x", "+OK|"),
        ("CLIENT SETINFO lib-name x", "+OK|"),
        ("CLIENT ID", ":1|"),
        ("CLIENT GETNAME", "$-1|"),
        ("CLIENT NO-EVICT on", "+OK|"),
        ("CONFIG GET append* maxmemory", "*4|$10|appendonly|$2|no|$9|maxmemory|$8|67108864|"),
        ("CONFIG RESETSTAT", "+OK|"),
        ("COMMAND INFO nope", "*1|$-1|"),
        ("COMMAND DOCS nope", "*0|"),
    ]);
    redis.ask("SET a 1");
    let info = redis.ask("INFO");
    for line in ["# Server\r\nredis_version:7.0.15", "\r\nmaxmemory:67108864", "\r\ndb0:keys=1,"] {
        assert!(info.contains(line), "{line} in {info}");
    }
    let section = redis.ask("INFO keyspace");
    assert_eq!(section, "$44\r\n# Keyspace\r\ndb0:keys=1,expires=0,avg_ttl=0\r\n\r\n");
}

#[test]
fn keys_are_listed_in_pages_and_the_rest_of_the_input_waits() {
    let mut redis = Redis::new();
    for number in 0..3000 {
        redis.send(&words(&format!("SET key:{number} v")));
    }
    redis.ask("SET other v");
    let answers =
        redis.send(&["GET other", "KEYS key:*", "GET other", "KEYS nope", "PING"].map(words).concat());
    let text = String::from_utf8(answers).unwrap();
    let text = text.strip_prefix("$1\r\nv\r\n*3000\r\n").unwrap();
    let listed = text.strip_suffix("$1\r\nv\r\n*0\r\n+PONG\r\n").unwrap();
    let mut keys: Vec<&str> = listed.split("\r\n").filter(|line| line.starts_with("key:")).collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), 3000);
    let mut cursor = String::from("0");
    let mut met = 0;
    for _ in 0..3000 {
        let page = redis.ask(&format!("SCAN {cursor} MATCH key:*7 COUNT 100 TYPE string"));
        met += page.split("\r\n").filter(|line| line.starts_with("key:")).count();
        cursor = page.split("\r\n").nth(2).unwrap().into();
        if cursor == "0" {
            break;
        }
    }
    assert_eq!((met, cursor.as_str()), (300, "0"));
}

/// Requests of every shape, with large values among them.
fn stream() -> Vec<u8> {
    let large = value(300_000);
    let inline = value(5000);
    let mut stream = Vec::new();
    for args in [
        vec![&b"SET"[..], b"a", b"1"],
        vec![b"SET", b"large", &large],
        vec![b"SET", b"timed", &large, b"EX", b"100", b"GET"],
        vec![b"TTL", b"timed"],
        vec![b"MSET", b"b", b"2", b"c", &large, b"d", &inline, b"e", b""],
        vec![b"APPEND", b"large", &large],
        vec![b"STRLEN", b"large"],
        vec![b"SETRANGE", b"large", b"10", &large],
        vec![b"MGET", b"a", b"b", b"nope", b"", b"d", b"e"],
        vec![b"SETEX", b"x", b"0", &large],
        vec![b"GETSET", b"a", &large],
        vec![b"GETRANGE", b"a", b"0", b"9"],
        vec![b"FOO", &large, b"x"],
        vec![b"GET", &large],
        vec![b"DEL", b"a", &large, b"b"],
        vec![b"MSETNX", b"m", b"1", b"n", b"2"],
        vec![b"SET", b"huge", &value(5 << 20), b"NX"],
        vec![b"EXISTS", b"huge", b"m", b"n", b"c"],
        vec![b"KEYS", b"*"],
        vec![b"PING"],
    ] {
        stream.extend(request(&args));
    }
    stream
}

#[test]
fn a_stream_means_the_same_however_it_is_cut() {
    let stream = stream();
    let whole = Redis::new().send(&stream);
    assert!(whole.ends_with(b"+PONG\r\n"), "{}", whole[whole.len() - 100..].escape_ascii());
    for piece in [1_usize, 7, 1000, 65_536, 100_003] {
        let mut redis = Redis::new();
        let mut answers = Vec::new();
        // Byte by byte, long values would take their time.
        let (mut at, mut number) = (0, 0);
        while at < stream.len() {
            let len = if piece < 10 && number % 50 == 49 { 40_000 } else { piece };
            let end = stream.len().min(at + len);
            redis.desk.receive(&mut redis.connection, &stream[at..end]);
            answers.append(&mut redis.connection.socket().written);
            (at, number) = (end, number + 1);
        }
        assert_eq!(answers.len(), whole.len(), "in pieces of {piece}");
        assert!(answers == whole, "in pieces of {piece}");
    }
}

#[test]
fn a_long_mget_is_answered_over_many_batches() {
    let mut redis = Redis::new();
    let large = value(100_000);
    redis.send(&request(&[b"SET", &b"large"[..], &large]));
    let keys = 100;
    let mut args = vec![&b"MGET"[..]];
    args.extend((0..keys).map(|at| if at % 3 == 2 { &b"nope"[..] } else { b"large" }));
    let pipeline = [request(&args), words("EXISTS large large nope"), request(&args), words("PING")].concat();
    let answer = redis.send(&pipeline);
    let mut mget = format!("*{keys}\r\n").into_bytes();
    for at in 0..keys {
        mget.extend(if at % 3 == 2 { b"$-1\r\n".to_vec() } else { bulk(&large) });
    }
    assert!(answer == [&mget[..], b":2\r\n", &mget, b"+PONG\r\n"].concat());
}

#[test]
fn a_value_of_just_the_limit_is_stored_and_one_more_byte_is_not() {
    const LIMIT: usize = 1 << 20;
    let mut redis =
        Redis::with(Config { item_bytes_max: LIMIT, memory_bytes_max: 4 << 20, ..Config::default() });
    assert_eq!(redis.send(&request(&[b"SET", &b"k"[..], &value(LIMIT)])), b"+OK\r\n");
    let too_large = b"-ERR string exceeds maximum allowed size (proto-max-bulk-len)\r\n";
    assert_eq!(redis.send(&request(&[b"SET", &b"k"[..], &value(LIMIT + 1), b"XX"])), too_large);
    assert_eq!(
        redis.send(&request(&[b"MSET", &b"a"[..], b"1", b"k", &value(LIMIT + 1), b"b", b"2"])),
        too_large
    );
    assert_eq!(redis.ask("APPEND k x").as_bytes(), too_large);
    assert_eq!(redis.ask("MGET a b"), "*2\r\n$1\r\n1\r\n$-1\r\n", "it stops where it fails");
    assert_eq!(redis.ask("STRLEN k"), format!(":{LIMIT}\r\n"), "the older value stays");
}

#[test]
fn what_belongs_to_a_connection_that_is_lost_is_given_back() {
    let stream = stream();
    let mut redis = Redis::new();
    for cut in (0..60).map(|step| step * stream.len() / 60) {
        redis.send(&stream[..cut]);
        redis.connection = redis.desk.connect();
    }
    redis.ask("FLUSHALL");
    redis.ask("PING");
    assert_eq!((redis.desk.server.receiving.bytes(), redis.desk.server.unfinished.bytes()), (0, 0));
}

#[test]
fn a_large_value_whose_request_does_not_end_is_given_up() {
    let mut redis = Redis::new();
    let whole = request(&[b"SET", &b"k"[..], &value(3 << 20), b"EX", b"100"]);
    assert_eq!(redis.send(&whole[..whole.len() - 1]), b"");
    assert!(redis.connection.begins_to_be_watched());
    redis.connection.close_if_stalled(Crowding::Ample);
    assert_eq!(redis.connection.wish(), Wish::Wait, "its value has just arrived");
    assert!(redis.connection.begins_to_be_watched());
    redis.connection.close_if_stalled(Crowding::Ample);
    assert_eq!(redis.connection.wish(), Wish::Close);
    redis.connection = redis.desk.connect();
    assert_eq!(redis.desk.server.meter.blocks(), 0, "nothing holds it");
    assert_eq!(redis.send(&whole), b"+OK\r\n");
}

#[test]
fn a_request_that_says_it_has_millions_of_arguments_is_served_as_it_comes() {
    let mut redis = Redis::new();
    for name in ["SET", "MGET", "MSET", "FOO", "PING", "MSETNX"] {
        let mut connection = redis.desk.connect();
        let mut begin = format!("*2000000001\r\n${}\r\n{name}\r\n", name.len()).into_bytes();
        for number in 0..5000 {
            begin.extend_from_slice(format!("$8\r\n{number:08}\r\n").as_bytes());
        }
        redis.desk.receive(&mut connection, &begin);
        assert_eq!(connection.wish(), Wish::Wait, "{name}");
        assert!(!connection.is_receiving(), "{name} does not wait for all of it");
    }
    assert_eq!(redis.ask("EXISTS 00000000 00000002 00004998"), ":3\r\n", "MSET has begun");
}

//! Packets as a line for people: logs, tests, tools.
//!
//! Keys are escaped and whole, values only counted.

use core::fmt;

use crate::{Cas, Command, Expiration, OnMiss, Packet, Request, RequestHeader, Response, ResponseHeader};

impl fmt::Display for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} opaque=0x{:x}", self.opcode(), self.opaque)?;
        let (key, value) = self.command.key_and_value();
        key_field(key, f)?;
        match self.command {
            Command::Store { flags, expiration, .. } => {
                write!(f, " flags=0x{flags:x} expiration={expiration} value={}B", value.len())?;
            }
            Command::Concat { .. }
            | Command::SaslAuth { .. }
            | Command::SaslStep { .. }
            | Command::Verbosity { .. } => write!(f, " value={}B", value.len())?,
            Command::Count { delta, on_miss, .. } => {
                write!(f, " delta={delta}")?;
                if let OnMiss::Create { initial, expiration } = on_miss {
                    write!(f, " initial={initial} expiration={expiration}")?;
                }
            }
            Command::Touch { expiration, .. }
            | Command::GetAndTouch { expiration, .. }
            | Command::Flush { at: Some(expiration) } => write!(f, " expiration={expiration}")?,
            _ => {}
        }
        cas_field(self.command.cas(), f)
    }
}

impl fmt::Display for Response<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} opaque=0x{:x} {}", self.opcode, self.opaque, self.status)?;
        key_field(self.key, f)?;
        if let Some(flags) = self.flags() {
            write!(f, " flags=0x{flags:x}")?;
        }
        if self.status.is_ok() && !self.value.is_empty() {
            write!(f, " value={}B", self.value.len())?;
        }
        cas_field(self.cas, f)
    }
}

impl fmt::Display for Packet<'_, RequestHeader> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Request::parse(self) {
            Ok(request) => request.fmt(f),
            Err(reject) => write!(f, "{} opaque=0x{:x} ({reject})", self.header.opcode, self.header.opaque),
        }
    }
}

impl fmt::Display for Packet<'_, ResponseHeader> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Response::parse(self).fmt(f)
    }
}

impl fmt::Display for Expiration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never => write!(f, "never"),
            Self::After(seconds) => write!(f, "{seconds}s"),
            Self::At(seconds) => write!(f, "@{seconds}"),
        }
    }
}

fn key_field(key: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if key.is_empty() { Ok(()) } else { write!(f, " key=\"{}\"", key.escape_ascii()) }
}

fn cas_field(cas: Option<Cas>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match cas {
        Some(cas) => write!(f, " cas={}", cas.get()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        Concat, Direction, FRAME_BODY_BYTES_MAX, Header, Key, KeyEcho, Loudness, Opcode, Split, Status,
        StoreMode, split,
    };

    fn line(loudness: Loudness, command: Command<'_>) -> String {
        Request { opaque: 0xbeef, loudness, command }.to_string()
    }

    #[test]
    fn requests_print_one_line_each() {
        use Loudness::{Loud, Quiet};
        let key = Key::new(b"user:7").unwrap();
        let cas = Cas::from_wire(12);
        let echo = KeyEcho::With;
        let get = Command::Get { key, echo };
        assert_eq!(line(Loud, get), r#"GETK opaque=0xbeef key="user:7""#);
        assert_eq!(line(Quiet, get), r#"GETKQ opaque=0xbeef key="user:7""#);
        let store = Command::Store {
            mode: StoreMode::Add,
            key,
            value: b"secret",
            flags: 0x20,
            expiration: Expiration::After(60),
            cas,
        };
        assert_eq!(
            line(Loud, store),
            r#"ADD opaque=0xbeef key="user:7" flags=0x20 expiration=60s value=6B cas=12"#
        );
        let concat = Command::Concat { side: Concat::Prepend, key, value: b"", cas: None };
        assert_eq!(line(Quiet, concat), r#"PREPENDQ opaque=0xbeef key="user:7" value=0B"#);
        let count =
            |on_miss| Command::Count { direction: Direction::Decrement, key, delta: 3, on_miss, cas: None };
        assert_eq!(line(Loud, count(OnMiss::Fail)), r#"DECREMENT opaque=0xbeef key="user:7" delta=3"#);
        let create = OnMiss::Create { initial: 9, expiration: Expiration::Never };
        assert_eq!(
            line(Loud, count(create)),
            r#"DECREMENT opaque=0xbeef key="user:7" delta=3 initial=9 expiration=never"#
        );
        let expiration = Expiration::At(2_000_000_000);
        assert_eq!(
            line(Loud, Command::Touch { key, expiration }),
            r#"TOUCH opaque=0xbeef key="user:7" expiration=@2000000000"#
        );
        assert_eq!(
            line(Quiet, Command::GetAndTouch { key, echo, expiration }),
            r#"GATKQ opaque=0xbeef key="user:7" expiration=@2000000000"#
        );
        assert_eq!(line(Loud, Command::Delete { key, cas }), r#"DELETE opaque=0xbeef key="user:7" cas=12"#);
        let at = Some(Expiration::After(10));
        assert_eq!(line(Quiet, Command::Flush { at }), "FLUSHQ opaque=0xbeef expiration=10s");
        assert_eq!(line(Loud, Command::Flush { at: None }), "FLUSH opaque=0xbeef");
        assert_eq!(line(Loud, Command::Stat { group: None }), "STAT opaque=0xbeef");
        assert_eq!(line(Loud, Command::Noop), "NOOP opaque=0xbeef");
    }

    #[test]
    fn a_key_is_escaped_and_a_password_only_counted() {
        let mechanism = Key::new(b"PLAIN").unwrap();
        let message = b"\0user\0password";
        assert_eq!(
            line(Loudness::Loud, Command::SaslAuth { mechanism, message }),
            r#"SASL_AUTH opaque=0xbeef key="PLAIN" value=14B"#
        );
        let key = Key::new(b"a \"b\"\r\n\xff").unwrap();
        assert_eq!(
            line(Loudness::Loud, Command::Delete { key, cas: None }),
            r#"DELETE opaque=0xbeef key="a \"b\"\r\n\xff""#
        );
    }

    #[test]
    fn responses_print_one_line_each() {
        let empty = Response::empty(Opcode::SET, Status::OK, 0x1f, Cas::from_wire(12));
        assert_eq!(empty.to_string(), "SET opaque=0x1f OK cas=12");
        let hit = Response {
            opcode: Opcode::GETKQ,
            extras: &[0, 0, 0, 0x20],
            key: b"user:7",
            value: b"secret",
            ..empty
        };
        assert_eq!(hit.to_string(), r#"GETKQ opaque=0x1f OK key="user:7" flags=0x20 value=6B cas=12"#);
        assert_eq!(
            Response::error(Opcode::GET, Status::NOT_FOUND, 0x1f).to_string(),
            "GET opaque=0x1f Not found"
        );
        let unknown = Response::error(Opcode(0xe0), Status::new(0x86), 0);
        assert_eq!(unknown.to_string(), "0xe0 opaque=0x0 status 0x0086");
    }

    #[test]
    fn a_packet_that_is_no_request_prints_why() {
        let mut bytes = [0; 24];
        bytes[0] = 0x80;
        bytes[15] = 7;
        assert_eq!(
            packet_line::<RequestHeader>(&bytes).unwrap(),
            "GET opaque=0x7 (GET does not have the lengths that it must have)"
        );
    }

    fn packet_line<H: Header>(bytes: &[u8]) -> Option<String>
    where
        for<'a> Packet<'a, H>: fmt::Display,
    {
        match split::<H>(bytes, FRAME_BODY_BYTES_MAX) {
            Ok(Split::Whole { packet, .. }) => Some(packet.to_string()),
            _ => None,
        }
    }

    /// Any bytes behind a magic and with a body length that some of them reach.
    fn packets() -> impl Strategy<Value = Vec<u8>> {
        (proptest::collection::vec(any::<u8>(), 24..400), any::<prop::sample::Index>()).prop_map(
            |(mut bytes, body_len)| {
                let body_len = body_len.index(bytes.len()) as u32;
                bytes[8..12].copy_from_slice(&body_len.to_be_bytes());
                bytes[2] = 0;
                bytes
            },
        )
    }

    proptest! {
        #[test]
        fn any_bytes_split_parse_and_print_without_a_panic(mut bytes in packets()) {
            for (magic, line) in [
                (0x80, packet_line::<RequestHeader> as fn(&[u8]) -> _),
                (0x81, packet_line::<ResponseHeader>),
            ] {
                bytes[0] = magic;
                if let Some(line) = line(&bytes) {
                    prop_assert!(line.is_ascii() && !line.contains('\n'), "{}", line);
                }
            }
        }

        #[test]
        fn wild_bytes_split_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = packet_line::<RequestHeader>(&bytes);
            let _ = packet_line::<ResponseHeader>(&bytes);
        }
    }
}

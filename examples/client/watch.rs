//! Waiting for an item to change: memwire's own opcode in the binary protocol, and its own flag of `mg`.
//!
//! ```text
//! > 80 77 0003 04 00 0000  00000007  00000000  0000000000000001  00000bb8 "key"
//! < 81 77 0000 04 00 0000  0000000c  00000000  0000000000000002  00000000 "new value"
//! ```
//!
//! The request has the CAS that is known, 0 for none, and as extras how long to wait, in milliseconds. The answer is that
//! to a GET as soon as the item has another CAS, and one without a CAS when the time is up.
//!
//! ```text
//! > mg key v f c C1 U3000\r\n
//! < VA 9 f0 c2\r\n
//! < new value\r\n
//! ```
//!
//! Here it is `HD` when the time is up, and `EN` where there is still no item.

use std::process::ExitCode;

use wire::header::REQUEST_MAGIC;
use wire::{Command, Key, KeyEcho, Opcode};

use crate::arguments::{Arguments, Speech};
use crate::binary;
use crate::connection::{Connection, Requests};
use crate::failure::{Failure, Unsayable};
use crate::meta;
use crate::output::{self, Answer};
use crate::protocol::{Outcome, Refusal};

/// Not one of memcached's.
pub(crate) const WATCH: Opcode = Opcode(0x77);

/// Prints an item, and each change of it that is seen: of several that come together the last one.
pub(crate) fn watch(arguments: &Arguments, key: Key<'_>, count: Option<u64>) -> Result<ExitCode, Failure> {
    let is_meta = match arguments.protocol {
        Speech::Binary => false,
        Speech::Meta => true,
        other => return Err(Failure::Unsayable(other, Unsayable("watch"))),
    };
    let mut connection = Connection::open(&arguments.server, arguments.timeout, arguments.tell())?;
    // The server may take a sixteenth more.
    let wait_ms = u32::try_from(arguments.timeout.as_millis() / 2).unwrap_or(u32::MAX);
    let (mut known, mut seen) = (0, 0);
    while count.is_none_or(|count| seen < count) {
        let mut requests = Requests::default();
        let append = if is_meta { meta::append_watch } else { append };
        append(&mut requests, key, known, wait_ms);
        connection.send(&requests)?;
        let outcome = if is_meta {
            meta::receive_change(&mut connection, known)?
        } else {
            binary::receive_change(&mut connection)?
        };
        known = match &outcome {
            Outcome::Hit { cas: Some(0), .. } => continue,
            Outcome::Hit { cas, .. } => cas.unwrap_or(0),
            _ => 0,
        };
        seen += 1;
        let code = outcome.exit_code();
        let is_missing = matches!(outcome, Outcome::Refused(Refusal::Status(wire::Status::NOT_FOUND)));
        let answer = Answer::new(&Command::Get { key, echo: KeyEcho::With }, outcome);
        output::print_change(&answer, arguments.json)?;
        if code != 0 && !is_missing {
            return Ok(ExitCode::from(code));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn append(requests: &mut Requests, key: Key<'_>, known: u64, wait_ms: u32) {
    let packet = &mut requests.bytes;
    let name = key.as_bytes();
    let key_len = u16::try_from(name.len()).unwrap_or(u16::MAX);
    packet.extend([REQUEST_MAGIC, WATCH.0]);
    packet.extend(key_len.to_be_bytes());
    packet.extend([4, 0, 0, 0]);
    packet.extend((u32::from(key_len) + 4).to_be_bytes());
    packet.extend([0; 4]);
    packet.extend(known.to_be_bytes());
    packet.extend(wait_ms.to_be_bytes());
    packet.extend(name);
    requests.show(format_args!("watch {}, known CAS {known}, for {wait_ms} ms", output::printable(name)));
}

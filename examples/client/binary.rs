//! The binary protocol, by the crate `wire`.
//!
//! ```text
//! > 80 0c 0003 00 00 0000  00000003  00000000  0000000000000000  "key"
//! < 81 0c 0003 04 00 0000  0000000c  00000000  0000000000000001  00000000 "key" "value"
//! ```
//!
//! A packet begins with 24 bytes: magic, opcode, key length, extras length, data type, status; body length; opaque,
//! which the answer returns; CAS. Then come extras (here the flags), key and value. [`wire::split`] finds a whole packet
//! in what has arrived, [`wire::Response::parse`] takes it apart.
//!
//! Several keys are read with the quiet forms, which answer hits only. A NOOP ends the batch: whatever has no answer by
//! then is a miss.

use bytes::Bytes;
use wire::{
    Cas, Command, FRAME_BODY_BYTES_MAX, Loudness, Opcode, Request, Response, ResponseHeader, Split, Status,
};

use crate::connection::{Connection, Requests};
use crate::failure::{Failure, Unsayable};
use crate::output::printable;
use crate::protocol::{Outcome, Protocol, Refusal, STATISTICS_COUNT_MAX};
use crate::watch::WATCH;

pub(crate) struct Binary;

impl Protocol for Binary {
    fn write(&self, command: &Command<'_>, requests: &mut Requests) -> Result<(), Unsayable> {
        append(&single(*command), requests);
        Ok(())
    }

    fn read(&self, command: &Command<'_>, connection: &mut Connection) -> Result<Outcome, Failure> {
        let request = single(*command);
        if let Command::Stat { .. } = command {
            return read_statistics(&request, connection);
        }
        let response = receive(connection)?;
        response.must_answer(&request)?;
        response.outcome()
    }

    fn write_all(&self, batch: &[Command<'_>], requests: &mut Requests) -> Result<(), Unsayable> {
        if let [command] = batch {
            return self.write(command, requests);
        }
        quiet(batch).for_each(|request| append(&request, requests));
        append(&LAST, requests);
        Ok(())
    }

    fn read_all(&self, batch: &[Command<'_>], connection: &mut Connection) -> Result<Vec<Outcome>, Failure> {
        if let [command] = batch {
            return Ok(vec![self.read(command, connection)?]);
        }
        let requests: Vec<Request<'_>> = quiet(batch).collect();
        let mut outcomes = vec![Outcome::NOT_FOUND; batch.len()];
        loop {
            let response = receive(connection)?;
            let index = response.opaque as usize;
            let Some(request) = requests.get(index) else {
                response.must_answer(&LAST)?;
                return Ok(outcomes);
            };
            response.must_answer(request)?;
            outcomes[index] = response.outcome()?;
        }
    }
}

/// The request that ends a batch.
const LAST: Request<'static> = Request { opaque: u32::MAX, loudness: Loudness::Loud, command: Command::Noop };

fn single(command: Command<'_>) -> Request<'_> {
    Request { opaque: 0, loudness: Loudness::Loud, command }
}

/// The opaque of a request is its place in the batch, which its answer returns.
fn quiet<'a>(batch: &[Command<'a>]) -> impl Iterator<Item = Request<'a>> {
    let request = |(opaque, &command)| Request { opaque, loudness: Loudness::Quiet, command };
    (0..).zip(batch).map(request)
}

fn append(request: &Request<'_>, requests: &mut Requests) {
    request.append_to(&mut requests.bytes);
    requests.show(request);
}

/// Collects statistics up to the packet that has neither name nor value.
fn read_statistics(request: &Request<'_>, connection: &mut Connection) -> Result<Outcome, Failure> {
    let mut statistics = Vec::new();
    loop {
        let response = receive(connection)?;
        response.must_answer(request)?;
        if !response.status.is_ok() {
            return response.outcome();
        }
        if response.key.is_empty() && response.value.is_empty() {
            return Ok(Outcome::Statistics(statistics));
        }
        if statistics.len() == STATISTICS_COUNT_MAX {
            return Err(Failure::Nonsense(format!("over {STATISTICS_COUNT_MAX} statistics")));
        }
        statistics.push((printable(&response.key), printable(&response.value)));
    }
}

/// A response that owns what [`Response`] borrows.
struct OwnedResponse {
    opcode: Opcode,
    status: Status,
    opaque: u32,
    cas: Option<Cas>,
    flags: Option<u32>,
    number: Option<u64>,
    key: Bytes,
    value: Bytes,
}

/// Waits for the next response.
fn receive(connection: &mut Connection) -> Result<OwnedResponse, Failure> {
    loop {
        let split = wire::split::<ResponseHeader>(connection.received(), FRAME_BODY_BYTES_MAX)
            .map_err(|reject| connection.nonsense(reject))?;
        let Split::Whole { packet, rest } = split else {
            connection.receive()?;
            continue;
        };
        connection.show(packet);
        let response = Response::parse(&packet);
        let mut owned = OwnedResponse {
            opcode: response.opcode,
            status: response.status,
            opaque: response.opaque,
            cas: response.cas,
            flags: response.flags(),
            number: response.counter(),
            key: Bytes::copy_from_slice(response.key),
            value: Bytes::new(),
        };
        // The value ends the packet, and is not copied: it may be long.
        let (value_len, packet_len) = (response.value.len(), connection.received().len() - rest.len());
        owned.value = connection.take(packet_len)?.split_off(packet_len - value_len);
        return Ok(owned);
    }
}

/// Waits for the answer to a [watch](crate::watch).
pub(crate) fn receive_change(connection: &mut Connection) -> Result<Outcome, Failure> {
    let response = receive(connection)?;
    if response.opcode != WATCH {
        return Err(Failure::Nonsense(format!("{} for an answer to a watch", response.opcode)));
    }
    Ok(if response.status.is_ok() {
        let cas = Some(Cas::to_wire(response.cas));
        Outcome::Hit { value: response.value, flags: response.flags, cas }
    } else {
        Outcome::Refused(Refusal::Status(response.status))
    })
}

impl OwnedResponse {
    fn must_answer(&self, request: &Request<'_>) -> Result<(), Failure> {
        if (self.opcode, self.opaque) == (request.opcode(), request.opaque) {
            Ok(())
        } else {
            Err(Failure::Nonsense(format!(
                "{} with opaque 0x{:x} for an answer to {request}",
                self.opcode, self.opaque
            )))
        }
    }

    fn outcome(self) -> Result<Outcome, Failure> {
        let (opcode, cas) = (self.opcode, Some(Cas::to_wire(self.cas)));
        let without = |part| Failure::Nonsense(format!("{opcode} without {part}"));
        if !self.status.is_ok() {
            return Ok(Outcome::Refused(Refusal::Status(self.status)));
        }
        Ok(match opcode {
            Opcode::GETK | Opcode::GETKQ | Opcode::GATK | Opcode::GATKQ => {
                let flags = Some(self.flags.ok_or_else(|| without("flags"))?);
                Outcome::Hit { value: self.value, flags, cas }
            }
            Opcode::INCREMENT | Opcode::DECREMENT => {
                Outcome::Number { number: self.number.ok_or_else(|| without("a number"))?.into(), cas }
            }
            Opcode::VERSION => Outcome::Version(printable(&self.value)),
            Opcode::SET | Opcode::ADD | Opcode::REPLACE | Opcode::APPEND | Opcode::PREPEND => {
                Outcome::Stored { cas }
            }
            _ => Outcome::Done,
        })
    }
}

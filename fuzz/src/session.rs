//! A binary session in front of an engine: what it answers, and what it owes.

use memwire::config::{Config, Protocol};
use memwire::storage::log::is_inline;
use wire::{Loudness, Opcode, Packet, Reject, RequestHeader, Response, ResponseHeader, Split, Status, shape};

use crate::connection::{ITEM_BYTES_MAX, NO_MEMORY_BYTES, serve};
use crate::{pieces, receive, stream_and_cuts};

/// Serves the stream of `input` in one piece and cut up.
///
/// # Panics
/// Where the answers differ, are no stream of responses, or are not those that the requests are owed.
pub fn serve_however_cut(input: &[u8]) {
    let (stream, cuts) = stream_and_cuts(input);
    let whole = serve(&[stream], Protocol::Binary);
    let cut_up = serve(&pieces(stream, cuts), Protocol::Binary);
    let [whole, cut_up] = [whole, cut_up].map(|answers| receive::<ResponseHeader>(&[&answers]));
    assert_eq!((whole.left.len(), &whole.reject), (0, &None), "answers are packets");
    let answers = without_statistics(&whole.packets);
    assert_eq!(without_statistics(&cut_up.packets), answers, "cut at {cuts:?}");
    assert!(are_owed(&answers, &debts(stream)), "each loud request is answered once: {answers:02x?}");
}

/// Statistics tell of the clock, the process, and what was swept between two batches. Only their end is the same.
fn without_statistics(packets: &[Vec<u8>]) -> Vec<&[u8]> {
    packets
        .iter()
        .map(Vec::as_slice)
        .filter(|bytes| {
            let response = Response::parse(&crate::only_packet(bytes));
            (response.opcode, response.status) != (Opcode::STAT, Status::OK) || response.key.is_empty()
        })
        .collect()
}

/// What a request is owed.
#[derive(Debug)]
struct Debt {
    opcode: Opcode,
    opaque: u32,
    /// A quiet request may be answered, any other one is.
    loudness: Loudness,
}

/// What the requests of a stream are owed, by the rules of framing, one request after another.
fn debts(mut stream: &[u8]) -> Vec<Debt> {
    let mut debts = Vec::new();
    loop {
        let (packet, missing, rest) = match split_request(stream) {
            Ok(Split::Whole { packet, rest }) => (packet, 0, rest),
            Ok(Split::Body { header, body, missing }) => (Packet::carve(header, body), missing, &[][..]),
            Ok(Split::Head { .. }) => return debts,
            Err(reject) => {
                if reject.answer().is_some() {
                    debts.push(Debt::of_bytes(stream));
                }
                return debts;
            }
        };
        let debt = Debt::of(packet.header);
        match fate(&packet) {
            Fate::Refused(_) if missing > 0 => {
                debts.push(debt.loud());
                return debts;
            }
            Fate::Refused(Ending::Close) => {
                debts.push(debt.loud());
                return debts;
            }
            Fate::Refused(Ending::Stay) => debts.push(debt.loud()),
            Fate::Executed(_) if missing > 0 => return debts,
            Fate::Executed(Ending::Close) => {
                debts.push(debt);
                return debts;
            }
            Fate::Executed(Ending::Stay) => debts.push(debt),
        }
        stream = rest;
    }
}

fn split_request(stream: &[u8]) -> Result<Split<'_, RequestHeader>, Reject> {
    wire::split(stream, wire::FRAME_BODY_BYTES_MAX)
}

/// What becomes of a request, as far as header and key say.
enum Fate {
    /// An error answers it, whether or not its body comes.
    Refused(Ending),
    /// It waits for its body, and is executed.
    Executed(Ending),
}

/// What becomes of the connection.
enum Ending {
    Stay,
    Close,
}

fn fate(packet: &Packet<'_, RequestHeader>) -> Fate {
    match shape::check(packet.header) {
        Err(Reject::UnknownOpcode { .. }) => return Fate::Refused(Ending::Stay),
        Err(_) => return Fate::Refused(Ending::Close),
        Ok(()) => {}
    }
    let (value_len, key_len) = (packet.value_len(), usize::from(packet.header.key_len.get()));
    match packet.header.opcode.0 {
        0x1b | 0x20..=0x22 => Fate::Refused(Ending::Stay),
        0x07 | 0x17 => Fate::Executed(Ending::Close),
        0x01..=0x03 | 0x0e | 0x0f | 0x11..=0x13 | 0x19 | 0x1a if packet.key.len() == key_len => {
            let is_large = !is_inline(key_len, value_len, Config::default().memory_bytes_max);
            if value_len > ITEM_BYTES_MAX || (is_large && value_len % NO_MEMORY_BYTES == 0) {
                Fate::Refused(Ending::Stay)
            } else {
                Fate::Executed(Ending::Stay)
            }
        }
        _ => Fate::Executed(Ending::Stay),
    }
}

impl Debt {
    fn of(header: &RequestHeader) -> Self {
        Self { opcode: header.opcode, opaque: header.opaque.get(), loudness: header.opcode.loudness() }
    }

    /// An error is always sent.
    fn loud(self) -> Self {
        Self { loudness: Loudness::Loud, ..self }
    }

    /// Of a header that the framing has refused, but which is there.
    fn of_bytes(header: &[u8]) -> Self {
        let opaque = header[12..16].first_chunk().expect("four bytes");
        Self { opcode: Opcode(header[1]), opaque: u32::from_be_bytes(*opaque), loudness: Loudness::Loud }
    }

    fn is_paid_by(&self, answer: &[u8]) -> bool {
        let response = Response::parse(&crate::only_packet(answer));
        (response.opcode, response.opaque) == (self.opcode, self.opaque)
    }
}

/// Whether the answers are those of the requests, in order, with none for some of the quiet ones.
fn are_owed(answers: &[&[u8]], debts: &[Debt]) -> bool {
    // How many answers may be taken by the requests so far: two quiet requests with the same mark leave it open which
    // of them was answered.
    let mut taken = vec![false; answers.len() + 1];
    taken[0] = true;
    for debt in debts {
        let mut next = vec![false; taken.len()];
        for at in 0..taken.len() {
            if taken[at] {
                next[at] |= debt.loudness == Loudness::Quiet;
                if answers.get(at).is_some_and(|answer| debt.is_paid_by(answer)) {
                    next[at + 1] = true;
                }
            }
        }
        taken = next;
    }
    taken[answers.len()]
}

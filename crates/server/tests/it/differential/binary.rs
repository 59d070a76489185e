//! The binary protocol, held against memcached's.
//!
//! Answers are compared packet by packet. The one difference that is allowed is the numbering of
//! CAS: each server counts for itself, so the numbers of the two must be a bijection, and a request
//! with a CAS carries to each server that server's own number. `VERSION` is compared by its shape.

mod requests;

use std::collections::VecDeque;
use std::fmt::{self, Write as _};

use self::requests::{Batch, Ending, Generator, Request};
use super::side::{Answers, Behind, End, Side, memcached, memcached_without_cas};
use super::{CasBijection, CasPair, SEED_DEFAULT, is_version, run};
use crate::harness::{Response, Server};

const OPS_DEFAULT: u32 = 20_000;

/// How many requests are kept, to show some of them in a report.
const HISTORY_COUNT: usize = 1000;
/// How many of the last requests a report shows, and how many of the last ones with the same key.
const SHOWN_COUNT: usize = 10;
/// How much of a packet a report shows.
const SHOWN_BYTES: usize = 96;

#[test]
fn memwire_answers_as_memcached_does() {
    let Some(theirs) = memcached() else { return };
    let ours = Server::start(&["-m", "256"]);
    let (seed, ops_count) = run(OPS_DEFAULT);
    if let Err(difference) = compare(&ours, &theirs, seed, ops_count) {
        panic!("seed {seed}: {difference}");
    }
}

/// The canary: if the comparison cannot tell these two apart, it tells nothing.
#[test]
fn a_server_without_cas_is_noticed() {
    let Some(theirs) = memcached() else { return };
    let ours = memcached_without_cas();
    assert!(compare(&ours, &theirs, SEED_DEFAULT, 1000).is_err());
}

/// Where the two servers part.
struct Difference {
    op: u32,
    what: String,
    history: VecDeque<Request>,
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let behind = self.history.partition_point(|request| request.op <= self.op);
        let before: Vec<_> = self.history.range(..behind).collect();
        let key = before.last().map(|request| &request.key);
        let same_key: Vec<_> = before.iter().copied().filter(|request| Some(&request.key) == key).collect();
        writeln!(formatter, "operation {}: {}", self.op, self.what)?;
        writeln!(formatter, "the last requests, with memcached's CAS:")?;
        write_requests(formatter, last(&before))?;
        writeln!(formatter, "behind them in the same batch:")?;
        write_requests(formatter, self.history.range(behind..).take(SHOWN_COUNT))?;
        writeln!(formatter, "the last ones with the same key:")?;
        write_requests(formatter, last(&same_key))
    }
}

fn write_requests<'a>(
    formatter: &mut fmt::Formatter<'_>,
    mut requests: impl Iterator<Item = &'a Request>,
) -> fmt::Result {
    requests.try_for_each(|request| {
        writeln!(formatter, "  {:>6} {}", request.op, hex(&request.packet(|cas| cas.theirs)))
    })
}

fn last<'a>(requests: &[&'a Request]) -> impl Iterator<Item = &'a Request> {
    requests[requests.len().saturating_sub(SHOWN_COUNT)..].iter().copied()
}

fn compare(ours: &Server, theirs: &Server, seed: u64, ops_count: u32) -> Result<(), Difference> {
    let mut pair = Pair::connect(ours, theirs);
    let mut generator = Generator::new(seed);
    let mut history = VecDeque::new();
    while generator.ops_count() < ops_count {
        let batch = generator.batch();
        let outcome = pair.exchange(&batch, &mut generator);
        let ending = batch.ending;
        history.extend(batch.requests);
        history.drain(..history.len().saturating_sub(HISTORY_COUNT));
        if let Err((op, what)) = outcome {
            return Err(Difference { op, what, history });
        }
        if ending == Ending::Close {
            pair.reconnect(ours, theirs);
        }
    }
    Ok(())
}

/// A connection to each server, and what is known of their CAS numbers.
struct Pair {
    ours: Side,
    theirs: Side,
    cas: CasBijection,
}

impl Pair {
    fn connect(ours: &Server, theirs: &Server) -> Self {
        Self { ours: Side::connect(ours), theirs: Side::connect(theirs), cas: CasBijection::default() }
    }

    fn reconnect(&mut self, ours: &Server, theirs: &Server) {
        self.ours = Side::connect(ours);
        self.theirs = Side::connect(theirs);
    }

    /// Sends a batch to both servers and compares what they answer.
    ///
    /// # Errors
    ///
    /// The number of the operation that they answer differently, and how.
    fn exchange(&mut self, batch: &Batch, generator: &mut Generator) -> Result<(), (u32, String)> {
        let ours = ask(&mut self.ours, batch, |cas| cas.ours);
        let theirs = ask(&mut self.theirs, batch, |cas| cas.theirs);
        for index in 0..ours.answers.len().max(theirs.answers.len()) {
            let (our, their) = (ours.answers.get(index), theirs.answers.get(index));
            if !self.same(our, their) {
                let op = [our, their]
                    .into_iter()
                    .flatten()
                    .map(Response::opaque)
                    .min()
                    .expect("one of them is there");
                return Err((op, format!("ours   {}\ntheirs {}", show(our), show(their))));
            }
            if let Some((our, their)) = our.zip(their) {
                generator.saw(our.opaque(), CasPair { ours: our.cas(), theirs: their.cas() }, batch);
            }
        }
        if ours.end == theirs.end && theirs.end == End::from(batch.ending) {
            return Ok(());
        }
        let what = format!("ours {}, theirs {}, expected {}", ours.end, theirs.end, End::from(batch.ending));
        Err((batch.last_op(), what))
    }

    fn same(&mut self, ours: Option<&Response>, theirs: Option<&Response>) -> bool {
        let Some((ours, theirs)) = ours.zip(theirs) else {
            return false;
        };
        if !self.cas.admits(CasPair { ours: ours.cas(), theirs: theirs.cas() }) {
            return false;
        }
        if theirs.opcode() == requests::VERSION && theirs.status() == 0 {
            // The body, and so its length, is each server's own.
            return ours.header[..8] == theirs.header[..8]
                && ours.opaque() == theirs.opaque()
                && is_version(&ours.body)
                && is_version(&theirs.body);
        }
        ours.header[..16] == theirs.header[..16] && ours.body == theirs.body
    }
}

fn ask(side: &mut Side, batch: &Batch, cas_of: fn(CasPair) -> u64) -> Answers<Response> {
    let bytes: Vec<u8> = batch.requests.iter().flat_map(|request| request.packet(cas_of)).collect();
    let is_last = |responses: &[Response]| {
        let last_op = responses.last().map(Response::opaque);
        batch.ending == Ending::Noop && last_op == Some(batch.last_op())
    };
    side.exchange((&bytes, usize::MAX, Behind::Batches), Response::read, is_last)
}

impl From<Ending> for End {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Noop => Self::Open,
            Ending::Close => Self::Closed,
        }
    }
}

fn show(response: Option<&Response>) -> String {
    response
        .map_or_else(|| "nothing".into(), |response| hex(&[&response.header[..], &response.body].concat()))
}

/// The header in groups, then the start of the body.
fn hex(packet: &[u8]) -> String {
    let mut text = String::new();
    for (offset, byte) in packet.iter().take(SHOWN_BYTES).enumerate() {
        let gap = if offset > 0 && offset <= 24 && offset % 4 == 0 { " " } else { "" };
        write!(text, "{gap}{byte:02x}").expect("a String takes everything");
    }
    if packet.len() > SHOWN_BYTES {
        write!(text, "… {} bytes", packet.len()).expect("a String takes everything");
    }
    text
}

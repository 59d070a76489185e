//! One batch to two servers, and their answers side by side, for protocols whose answers do not say what they answer.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::io::{self, BufReader};
use std::net::TcpStream;

use super::CasPair;
use super::side::{Answers, Behind, End, Side};
use crate::harness::{Random, Server};

/// How many requests before a batch are kept for a report.
const HISTORY_COUNT: usize = 2000;
/// How many of them a report shows, and how many answers around a difference.
const SHOWN_COUNT: usize = 8;
/// Writes that a batch is cut into.
const WRITES_MAX: usize = 500;
/// How much of a request or an answer a report shows.
const SHOWN_BYTES: usize = 160;

/// A request as it goes out, but for the CAS.
#[derive(Clone, Debug, Default)]
pub(super) struct Request {
    pub(super) op: u32,
    pub(super) key: Vec<u8>,
    pub(super) bytes: Vec<u8>,
    /// Where in `bytes` a CAS is to be put in decimal, and which.
    pub(super) cas: Option<(usize, CasPair)>,
}

impl Request {
    fn bytes(&self, side: fn(CasPair) -> u64) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        if let Some((at, cas)) = self.cas {
            bytes.splice(at..at, side(cas).to_string().into_bytes());
        }
        bytes
    }
}

/// How a batch ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// With an answer that shows that it was the last.
    Answer,
    /// We send no more, or the last request asks for it: the server closes when it has answered.
    Close,
}

/// Requests that go out in one write to the other server: some of its answers hang on how they were cut up.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) requests: Vec<Request>,
    pub(super) ending: Ending,
    /// Bytes of one write to ours.
    pub(super) write_bytes: usize,
}

impl Batch {
    /// Of these, in one write or cut up.
    pub(super) fn new(requests: Vec<Request>, ending: Ending, random: &mut Random) -> Self {
        let bytes_count: usize = requests.iter().map(|request| request.bytes.len()).sum();
        let write_bytes = *random.pick(&[usize::MAX, usize::MAX, usize::MAX, 1, 3, 50, 1000, 20_000]);
        let write_bytes = if bytes_count / write_bytes > WRITES_MAX { usize::MAX } else { write_bytes };
        Self { requests, ending, write_bytes }
    }
}

/// How answers are read and compared.
pub(super) trait Protocol {
    type Answer: Send;

    /// The next answer, `None` where the connection was closed instead.
    fn read(reader: &mut BufReader<TcpStream>) -> io::Result<Option<Self::Answer>>;

    /// Whether the batch has no more answers behind these.
    fn is_last(answers: &[Self::Answer], batch: &Batch) -> bool;

    /// Whether the answers at `index` say the same.
    fn same(&mut self, index: usize, ours: &Self::Answer, theirs: &Self::Answer, batch: &Batch) -> bool;

    fn show(answer: &Self::Answer) -> Vec<u8>;
}

/// Answers of both servers that say the same.
pub(super) type Agreed<A> = Vec<(A, A)>;

/// Where two servers part.
pub(super) struct Difference {
    what: String,
    requests: Vec<Request>,
    history: VecDeque<Request>,
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let op = self.requests.first().map_or(0, |request| request.op);
        writeln!(formatter, "in the batch that begins with operation {op}: {}", self.what)?;
        writeln!(formatter, "the batch, with the other server's CAS:")?;
        show_requests(formatter, self.requests.iter())?;
        let is_related = |request: &&Request| {
            !request.key.is_empty() && self.requests.iter().any(|other| other.key == request.key)
        };
        writeln!(formatter, "the last requests before it with a key of it:")?;
        let related: Vec<_> = self.history.iter().filter(is_related).collect();
        show_requests(formatter, related[related.len().saturating_sub(SHOWN_COUNT)..].iter().copied())
    }
}

fn show_requests<'a>(
    formatter: &mut fmt::Formatter<'_>,
    mut requests: impl Iterator<Item = &'a Request>,
) -> fmt::Result {
    requests.try_for_each(|request| {
        writeln!(formatter, "  {:>6} {}", request.op, show(&request.bytes(|cas| cas.theirs)))
    })
}

/// A connection to each server.
pub(super) struct Pair<'a, P> {
    ours: &'a Server,
    theirs: &'a Server,
    connections: (Side, Side),
    pub(super) protocol: P,
    history: VecDeque<Request>,
}

impl<'a, P: Protocol> Pair<'a, P> {
    pub(super) fn connect(ours: &'a Server, theirs: &'a Server, protocol: P) -> Self {
        let connections = (Side::connect(ours), Side::connect(theirs));
        Self { ours, theirs, connections, protocol, history: VecDeque::new() }
    }

    /// Sends a batch to both and compares what they answer. What they agree in is handed back in pairs.
    pub(super) fn exchange(&mut self, batch: &Batch) -> Result<Agreed<P::Answer>, Box<Difference>> {
        let (ours, theirs) = &mut self.connections;
        let ours = ask::<P>(ours, batch, batch.write_bytes, |cas| cas.ours);
        let theirs = ask::<P>(theirs, batch, usize::MAX, |cas| cas.theirs);
        let parted = (0..ours.answers.len().max(theirs.answers.len())).find(|&index| {
            let pair = ours.answers.get(index).zip(theirs.answers.get(index));
            pair.is_none_or(|(ours, theirs)| !self.protocol.same(index, ours, theirs, batch))
        });
        let expected = match batch.ending {
            Ending::Answer => End::Open,
            Ending::Close => End::Closed,
        };
        if parted.is_some() || ours.end != theirs.end || theirs.end != expected {
            return Err(Box::new(self.difference(batch, parted, &ours, &theirs)));
        }
        self.history.extend(batch.requests.iter().cloned());
        self.history.drain(..self.history.len().saturating_sub(HISTORY_COUNT));
        if batch.ending == Ending::Close {
            self.connections = (Side::connect(self.ours), Side::connect(self.theirs));
        }
        Ok(ours.answers.into_iter().zip(theirs.answers).collect())
    }

    fn difference(
        &mut self,
        batch: &Batch,
        parted: Option<usize>,
        ours: &Answers<P::Answer>,
        theirs: &Answers<P::Answer>,
    ) -> Difference {
        let mut what = format!("ours {}, theirs {}\n", ours.end, theirs.end);
        let to = parted.unwrap_or(ours.answers.len()) + 3;
        for index in to.saturating_sub(SHOWN_COUNT)..to {
            let [our, their] = [ours, theirs].map(|side| {
                side.answers.get(index).map_or_else(|| "nothing".into(), |answer| show(&P::show(answer)))
            });
            let mark = if Some(index) == parted { "DIFFERS" } else { "" };
            writeln!(what, "  answer {index:>3} ours   {our}\n             theirs {their} {mark}")
                .expect("a String takes everything");
        }
        let (requests, history) = (batch.requests.clone(), std::mem::take(&mut self.history));
        Difference { what, requests, history }
    }
}

fn ask<P: Protocol>(
    side: &mut Side,
    batch: &Batch,
    write_bytes: usize,
    cas_of: fn(CasPair) -> u64,
) -> Answers<P::Answer> {
    let bytes: Vec<u8> = batch.requests.iter().flat_map(|request| request.bytes(cas_of)).collect();
    let behind = if batch.ending == Ending::Close { Behind::Nothing } else { Behind::Batches };
    let is_last = |answers: &[_]| batch.ending == Ending::Answer && P::is_last(answers, batch);
    side.exchange((&bytes, write_bytes, behind), P::read, is_last)
}

/// The beginning and the end, if it is long: options stand at the end of some requests.
fn show(bytes: &[u8]) -> String {
    if bytes.len() <= SHOWN_BYTES {
        return bytes.escape_ascii().to_string();
    }
    let (begin, end) = (&bytes[..SHOWN_BYTES / 2], &bytes[bytes.len() - SHOWN_BYTES / 2..]);
    format!("{}…{}, {} bytes", begin.escape_ascii(), end.escape_ascii(), bytes.len())
}

//! One batch to two servers, and their answers side by side, for protocols whose answers do not say what they answer.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::io::{self, BufReader, Write as _};
use std::net::{Shutdown, TcpStream};
use std::thread;

use super::{CasPair, UNBLOCKED_BYTES_MAX};
use crate::harness::Server;

/// How many requests before a batch are kept for a report.
const HISTORY_COUNT: usize = 2000;
/// How many of them a report shows, and how many answers around a difference.
const SHOWN_COUNT: usize = 8;
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

/// Requests that go out in one write.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) requests: Vec<Request>,
    pub(super) ending: Ending,
}

/// How answers are read and compared.
pub(super) trait Protocol {
    type Answer;

    /// The next answer, `None` where the connection was closed instead.
    fn read(reader: &mut BufReader<TcpStream>) -> io::Result<Option<Self::Answer>>;

    /// Whether the batch has no more answers behind these.
    fn is_last(answers: &[Self::Answer], batch: &Batch) -> bool;

    /// Whether the answers at `index` say the same.
    fn same(&mut self, index: usize, ours: &Self::Answer, theirs: &Self::Answer, batch: &Batch) -> bool;

    fn show(answer: &Self::Answer) -> Vec<u8>;
}

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
    pub(super) fn exchange(&mut self, batch: &Batch) -> Result<Vec<(P::Answer, P::Answer)>, Box<Difference>> {
        let ours = self.connections.0.exchange::<P>(batch, |cas| cas.ours);
        let theirs = self.connections.1.exchange::<P>(batch, |cas| cas.theirs);
        let parted = (0..ours.answers.len().max(theirs.answers.len())).find(|&index| {
            let pair = ours.answers.get(index).zip(theirs.answers.get(index));
            pair.is_none_or(|(ours, theirs)| !self.protocol.same(index, ours, theirs, batch))
        });
        let expected = match batch.ending {
            Ending::Answer => End::Open,
            Ending::Close => End::Closed,
        };
        if parted.is_some() || ours.end != theirs.end || theirs.end != expected {
            return Err(self.difference(batch, parted, &ours, &theirs));
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
    ) -> Box<Difference> {
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
        Box::new(Difference { what, requests, history })
    }
}

/// A connection to one server.
struct Side {
    writer: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Side {
    fn connect(server: &Server) -> Self {
        let writer = server.connect();
        let reader = BufReader::new(writer.try_clone().expect("a socket can be cloned"));
        Self { writer, reader }
    }

    fn exchange<P: Protocol>(&mut self, batch: &Batch, side: fn(CasPair) -> u64) -> Answers<P::Answer> {
        let bytes: Vec<u8> = batch.requests.iter().flat_map(|request| request.bytes(side)).collect();
        let Self { writer, reader } = self;
        let mut send = || {
            // A failed write needs no report: the answers behind it are missing.
            let _ = writer.write_all(&bytes);
            if batch.ending == Ending::Close {
                let _ = writer.shutdown(Shutdown::Write);
            }
        };
        if bytes.len() <= UNBLOCKED_BYTES_MAX {
            send();
            return Answers::read::<P>(reader, batch);
        }
        thread::scope(|scope| {
            scope.spawn(send);
            Answers::read::<P>(reader, batch)
        })
    }
}

/// All that one server sent for a batch.
struct Answers<A> {
    answers: Vec<A>,
    end: End,
}

impl<A> Answers<A> {
    /// Reads up to the batch's last answer, or up to the close.
    fn read<P: Protocol<Answer = A>>(reader: &mut BufReader<TcpStream>, batch: &Batch) -> Self {
        let mut answers = Vec::new();
        loop {
            if batch.ending == Ending::Answer && P::is_last(&answers, batch) {
                return Self { answers, end: End::Open };
            }
            match P::read(reader) {
                Ok(Some(answer)) => answers.push(answer),
                Ok(None) => return Self { answers, end: End::Closed },
                Err(error) => return Self { answers, end: End::Failed(error.kind()) },
            }
        }
    }
}

/// How a connection stands after a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Open,
    Closed,
    Failed(io::ErrorKind),
}

impl fmt::Display for End {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open => formatter.write_str("open"),
            Self::Closed => formatter.write_str("closed"),
            Self::Failed(kind) => write!(formatter, "failed: {kind}"),
        }
    }
}

/// The beginning and the end, if it is long: options stand at the end of some requests.
fn show(bytes: &[u8]) -> String {
    if bytes.len() <= SHOWN_BYTES {
        return bytes.escape_ascii().to_string();
    }
    let (begin, end) = (&bytes[..SHOWN_BYTES / 2], &bytes[bytes.len() - SHOWN_BYTES / 2..]);
    format!("{}…{}, {} bytes", begin.escape_ascii(), end.escape_ascii(), bytes.len())
}

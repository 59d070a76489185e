//! A server of one connection that speaks Redis's protocol: the server's own connection over a transport without a
//! socket, in front of an engine, looped as an event loop loops it.
//!
//! Whatever arrives, however it is cut: the answers are well formed, there is one for each request, and they are the
//! same.

use std::io::{self, IoSlice};
use std::sync::Arc;

use memwire::clock::Clock;
use memwire::config::Config;
use memwire::message::{Batch, ConnId};
use memwire::net::connection::{Connection, Traffic};
use memwire::net::socket::Transport;
use memwire::server::Server;
use memwire::session::Output;
use memwire::storage::Engine;

use crate::{pieces, stream_and_cuts};

/// Longer values are refused.
const ITEM_BYTES_MAX: usize = 16 << 10;
const NOW: u32 = 1_700_000_000;
/// What makes the connection one of this protocol.
const GREETING: &[u8] = b"*1\r\n$4\r\nPING\r\n";
const GREETED: &[u8] = b"+PONG\r\n";
/// The longest line that tells a number, its mark and end not included.
const NUMBER_BYTES_MAX: usize = 31;

/// Serves the stream of `input` in one piece and cut up.
///
/// # Panics
/// Where the answers differ, are malformed, or are not as many as there are requests.
pub fn serve_however_cut(input: &[u8]) {
    let (stream, cuts) = stream_and_cuts(input);
    let whole = serve(&[stream]);
    let cut_up = serve(&pieces(stream, cuts));
    let answers = [&whole, &cut_up].map(|bytes| count_answers(bytes));
    let asked = count_requests(stream);
    for count in answers {
        // One that is not whole may be refused, and then turn out to be none.
        assert!((asked..=asked + 2).contains(&count), "{count} answers to {asked} requests");
    }
    if !is_about_time_or_chance(stream) {
        assert!(whole == cut_up, "cut at {cuts:?}: {} and {}", whole.escape_ascii(), cut_up.escape_ascii());
    }
}

/// Figures tell of the process, and of what was swept between two batches.
fn is_about_time_or_chance(stream: &[u8]) -> bool {
    let stream = stream.to_ascii_lowercase();
    [&b"info"[..], b"randomkey", b"dbsize"]
        .iter()
        .any(|word| stream.windows(word.len()).any(|at| at == *word))
}

/// All answers to a stream that arrives in these pieces.
fn serve(pieces: &[&[u8]]) -> Vec<u8> {
    let config = Config { item_bytes_max: ITEM_BYTES_MAX, ..Config::default() };
    let server = Server::new(config, Clock::start(), 7);
    let mut engine = Engine::new(server.config.engine(), Arc::clone(&server.meter)).expect("address space");
    let mut connection = Connection::new(Wire::default(), &server.meter);
    let (mut batch, mut output, mut traffic) = (Batch::default(), Output::default(), Traffic::default());
    let id = ConnId { slot: 0, generation: 0 };
    for piece in std::iter::once(&GREETING).chain(pieces) {
        connection.socket().arrive(piece);
        connection.set_readable();
        while connection.wants_turn() {
            connection.take_turn(id, &mut batch, &server, &mut traffic);
            engine.execute(&mut batch, NOW);
            for run in &batch.runs {
                assert!(run.executed > 0, "a run by itself gets on");
                connection.take_answers(run, &batch, &server, &mut output, &mut traffic);
            }
            batch.recycle();
            // As the event loop asks it after every change.
            let _ = connection.wish();
        }
    }
    engine.verify().expect("log, index and figures tell the same story");
    let mut answers = std::mem::take(&mut connection.socket().written);
    assert!(answers.starts_with(GREETED));
    answers.split_off(GREETED.len())
}

/// What has arrived and is not read, and what was written.
#[derive(Debug, Default)]
struct Wire {
    arrived: Vec<u8>,
    read: usize,
    written: Vec<u8>,
}

impl Wire {
    fn arrive(&mut self, piece: &[u8]) {
        let is_lost = cfg!(feature = "canary") && piece.first() == Some(&b'\n');
        self.arrived.extend_from_slice(if is_lost { &piece[1..] } else { piece });
    }
}

impl Transport for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = &self.arrived[self.read..];
        let len = rest.len().min(buffer.len());
        if len == 0 && !buffer.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        buffer[..len].copy_from_slice(&rest[..len]);
        self.read += len;
        Ok(len)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let before = self.written.len();
        for slice in slices {
            self.written.extend_from_slice(slice);
        }
        Ok(self.written.len() - before)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Requests that are whole, up to one that ends the connection.
fn count_requests(mut stream: &[u8]) -> usize {
    let mut count = 0;
    while let Some((args, rest)) =
        number(behind_empty_lines(stream), b'*').and_then(|(args, rest)| Some((i32::try_from(args).ok()?, rest)))
    {
        stream = rest;
        let mut name = None;
        for _ in 0..args {
            let Some((len, rest)) = number(stream, b'$') else { return count };
            let Some((arg, rest)) = usize::try_from(len)
                .ok()
                .filter(|len| *len <= 512 << 20)
                .and_then(|len| rest.split_at_checked(len))
            else {
                return count;
            };
            let Some(rest) = rest.get(2..) else { return count };
            name.get_or_insert(arg);
            stream = rest;
        }
        count += usize::from(name.is_some());
        if name.is_some_and(|name| name.eq_ignore_ascii_case(b"quit")) {
            break;
        }
    }
    count
}

/// Clients may send them between requests.
fn behind_empty_lines(mut stream: &[u8]) -> &[u8] {
    while let Some(rest) = stream.strip_prefix(b"\n").or_else(|| stream.strip_prefix(b"\r\n")) {
        stream = rest;
    }
    stream
}

/// The number in the line at the front, and what is behind it.
fn number(stream: &[u8], mark: u8) -> Option<(i64, &[u8])> {
    let (_, line) = stream.split_first().filter(|(first, _)| **first == mark)?;
    let end = line.iter().position(|byte| *byte == b'\r').filter(|end| *end <= NUMBER_BYTES_MAX)?;
    let digits = std::str::from_utf8(&line[..end]).ok()?;
    let number: i64 = digits.parse().ok()?;
    (number.to_string() == digits).then_some(())?;
    Some((number, line.get(end + 2..)?))
}

/// How many answers there are. The last one may lack some of its parts, where its request lacks some of its keys.
///
/// # Panics
/// Where they are malformed.
fn count_answers(mut answers: &[u8]) -> usize {
    let mut count = 0;
    while let Some(behind) = behind_answer(answers) {
        answers = behind;
        count += 1;
    }
    assert!(answers.is_empty() || answers.starts_with(b"*"), "half an answer: {}", answers.escape_ascii());
    count
}

fn behind_answer(answers: &[u8]) -> Option<&[u8]> {
    let first = answers.first()?;
    let end = answers.windows(2).position(|at| at == b"\r\n").expect("an answer has a line");
    let (line, rest) = (&answers[1..end], &answers[end + 2..]);
    assert!(!line.contains(&b'\n'), "a line has one end");
    let number = || std::str::from_utf8(line).expect("digits").parse::<i64>().expect("a number");
    let parts = match first {
        b'+' | b'-' => 0,
        b':' => {
            number();
            0
        }
        b'_' if line.is_empty() => 0,
        b'$' | b'=' | b'*' if number() == -1 => 0,
        b'$' | b'=' => {
            let len = usize::try_from(number()).expect("a length");
            assert_eq!(&rest[len..len + 2], b"\r\n");
            return Some(&rest[len + 2..]);
        }
        b'*' | b'~' => number(),
        b'%' => number() * 2,
        other => panic!("no answer begins with {other:#x}"),
    };
    (0..parts).try_fold(rest, |rest, _| behind_answer(rest))
}

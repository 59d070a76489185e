//! An HTTP connection in front of an engine: what it answers.
//!
//! There is one thread, and time passes when nobody has anything to do: whoever waits for minutes does so at once.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Receiver;
use memwire::admin;
use memwire::clock::Clock;
use memwire::config::Config;
use memwire::figures::{Group, StorageStats};
use memwire::hop::{Bell, Request, Storage};
use memwire::message::{Batch, Command, ConnId, KeyHash, Op, Reply, Run, Span, Tag};
use memwire::server::Server;
use memwire::storage::Engine;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, split};
use tokio::runtime;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::connection::ITEM_BYTES_MAX;
use crate::{pieces, stream_and_cuts};

const NOW: u32 = 1_700_000_000;
/// What is on its way in either direction.
const SOCKET_BYTES: usize = 4096;
/// Nothing that is served but values is that long: the page, the figures.
const PAGE_BYTES_MAX: usize = 64 << 10;
/// More than any connection lasts on which nothing more is sent.
const FOREVER: Duration = Duration::from_hours(24 * 365);

/// Serves the stream of `input` in one piece and cut up.
///
/// # Panics
/// Where the answers differ, or are no whole answers.
pub fn serve_however_cut(input: &[u8]) {
    let (stream, cuts) = stream_and_cuts(input);
    let whole = serve(vec![stream.to_vec()]);
    let cut_up = serve(pieces(stream, cuts).into_iter().map(<[u8]>::to_vec).collect());
    // The head of a request is a line and an empty one, at the least; one that is not read whole is answered, too.
    let answers_max = stream.iter().filter(|byte| **byte == b'\n').count() / 2 + 1;
    let [whole, cut_up] = [whole, cut_up].map(|bytes| {
        assert!(bytes.len() <= answers_max * (PAGE_BYTES_MAX + ITEM_BYTES_MAX), "{} bytes", bytes.len());
        let mut answers = answers(&bytes).unwrap_or_else(|| panic!("no answers: {}", bytes.escape_ascii()));
        let count = answers.iter().filter(|answer| answer.status != CONTINUE).count();
        assert!(count <= answers_max, "{count} answers, at most {answers_max} requests");
        if let Some(last) = answers.last_mut() {
            last.forget_refusal();
        }
        answers
    });
    // Where nobody wanted the body of a request, the connection goes on if all of it is there, and ends if it is not.
    let both = whole.len().min(cut_up.len());
    assert_eq!(cut_up[..both], whole[..both], "cut at {cuts:?}");
}

/// An answer, without what tells of the clock and the process.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: u16,
    fields: Vec<Vec<u8>>,
    body: Vec<u8>,
}

/// What stands in the figures for the page alone.
const LIVE: &[u8] = b"\"resident_bytes\"";
/// A client who sends a body is told to, and nothing else.
const CONTINUE: u16 = 100;
const NOT_MODIFIED: u16 = 304;

/// The answers in `bytes`, if they are answers from the first to the last byte. One to HEAD has no body, and not every one
/// says whether it is.
fn answers(bytes: &[u8]) -> Option<Vec<Answer>> {
    let mut answers = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (answer, behind) = Answer::read(rest)?;
        answers.push(answer);
        rest = behind;
    }
    Some(answers)
}

impl Answer {
    /// What is no request ends the connection, but whether it is known for malformed, or waited for in vain, depends on how
    /// much of it was there at first: `hyper` looks at a head that comes in pieces once it is whole.
    fn forget_refusal(&mut self) {
        if matches!(self.status, 400 | 408) && self.body.is_empty() {
            (self.status, self.fields) = (408, Vec::new());
        }
    }

    /// The answer at the front, and what is behind it.
    fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
        let (head, behind) = (&bytes[..end], &bytes[end + 4..]);
        let mut lines = head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
        let status = lines.next()?;
        let version = status.strip_prefix(b"HTTP/1.1 ").or_else(|| status.strip_prefix(b"HTTP/1.0 "))?;
        let status: u16 = str::from_utf8(version.get(..3)?).ok()?.parse().ok()?;
        let mut fields: Vec<_> = lines.map(<[u8]>::to_vec).collect();
        assert!(fields.iter().all(|field| field.contains(&b':')), "{}", head.escape_ascii());
        let is = |field: &[u8], name: &[u8]| {
            field.get(..name.len()).is_some_and(|front| front.eq_ignore_ascii_case(name))
        };
        let len_of = |field: &Vec<u8>| {
            is(field, b"content-length: ").then(|| str::from_utf8(&field[16..]).ok()?.parse::<usize>().ok())
        };
        let len = match (status, fields.iter().find_map(len_of)) {
            (CONTINUE | NOT_MODIFIED, _) => 0,
            (204, None) => 0,
            (_, len) => len.expect("every answer has a length").expect("it is a number"),
        };
        let begins_another = |rest: &[u8]| rest.is_empty() || rest.starts_with(b"HTTP/1.");
        let body_len = match behind.get(len..) {
            Some(rest) if begins_another(rest) => len,
            _ if begins_another(behind) => 0,
            _ => return None,
        };
        let (body, rest) = behind.split_at(body_len);
        let is_json = fields.iter().any(|field| is(field, b"content-type: application/json"));
        let is_live = fields.iter().any(|field| is(field, b"content-type: text/plain; version="))
            || body.windows(LIVE.len()).any(|part| part == LIVE);
        if (400..600).contains(&status) && !body.is_empty() {
            let told = format!("\"status\":{status}");
            assert!(body.windows(told.len()).any(|part| part == told.as_bytes()), "{}", body.escape_ascii());
        }
        // Nor does the length of what HEAD asks for tell the same each time.
        let is_same = |field: &[u8]| !((is_json || is_live) && is(field, b"content-length:"));
        fields.retain(|field| !is(field, b"date:") && is_same(field));
        let body = if is_live { Vec::new() } else { body.to_vec() };
        Some((Self { status, fields, body }, rest))
    }
}

/// All answers to a stream that arrives in these pieces, and behind which nothing comes.
fn serve(pieces: Vec<Vec<u8>>) -> Vec<u8> {
    let runtime = runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(async {
        let config = Config { item_bytes_max: ITEM_BYTES_MAX, ..Config::default() };
        let server = Arc::new(Server::new(config, Clock::start(), 7));
        let engine = Engine::new(server.config.engine(), Arc::clone(&server.meter)).expect("address space");
        let (room, storage) = Room::around(engine);
        let (ours, theirs) = tokio::io::duplex(SOCKET_BYTES);
        let connection = async {
            tokio::join!(admin::converse(theirs, server, storage), client(ours, pieces)).1
        };
        let answers = tokio::select! {
            () = room.execute() => unreachable!("it goes on for ever"),
            answers = timeout(FOREVER, connection) => answers.expect("every connection ends"),
        };
        room.execute_all();
        room.engine.borrow().verify().expect("all parts tell the same story");
        assert_eq!(room.watcher_count(), 0, "who has gone waits for nothing");
        answers
    })
}

/// Sends, and reads everything up to the end.
async fn client(socket: DuplexStream, pieces: Vec<Vec<u8>>) -> Vec<u8> {
    let (mut reader, mut writer) = split(socket);
    let mut answers = Vec::new();
    let writing = async {
        for piece in &pieces {
            // The canary loses a byte here and there.
            let lost = usize::from(cfg!(feature = "canary") && pieces.len() > 1 && piece.len() % 7 == 3);
            if writer.write_all(&piece[..piece.len() - lost]).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    let (_, read) = tokio::join!(writing, reader.read_to_end(&mut answers));
    read.expect("a connection ends in order");
    answers
}

/// The storage thread, as a task.
struct Room {
    engine: RefCell<Engine>,
    inbox: Receiver<Request>,
    bell: Arc<Bell>,
    rung: Arc<Notify>,
}

impl Room {
    /// One around an engine, and the way to it.
    fn around(engine: Engine) -> (Self, Storage) {
        let (sender, inbox) = crossbeam_channel::unbounded();
        let rung = Arc::new(Notify::new());
        let ringing = Arc::clone(&rung);
        let bell = Arc::new(Bell::new(move || ringing.notify_one()));
        let storage = Storage::new(sender, Arc::clone(&bell));
        (Self { engine: RefCell::new(engine), inbox, bell, rung }, storage)
    }

    /// Executes what is asked, for ever.
    async fn execute(&self) {
        loop {
            self.bell.expect_ring();
            self.execute_all();
            self.rung.notified().await;
        }
    }

    fn execute_all(&self) {
        let engine = &mut *self.engine.borrow_mut();
        while let Ok(Request::Execute { mut batch, home }) = self.inbox.try_recv() {
            engine.set_asking(home);
            engine.execute(&mut batch, NOW);
            if let Some(home) = engine.take_asking() {
                home.answer(batch);
            }
            for watcher in engine.take_woken(usize::MAX) {
                watcher.home.expect("whoever waits has one").wake(watcher.conn);
            }
        }
    }

    fn watcher_count(&self) -> usize {
        let mut batch = Batch::default();
        let (key, tag, hash) = (Span::default(), Tag(0), KeyHash(0));
        batch.ops.push(Op { command: Command::Stats(Group::General), key, hash, starts_at: 0, tag });
        let conn = ConnId { slot: 0, generation: 0 };
        batch.runs.push(Run { conn, first_op: 0, op_count: 1, input: key, executed: 0 });
        self.engine.borrow_mut().execute(&mut batch, NOW);
        match batch.replies.first() {
            Some(Reply::Stats(stats)) => match &**stats {
                StorageStats::Figures(figures) => figures.watcher_count,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }
}

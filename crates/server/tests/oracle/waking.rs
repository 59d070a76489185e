//! Thousands wait for one item: whoever writes it is answered first, and requests for other items come in between.
//!
//! A front end's bell stops the storage thread here where it has just been answered, so that it can be seen what was told by
//! then.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use memwire::clock::Clock;
use memwire::config::Config;
use memwire::hop::{Bell, Home, Storage};
use memwire::limits::{WAKES_PER_TURN, WATCHERS_PER_KEY_MAX};
use memwire::message::{Batch, Command, ConnId, KeyHash, Op, Payload, Reply, Run, Span, Tag, Watched};
use memwire::server::Server;
use memwire::storage::{self, Engine};
use wire::{Expiration, StoreMode};

/// A thread that does not answer fails its test.
const PATIENCE: Duration = Duration::from_secs(20);

/// A front end with one batch on its way at a time.
struct Front {
    home: Arc<Home>,
    bell: Arc<Bell>,
    answers: Receiver<Box<Batch>>,
    changes: Receiver<ConnId>,
    /// Lets the storage thread go on that has rung.
    release: Sender<()>,
}

impl Front {
    fn new() -> Self {
        let (release, released) = bounded(0);
        let bell = Arc::new(Bell::new(move || released.recv_timeout(PATIENCE).expect("the test goes on")));
        let (answer, answers) = bounded(1);
        let (change, changes) = unbounded();
        let home = Arc::new(Home::new(answer, Arc::clone(&bell)).with_changes(change));
        Self { home, bell, answers, changes, release }
    }

    fn ask(&self, storage: &Storage, batch: Box<Batch>) {
        storage.execute(batch, &self.home);
    }

    fn answer(&self) -> Box<Batch> {
        self.answers.recv_timeout(PATIENCE).expect("an answer comes")
    }

    /// Goes to sleep: its next answer rings.
    fn sleep(&self) {
        self.bell.expect_ring();
    }

    fn wake(&self) {
        self.release.send_timeout((), PATIENCE).expect("the storage thread has rung");
    }
}

/// One command of each of so many connections.
fn batch(key: &str, command: impl Fn(&mut Batch) -> Command, conns: u32) -> Box<Batch> {
    let mut batch = Box::<Batch>::default();
    batch.input.extend(key.as_bytes());
    let span = Span::new(0, key.len());
    let hash = KeyHash(key.len() as u32);
    for slot in 0..conns {
        let command = command(&mut batch);
        batch.ops.push(Op { command, key: span, hash, starts_at: 0, tag: Tag(0) });
        let conn = ConnId { slot, generation: 0 };
        batch.runs.push(Run { conn, first_op: slot, op_count: 1, input: span, executed: 0 });
    }
    batch
}

fn set(batch: &mut Batch) -> Command {
    let value = Payload::Inline(Span::new(0, batch.input.len()));
    Command::Store { mode: StoreMode::Set, flags: 0, expiration: Expiration::Never, cas: None, value }
}

#[test]
fn the_writer_is_answered_before_anybody_is_told_and_others_are_not_kept_waiting() {
    let server = Server::new(Config::default(), Clock::start(), 7);
    let engine = Engine::new(server.config.engine(), Arc::clone(&server.meter)).unwrap();
    let thread = storage::spawn(engine, server.clock).unwrap();
    let storage = thread.storage();
    let (waiters, writer, reader) = (Front::new(), Front::new(), Front::new());
    let count = WATCHERS_PER_KEY_MAX;
    assert!(count > 2 * WAKES_PER_TURN);

    writer.ask(&storage, batch("other", set, 1));
    assert!(matches!(writer.answer().replies[..], [Reply::Stored { .. }]));
    let watch = |_: &mut Batch| Command::Watch { known: 0, wait_ms: 1000, told: Watched::Item };
    waiters.ask(&storage, batch("key", watch, count as u32));
    assert!(waiters.answer().replies.iter().all(|reply| matches!(reply, Reply::Waiting)));

    writer.sleep();
    writer.ask(&storage, batch("key", set, 1));
    assert!(matches!(writer.answer().replies[..], [Reply::Stored { .. }]));
    assert_eq!(waiters.changes.len(), 0, "the writer waits for nobody to be told");
    reader.sleep();
    reader.ask(&storage, batch("other", |_| Command::Get, 1));
    writer.wake();
    assert!(matches!(reader.answer().replies[..], [Reply::Hit { .. }]));
    assert_eq!(waiters.changes.len(), WAKES_PER_TURN, "another item's request comes in between");
    reader.wake();
    let mut told: Vec<_> =
        (0..count).map(|_| waiters.changes.recv_timeout(PATIENCE).expect("all are told").slot).collect();
    told.sort_unstable();
    assert!(told.into_iter().eq(0..count as u32), "each once");
    thread.join();
    assert_eq!(waiters.changes.len(), 0);
}

#[test]
fn a_write_to_another_item_tells_nobody() {
    let server = Server::new(Config::default(), Clock::start(), 7);
    let mut engine = Engine::new(server.config.engine(), Arc::clone(&server.meter)).unwrap();
    let watch = |_: &mut Batch| Command::Watch { known: 0, wait_ms: 1000, told: Watched::Item };
    engine.execute(&mut batch("key", watch, 1000), 1000);
    for command in [set as fn(&mut Batch) -> Command, |_| Command::Get, |_| Command::Delete { cas: None }] {
        engine.execute(&mut batch("other", command, 1), 1000);
        assert!(!engine.has_woken());
    }
    engine.execute(&mut batch("key", set, 1), 1000);
    assert_eq!(engine.take_woken(usize::MAX).count(), 1000);
}

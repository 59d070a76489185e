//! The storage thread: everything that is stored, and the only thread that touches it.
//!
//! | module | what it knows |
//! | --- | --- |
//! | [`engine`] | executes batches: the way in |
//! | `commands` | what each command does to which item |
//! | `meta` | what the meta commands do besides |
//! | `strings` | the same for Redis's commands |
//! | `items` | finding, writing and ending items |
//! | [`counter`] | decimal numbers in values |
//! | `memory` | keeping the limit: making room for a write |
//! | `eviction` | what goes and what stays: S3-FIFO, and cleaning |
//! | [`ghost`] | what went lately |
//! | [`expiry`] | when items end, and what a flush ends |
//! | [`scan`] | walking over all items |
//! | [`snapshot`] | all items as packets, piece by piece; a restart |
//! | `sweep` | taking out what has ended, before anyone asks |
//! | [`log`] | segments of records: appending, ending, two queues by age |
//! | [`log::record`] | an item as a packet, byte by byte |
//! | `log::pages` | the memory under them, and lending it |
//! | [`block`] | large values in mappings of their own |
//! | [`index`] | from a key's hash to its record |
//! | [`watch`] | who waits for an item to change |
//! | `prefetch` | asking for memory before it is needed |
//! | `verify` | whether all of it fits together |
//! | [`detail`] | figures by key prefix |
//!
//! [`Engine::execute`] is pure: batch and time go in, answers come out, and no socket, clock or thread is near. The
//! loop around it is `Worker::run`. It never parses, logs or waits for anything but its queue.

pub mod block;
mod commands;
pub mod counter;
pub mod detail;
pub mod engine;
mod eviction;
pub mod expiry;
pub mod ghost;
pub mod index;
mod items;
pub mod log;
mod memory;
mod meta;
mod prefetch;
pub mod scan;
pub mod snapshot;
mod strings;
mod sweep;
mod verify;
pub mod watch;

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TryRecvError};

pub use engine::{Engine, EngineConfig};

use crate::clock::Clock;
use crate::hop::{Bell, Request, Storage};
use crate::limits::WAKES_PER_TURN;
use crate::message::Batch;
use crate::patience::Patience;

/// The running storage thread.
#[derive(Debug)]
pub struct Thread {
    storage: Storage,
    join: JoinHandle<()>,
}

/// Starts the storage thread.
///
/// # Errors
/// Where the system gives no thread.
pub fn spawn(engine: Engine, clock: Clock) -> std::io::Result<Thread> {
    let (tell_bell, told_bell) = crossbeam_channel::bounded::<Arc<Bell>>(1);
    let (requests, worker) = Worker::new(engine, clock);
    let join = spawn_thread(move || {
        if let Ok(bell) = told_bell.recv() {
            worker.run(&bell, &mut Patience::default(), || thread::park_timeout(SWEEP_EVERY));
        }
    })?;
    let sleeper = join.thread().clone();
    let bell = Arc::new(Bell::new(move || sleeper.unpark()));
    // The thread waits for exactly this message.
    let _ = tell_bell.send(Arc::clone(&bell));
    Ok(Thread { storage: Storage::new(requests, bell), join })
}

/// Starts the storage thread as one that has other work between batches: `serve` makes it, from the worker and the way to
/// it. Who sends something rings `bell`.
///
/// # Errors
/// Where the system gives no thread.
pub fn spawn_serving<Serve: FnOnce() + Send + 'static>(
    engine: Engine,
    clock: Clock,
    bell: Arc<Bell>,
    serve: impl FnOnce(Worker, Storage) -> Serve,
) -> std::io::Result<Thread> {
    let (requests, worker) = Worker::new(engine, clock);
    let storage = Storage::new(requests, bell);
    let join = spawn_thread(serve(worker, storage.clone()))?;
    Ok(Thread { storage, join })
}

fn spawn_thread(run: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    thread::Builder::new().name("storage".into()).spawn(run)
}

impl Thread {
    /// A way to it, for a front end.
    #[must_use]
    pub fn storage(&self) -> Storage {
        self.storage.clone()
    }

    /// Ends it, when everything that its front ends have sent is done.
    pub fn join(self) {
        self.storage.end();
        if self.join.join().is_err() {
            ::log::error!("the storage thread panicked");
        }
    }
}

/// How often the storage thread looks for expired items when nobody asks for anything.
pub(crate) const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// The work of the storage thread.
#[derive(Debug)]
pub struct Worker {
    engine: Engine,
    inbox: Receiver<Request>,
    clock: Clock,
}

/// What has come of a look at the requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    Done,
    None,
    /// There will be none any more.
    Over,
}

impl Worker {
    fn new(engine: Engine, clock: Clock) -> (Sender<Request>, Self) {
        let (requests, inbox) = crossbeam_channel::unbounded();
        (requests, Self { engine, inbox, clock })
    }

    /// Executes batches until it is told to end. Between them it waits for work, and then for `bell`, by `sleep`.
    pub(crate) fn run(mut self, bell: &Bell, patience: &mut Patience, mut sleep: impl FnMut()) {
        loop {
            match self.work(|batch| patience.note(batch)) {
                Work::Done => {}
                Work::Over => return,
                Work::None => {
                    if !self.maintain() && !patience.wait(|| self.has_work()) {
                        bell.sleep_unless(|| self.has_work(), &mut sleep);
                    }
                }
            }
        }
    }

    /// Executes the batches that are there, for somebody who has other work, too.
    pub fn execute_queued(&mut self) {
        for _ in 0..self.inbox.len() {
            self.work(|_| {});
        }
    }

    /// Whether there is something to execute.
    #[must_use]
    pub fn has_work(&self) -> bool {
        !self.inbox.is_empty()
    }

    fn work(&mut self, note: impl FnOnce(&Batch)) -> Work {
        match self.inbox.try_recv() {
            Ok(Request::Execute { mut batch, home }) => {
                note(&batch);
                self.engine.set_asking(home);
                self.engine.execute(&mut batch, self.clock.now());
                if let Some(home) = self.engine.take_asking() {
                    home.answer(batch);
                }
                tell_changes(&mut self.engine);
                Work::Done
            }
            Err(TryRecvError::Empty) => Work::None,
            Ok(Request::End) | Err(TryRecvError::Disconnected) => Work::Over,
        }
    }

    /// Does a piece of what nobody waits for. Says whether there is more of it.
    pub fn maintain(&mut self) -> bool {
        let has_more = self.engine.maintain(self.clock.now());
        tell_changes(&mut self.engine);
        has_more || self.engine.has_woken()
    }
}

/// Tells some of those who wait for an item that it has changed. Whoever has changed it has been answered before.
fn tell_changes(engine: &mut Engine) {
    if !engine.has_woken() {
        return;
    }
    for watcher in engine.take_woken(WAKES_PER_TURN) {
        if let Some(home) = watcher.home {
            home.wake(watcher.conn);
        }
    }
}

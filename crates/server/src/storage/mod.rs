//! The storage thread: everything that is stored, and the only thread that touches it.
//!
//! | module | what it knows |
//! | --- | --- |
//! | [`engine`] | executes batches: the way in |
//! | `commands` | what each command does to which item |
//! | `strings` | the same for Redis's commands |
//! | `meta` | what the meta commands do besides |
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
//! loop around it is `run`. It never parses, logs or waits for anything but its queue.

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

use crossbeam_channel::{Receiver, TryRecvError};

pub use engine::{Engine, EngineConfig};

use crate::clock::Clock;
use crate::hop::{Bell, Request, Storage};
use crate::limits::WAKES_PER_TURN;
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
    let (sender, inbox) = crossbeam_channel::unbounded();
    let (tell_bell, told_bell) = crossbeam_channel::bounded::<Arc<Bell>>(1);
    let join = thread::Builder::new().name("storage".into()).spawn(move || {
        if let Ok(bell) = told_bell.recv() {
            run(engine, &inbox, &bell, clock);
        }
    })?;
    let sleeper = join.thread().clone();
    let bell = Arc::new(Bell::new(move || sleeper.unpark()));
    // The thread waits for exactly this message.
    let _ = tell_bell.send(Arc::clone(&bell));
    Ok(Thread { storage: Storage::new(sender, bell), join })
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
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Executes batches until it is told to end.
fn run(mut engine: Engine, inbox: &Receiver<Request>, bell: &Bell, clock: Clock) {
    let mut patience = Patience::default();
    loop {
        match inbox.try_recv() {
            Ok(Request::Execute { mut batch, home }) => {
                patience.note(&batch);
                engine.set_asking(home);
                engine.execute(&mut batch, clock.now());
                if let Some(home) = engine.take_asking() {
                    home.answer(batch);
                }
                tell_changes(&mut engine);
            }
            Ok(Request::End) | Err(TryRecvError::Disconnected) => return,
            Err(TryRecvError::Empty) => {
                let has_more = engine.maintain(clock.now());
                tell_changes(&mut engine);
                if !has_more && !engine.has_woken() && !patience.wait(|| !inbox.is_empty()) {
                    bell.sleep_unless(|| !inbox.is_empty(), || thread::park_timeout(SWEEP_EVERY));
                }
            }
        }
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

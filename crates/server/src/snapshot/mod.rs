//! The snapshot thread: all items in a file, and back.
//!
//! It is a client of the storage thread like any other: it asks for one bounded piece after another, writes it, and rests,
//! so that clients do not notice. Nothing is forked, nothing stands still, and no more is in memory than a piece. Each item is
//! as of its turn. The file fills any memcached; `docs/snapshot.md` draws it.
//!
//! | module | what it knows |
//! | --- | --- |
//! | [`format`](mod@format) | what the file holds besides items |
//! | [`writer`], [`reader`] | the stream, both ways |
//! | [`uncached`] | its bytes, past the system's cache |
//! | [`file`](mod@file) | where it lies, and how one takes the place of another |
//! | `taking` | the thread's work: asking, writing, resting |
//! | [`restore`](mod@restore) | a restart: from the file into an engine |

pub mod file;
pub mod format;
pub mod reader;
pub mod restore;
mod taking;
pub mod uncached;
pub mod writer;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::config;
use crate::hop::Storage;
use crate::limits::{SNAPSHOT_AT_END_MS, SNAPSHOT_PART_OF_INTERVAL};
use crate::patience::Load;
use crate::rank::Rank;
use crate::server::Server;
use file::Older;
pub use reader::Reader;
use taking::{Pace, Taken, Taker, Trouble};

/// What a server's other threads have of the snapshot thread: the way to ask for a snapshot, and what became of those
/// before.
#[derive(Debug, Default)]
pub struct Handle {
    thread: OnceLock<thread::Thread>,
    is_asked: AtomicBool,
    is_ending: AtomicBool,
    /// The file in the snapshot's place is damaged.
    is_damaged: AtomicBool,
    state: AtomicU8,
    /// What has been restored.
    restored_items: AtomicU64,
    /// Of the last one that was finished.
    time: AtomicU64,
    duration_ms: AtomicU64,
    bytes: AtomicU64,
    items: AtomicU64,
    /// Since the start.
    count: AtomicU64,
    errors: AtomicU64,
}

/// What comes of asking for a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// One is taken, at once or behind the one that is being written.
    Taken,
    /// The server takes none.
    Off,
}

/// What the snapshot thread does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// There is none.
    Off,
    /// It waits.
    Idle,
    /// It writes.
    Writing,
    /// It waits, and the last one has failed.
    Failed,
}

impl State {
    const ALL: [Self; 4] = [Self::Off, Self::Idle, Self::Writing, Self::Failed];

    /// Its name in `stats`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Idle => "idle",
            Self::Writing => "writing",
            Self::Failed => "failed",
        }
    }
}

impl Handle {
    /// Asks for a snapshot. It is not waited for.
    pub fn take(&self) -> Asked {
        let Some(thread) = self.thread.get() else { return Asked::Off };
        self.is_asked.store(true, Ordering::Release);
        thread.unpark();
        Asked::Taken
    }

    /// What the thread does.
    #[must_use]
    pub fn state(&self) -> State {
        State::ALL[usize::from(self.state.load(Ordering::Relaxed)) % State::ALL.len()]
    }

    /// The figures for `stats`, by name.
    #[must_use]
    pub fn lines(&self) -> [(&'static str, u64); 7] {
        [
            ("snapshot_time", &self.time),
            ("snapshot_duration_ms", &self.duration_ms),
            ("snapshot_bytes", &self.bytes),
            ("snapshot_items", &self.items),
            ("snapshot_count", &self.count),
            ("snapshot_errors", &self.errors),
            ("snapshot_restored_items", &self.restored_items),
        ]
        .map(|(name, figure)| (name, figure.load(Ordering::Relaxed)))
    }

    /// Whether the server is to end, so that nobody waits for a snapshot that is not the last.
    fn is_ending(&self) -> bool {
        self.is_ending.load(Ordering::Acquire)
    }

    fn set_state(&self, state: State) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    fn note_taken(&self, taken: &Taken, started: Instant, server: &Server) {
        let set = |figure: &AtomicU64, value| figure.store(value, Ordering::Relaxed);
        set(&self.time, u64::from(server.clock.now()));
        set(&self.duration_ms, started.elapsed().as_millis() as u64);
        set(&self.bytes, taken.bytes);
        set(&self.items, taken.items);
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// What is to become of the file in the snapshot's place.
    fn older(&self) -> Older {
        if self.is_damaged.load(Ordering::Relaxed) { Older::Kept } else { Older::Replaced }
    }
}

/// The running snapshot thread.
#[derive(Debug)]
pub struct Thread {
    server: Arc<Server>,
    join: JoinHandle<()>,
}

/// Starts the snapshot thread, where there is to be one.
///
/// # Errors
/// Where the system gives no thread.
pub fn spawn(server: &Arc<Server>, storage: Storage) -> io::Result<Option<Thread>> {
    let Some(config) = server.config.snapshot.clone() else { return Ok(None) };
    // A file that may not grow further is an error to be told, and no reason to die.
    signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::default())?;
    let owner = Arc::clone(server);
    let join = thread::Builder::new().name("snapshot".into()).spawn(move || run(&owner, storage, &config))?;
    server.snapshots.set_state(State::Idle);
    // It is set once, since a server is served once.
    let _ = server.snapshots.thread.set(join.thread().clone());
    Ok(Some(Thread { server: Arc::clone(server), join }))
}

impl Thread {
    /// Takes the last snapshot, when nobody stores anything any more, and waits for it.
    pub fn finish(self) {
        self.server.snapshots.is_ending.store(true, Ordering::Release);
        self.join.thread().unpark();
        if self.join.join().is_err() {
            log::error!("the snapshot thread panicked");
        }
    }
}

/// Takes a snapshot whenever it is time, or somebody asks, and a last one.
fn run(server: &Server, storage: Storage, config: &config::Snapshot) {
    let handle = &server.snapshots;
    let mut taker = Taker::new(server, storage, &config.place);
    Rank::default().follow(Load::High);
    let length = config.every.map(|every| every / SNAPSHOT_PART_OF_INTERVAL);
    let mut began = Instant::now();
    while !handle.is_ending() {
        let left = config.every.map(|every| every.saturating_sub(began.elapsed()));
        let is_due = left == Some(Duration::ZERO);
        if handle.is_asked.swap(false, Ordering::Acquire) || is_due {
            began = Instant::now();
            take(&mut taker, server, Pace::Gentle(length));
        } else {
            left.map_or_else(thread::park, thread::park_timeout);
        }
    }
    log::info!("the last snapshot: it has {} s at most", SNAPSHOT_AT_END_MS / 1000);
    take(&mut taker, server, Pace::Until(Instant::now() + Duration::from_millis(SNAPSHOT_AT_END_MS)));
}

/// Takes one, and tells what became of it.
fn take(taker: &mut Taker<'_>, server: &Server, pace: Pace) {
    let (handle, started) = (&server.snapshots, Instant::now());
    handle.set_state(State::Writing);
    let state = match taker.take(pace, handle.older()) {
        Ok(snapshot) => {
            handle.is_damaged.store(false, Ordering::Relaxed);
            handle.note_taken(&snapshot, started, server);
            let Taken { items, bytes } = snapshot;
            log::info!("snapshot: {items} items, {bytes} bytes in {:.1} s", started.elapsed().as_secs_f64());
            State::Idle
        }
        Err(Trouble::Ending) => State::Idle,
        Err(trouble) => {
            handle.errors.fetch_add(1, Ordering::Relaxed);
            log::warn!("no snapshot: {trouble}");
            State::Failed
        }
    };
    handle.set_state(state);
}

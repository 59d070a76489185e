//! The way to the storage thread and back.
//!
//! Two queues and two [`Bell`]s. A bell is rung only where the other side sleeps: it sets a flag, looks at its queue
//! for the last time, and goes to sleep; whoever fills the queue looks at the flag afterwards. Each writes first and
//! reads then, with a sequentially consistent fence between (Dekker's algorithm), so at least one of them sees the
//! other, and no wake-up is lost. Under load nobody sleeps and no bell rings.

use std::fmt;
use std::sync::Arc;

use crossbeam_channel::Sender;

use crate::message::Batch;
use crate::sync::{AtomicBool, Ordering, fence};

/// Wakes a thread that sleeps, and costs one load where it does not.
pub struct Bell {
    asleep: AtomicBool,
    ring: Box<dyn Fn() + Send + Sync>,
}

impl Bell {
    /// A bell for a thread that `ring` wakes.
    pub fn new(ring: impl Fn() + Send + Sync + 'static) -> Self {
        Self { asleep: AtomicBool::new(false), ring: Box::new(ring) }
    }

    /// For the thread that sleeps: `has_work` is its last look at its queues, `sleep` waits to be rung for. `sleep` may
    /// return for no reason.
    pub fn sleep_unless(&self, has_work: impl FnOnce() -> bool, sleep: impl FnOnce()) {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if !has_work() {
            sleep();
        }
        self.asleep.store(false, Ordering::Relaxed);
    }

    /// For everybody else, after filling a queue.
    pub fn ring_if_asleep(&self) {
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Relaxed) {
            (self.ring)();
        }
    }
}

impl fmt::Debug for Bell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bell").field("asleep", &self.asleep).finish_non_exhaustive()
    }
}

/// Where a batch's answers go.
#[derive(Debug)]
pub struct Home {
    answers: Sender<Box<Batch>>,
    bell: Arc<Bell>,
}

impl Home {
    /// Answers go into `answers`, and then `bell` rings.
    #[must_use]
    pub fn new(answers: Sender<Box<Batch>>, bell: Arc<Bell>) -> Self {
        Self { answers, bell }
    }

    /// Sends a batch home. One whose front end is gone is dropped with it.
    pub fn answer(&self, batch: Box<Batch>) {
        if self.answers.send(batch).is_ok() {
            self.bell.ring_if_asleep();
        }
    }
}

/// The storage thread, as its front ends hold it.
#[derive(Debug, Clone)]
pub struct Storage {
    requests: Sender<Box<Batch>>,
    bell: Arc<Bell>,
}

impl Storage {
    /// Requests go into `requests`, and then `bell` rings.
    #[must_use]
    pub fn new(requests: Sender<Box<Batch>>, bell: Arc<Bell>) -> Self {
        Self { requests, bell }
    }

    /// Sends a batch. The storage thread outlives its front ends, so it is there.
    pub fn send(&self, batch: Box<Batch>) {
        let sent = self.requests.send(batch);
        debug_assert!(sent.is_ok(), "the storage thread outlives its front ends");
        self.bell.ring_if_asleep();
    }
}

impl Drop for Storage {
    /// The last front end that goes must wake the storage thread, or it would never see that it may go, too. The
    /// bell is rung before the sender is dropped, so the storage thread looks again after a while on its own, too.
    fn drop(&mut self) {
        self.bell.ring_if_asleep();
    }
}

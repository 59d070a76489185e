//! The way to the storage thread and back.
//!
//! Two queues and two [`Bell`]s. A bell is rung only where the other side sleeps: it sets a flag, looks at its queue
//! for the last time, and goes to sleep; whoever fills the queue looks at the flag afterwards. Each writes first and
//! reads then, with a sequentially consistent fence between (Dekker's algorithm), so at least one of them sees the
//! other, and no wake-up is lost. Under load nobody sleeps and no bell rings.

use std::fmt;
use std::sync::Arc;

use crossbeam_channel::Sender;

use crate::message::{Batch, ConnId};
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

    /// For a thread that is put to sleep by something else, such as a runtime of tasks: from here on it is rung for, once.
    /// Its last look at its queues comes behind this.
    pub fn expect_ring(&self) {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
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
    changes: Option<Sender<ConnId>>,
    bell: Arc<Bell>,
}

impl Home {
    /// Answers go into `answers`, and then `bell` rings.
    #[must_use]
    pub fn new(answers: Sender<Box<Batch>>, bell: Arc<Bell>) -> Self {
        Self { answers, changes: None, bell }
    }

    /// The same, where the connections go into `changes` whose item has changed that they wait for. It must have room for
    /// each of them.
    #[must_use]
    pub fn with_changes(self, changes: Sender<ConnId>) -> Self {
        Self { changes: Some(changes), ..self }
    }

    /// Tells that an item has changed that a connection waits for.
    pub fn wake(&self, conn: ConnId) {
        if self.changes.as_ref().is_some_and(|changes| changes.send(conn).is_ok()) {
            self.bell.ring_if_asleep();
        }
    }

    #[cfg(test)]
    pub(crate) fn nowhere() -> Self {
        Self::new(crossbeam_channel::bounded(0).0, Arc::new(Bell::new(|| {})))
    }

    /// Sends a batch home. One whose front end is gone is dropped with it.
    pub fn answer(&self, batch: Box<Batch>) {
        if self.answers.send(batch).is_ok() {
            self.bell.ring_if_asleep();
        }
    }
}

/// What the storage thread is told.
#[derive(Debug)]
pub enum Request {
    /// To execute a batch.
    Execute {
        /// The batch.
        batch: Box<Batch>,
        /// Where it goes with its answers.
        home: Arc<Home>,
    },
    /// To end. Nothing comes behind it.
    End,
}

/// The storage thread, as its front ends hold it.
#[derive(Debug, Clone)]
pub struct Storage {
    requests: Sender<Request>,
    bell: Arc<Bell>,
}

impl Storage {
    /// Requests go into `requests`, and then `bell` rings.
    #[must_use]
    pub fn new(requests: Sender<Request>, bell: Arc<Bell>) -> Self {
        Self { requests, bell }
    }

    /// Sends a batch, whose answers go to `home`.
    pub fn execute(&self, batch: Box<Batch>, home: &Arc<Home>) {
        self.send(Request::Execute { batch, home: Arc::clone(home) });
    }

    /// Requests that wait for the storage thread.
    #[must_use]
    pub fn queue_len(&self) -> usize {
        self.requests.len()
    }

    /// Ends the storage thread, when everything that was sent before is done.
    pub fn end(&self) {
        self.send(Request::End);
    }

    /// A storage thread that is gone executes nothing: its batches go with it.
    fn send(&self, request: Request) {
        if self.requests.send(request).is_ok() {
            self.bell.ring_if_asleep();
        }
    }
}

/// The ways in which the threads can interleave and the memory can reorder, tried one after another:
/// `RUSTFLAGS="--cfg memwire_loom" cargo test -p memwire --lib model --release`.
///
/// The queue is a number that goes up, without any ordering of its own, so that nothing but the bell's fences can
/// make it seen. A wake-up that is lost shows as a deadlock.
#[cfg(all(test, memwire_loom))]
mod model {
    use loom::sync::atomic::AtomicUsize;
    use loom::thread;

    use super::*;

    /// The bell, or a broken copy of it.
    trait Wakes: Send + Sync + 'static {
        fn sleep_unless(&self, has_work: impl FnOnce() -> bool, sleep: impl FnOnce());
        fn ring_if_asleep(&self);
    }

    impl Wakes for Bell {
        fn sleep_unless(&self, has_work: impl FnOnce() -> bool, sleep: impl FnOnce()) {
            Self::sleep_unless(self, has_work, sleep);
        }

        fn ring_if_asleep(&self) {
            Self::ring_if_asleep(self);
        }
    }

    /// The bell without its fences.
    struct Unfenced(Bell);

    impl Wakes for Unfenced {
        fn sleep_unless(&self, has_work: impl FnOnce() -> bool, sleep: impl FnOnce()) {
            self.0.asleep.store(true, Ordering::Relaxed);
            if !has_work() {
                sleep();
            }
            self.0.asleep.store(false, Ordering::Relaxed);
        }

        fn ring_if_asleep(&self) {
            if self.0.asleep.load(Ordering::Relaxed) && self.0.asleep.swap(false, Ordering::Relaxed) {
                (self.0.ring)();
            }
        }
    }

    /// The bell with the last look at the queue before the flag is set.
    struct Hasty(Bell);

    impl Wakes for Hasty {
        fn sleep_unless(&self, has_work: impl FnOnce() -> bool, sleep: impl FnOnce()) {
            let has_work = has_work();
            self.0.sleep_unless(|| has_work, sleep);
        }

        fn ring_if_asleep(&self) {
            self.0.ring_if_asleep();
        }
    }

    /// One thread takes what the others put into the queue, and sleeps where there is nothing. Each of them puts in
    /// its count of pieces of work.
    fn all_work_is_taken<W: Wakes>(make: fn(Bell) -> W, counts: &'static [usize]) {
        let mut model = loom::model::Builder::new();
        // All ways take minutes, and find nothing that three switches at any point do not find.
        model.preemption_bound = Some(3);
        model.check(move || {
            let sleeper = thread::current();
            let bell = Arc::new(make(Bell::new(move || sleeper.unpark())));
            let queue = Arc::new(AtomicUsize::new(0));
            for &count in counts {
                let (bell, queue) = (Arc::clone(&bell), Arc::clone(&queue));
                thread::spawn(move || {
                    for _ in 0..count {
                        queue.fetch_add(1, Ordering::Relaxed);
                        bell.ring_if_asleep();
                    }
                });
            }
            let mut taken = 0;
            while taken < counts.iter().sum() {
                let there = queue.load(Ordering::Relaxed);
                if there == taken {
                    bell.sleep_unless(|| queue.load(Ordering::Relaxed) > taken, thread::park);
                }
                taken = there;
            }
        });
    }

    #[test]
    fn no_wake_up_is_lost() {
        all_work_is_taken(|bell| bell, &[1]);
        all_work_is_taken(|bell| bell, &[2]);
    }

    #[test]
    fn no_wake_up_is_lost_where_two_ring() {
        all_work_is_taken(|bell| bell, &[1, 1]);
    }

    #[test]
    #[should_panic(expected = "deadlock")]
    fn without_the_fences_the_model_loses_a_wake_up() {
        all_work_is_taken(Unfenced, &[1]);
    }

    #[test]
    #[should_panic(expected = "deadlock")]
    fn with_an_early_last_look_the_model_loses_a_wake_up() {
        all_work_is_taken(Hasty, &[1]);
    }
}

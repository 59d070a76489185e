//! The way to the storage thread, for tasks.
//!
//! Each question is a batch of one run with one operation. It travels like any event loop's, and comes home to the one
//! [`Home`] that all tasks share: a [`Bell`] wakes the task that [hands out](Desk::hand_out) what has come.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use crossbeam_channel::Receiver;
use tokio::sync::{Notify, oneshot};

use crate::hop::{Bell, Home, Storage};
use crate::message::{Batch, Command, ConnId, KeyHash, Op, Reply, Run, Span, Tag};
use crate::server::Server;

/// Asks the storage thread.
#[derive(Debug)]
pub(super) struct Desk {
    storage: Storage,
    home: Arc<Home>,
    bell: Arc<Bell>,
    answers: Receiver<Box<Batch>>,
    arrived: Arc<Notify>,
    asked: RefCell<Asked>,
}

/// Who waits for which answer.
#[derive(Debug, Default)]
struct Asked {
    newest: u32,
    waiting: HashMap<ConnId, oneshot::Sender<Box<Batch>>>,
}

/// The storage thread is gone.
#[derive(Debug)]
pub(super) struct Gone;

/// An answer, in the batch that brought it.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) batch: Box<Batch>,
    pub(super) reply: Reply,
}

impl Desk {
    pub(super) fn new(storage: Storage) -> Rc<Self> {
        let (sender, answers) = crossbeam_channel::unbounded();
        let arrived = Arc::new(Notify::new());
        let ringing = Arc::clone(&arrived);
        let bell = Arc::new(Bell::new(move || ringing.notify_one()));
        let home = Arc::new(Home::new(sender, Arc::clone(&bell)));
        Rc::new(Self { storage, home, bell, answers, arrived, asked: RefCell::default() })
    }

    /// Requests that wait for the storage thread.
    pub(super) fn queue_len(&self) -> usize {
        self.storage.queue_len()
    }

    /// Hands out answers, for ever.
    pub(super) async fn hand_out(&self) {
        loop {
            self.bell.expect_ring();
            while let Ok(mut batch) = self.answers.try_recv() {
                self.take_home(&mut batch);
            }
            self.arrived.notified().await;
        }
    }

    fn take_home(&self, batch: &mut Box<Batch>) {
        let Some(id) = batch.runs.first().map(|run| run.conn) else { return };
        let asker = self.asked.borrow_mut().waiting.remove(&id);
        if let Some(asker) = asker {
            // One that has gone away wants no answer.
            let _ = asker.send(std::mem::take(batch));
        }
    }

    /// Asks what `command` does to `key`. `batch` may hold a value for it.
    pub(super) async fn ask(
        &self,
        server: &Server,
        mut batch: Box<Batch>,
        command: Command,
        key: &[u8],
    ) -> Result<Answer, Gone> {
        let (id, answered) = self.expect_answer();
        fill(&mut batch, server, id, command, key);
        self.storage.execute(batch, &self.home);
        let forgets = Forgets { desk: self, id };
        let answer = answered.await;
        drop(forgets);
        let mut batch = answer.map_err(|_| Gone)?;
        let reply = batch.replies.pop().ok_or(Gone)?;
        Ok(Answer { batch, reply })
    }

    fn expect_answer(&self) -> (ConnId, oneshot::Receiver<Box<Batch>>) {
        let mut asked = self.asked.borrow_mut();
        asked.newest = asked.newest.wrapping_add(1);
        let id = ConnId { slot: asked.newest, generation: 0 };
        let (sender, answered) = oneshot::channel();
        asked.waiting.insert(id, sender);
        (id, answered)
    }
}

/// Whoever goes away, because his client does, expects nothing any more.
struct Forgets<'a> {
    desk: &'a Desk,
    id: ConnId,
}

impl Drop for Forgets<'_> {
    fn drop(&mut self) {
        self.desk.asked.borrow_mut().waiting.remove(&self.id);
    }
}

fn fill(batch: &mut Batch, server: &Server, conn: ConnId, command: Command, key: &[u8]) {
    let at = Span::new(batch.input.len(), key.len());
    batch.input.extend(key);
    let hash = if key.is_empty() { KeyHash(0) } else { server.hash(key) };
    batch.ops.push(Op { command, key: at, hash, starts_at: at.start, tag: Tag(0) });
    batch.runs.push(Run {
        conn,
        first_op: 0,
        op_count: 1,
        input: Span::new(0, batch.input.len()),
        executed: 0,
    });
}

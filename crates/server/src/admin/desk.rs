//! The way to the storage thread, for tasks.
//!
//! Each question is a batch of one run with one operation. It travels like any event loop's, and comes home to the one
//! [`Home`] that all tasks share: a [`Bell`] wakes the task that [hands out](Desk::hand_out) what has come.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use crossbeam_channel::Receiver;
use tokio::sync::{Notify, oneshot};

use crate::hop::{Bell, Home, Storage};
use crate::limits::WATCH_WAIT_MS_MAX;
use crate::message::{Batch, Command, ConnId, KeyHash, Op, Reply, Run, Span, Tag, Watched};
use crate::server::Server;

/// Asks the storage thread.
#[derive(Debug)]
pub(super) struct Desk {
    storage: Arc<OnceLock<Storage>>,
    home: Arc<Home>,
    bell: Arc<Bell>,
    answers: Receiver<Box<Batch>>,
    changes: Receiver<ConnId>,
    arrived: Arc<Notify>,
    asked: RefCell<Asked>,
}

/// Who waits for which answer.
#[derive(Debug, Default)]
struct Asked {
    newest: u32,
    waiting: HashMap<ConnId, oneshot::Sender<Box<Batch>>>,
    watching: HashMap<ConnId, Rc<Notify>>,
}

/// The storage thread is gone, or not there yet.
#[derive(Debug)]
pub(super) struct Gone;

/// An answer, in the batch that brought it.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) batch: Box<Batch>,
    pub(super) reply: Reply,
}

impl Desk {
    pub(super) fn new(storage: Arc<OnceLock<Storage>>) -> Rc<Self> {
        let (sender, answers) = crossbeam_channel::unbounded();
        let arrived = Arc::new(Notify::new());
        let ringing = Arc::clone(&arrived);
        let bell = Arc::new(Bell::new(move || ringing.notify_one()));
        let (tell_change, changes) = crossbeam_channel::unbounded();
        let home = Arc::new(Home::new(sender, Arc::clone(&bell)).with_changes(tell_change));
        Rc::new(Self { storage, home, bell, answers, changes, arrived, asked: RefCell::default() })
    }

    /// Requests that wait for the storage thread.
    pub(super) fn queue_len(&self) -> usize {
        self.storage.get().map_or(0, Storage::queue_len)
    }

    /// Hands out answers, for ever.
    pub(super) async fn hand_out(&self) {
        loop {
            self.bell.expect_ring();
            while let Ok(mut batch) = self.answers.try_recv() {
                self.take_home(&mut batch);
            }
            while let Ok(id) = self.changes.try_recv() {
                if let Some(changed) = self.asked.borrow().watching.get(&id) {
                    changed.notify_one();
                }
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
        batch: Box<Batch>,
        command: Command,
        key: &[u8],
    ) -> Result<Answer, Gone> {
        let id = self.next_id();
        self.ask_as(id, server, batch, command, key).await
    }

    async fn ask_as(
        &self,
        id: ConnId,
        server: &Server,
        mut batch: Box<Batch>,
        command: Command,
        key: &[u8],
    ) -> Result<Answer, Gone> {
        let (sender, answered) = oneshot::channel();
        self.asked.borrow_mut().waiting.insert(id, sender);
        fill(&mut batch, server, id, command, key);
        self.execute(batch);
        let forgets = Forgets { desk: self, id };
        let answer = answered.await;
        drop(forgets);
        let mut batch = answer.map_err(|_| Gone)?;
        let reply = batch.replies.pop().ok_or(Gone)?;
        Ok(Answer { batch, reply })
    }

    /// What is asked of no storage thread goes, and whoever waits for the answer is told that it is gone.
    fn execute(&self, batch: Box<Batch>) {
        match self.storage.get() {
            Some(storage) => storage.execute(batch, &self.home),
            None => self.asked.borrow_mut().waiting.clear(),
        }
    }

    /// Whoever asks is told apart like a connection.
    fn next_id(&self) -> ConnId {
        let mut asked = self.asked.borrow_mut();
        asked.newest = asked.newest.wrapping_add(1);
        ConnId { slot: asked.newest, generation: 0 }
    }

    /// Begins to wait for a change of the item under `key`.
    pub(super) fn watch<'a>(&'a self, server: &'a Server, key: &'a [u8]) -> Watching<'a> {
        let (id, changed) = (self.next_id(), Rc::new(Notify::new()));
        self.asked.borrow_mut().watching.insert(id, Rc::clone(&changed));
        Watching { desk: self, server, key, id, changed, is_noted: false }
    }
}

/// Someone who waits for a change of an item. When he goes, the storage thread forgets him.
pub(super) struct Watching<'a> {
    desk: &'a Desk,
    server: &'a Server,
    key: &'a [u8],
    id: ConnId,
    changed: Rc<Notify>,
    is_noted: bool,
}

impl Watching<'_> {
    /// The item if it has another version than `known`; else this waits for that from here on.
    pub(super) async fn look(&mut self, known: u64) -> Result<Option<Answer>, Gone> {
        self.is_noted = true;
        let asked = Command::Watch { known, wait_ms: WATCH_WAIT_MS_MAX, told: Watched::Item };
        let answer = self.desk.ask_as(self.id, self.server, Box::default(), asked, self.key).await?;
        self.is_noted = matches!(answer.reply, Reply::Waiting);
        Ok(if self.is_noted { None } else { Some(answer) })
    }

    /// The item, when it has another version than `known`.
    pub(super) async fn differs(&mut self, known: u64) -> Result<Answer, Gone> {
        loop {
            self.changed.notified().await;
            if let Some(answer) = self.look(known).await? {
                return Ok(answer);
            }
        }
    }
}

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        self.desk.asked.borrow_mut().watching.remove(&self.id);
        if self.is_noted {
            let mut batch = Box::default();
            fill(&mut batch, self.server, self.id, Command::Unwatch, self.key);
            self.desk.execute(batch);
        }
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

//! The end: everything comes to rest.

use crate::client::Manner;
use crate::event_loop::{EventLoop, Timers};
use crate::report::Report;
use crate::world::{World, told};

/// Rounds in which everything must come to rest.
const ROUNDS_MAX: u32 = 2000;
/// Rounds without a move after which nothing moves any more: large values have tried again, and were given up.
const IDLE_ROUNDS: u32 = 12;

impl World {
    /// Lets everybody do what is left to do, until nothing moves any more.
    pub(super) fn settle(&mut self) -> Result<(), String> {
        self.is_settling = true;
        let mut idle_rounds = 0;
        let mut moved = self.moved();
        for _ in 0..ROUNDS_MAX {
            for number in 0..self.loops.len() {
                if self.waits.is_late {
                    self.end_waits(number)?;
                }
                self.turn(number, Timers { linger: true, retry: idle_rounds % 2 == 1 });
                if idle_rounds > 0 && idle_rounds % 2 == 0 {
                    self.look(number)?;
                }
            }
            while !self.queue.is_empty() {
                self.execute()?;
            }
            self.maintain();
            for client in 0..self.clients.len() {
                self.hurry(client)?;
            }
            let moved_before = std::mem::replace(&mut moved, self.moved());
            idle_rounds = if moved == moved_before { idle_rounds + 1 } else { 0 };
            if idle_rounds > IDLE_ROUNDS {
                return Ok(());
            }
        }
        Err(format!("after {ROUNDS_MAX} rounds there is no rest"))
    }

    /// A number that changes with everything that moves.
    fn moved(&self) -> (u64, u64) {
        (self.loops.iter().map(EventLoop::traffic_bytes).sum(), self.report.batches)
    }

    /// A client sends and reads all that it can.
    fn hurry(&mut self, client: usize) -> Result<(), String> {
        let hurried = &mut self.clients[client];
        match hurried.manner {
            Manner::Silent | Manner::Gone => return Ok(()),
            Manner::Paused => hurried.manner = Manner::Lively,
            Manner::Lively | Manner::Ended => {}
        }
        {
            let mut link = hurried.link();
            (link.up_bytes_max, link.down_bytes_max) = (1 << 20, 1 << 20);
        }
        self.send(client, usize::MAX);
        self.read(client, usize::MAX).map(|_| ())
    }

    /// All clients go.
    pub(super) fn end_all(&mut self) -> Result<(), String> {
        for client in &mut self.clients {
            client.end();
        }
        self.settle()?;
        for (number, client) in self.clients.iter().enumerate() {
            client.check_rest().map_err(|why| told(number, &why))?;
        }
        let left: usize = self.loops.iter().map(EventLoop::connection_count).sum();
        if left > 0 {
            return Err(format!("{left} connections are left, and no clients"));
        }
        Ok(())
    }

    /// Adds up what the loops have counted.
    pub(super) fn count_loops(&mut self) {
        let report = &mut self.report;
        report.evicted += self.oracle.lost;
        for event_loop in &self.loops {
            report.put_back += event_loop.put_back;
            report.late_answers += event_loop.late_answers;
            report.without_room += event_loop.without_room;
        }
    }

    pub(super) fn report(&mut self) -> Report {
        self.count_loops();
        let mut report = std::mem::take(&mut self.report);
        report.trace = self.trace.hash();
        report.steps = self.trace.step;
        report.snapshots = self.snapshots.taken;
        report.begun_anew = self.snapshots.begun_anew;
        report.short_writes = self.clients.iter().map(|client| client.link().short_writes).sum();
        report
    }
}

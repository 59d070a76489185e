//! Where there are users: who is let in, who is not, and what is counted.

use std::sync::atomic::Ordering;

use memwire::clock::Clock;
use memwire::config::{Auth, Config};
use memwire::message::{Command, Op};
use memwire::server::Server;

use crate::Fault;
use crate::event_loop::EventLoop;
use crate::owed::{Dialect, Owed, Verdict};
use crate::requests::{Maker, key};
use crate::source::Source;
use crate::stranger::{self, Made, Standing};
use crate::world::{World, told};

/// What the server must have counted, if every answer has come home.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    good: u64,
    bad: u64,
}

/// One who belongs, by his password.
pub(super) fn auth() -> Auth {
    Auth { file: "users".into(), limits: memwire::auth::Limits::default(), mechanisms: <_>::default() }
}

/// A server with its users.
pub(super) fn server(config: Config, seed: u64, fault: Option<Fault>) -> Server {
    let server = Server::new(config, Clock::start(), seed);
    if let Some(access) = &server.access {
        access.set_users(stranger::users(fault));
    }
    server
}

impl World {
    /// What a new client speaks, and where it stands.
    pub(super) fn newcomer(&mut self) -> (Dialect, Standing) {
        if self.server.access.is_none() {
            return (Dialect::Binary, Standing::Member);
        }
        let dialects = [Dialect::Binary, Dialect::Binary, Dialect::Text, Dialect::Resp];
        (self.source.pick(&dialects), Standing::Stranger { failures: 0 })
    }

    /// What a client asks for next, if it does not wait for an answer first.
    pub(super) fn make_request(&mut self, client: usize) -> Option<Made> {
        let opaque = self.next_opaque;
        let Self { oracle, server, now, key_count, appetite, source, .. } = self;
        let (config, now, key_count, appetite) = (&server.config, *now, *key_count, *appetite);
        let anything =
            |source: &mut Source| Maker { source, oracle, config, now, key_count, appetite }.request(opaque);
        let asking = &self.clients[client];
        let is_member = asking.standing == Standing::Member;
        match asking.dialect {
            // A member may say again who it is, and is a stranger until that has ended well.
            Dialect::Binary if is_member && (server.access.is_none() || !source.one_in(40)) => {
                let bytes = anything(source);
                let owed = Owed::of(&bytes, config);
                Some(Made { bytes, owed, standing: Standing::Member })
            }
            Dialect::Text | Dialect::Resp if is_member => {
                let key = key(source.between(3, key_count - 1));
                Some(stranger::lines(source, asking.dialect, &String::from_utf8_lossy(&key), opaque))
            }
            _ => stranger::request(source, config, asking, opaque, anything),
        }
    }

    /// A request was executed: whether it was one that may be, and who its client is from there on.
    pub(super) fn check_gate(&mut self, client: usize, op: &Op, owed: &Owed) -> Result<(), String> {
        let asks = matches!(owed.verdict, Verdict::Asks(_));
        if !asks && !matches!(op.command, Command::Pass) {
            return Err(format!("has {:?} executed for {}", op.command, owed.opcode));
        }
        let client = &mut self.clients[client];
        match owed.verdict {
            Verdict::Asks(_) => client.is_known |= !matches!(op.command, Command::Pass),
            Verdict::Admits(_) => self.attempts.good += 1,
            Verdict::Rejects(_) => self.attempts.bad += 1,
            _ => {}
        }
        let is_exchange =
            matches!(owed.verdict, Verdict::Admits(_) | Verdict::Rejects(_) | Verdict::Challenges);
        client.is_known &= !is_exchange;
        let report = &mut self.report;
        report.admitted += u64::from(matches!(owed.verdict, Verdict::Admits(_)));
        report.rejected += u64::from(matches!(owed.verdict, Verdict::Rejects(_)));
        Ok(())
    }

    /// The time of all strangers at a loop is up.
    pub(super) fn end_strangers(&mut self, number: usize) -> Result<(), String> {
        let server = &self.server;
        for id in self.loops[number].end_strangers(server) {
            let client = self.owner(number, id)?;
            if self.clients[client].is_known {
                return Err(told(client, "is closed as a stranger, and has been let in"));
            }
            self.clients[client].give_up();
        }
        Ok(())
    }

    /// Everything is at rest: what was tried is counted, but where nobody was there any more for the answer.
    pub(super) fn check_attempts(&self) -> Result<(), String> {
        let Some(access) = &self.server.access else { return Ok(()) };
        let late: u64 = self.loops.iter().map(|event_loop: &EventLoop| event_loop.late_answers).sum();
        let Attempts { good, bad } = self.attempts;
        let counters = &access.counters;
        for (what, counter, right) in
            [("authentications", &counters.auth_cmds, good + bad), ("failures", &counters.auth_errors, bad)]
        {
            let counted = counter.load(Ordering::Relaxed);
            if counted > right || counted + late < right {
                return Err(format!(
                    "{counted} {what} are counted, and there were {right}, {late} of them late"
                ));
            }
        }
        Ok(())
    }
}

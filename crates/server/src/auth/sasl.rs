//! The SASL exchange of a connection: mechanisms, and how far it has come.
//!
//! It goes as it does in memcached with Cyrus SASL: where a mechanism's last word is the server's, the client
//! acknowledges it with an empty message, and is let in then.

use crate::auth::scram;
use crate::auth::{Access, Verdict};

/// Which mechanisms are offered. Clients mostly take the strongest, and some cannot do what they take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mechanisms {
    /// All there are.
    #[default]
    All,
    /// PLAIN.
    Plain,
    /// SCRAM-SHA-256, which never sends a password.
    Scram,
}

impl Mechanisms {
    /// As clients are told of them.
    #[must_use]
    pub fn told(self) -> &'static str {
        match self {
            Self::All => "SCRAM-SHA-256 PLAIN",
            Self::Plain => "PLAIN",
            Self::Scram => "SCRAM-SHA-256",
        }
    }

    fn choose(self, name: &[u8]) -> State {
        match name {
            b"PLAIN" if self != Self::Scram => State::Chosen(Mechanism::Plain),
            b"SCRAM-SHA-256" if self != Self::Plain => State::Chosen(Mechanism::ScramSha256),
            _ => State::Nothing,
        }
    }
}

/// How far an exchange has come.
#[derive(Debug, Default)]
pub struct Exchange(State);

#[derive(Debug, Default)]
enum State {
    #[default]
    Nothing,
    /// The mechanism is chosen; its first message is to come.
    Chosen(Mechanism),
    /// The client's proof is to come.
    Scram(Box<scram::Exchange>),
    /// The client has proved who he is, and is to acknowledge the server's last word.
    Proved,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mechanism {
    Plain,
    ScramSha256,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The exchange goes on, with this challenge.
    Continue(Vec<u8>),
    /// It is at its end.
    Done(Verdict),
}

impl Exchange {
    /// `SASL_AUTH`: begins, whatever was before.
    pub fn start(&mut self, mechanism: &[u8], message: &[u8], access: &Access) -> Answer {
        self.0 = access.mechanisms.choose(mechanism);
        match self.0 {
            State::Chosen(_) if message.is_empty() => Answer::Continue(Vec::new()),
            _ => self.step(mechanism, message, access),
        }
    }

    /// `SASL_STEP`: goes on.
    pub fn step(&mut self, mechanism: &[u8], message: &[u8], access: &Access) -> Answer {
        let state = std::mem::take(&mut self.0);
        let answer = match state {
            State::Chosen(Mechanism::Plain) if mechanism == b"PLAIN" => plain(message, access),
            State::Chosen(Mechanism::ScramSha256) if mechanism == b"SCRAM-SHA-256" => {
                self.begin_scram(message, access)
            }
            State::Scram(exchange) if mechanism == b"SCRAM-SHA-256" => self.finish_scram(&exchange, message),
            State::Proved if message.is_empty() => Answer::Done(Verdict::Accepted),
            _ => Answer::Done(Verdict::Refused),
        };
        if let Answer::Done(verdict) = answer {
            access.count(verdict);
        }
        answer
    }

    fn begin_scram(&mut self, message: &[u8], access: &Access) -> Answer {
        match scram::Exchange::begin(message, &access.users(), access.next_exchange()) {
            Some((exchange, challenge)) => {
                self.0 = State::Scram(Box::new(exchange));
                Answer::Continue(challenge)
            }
            None => Answer::Done(Verdict::Refused),
        }
    }

    fn finish_scram(&mut self, exchange: &scram::Exchange, message: &[u8]) -> Answer {
        match exchange.finish(message) {
            Some(last_word) => {
                self.0 = State::Proved;
                Answer::Continue(last_word)
            }
            None => Answer::Done(Verdict::Refused),
        }
    }
}

/// `[authzid] NUL user NUL password`; nobody may act for another.
fn plain(message: &[u8], access: &Access) -> Answer {
    let mut parts = message.splitn(3, |byte| *byte == 0);
    let (Some(authzid), Some(user), Some(password)) = (parts.next(), parts.next(), parts.next()) else {
        return Answer::Done(Verdict::Refused);
    };
    let is_himself = authzid.is_empty() || authzid == user;
    let is_right = is_himself && access.users().check(user, password);
    Answer::Done(if is_right { Verdict::Accepted } else { Verdict::Refused })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{Limits, file};

    const REFUSED: Answer = Answer::Done(Verdict::Refused);
    const ACCEPTED: Answer = Answer::Done(Verdict::Accepted);

    fn access() -> Access {
        let access = Access::closed(Limits::default(), Mechanisms::All);
        access.set_users(file::parse(b"ann:pencil", [9; 32]).unwrap());
        access
    }

    #[test]
    fn plain_is_one_message_or_two() {
        let access = access();
        let mut exchange = Exchange::default();
        assert_eq!(exchange.start(b"PLAIN", b"\0ann\0pencil", &access), ACCEPTED);
        assert_eq!(exchange.start(b"PLAIN", b"ann\0ann\0pencil", &access), ACCEPTED);
        assert_eq!(exchange.start(b"PLAIN", b"", &access), Answer::Continue(Vec::new()));
        assert_eq!(exchange.step(b"PLAIN", b"\0ann\0pencil", &access), ACCEPTED);
        let counted: Vec<_> =
            access.counters.lines().map(|(_, count)| count.load(std::sync::atomic::Ordering::Relaxed)).into();
        assert_eq!(counted, [3, 0, 0, 0, 0]);
    }

    #[test]
    fn what_is_wrong_is_refused_and_ends_the_exchange() {
        let access = access();
        for message in [
            &b"\0ann\0paper"[..],
            b"bob\0ann\0pencil",
            b"\0bob\0pencil",
            b"\0ann",
            b"ann\0pencil",
            b"\0ann\0pencil\0",
            b"x",
        ] {
            let mut exchange = Exchange::default();
            assert_eq!(exchange.start(b"PLAIN", message, &access), REFUSED, "{message:?}");
            assert_eq!(
                exchange.step(b"PLAIN", b"\0ann\0pencil", &access),
                REFUSED,
                "a new one begins with AUTH"
            );
        }
        for mechanism in [&b"plain"[..], b"CRAM-MD5", b"", b"SCRAM-SHA-256"] {
            assert_eq!(Exchange::default().start(mechanism, b"\0ann\0pencil", &access), REFUSED);
        }
        let lines = access.counters.lines();
        let [(_, cmds), (_, errors), ..] = lines;
        assert_eq!(cmds.load(std::sync::atomic::Ordering::Relaxed), 18);
        assert_eq!(errors.load(std::sync::atomic::Ordering::Relaxed), 18);
    }

    #[test]
    fn a_step_belongs_to_the_mechanism_that_was_chosen() {
        let access = access();
        let mut exchange = Exchange::default();
        assert_eq!(exchange.step(b"PLAIN", b"\0ann\0pencil", &access), REFUSED, "nothing was begun");
        assert_eq!(exchange.start(b"SCRAM-SHA-256", b"", &access), Answer::Continue(Vec::new()));
        assert_eq!(exchange.step(b"PLAIN", b"\0ann\0pencil", &access), REFUSED);
        assert!(matches!(exchange.start(b"SCRAM-SHA-256", b"n,,n=ann,r=x", &access), Answer::Continue(_)));
        assert_eq!(
            exchange.step(b"SCRAM-SHA-256", b"", &access),
            REFUSED,
            "an acknowledgement before the proof"
        );
    }

    #[test]
    fn what_is_not_offered_is_refused() {
        for (mechanisms, plain) in [(Mechanisms::Plain, ACCEPTED), (Mechanisms::Scram, REFUSED)] {
            let access = Access { mechanisms, ..access() };
            assert_eq!(Exchange::default().start(b"PLAIN", b"\0ann\0pencil", &access), plain);
            let scram = Exchange::default().start(b"SCRAM-SHA-256", b"n,,n=ann,r=x", &access);
            assert_eq!(scram == REFUSED, plain == ACCEPTED);
        }
    }

    #[test]
    fn nobody_is_let_in_before_there_are_users() {
        let access = Access::closed(Limits::default(), Mechanisms::All);
        assert_eq!(Exchange::default().start(b"PLAIN", b"\0ann\0pencil", &access), REFUSED);
        assert_eq!(Exchange::default().start(b"PLAIN", b"\0\0", &access), REFUSED);
    }
}

//! Who belongs: the users, what they prove themselves with, and how strangers are bounded. No I/O.
//!
//! A password file ([`mod@file`]) becomes a table of [`Users`]. The sessions look at it once for each
//! authentication, never for a request: who has been let in stays in, also when the table is replaced.

pub mod file;
pub mod sasl;
pub mod scram;
pub mod users;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::limits::{AUTH_FAILURES_MAX, AUTH_REQUEST_BYTES_MAX, AUTH_TIMEOUT_MS};
pub use sasl::Mechanisms;
pub use users::Users;

/// How far a stranger is borne with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Who has not said who he is after so long is closed.
    pub timeout_ms: u64,
    /// The longest request of a stranger, and what is read of him in one turn.
    pub request_bytes_max: usize,
    /// After so many failures a connection is closed.
    pub failures_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            timeout_ms: AUTH_TIMEOUT_MS,
            request_bytes_max: AUTH_REQUEST_BYTES_MAX,
            failures_max: AUTH_FAILURES_MAX,
        }
    }
}

/// The way in.
#[derive(Debug)]
pub struct Access {
    /// How far a stranger is borne with.
    pub limits: Limits,
    /// What SASL offers.
    pub mechanisms: Mechanisms,
    /// What was counted.
    pub counters: AuthCounters,
    users: RwLock<Arc<Users>>,
    exchanges: AtomicU64,
}

/// What was counted at the way in.
#[derive(Debug, Default)]
pub struct AuthCounters {
    /// Authentications that came to an end.
    pub auth_cmds: AtomicU64,
    /// Those that failed.
    pub auth_errors: AtomicU64,
    /// Connections that were closed because they did not say who they are in time.
    pub auth_timeouts: AtomicU64,
    /// The same, because a stranger's request was too long.
    pub auth_too_long: AtomicU64,
    /// The same, because of too many failures.
    pub auth_kicks: AtomicU64,
}

impl Access {
    /// A way in that is closed to everybody, until there are [users](Self::set_users).
    #[must_use]
    pub fn closed(limits: Limits, mechanisms: Mechanisms) -> Self {
        Self {
            limits,
            mechanisms,
            counters: AuthCounters::default(),
            users: RwLock::new(Arc::new(Users::nobody())),
            exchanges: AtomicU64::new(0),
        }
    }

    /// Replaces the users.
    pub fn set_users(&self, users: Users) {
        *self.users.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(users);
    }

    /// Whether `user` has this password. Counted.
    pub fn check(&self, user: &[u8], password: &[u8]) -> Verdict {
        let verdict = if self.users().check(user, password) { Verdict::Accepted } else { Verdict::Refused };
        self.count(verdict);
        verdict
    }

    fn users(&self) -> Arc<Users> {
        Arc::clone(&self.users.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// A number that no other exchange has had.
    fn next_exchange(&self) -> u64 {
        self.exchanges.fetch_add(1, Ordering::Relaxed)
    }

    fn count(&self, verdict: Verdict) {
        self.counters.auth_cmds.fetch_add(1, Ordering::Relaxed);
        if verdict == Verdict::Refused {
            self.counters.auth_errors.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl AuthCounters {
    /// All of them, by the names that `stats` has for them.
    #[must_use]
    pub fn lines(&self) -> [(&'static str, &AtomicU64); 5] {
        [
            ("auth_cmds", &self.auth_cmds),
            ("auth_errors", &self.auth_errors),
            ("auth_timeouts", &self.auth_timeouts),
            ("auth_too_long", &self.auth_too_long),
            ("auth_kicks", &self.auth_kicks),
        ]
    }
}

/// How an authentication ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// He is who he says he is.
    Accepted,
    /// He is not, or nobody knows.
    Refused,
}

//! What the kernel knows of a thread.
//!
//! A thread that wakes interrupts the one that runs, if it is owed the time. That is right for the request of one connection:
//! the client who has sent it waits for nothing else. Where several connections are busy, the client would be interrupted in the
//! middle of sending more, and each turn would be short. So a thread that serves several says that it is none of the
//! interactive ones: `SCHED_BATCH`, see sched(7). So does one for which nobody waits, as the snapshot thread. It keeps its
//! nice value, and its share of the processor.

#![expect(unsafe_code, reason = "neither std nor nix can tell the kernel")]

use crate::patience::Load;

/// The calling thread's rank, as far as this has set it.
#[derive(Debug, Default)]
pub(crate) enum Rank {
    /// Whatever the operator gave it.
    #[default]
    Unknown,
    /// As it befits a load.
    Fits(Load),
    /// The operator or the system wants it otherwise.
    Fixed,
}

impl Rank {
    /// Makes it fit `load`, if it does not.
    pub(crate) fn follow(&mut self, load: Load) {
        match self {
            Self::Fixed => return,
            Self::Fits(fits) if *fits == load => return,
            Self::Unknown if policy() != libc::SCHED_OTHER => return *self = Self::Fixed,
            Self::Unknown | Self::Fits(_) => {}
        }
        let policy = match load {
            Load::Low => libc::SCHED_OTHER,
            Load::High => libc::SCHED_BATCH,
        };
        *self = if set_policy(policy) { Self::Fits(load) } else { Self::Fixed };
    }
}

fn policy() -> libc::c_int {
    // SAFETY: it takes a thread's number, 0 for the calling one, and no memory.
    unsafe { libc::sched_getscheduler(0) }
}

/// Says whether the system let it.
fn set_policy(policy: libc::c_int) -> bool {
    let priority = libc::sched_param { sched_priority: 0 };
    // SAFETY: it reads the parameter, which lives until it returns, and keeps nothing of it.
    unsafe { libc::sched_setscheduler(0, policy, &raw const priority) == 0 }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn it_follows_the_load_there_and_back() {
        let policies = thread::spawn(|| {
            let mut rank = Rank::default();
            [Load::High, Load::Low, Load::High].map(|load| {
                rank.follow(load);
                policy()
            })
        });
        assert_eq!(policies.join().unwrap(), [libc::SCHED_BATCH, libc::SCHED_OTHER, libc::SCHED_BATCH]);
    }

    #[test]
    fn what_the_operator_has_set_stays() {
        let policy = thread::spawn(|| {
            assert!(set_policy(libc::SCHED_IDLE));
            Rank::default().follow(Load::High);
            policy()
        });
        assert_eq!(policy.join().unwrap(), libc::SCHED_IDLE);
    }
}

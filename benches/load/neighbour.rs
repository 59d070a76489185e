//! A process that wants the core for itself: what a server meets on a machine that is not its own.

use std::env;
use std::hint::black_box;
use std::io;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;

use nix::unistd::{Pid, getppid};

/// The parent of this process when it began.
static PARENT: LazyLock<Pid> = LazyLock::new(getppid);

/// Whether the process that started this one is still there. The first call has to come early.
pub(crate) fn has_parent() -> bool {
    *PARENT == getppid()
}

/// Uses a core until it is stopped, or its parent has gone.
pub(crate) fn spin() {
    const ROUNDS: u64 = 1 << 22;
    while has_parent() {
        (0..ROUNDS).for_each(|round| {
            black_box(round);
        });
    }
}

/// A neighbour that is there until this is dropped.
#[derive(Debug)]
pub(crate) struct Neighbour(Child);

impl Neighbour {
    /// This program again, on the same cores.
    ///
    /// # Errors
    /// Where it does not start.
    pub(crate) fn start() -> io::Result<Self> {
        let child = Command::new(env::current_exe()?).arg("--neighbour").stdin(Stdio::null()).spawn()?;
        Ok(Self(child))
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        // A child that has not been waited for keeps its id, so this reaches no other process.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

//! Clients that come, begin to say who they are, and leave.

use std::collections::VecDeque;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Half of an authentication in the text protocol.
const WORDS: &[u8] = b"set x 0 0 10\r\nann pen";
/// So many come each time that the thread wakes, which leaves the core to the others in between: 2,000 a second.
const AT_ONCE: usize = 2;
const PAUSE: Duration = Duration::from_millis(1);

/// Strangers to a server, who come and go until this is dropped.
#[derive(Debug)]
pub(super) struct Strangers {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Strangers {
    /// So many at a time.
    pub(super) fn begin(address: SocketAddr, count: usize) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&is_over);
        let thread = (count > 0).then(|| thread::spawn(move || come_and_go(address, count, &told)));
        Self { is_over, thread }
    }
}

impl Drop for Strangers {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has nothing to say.
            let _ = thread.join();
        }
    }
}

/// For each that comes when all are there, the oldest leaves.
fn come_and_go(address: SocketAddr, count: usize, is_over: &AtomicBool) {
    let mut there = VecDeque::with_capacity(count);
    while !is_over.load(Ordering::Relaxed) {
        for _ in 0..AT_ONCE {
            if there.len() == count {
                there.pop_front();
            }
            // One that is not let in, or is closed already, was a stranger all the same.
            if let Ok(mut stream) = TcpStream::connect(address) {
                let _ = stream.write_all(WORDS);
                there.push_back(stream);
            }
        }
        thread::sleep(PAUSE);
    }
}

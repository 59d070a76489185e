//! What a server is found to be like from outside: resident memory, and how many items it says it has.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use wire::{
    Command, FRAME_BODY_BYTES_MAX, Loudness, Opcode, Request, Response, ResponseHeader, Split, split,
};

use crate::syntax::Protocol;

/// Bytes that a process has resident.
///
/// # Errors
/// Where there is no such process.
pub(crate) fn rss_bytes(pid: u32) -> Result<u64, String> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).map_err(|error| format!("cannot read {path}: {error}"))?;
    rss_bytes_in(&text).ok_or_else(|| format!("cannot understand {path}"))
}

/// The line `VmRSS:     123 kB`, where kB are of 1024 bytes (`proc_pid_status(5)`).
pub(crate) fn rss_bytes_in(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Looks at a process's memory all the time.
#[derive(Debug)]
pub(crate) struct Sampler {
    rss_bytes_max: Arc<AtomicU64>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

const SAMPLE_INTERVAL: Duration = Duration::from_millis(50);

impl Sampler {
    pub(crate) fn start(pid: u32) -> Self {
        let (rss_bytes_max, ends) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (most, end) = (Arc::clone(&rss_bytes_max), Arc::clone(&ends));
        let thread = thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                let Ok(rss) = rss_bytes(pid) else { return };
                most.fetch_max(rss, Ordering::Relaxed);
                thread::sleep(SAMPLE_INTERVAL);
            }
        });
        Self { rss_bytes_max, ends, thread: Some(thread) }
    }

    /// The most that was seen so far.
    pub(crate) fn rss_bytes_max(&self) -> u64 {
        self.rss_bytes_max.load(Ordering::Relaxed)
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// No list of figures is longer.
const FIGURES_BYTES_MAX: usize = 1 << 20;

/// How many items a server says it has.
///
/// # Errors
/// Where it does not say so.
pub(crate) fn item_count(address: SocketAddr, protocol: Protocol) -> Result<u64, String> {
    match protocol {
        Protocol::Binary | Protocol::Text | Protocol::Meta => figure(address, "curr_items"),
        Protocol::Resp => ask(address, b"*1\r\n$6\r\nDBSIZE\r\n", db_size_in)
            .map_err(|error| format!("number of items: {error}")),
    }
}

/// A figure that a server tells by this name.
///
/// # Errors
/// Where it does not.
pub(crate) fn figure(address: SocketAddr, name: &str) -> Result<u64, String> {
    let mut request = Vec::new();
    let command = Command::Stat { group: None };
    Request { opaque: 0, loudness: Loudness::Loud, command }.append_to(&mut request);
    ask(address, &request, |input| figure_in(input, name)).map_err(|error| format!("{name}: {error}"))
}

/// What `find` makes of what a server answers.
fn ask(address: SocketAddr, request: &[u8], find: impl Fn(&[u8]) -> Option<u64>) -> Result<u64, String> {
    let failed = |error: std::io::Error| format!("the server cannot be asked: {error}");
    let mut stream = TcpStream::connect(address).map_err(failed)?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).map_err(failed)?;
    stream.write_all(request).map_err(failed)?;
    let (mut input, mut buffer) = (Vec::new(), [0; 4096]);
    while input.len() < FIGURES_BYTES_MAX {
        let read = stream.read(&mut buffer).map_err(failed)?;
        if read == 0 {
            break;
        }
        input.extend_from_slice(&buffer[..read]);
        if let Some(found) = find(&input) {
            return Ok(found);
        }
    }
    Err("the server does not say".to_owned())
}

/// A figure in the answers to STAT, as far as they are there.
pub(crate) fn figure_in(mut input: &[u8], name: &str) -> Option<u64> {
    while let Ok(Split::Whole { packet, rest }) = split::<ResponseHeader>(input, FRAME_BODY_BYTES_MAX) {
        let response = Response::parse(&packet);
        if response.opcode == Opcode::STAT && response.key == name.as_bytes() {
            return std::str::from_utf8(response.value).ok()?.parse().ok();
        }
        input = rest;
    }
    None
}

/// The answer to DBSIZE, `:123`, once it is whole.
pub(crate) fn db_size_in(input: &[u8]) -> Option<u64> {
    let line = input.strip_prefix(b":")?.strip_suffix(b"\r\n")?;
    std::str::from_utf8(line).ok()?.parse().ok()
}

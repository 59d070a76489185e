//! What all threads of one server share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use foldhash::quality::FixedState;

use crate::clock::Clock;
use crate::config::Config;
use crate::message::KeyHash;
use crate::meter::Meter;
use crate::tls::Context;

/// Configuration, clock, and what is counted across threads.
#[derive(Debug)]
pub struct Server {
    /// What the operator asked for.
    pub config: Config,
    /// The time.
    pub clock: Clock,
    /// What the event loops count.
    pub counters: ServerCounters,
    /// Bytes of large values and buffers.
    pub meter: Arc<Meter>,
    /// Certificates, where connections come with TLS.
    pub tls: Option<Arc<Context>>,
    /// Large values that are being received.
    pub receiving: Arc<Receiving>,
    /// Long requests that are being received and come with no large value.
    pub unfinished: Arc<Receiving>,
    /// The last number that a client was given.
    client_ids: AtomicU64,
    hasher: FixedState,
}

impl Server {
    /// A server whose keys are hashed with `seed`. The seed must be secret: who knows it can make keys collide.
    #[must_use]
    pub fn new(config: Config, clock: Clock, seed: u64) -> Self {
        Self {
            receiving: Arc::new(Receiving::new(config.receiving_bytes_max())),
            unfinished: Arc::new(Receiving::new(config.unfinished_bytes_max())),
            meter: Arc::new(Meter::new(config.memory_bytes_max, config.item_bytes_max)),
            tls: None,
            config,
            clock,
            client_ids: AtomicU64::new(0),
            counters: ServerCounters::default(),
            hasher: FixedState::with_seed(seed),
        }
    }

    /// Reads the certificates that the configuration names. To be called before connections come.
    ///
    /// # Errors
    /// A sentence that names the file.
    pub fn with_tls(mut self) -> Result<Self, String> {
        let options = self.config.tls.clone();
        self.tls = options.map(|options| Context::load(options, self.clock)).transpose()?.map(Arc::new);
        Ok(self)
    }

    /// Ends the server as a signal would: what has been asked for is answered first.
    pub fn shut_down(&self) {
        // It fails for signals that there are none of.
        let _ = signal_hook::low_level::raise(signal_hook::consts::SIGINT);
    }

    /// A number for a client that asks for one.
    #[must_use]
    pub fn next_client_id(&self) -> u64 {
        self.client_ids.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The hash of a key.
    #[must_use]
    #[inline]
    pub fn hash(&self, key: &[u8]) -> KeyHash {
        use std::hash::{BuildHasher, Hasher};
        let mut hasher = self.hasher.build_hasher();
        hasher.write(key);
        KeyHash((hasher.finish() >> 32) as u32)
    }
}

/// What listener and event loops count, for all of the server.
#[derive(Debug, Default)]
pub struct ServerCounters {
    /// Connections now.
    pub curr_connections: AtomicU64,
    /// Connections since the start.
    pub total_connections: AtomicU64,
    /// Connections refused because there were too many.
    pub rejected_connections: AtomicU64,
    /// Times that no connection could be accepted.
    pub listen_disabled_num: AtomicU64,
    /// Bytes from clients.
    pub bytes_read: AtomicU64,
    /// Bytes to clients.
    pub bytes_written: AtomicU64,
    /// Times that a connection had more to read than one turn allows.
    pub conn_yields: AtomicU64,
}

impl ServerCounters {
    /// Adds to a counter.
    pub fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }

    /// `stats reset`: what is a sum begins again; what is a state stays.
    pub fn reset(&self) {
        for counter in [
            &self.total_connections,
            &self.rejected_connections,
            &self.listen_disabled_num,
            &self.bytes_read,
            &self.bytes_written,
            &self.conn_yields,
        ] {
            counter.store(0, Ordering::Relaxed);
        }
    }
}

/// Bounds the bytes of requests that are being received at the same time, so that clients which begin long ones and never
/// end them cannot push everything else out.
#[derive(Debug)]
pub struct Receiving {
    bytes: AtomicUsize,
    limit: usize,
}

/// A request's place among those that are being received. It is given back on drop.
#[derive(Debug)]
pub struct Place {
    receiving: Arc<Receiving>,
    bytes: usize,
}

impl Receiving {
    /// At most `limit` bytes at a time.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { bytes: AtomicUsize::new(0), limit }
    }

    /// Bytes for which places are taken.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// A place for `bytes`, `None` where there is no room.
    #[must_use]
    pub fn enter(self: &Arc<Self>, bytes: usize) -> Option<Place> {
        let place = Place { receiving: Arc::clone(self), bytes };
        let entered = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        (entered <= self.limit).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.receiving.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_received_at_a_time_than_the_limit() {
        let receiving = Arc::new(Receiving::new(100));
        let first = receiving.enter(60).unwrap();
        assert!(receiving.enter(41).is_none());
        let second = receiving.enter(40).unwrap();
        drop(first);
        assert!(receiving.enter(60).is_some());
        drop(second);
    }
}

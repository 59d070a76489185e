//! What all threads of one server share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use foldhash::quality::FixedState;

use crate::auth::Access;
use crate::clock::Clock;
use crate::config::Config;
use crate::latency::Latency;
use crate::message::KeyHash;
use crate::meter::Meter;
use crate::net::addresses::Addresses;
use crate::service::reload;
use crate::snapshot;
use crate::tls::Context;

/// Configuration, clock, and what is counted across threads.
#[derive(Debug)]
pub struct Server {
    /// What the operator asked for.
    pub config: Config,
    /// The way in, where not everybody belongs. It is closed until there are users.
    pub access: Option<Access>,
    /// Who has how many connections, where each address may have so many only.
    pub addresses: Option<Arc<Addresses>>,
    /// The time.
    pub clock: Clock,
    /// What the event loops count.
    pub counters: ServerCounters,
    /// How long requests take.
    pub latency: Latency,
    /// Bytes of large values and buffers.
    pub meter: Arc<Meter>,
    /// Certificates, where connections come with TLS.
    pub tls: Option<Arc<Context>>,
    /// Large values that are being received.
    pub receiving: Arc<Receiving>,
    /// Long requests that are being received and come with no large value.
    pub unfinished: Arc<Receiving>,
    /// The way to the thread that reads files again.
    pub reloads: reload::Handle,
    /// The way to the snapshot thread.
    pub snapshots: snapshot::Handle,
    stage: AtomicU8,
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
            latency: Latency::new(config.threads),
            stage: AtomicU8::new(Stage::Ready as u8),
            access: config.auth.as_ref().map(|auth| Access::closed(auth.limits, auth.mechanisms)),
            addresses: config.address_connections_max.map(|limit| Arc::new(Addresses::new(limit))),
            tls: None,
            config,
            clock,
            client_ids: AtomicU64::new(0),
            counters: ServerCounters::default(),
            reloads: reload::Handle::default(),
            snapshots: snapshot::Handle::default(),
            hasher: FixedState::with_seed(seed),
        }
    }

    /// How far it has come.
    #[must_use]
    pub fn stage(&self) -> Stage {
        match self.stage.load(Ordering::Acquire) {
            stage if stage == Stage::Ready as u8 => Stage::Ready,
            stage if stage == Stage::Restoring as u8 => Stage::Restoring,
            _ => Stage::Draining,
        }
    }

    /// From here on it is told to be at `stage`.
    pub fn enter(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Release);
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

/// How far a server has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It serves.
    Ready,
    /// It fills itself from a file first.
    Restoring,
    /// It answers what it was asked, and ends.
    Draining,
}

/// How long somebody waits for a change who asks for `wait_ms`: up to a sixteenth more, so that many who began together do
/// not all ask again together.
#[must_use]
pub fn waiting_time(wait_ms: u64) -> Duration {
    // Without random numbers they do, which is no fault.
    let jitter_ms = getrandom::u64().map_or(0, |random| random % (wait_ms / 16 + 1));
    Duration::from_millis(wait_ms + jitter_ms)
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
    /// Connections refused because their address had too many.
    pub rejected_per_address: AtomicU64,
    /// Times that no connection could be accepted.
    pub listen_disabled_num: AtomicU64,
    /// Bytes from clients.
    pub bytes_read: AtomicU64,
    /// Bytes to clients.
    pub bytes_written: AtomicU64,
    /// Times that a connection had more to read than one turn allows.
    pub conn_yields: AtomicU64,
    /// Connections that were closed because they were idle.
    pub idle_kicks: AtomicU64,
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
            &self.rejected_per_address,
            &self.listen_disabled_num,
            &self.bytes_read,
            &self.bytes_written,
            &self.conn_yields,
            &self.idle_kicks,
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
    fn a_wait_is_a_sixteenth_longer_at_most() {
        assert_eq!(waiting_time(0), Duration::ZERO);
        let times: Vec<_> = (0..100).map(|_| waiting_time(1600).as_millis()).collect();
        assert!(times.iter().all(|ms| (1600..=1700).contains(ms)) && times.iter().any(|ms| *ms != times[0]));
    }

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

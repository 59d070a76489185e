//! The figures of the page, in JSON. Sums are told as they are; the page makes rates of them.

use std::sync::atomic::Ordering;

use hyper::StatusCode;
use serde_json::{Map, Value, json};

use super::Shared;
use super::answer::{Answer, Refused, typed};
use crate::figures::{Group, StorageFigures, StorageStats};
use crate::latency::Kind;
use crate::message::{Batch, Command, Reply};
use crate::process;
use crate::server::Stage;

/// What the storage thread tells of itself.
pub(super) async fn figures(shared: &Shared) -> Result<Box<StorageFigures>, Refused> {
    let asked = Command::Stats(Group::General);
    match shared.desk.ask(&shared.server, Box::<Batch>::default(), asked, b"").await?.reply {
        Reply::Stats(stats) => match *stats {
            StorageStats::Figures(figures) => Ok(figures),
            _ => Err(no_figures()),
        },
        _ => Err(no_figures()),
    }
}

fn no_figures() -> Refused {
    Refused::new(StatusCode::INTERNAL_SERVER_ERROR, "the storage thread has told no figures")
}

/// What the memory limit is used for.
pub(super) struct Memory {
    small: usize,
    main: usize,
    index: usize,
    ghost: usize,
    large: usize,
    buffers: usize,
    free: usize,
}

impl Memory {
    pub(super) fn of(figures: &StorageFigures, shared: &Shared) -> Self {
        let meter = &shared.server.meter;
        let [(small, _), (main, _)] = &figures.queues;
        let mut memory = Self {
            small: small.segments * figures.segment_bytes,
            main: main.segments * figures.segment_bytes,
            index: figures.index_bytes,
            ghost: figures.ghost_bytes,
            large: meter.blocks(),
            buffers: meter.buffers(),
            free: 0,
        };
        let used: usize = memory.parts().iter().map(|(_, bytes)| bytes).sum();
        memory.free = shared.server.config.memory_bytes_max.saturating_sub(used);
        memory
    }

    /// By name, in the order in which they are shown.
    pub(super) fn parts(&self) -> [(&'static str, usize); 7] {
        [
            ("small", self.small),
            ("main", self.main),
            ("large", self.large),
            ("index", self.index),
            ("ghost", self.ghost),
            ("buffers", self.buffers),
            ("free", self.free),
        ]
    }
}

pub(super) async fn answer(shared: &Shared) -> Result<Answer, Refused> {
    let figures = figures(shared).await?;
    let server = &shared.server;
    let sums: Map<String, Value> =
        figures.counters.lines().into_iter().map(|(name, sum)| (name.into(), sum.into())).collect();
    let parts = Memory::of(&figures, shared).parts();
    let memory: Map<String, Value> =
        parts.map(|(name, bytes)| (name.into(), bytes.into())).into_iter().collect();
    let latency: Map<String, Value> =
        Kind::ALL.iter().map(|(kind, name)| ((*name).into(), histogram(shared, *kind))).collect();
    let connections = &server.counters;
    let batches = server.latency.batches();
    let body = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "stage": match server.stage() {
            Stage::Ready => "ready",
            Stage::Restoring => "restoring",
            Stage::Draining => "draining",
        },
        "uptime_s": server.clock.uptime(),
        "items": figures.item_count,
        "item_bytes": figures.item_bytes,
        "limit_bytes": server.config.memory_bytes_max,
        "resident_bytes": process::resident_bytes(),
        "memory": memory,
        "counters": sums,
        "connections": {
            "open": connections.curr_connections.load(Ordering::Relaxed),
            "max": server.config.connections_max,
            "total": connections.total_connections.load(Ordering::Relaxed),
        },
        "bytes_read": connections.bytes_read.load(Ordering::Relaxed),
        "bytes_written": connections.bytes_written.load(Ordering::Relaxed),
        "batches": { "count": batches.count, "requests": batches.sum },
        "latency_us": latency,
    });
    Ok(typed(StatusCode::OK, "application/json", format!("{body}\n")))
}

/// Pairs of an upper bound in microseconds and how many were below it; then all of them.
fn histogram(shared: &Shared, kind: Kind) -> Value {
    let summary = shared.server.latency.of(kind);
    json!({ "buckets": summary.buckets, "count": summary.count })
}

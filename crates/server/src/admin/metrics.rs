//! Figures for Prometheus, in its text format. What memcached has, too, is told under the names of `memcached_exporter`,
//! so that dashboards and alerts made for that go on working; the rest begins with `memwire_`.

use std::fmt::{Display, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::StatusCode;

use super::Shared;
use super::answer::{Answer, Refused, typed};
use super::status::{self, Memory};
use crate::figures::StorageFigures;
use crate::latency::{Kind, Summary};
use crate::meter::Use;
use crate::process;
use crate::stats;

const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
const US_PER_S: f64 = 1e6;

pub(super) async fn answer(shared: &Shared) -> Result<Answer, Refused> {
    let queue_len = shared.desk.queue_len();
    let figures = status::figures(shared).await?;
    let mut text = Text::default();
    memcached(&mut text, &figures, shared);
    commands(&mut text, &figures);
    memwire(&mut text, &figures, shared);
    text.gauge("memwire_storage_queue_requests", "Batches that wait for the storage thread.", queue_len);
    latency(&mut text, shared);
    Ok(typed(StatusCode::OK, CONTENT_TYPE, text.0))
}

/// The exposition, as far as it is written.
#[derive(Default)]
struct Text(String);

impl Text {
    /// What a family of samples is. They follow.
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &str, value: impl Display) {
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "gauge", help);
        self.sample(name, "", value);
    }

    fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "counter", help);
        self.sample(name, "", value);
    }

    /// A gauge with one label.
    fn gauges<V: Display>(&mut self, name: &str, help: &str, label: &str, rows: &[(&str, V)]) {
        self.family(name, "gauge", help);
        for (of, value) in rows {
            self.sample(name, &format!("{{{label}=\"{of}\"}}"), value);
        }
    }

    /// Buckets, sum and count; `labels` is empty, or ends with a comma. Bounds and sum are told in units of `unit`.
    fn histogram(&mut self, name: &str, labels: &str, summary: &Summary, unit: f64) {
        for (bound, count) in &summary.buckets {
            let bound = *bound as f64 / unit;
            self.sample(&format!("{name}_bucket"), &format!("{{{labels}le=\"{bound}\"}}"), count);
        }
        self.sample(&format!("{name}_bucket"), &format!("{{{labels}le=\"+Inf\"}}"), summary.count);
        let labels = labels.trim_end_matches(',');
        let labels = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        self.sample(&format!("{name}_sum"), &labels, summary.sum as f64 / unit);
        self.sample(&format!("{name}_count"), &labels, summary.count);
    }
}

fn memcached(text: &mut Text, figures: &StorageFigures, shared: &Shared) {
    let (server, counted) = (&shared.server, &figures.counters);
    let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let connections = &server.counters;
    let (user, system) = stats::cpu_times();
    text.gauge("memcached_up", "Whether the server answers.", 1);
    text.family("memcached_version", "gauge", "The version that clients are told.");
    text.sample("memcached_version", &format!("{{version=\"{}\"}}", crate::VERSION), 1);
    text.counter("memcached_uptime_seconds", "Seconds since the start.", server.clock.uptime());
    text.gauge("memcached_time_seconds", "The server's Unix time.", server.clock.now());
    text.counter("memcached_process_user_cpu_seconds_total", "CPU in user mode.", user);
    text.counter("memcached_process_system_cpu_seconds_total", "CPU in the system.", system);
    text.gauge("memcached_limit_bytes", "The memory limit.", server.config.memory_bytes_max);
    text.gauge("memcached_current_bytes", "Bytes of all items.", figures.item_bytes);
    text.gauge("memcached_current_items", "Items there are.", figures.item_count);
    text.counter("memcached_items_total", "Items stored.", counted.total_items);
    text.counter("memcached_items_evicted_total", "Items evicted.", counted.evictions);
    text.counter(
        "memcached_items_reclaimed_total",
        "Items taken out because they had expired or were flushed.",
        counted.reclaimed,
    );
    text.gauge("memcached_max_connections", "Connections allowed.", server.config.connections_max);
    text.gauge("memcached_current_connections", "Connections open.", of(&connections.curr_connections));
    text.counter("memcached_connections_total", "Connections opened.", of(&connections.total_connections));
    text.counter(
        "memcached_connections_rejected_total",
        "Connections refused because there were too many.",
        of(&connections.rejected_connections),
    );
    text.counter(
        "memcached_connections_yielded_total",
        "Turns that ended with more to read.",
        of(&connections.conn_yields),
    );
    text.counter(
        "memcached_connections_listener_disabled_total",
        "Times that no connection could be accepted.",
        of(&connections.listen_disabled_num),
    );
    text.gauge("memcached_accepting_connections", "Whether connections are accepted.", 1);
    text.counter("memcached_read_bytes_total", "Bytes from clients.", of(&connections.bytes_read));
    text.counter("memcached_written_bytes_total", "Bytes to clients.", of(&connections.bytes_written));
}

/// By what they came to, as `memcached_exporter` tells it. Its 'set' are the stores without a version.
fn commands(text: &mut Text, figures: &StorageFigures) {
    const NAME: &str = "memcached_commands_total";
    let counted = &figures.counters;
    let with_cas = counted.cas_hits + counted.cas_misses + counted.cas_badval;
    text.family(NAME, "counter", "Commands, by what they came to.");
    for (command, status, count) in [
        ("get", "hit", counted.get_hits),
        ("get", "miss", counted.get_misses),
        ("set", "hit", counted.cmd_set.saturating_sub(with_cas)),
        ("cas", "hit", counted.cas_hits),
        ("cas", "miss", counted.cas_misses),
        ("cas", "badval", counted.cas_badval),
        ("delete", "hit", counted.delete_hits),
        ("delete", "miss", counted.delete_misses),
        ("incr", "hit", counted.incr_hits),
        ("incr", "miss", counted.incr_misses),
        ("decr", "hit", counted.decr_hits),
        ("decr", "miss", counted.decr_misses),
        ("touch", "hit", counted.touch_hits),
        ("touch", "miss", counted.touch_misses),
        ("flush", "hit", counted.cmd_flush),
    ] {
        text.sample(NAME, &format!("{{command=\"{command}\",status=\"{status}\"}}"), count);
    }
}

fn memwire(text: &mut Text, figures: &StorageFigures, shared: &Shared) {
    let (meter, counted) = (&shared.server.meter, &figures.counters);
    text.counter(
        "memwire_connections_rejected_per_address_total",
        "Connections refused because their address had too many.",
        shared.server.counters.rejected_per_address.load(Ordering::Relaxed),
    );
    text.family("memwire_build_info", "gauge", "The server's own version.");
    text.sample("memwire_build_info", &format!("{{version=\"{}\"}}", env!("CARGO_PKG_VERSION")), 1);
    if let Some(bytes) = process::resident_bytes() {
        text.gauge("memwire_resident_bytes", "The process in memory.", bytes);
    }
    let parts = Memory::of(figures, shared).parts();
    text.gauges("memwire_memory_bytes", "What the memory limit is used for.", "use", &parts);
    let [(small, small_age), (main, main_age)] = &figures.queues;
    let by_queue = |name, help, rows: [usize; 2], text: &mut Text| {
        text.gauges(name, help, "queue", &[("small", rows[0]), ("main", rows[1])]);
    };
    by_queue("memwire_queue_segments", "Segments of each queue.", [small.segments, main.segments], text);
    by_queue("memwire_queue_items", "Items in each queue.", [small.records, main.records], text);
    by_queue(
        "memwire_queue_live_bytes",
        "Bytes of records in each queue that are alive.",
        [small.live_bytes, main.live_bytes],
        text,
    );
    by_queue(
        "memwire_queue_age_seconds",
        "Age of the oldest segment of each queue.",
        [*small_age as usize, *main_age as usize],
        text,
    );
    text.family("memwire_evictions_total", "counter", "Items evicted, by queue.");
    text.sample("memwire_evictions_total", "{queue=\"small\"}", counted.evicted_small);
    text.sample("memwire_evictions_total", "{queue=\"main\"}", counted.evicted_main);
    text.counter(
        "memwire_ghost_hits_total",
        "Items stored again soon after they were evicted.",
        counted.ghost_hits,
    );
    text.counter("memwire_items_moved_total", "Items moved within the log.", counted.items_moved);
    text.counter("memwire_moved_bytes_total", "Bytes of items moved within the log.", counted.bytes_moved);
    text.counter(
        "memwire_evicted_unread_total",
        "Items evicted before anyone read them.",
        counted.evicted_unfetched,
    );
    text.counter(
        "memwire_expired_unread_total",
        "Items that ended before anyone read them.",
        counted.expired_unfetched,
    );
    text.family("memwire_refused_total", "counter", "Requests refused, by reason.");
    for (why, count) in [
        ("too_large", counted.store_too_large),
        ("no_memory_to_store", counted.store_no_memory),
        ("no_memory_to_answer", counted.get_no_memory),
    ] {
        text.sample("memwire_refused_total", &format!("{{reason=\"{why}\"}}"), count);
    }
    text.gauge("memwire_segment_bytes", "Bytes of a segment.", figures.segment_bytes);
    text.gauge(
        "memwire_lent_segments",
        "Segments without an item that are still sent from.",
        figures.lent_segments,
    );
    text.gauge("memwire_watchers", "Connections that wait for an item to change.", figures.watcher_count);
    text.gauge("memwire_index_capacity", "Entries that fit into the index as it is.", figures.index_capacity);
    text.gauge("memwire_large_items", "Values in mappings of their own.", figures.block_count);
    let held = [
        ("waiting", meter.gauge(Use::Waiting)),
        ("pinned", meter.gauge(Use::Pinned)),
        ("orphaned", meter.gauge(Use::Orphaned)),
    ];
    text.gauges("memwire_held_bytes", "What clients hold by not reading.", "use", &held);
    text.gauge(
        "memwire_crowding",
        "Whether clients hold too much: 0, or 1 and 2 for how much is refused.",
        meter.crowding() as u8,
    );
}

fn latency(text: &mut Text, shared: &Shared) {
    const LATENCY: &str = "memwire_latency_seconds";
    const BATCHES: &str = "memwire_batch_requests";
    let latency = &shared.server.latency;
    text.family(
        LATENCY,
        "histogram",
        "From the first byte read in a turn to the last one of its answers written.",
    );
    for (kind, name) in Kind::ALL {
        text.histogram(LATENCY, &format!("kind=\"{name}\","), &latency.of(kind), US_PER_S);
    }
    text.family(BATCHES, "histogram", "Requests that went to the storage thread together.");
    text.histogram(BATCHES, "", &latency.batches(), 1.0);
}

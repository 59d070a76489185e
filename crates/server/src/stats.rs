//! Statistics: the names under which exporters and health checks read what was counted.
//!
//! The storage thread counts what happens to items ([`figures`](crate::figures)), the event loops what happens to
//! connections ([`ServerCounters`](crate::server::ServerCounters)). Both meet here, when somebody asks. The names are
//! memcached's. Where memcached speaks of slabs, the log is told as one class with chunks of 8 bytes, the unit in
//! which it hands out room.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;

use crate::config::{Dump, Shutdown};
use crate::figures::{Group, StorageFigures, StorageStats};
use crate::meter::Use;
use crate::server::Server;
use crate::service::logging;
use crate::storage::log::record::RECORD_ALIGN;
use crate::tls::Options;
use crate::tls::options::{LeastVersion, Resumption, Verify};

/// One statistic: its name and its value.
pub type Line = (String, String);

/// The statistics that answer a request for `group`, after the storage thread has done its part of it.
#[must_use]
pub fn answer(group: Group, stats: &StorageStats, server: &Server) -> Vec<Line> {
    if group == Group::Reset {
        server.counters.reset();
        for (_, counter) in server.access.iter().flat_map(|access| access.counters.lines()) {
            counter.store(0, Ordering::Relaxed);
        }
        if let Some(tls) = &server.tls {
            tls.counters.reset();
        }
    }
    match stats {
        StorageStats::Nothing => Vec::new(),
        StorageStats::Figures(figures) => match group {
            Group::Items => items(figures),
            Group::Slabs => slabs(figures),
            _ => general(figures, server),
        },
        StorageStats::Sizes(sizes) => self::sizes(sizes.as_deref()),
        StorageStats::Detail(dump) => vec![line("detailed", dump)],
        StorageStats::Settings { detail_enabled } => settings(server, *detail_enabled),
    }
}

fn general(figures: &StorageFigures, server: &Server) -> Vec<Line> {
    let counters = &server.counters;
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let (user, system) = cpu_times();
    let mut lines = vec![
        line("pid", std::process::id()),
        line("uptime", server.clock.uptime()),
        line("time", server.clock.now()),
        line("version", crate::VERSION),
        line("memwire_version", env!("CARGO_PKG_VERSION")),
        line("pointer_size", usize::BITS),
        line("rusage_user", user),
        line("rusage_system", system),
        line("max_connections", server.config.connections_max),
        line("curr_connections", count(&counters.curr_connections)),
        line("total_connections", count(&counters.total_connections)),
        line("rejected_connections", count(&counters.rejected_connections)),
        line("rejected_per_address", count(&counters.rejected_per_address)),
        line("connection_structures", count(&counters.curr_connections)),
    ];
    lines.extend(figures.counters.lines().into_iter().map(|(name, value)| line(name, value)));
    lines.extend(auth(server));
    lines.extend([
        line("idle_kicks", count(&counters.idle_kicks)),
        line("bytes_read", count(&counters.bytes_read)),
        line("bytes_written", count(&counters.bytes_written)),
        line("limit_maxbytes", server.config.memory_bytes_max),
        line("accepting_conns", 1),
        line("listen_disabled_num", count(&counters.listen_disabled_num)),
        line("threads", server.config.threads),
        line("conn_yields", count(&counters.conn_yields)),
        line("hash_power_level", figures.index_capacity.max(1).ilog2()),
        line("hash_bytes", figures.index_bytes),
        line("hash_is_expanding", 0),
        line("ghost_bytes", figures.ghost_bytes),
        line("bytes", figures.item_bytes),
        line("curr_items", figures.item_count),
        line("large_bytes", server.meter.blocks()),
        line("buffer_bytes", server.meter.buffers()),
        line("receiving_bytes", server.receiving.bytes() + server.unfinished.bytes()),
        line("waiting_bytes", server.meter.gauge(Use::Waiting)),
        line("pinned_bytes", server.meter.gauge(Use::Pinned)),
        line("orphaned_bytes", server.meter.gauge(Use::Orphaned)),
        line("crowding", server.meter.crowding() as u8),
        line("snapshot_state", server.snapshots.state().name()),
    ]);
    lines.extend(server.snapshots.lines().map(|(name, value)| line(name, value)));
    if let Some(tls) = &server.tls {
        lines.extend([
            line("ssl_handshake_errors", count(&tls.counters.handshake_errors)),
            line("ssl_handshake_timeouts", count(&tls.counters.handshake_timeouts)),
            line("ssl_refresh_errors", count(&tls.counters.refresh_errors)),
            line("time_since_server_cert_refresh", tls.since_refresh()),
        ]);
    }
    lines
}

fn auth(server: &Server) -> Vec<Line> {
    let Some(access) = &server.access else {
        return vec![line("auth_cmds", 0), line("auth_errors", 0)];
    };
    let told = |(name, counter): (&str, &AtomicU64)| line(name, counter.load(Ordering::Relaxed));
    access.counters.lines().into_iter().map(told).collect()
}

fn items(figures: &StorageFigures) -> Vec<Line> {
    if figures.item_count == 0 {
        return Vec::new();
    }
    let counters = &figures.counters;
    let item = |name, value| line(format!("items:1:{name}"), value);
    // memcached's names: what comes in is hot, what was asked for again is warm.
    let [(small, small_age), (main, main_age)] = &figures.queues;
    vec![
        item("number", figures.item_count as u64),
        item("number_hot", small.records as u64),
        item("number_warm", main.records as u64),
        item("number_cold", 0),
        item("age_hot", u64::from(*small_age)),
        item("age_warm", u64::from(*main_age)),
        item("age", u64::from(*small_age.max(main_age))),
        item("mem_requested", figures.item_bytes as u64),
        item("evicted", counters.evictions),
        item("evicted_time", u64::from(counters.evicted_age)),
        item("outofmemory", counters.store_no_memory),
        item("tailrepairs", 0),
        item("reclaimed", counters.reclaimed),
        item("expired_unfetched", counters.expired_unfetched),
        item("evicted_unfetched", counters.evicted_unfetched),
        item("evicted_hot", counters.evicted_small),
        item("evicted_warm", counters.evicted_main),
        item("ghost_hits", counters.ghost_hits),
        item("moves", counters.items_moved),
        item("moved_bytes", counters.bytes_moved),
    ]
}

fn slabs(figures: &StorageFigures) -> Vec<Line> {
    let counters = &figures.counters;
    let chunks_per_page = figures.segment_bytes / RECORD_ALIGN;
    let total_chunks = figures.resident_segments * chunks_per_page;
    let used_chunks = figures.live_bytes / RECORD_ALIGN;
    let [(small, _), (main, _)] = &figures.queues;
    let mut lines = Vec::new();
    if figures.resident_segments > 0 {
        let class = |name, value: u64| line(format!("1:{name}"), value);
        lines.extend([
            class("chunk_size", RECORD_ALIGN as u64),
            class("chunks_per_page", chunks_per_page as u64),
            class("total_pages", figures.resident_segments as u64),
            class("total_chunks", total_chunks as u64),
            class("used_chunks", used_chunks as u64),
            class("free_chunks", (total_chunks - used_chunks) as u64),
            class("free_chunks_end", 0),
            class("mem_requested", figures.live_bytes as u64),
            class("used_pages", figures.used_segments as u64),
            class("hot_pages", small.segments as u64),
            class("hot_bytes", (small.live_bytes + small.block_bytes) as u64),
            class("warm_pages", main.segments as u64),
            class("warm_bytes", (main.live_bytes + main.block_bytes) as u64),
            class("lent_pages", figures.lent_segments as u64),
            class("pages_live_to_25", figures.segments_by_live_quarter[0] as u64),
            class("pages_live_to_50", figures.segments_by_live_quarter[1] as u64),
            class("pages_live_to_75", figures.segments_by_live_quarter[2] as u64),
            class("pages_live_to_100", figures.segments_by_live_quarter[3] as u64),
            class("large_items", figures.block_count as u64),
            class("large_bytes", figures.block_bytes as u64),
            class("get_hits", counters.get_hits),
            class("cmd_set", counters.cmd_set),
            class("delete_hits", counters.delete_hits),
            class("incr_hits", counters.incr_hits),
            class("decr_hits", counters.decr_hits),
            class("cas_hits", counters.cas_hits),
            class("cas_badval", counters.cas_badval),
            class("touch_hits", counters.touch_hits),
        ]);
    }
    lines.push(line("active_slabs", u32::from(figures.resident_segments > 0)));
    lines.push(line(
        "total_malloced",
        figures.resident_segments * figures.segment_bytes + figures.block_bytes,
    ));
    lines
}

fn sizes(sizes: Option<&[(usize, u64)]>) -> Vec<Line> {
    match sizes {
        None => vec![line("sizes_status", "disabled")],
        Some(sizes) => sizes.iter().map(|(bytes, count)| line(bytes, count)).collect(),
    }
}

fn settings(server: &Server, detail_enabled: bool) -> Vec<Line> {
    let config = &server.config;
    let on = |on| if on { "on" } else { "off" };
    let yes = |yes| if yes { "yes" } else { "no" };
    let mut lines = vec![
        line("maxbytes", config.memory_bytes_max),
        line("maxconns", config.connections_max),
        line("maxconns_per_address", config.address_connections_max.map_or(0, NonZeroUsize::get)),
        line("tcpport", config.tcp_port_told()),
        line("udpport", 0),
        line("inter", config.listen_told()),
        line("verbosity", logging::verbosity()),
        line("oldest", 0),
        line("evictions", on(config.evictions())),
        line("domain_socket", config.unix_socket_told()),
        line("umask", format!("{:o}", config.unix_mask)),
        line("shutdown_command", yes(config.shutdown == Shutdown::Allowed)),
        line("chunk_size", RECORD_ALIGN),
        line("num_threads", config.threads),
        line("stat_key_prefix", char::from(config.prefix_delimiter)),
        line("detail_enabled", yes(detail_enabled)),
        line("reqs_per_event", config.requests_per_event),
        line("cas_enabled", yes(config.cas_enabled())),
        line("tcp_backlog", config.backlog),
        line("binding_protocol", config.protocol_told()),
        line("auth_enabled_sasl", yes(config.auth.is_some())),
        line("auth_enabled_ascii", config.auth_file_told()),
        line("item_size_max", config.item_bytes_max),
        line("maxconns_fast", "yes"),
        line("flush_enabled", yes(config.flush_enabled())),
        line("dump_enabled", yes(config.dump == Dump::Allowed)),
        line("hash_algorithm", "foldhash"),
        line("track_sizes", yes(config.track_sizes)),
        line("idle_timeout", config.idle_timeout_ms.unwrap_or(0) / 1000),
    ];
    lines.extend(tls_settings(server));
    lines
}

/// As memcached tells them.
fn tls_settings(server: &Server) -> Vec<Line> {
    let Some(tls) = &server.tls else {
        return vec![line("ssl_enabled", "no")];
    };
    let Options { chain_cert, key, ca_cert, verify, least_version, resumption, .. } = &tls.options;
    let told = |path: Option<&PathBuf>| path.map_or("NULL".into(), |path| path.display().to_string());
    // OpenSSL's number for it.
    let verify = match verify {
        Verify::None => 0,
        Verify::Request => 1,
        Verify::Require => 3,
    };
    let least_version = match least_version {
        LeastVersion::Tls12 => "tlsv1.2",
        LeastVersion::Tls13 => "tlsv1.3",
    };
    vec![
        line("ssl_enabled", "yes"),
        line("ssl_chain_cert", chain_cert.display()),
        line("ssl_key", told(key.as_ref())),
        line("ssl_verify_mode", verify),
        line("ssl_keyformat", 1),
        line("ssl_ciphers", "NULL"),
        line("ssl_ca_cert", told(ca_cert.as_ref())),
        line("ssl_session_cache", if *resumption == Resumption::Yes { "yes" } else { "no" }),
        line("ssl_min_version", least_version),
        line("ssl_handshake_timeout", tls.options.handshake_ms_max / 1000),
    ]
}

/// Seconds of CPU that the process has used, in user mode and in the system.
pub(crate) fn cpu_times() -> (String, String) {
    let seconds = |time: TimeVal| format!("{}.{:06}", time.tv_sec(), time.tv_usec());
    match getrusage(UsageWho::RUSAGE_SELF) {
        Ok(usage) => (seconds(usage.user_time()), seconds(usage.system_time())),
        Err(_) => (String::from("0.000000"), String::from("0.000000")),
    }
}

fn line(name: impl ToString, value: impl ToString) -> Line {
    (name.to_string(), value.to_string())
}

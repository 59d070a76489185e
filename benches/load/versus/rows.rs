//! What is compared: groups of workloads.

use std::fmt;

use clap::ValueEnum;

use crate::syntax::Protocol;
use crate::workload::Mix;

/// Workloads that are run alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Group {
    /// Servers and generator on one core, where figures repeat.
    Pinned,
    /// Wherever the system puts them.
    Unpinned,
    /// As pinned, and a process beside them that never sleeps.
    Neighbour,
    /// memcached's text protocol, pinned.
    Text,
    /// Its meta commands, pinned.
    Meta,
    /// Redis's protocol beside redis, pinned.
    Resp,
    /// The binary protocol over TLS, beside others with TLS, pinned.
    Tls,
    /// The text protocol with a password, with strangers who come and go and without, pinned.
    Strangers,
}

impl Group {
    pub(crate) fn is_pinned(self) -> bool {
        self != Self::Unpinned
    }

    /// What memwire is asked in, and who else has it.
    pub(crate) fn protocol(self) -> Protocol {
        match self {
            Self::Pinned | Self::Unpinned | Self::Neighbour | Self::Tls => Protocol::Binary,
            Self::Text | Self::Strangers => Protocol::Text,
            Self::Meta => Protocol::Meta,
            Self::Resp => Protocol::Resp,
        }
    }

    pub(crate) fn rows(self) -> &'static [Row] {
        match self {
            Self::Pinned | Self::Unpinned => BINARY,
            Self::Neighbour => NEIGHBOUR,
            Self::Text => TEXT,
            Self::Meta => META,
            Self::Resp => RESP,
            Self::Tls => TLS,
            Self::Strangers => STRANGERS,
        }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Pinned => "servers and generator on one core",
            Self::Unpinned => "nothing pinned",
            Self::Neighbour => "on one core with a process that never sleeps",
            Self::Text => "text protocol, on one core",
            Self::Meta => "meta commands, on one core",
            Self::Resp => "RESP, on one core",
            Self::Tls => "TLS, on one core",
            Self::Strangers => "text protocol with a password, on one core",
        })
    }
}

/// A workload.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) connections: usize,
    pub(crate) depth: usize,
    pub(crate) mix: Mix,
    pub(crate) key_count: u32,
    pub(crate) value_bytes: (usize, usize),
    pub(crate) load: Load,
    /// Clients that come, begin to say who they are, and leave, 2,000 a second: so many at a time.
    pub(crate) strangers: usize,
}

/// How fast is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// As fast as it is answered: throughput counts.
    Closed,
    /// At half of what memcached answers at most: latency counts.
    HalfOfMemcached,
}

pub(crate) const KIB: usize = 1 << 10;

const SMALL: (u32, (usize, usize)) = (100_000, (100, 100));
const MIXED: (u32, (usize, usize)) = (100_000, (32, 500));

/// Small values where requests are counted, large ones where bytes are.
const BINARY: &[Row] = &[
    row("GET, 1 connection", (1, 1), Mix::Get, SMALL),
    row("GET, 50 connections", (50, 1), Mix::Get, SMALL),
    row("GET, 200 connections", (200, 1), Mix::Get, SMALL),
    row("GET, 8 x 32 deep", (8, 32), Mix::Get, SMALL),
    row("100 GETKQ + NOOP, 8 conn.", (8, 1), Mix::Batch { gets: 100 }, SMALL),
    row("SET, 50 connections", (50, 1), Mix::Set, SMALL),
    row("SET, 8 x 32 deep", (8, 32), Mix::Set, SMALL),
    row("SET:GET 1:10, 40 conn.", (40, 1), Mix::Ratio { sets: 1, gets: 10 }, MIXED),
    row("SET:GET 4:8, 40 conn.", (40, 1), Mix::Ratio { sets: 4, gets: 8 }, MIXED),
    row("GET 10 KiB, 8 connections", (8, 1), Mix::Get, (4_000, (10 * KIB, 10 * KIB))),
    row("GET 100 KiB, 4 connections", (4, 1), Mix::Get, (400, (100 * KIB, 100 * KIB))),
    row("GET 1 MiB, 2 connections", (2, 1), Mix::Get, (100, (1024 * KIB, 1024 * KIB))),
    Row { load: Load::HalfOfMemcached, ..row("p99 at half load, 50 conn.", (50, 1), Mix::Get, SMALL) },
];

const NEIGHBOUR: &[Row] = &[
    row("GET, 1 connection", (1, 1), Mix::Get, SMALL),
    row("GET, 50 connections", (50, 1), Mix::Get, SMALL),
    row("GET, 8 x 32 deep", (8, 32), Mix::Get, SMALL),
];

const TEXT: &[Row] = &[
    row("get, 50 connections", (50, 1), Mix::Get, SMALL),
    row("get, 8 x 32 deep", (8, 32), Mix::Get, SMALL),
    row("get of 100 keys, 8 conn.", (8, 1), Mix::Batch { gets: 100 }, SMALL),
    row("set, 50 connections", (50, 1), Mix::Set, SMALL),
];

const META: &[Row] = &[
    row("mg, 50 connections", (50, 1), Mix::Get, SMALL),
    row("100 mg q + mn, 8 conn.", (8, 1), Mix::Batch { gets: 100 }, SMALL),
    row("ms, 50 connections", (50, 1), Mix::Set, SMALL),
];

const RESP: &[Row] = &[
    row("GET, 50 connections", (50, 1), Mix::Get, SMALL),
    row("SET, 50 connections", (50, 1), Mix::Set, SMALL),
    row("GET, 50 x 16 deep", (50, 16), Mix::Get, SMALL),
    row("SET, 50 x 16 deep", (50, 16), Mix::Set, SMALL),
    row("MGET of 100 keys, 8 conn.", (8, 1), Mix::Batch { gets: 100 }, SMALL),
];

const TLS: &[Row] = &[
    row("GET, 50 connections", (50, 1), Mix::Get, SMALL),
    row("GET, 8 x 32 deep", (8, 32), Mix::Get, SMALL),
    row("GET 10 KiB, 8 connections", (8, 1), Mix::Get, (4_000, (10 * KIB, 10 * KIB))),
    row("SET, 50 connections", (50, 1), Mix::Set, SMALL),
];

const STRANGERS: &[Row] = &[
    row("get, 50 connections", (50, 1), Mix::Get, SMALL),
    Row { strangers: 500, ..row("get, 50 conn., strangers", (50, 1), Mix::Get, SMALL) },
    row("get, 8 x 32 deep", (8, 32), Mix::Get, SMALL),
    Row { strangers: 500, ..row("get, 8 x 32, strangers", (8, 32), Mix::Get, SMALL) },
];

const fn row(
    name: &'static str,
    (connections, depth): (usize, usize),
    mix: Mix,
    (key_count, value_bytes): (u32, (usize, usize)),
) -> Row {
    Row { name, connections, depth, mix, key_count, value_bytes, load: Load::Closed, strangers: 0 }
}

//! What the storage thread counts, and what it tells when somebody asks.
//!
//! Plain integers: nobody else touches them. Under which names they are told is [`stats`](crate::stats).

use crate::storage::log::QueueFigures;

/// A group of statistics, as `stats GROUP` asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// Without a name.
    General,
    /// `settings`.
    Settings,
    /// `items`.
    Items,
    /// `slabs`.
    Slabs,
    /// `sizes`.
    Sizes,
    /// `reset`: sets the counters to zero.
    Reset,
    /// `detail on`.
    DetailOn,
    /// `detail off`.
    DetailOff,
    /// `detail dump`.
    DetailDump,
}

impl Group {
    /// The group of this name, empty for the general one; `None` where there is none.
    #[must_use]
    pub fn parse(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"" => Self::General,
            b"settings" => Self::Settings,
            b"items" => Self::Items,
            b"slabs" => Self::Slabs,
            b"sizes" => Self::Sizes,
            b"reset" => Self::Reset,
            b"detail on" => Self::DetailOn,
            b"detail off" => Self::DetailOff,
            b"detail dump" => Self::DetailDump,
            _ => return None,
        })
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What the storage thread counts.
        #[derive(Debug, Clone, Default)]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)*
            /// Seconds between the opening of the segment of the item that was evicted last and its eviction.
            pub evicted_age: u32,
        }

        impl Counters {
            /// Those that are told under their own name, in memcached's order.
            #[must_use]
            pub fn lines(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }

            /// `stats reset`: everything counts from zero again.
            pub fn reset(&mut self) {
                *self = Self::default();
            }
        }
    };
}

counters! {
    /// Reads.
    cmd_get,
    /// Stores of any kind.
    cmd_set,
    /// Flushes.
    cmd_flush,
    /// Touches, with and without reading.
    cmd_touch,
    /// Meta commands.
    cmd_meta,
    /// Reads that found an item.
    get_hits,
    /// Reads that found none.
    get_misses,
    /// Reads and touches that found one which had expired.
    get_expired,
    /// Reads and touches that found one which had been flushed.
    get_flushed,
    /// Deletions of nothing.
    delete_misses,
    /// Deletions.
    delete_hits,
    /// Increments of nothing.
    incr_misses,
    /// Increments.
    incr_hits,
    /// Decrements of nothing.
    decr_misses,
    /// Decrements.
    decr_hits,
    /// Compare-and-swaps of nothing.
    cas_misses,
    /// Compare-and-swaps.
    cas_hits,
    /// Compare-and-swaps that met another version.
    cas_badval,
    /// Touches that found an item.
    touch_hits,
    /// Touches that found none.
    touch_misses,
    /// Values refused for their length.
    store_too_large,
    /// Values refused for want of memory.
    store_no_memory,
    /// Answers refused because clients held too much.
    get_no_memory,
    /// Items stored since the start.
    total_items,
    /// Items that expired or were flushed before anyone read them.
    expired_unfetched,
    /// Items that were evicted before anyone read them.
    evicted_unfetched,
    /// Items evicted.
    evictions,
    /// Items taken out because they had expired or had been flushed.
    reclaimed,
    /// Items evicted from the small queue.
    evicted_small,
    /// Items evicted from the main queue.
    evicted_main,
    /// Items stored again soon after they were evicted.
    ghost_hits,
    /// Items moved within the log: to the main queue, to another round in it, or out of a segment that was cleaned.
    items_moved,
    /// Bytes of their records.
    bytes_moved,
}

/// What the storage thread answers.
#[derive(Debug)]
pub enum StorageStats {
    /// Nothing but that it is done.
    Nothing,
    /// Figures for `stats`, `stats items`, `stats slabs`.
    Figures(Box<StorageFigures>),
    /// Items by size, `None` where that is not counted.
    Sizes(Option<Vec<(usize, u64)>>),
    /// The text of `stats detail dump`.
    Detail(String),
    /// What can change while the server runs.
    Settings {
        /// Whether prefixes are counted.
        detail_enabled: bool,
    },
}

impl StorageStats {
    /// Bytes that the answer comes to, about.
    #[must_use]
    pub fn told_bytes(&self) -> usize {
        const LINE_BYTES: usize = 64;
        const LINES: usize = 64;
        match self {
            Self::Nothing => 0,
            Self::Figures(_) | Self::Settings { .. } => LINES * LINE_BYTES,
            Self::Sizes(sizes) => sizes.as_ref().map_or(0, Vec::len) * LINE_BYTES,
            Self::Detail(dump) => dump.len(),
        }
    }
}

/// The state of the storage.
#[derive(Debug, Clone)]
pub struct StorageFigures {
    /// What was counted.
    pub counters: Counters,
    /// Items there are.
    pub item_count: usize,
    /// Those among them that were flushed and are not taken out yet.
    pub flushed_count: usize,
    /// Bytes of their records and large values.
    pub item_bytes: usize,
    /// Bytes of the index.
    pub index_bytes: usize,
    /// Entries that fit into the index as it is.
    pub index_capacity: usize,
    /// Large values.
    pub block_count: usize,
    /// Bytes of their mappings, those on their way in and out included.
    pub block_bytes: usize,
    /// Bytes of a segment.
    pub segment_bytes: usize,
    /// Segments in memory.
    pub resident_segments: usize,
    /// Segments that hold items.
    pub used_segments: usize,
    /// Bytes of live records.
    pub live_bytes: usize,
    /// Bytes of the ghost.
    pub ghost_bytes: usize,
    /// Connections that wait for an item to change.
    pub watcher_count: usize,
    /// Segments without an item that are still being sent from.
    pub lent_segments: usize,
    /// Segments of whose bytes up to a quarter, a half, three quarters, and all are alive.
    pub segments_by_live_quarter: [usize; 4],
    /// The small and the main queue: what they hold, and seconds since their oldest segment was opened.
    pub queues: [(QueueFigures, u32); 2],
}

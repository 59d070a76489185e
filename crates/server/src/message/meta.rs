//! What only the meta commands ask for and tell.

use wire::{Cas, Concat, Direction, Expiration, OnMiss, StoreMode};

/// What only the meta commands ask for. It stands beside its operation, so that each operation stays small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meta {
    /// Of `mg`.
    Get(MetaGet),
    /// Of `ms`.
    Store(MetaStore),
    /// Of `md`.
    Delete(MetaDelete),
    /// Of `ma`.
    Count(MetaCount),
}

/// Rare flags of `mg`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MetaGet {
    /// `N`: a missing item is made, without a value, to end then.
    pub vivify: Option<Expiration>,
    /// `T`: a new expiration.
    pub touch: Option<Expiration>,
    /// `t` before `T`: the expiration is told that was there.
    pub tells_ttl: Moment,
    /// `R`: who asks when the item ends before this is to bring another value.
    pub recache: Option<Expiration>,
    /// `C`: the version of a value that is known, and is not sent again.
    pub known_cas: Option<u64>,
    /// `E`: the version that clients are told of an item that is made.
    pub new_cas: Option<Cas>,
}

/// Before or after what a command does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Moment {
    /// As it is left.
    #[default]
    After,
    /// As it was found.
    Before,
}

/// Rare flags of `ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetaStore {
    /// What it does.
    pub mode: MetaMode,
    /// The client's 32 bits.
    pub flags: u32,
    /// When the item ends.
    pub expiration: Expiration,
    /// The version that the item must have.
    pub cas: Option<u64>,
    /// `I`: an older version is good enough, and makes the item stale.
    pub allows_older: bool,
    /// `E`: the version that clients are told from then on.
    pub new_cas: Option<Cas>,
}

/// What `ms` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetaMode {
    /// It writes.
    Store(StoreMode),
    /// It adds bytes.
    Concat {
        /// To which end.
        side: Concat,
        /// `N`: a missing item is made of them, to end then.
        vivify: Option<Expiration>,
    },
}

/// Rare flags of `md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetaDelete {
    /// The version that the item must have.
    pub cas: Option<u64>,
    /// `x`: it stays without its value, with these flags and this expiration.
    pub emptied: Option<(u32, Expiration)>,
    /// `I`: it stays, and is stale.
    pub is_made_stale: bool,
    /// `T`: when it ends that is made stale.
    pub touch: Option<Expiration>,
    /// `E`: the version that clients are told from then on.
    pub new_cas: Option<Cas>,
}

/// Rare flags of `ma`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetaCount {
    /// Up or down.
    pub direction: Direction,
    /// By how much.
    pub delta: u64,
    /// What becomes of a missing item.
    pub on_miss: OnMiss,
    /// The version that the item must have.
    pub cas: Option<u64>,
    /// `T`: a new expiration.
    pub touch: Option<Expiration>,
    /// `t` before `T`: the expiration is told that was there.
    pub tells_ttl: Moment,
    /// `E`: the version that clients are told from then on.
    pub new_cas: Option<Cas>,
}

/// What the meta commands tell of an item, as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct State(u8);

impl State {
    /// `h1`: it had been read before.
    pub const FETCHED: Self = Self(1);
    /// `X`: it is stale.
    pub const STALE: Self = Self(2);
    /// `Z`: somebody else is to bring another value.
    pub const SENT: Self = Self(4);
    /// `W`: who reads this is to bring another value.
    pub const WON: Self = Self(8);

    /// Whether all of `other` is true.
    #[must_use]
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The same, with `other` where that holds.
    #[must_use]
    pub fn with_if(self, other: Self, holds: bool) -> Self {
        Self(if holds { self.0 | other.0 } else { self.0 })
    }
}

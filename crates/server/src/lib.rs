//! memwire: a memcached server that stores what it sends.
//!
//! Folders are threads or pure code. [`net`] is the event loops, [`storage`] the one thread that touches the data;
//! [`admin`] is its HTTP;
//! [`session`] is the protocols, without I/O, and [`auth`] says who may speak them. What passes between them is
//! [`message`], and how it gets there is [`hop`]. `ARCHITECTURE.md` tells the whole.

pub mod admin;
pub mod args;
pub mod auth;
pub mod clock;
pub mod config;
pub mod figures;
pub mod hop;
pub mod latency;
pub mod limits;
pub mod message;
pub mod meter;
pub mod net;
mod patience;
pub mod process;
mod rank;
pub mod server;
pub mod service;
pub mod session;
pub mod snapshot;
pub mod stats;
pub mod storage;
mod sync;
pub mod tls;

/// The version that clients are told. They read features off it, and refuse one that does not begin with a number
/// from 1 to 255: this is the memcached whose protocol is served.
pub const VERSION: &str = "1.6.45";

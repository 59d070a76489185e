//! Over real sockets.

mod abuse;
mod client;
mod clients;
mod commands;
mod differential;
mod example_client;
mod framing;
mod harness;
mod http;
mod memory;
mod process;
mod snapshot;
mod statistics;
mod tidy;
mod values;
mod watch;

//! Over real sockets.

mod abuse;
mod client;
mod clients;
mod commands;
mod differential;
mod example_client;
mod framing;
mod harness;
mod memory;
mod process;
mod service;
mod statistics;
mod tidy;
mod values;

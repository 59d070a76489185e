//! Over real sockets.

mod abuse;
mod auth;
mod client;
mod clients;
mod commands;
mod differential;
mod example_client;
mod framing;
mod harness;
mod http;
mod http_guard;
mod memory;
mod process;
mod protocols;
mod reload;
mod service;
mod snapshot;
mod statistics;
mod strangers;
mod tidy;
mod tls;
mod values;
mod watch;

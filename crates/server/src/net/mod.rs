//! The event loops: sockets, and nothing but sockets. Only here is mio.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`inherited`] | listening sockets that systemd hands over |
//! | [`listener`] | the main thread: accepts, and waits for signals |
//! | [`event_loop`] | an I/O thread: polls, reads, sends batches, writes answers |
//! | [`addresses`] | who has how many connections |
//! | [`connection`] | one connection: what has been read, what is to be written |
//! | [`deadlines`] | connections that have a while for something |
//! | [`buffer`] | bytes that wait |
//! | [`outbox`] | answers that the socket did not take at once |
//! | [`slots`] | connections by number, safe against late answers |
//! | [`socket`] | a TCP or a Unix stream |
//! | [`tls`] | a TCP stream with TLS over it |

pub mod addresses;
pub mod buffer;
pub mod connection;
pub mod deadlines;
pub mod event_loop;
pub mod inherited;
pub mod listener;
pub mod outbox;
pub mod slots;
pub mod socket;
pub mod tls;
mod wait;

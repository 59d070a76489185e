//! The engine against a plain map (`memwire_simulator::oracle`), and the sessions against the rules: no sockets, no threads, no clock.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`world`] | an engine, how it is asked, what it answers |
//! | [`stories`] | random sequences of batches |
//! | [`properties`] | engine and map, told the same stories |
//! | [`cases`] | single behaviours of the engine |
//! | [`crowding`] | clients that hold too much |
//! | [`eviction`] | who is evicted, and who stays |
//! | [`moving`] | values that are read while everything moves |
//! | [`ending`] | the storage thread ends when it is told to |
//! | [`packets`] | requests and responses, byte by byte |
//! | [`parsing`] | binary requests into operations, however they were cut up |
//! | [`strings`] | Redis's strings in the engine, against a plain map |
//! | [`rendering`] | answers into bytes |
//! | [`resp`] | Redis's protocol over a connection |
//! | [`scanning`] | walking over all items |
//! | [`snapshot`] | all items as packets |
//! | [`text`] | the text protocol, from the socket to the engine and back |
//! | [`waiting`] | `mg` that waits for a change |
//! | [`waking`] | who is told first of a change for which many wait |

mod cases;
mod connections;
mod crowding;
mod ending;
mod eviction;
mod moving;
mod packets;
mod parsing;
mod properties;
mod rendering;
mod resp;
mod scanning;
mod snapshot;
mod stories;
mod strings;
mod text;
mod waiting;
mod waking;
mod world;

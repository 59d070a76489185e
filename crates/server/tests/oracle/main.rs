//! The engine against a plain map, and the sessions against the rules: no sockets, no threads, no clock.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`world`] | an engine, how it is asked, what it answers |
//! | [`model`] | the plain map that knows the right answer |
//! | [`stories`] | random sequences of batches |
//! | [`properties`] | engine and map, told the same stories |
//! | [`cases`] | single behaviours of the engine |
//! | [`ending`] | the storage thread ends when it is told to |
//! | [`packets`] | requests and responses, byte by byte |
//! | [`parsing`] | binary requests into operations, however they were cut up |
//! | [`rendering`] | answers into bytes |

mod cases;
mod ending;
mod model;
mod packets;
mod parsing;
mod properties;
mod rendering;
mod stories;
mod world;

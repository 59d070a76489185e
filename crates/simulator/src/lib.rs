//! The rules of the server, written down a second time.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`ask`] | one operation, and what it is answered |
//! | [`oracle`] | the plain map that knows the right answer |

pub mod ask;
pub mod oracle;

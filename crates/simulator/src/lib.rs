//! A server with clients, a network and a clock of its own making: the same each time.
//!
//! Connections, sessions and engine are those of the product. What is around them is made up: the sockets are two
//! buffers, the event loops turn when they are told to, the storage thread is a queue, the clock stands until it is
//! moved. Who does the next step, and what, is chosen by a [`Source`]: from a seed, or from a fuzzer's bytes. There is
//! no thread, no time, no address and no order by chance in it, so that a run can be repeated from its seed.
//!
//! Clients ask for everything there is, in pieces of any length, do not read for a while, break off in the middle; they
//! wait for changes, and where there are users they say who they are, or something else. The server is killed now and then,
//! and filled again from a snapshot that was being written meanwhile.
//! A plain map, the [`oracle`], is told the same requests in the order in which the engine executes them, and says what
//! each client is to read, byte by byte.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`source`] | all choices |
//! | [`world`] | who does the next step; the queue to the engine, the clock, and what must hold |
//! | [`report`] | how much of everything has happened |
//! | [`client`] | a client, and whether it reads what it is owed |
//! | [`requests`] | what clients ask for |
//! | [`owed`] | what a request is owed, by its bytes |
//! | [`stranger`] | how clients get in where there are users, and what they are owed until then |
//! | [`link`] | the network between a client and the server |
//! | [`event_loop`] | what an I/O thread does, step by step |
//! | [`evicted`] | which items may be missing |
//! | [`snapshots`] | what the snapshot thread does, step by step, and what each file stands for |
//! | [`trace`] | what happened |
//! | [`ask`] | one operation, and what it is answered |
//! | [`oracle`] | the plain map that knows the right answer |

pub mod ask;
pub mod client;
pub mod event_loop;
pub mod evicted;
pub mod link;
pub mod oracle;
pub mod owed;
pub mod report;
pub mod requests;
pub mod snapshots;
pub mod source;
pub mod stranger;
pub mod trace;
pub mod world;

pub use report::Report;
pub use source::Source;
pub use trace::Failure;
pub use world::run;

/// What a run is to be like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Steps after which everything is brought to rest.
    pub steps_max: u32,
    /// What is broken.
    pub fault: Option<Fault>,
}

/// Faults that a run must find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Late answers go to the next occupant of their connection's slot.
    NextOccupant,
    /// Now and then a batch is executed at the time of the day before.
    OldClock,
    /// A value changes while it is being written.
    TornValue,
    /// Now and then the poll forgets to report something.
    LostEvent,
    /// Now and then a piece of a snapshot is not written.
    LostPiece,
    /// Now and then nobody is told of a change.
    LostChange,
    /// The server has another password than the clients.
    OtherPassword,
    /// The storage thread is not told that one who has waited is gone.
    ForgottenWaiter,
}

impl Options {
    /// So many steps, and nothing broken but with the feature `canary`.
    #[must_use]
    pub fn of_build(steps_max: u32) -> Self {
        Self { steps_max, fault: cfg!(feature = "canary").then_some(Fault::NextOccupant) }
    }
}

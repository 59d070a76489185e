//! What has happened in a run: how much of everything.

/// Declares the report: figures that add up.
macro_rules! report {
    ($($(#[$doc:meta])* $figure:ident,)*) => {
        /// What has happened in a run: how much of everything, to see that nothing is left out.
        #[derive(Debug, Default, Clone, PartialEq, Eq)]
        pub struct Report {
            /// All that has happened, as one number.
            pub trace: u64,
            /// Steps.
            pub steps: u32,
            $($(#[$doc])* pub $figure: u64,)*
        }

        impl Report {
            /// Adds up.
            pub fn add(&mut self, other: &Self) {
                self.trace ^= other.trace;
                self.steps += other.steps;
                $(self.$figure += other.$figure;)*
            }
        }
    };
}

report! {
    /// Batches executed.
    batches,
    /// Requests executed.
    requests,
    /// Values that were read.
    hits,
    /// Those of them that lie in mappings of their own.
    large_hits,
    /// Requests that were not answered because they are quiet.
    quiet,
    /// Writes refused for want of memory.
    refusals,
    /// Items that were evicted.
    evicted,
    /// Requests that were malformed.
    malformed,
    /// Requests that went back unexecuted.
    put_back,
    /// Answers that found nobody.
    late_answers,
    /// Writes that a socket did not take whole.
    short_writes,
    /// Large values that waited for room.
    without_room,
    /// Connections closed because their large value stalled.
    stalled,
    /// Clients that were let in.
    admitted,
    /// Wrong passwords.
    rejected,
    /// Times that a client was noted to wait for a change.
    waits,
    /// Those who were told of one.
    waits_told,
    /// Those whose time was up.
    waits_over,
    /// Those who might not wait, because too many did.
    waits_refused,
    /// Snapshots that were written to their end.
    snapshots,
    /// Snapshots that were begun anew because of a flush.
    begun_anew,
    /// Times that the server was restarted.
    restarts,
    /// Items that were restored.
    restored,
    /// Connections.
    connections,
}

//! What has happened in a run: how much of everything.

/// What has happened in a run: how much of everything, to see that nothing is left out.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Report {
    /// All that has happened, as one number.
    pub trace: u64,
    /// Steps.
    pub steps: u32,
    /// Batches executed.
    pub batches: u64,
    /// Requests executed.
    pub requests: u64,
    /// Values that were read.
    pub hits: u64,
    /// Those of them that lie in mappings of their own.
    pub large_hits: u64,
    /// Requests that were not answered because they are quiet.
    pub quiet: u64,
    /// Writes refused for want of memory.
    pub refusals: u64,
    /// Items that were evicted.
    pub evicted: u64,
    /// Requests that were malformed.
    pub malformed: u64,
    /// Requests that went back unexecuted.
    pub put_back: u64,
    /// Answers that found nobody.
    pub late_answers: u64,
    /// Writes that a socket did not take whole.
    pub short_writes: u64,
    /// Large values that waited for room.
    pub without_room: u64,
    /// Connections closed because their large value stalled.
    pub stalled: u64,
    /// Connections.
    pub connections: u64,
}

impl Report {
    /// Adds up.
    pub fn add(&mut self, other: &Self) {
        let Self {
            trace,
            steps,
            batches,
            requests,
            hits,
            large_hits,
            quiet,
            refusals,
            evicted,
            malformed,
            put_back,
            late_answers,
            short_writes,
            without_room,
            stalled,
            connections,
        } = other;
        self.trace ^= trace;
        self.steps += steps;
        for (sum, count) in [
            (&mut self.batches, batches),
            (&mut self.requests, requests),
            (&mut self.hits, hits),
            (&mut self.large_hits, large_hits),
            (&mut self.quiet, quiet),
            (&mut self.refusals, refusals),
            (&mut self.evicted, evicted),
            (&mut self.malformed, malformed),
            (&mut self.put_back, put_back),
            (&mut self.late_answers, late_answers),
            (&mut self.short_writes, short_writes),
            (&mut self.without_room, without_room),
            (&mut self.stalled, stalled),
            (&mut self.connections, connections),
        ] {
            *sum += count;
        }
    }
}

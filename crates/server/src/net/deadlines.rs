//! Connections that have a while for something.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::limits::DEADLINES_GONE_MIN;
use crate::message::ConnId;
use crate::net::slots::Slots;

/// Connections by the time that each has for the same thing. All of them have as long, so they stand in the order in which
/// they came.
#[derive(Debug, Default)]
pub struct Deadlines {
    queue: VecDeque<(Instant, ConnId)>,
}

impl Deadlines {
    /// From here on a connection has so long.
    pub fn push<T>(&mut self, id: ConnId, length: Duration, connections: &mut Slots<T>) {
        // Those that are gone already need not be looked at; the queue stays as short as the connections are few.
        if self.queue.len() >= 2 * connections.len() + DEADLINES_GONE_MIN {
            self.queue.retain(|(_, id)| connections.get_mut(*id).is_some());
        }
        self.queue.push_back((Instant::now() + length, id));
    }

    /// The next one whose time is up, which may be gone.
    pub fn pop_due(&mut self) -> Option<ConnId> {
        let (until, _) = self.queue.front()?;
        if *until > Instant::now() {
            return None;
        }
        self.queue.pop_front().map(|(_, id)| id)
    }

    /// When the next one's time is up.
    #[must_use]
    pub fn first(&self) -> Option<Instant> {
        self.queue.front().map(|(until, _)| *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_time_is_up_comes_in_order_and_nobody_before() {
        let (mut deadlines, mut connections) = (Deadlines::default(), Slots::default());
        let ids = [(); 2].map(|()| connections.insert(()));
        for id in ids {
            deadlines.push(id, Duration::ZERO, &mut connections);
        }
        deadlines.push(ids[0], Duration::from_hours(1), &mut connections);
        assert_eq!([(); 3].map(|()| deadlines.pop_due()), [Some(ids[0]), Some(ids[1]), None]);
        assert!(deadlines.first().is_some_and(|until| until > Instant::now()));
    }

    #[test]
    fn those_that_are_gone_do_not_pile_up() {
        let (mut deadlines, mut connections) = (Deadlines::default(), Slots::default());
        let stays = connections.insert(());
        deadlines.push(stays, Duration::ZERO, &mut connections);
        for _ in 0..10 * DEADLINES_GONE_MIN {
            let goes = connections.insert(());
            deadlines.push(goes, Duration::ZERO, &mut connections);
            connections.remove(goes);
            assert!(deadlines.queue.len() <= 2 * 2 + DEADLINES_GONE_MIN);
        }
        assert_eq!(deadlines.pop_due(), Some(stays));
    }
}

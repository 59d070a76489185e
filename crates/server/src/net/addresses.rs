//! Who has how many connections, where each address may have so many only.
//!
//! Looked at when a connection comes and when it goes, never for a request.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The connections of each address. Those without one, over a Unix socket, are nobody's.
#[derive(Debug)]
pub struct Addresses {
    connections_max: NonZeroUsize,
    connections: Mutex<HashMap<Origin, usize>>,
}

/// Who is counted as one. Of IPv6 that is a network: whoever has one address of it mostly has all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Origin {
    V4(u32),
    /// The first 64 bits.
    V6(u64),
}

impl Origin {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => Self::V6((address.to_bits() >> 64) as u64),
        }
    }
}

/// A connection's place among those of its address. It is given back on drop.
#[derive(Debug)]
pub struct Seat {
    addresses: Arc<Addresses>,
    origin: Origin,
}

impl Addresses {
    /// Each may have so many connections at a time.
    #[must_use]
    pub fn new(connections_max: NonZeroUsize) -> Self {
        Self { connections_max, connections: Mutex::default() }
    }

    /// A place for a connection from `address`, `None` where it has too many.
    #[must_use]
    pub fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Box<Seat>> {
        let origin = Origin::of(address);
        let mut connections = self.lock();
        let taken = connections.entry(origin).or_default();
        if *taken >= self.connections_max.get() {
            return None;
        }
        *taken += 1;
        Some(Box::new(Seat { addresses: Arc::clone(self), origin }))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Origin, usize>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut connections = self.addresses.lock();
        if let Some(taken) = connections.get_mut(&self.origin) {
            *taken -= 1;
            // As many addresses are remembered as have connections.
            if *taken == 0 {
                connections.remove(&self.origin);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(connections_max: usize) -> Arc<Addresses> {
        Arc::new(Addresses::new(NonZeroUsize::new(connections_max).unwrap()))
    }

    fn enter(addresses: &Arc<Addresses>, address: &str) -> Option<Box<Seat>> {
        addresses.enter(address.parse().unwrap())
    }

    #[test]
    fn each_address_has_so_many_and_a_place_is_free_again_after_a_close() {
        let addresses = addresses(2);
        let [first, _second] = [(); 2].map(|()| enter(&addresses, "10.0.0.1").unwrap());
        assert!(enter(&addresses, "10.0.0.1").is_none());
        assert!(enter(&addresses, "10.0.0.2").is_some(), "another address");
        drop(first);
        let _third = enter(&addresses, "10.0.0.1").unwrap();
        assert!(enter(&addresses, "10.0.0.1").is_none());
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_address_and_ipv4_within_ipv6_as_itself() {
        let addresses = addresses(1);
        let _first = enter(&addresses, "2001:db8:0:1::1").unwrap();
        assert!(enter(&addresses, "2001:db8:0:1:ffff::2").is_none());
        let _second = enter(&addresses, "2001:db8:0:2::1").unwrap();
        let _third = enter(&addresses, "::ffff:10.0.0.1").unwrap();
        assert!(enter(&addresses, "10.0.0.1").is_none());
        assert!(enter(&addresses, "::ffff:10.0.0.2").is_some());
    }

    #[test]
    fn nobody_is_remembered_who_has_no_connection() {
        let addresses = addresses(3);
        let seats: Vec<_> = (0..3).map(|at| enter(&addresses, &format!("10.0.0.{at}")).unwrap()).collect();
        assert_eq!(addresses.lock().len(), 3);
        drop(seats);
        assert!(addresses.lock().is_empty());
    }
}

//! Connections by number.
//!
//! A number is a slot and the generation of its occupant. A connection that closes leaves its slot to the next one,
//! and answers for it may still be on their way: their generation is not the new occupant's, so they find nobody.

use mio::Token;

use crate::message::ConnId;

/// Values in numbered slots.
#[derive(Debug)]
pub struct Slots<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slots<T> {
    /// Takes a slot.
    pub fn insert(&mut self, value: T) -> ConnId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, value: None });
            (self.slots.len() - 1) as u32
        });
        let place = &mut self.slots[slot as usize];
        place.value = Some(value);
        ConnId { slot, generation: place.generation }
    }

    /// The value of this number, `None` where it is gone.
    pub fn get_mut(&mut self, id: ConnId) -> Option<&mut T> {
        let slot = self.slots.get_mut(id.slot as usize)?;
        if slot.generation == id.generation { slot.value.as_mut() } else { None }
    }

    /// Frees the slot of this number.
    pub fn remove(&mut self, id: ConnId) -> Option<T> {
        let slot = self.slots.get_mut(id.slot as usize)?;
        if slot.generation != id.generation {
            return None;
        }
        let value = slot.value.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(id.slot);
        Some(value)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The numbers of all of them.
    #[must_use]
    pub fn ids(&self) -> Vec<ConnId> {
        let occupied = self.slots.iter().enumerate().filter(|(_, slot)| slot.value.is_some());
        occupied.map(|(at, slot)| ConnId { slot: at as u32, generation: slot.generation }).collect()
    }
}

impl ConnId {
    /// As the poll's mark: an event may be late, too.
    #[must_use]
    pub fn to_token(self) -> Token {
        Token((u64::from(self.generation) << 32 | u64::from(self.slot)) as usize)
    }

    /// From the poll's mark.
    #[must_use]
    pub fn of_token(token: Token) -> Self {
        Self { slot: token.0 as u32, generation: (token.0 as u64 >> 32) as u32 }
    }
}

const _: () = assert!(usize::BITS >= 64, "slot and generation fit into a token");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_number_finds_nobody() {
        let mut slots = Slots::default();
        let first = slots.insert("first");
        assert_eq!(slots.remove(first), Some("first"));
        let second = slots.insert("second");
        assert_eq!(second.slot, first.slot, "the slot is used again");
        assert_eq!(slots.get_mut(first), None);
        assert_eq!(slots.remove(first), None);
        assert_eq!(slots.get_mut(second), Some(&mut "second"));
        assert_eq!((slots.len(), slots.ids()), (1, vec![second]));
    }

    #[test]
    fn numbers_survive_the_token() {
        let id = ConnId { slot: 7, generation: u32::MAX };
        assert_eq!(ConnId::of_token(id.to_token()), id);
    }
}

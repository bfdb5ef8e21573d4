//! Which slot belongs to whom.

use std::fmt;

/// The number of hash slots of a cluster.
pub(crate) const SLOTS: usize = 16_384;

/// Marks a slot without an owner.
const UNOWNED: u16 = u16::MAX;

/// Slots that follow each other, both ends included.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SlotRange {
    pub(crate) first: u16,
    pub(crate) last: u16,
}

impl SlotRange {
    /// Creates a range. `None` if there is no such slot, or the ends are the wrong way round.
    pub(crate) fn new(first: u16, last: u16) -> Option<Self> {
        (first <= last && usize::from(last) < SLOTS).then_some(Self { first, last })
    }

    pub(crate) fn slots(self) -> impl Iterator<Item = u16> {
        self.first..=self.last
    }
}

impl fmt::Display for SlotRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first == self.last {
            true => write!(f, "{}", self.first),
            false => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

impl fmt::Debug for SlotRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The owner of each slot, as an index into a list beside it. It takes 32 KB.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SlotMap {
    owners: Box<[u16]>,
}

impl SlotMap {
    /// A map in which no slot has an owner.
    pub(crate) fn new() -> Self {
        Self { owners: vec![UNOWNED; SLOTS].into() }
    }

    /// Returns the owner of a slot. `None` if it has none, or there is no such slot.
    pub(crate) fn owner(&self, slot: u16) -> Option<usize> {
        self.owners.get(usize::from(slot)).filter(|owner| **owner != UNOWNED).map(|owner| usize::from(*owner))
    }

    /// Sets the owner of a slot. An owner beyond the 65,534th is not representable, and leaves the slot without one.
    pub(crate) fn set(&mut self, slot: u16, owner: Option<usize>) {
        if let Some(entry) = self.owners.get_mut(usize::from(slot)) {
            *entry = owner.and_then(|owner| u16::try_from(owner).ok()).unwrap_or(UNOWNED);
        }
    }

    /// Returns the number of slots that have an owner.
    pub(crate) fn owned(&self) -> usize {
        self.owners.iter().filter(|owner| **owner != UNOWNED).count()
    }

    /// Returns the number of slots of each of `owners` owners.
    pub(crate) fn sizes(&self, owners: usize) -> Vec<usize> {
        let mut sizes = vec![0; owners];
        for owner in &self.owners {
            if let Some(size) = sizes.get_mut(usize::from(*owner)) {
                *size += 1;
            }
        }
        sizes
    }

    /// Returns the ranges that have an owner, in order.
    pub(crate) fn ranges(&self) -> Vec<(SlotRange, usize)> {
        let (mut ranges, mut first) = (Vec::new(), 0_u16);
        for run in self.owners.chunk_by(|one, next| one == next) {
            // There are 16,384 slots.
            let last = first + (run.len() - 1) as u16;
            if run[0] != UNOWNED {
                ranges.push((SlotRange { first, last }, usize::from(run[0])));
            }
            first = last.wrapping_add(1);
        }
        ranges
    }
}

impl fmt::Debug for SlotMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.ranges()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: u16, last: u16) -> SlotRange {
        SlotRange::new(first, last).unwrap()
    }

    #[test]
    fn ranges_are_within_the_slots() {
        assert_eq!(SlotRange::new(16_384, 16_384), None);
        assert_eq!(SlotRange::new(2, 1), None);
        assert_eq!(range(3, 3).to_string(), "3");
        assert_eq!(range(0, 16_383).slots().count(), SLOTS);
    }

    #[test]
    fn map_tells_owners_ranges_and_sizes() {
        let mut map = SlotMap::new();
        assert_eq!((map.owner(0), map.owner(u16::MAX), map.owned()), (None, None, 0));
        range(0, 99).slots().for_each(|slot| map.set(slot, Some(1)));
        range(100, 199).slots().for_each(|slot| map.set(slot, Some(0)));
        map.set(50, None);
        map.set(16_383, Some(1));
        map.set(16_384, Some(1));
        let expected =
            [(range(0, 49), 1), (range(51, 99), 1), (range(100, 199), 0), (range(16_383, 16_383), 1)];
        assert_eq!(map.ranges(), expected);
        assert_eq!((map.sizes(2), map.owned()), (vec![100, 100], 200));
        map.set(50, Some(usize::from(u16::MAX)));
        assert_eq!(map.owner(50), None);
    }
}

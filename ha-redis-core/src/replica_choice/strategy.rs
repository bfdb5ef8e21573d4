//! The usual strategies.

use std::fmt;
use std::str::FromStr;

use crate::config::ParseChoiceError;
use crate::replica_choice::{ReplicaCandidate, ReplicaChoice, SelectionContext};

/// How the replica for a read is chosen: the setting `replica_strategy`.
///
/// Each strategy chooses among the replicas that match `preferred_replicas` while one of those is healthy, and
/// otherwise among all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReplicaStrategy {
    /// One after the other, across all handles of a client.
    #[default]
    RoundRobin,
    /// A random one.
    Random,
    /// The one with the lowest latency.
    LowestLatency,
    /// The one with the smallest lag; among equals, one after the other.
    LeastLag,
}

impl ReplicaChoice for ReplicaStrategy {
    fn choose(&self, candidates: &[ReplicaCandidate], context: SelectionContext) -> Option<usize> {
        let preference = candidates.iter().any(|candidate| candidate.preferred);
        let eligible =
            || candidates.iter().enumerate().filter(move |(_, candidate)| candidate.preferred == preference);
        let chosen = match self {
            Self::RoundRobin => nth(eligible(), context.number),
            Self::Random => nth(eligible(), context.random),
            Self::LowestLatency => eligible().min_by_key(|(_, candidate)| candidate.latency),
            Self::LeastLag => {
                let least = eligible().map(|(_, candidate)| candidate.lag_bytes).min()?;
                nth(eligible().filter(|(_, candidate)| candidate.lag_bytes == least), context.number)
            }
        };
        chosen.map(|(index, _)| index)
    }
}

/// Returns the item at `number`, modulo the number of items.
fn nth<T>(items: impl Iterator<Item = T> + Clone, number: u64) -> Option<T> {
    let count = items.clone().count() as u64;
    items.into_iter().nth(usize::try_from(number.checked_rem(count)?).ok()?)
}

impl fmt::Display for ReplicaStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RoundRobin => "round-robin",
            Self::Random => "random",
            Self::LowestLatency => "lowest-latency",
            Self::LeastLag => "least-lag",
        })
    }
}

impl FromStr for ReplicaStrategy {
    type Err = ParseChoiceError;

    fn from_str(text: &str) -> Result<Self, ParseChoiceError> {
        let all = [Self::RoundRobin, Self::Random, Self::LowestLatency, Self::LeastLag];
        all.into_iter().find(|strategy| strategy.to_string() == text).ok_or(ParseChoiceError)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::address::Address;

    /// Replicas by latency in milliseconds, lag and preference.
    fn candidates(of: &[(u64, u64, bool)]) -> Vec<ReplicaCandidate> {
        let candidate =
            |(port, &(latency, lag_bytes, preferred)): (u16, &(u64, u64, bool))| ReplicaCandidate {
                latency: Duration::from_millis(latency),
                lag_bytes,
                preferred,
                ..ReplicaCandidate::new(Address::tcp("r", port))
            };
        (1..).zip(of).map(candidate).collect()
    }

    /// Returns the indexes chosen in ten calls, sorted, without duplicates.
    fn chosen(strategy: ReplicaStrategy, of: &[(u64, u64, bool)]) -> Vec<usize> {
        let candidates = candidates(of);
        let choose = |context| strategy.choose(&candidates, SelectionContext::new(context, 7)).unwrap();
        let mut chosen: Vec<_> = (0..10).map(choose).collect();
        chosen.sort_unstable();
        chosen.dedup();
        chosen
    }

    #[test]
    fn strategies_choose_by_their_measure() {
        let three = [(5, 100, false), (3, 200, false), (4, 100, false)];
        assert_eq!(chosen(ReplicaStrategy::RoundRobin, &three), [0, 1, 2]);
        assert_eq!(chosen(ReplicaStrategy::Random, &three), [0, 1, 2]);
        assert_eq!(chosen(ReplicaStrategy::LowestLatency, &three), [1]);
        assert_eq!(chosen(ReplicaStrategy::LeastLag, &three), [0, 2]);
    }

    #[test]
    fn round_robin_cycles() {
        let candidates = candidates(&[(0, 0, false); 3]);
        let choose = |context| {
            ReplicaStrategy::RoundRobin.choose(&candidates, SelectionContext::new(context, 7)).unwrap()
        };
        assert_eq!([0, 1, 2, 3, 4].map(choose), [0, 1, 2, 0, 1]);
        assert_eq!(ReplicaStrategy::RoundRobin.choose(&[], SelectionContext::new(0, 7)), None);
    }

    #[test]
    fn preferred_replicas_chosen_first() {
        let three = [(1, 0, false), (9, 500, true), (8, 900, true)];
        assert_eq!(chosen(ReplicaStrategy::RoundRobin, &three), [1, 2]);
        assert_eq!(chosen(ReplicaStrategy::Random, &three), [1, 2]);
        assert_eq!(chosen(ReplicaStrategy::LowestLatency, &three), [2]);
        assert_eq!(chosen(ReplicaStrategy::LeastLag, &three), [1]);
    }

    #[test]
    fn strategy_round_trips() {
        use ReplicaStrategy::{LeastLag, LowestLatency, Random, RoundRobin};
        for strategy in [RoundRobin, Random, LowestLatency, LeastLag] {
            assert_eq!(strategy.to_string().parse(), Ok(strategy));
        }
        assert_eq!("nearest".parse::<ReplicaStrategy>(), Err(ParseChoiceError));
    }
}

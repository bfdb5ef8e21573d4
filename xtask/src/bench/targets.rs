//! The performance targets of ha-redis.

use super::figures::Figure;
use super::plan::{Case, Client, Workload};
use super::results::Results;

/// What a figure is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Against {
    Client(Client),
    /// The best of the other clients.
    BestPeer,
}

/// The comparison of a figure of ha-redis with that of others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Comparison {
    pub(super) figure: Figure,
    pub(super) against: Against,
}

/// Returns the comparisons in display order.
pub(super) fn comparisons(ours: Client) -> &'static [Comparison] {
    match ours {
        Client::HaRedis => &ON_TOKIO,
        _ => &ELSEWHERE,
    }
}

const ELSEWHERE: [Comparison; 4] = {
    const REDIS_RS: Against = Against::Client(Client::RedisRsSmol);
    const ON_TOKIO: Against = Against::Client(Client::HaRedis);
    [
        Comparison { figure: Figure::Throughput, against: REDIS_RS },
        Comparison { figure: Figure::Throughput, against: ON_TOKIO },
        Comparison { figure: Figure::Cpu, against: REDIS_RS },
        Comparison { figure: Figure::P99, against: REDIS_RS },
    ]
};

const ON_TOKIO: [Comparison; 6] = {
    const REDIS_RS: Against = Against::Client(Client::RedisRs);
    [
        Comparison { figure: Figure::Throughput, against: REDIS_RS },
        Comparison { figure: Figure::Throughput, against: Against::Client(Client::Rustis) },
        Comparison { figure: Figure::Throughput, against: Against::BestPeer },
        Comparison { figure: Figure::Cpu, against: REDIS_RS },
        Comparison { figure: Figure::P50, against: REDIS_RS },
        Comparison { figure: Figure::P99, against: REDIS_RS },
    ]
};

/// The most instructions of a GET.
pub(super) const INSTRUCTIONS: f64 = 3_300.0;
/// The most memory of 10,000 callers, in MB.
pub(super) const MEMORY: f64 = 8.0;

/// A bound on a ratio.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Bound {
    pub(super) fn is_met(self, ratio: f64) -> bool {
        match self {
            Self::AtLeast(bound) => ratio >= bound,
            Self::AtMost(bound) => ratio <= bound,
        }
    }

    pub(super) fn text(self) -> String {
        match self {
            Self::AtLeast(bound) => format!("≥ {bound}"),
            Self::AtMost(bound) => format!("≤ {bound}"),
        }
    }
}

impl Comparison {
    /// Returns ha-redis's figure as a multiple of the other, or `None` if one was not measured.
    pub(super) fn ratio(self, results: &Results, case: Case) -> Option<f64> {
        let other = match self.against {
            Against::Client(client) => results.median(case, client, self.figure),
            Against::BestPeer => {
                let peers = results.clients.iter().filter(|client| client.is_peer());
                peers.filter_map(|peer| results.median(case, *peer, self.figure)).max_by(f64::total_cmp)
            }
        };
        Some(results.median(case, results.ours, self.figure)? / other?)
    }

    /// Returns the bound on the ratio, if there is one.
    pub(super) fn target(self, case: Case) -> Option<Bound> {
        use Bound::{AtLeast, AtMost};
        let Case { workload, tasks } = case;
        match (workload, self.figure, self.against) {
            (_, Figure::Throughput, Against::Client(Client::RedisRsSmol)) => Some(AtLeast(1.5)),
            (_, Figure::Throughput, Against::Client(Client::HaRedis)) => Some(AtLeast(0.75)),
            (_, _, Against::Client(Client::RedisRsSmol)) => None,
            (Workload::Get64 | Workload::Set64, Figure::Throughput, Against::Client(Client::RedisRs)) => {
                let bounds = [(1, 1.0), (16, 1.0), (64, 1.7), (256, 1.8), (1_024, 2.3), (10_000, 3.0)];
                bounds.into_iter().find(|bound| bound.0 == tasks).map(|bound| AtLeast(bound.1))
            }
            (Workload::Get64 | Workload::Set64, Figure::Throughput, Against::Client(Client::Rustis)) => {
                (tasks >= 64).then_some(AtLeast(1.4))
            }
            // A single caller's processor time is that of the system calls.
            (Workload::Get64 | Workload::Set64, Figure::Cpu, _) => match tasks {
                ..16 => None,
                16..64 => Some(AtMost(0.8)),
                64.. => Some(AtMost(0.45)),
            },
            (Workload::Get64 | Workload::Set64, Figure::P50, _) => (tasks < 64).then_some(AtMost(1.0)),
            (Workload::Get64 | Workload::Set64, Figure::P99, _) => (tasks >= 64).then_some(AtMost(1.0)),
            (Workload::Pipeline100, Figure::Throughput, Against::BestPeer) => Some(AtLeast(1.0)),
            (Workload::Pipeline100, Figure::Cpu, _) => Some(AtMost(0.9)),
            (Workload::Get16k, Figure::Throughput, Against::Client(Client::RedisRs)) => {
                Some(AtLeast(if tasks < 256 { 1.1 } else { 1.3 }))
            }
            (Workload::Get16k, Figure::Cpu, _) => Some(AtMost(0.75)),
            _ => None,
        }
    }
}

//! Which replicas are asked for their roles, and which shards are held.
//!
//! A shard's replicas are watched while the connection to its master is lost or silent, after the master has denied that
//! it is one or has named another, and while another node reports that it has failed. One node may be wrong: a report
//! alone makes the client look for ten seconds, and then not again for a while, which doubles.
//!
//! Commands are held only while there is a connection that takes them: when the master has denied that it is one, and
//! when enough members report that it has failed. It may be cut off then, and take writes that are lost later.

use std::time::{Duration, Instant};

use crate::address::Address;
use crate::topology::ShardId;
use crate::topology::cluster::ClusterAction;
use crate::topology::cluster::members::FailReports;
use crate::topology::cluster::monitor::ClusterMonitor;
use crate::topology::cluster::shard::{Connection, HOLD_SHARE, Shard};

/// How long a report that a node has failed counts.
const REPORT_LIFETIME: Duration = Duration::from_secs(3);
/// The maximum number of replicas of a shard that are watched.
const MAX_WATCHED: usize = 8;

impl ClusterMonitor {
    pub(super) fn update_watches(&mut self, now: Instant, actions: &mut Vec<ClusterAction>) {
        for id in self.shards.keys().copied().collect::<Vec<_>>() {
            let reports = self.reports(id, now);
            self.watch(id, reports, now, actions);
            self.hold(id, reports, now, actions);
        }
    }

    /// Counts the fresh reports that the master of a shard has failed.
    fn reports(&self, shard: ShardId, now: Instant) -> FailReports {
        let Some(shard) = self.shards.get(&shard) else { return FailReports::default() };
        let since =
            now.checked_sub(REPORT_LIFETIME).map_or(shard.followed_at, |since| since.max(shard.followed_at));
        self.members.fail_reports(&shard.master, since)
    }

    fn watch(&mut self, id: ShardId, reports: FailReports, now: Instant, actions: &mut Vec<ClusterAction>) {
        let is_alarmed = self.note_reports(id, reports, now);
        let Some(shard) = self.shards.get(&id) else { return };
        let is_suspected = reports.suspected > 0 && shard.is_down(now);
        let is_watched = shard.is_suspect(now) || is_suspected || is_alarmed;
        let watched = if is_watched { self.heirs(shard) } else { Vec::new() };
        let Some(shard) = self.shards.get_mut(&id).filter(|shard| shard.watched != watched) else { return };
        shard.watched.clone_from(&watched);
        actions.push(match watched.is_empty() {
            true => ClusterAction::Unwatch { shard: id },
            false => ClusterAction::Watch { shard: id, replicas: watched },
        });
    }

    /// Returns true while reports that the master has failed are a reason to look for another one.
    fn note_reports(&mut self, id: ShardId, reports: FailReports, now: Instant) -> bool {
        let Some(shard) = self.shards.get_mut(&id) else { return false };
        let may_begin = !self.false_alarms.is_cooling_down(&shard.address, now);
        match (reports.failed, shard.reported_since) {
            (0, _) => shard.reported_since = None,
            (_, None) if may_begin => shard.reported_since = Some(now),
            // Nothing came of it.
            (_, Some(_)) if may_begin && !shard.is_alarmed(now) => {
                self.false_alarms.start(shard.address.clone(), now);
            }
            _ => {}
        }
        shard.is_alarmed(now)
    }

    /// Returns the replicas that may take over, the one that the master has named first.
    fn heirs(&self, shard: &Shard) -> Vec<Address> {
        let named = shard.redirected.as_ref().map(|(address, _)| address);
        let heirs = self.members.iter().filter(|(id, _)| self.members.is_heir(id, &shard.master));
        let there = heirs.map(|(_, member)| member).filter(|member| !member.is_replaced);
        let mut heirs: Vec<_> = there.map(|member| &member.address).collect();
        heirs.sort_by_key(|address| Some(*address) != named);
        heirs.into_iter().filter(|address| **address != shard.address).take(MAX_WATCHED).cloned().collect()
    }

    fn hold(&mut self, id: ShardId, reports: FailReports, now: Instant, actions: &mut Vec<ClusterAction>) {
        let has_failed = reports.failed >= self.members.required(&self.queries);
        let Some(shard) = self.shards.get_mut(&id) else { return };
        let is_wanted = shard.connection == Connection::Up && (shard.is_demoted || has_failed);
        match shard.held_until {
            None if is_wanted && shard.next_hold <= now => {
                shard.held_until = Some(now + self.config.hold);
                shard.next_hold = now + self.config.hold * HOLD_SHARE;
                actions.push(ClusterAction::Hold { shard: id });
            }
            Some(until) if !is_wanted || until <= now => {
                shard.held_until = None;
                actions.push(ClusterAction::Release { shard: id });
            }
            _ => {}
        }
    }
}

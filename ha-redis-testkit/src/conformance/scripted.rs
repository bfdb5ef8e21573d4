//! Sentinels with scripted replies.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use ha_redis_core::{RedisConfig, RedisConfigBuilder};

use crate::{Answer, ScriptedServer, Server};

/// The replies of a scripted Sentinel.
#[derive(Clone, Debug)]
pub(super) struct SentinelReplies {
    /// The port of the master, or `None` if the Sentinel knows none.
    pub(super) master: Option<u16>,
    /// The host that it reports for the master.
    pub(super) host: String,
    pub(super) epoch: u64,
    pub(super) tilt: bool,
    /// Whether the Sentinel answers at all.
    pub(super) answers: bool,
    /// The number of other Sentinels that it reports.
    pub(super) others: u64,
    /// The ports of the replicas, and of the other Sentinels, that it lists on 127.0.0.1.
    pub(super) replicas: Vec<u16>,
    pub(super) sentinels: Vec<u16>,
    /// The number of Sentinels that it lists in addition, at unused addresses.
    pub(super) unused_addresses: usize,
    /// The channels and messages that it sends to every subscriber before it closes the connection. If empty, it
    /// sends nothing and keeps the connection.
    pub(super) publishes: Vec<(String, String)>,
}

/// A number of Sentinels, each of which reports all the others.
pub(super) struct Sentinels {
    servers: Vec<ScriptedServer>,
    replies_of: Vec<Arc<Mutex<SentinelReplies>>>,
    queries: Vec<Arc<AtomicUsize>>,
}

impl Sentinels {
    pub(super) fn naming(master: &Server, count: usize) -> Self {
        let replies = SentinelReplies {
            master: Some(master.port()),
            host: "127.0.0.1".to_owned(),
            epoch: 1,
            tilt: false,
            answers: true,
            others: count as u64 - 1,
            replicas: Vec::new(),
            sentinels: Vec::new(),
            unused_addresses: 0,
            publishes: Vec::new(),
        };
        let replies_of: Vec<_> = (0..count).map(|_| Arc::new(Mutex::new(replies.clone()))).collect();
        let queries: Vec<Arc<AtomicUsize>> = (0..count).map(|_| Arc::default()).collect();
        let start =
            |(number, (replies, queries)): (usize, (&Arc<Mutex<SentinelReplies>>, &Arc<AtomicUsize>))| {
                let (replies, queries) = (Arc::clone(replies), Arc::clone(queries));
                let script = move |_, command: &[String]| {
                    let answer = answer(number, &replies.lock().unwrap(), command);
                    if command.get(1).is_some_and(|what| what.eq_ignore_ascii_case("MASTER")) {
                        queries.fetch_add(1, Ordering::SeqCst);
                    }
                    answer
                };
                ScriptedServer::start(script).unwrap()
            };
        Self {
            servers: replies_of.iter().zip(&queries).enumerate().map(start).collect(),
            replies_of,
            queries,
        }
    }

    /// Changes the replies of one Sentinel.
    pub(super) fn change(&self, number: usize, change: impl FnOnce(&mut SentinelReplies)) {
        change(&mut self.replies_of[number].lock().unwrap());
    }

    /// Changes the replies of all Sentinels.
    pub(super) fn change_all(&self, change: impl Fn(&mut SentinelReplies)) {
        (0..self.replies_of.len()).for_each(|number| self.change(number, &change));
    }

    /// Returns how often the client has queried one Sentinel for the master.
    pub(super) fn query_count(&self, number: usize) -> usize {
        self.queries[number].load(Ordering::SeqCst)
    }

    /// Returns how many connections one Sentinel has accepted.
    pub(super) fn accepted(&self, number: usize) -> usize {
        self.servers[number].accepted()
    }

    pub(super) fn port(&self, number: usize) -> u16 {
        self.servers[number].port()
    }

    pub(super) fn settings(&self) -> RedisConfigBuilder {
        let hosts = self.servers.iter().map(|server| ("127.0.0.1", server.port()));
        RedisConfig::builder().use_sentinel(true).sentinel_hosts(hosts)
    }

    pub(super) fn config(&self) -> RedisConfig {
        self.settings().build().unwrap()
    }
}

fn answer(number: usize, replies: &SentinelReplies, command: &[String]) -> Answer {
    let args: Vec<_> = command.iter().map(|arg| arg.to_ascii_uppercase()).collect();
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    if !replies.answers {
        return Answer::Silence;
    }
    let known_master = replies.master.map(|port| port.to_string());
    let answer = match (args.as_slice(), known_master) {
        (["SENTINEL", "MYID"], _) => bulk(&format!("{number:040}")),
        (["INFO", ..], _) => {
            bulk(&format!("sentinel_masters:1\r\nsentinel_tilt:{}\r\n", u8::from(replies.tilt)))
        }
        (["SENTINEL", "GET-MASTER-ADDR-BY-NAME", _], None) => "*-1\r\n".to_owned(),
        (["SENTINEL", "GET-MASTER-ADDR-BY-NAME", _], Some(port)) => array(&[&replies.host, &port]),
        (["SENTINEL", ..], None) => "-ERR No such master with that name\r\n".to_owned(),
        (["SENTINEL", "MASTER", _], Some(port)) => {
            let (epoch, others) = (replies.epoch.to_string(), replies.others.to_string());
            let more = [("config-epoch", &*epoch), ("quorum", "2"), ("num-other-sentinels", &others)];
            instance(&replies.host, &port, "master", &more)
        }
        (["SENTINEL", "REPLICAS", _], _) => {
            list(replies.replicas.iter().map(|port| instance("127.0.0.1", &port.to_string(), "slave", &[])))
        }
        (["SENTINEL", "SENTINELS", _], _) => {
            let known_master = replies.sentinels.iter().map(|port| ("127.0.0.1".to_owned(), *port));
            let unused_addresses =
                (0..replies.unused_addresses).map(|number| (format!("stranger{number}"), 26379));
            list(known_master.chain(unused_addresses).map(|(host, port)| {
                instance(&host, &port.to_string(), "sentinel", &[("runid", &format!("{host}{port}"))])
            }))
        }
        (["SUBSCRIBE", channel, ..], _) if !replies.publishes.is_empty() => {
            let confirmed = format!(">3\r\n{}{}:1\r\n", bulk("subscribe"), bulk(channel));
            let published = replies
                .publishes
                .iter()
                .map(|(channel, text)| format!(">3\r\n{}{}{}", bulk("message"), bulk(channel), bulk(text)));
            return Answer::Close(format!("{confirmed}{}", published.collect::<String>()).into());
        }
        // The Sentinel publishes nothing.
        _ => return Answer::Silence,
    };
    answer.as_str().into()
}

fn instance(host: &str, port: &str, flags: &str, more: &[(&str, &str)]) -> String {
    let fields = [("ip", host), ("port", port), ("flags", flags), ("master-link-status", "ok")];
    let args: Vec<_> = fields.iter().chain(more).flat_map(|(name, value)| [*name, *value]).collect();
    array(&args)
}

fn list(items: impl Iterator<Item = String>) -> String {
    let items: Vec<_> = items.collect();
    format!("*{}\r\n{}", items.len(), items.concat())
}

fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

fn array(items: &[&str]) -> String {
    list(items.iter().map(|item| bulk(item)))
}

//! Sentinels that say what a test wants them to say.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use ha_redis_core::{RedisConfig, RedisConfigBuilder};

use crate::{Answer, ScriptedServer, Server};

/// What a scripted Sentinel says.
#[derive(Clone, Debug)]
pub(super) struct Says {
    /// The port of the master, if it knows one.
    pub(super) master: Option<u16>,
    /// The master's host.
    pub(super) host: String,
    pub(super) epoch: u64,
    pub(super) tilt: bool,
    /// Whether it answers at all.
    pub(super) answers: bool,
    /// How many other Sentinels it says there are.
    pub(super) others: u64,
    /// The ports of the replicas, and of the other Sentinels, that it lists, on 127.0.0.1.
    pub(super) replicas: Vec<u16>,
    pub(super) sentinels: Vec<u16>,
    /// So many more Sentinels that it lists, at addresses that nobody has.
    pub(super) strangers: usize,
    /// The channels and messages that whoever subscribes hears at once, and then loses the connection. Without any, nothing
    /// is ever heard of it.
    pub(super) publishes: Vec<(String, String)>,
}

/// So many Sentinels, each of which knows that there are so many.
pub(super) struct Sentinels {
    servers: Vec<ScriptedServer>,
    said: Vec<Arc<Mutex<Says>>>,
    asked: Vec<Arc<AtomicUsize>>,
}

impl Sentinels {
    pub(super) fn naming(master: &Server, count: usize) -> Self {
        let says = Says {
            master: Some(master.port()),
            host: "127.0.0.1".to_owned(),
            epoch: 1,
            tilt: false,
            answers: true,
            others: count as u64 - 1,
            replicas: Vec::new(),
            sentinels: Vec::new(),
            strangers: 0,
            publishes: Vec::new(),
        };
        let said: Vec<_> = (0..count).map(|_| Arc::new(Mutex::new(says.clone()))).collect();
        let asked: Vec<Arc<AtomicUsize>> = (0..count).map(|_| Arc::default()).collect();
        let start = |(number, (says, asked)): (usize, (&Arc<Mutex<Says>>, &Arc<AtomicUsize>))| {
            let (says, asked) = (Arc::clone(says), Arc::clone(asked));
            let script = move |_, command: &[String]| {
                let answer = answer(number, &says.lock().unwrap(), command);
                if command.get(1).is_some_and(|what| what.eq_ignore_ascii_case("MASTER")) {
                    asked.fetch_add(1, Ordering::SeqCst);
                }
                answer
            };
            ScriptedServer::start(script).unwrap()
        };
        Self { servers: said.iter().zip(&asked).enumerate().map(start).collect(), said, asked }
    }

    /// Changes what one of them says.
    pub(super) fn change(&self, number: usize, change: impl FnOnce(&mut Says)) {
        change(&mut self.said[number].lock().unwrap());
    }

    /// Changes what all of them say.
    pub(super) fn change_all(&self, change: impl Fn(&mut Says)) {
        (0..self.said.len()).for_each(|number| self.change(number, &change));
    }

    /// How often one of them was asked for the master.
    pub(super) fn asked(&self, number: usize) -> usize {
        self.asked[number].load(Ordering::SeqCst)
    }

    /// How many connections one of them has had.
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

fn answer(number: usize, says: &Says, command: &[String]) -> Answer {
    let words: Vec<_> = command.iter().map(|word| word.to_ascii_uppercase()).collect();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    if !says.answers {
        return Answer::Silence;
    }
    let known = says.master.map(|port| port.to_string());
    let answer = match (words.as_slice(), known) {
        (["SENTINEL", "MYID"], _) => bulk(&format!("{number:040}")),
        (["INFO", ..], _) => {
            bulk(&format!("sentinel_masters:1\r\nsentinel_tilt:{}\r\n", u8::from(says.tilt)))
        }
        (["SENTINEL", "GET-MASTER-ADDR-BY-NAME", _], None) => "*-1\r\n".to_owned(),
        (["SENTINEL", "GET-MASTER-ADDR-BY-NAME", _], Some(port)) => array(&[&says.host, &port]),
        (["SENTINEL", ..], None) => "-ERR No such master with that name\r\n".to_owned(),
        (["SENTINEL", "MASTER", _], Some(port)) => {
            let (epoch, others) = (says.epoch.to_string(), says.others.to_string());
            let more = [("config-epoch", &*epoch), ("quorum", "2"), ("num-other-sentinels", &others)];
            instance(&says.host, &port, "master", &more)
        }
        (["SENTINEL", "REPLICAS", _], _) => {
            list(says.replicas.iter().map(|port| instance("127.0.0.1", &port.to_string(), "slave", &[])))
        }
        (["SENTINEL", "SENTINELS", _], _) => {
            let known = says.sentinels.iter().map(|port| ("127.0.0.1".to_owned(), *port));
            let strangers = (0..says.strangers).map(|number| (format!("stranger{number}"), 26379));
            list(known.chain(strangers).map(|(host, port)| {
                instance(&host, &port.to_string(), "sentinel", &[("runid", &format!("{host}{port}"))])
            }))
        }
        (["SUBSCRIBE", channel, ..], _) if !says.publishes.is_empty() => {
            let confirmed = format!(">3\r\n{}{}:1\r\n", bulk("subscribe"), bulk(channel));
            let published = says
                .publishes
                .iter()
                .map(|(channel, text)| format!(">3\r\n{}{}{}", bulk("message"), bulk(channel), bulk(text)));
            return Answer::Close(format!("{confirmed}{}", published.collect::<String>()).into());
        }
        // Of what it would publish, nothing is ever heard.
        _ => return Answer::Silence,
    };
    answer.as_str().into()
}

fn instance(host: &str, port: &str, flags: &str, more: &[(&str, &str)]) -> String {
    let fields = [("ip", host), ("port", port), ("flags", flags), ("master-link-status", "ok")];
    let words: Vec<_> = fields.iter().chain(more).flat_map(|(name, value)| [*name, *value]).collect();
    array(&words)
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

//! Sentinels that say what a test wants them to say.

use std::sync::{Arc, Mutex};

use ha_redis_core::{RedisConfig, RedisConfigBuilder};

use crate::{Answer, ScriptedServer, Server};

/// What a scripted Sentinel says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Says {
    /// The port of the master, on 127.0.0.1, if it knows one.
    pub(super) master: Option<u16>,
    pub(super) epoch: u64,
    pub(super) tilt: bool,
    /// Whether it answers at all.
    pub(super) answers: bool,
    /// How many other Sentinels it says there are.
    pub(super) others: u64,
}

/// So many Sentinels, each of which knows that there are so many.
pub(super) struct Sentinels {
    servers: Vec<ScriptedServer>,
    said: Vec<Arc<Mutex<Says>>>,
}

impl Sentinels {
    pub(super) fn naming(master: &Server, count: usize) -> Self {
        let says = Says {
            master: Some(master.port()),
            epoch: 1,
            tilt: false,
            answers: true,
            others: count as u64 - 1,
        };
        let said: Vec<_> = (0..count).map(|_| Arc::new(Mutex::new(says))).collect();
        let start = |(number, says): (usize, &Arc<Mutex<Says>>)| {
            let says = Arc::clone(says);
            ScriptedServer::start(move |_, command| answer(number, *says.lock().unwrap(), command)).unwrap()
        };
        Self { servers: said.iter().enumerate().map(start).collect(), said }
    }

    /// Changes what one of them says.
    pub(super) fn change(&self, number: usize, change: impl FnOnce(&mut Says)) {
        change(&mut self.said[number].lock().unwrap());
    }

    pub(super) fn settings(&self) -> RedisConfigBuilder {
        let hosts = self.servers.iter().map(|server| ("127.0.0.1", server.port()));
        RedisConfig::builder().use_sentinel(true).sentinel_hosts(hosts)
    }

    pub(super) fn config(&self) -> RedisConfig {
        self.settings().build().unwrap()
    }
}

fn answer(number: usize, says: Says, command: &[String]) -> Answer {
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
        (["SENTINEL", "GET-MASTER-ADDR-BY-NAME", _], Some(port)) => array(&["127.0.0.1", &port]),
        (["SENTINEL", ..], None) => "-ERR No such master with that name\r\n".to_owned(),
        (["SENTINEL", "MASTER", _], Some(port)) => {
            let (epoch, others) = (says.epoch.to_string(), says.others.to_string());
            array(&[
                "ip",
                "127.0.0.1",
                "port",
                &port,
                "flags",
                "master",
                "config-epoch",
                &epoch,
                "quorum",
                "2",
                "num-other-sentinels",
                &others,
            ])
        }
        (["SENTINEL", "REPLICAS" | "SENTINELS", _], _) => "*0\r\n".to_owned(),
        // Of what it would publish, nothing is ever heard.
        _ => return Answer::Silence,
    };
    answer.as_str().into()
}

fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

fn array(items: &[&str]) -> String {
    format!("*{}\r\n{}", items.len(), items.iter().map(|item| bulk(item)).collect::<String>())
}

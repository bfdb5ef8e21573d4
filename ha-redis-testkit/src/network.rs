//! A network between the processes of a topology or a cluster that can be partitioned.
//!
//! Every process listens on and connects from a loopback address of its own, as if it were on a separate host.
//! Other processes only know its port on 127.0.0.1, where a proxy forwards to it. The proxy recognizes by the
//! source address whether a connection comes from a partitioned process or from a client.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::error::Error;
use crate::proxy::Proxy;
use crate::server::{Server, ServerBuilder};

/// One proxy for each port of each process, on the same port of 127.0.0.1.
#[derive(Default)]
pub(crate) struct Network {
    entrances: Vec<Entrance>,
}

struct Entrance {
    /// The port that identifies the process.
    process: u16,
    proxy: Proxy,
}

/// Returns the address of one process behind the proxies.
pub(crate) fn host(number: usize) -> IpAddr {
    // Processes beyond the last number would share it, and could not be distinguished.
    Ipv4Addr::new(127, 0, 1, u8::try_from(number + 1).unwrap_or(u8::MAX)).into()
}

/// Makes the process connect from `host`.
pub(crate) fn leaving_from(host: IpAddr, server: ServerBuilder) -> ServerBuilder {
    server.config(format!("bind-source-addr {host}"))
}

impl Network {
    /// Makes a port of the process reachable for the others.
    pub(crate) fn connect(&mut self, server: &Server, port: u16) -> Result<(), Error> {
        let proxy = Proxy::with_port_of(SocketAddr::new(server.address().ip(), port))?;
        self.entrances.push(Entrance { process: server.port(), proxy });
        Ok(())
    }

    pub(crate) fn partition(&self, one: &[&Server], other: &[&Server]) {
        for (side, from) in [(one, other), (other, one)] {
            for proxy in side.iter().flat_map(|server| self.before(server)) {
                proxy.partition(from.iter().map(|server| server.address().ip()));
            }
        }
    }

    pub(crate) fn heal(&self) -> Result<(), Error> {
        self.entrances.iter().try_for_each(|entrance| entrance.proxy.heal())
    }

    fn before(&self, server: &Server) -> impl Iterator<Item = &Proxy> {
        let of_process = move |entrance: &&Entrance| entrance.process == server.port();
        self.entrances.iter().filter(of_process).map(|entrance| &entrance.proxy)
    }
}

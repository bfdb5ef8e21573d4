//! A network between the processes of a topology that can be partitioned.
//!
//! Every process listens on and connects from a loopback address of its own, as if it were on a separate host.
//! Other processes only know its port on 127.0.0.1, where a proxy forwards to it. The proxy recognizes by the
//! source address whether a connection comes from a partitioned process or from a client.

use std::net::{IpAddr, Ipv4Addr};

use crate::error::Error;
use crate::proxy::Proxy;
use crate::server::{Server, ServerBuilder};

/// One proxy for each process, on the port of the process.
#[derive(Default)]
pub(super) struct Network {
    proxies: Vec<Proxy>,
}

/// Returns the address of one process behind the proxies.
pub(super) fn host(number: usize) -> IpAddr {
    // Processes beyond the last number would share it, and could not be distinguished.
    Ipv4Addr::new(127, 0, 1, u8::try_from(number + 1).unwrap_or(u8::MAX)).into()
}

/// Makes the process connect from `host`.
pub(super) fn leaving_from(host: IpAddr, server: ServerBuilder) -> ServerBuilder {
    server.config(format!("bind-source-addr {host}"))
}

impl Network {
    /// Makes the process reachable for the others.
    pub(super) fn connect(&mut self, server: &Server) -> Result<(), Error> {
        self.proxies.push(Proxy::with_port_of(server)?);
        Ok(())
    }

    pub(super) fn partition(&self, one: &[&Server], other: &[&Server]) {
        for (side, from) in [(one, other), (other, one)] {
            for proxy in side.iter().filter_map(|server| self.before(server)) {
                proxy.partition(from.iter().map(|server| server.address().ip()));
            }
        }
    }

    pub(super) fn heal(&self) -> Result<(), Error> {
        self.proxies.iter().try_for_each(Proxy::heal)
    }

    fn before(&self, server: &Server) -> Option<&Proxy> {
        self.proxies.iter().find(|proxy| proxy.port() == server.port())
    }
}

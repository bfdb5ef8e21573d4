//! A network between the processes of a topology, so that it can be partitioned.
//!
//! Every process has a loopback address of its own, on which it listens and from which it connects, as if it were
//! alone on a host. All that others know of it is its port of 127.0.0.1, where a proxy stands before it; and the
//! proxy tells by the address of a connection whether it comes from a process that is cut off, or from a client.

use std::net::{IpAddr, Ipv4Addr};

use crate::error::Error;
use crate::proxy::Proxy;
use crate::server::{Server, ServerBuilder};

/// One proxy a process, on its port.
#[derive(Default)]
pub(super) struct Network {
    proxies: Vec<Proxy>,
}

/// The address of one process, below the proxies'.
pub(super) fn host(number: usize) -> IpAddr {
    // More processes than numbers would share the last one, and could not be told apart.
    Ipv4Addr::new(127, 0, 1, u8::try_from(number + 1).unwrap_or(u8::MAX)).into()
}

/// Has the process connect from `host`.
pub(super) fn leaving_from(host: IpAddr, server: ServerBuilder) -> ServerBuilder {
    server.config(format!("bind-source-addr {host}"))
}

impl Network {
    /// Lets others reach the process.
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

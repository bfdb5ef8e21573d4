//! Reserves ports for this process.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use crate::Error;
use crate::lock_file::LockFile;
use crate::server::retry_taken_ports;

/// Lower than the ports that Linux and macOS assign to outgoing connections, so that no outgoing connection takes
/// the port of a server that is down and will be restarted.
const FIRST: u16 = 15_000;
const COUNT: u16 = 17_000;

/// How much higher the port of a node's cluster bus is than the node's own port. This is the default of the servers.
pub(crate) const BUS_OFFSET: u16 = 10_000;

/// A port that no other test uses, in this or another process, while this value lives, even while nothing listens
/// on it. The reservation is a lock on a file named after the port, and ends with the process.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    _lock: LockFile,
}

impl Port {
    /// Reserves a free port of `host`.
    pub(crate) fn any(host: IpAddr) -> Result<Self, Error> {
        search(COUNT, |number| Self::free(number, host))
    }

    /// Reserves a free port of `host` for a node of a cluster, and the port of its cluster bus.
    pub(crate) fn any_with_bus(host: IpAddr) -> Result<(Self, Self), Error> {
        search(COUNT - BUS_OFFSET, |number| {
            let Some(port) = Self::free(number, host)? else { return Ok(None) };
            let bus = Self::free(number + BUS_OFFSET, host)?;
            Ok(bus.map(|bus| (port, bus)))
        })
    }

    /// Reserves the port `number` of `host`.
    pub(crate) fn exactly(number: u16, host: IpAddr) -> Result<Self, Error> {
        Self::free(number, host)?.ok_or(Error::PortTaken { port: number })
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }

    /// Returns true if nothing listens on the port.
    pub(crate) fn is_free(&self, host: IpAddr) -> bool {
        TcpListener::bind((host, self.number)).is_ok()
    }

    /// Returns `None` if the port is reserved by another owner, or if something listens on it.
    fn free(number: u16, host: IpAddr) -> Result<Option<Self>, Error> {
        Ok(Self::reserve(number)?.filter(|port| port.is_free(host)))
    }

    /// Returns `None` if the port is reserved by another owner.
    fn reserve(number: u16) -> Result<Option<Self>, Error> {
        // One folder per user, because files of other users cannot be removed.
        let user = rustix::process::getuid().as_raw();
        let folder = std::env::temp_dir().join(format!("ha-redis-ports-{user}"));
        let lock = LockFile::try_take(folder.join(number.to_string()));
        let lock = lock.map_err(Error::io(format!("lock a port in {}", folder.display())))?;
        Ok(lock.map(|lock| Self { number, _lock: lock }))
    }
}

/// Returns what `reserve` returns for the first of `count` ports for which it returns something.
fn search<T>(count: u16, reserve: impl Fn(u16) -> Result<Option<T>, Error>) -> Result<T, Error> {
    // Starts at a random port, so that processes rarely try the same ports.
    let start = RandomState::new().hash_one(()) % u64::from(count);
    for offset in 0..u64::from(count) {
        let place = (start + offset) % u64::from(count);
        let number = FIRST + u16::try_from(place).unwrap_or(0);
        if let Some(found) = reserve(number)? {
            return Ok(found);
        }
    }
    Err(Error::NotReady(format!("no port from {FIRST} to {} is free", FIRST + count - 1)))
}

/// Returns a non-blocking listener on a reserved port of 127.0.0.1.
pub(crate) fn listen() -> Result<(Port, TcpListener), Error> {
    retry_taken_ports(|| {
        let port = Port::any(Ipv4Addr::LOCALHOST.into())?;
        let listener = listen_on((Ipv4Addr::LOCALHOST, port.number()).into())?;
        Ok((port, listener))
    })
}

/// Returns a non-blocking listener.
pub(crate) fn listen_on(address: SocketAddr) -> Result<TcpListener, Error> {
    let opened = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    opened.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => Error::PortTaken { port: address.port() },
        _ => Error::io(format!("listen on {address}"))(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[test]
    fn reserved_port_is_exclusive() {
        let port = Port::any(HOST).unwrap();
        let number = port.number();
        assert!(matches!(Port::exactly(number, HOST), Err(Error::PortTaken { .. })));
        drop(port);
        assert_eq!(Port::exactly(number, HOST).unwrap().number(), number);
    }

    #[test]
    fn bus_port_reserved_with_port_of_node() {
        let (port, bus) = Port::any_with_bus(HOST).unwrap();
        assert_eq!(bus.number(), port.number() + BUS_OFFSET);
        assert!(bus.number() < FIRST + COUNT);
        for taken in [port.number(), bus.number()] {
            assert!(matches!(Port::exactly(taken, HOST), Err(Error::PortTaken { .. })));
        }
    }

    #[test]
    fn port_in_use_is_not_free() {
        let port = Port::any(HOST).unwrap();
        let listener = TcpListener::bind((HOST, port.number())).unwrap();
        assert!(!port.is_free(HOST));
        drop(listener);
        assert!(port.is_free(HOST));
    }
}

//! A proxy that stands between a client and a server, with the faults that networks have.

mod connection;
mod relay;

use std::fmt;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::ports::{self, Port};
use crate::server::Server;
use relay::{Relay, Request};

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Requests.
    ToServer,
    /// Replies and pushes.
    ToClient,
}

impl Direction {
    const BOTH: [Self; 2] = [Self::ToServer, Self::ToClient];

    /// The place of what is kept for each direction.
    fn index(self) -> usize {
        self as usize
    }
}

/// How a connection ends, on both of its sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cut {
    /// As when a process ends: the peer reads the end of the stream (FIN).
    Close,
    /// As when a host has lost its state: the peer gets "connection reset" (RST).
    Reset,
}

/// A proxy on a port of 127.0.0.1 that forwards bytes between its clients and a server. All of it ends when this
/// value drops.
///
/// Faults are switched on and off while connections live, act on live and on new connections alike, and add up.
/// When a method returns, its fault is in force. [`Proxy::heal`] ends them all.
///
/// ```
/// use ha_redis_testkit::{Cut, Direction, Proxy, Server};
///
/// # fn main() -> Result<(), ha_redis_testkit::Error> {
/// let server = Server::start()?;
/// let proxy = Proxy::before(&server)?;
/// // … connect a client to proxy.url()
/// proxy.lose(Direction::ToClient); // requests arrive, replies vanish
/// proxy.cut(Cut::Reset);
/// proxy.heal()?;
/// # Ok(())
/// # }
/// ```
///
/// Connections are lost while replies are under way, again and again, when each time the next reply is waited for:
///
/// ```no_run
/// # use ha_redis_testkit::{Cut, Direction, Proxy};
/// # fn ten_cuts(proxy: &Proxy) {
/// for cuts in 1..=10 {
///     // The server has carried out the request by the time at which its reply would pass.
///     proxy.cut_after(Direction::ToClient, 0, Cut::Reset);
///     while proxy.cuts() < cuts {
///         std::thread::yield_now(); // or fail after a while
///     }
/// }
/// # }
/// ```
pub struct Proxy {
    address: SocketAddr,
    user_info: String,
    requests: Sender<Request>,
    waker: UnixStream,
    relay: Option<JoinHandle<()>>,
    /// The port stays this proxy's own while it refuses connections. `None` if it is its server's, too.
    _port: Option<Port>,
}

impl Proxy {
    /// Starts a proxy before `server`, with that one's password in [`Proxy::url`].
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the system gives no port or no thread.
    pub fn before(server: &Server) -> Result<Self, Error> {
        let mut proxy = Self::start(server.address())?;
        proxy.user_info = server.user_info();
        Ok(proxy)
    }

    /// Starts a proxy before any address. Nothing needs to listen there yet: a connection that can't be forwarded
    /// is reset.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the system gives no port or no thread.
    pub fn start(target: SocketAddr) -> Result<Self, Error> {
        let (port, listener) = ports::listen()?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port.number()));
        Self::relay(address, listener, target, Some(port))
    }

    /// Starts a proxy before a server that listens on another address than 127.0.0.1, on the same port as that one.
    pub(crate) fn with_port_of(server: &Server) -> Result<Self, Error> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, server.port()));
        Self::relay(address, ports::listen_on(address)?, server.address(), None)
    }

    fn relay(
        address: SocketAddr,
        listener: TcpListener,
        target: SocketAddr,
        port: Option<Port>,
    ) -> Result<Self, Error> {
        let (requests, received) = mpsc::channel();
        let spawn = || {
            let (waker, woken) = UnixStream::pair()?;
            woken.set_nonblocking(true)?;
            let relay = Relay::new(target, address, listener);
            let name = format!("proxy-{}", address.port());
            let relay = thread::Builder::new().name(name).spawn(move || relay.run(&received, &woken))?;
            Ok((waker, relay))
        };
        let (waker, relay) = spawn().map_err(Error::io("start a proxy"))?;
        Ok(Self { address, user_info: String::new(), requests, waker, relay: Some(relay), _port: port })
    }

    /// Where it accepts connections.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its port, which stays its own while it refuses connections.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The URL a client connects to: `redis://127.0.0.1:15001`, with the server's password after
    /// [`Proxy::before`].
    pub fn url(&self) -> String {
        format!("redis://{}{}", self.user_info, self.address)
    }

    /// Delays every byte by `delay`: those that are under way, too. Bytes stay in order and don't wait for one
    /// another: a delay of 50 ms does not slow down a stream of bytes, it makes it late.
    pub fn delay(&self, direction: Direction, delay: Duration) {
        self.ask(move |relay| relay.faults(direction).delay = delay);
    }

    /// Lets at most so many bytes a second pass, and at least one, on each connection.
    pub fn throttle(&self, direction: Direction, bytes_per_second: u64) {
        self.ask(move |relay| relay.faults(direction).rate = Some(bytes_per_second.max(1)));
    }

    /// Reads bytes and throws them away, while connections stay. [`Proxy::lost`] counts them.
    pub fn lose(&self, direction: Direction) {
        self.ask(move |relay| relay.faults(direction).lose = true);
    }

    /// Reads and forwards nothing, either way. Connections stay, and new ones are accepted. What is sent meanwhile
    /// gets through after [`Proxy::heal`], as after a break of the network.
    pub fn black_hole(&self) {
        self.ask(|relay| relay.black_hole = true);
    }

    /// Takes what comes on the connections that live now, and keeps it, as a network does that delivers late: new
    /// connections are served. What was kept is delivered by [`Proxy::deliver`], also when its sender has closed or reset
    /// the connection meanwhile.
    pub fn keep_back(&self) {
        self.ask(Relay::keep_back);
    }

    /// Delivers what [`Proxy::keep_back`] has kept, and forwards as usual.
    pub fn deliver(&self) {
        self.ask(Relay::deliver);
    }

    /// Acts as [`Proxy::black_hole`] on the connections that come from these addresses, and goes on forwarding the
    /// others. On Linux, a server is told by `bind-source-addr 127.0.0.5` which address it connects from.
    pub fn partition(&self, from: impl IntoIterator<Item = IpAddr>) {
        let from: Vec<IpAddr> = from.into_iter().collect();
        self.ask(move |relay| relay.cut_off.extend(from));
    }

    /// Refuses new connections, since nothing listens on the port any more. Those that live, stay.
    pub fn refuse(&self) {
        self.ask(Relay::refuse);
    }

    /// Puts `bytes` in the place of as many of the next bytes in this direction, on whatever connections they pass.
    pub fn corrupt(&self, direction: Direction, bytes: impl Into<Vec<u8>>) {
        let bytes = bytes.into();
        self.ask(move |relay| relay.faults(direction).garbage = bytes.into());
    }

    /// Sends `bytes` to the receiving side of all live connections, behind what is under way to them.
    pub fn inject(&self, direction: Direction, bytes: impl Into<Vec<u8>>) {
        let bytes = bytes.into();
        self.ask(move |relay| relay.inject(direction, &bytes));
    }

    /// Tells the receiving side of all live connections that no more bytes come; those that come are thrown away.
    /// The other direction goes on. [`Proxy::heal`] can't undo this.
    pub fn half_close(&self, direction: Direction) {
        self.ask(move |relay| relay.half_close(direction));
    }

    /// Ends all live connections at once. New ones are accepted.
    pub fn cut(&self, how: Cut) {
        self.ask(move |relay| relay.cut(how));
    }

    /// Lets `bytes` more bytes pass in this direction, on whatever connections, and then ends, once, the connection
    /// on which one more would pass. So 0 cuts when the next reply begins to come, and 1 in the middle of it.
    /// [`Proxy::cuts`] tells when it has happened.
    pub fn cut_after(&self, direction: Direction, bytes: u64, how: Cut) {
        self.ask(move |relay| relay.faults(direction).cut = Some((bytes, how)));
    }

    /// Goes back to plain forwarding, for live and new connections, on the same port.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the port can't be opened again after [`Proxy::refuse`]; the other faults are gone then.
    pub fn heal(&self) -> Result<(), Error> {
        self.ask(Relay::heal).map_err(Error::io(format!("listen on {} again", self.address)))
    }

    /// How many connections live.
    pub fn connections(&self) -> usize {
        self.ask(|relay| relay.connections())
    }

    /// How many connections were ever accepted.
    pub fn accepted(&self) -> usize {
        self.ask(|relay| relay.accepted_at.len())
    }

    /// When each connection was accepted, in order: for a look at how reconnects spread.
    pub fn accepted_at(&self) -> Vec<Instant> {
        self.ask(|relay| relay.accepted_at.clone())
    }

    /// How many connections [`Proxy::cut`] and [`Proxy::cut_after`] have ended.
    pub fn cuts(&self) -> usize {
        self.ask(|relay| relay.cuts)
    }

    /// How many bytes were ever sent on in this direction, injected ones included.
    pub fn bytes(&self, direction: Direction) -> u64 {
        self.ask(move |relay| relay.line(direction).forwarded)
    }

    /// How many bytes were ever thrown away by [`Proxy::lose`].
    pub fn lost(&self, direction: Direction) -> u64 {
        self.ask(move |relay| relay.line(direction).lost)
    }

    /// Has the relay's thread do something, and waits for the outcome.
    fn ask<T: Send + 'static>(&self, request: impl FnOnce(&mut Relay) -> T + Send + 'static) -> T {
        let (answer, answers) = mpsc::channel();
        let request = Box::new(move |relay: &mut Relay| {
            // Only this function takes the answer, and it waits.
            let _ = answer.send(request(relay));
        });
        let asked = self.requests.send(request).is_ok() && (&self.waker).write_all(&[0]).is_ok();
        asked.then(|| answers.recv().ok()).flatten().expect("the relay runs until the proxy drops")
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // The relay ends when it reads the end of this stream.
        let _ = self.waker.shutdown(Shutdown::Both);
        if let Some(relay) = self.relay.take() {
            // If it panicked, the test's output says so.
            let _ = relay.join();
        }
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The user info holds a password.
        f.debug_struct("Proxy").field("address", &self.address).finish_non_exhaustive()
    }
}

//! A proxy between a client and a server that simulates network faults.

mod connection;
mod relay;

use std::fmt;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::environment::Access;
use crate::error::Error;
use crate::ports::{self, Port};
use crate::server::Server;
use relay::{Relay, Request};

/// The direction in which bytes travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Requests.
    ToServer,
    /// Replies and pushes.
    ToClient,
}

impl Direction {
    const BOTH: [Self; 2] = [Self::ToServer, Self::ToClient];

    /// Returns the index of the direction in per-direction arrays.
    fn index(self) -> usize {
        self as usize
    }
}

/// How a connection ends, on both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cut {
    /// The peer reads the end of the stream (FIN), as when a process ends.
    Close,
    /// The peer gets "connection reset" (RST), as when a host has lost its state.
    Reset,
}

/// A proxy on a port of 127.0.0.1 that forwards bytes between its clients and a server. Dropping this value ends the
/// proxy and its connections.
///
/// Faults can be switched on and off at any time. They apply to open and new connections, and add up. A fault is in
/// effect when its method returns. [`Proxy::heal`] ends all faults.
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
/// To lose connections repeatedly while replies are under way, wait for each cut before the next one:
///
/// ```no_run
/// # use ha_redis_testkit::{Cut, Direction, Proxy};
/// # fn ten_cuts(proxy: &Proxy) {
/// for cuts in 1..=10 {
///     // The server has executed the request when the proxy receives its reply.
///     proxy.cut_after(Direction::ToClient, 0, Cut::Reset);
///     while proxy.cuts() < cuts {
///         std::thread::yield_now(); // or fail after a while
///     }
/// }
/// # }
/// ```
pub struct Proxy {
    address: SocketAddr,
    access: Access,
    requests: Sender<Request>,
    waker: UnixStream,
    relay: Option<JoinHandle<()>>,
    /// Keeps the port reserved while the proxy refuses connections. `None` if the server shares the port.
    _port: Option<Port>,
}

impl Proxy {
    /// Starts a proxy for `server`. [`Proxy::url`] contains all that the server's URL does.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if no port or thread is available.
    pub fn before(server: &Server) -> Result<Self, Error> {
        let mut proxy = Self::start(server.address())?;
        proxy.access = server.access();
        Ok(proxy)
    }

    /// Starts a proxy for any address. Nothing needs to listen on it yet: a connection that cannot be forwarded is
    /// reset.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if no port or thread is available.
    pub fn start(target: SocketAddr) -> Result<Self, Error> {
        let (port, listener) = ports::listen()?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port.number()));
        Self::relay(address, listener, target, Some(port))
    }

    /// Starts a proxy on 127.0.0.1, on the port of a target with another address.
    pub(crate) fn with_port_of(target: SocketAddr) -> Result<Self, Error> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, target.port()));
        Self::relay(address, ports::listen_on(address)?, target, None)
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
        Ok(Self { address, access: Access::default(), requests, waker, relay: Some(relay), _port: port })
    }

    /// Returns the address on which the proxy accepts connections.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the proxy's port, which stays reserved while the proxy refuses connections.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Returns the URL for clients: `redis://127.0.0.1:15001`, with user, password and TLS as in [`Server::url`] after
    /// [`Proxy::before`].
    pub fn url(&self) -> String {
        self.access.url("", self.address)
    }

    /// Delays every byte by `delay`, including bytes that are under way. Bytes stay in order and are delayed
    /// independently: a delay of 50 ms adds latency without reducing throughput.
    pub fn delay(&self, direction: Direction, delay: Duration) {
        self.on_relay(move |relay| relay.faults(direction).delay = delay);
    }

    /// Limits each connection to `bytes_per_second`, and at least one byte per second.
    pub fn throttle(&self, direction: Direction, bytes_per_second: u64) {
        self.on_relay(move |relay| relay.faults(direction).rate = Some(bytes_per_second.max(1)));
    }

    /// Reads and discards bytes while connections stay open. [`Proxy::lost`] counts the bytes.
    pub fn lose(&self, direction: Direction) {
        self.on_relay(move |relay| relay.faults(direction).lose = true);
    }

    /// Stops reading and forwarding in both directions. Connections stay open, and new ones are accepted. Data that
    /// is sent meanwhile is delivered after [`Proxy::heal`], as after a network outage.
    pub fn black_hole(&self) {
        self.on_relay(|relay| relay.black_hole = true);
    }

    /// Holds back the data that arrives on the connections that exist now, as a network with late delivery does.
    /// New connections are forwarded. [`Proxy::deliver`] delivers the data, even if the sender has closed or reset
    /// the connection since.
    pub fn keep_back(&self) {
        self.on_relay(Relay::keep_back);
    }

    /// Delivers the data that [`Proxy::keep_back`] has held back, and forwards normally again.
    pub fn deliver(&self) {
        self.on_relay(Relay::deliver);
    }

    /// Applies [`Proxy::black_hole`] to the connections from these addresses, and forwards the others. On Linux,
    /// `bind-source-addr 127.0.0.5` sets the address from which a server connects.
    pub fn partition(&self, from: impl IntoIterator<Item = IpAddr>) {
        let from: Vec<IpAddr> = from.into_iter().collect();
        self.on_relay(move |relay| relay.cut_off.extend(from));
    }

    /// Refuses new connections by closing the listener. Existing connections stay open.
    pub fn refuse(&self) {
        self.on_relay(Relay::refuse);
    }

    /// Replaces the next bytes in this direction with `bytes`, on any connections.
    pub fn corrupt(&self, direction: Direction, bytes: impl Into<Vec<u8>>) {
        let bytes = bytes.into();
        self.on_relay(move |relay| relay.faults(direction).garbage = bytes.into());
    }

    /// Sends `bytes` to the receiving side of all open connections, after the data that is under way.
    pub fn inject(&self, direction: Direction, bytes: impl Into<Vec<u8>>) {
        let bytes = bytes.into();
        self.on_relay(move |relay| relay.inject(direction, &bytes));
    }

    /// Signals the end of the stream to the receiving side of all open connections, and discards further bytes in
    /// this direction. The other direction continues. [`Proxy::heal`] cannot undo this.
    pub fn half_close(&self, direction: Direction) {
        self.on_relay(move |relay| relay.half_close(direction));
    }

    /// Ends all open connections at once. New ones are accepted.
    pub fn cut(&self, how: Cut) {
        self.on_relay(move |relay| relay.cut(how));
    }

    /// Lets `bytes` more bytes pass in this direction, on any connections, and then ends the connection that sends
    /// the next byte, once. So 0 cuts before the next reply, and 1 cuts in the middle of it. [`Proxy::cuts`] counts
    /// the cuts.
    pub fn cut_after(&self, direction: Direction, bytes: u64, how: Cut) {
        self.on_relay(move |relay| relay.faults(direction).cut = Some((bytes, how)));
    }

    /// Ends all faults, for existing and new connections, on the same port.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the port cannot be opened again after [`Proxy::refuse`]. The other faults end all the same.
    pub fn heal(&self) -> Result<(), Error> {
        self.on_relay(Relay::heal).map_err(Error::io(format!("listen on {} again", self.address)))
    }

    /// Returns how many connections are open.
    pub fn connections(&self) -> usize {
        self.on_relay(|relay| relay.connections())
    }

    /// Returns how many connections the proxy has accepted.
    pub fn accepted(&self) -> usize {
        self.on_relay(|relay| relay.accepted_at.len())
    }

    /// Returns when each connection was accepted, in order. Use this to check how reconnects are spread.
    pub fn accepted_at(&self) -> Vec<Instant> {
        self.on_relay(|relay| relay.accepted_at.clone())
    }

    /// Returns how many connections [`Proxy::cut`] and [`Proxy::cut_after`] have ended.
    pub fn cuts(&self) -> usize {
        self.on_relay(|relay| relay.cuts)
    }

    /// Returns how many bytes the proxy has forwarded in this direction, including injected ones.
    pub fn bytes(&self, direction: Direction) -> u64 {
        self.on_relay(move |relay| relay.line(direction).forwarded)
    }

    /// Returns how many bytes [`Proxy::lose`] has discarded.
    pub fn lost(&self, direction: Direction) -> u64 {
        self.on_relay(move |relay| relay.line(direction).lost)
    }

    /// Runs `request` on the relay's thread and returns its result.
    fn on_relay<T: Send + 'static>(&self, request: impl FnOnce(&mut Relay) -> T + Send + 'static) -> T {
        let (answer, answers) = mpsc::channel();
        let request = Box::new(move |relay: &mut Relay| {
            // Only this function receives the answer, and it is waiting.
            let _ = answer.send(request(relay));
        });
        let sent = self.requests.send(request).is_ok() && (&self.waker).write_all(&[0]).is_ok();
        sent.then(|| answers.recv().ok()).flatten().expect("the relay runs until the proxy drops")
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // The relay ends when it reads the end of this stream.
        let _ = self.waker.shutdown(Shutdown::Both);
        if let Some(relay) = self.relay.take() {
            // If the relay panicked, the test's output shows it.
            let _ = relay.join();
        }
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The access holds a password.
        f.debug_struct("Proxy").field("address", &self.address).finish_non_exhaustive()
    }
}

//! Connections in memory, with latency, ordered delivery and network faults.

use std::collections::VecDeque;
use std::io;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::host::{HOSTS, Host};
use super::link_speed::LinkSpeed;
use super::trace::Line;
use super::world::{Event, World};

/// The number of a connection, in the order in which the client opened them.
pub(super) type ConnectionId = usize;

/// The delay of the retransmission of lost data.
const RETRANSMIT: Duration = Duration::from_millis(150);

/// A direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Direction {
    ToServer,
    ToClient,
}

/// The paths between all hosts, and the client's connections.
pub(super) struct Network {
    connections: Vec<Connection>,
    /// Whether data from one host to another is lost.
    silent: [[bool; HOSTS]; HOSTS],
    /// Whether a host refuses connections although it listens.
    refusing: [bool; HOSTS],
    /// The additional latency to and from a host.
    slow: [Duration; HOSTS],
    pub(super) conditions: Conditions,
}

/// The properties of the network that last for a whole run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Conditions {
    pub(super) latency: Duration,
    /// How many bytes from the client to a server may be under way.
    pub(super) window: usize,
    /// Whether reads and writes are split into pieces.
    pub(super) fragmented: bool,
    /// Whether a client's reset discards the data that is under way. A proxy may still forward that data.
    pub(super) honours_resets: bool,
    /// The throughput of a connection to a data server, if it is limited.
    pub(super) speed: Option<LinkSpeed>,
}

struct Connection {
    server: Host,
    phase: Phase,
    /// Whether the client still holds the connection.
    held: bool,
    up: Pipe,
    down: Pipe,
    /// The data that has arrived at the client.
    arrived: VecDeque<u8>,
    /// Whether the server has closed its side.
    ended: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Dialling,
    Open,
    Refused,
    Reset,
}

#[derive(Default)]
pub(super) struct Pipe {
    in_flight: VecDeque<Chunk>,
    /// The number of bytes in `in_flight`.
    bytes: usize,
    /// When the last byte was sent.
    sent: Duration,
    /// When the last byte arrives. Data that is sent later arrives later.
    last: Duration,
    /// Data that is lost before this time arrives at this time.
    pub(super) stalled_until: Duration,
}

impl Pipe {
    /// Discards everything that is under way.
    pub(super) fn lose_all(&mut self) {
        self.in_flight.clear();
        self.bytes = 0;
    }
}

#[derive(PartialEq, Eq)]
pub(super) enum Chunk {
    Bytes(Vec<u8>),
    End,
    Reset,
}

impl Network {
    pub(super) fn new(conditions: Conditions) -> Self {
        Self {
            connections: Vec::new(),
            silent: [[false; HOSTS]; HOSTS],
            refusing: [false; HOSTS],
            slow: [Duration::ZERO; HOSTS],
            conditions,
        }
    }

    /// Returns true if a query and its reply can pass between two hosts.
    pub(super) fn reaches(&self, one: Host, other: Host) -> bool {
        let (one, other) = (one.index(), other.index());
        !self.silent[one][other] && !self.silent[other][one]
    }

    /// Returns true if there is no fault between the client and a host.
    pub(super) fn is_open(&self, host: Host) -> bool {
        let number = host.index();
        self.reaches(Host::Client, host) && !self.refusing[number] && self.slow[number].is_zero()
    }

    /// Sets whether data from `from` to `to` is lost.
    pub(super) fn silence(&mut self, from: Host, to: Host, silent: bool) {
        self.silent[from.index()][to.index()] = silent;
    }

    pub(super) fn refuse(&mut self, host: Host, refusing: bool) {
        self.refusing[host.index()] = refusing;
    }

    pub(super) fn slow_down(&mut self, host: Host, by: Duration) {
        self.slow[host.index()] = by;
    }

    pub(super) fn heal(&mut self) {
        for connection in &mut self.connections {
            connection.up.stalled_until = Duration::ZERO;
        }
        self.silent = [[false; HOSTS]; HOSTS];
        self.refusing = [false; HOSTS];
        self.slow = [Duration::ZERO; HOSTS];
    }

    /// Returns how many connections the client holds.
    pub(super) fn held(&self) -> usize {
        self.connections.iter().filter(|connection| connection.held).count()
    }

    /// Returns true if the client holds a connection.
    pub(super) fn holds(&self, connection: ConnectionId) -> bool {
        self.connections[connection].held
    }

    pub(super) fn is_silent(&self, connection: ConnectionId, direction: Direction) -> bool {
        let (client, server) = (Host::Client.index(), self.connections[connection].server.index());
        match direction {
            Direction::ToServer => self.silent[client][server],
            Direction::ToClient => self.silent[server][client],
        }
    }

    /// Records that the client no longer holds the connection.
    pub(super) fn release(&mut self, connection: ConnectionId) {
        self.connections[connection].held = false;
    }

    pub(super) fn server_of(&self, connection: ConnectionId) -> Host {
        self.connections[connection].server
    }

    pub(super) fn pipe(&mut self, connection: ConnectionId, direction: Direction) -> &mut Pipe {
        let connection = &mut self.connections[connection];
        match direction {
            Direction::ToServer => &mut connection.up,
            Direction::ToClient => &mut connection.down,
        }
    }
}

impl Connection {
    fn wake(&mut self) {
        self.reader.take().into_iter().chain(self.writer.take()).for_each(Waker::wake);
    }
}

/// The client's side.
impl World {
    pub(super) fn dial(&mut self, server: Host) -> ConnectionId {
        let number = self.network.connections.len();
        self.network.connections.push(Connection {
            server,
            phase: Phase::Dialling,
            held: true,
            up: Pipe::default(),
            down: Pipe::default(),
            arrived: VecDeque::new(),
            ended: false,
            reader: None,
            writer: None,
        });
        let at = self.now() + self.latency(server);
        self.schedule(at, Event::Dial(number));
        number
    }

    pub(super) fn poll_connected(&mut self, number: ConnectionId, cx: &Context<'_>) -> Poll<io::Result<()>> {
        let connection = &mut self.network.connections[number];
        match connection.phase {
            Phase::Open => Poll::Ready(Ok(())),
            Phase::Refused | Phase::Reset => Poll::Ready(Err(io::ErrorKind::ConnectionRefused.into())),
            Phase::Dialling => {
                connection.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    pub(super) fn poll_read(
        &mut self,
        number: ConnectionId,
        cx: &Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let fragmented = self.network.conditions.fragmented && self.rng.u8(..8) == 0;
        let connection = &mut self.network.connections[number];
        if !connection.arrived.is_empty() {
            let most = connection.arrived.len().min(buf.len());
            let read = if fragmented { self.rng.usize(1..=most) } else { most };
            for (into, byte) in buf.iter_mut().zip(connection.arrived.drain(..read)) {
                *into = byte;
            }
            return Poll::Ready(Ok(read));
        }
        if connection.phase == Phase::Reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if connection.ended {
            return Poll::Ready(Ok(0));
        }
        connection.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(super) fn poll_write(
        &mut self,
        number: ConnectionId,
        cx: &Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let conditions = self.network.conditions;
        let connection = &mut self.network.connections[number];
        if connection.phase == Phase::Reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let most = conditions.window.saturating_sub(connection.up.bytes).min(buf.len());
        if most == 0 {
            connection.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let fragmented = conditions.fragmented && self.rng.u8(..8) == 0;
        let written = if fragmented { self.rng.usize(1..=most) } else { most };
        self.send(number, Direction::ToServer, Chunk::Bytes(buf[..written].to_vec()));
        Poll::Ready(Ok(written))
    }

    /// The client closes the connection. The data that it has written still arrives.
    pub(super) fn close_from_client(&mut self, number: ConnectionId) {
        self.network.release(number);
        self.on_release(number);
        if self.network.connections[number].phase == Phase::Open {
            self.send(number, Direction::ToServer, Chunk::End);
        }
    }
}

/// The network and the server's side.
impl World {
    fn latency(&mut self, server: Host) -> Duration {
        let usual = self.network.conditions.latency;
        let jitter = usual.mul_f64(self.rng.f64());
        usual / 2 + jitter + self.network.slow[server.index()]
    }

    pub(super) fn send(&mut self, number: ConnectionId, direction: Direction, chunk: Chunk) {
        let server = self.network.server_of(number);
        let speed = self.network.conditions.speed.filter(|_| matches!(server, Host::Redis(_)));
        match (chunk, speed) {
            (Chunk::Bytes(bytes), Some(speed)) => {
                for segment in speed.segments(bytes) {
                    let transmission = speed.transmission(direction, segment.len());
                    self.transmit(number, direction, Chunk::Bytes(segment), transmission);
                }
            }
            (chunk, _) => self.transmit(number, direction, chunk, Duration::ZERO),
        }
    }

    fn transmit(&mut self, number: ConnectionId, direction: Direction, chunk: Chunk, transmission: Duration) {
        let latency = self.latency(self.network.server_of(number));
        let now = self.now();
        let pipe = self.network.pipe(number, direction);
        if let Chunk::Bytes(bytes) = &chunk {
            pipe.bytes += bytes.len();
        }
        pipe.in_flight.push_back(chunk);
        pipe.sent = pipe.sent.max(now) + transmission;
        pipe.last = pipe.last.max(pipe.sent + latency);
        let at = pipe.last;
        self.schedule(at, Event::Deliver(number, direction));
    }

    /// Sends data from a server to the client.
    pub(super) fn reply(&mut self, number: ConnectionId, mut bytes: Vec<u8>) {
        if self.network.conditions.fragmented && bytes.len() > 1 && self.rng.u8(..8) == 0 {
            let second = bytes.split_off(self.rng.usize(1..bytes.len()));
            self.send(number, Direction::ToClient, Chunk::Bytes(bytes));
            bytes = second;
        }
        if !bytes.is_empty() {
            self.send(number, Direction::ToClient, Chunk::Bytes(bytes));
        }
    }

    /// A connection attempt arrives at the server.
    pub(super) fn on_dial(&mut self, number: ConnectionId) {
        if !self.network.connections[number].held {
            return;
        }
        if self.network.is_silent(number, Direction::ToServer)
            || self.network.is_silent(number, Direction::ToClient)
        {
            let at = self.now() + RETRANSMIT;
            self.schedule(at, Event::Dial(number));
            return;
        }
        let server = self.network.server_of(number);
        let accepted = self.listens(server) && !self.network.refusing[server.index()];
        if accepted {
            self.open_session(number, server);
        }
        let at = self.now() + self.latency(server);
        self.schedule(at, Event::Answered { number, accepted });
    }

    /// The result of a connection attempt arrives at the client.
    pub(super) fn on_answered(&mut self, number: ConnectionId, accepted: bool) {
        let connection = &mut self.network.connections[number];
        let (server, held) = (connection.server, connection.held);
        if connection.phase == Phase::Dialling {
            connection.phase = if accepted { Phase::Open } else { Phase::Refused };
            connection.wake();
            let what = if accepted { "is open" } else { "was refused" };
            self.note(Line::Connection { number, server, what });
        }
        if accepted && !held {
            self.send(number, Direction::ToServer, Chunk::End);
        }
    }

    /// The next chunk of a connection arrives.
    pub(super) fn on_deliver(&mut self, number: ConnectionId, direction: Direction) {
        if self.network.is_silent(number, direction) {
            let at = self.now() + RETRANSMIT;
            self.schedule(at, Event::Deliver(number, direction));
            return;
        }
        let now = self.now();
        let pipe = self.network.pipe(number, direction);
        if pipe.stalled_until > now {
            let at = pipe.stalled_until.min(now + RETRANSMIT);
            self.schedule(at, Event::Deliver(number, direction));
            return;
        }
        let Some(chunk) = pipe.in_flight.pop_front() else { return };
        if let Chunk::Bytes(bytes) = &chunk {
            pipe.bytes -= bytes.len();
        }
        match direction {
            Direction::ToServer => self.arrive_at_server(number, chunk),
            Direction::ToClient => self.arrive_at_client(number, chunk),
        }
    }

    fn arrive_at_server(&mut self, number: ConnectionId, chunk: Chunk) {
        if let Some(writer) = self.network.connections[number].writer.take() {
            writer.wake();
        }
        match chunk {
            Chunk::Bytes(bytes) => self.on_bytes(number, &bytes),
            Chunk::End | Chunk::Reset => self.close_session(number),
        }
    }

    fn arrive_at_client(&mut self, number: ConnectionId, chunk: Chunk) {
        let connection = &mut self.network.connections[number];
        match chunk {
            Chunk::Bytes(bytes) => connection.arrived.extend(bytes),
            Chunk::End => connection.ended = true,
            Chunk::Reset => connection.phase = Phase::Reset,
        }
        connection.wake();
        if connection.phase == Phase::Reset {
            let server = connection.server;
            self.note(Line::Connection { number, server, what: "was lost" });
        }
    }

    /// The server resets the connection. The client notices when the reset arrives.
    pub(super) fn reset(&mut self, number: ConnectionId) {
        self.close_session(number);
        self.send(number, Direction::ToClient, Chunk::Reset);
    }

    /// Cuts a connection: the server may or may not receive the data under way to it, and the client receives
    /// nothing more.
    pub(super) fn cut(&mut self, number: ConnectionId) {
        if self.rng.bool() && !self.network.is_silent(number, Direction::ToServer) {
            while let Some(chunk) = self.network.pipe(number, Direction::ToServer).in_flight.pop_front() {
                self.arrive_at_server(number, chunk);
            }
        }
        self.network.pipe(number, Direction::ToServer).lose_all();
        self.network.pipe(number, Direction::ToClient).lose_all();
        self.reset(number);
    }

    /// The server closes the connection after the data that it has sent.
    pub(super) fn finish(&mut self, number: ConnectionId) {
        self.close_session(number);
        self.send(number, Direction::ToClient, Chunk::End);
    }
}

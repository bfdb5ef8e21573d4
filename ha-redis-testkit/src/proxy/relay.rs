//! The thread of a proxy. It owns all sockets, sleeps until a socket or the handle has work for it, and never
//! blocks on a single socket.

use std::collections::{BTreeSet, VecDeque};
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::connection::{Connection, Outcome};
use super::{Cut, Direction};

/// The longest that connecting to the server may take. On the local machine it is immediate.
const CONNECT: Duration = Duration::from_secs(1);

/// The longest sleep, because some systems limit it to a few weeks.
const SLEEP: Duration = Duration::from_secs(3600);

/// A request from the handle.
pub(super) type Request = Box<dyn FnOnce(&mut Relay) + Send>;

pub(super) struct Relay {
    target: SocketAddr,
    address: SocketAddr,
    /// `None` while connections are refused.
    listener: Option<TcpListener>,
    connections: Vec<Connection>,
    lines: [Line; 2],
    pub(super) black_hole: bool,
    /// The clients whose data is not forwarded.
    pub(super) cut_off: BTreeSet<IpAddr>,
    pub(super) accepted_at: Vec<Instant>,
    pub(super) cuts: usize,
}

/// One direction of all connections.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) faults: Faults,
    pub(super) forwarded: u64,
    pub(super) lost: u64,
}

/// The faults of one direction; none by default.
#[derive(Debug, Default)]
pub(super) struct Faults {
    pub(super) delay: Duration,
    /// In bytes per second.
    pub(super) rate: Option<u64>,
    pub(super) lose: bool,
    /// Replaces the next bytes.
    pub(super) garbage: VecDeque<u8>,
    /// How many bytes may still pass before a connection is cut.
    pub(super) cut: Option<(u64, Cut)>,
}

impl Relay {
    pub(super) fn new(target: SocketAddr, address: SocketAddr, listener: TcpListener) -> Self {
        Self {
            target,
            address,
            listener: Some(listener),
            connections: Vec::new(),
            lines: Default::default(),
            black_hole: false,
            cut_off: BTreeSet::new(),
            accepted_at: Vec::new(),
            cuts: 0,
        }
    }

    /// Forwards data and runs requests until the other end of `woken` is closed.
    pub(super) fn run(mut self, requests: &Receiver<Request>, woken: &UnixStream) {
        while handle_is_alive(woken) {
            // Connections are accepted before requests run, so that a cut also affects clients whose connect has
            // just returned.
            self.accept();
            for request in requests.try_iter() {
                request(&mut self);
            }
            self.forward();
            self.sleep(woken);
        }
    }

    fn accept(&mut self) {
        while let Some(Ok((client, from))) = self.listener.as_ref().map(TcpListener::accept) {
            self.accepted_at.push(Instant::now());
            match TcpStream::connect_timeout(&self.target, CONNECT) {
                Ok(server) => self.connections.extend(Connection::new(client, from.ip(), server)),
                Err(_) => Cut::Reset.end(&client),
            }
        }
    }

    fn forward(&mut self) {
        if self.black_hole {
            return;
        }
        let now = Instant::now();
        self.connections.retain_mut(|connection| {
            if self.cut_off.contains(&connection.from) {
                return true;
            }
            let how = match connection.forward(&mut self.lines, now) {
                Ok(Outcome::Lives) => return true,
                Ok(Outcome::Over) => return false,
                Ok(Outcome::Cut(how)) => {
                    self.cuts += 1;
                    how
                }
                // One side is gone, so the other must notice.
                Err(_) => Cut::Reset,
            };
            connection.end(how);
            false
        });
    }

    /// Sleeps until there may be work. The caller tries everything.
    fn sleep(&self, woken: &UnixStream) {
        let mut sockets = vec![PollFd::new(woken, PollFlags::IN)];
        sockets.extend(self.listener.as_ref().map(|listener| PollFd::new(listener, PollFlags::IN)));
        let mut longest = SLEEP;
        if !self.black_hole {
            let now = Instant::now();
            for connection in
                self.connections.iter().filter(|connection| !self.cut_off.contains(&connection.from))
            {
                longest = longest.min(connection.wait_for(&self.lines, now, &mut sockets).unwrap_or(SLEEP));
            }
        }
        let longest = Timespec::try_from(longest).ok();
        // The next turn handles whatever ended the sleep, including a signal.
        let _ = poll(&mut sockets, longest.as_ref());
    }

    pub(super) fn line(&self, direction: Direction) -> &Line {
        &self.lines[direction.index()]
    }

    pub(super) fn faults(&mut self, direction: Direction) -> &mut Faults {
        &mut self.lines[direction.index()].faults
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.len()
    }

    pub(super) fn refuse(&mut self) {
        self.listener = None;
    }

    pub(super) fn inject(&mut self, direction: Direction, bytes: &[u8]) {
        for connection in &mut self.connections {
            connection.inject(direction, bytes);
        }
    }

    pub(super) fn half_close(&mut self, direction: Direction) {
        for connection in &mut self.connections {
            connection.half_close(direction);
        }
    }

    pub(super) fn keep_back(&mut self) {
        self.connections.iter_mut().for_each(|connection| connection.keep_back(true));
    }

    pub(super) fn deliver(&mut self) {
        self.connections.iter_mut().for_each(|connection| connection.keep_back(false));
    }

    pub(super) fn cut(&mut self, how: Cut) {
        self.cuts += self.connections.len();
        for connection in self.connections.drain(..) {
            connection.end(how);
        }
    }

    pub(super) fn heal(&mut self) -> io::Result<()> {
        self.black_hole = false;
        self.cut_off.clear();
        for direction in Direction::BOTH {
            *self.faults(direction) = Faults::default();
        }
        if self.listener.is_none() {
            let listener = TcpListener::bind(self.address)?;
            listener.set_nonblocking(true)?;
            self.listener = Some(listener);
        }
        Ok(())
    }
}

/// Reads what was written to wake this thread. Returns false when the handle is gone.
fn handle_is_alive(mut woken: &UnixStream) -> bool {
    loop {
        match woken.read(&mut [0; 64]) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(_) => return true,
        }
    }
}

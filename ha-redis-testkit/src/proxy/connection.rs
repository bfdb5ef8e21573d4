//! One connection through a proxy: two flows of bytes, to which the faults apply.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::net::sockopt::set_socket_linger;

use super::relay::{Faults, Line};
use super::{Cut, Direction};

/// How much is read at once, and buffered for a slow receiver. About the size of a socket buffer.
const ENOUGH: usize = 64 * 1024;

/// How many times per second a throttled flow sends.
const SLICES: u64 = 50;

pub(super) struct Connection {
    /// The client's address.
    pub(super) from: IpAddr,
    flows: [Flow; 2],
    /// Whether incoming data is held back.
    holds_back: bool,
}

/// The state of a connection.
pub(super) enum Outcome {
    Lives,
    /// Both sides have ended their streams.
    Over,
    /// The connection must be ended now.
    Cut(Cut),
}

impl Connection {
    pub(super) fn new(client: TcpStream, from: IpAddr, server: TcpStream) -> io::Result<Self> {
        for stream in [&client, &server] {
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
        }
        let (client, server) = (Arc::new(client), Arc::new(server));
        Ok(Self {
            from,
            flows: [Flow::new(&client, &server), Flow::new(&server, &client)],
            holds_back: false,
        })
    }

    pub(super) fn keep_back(&mut self, holds_back: bool) {
        self.holds_back = holds_back;
    }

    /// Moves as many bytes as possible without blocking.
    pub(super) fn forward(&mut self, lines: &mut [Line; 2], now: Instant) -> io::Result<Outcome> {
        if self.holds_back {
            for direction in Direction::BOTH {
                let (flow, line) = (&mut self.flows[direction.index()], &mut lines[direction.index()]);
                // Data of a sender that is gone is still forwarded.
                if flow.wants_more(&line.faults, now) && flow.read(line, now).is_err() {
                    flow.exhausted = true;
                }
            }
            return Ok(Outcome::Lives);
        }
        for direction in Direction::BOTH {
            let (flow, line) = (&mut self.flows[direction.index()], &mut lines[direction.index()]);
            if flow.wants_more(&line.faults, now) {
                flow.read(line, now)?;
            }
            if let Some(how) = flow.write(line, now)? {
                return Ok(Outcome::Cut(how));
            }
        }
        Ok(if self.flows.iter().all(|flow| flow.finished) { Outcome::Over } else { Outcome::Lives })
    }

    /// Adds the sockets to poll. Returns the latest time at which bytes must be moved.
    pub(super) fn wait_for<'a>(
        &'a self,
        lines: &[Line; 2],
        now: Instant,
        sockets: &mut Vec<PollFd<'a>>,
    ) -> Option<Duration> {
        let mut soonest = None;
        for (flow, line) in self.flows.iter().zip(lines) {
            if flow.wants_more(&line.faults, now) {
                sockets.push(PollFd::new(&flow.source, PollFlags::IN));
            }
            match flow.free_in(&line.faults, now) {
                _ if self.holds_back => {}
                Some(Duration::ZERO) => sockets.push(PollFd::new(&flow.sink, PollFlags::OUT)),
                wait => soonest = soonest.into_iter().chain(wait).min(),
            }
        }
        soonest
    }

    pub(super) fn inject(&mut self, direction: Direction, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.flows[direction.index()].push(bytes.to_vec(), Instant::now());
        }
    }

    pub(super) fn half_close(&mut self, direction: Direction) {
        self.flows[direction.index()].push(Vec::new(), Instant::now());
    }

    /// Ends the connection on both sides, unless a side has already ended. Dropping the connection closes the
    /// sockets.
    pub(super) fn end(&self, how: Cut) {
        for flow in &self.flows {
            how.end(&flow.sink);
        }
    }
}

impl Cut {
    /// Prepares the stream so that closing it looks like this to the peer. Errors are ignored, since the peer may
    /// be gone.
    pub(super) fn end(self, stream: &TcpStream) {
        let _ = match self {
            // Closing a socket with unread bytes would reset the connection.
            Self::Close => stream.shutdown(Shutdown::Write),
            Self::Reset => set_socket_linger(stream, Some(Duration::ZERO)).map_err(io::Error::from),
        };
    }
}

/// One direction of a connection.
struct Flow {
    source: Arc<TcpStream>,
    sink: Arc<TcpStream>,
    queue: VecDeque<Chunk>,
    /// The number of bytes in the queue.
    queued: usize,
    /// The source has reached its end of stream.
    exhausted: bool,
    /// The queue contains the end of stream.
    ended: bool,
    /// The sink has received the end of stream.
    finished: bool,
    /// When the throttle allows the next bytes.
    free_at: Instant,
}

/// Bytes under way. An empty chunk is the end of the stream.
struct Chunk {
    arrived: Instant,
    bytes: Vec<u8>,
    sent: usize,
}

impl Flow {
    fn new(source: &Arc<TcpStream>, sink: &Arc<TcpStream>) -> Self {
        Self {
            source: Arc::clone(source),
            sink: Arc::clone(sink),
            queue: VecDeque::new(),
            queued: 0,
            exhausted: false,
            ended: false,
            finished: false,
            free_at: Instant::now(),
        }
    }

    /// Returns how long the first chunk is still delayed. `None` if there is no chunk.
    fn due_in(&self, faults: &Faults, now: Instant) -> Option<Duration> {
        let chunk = self.queue.front()?;
        Some(faults.delay.saturating_sub(now.saturating_duration_since(chunk.arrived)))
    }

    /// Returns how long it takes until the first chunk may be sent, at least in part. `None` if there is no chunk.
    fn free_in(&self, faults: &Faults, now: Instant) -> Option<Duration> {
        let throttled = faults.rate.map(|_| self.free_at.saturating_duration_since(now));
        Some(self.due_in(faults, now)?.max(throttled.unwrap_or_default()))
    }

    /// Returns true if the flow should read more. A slow receiver slows the sender down, a delay does not.
    fn wants_more(&self, faults: &Faults, now: Instant) -> bool {
        let delayed = self.due_in(faults, now).is_some_and(|wait| !wait.is_zero());
        !self.exhausted && (self.queued < ENOUGH || delayed)
    }

    fn read(&mut self, line: &mut Line, now: Instant) -> io::Result<()> {
        let mut buffer = [0; ENOUGH];
        let Some(count) = unless_blocked((&*self.source).read(&mut buffer))? else { return Ok(()) };
        if count == 0 {
            self.exhausted = true;
            self.push(Vec::new(), now);
        } else if line.faults.lose {
            line.lost += count as u64;
        } else {
            let bytes = &mut buffer[..count];
            let garbage = &mut line.faults.garbage;
            let corrupted = count.min(garbage.len());
            bytes.iter_mut().zip(garbage.drain(..corrupted)).for_each(|(byte, garbage)| *byte = garbage);
            self.push(bytes.to_vec(), now);
        }
        Ok(())
    }

    /// Ignores bytes after the end of the stream.
    fn push(&mut self, bytes: Vec<u8>, now: Instant) {
        if !self.ended {
            self.ended = bytes.is_empty();
            self.queued += bytes.len();
            self.queue.push_back(Chunk { arrived: now, bytes, sent: 0 });
        }
    }

    /// Sends what may be sent now. Returns how to end the connection if it must be cut.
    fn write(&mut self, line: &mut Line, now: Instant) -> io::Result<Option<Cut>> {
        while self.free_in(&line.faults, now) == Some(Duration::ZERO)
            && let Some(chunk) = self.queue.front_mut()
        {
            let rest = &chunk.bytes[chunk.sent..];
            if rest.is_empty() {
                self.sink.shutdown(Shutdown::Write)?;
                self.finished = true;
                self.queue.clear();
                break;
            }
            if let Some((0, how)) = line.faults.cut {
                line.faults.cut = None;
                return Ok(Some(how));
            }
            let part = &rest[..line.faults.portion(rest.len())];
            let Some(count) = unless_blocked((&*self.sink).write(part))? else { break };
            chunk.sent += count;
            if chunk.sent == chunk.bytes.len() {
                self.queue.pop_front();
            }
            self.queued -= count;
            line.forwarded += count as u64;
            let pause = line.faults.passed(count);
            self.free_at = self.free_at.max(now) + pause;
        }
        Ok(None)
    }
}

impl Faults {
    /// Returns how many of `length` bytes may be sent at once.
    fn portion(&self, length: usize) -> usize {
        let slice = self.rate.map_or(u64::MAX, |rate| (rate / SLICES).max(1));
        let budget = self.cut.map_or(u64::MAX, |(bytes, _)| bytes);
        usize::try_from(slice.min(budget)).map_or(length, |portion| portion.min(length))
    }

    /// Counts sent bytes. Returns the pause that the throttle requires after them.
    fn passed(&mut self, count: usize) -> Duration {
        if let Some((bytes, _)) = &mut self.cut {
            *bytes = bytes.saturating_sub(count as u64);
        }
        self.rate.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(count as f64 / rate as f64))
    }
}

/// Returns `None` if the socket is not ready.
fn unless_blocked(outcome: io::Result<usize>) -> io::Result<Option<usize>> {
    match outcome {
        Ok(count) => Ok(Some(count)),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

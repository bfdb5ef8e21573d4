//! One connection through a proxy: two flows of bytes, on which the faults act.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::net::sockopt::set_socket_linger;

use super::relay::{Faults, Line};
use super::{Cut, Direction};

/// How much is read at once, and held for a receiver that takes no more: about what a socket holds.
const ENOUGH: usize = 64 * 1024;

/// How often a throttled flow sends in a second.
const SLICES: u64 = 50;

pub(super) struct Connection {
    /// The client's address.
    pub(super) from: IpAddr,
    flows: [Flow; 2],
    /// What comes is kept, and not sent on.
    keeps_back: bool,
}

/// What became of a connection.
pub(super) enum Outcome {
    Lives,
    /// Both sides have said that they are done.
    Over,
    /// It is to be ended now.
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
            keeps_back: false,
        })
    }

    pub(super) fn keep_back(&mut self, keeps_back: bool) {
        self.keeps_back = keeps_back;
    }

    /// Moves as many bytes as can be moved without waiting.
    pub(super) fn forward(&mut self, lines: &mut [Line; 2], now: Instant) -> io::Result<Outcome> {
        if self.keeps_back {
            for direction in Direction::BOTH {
                let (flow, line) = (&mut self.flows[direction.index()], &mut lines[direction.index()]);
                // A sender that is gone does not take back what it has sent.
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

    /// Adds the sockets whose readiness is waited for. Returns when, at the latest, bytes are to be moved.
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
                _ if self.keeps_back => {}
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

    /// Ends it on both sides, as far as it has not ended by itself. Dropping it does the rest.
    pub(super) fn end(&self, how: Cut) {
        for flow in &self.flows {
            how.end(&flow.sink);
        }
    }
}

impl Cut {
    /// Makes closing the stream, which comes next, look like this to the peer. A peer that is gone does not mind.
    pub(super) fn end(self, stream: &TcpStream) {
        let _ = match self {
            // Closing alone would reset the connection if it has bytes that were not read.
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
    /// How many bytes are in the queue.
    queued: usize,
    /// The source has no more bytes.
    exhausted: bool,
    /// The queue has its end of stream.
    ended: bool,
    /// The sink has got the end of stream.
    finished: bool,
    /// When the throttle lets the next bytes pass.
    free_at: Instant,
}

/// Bytes under way; none of them means the end of the stream.
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

    /// In what time the first chunk has had its delay. `None` if there is none.
    fn due_in(&self, faults: &Faults, now: Instant) -> Option<Duration> {
        let chunk = self.queue.front()?;
        Some(faults.delay.saturating_sub(now.saturating_duration_since(chunk.arrived)))
    }

    /// In what time the first chunk may be sent, at least in part. `None` if there is none.
    fn free_in(&self, faults: &Faults, now: Instant) -> Option<Duration> {
        let throttled = faults.rate.map(|_| self.free_at.saturating_duration_since(now));
        Some(self.due_in(faults, now)?.max(throttled.unwrap_or_default()))
    }

    /// Whether to read. A slow receiver holds up the sender, a delay does not.
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
            let spoilt = count.min(garbage.len());
            bytes.iter_mut().zip(garbage.drain(..spoilt)).for_each(|(byte, garbage)| *byte = garbage);
            self.push(bytes.to_vec(), now);
        }
        Ok(())
    }

    /// Nothing comes behind the end of the stream.
    fn push(&mut self, bytes: Vec<u8>, now: Instant) {
        if !self.ended {
            self.ended = bytes.is_empty();
            self.queued += bytes.len();
            self.queue.push_back(Chunk { arrived: now, bytes, sent: 0 });
        }
    }

    /// Sends what may be sent. Returns how to end the connection if the time for that has come.
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
    /// How many of `length` bytes may be sent at once.
    fn portion(&self, length: usize) -> usize {
        let slice = self.rate.map_or(u64::MAX, |rate| (rate / SLICES).max(1));
        let budget = self.cut.map_or(u64::MAX, |(bytes, _)| bytes);
        usize::try_from(slice.min(budget)).map_or(length, |portion| portion.min(length))
    }

    /// Counts bytes that were sent. Returns the pause that the throttle makes after them.
    fn passed(&mut self, count: usize) -> Duration {
        if let Some((bytes, _)) = &mut self.cut {
            *bytes = bytes.saturating_sub(count as u64);
        }
        self.rate.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(count as f64 / rate as f64))
    }
}

/// `None` if nothing can be read or written now.
fn unless_blocked(outcome: io::Result<usize>) -> io::Result<Option<usize>> {
    match outcome {
        Ok(count) => Ok(Some(count)),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

//! A server with scripted replies.

use std::io::{self, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use rustix::event::{PollFd, PollFlags, poll};

use crate::error::Error;
use crate::ports::{self, Port};
use crate::resp::read_command;

/// What a [`ScriptedServer`] does with a command.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer {
    /// Sends these bytes: one reply, or anything else.
    Send(Vec<u8>),
    /// Sends these bytes, which may be empty, and closes the connection.
    Close(Vec<u8>),
    /// Sends the first bytes, and then repeats the second until the connection ends.
    Flood(Vec<u8>, Vec<u8>),
    /// Sends the first bytes, and then the second this many times.
    Repeat(Vec<u8>, Vec<u8>, usize),
    /// Sends nothing, and continues with the next command.
    Silence,
}

impl From<Vec<u8>> for Answer {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Send(bytes)
    }
}

impl From<&str> for Answer {
    fn from(text: &str) -> Self {
        Self::Send(text.into())
    }
}

/// A server on a port of 127.0.0.1 that accepts clients as Redis does, and then sends what no Redis sends: garbage,
/// half a reply, a length of 4 GB. Dropping this value ends the server and its connections.
///
/// ```
/// use ha_redis_testkit::{Answer, ScriptedServer};
///
/// # fn main() -> Result<(), ha_redis_testkit::Error> {
/// let server = ScriptedServer::start(|_connection, command| match command[0].as_str() {
///     "GET" => Answer::from("$4294967296\r\n"),
///     "SET" => Answer::Close(b"+O".to_vec()),
///     _ => Answer::Silence,
/// })?;
/// // … connect a client to server.url()
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ScriptedServer {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    waker: UnixStream,
    acceptor: Option<JoinHandle<()>>,
    _port: Port,
}

impl ScriptedServer {
    /// Starts a server that answers `PING`, `HELLO`, `AUTH`, `SELECT`, `CLIENT` and `ROLE` itself, as a master that
    /// accepts everything, and calls `script` for any other command. `script` receives the number of the
    /// connection, from 0, and the command's name and arguments, with invalid UTF-8 replaced. A connection that
    /// sends anything but commands is closed.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if no port or thread is available.
    pub fn start<A: Into<Answer>>(
        mut script: impl FnMut(usize, &[String]) -> A + Send + 'static,
    ) -> Result<Self, Error> {
        Self::start_bare(move |number, command| {
            handshake(command).unwrap_or_else(|| script(number, command).into())
        })
    }

    /// Like [`start`](Self::start), but calls `script` for every command: for servers and proxies that support less
    /// than Redis does.
    ///
    /// # Errors
    ///
    /// The same as for [`start`](Self::start).
    pub fn start_bare<A: Into<Answer>>(
        mut script: impl FnMut(usize, &[String]) -> A + Send + 'static,
    ) -> Result<Self, Error> {
        let (port, listener) = ports::listen()?;
        let accepted = Arc::new(AtomicUsize::new(0));
        let spawn = || {
            let address = listener.local_addr()?;
            let (waker, woken) = UnixStream::pair()?;
            let script: Script =
                Arc::new(Mutex::new(move |number, command: &[String]| script(number, command).into()));
            let counter = Arc::clone(&accepted);
            let name = format!("scripted-{}", port.number());
            let acceptor = thread::Builder::new()
                .name(name)
                .spawn(move || accept_until_woken(&listener, &woken, &script, &counter))?;
            Ok((address, waker, acceptor))
        };
        let (address, waker, acceptor) = spawn().map_err(Error::io("start a scripted server"))?;
        Ok(Self { address, accepted, waker, acceptor: Some(acceptor), _port: port })
    }

    /// Returns the address on which the server accepts connections.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the server's port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Returns the URL for clients: `redis://127.0.0.1:15001`.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Returns how many connections the server has accepted.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for ScriptedServer {
    fn drop(&mut self) {
        // The acceptor ends when it reads the end of this stream.
        let _ = self.waker.shutdown(Shutdown::Both);
        if let Some(acceptor) = self.acceptor.take() {
            // If a thread panicked, the test's output shows it.
            let _ = acceptor.join();
        }
    }
}

type Script = Arc<Mutex<dyn FnMut(usize, &[String]) -> Answer + Send>>;

/// Starts a thread for each connection, and ends all of them at the end.
fn accept_until_woken(listener: &TcpListener, woken: &UnixStream, script: &Script, accepted: &AtomicUsize) {
    let mut connections: Vec<(Arc<TcpStream>, JoinHandle<()>)> = Vec::new();
    loop {
        let mut sockets = [PollFd::new(listener, PollFlags::IN), PollFd::new(woken, PollFlags::IN)];
        let _ = poll(&mut sockets, None);
        if !sockets[1].revents().is_empty() {
            break;
        }
        let Ok((stream, _)) = listener.accept() else { continue };
        let number = accepted.fetch_add(1, Ordering::SeqCst);
        let (stream, script) = (Arc::new(stream), Arc::clone(script));
        connections.retain(|(_, thread)| !thread.is_finished());
        let served = Arc::clone(&stream);
        let thread = thread::spawn(move || {
            // A client that disconnects or violates the protocol ends only its own connection.
            let _ = serve(&served, number, &script);
            let _ = served.shutdown(Shutdown::Both);
        });
        connections.push((stream, thread));
    }
    for (stream, thread) in connections {
        let _ = stream.shutdown(Shutdown::Both);
        let _ = thread.join();
    }
}

/// Answers commands until the client or the script closes the connection.
fn serve(mut stream: &TcpStream, number: usize, script: &Script) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    let mut requests = BufReader::new(stream);
    loop {
        let command = read_command(&mut requests)?;
        // A script that panicked has already failed its test.
        let answer = script.lock().unwrap_or_else(PoisonError::into_inner)(number, &command);
        match answer {
            Answer::Send(bytes) => stream.write_all(&bytes)?,
            Answer::Close(bytes) => return stream.write_all(&bytes),
            Answer::Flood(first, again) => {
                stream.write_all(&first)?;
                loop {
                    stream.write_all(&again)?;
                }
            }
            Answer::Repeat(first, again, times) => {
                stream.write_all(&first)?;
                for _ in 0..times {
                    stream.write_all(&again)?;
                }
            }
            Answer::Silence => {}
        }
    }
}

/// Returns the answer to a command of a client's handshake, and `None` for any other command.
pub(crate) fn handshake(command: &[String]) -> Option<Answer> {
    let fields = "$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n7.4.0\r\n$5\r\nproto\r\n";
    let more = "$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n";
    let name = command.first().map(|name| name.to_ascii_uppercase());
    Some(match name.as_deref() {
        // Redis ignores an empty command.
        None => Answer::Silence,
        Some("PING") => "+PONG\r\n".into(),
        Some("AUTH" | "SELECT" | "CLIENT") => "+OK\r\n".into(),
        Some("ROLE") => "*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n".into(),
        Some("HELLO") if command.get(1).is_some_and(|version| version == "3") => {
            format!("%6\r\n{fields}:3\r\n{more}").as_str().into()
        }
        Some("HELLO") => format!("*12\r\n{fields}:2\r\n{more}").as_str().into(),
        Some(_) => return None,
    })
}

//! A client for tests that see every byte.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// The timeout of operations that are immediate unless the machine is very busy.
pub(crate) const BOUND: Duration = Duration::from_secs(20);

pub(crate) struct Client {
    pub(crate) stream: BufReader<TcpStream>,
}

impl Client {
    pub(crate) fn open(address: SocketAddr) -> Self {
        Self::try_open(address).unwrap()
    }

    pub(crate) fn try_open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(BOUND))?;
        stream.set_write_timeout(Some(BOUND))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Sends a command whose arguments contain no spaces.
    pub(crate) fn send(&mut self, command: &str) -> io::Result<()> {
        let words = command.split(' ').map(|word| format!("${}\r\n{word}\r\n", word.len()));
        let request = format!("*{}\r\n{}", words.clone().count(), words.collect::<String>());
        self.stream.get_mut().write_all(request.as_bytes())
    }

    /// Reads the next line of a reply. At the end of the stream the line may be incomplete.
    pub(crate) fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    /// Sends a command and returns the first line of its reply.
    pub(crate) fn query(&mut self, command: &str) -> io::Result<String> {
        self.send(command)?;
        self.line()
    }

    /// Reads until the connection ends. Returns the data, and the kind of the error if the connection ended with
    /// one.
    pub(crate) fn read_to_end(&mut self) -> (String, Option<ErrorKind>) {
        let mut bytes = Vec::new();
        let error = self.stream.read_to_end(&mut bytes).err().map(|error| error.kind());
        assert_ne!(error, Some(ErrorKind::WouldBlock), "the connection does not end");
        (String::from_utf8(bytes).unwrap(), error)
    }
}

pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < BOUND, "timed out waiting for: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

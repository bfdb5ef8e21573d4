//! A blocking connection for one query at a time.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::Error;

/// The timeout of a connection attempt and of each read.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The limit of the parser's recursion, far deeper than any reply of Redis.
const MAX_DEPTH: usize = 32;

/// A reply of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reply {
    /// A null value.
    Nil,
    /// A number.
    Integer(i64),
    /// A status or a string. Invalid UTF-8 is replaced.
    Text(String),
    /// An error inside an array. An error as the whole reply is an [`Error::Refused`].
    Error(String),
    /// An array of replies.
    Array(Vec<Reply>),
}

impl Reply {
    /// Returns the text of a status or string.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the value of a number.
    pub fn integer(&self) -> Option<i64> {
        match self {
            Self::Integer(value) => Some(*value),
            _ => None,
        }
    }

    /// Returns the elements of an array, or nothing for any other reply.
    pub fn items(&self) -> &[Reply] {
        match self {
            Self::Array(items) => items,
            _ => &[],
        }
    }

    /// Returns the value of `name` in an array of names and values, such as the reply to `SENTINEL MASTER`, or in
    /// lines of `name:value`, such as the reply to `INFO`.
    pub fn field(&self, name: &str) -> Option<&str> {
        match self {
            Self::Text(lines) => lines.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')),
            _ => {
                let mut pairs = self.items().chunks_exact(2);
                pairs.find(|pair| pair[0].text() == Some(name)).and_then(|pair| pair[1].text())
            }
        }
    }
}

/// An open connection.
pub(crate) struct Connection {
    stream: BufReader<Box<dyn Stream>>,
}

trait Stream: Read + Write {}

impl<S: Read + Write> Stream for S {}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> Result<Self, Error> {
        let open = || {
            let stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
            stream.set_read_timeout(Some(TIMEOUT))?;
            stream.set_write_timeout(Some(TIMEOUT))?;
            stream.set_nodelay(true)?;
            Ok(stream)
        };
        let stream = open().map_err(Error::io(format!("connect to {address}")))?;
        Ok(Self { stream: BufReader::new(Box::new(stream)) })
    }

    /// Connects through the Unix socket at `path`.
    pub(crate) fn open_unix(path: &Path) -> Result<Self, Error> {
        let open = || {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(TIMEOUT))?;
            stream.set_write_timeout(Some(TIMEOUT))?;
            Ok(stream)
        };
        let stream = open().map_err(Error::io(format!("connect to {}", path.display())))?;
        Ok(Self { stream: BufReader::new(Box::new(stream)) })
    }

    /// Sends one command and reads its reply.
    pub(crate) fn query(&mut self, command: &[&str]) -> Result<Reply, Error> {
        let name = command.first().copied().unwrap_or_default();
        let reply =
            self.stream.get_mut().write_all(&encode(command)).and_then(|()| read(&mut self.stream, 0));
        match reply.map_err(Error::io(format!("query the server with {name}")))? {
            Reply::Error(message) => Err(Error::Refused { command: name.to_owned(), message }),
            reply => Ok(reply),
        }
    }
}

fn encode(command: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", command.len());
    for argument in command {
        bytes.push_str(&format!("${}\r\n{argument}\r\n", argument.len()));
    }
    bytes.into_bytes()
}

/// Reads a command as clients send it. Invalid UTF-8 is replaced.
pub(crate) fn read_command(stream: &mut impl BufRead) -> io::Result<Vec<String>> {
    let Reply::Array(args) = read(stream, 0)? else { return Err(malformed("not an array")) };
    let args = args.into_iter().map(|arg| match arg {
        Reply::Text(arg) => Ok(arg),
        _ => Err(malformed("not a string")),
    });
    args.collect()
}

fn read(stream: &mut impl BufRead, depth: usize) -> io::Result<Reply> {
    let line = read_line(stream)?;
    let (kind, rest) = line.split_at_checked(1).ok_or_else(|| malformed("an empty line"))?;
    match kind {
        "+" => Ok(Reply::Text(rest.to_owned())),
        "-" => Ok(Reply::Error(rest.to_owned())),
        ":" => Ok(Reply::Integer(number(rest)?)),
        "$" => match u64::try_from(number(rest)?) {
            Ok(length) => read_text(stream, length),
            Err(_) => Ok(Reply::Nil),
        },
        "*" if depth == MAX_DEPTH => Err(malformed("arrays nested too deeply")),
        "*" => match number(rest)? {
            ..0 => Ok(Reply::Nil),
            length => {
                (0..length).map(|_| read(stream, depth + 1)).collect::<Result<_, _>>().map(Reply::Array)
            }
        },
        _ => Err(malformed(&line)),
    }
}

fn read_line(stream: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    stream.read_until(b'\n', &mut line)?;
    match line.strip_suffix(b"\r\n") {
        Some(line) => Ok(String::from_utf8_lossy(line).into_owned()),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn read_text(stream: &mut impl BufRead, length: u64) -> io::Result<Reply> {
    let mut bytes = Vec::new();
    stream.take(length.saturating_add(2)).read_to_end(&mut bytes)?;
    match bytes.strip_suffix(b"\r\n") {
        Some(text) if text.len() as u64 == length => {
            Ok(Reply::Text(String::from_utf8_lossy(text).into_owned()))
        }
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn number(text: &str) -> io::Result<i64> {
    text.parse().map_err(|_| malformed(text))
}

fn malformed(found: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("invalid RESP2: {found}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(mut bytes: &[u8]) -> io::Result<Reply> {
        read(&mut bytes, 0)
    }

    #[test]
    fn all_reply_types_parsed() {
        let bytes = b"*6\r\n+OK\r\n-ERR no\r\n:-7\r\n$-1\r\n$3\r\na\r\n\r\n*0\r\n";
        let expected = [
            Reply::Text("OK".into()),
            Reply::Error("ERR no".into()),
            Reply::Integer(-7),
            Reply::Nil,
            Reply::Text("a\r\n".into()),
            Reply::Array(Vec::new()),
        ];
        assert_eq!(parse(bytes).unwrap().items(), expected);
    }

    #[test]
    fn truncated_or_invalid_reply_is_an_error() {
        for bytes in
            [&b""[..], b"\r\n", b"+OK", b"$5\r\nab\r\n", b"$x\r\n", b"*2\r\n:1\r\n", b"%1\r\n", b"?\r\n"]
        {
            assert!(parse(bytes).is_err(), "{bytes:?}");
        }
        assert!(parse(&b"*1\r\n".repeat(10_000)).is_err());
        assert!(parse(b"$9223372036854775807\r\nab").is_err());
    }

    #[test]
    fn fields_found_in_arrays_and_lines() {
        let text = |text: &str| Reply::Text(text.into());
        let array = Reply::Array(vec![text("ip"), text("::1"), text("port"), text("1")]);
        assert_eq!(array.field("port"), Some("1"));
        assert_eq!(array.field("::1"), None);
        let info = text("# Replication\r\nrole:master\r\nrole_x:1\r\n");
        assert_eq!(info.field("role"), Some("master"));
        assert_eq!(info.field("ro"), None);
    }

    #[test]
    fn command_encoded_as_array_of_strings() {
        assert_eq!(encode(&["GET", "é"]), "*2\r\n$3\r\nGET\r\n$2\r\né\r\n".as_bytes());
    }

    #[test]
    fn commands_read_one_by_one() {
        let mut bytes = &[encode(&["GET", "a\r\n"]), encode(&["PING"]), b"+OK\r\n".to_vec()].concat()[..];
        assert_eq!(read_command(&mut bytes).unwrap(), ["GET", "a\r\n"]);
        assert_eq!(read_command(&mut bytes).unwrap(), ["PING"]);
        assert!(read_command(&mut bytes).is_err());
        assert!(read_command(&mut &b"*1\r\n:1\r\n"[..]).is_err());
    }
}

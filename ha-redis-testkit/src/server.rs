//! One server process: its life, its faults.

mod builder;

use std::fmt::{self, Write};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::certificates;
use crate::error::{Error, wait_for};
use crate::guard::{Guard, Signal};
use crate::ports::Port;
use crate::resp::{Connection, Reply};
pub use builder::ServerBuilder;

/// How long a server may take to start or to end. It takes some 20 ms unless the machine is very busy.
const BOUND: Duration = Duration::from_secs(20);

/// How often a start is repeated with another port when a program took the port meanwhile.
const ATTEMPTS: usize = 3;

/// The user that queries log in as when ACL rules are given, since those may take the default user away.
const OWN_USER: &str = "ha-redis-testkit";

/// The configuration, in a server's folder.
const CONFIG_FILE: &str = "redis.conf";

/// A running `redis-server`, or a Sentinel of a [`Topology`](crate::Topology). It ends when this value drops, and
/// its folder goes with it.
pub struct Server {
    guard: Mutex<Guarded>,
    folder: PathBuf,
    address: SocketAddr,
    port: Port,
    password: Option<String>,
    login: Vec<String>,
    tls: bool,
}

#[derive(Debug)]
struct Guarded {
    guard: Guard,
    pid: u32,
    hangs: bool,
}

impl Server {
    /// Starts a server with nothing but the defaults: no password, no persistence.
    ///
    /// # Errors
    ///
    /// As [`ServerBuilder::start`].
    pub fn start() -> Result<Self, Error> {
        Self::builder().start()
    }

    /// Configures a server before it starts.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::new()
    }

    /// Where it accepts connections. A server bound to all addresses says the loopback one.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its port, which stays its own while it is down.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The URL a client connects to, with the password if it has one: `redis://:password@127.0.0.1:15001`. With TLS
    /// it names the authority: `rediss://127.0.0.1:15001?ssl_ca_certs=…`.
    pub fn url(&self) -> String {
        let server = format!("{}{}", self.user_info(), self.address);
        match self.ca_parameter() {
            Some(ca) => format!("rediss://{server}?{ca}"),
            None => format!("redis://{server}"),
        }
    }

    /// `ssl_ca_certs=…` for a URL, if it speaks TLS.
    pub(crate) fn ca_parameter(&self) -> Option<String> {
        self.tls.then(|| format!("ssl_ca_certs={}", url_encoded(&self.ca_file().display().to_string())))
    }

    /// The authority of its certificate, in PEM. It exists if [`ServerBuilder::tls`] was called.
    pub fn ca_file(&self) -> PathBuf {
        self.folder.join(certificates::AUTHORITY)
    }

    /// A certificate for its clients, in PEM. It exists if [`ServerBuilder::tls`] was called.
    pub fn client_certificate(&self) -> PathBuf {
        self.folder.join(certificates::CLIENT)
    }

    /// The private key of [`Server::client_certificate`].
    pub fn client_key(&self) -> PathBuf {
        self.folder.join(certificates::CLIENT_KEY)
    }

    /// What stands before the address in its URL: `:password@`, or nothing.
    pub(crate) fn user_info(&self) -> String {
        user_info(self.password.as_deref())
    }

    /// Its Unix socket, which exists if [`ServerBuilder::unix_socket`] was called.
    pub fn unix_socket(&self) -> PathBuf {
        self.folder.join("redis.sock")
    }

    /// The temporary folder with its configuration, data and log.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// All that it has written to its log, in every run; empty if it can't be read.
    pub fn log(&self) -> String {
        fs::read(self.folder.join("log"))
            .map(|log| String::from_utf8_lossy(&log).into_owned())
            .unwrap_or_default()
    }

    /// Sends one command over a connection of its own, logged in as a user who may do anything.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if the server answers with an error, [`Error::Io`] if it does not answer within 2 s.
    pub fn query(&self, command: &[&str]) -> Result<Reply, Error> {
        let mut connection = match self.tls {
            true => Connection::open_unix(&self.unix_socket())?,
            false => Connection::open(self.address)?,
        };
        if !self.login.is_empty() {
            let login: Vec<&str> = self.login.iter().map(String::as_str).collect();
            connection.query(&login)?;
        }
        connection.query(command)
    }

    /// Its process id in its latest run.
    pub fn pid(&self) -> u32 {
        self.guarded().pid
    }

    /// Whether its process exists; a hanging one does.
    pub fn is_running(&self) -> bool {
        self.guarded().guard.is_running().unwrap_or(false)
    }

    /// Whether [`Server::hang`] stopped it.
    pub fn is_hanging(&self) -> bool {
        self.guarded().hangs
    }

    /// Ends it by SIGKILL, as a crash does, and returns when it is gone. Nothing happens if it is down already.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] or [`Error::TimedOut`] if that did not work.
    pub fn kill(&self) -> Result<(), Error> {
        self.signal(Signal::Kill)?;
        wait_for(BOUND, || self.check_gone())
    }

    /// Lets it shut down in order, as an operator does, and returns when it is gone. A hanging one goes on first.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] or [`Error::TimedOut`] if that did not work.
    pub fn terminate(&self) -> Result<(), Error> {
        wait_for(BOUND, || {
            // One that writes its first append-only file refuses to end: it is asked until it does.
            self.signal(Signal::Terminate)?;
            self.resume()?;
            self.check_gone()
        })
    }

    /// Stops it by SIGSTOP: the system still accepts connections and data for it, and no answer comes.
    ///
    /// # Errors
    ///
    /// [`Error::NotReady`] if it is not running.
    pub fn hang(&self) -> Result<(), Error> {
        if !self.signal(Signal::Stop)? {
            return Err(Error::NotReady(format!("the server on port {} is not running", self.port())));
        }
        self.guarded().hangs = true;
        Ok(())
    }

    /// Lets it go on after [`Server::hang`].
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if that did not work.
    pub fn resume(&self) -> Result<(), Error> {
        self.signal(Signal::Continue)?;
        self.guarded().hangs = false;
        Ok(())
    }

    /// Starts it again with the same port and folder, after killing it if it runs, and returns when it answers.
    /// It comes back with what it has on disk: with its keys only if [`ServerBuilder::appendonly`] is on, and with
    /// the configuration that `CONFIG REWRITE` may have written, by which Sentinel makes failovers last.
    ///
    /// # Errors
    ///
    /// As [`ServerBuilder::start`].
    pub fn restart(&self) -> Result<(), Error> {
        self.kill()?;
        self.launch()?;
        self.wait_until_ready()
    }

    /// Starts it again as another one, with nothing of what it knew: as [`Server::restart`], by this configuration.
    pub(crate) fn start_anew(&self, configuration: &ServerBuilder) -> Result<(), Error> {
        self.kill()?;
        let file = configuration.config_file(self.port(), &self.folder);
        fs::write(self.folder.join(CONFIG_FILE), file)
            .map_err(Error::io("write the server's configuration"))?;
        self.restart()
    }

    fn launch(&self) -> Result<(), Error> {
        if !self.port.is_free(self.address.ip()) {
            return Err(Error::PortTaken { port: self.port() });
        }
        let mut guarded = self.guarded();
        guarded.pid = guarded.guard.start().map_err(Error::io("start the server"))?;
        guarded.hangs = false;
        Ok(())
    }

    pub(crate) fn wait_until_ready(&self) -> Result<(), Error> {
        wait_for(BOUND, || {
            if !self.is_running() {
                return Err(self.ended());
            }
            match self.query(&["PING"]) {
                // It may have been told not to know PING.
                Err(Error::Refused { message, .. }) if message.starts_with("ERR unknown command") => Ok(()),
                answer => answer.map(drop),
            }
        })
    }

    fn check_gone(&self) -> Result<(), Error> {
        match self.is_running() {
            true => Err(Error::NotReady(format!("the server on port {} still runs", self.port()))),
            false => Ok(()),
        }
    }

    fn ended(&self) -> Error {
        let log = self.log();
        if log.contains("Address already in use") {
            return Error::PortTaken { port: self.port() };
        }
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(20)..].join("\n");
        Error::Ended { port: self.port(), log: tail }
    }

    fn signal(&self, signal: Signal) -> Result<bool, Error> {
        self.guarded().guard.signal(signal).map_err(Error::io("reach the guard of the server"))
    }

    fn guarded(&self) -> MutexGuard<'_, Guarded> {
        // A panic elsewhere must not keep a server from being looked at or killed.
        self.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("address", &self.address)
            .field("pid", &self.pid())
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

/// Repeats a start whose port another program took between the look and the start.
pub(crate) fn retry_taken_ports<T>(mut start: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
    let mut outcome = start();
    for _ in 1..ATTEMPTS {
        match outcome {
            Err(Error::PortTaken { .. }) => outcome = start(),
            outcome => return outcome,
        }
    }
    outcome
}

/// `:password@` for a URL, or nothing.
pub(crate) fn user_info(password: Option<&str>) -> String {
    password.map(|password| format!(":{}@", url_encoded(password))).unwrap_or_default()
}

pub(crate) fn url_encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String can't fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

/// An argument of a line of redis.conf.
pub(crate) fn quoted(argument: &str) -> String {
    format!("\"{}\"", argument.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_survive_urls_and_configuration_files() {
        assert_eq!(user_info(Some("p@ss/wörd")), ":p%40ss%2Fw%C3%B6rd@");
        assert_eq!(user_info(None), "");
        assert_eq!(quoted(r#"a "b" \"#), r#""a \"b\" \\""#);
    }

    #[test]
    fn debug_output_holds_no_secret() {
        let builder =
            Server::builder().password("secret").user("alice", "on >secret").config("masterauth secret");
        assert!(!format!("{builder:?}").contains("secret"));
    }

    #[test]
    fn a_start_is_repeated_only_for_a_taken_port() {
        let mut starts = 0;
        let outcome = retry_taken_ports(|| {
            starts += 1;
            if starts < 2 { Err(Error::PortTaken { port: 1 }) } else { Ok(()) }
        });
        assert!(outcome.is_ok());
        assert_eq!(starts, 2);

        let mut starts = 0;
        let outcome = retry_taken_ports::<()>(|| {
            starts += 1;
            Err(Error::NotReady(String::new()))
        });
        assert!(outcome.is_err());
        assert_eq!(starts, 1);
    }
}

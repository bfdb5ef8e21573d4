//! One server process: starting, stopping and faults.

mod builder;

use std::fmt::{self, Write};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::certificates;
use crate::environment::Access;
use crate::error::{Error, wait_for};
use crate::guard::{Guard, Signal};
use crate::ports::Port;
use crate::resp::{Connection, Reply};
pub use builder::ServerBuilder;

/// How long a server may take to start or to end. It takes about 20 ms unless the machine is very busy.
const BOUND: Duration = Duration::from_secs(20);

/// How often a start is repeated with another port after another program has taken the port.
const ATTEMPTS: usize = 3;

/// The user for this crate's own queries when ACL rules are given, because those may disable the default user.
pub(crate) const OWN_USER: &str = "ha-redis-testkit";

/// The configuration file in a server's folder.
const CONFIG_FILE: &str = "redis.conf";

/// A running `redis-server`, or a Sentinel of a [`Topology`](crate::Topology). Dropping this value ends the process
/// and removes its folder.
pub struct Server {
    guard: Mutex<Guarded>,
    folder: PathBuf,
    address: SocketAddr,
    port: Port,
    /// Further ports of the server.
    reserved: Vec<Port>,
    password: Option<String>,
    /// The user and password of clients, if they do not log in as the default user.
    client: Option<(String, String)>,
    login: Vec<String>,
    tls: bool,
    asks_clients: bool,
}

#[derive(Debug)]
struct Guarded {
    guard: Guard,
    pid: u32,
    hangs: bool,
}

impl Server {
    /// Starts a server with the defaults: no password, no persistence.
    ///
    /// # Errors
    ///
    /// The same as for [`ServerBuilder::start`].
    pub fn start() -> Result<Self, Error> {
        Self::builder().start()
    }

    /// Returns a builder for a server.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::new()
    }

    /// Returns the address on which the server accepts connections. For a server bound to all addresses, this is
    /// the loopback address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the server's port, which stays reserved while the server is down.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Returns the URL for clients, with the user and password if there are any: `redis://:password@127.0.0.1:15001`.
    /// With TLS it includes the authority, `rediss://127.0.0.1:15001?ssl_ca_certs=…`, and in
    /// [`Environment::MtlsAcl`](crate::Environment::MtlsAcl) the client certificate.
    pub fn url(&self) -> String {
        self.access().url("", self.address)
    }

    /// Returns what clients need besides the address.
    pub(crate) fn access(&self) -> Access {
        let file = |name, path: PathBuf| (name, path.display().to_string());
        let mut parameters = Vec::new();
        if self.tls {
            parameters.push(file("ssl_ca_certs", self.ca_file()));
        }
        // Tests of client certificates alone set them themselves.
        if let (true, Some(_)) = (self.asks_clients, &self.client) {
            parameters.push(file("ssl_certfile", self.client_certificate()));
            parameters.push(file("ssl_keyfile", self.client_key()));
        }
        let (user, password) = match &self.client {
            Some((user, password)) => (Some(user.clone()), Some(password.clone())),
            None => (None, self.password.clone()),
        };
        Access { user, password, parameters, tls: self.tls }
    }

    /// Returns the arguments of the `AUTH` by which a user with all permissions logs in, or nothing if none is needed.
    pub(crate) fn login(&self) -> &[String] {
        self.login.get(1..).unwrap_or_default()
    }

    /// Keeps another port reserved for as long as the server's own.
    pub(crate) fn reserve(&mut self, port: Port) {
        self.reserved.push(port);
    }

    /// Returns the path of the authority's certificate, in PEM. The file exists if [`ServerBuilder::tls`] was
    /// called.
    pub fn ca_file(&self) -> PathBuf {
        self.folder.join(certificates::AUTHORITY)
    }

    /// Returns the path of a client certificate, in PEM. The file exists if [`ServerBuilder::tls`] was called.
    pub fn client_certificate(&self) -> PathBuf {
        self.folder.join(certificates::CLIENT)
    }

    /// Returns the path of the private key of [`Server::client_certificate`].
    pub fn client_key(&self) -> PathBuf {
        self.folder.join(certificates::CLIENT_KEY)
    }

    /// Returns the path of the Unix socket, which exists if [`ServerBuilder::unix_socket`] was called.
    pub fn unix_socket(&self) -> PathBuf {
        self.folder.join("redis.sock")
    }

    /// Returns the temporary folder with the configuration, data and log.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns everything that the server has logged in all of its runs, or an empty text if the log cannot be
    /// read.
    pub fn log(&self) -> String {
        fs::read(self.folder.join("log"))
            .map(|log| String::from_utf8_lossy(&log).into_owned())
            .unwrap_or_default()
    }

    /// Sends one command over a connection of its own, logged in as a user with all permissions.
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

    /// Returns the process id of the latest run.
    pub fn pid(&self) -> u32 {
        self.guarded().pid
    }

    /// Returns true if the server's process exists, also if it hangs.
    pub fn is_running(&self) -> bool {
        self.guarded().guard.is_running().unwrap_or(false)
    }

    /// Returns true if [`Server::hang`] stopped the server.
    pub fn is_hanging(&self) -> bool {
        self.guarded().hangs
    }

    /// Kills the server with SIGKILL, as in a crash, and returns when the process is gone. Does nothing if the
    /// server is down.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] or [`Error::TimedOut`] if the server could not be killed.
    pub fn kill(&self) -> Result<(), Error> {
        self.signal(Signal::Kill)?;
        wait_for(BOUND, || self.check_gone())
    }

    /// Shuts the server down with SIGTERM, as an operator does, and returns when the process is gone. A hanging
    /// server is resumed first.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] or [`Error::TimedOut`] if the server did not end.
    pub fn terminate(&self) -> Result<(), Error> {
        wait_for(BOUND, || {
            // A server that is writing its first append-only file refuses to end, so the signal is repeated.
            self.signal(Signal::Terminate)?;
            self.resume()?;
            self.check_gone()
        })
    }

    /// Stops the server with SIGSTOP: the system still accepts connections and data for it, but the server does not
    /// answer.
    ///
    /// # Errors
    ///
    /// [`Error::NotReady`] if the server is not running.
    pub fn hang(&self) -> Result<(), Error> {
        if !self.signal(Signal::Stop)? {
            return Err(Error::NotReady(format!("the server on port {} is not running", self.port())));
        }
        self.guarded().hangs = true;
        Ok(())
    }

    /// Resumes the server after [`Server::hang`].
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the server could not be resumed.
    pub fn resume(&self) -> Result<(), Error> {
        self.signal(Signal::Continue)?;
        self.guarded().hangs = false;
        Ok(())
    }

    /// Starts the server again with the same port and folder, after killing it if it runs, and returns when it
    /// answers. It loads what it has on disk: its keys only if [`ServerBuilder::appendonly`] is on, and the
    /// configuration that `CONFIG REWRITE` may have written, which is how Sentinel makes failovers permanent.
    ///
    /// # Errors
    ///
    /// The same as for [`ServerBuilder::start`].
    pub fn restart(&self) -> Result<(), Error> {
        self.kill()?;
        self.launch()?;
        self.wait_until_ready()
    }

    /// Like [`Server::restart`], but with an empty state and this configuration.
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
                // The configuration may have disabled PING.
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
        self.guarded().guard.signal(signal).map_err(Error::io("signal the server"))
    }

    fn guarded(&self) -> MutexGuard<'_, Guarded> {
        // After a panic elsewhere, the server must still be usable and killable.
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

/// Repeats a start when another program takes the port between the check and the start.
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

pub(crate) fn url_encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

/// Quotes an argument for a line of redis.conf.
pub(crate) fn quoted(argument: &str) -> String {
    format!("\"{}\"", argument.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_survive_configuration_files() {
        assert_eq!(quoted(r#"a "b" \"#), r#""a \"b\" \\""#);
    }

    #[test]
    fn debug_output_hides_passwords() {
        let builder =
            Server::builder().password("secret").user("alice", "on >secret").config("masterauth secret");
        assert!(!format!("{builder:?}").contains("secret"));
    }

    #[test]
    fn start_repeated_only_for_taken_port() {
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

//! The settings of a server.

use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Mutex;

use super::{CONFIG_FILE, Guarded, OWN_USER, Server, quoted, retry_taken_ports};
use crate::binary;
use crate::certificates::{self, Certificates};
use crate::environment::{CLIENT_PASSWORD, CLIENT_USER, Environment, SENTINEL_RULES, SERVER_RULES};
use crate::error::Error;
use crate::guard::Guard;
use crate::ports::Port;

/// The settings of a server. Returned by [`Server::builder`].
#[derive(Clone)]
pub struct ServerBuilder {
    host: IpAddr,
    port: Option<u16>,
    password: Option<String>,
    client: Option<(String, String)>,
    users: bool,
    unix_socket: bool,
    sentinel: bool,
    tls: Option<Tls>,
    lines: Vec<String>,
}

/// The TLS settings of a server.
#[derive(Clone)]
struct Tls {
    names: Vec<String>,
    asks_clients: bool,
    certificates: CertificateSource,
}

#[derive(Clone)]
enum CertificateSource {
    /// Created at the start, from an authority of the server's own.
    Own,
    /// Shared with all servers of this process that have this source.
    OfProcess,
    Given(Certificates),
}

impl ServerBuilder {
    pub(super) fn new() -> Self {
        Self {
            host: Ipv4Addr::LOCALHOST.into(),
            port: None,
            password: None,
            client: None,
            users: false,
            unix_socket: false,
            sentinel: false,
            tls: None,
            lines: Vec::new(),
        }
    }

    pub(crate) fn sentinel() -> Self {
        Self { sentinel: true, ..Self::new() }
    }

    /// Sets the address that the server listens on; 127.0.0.1 by default.
    #[must_use]
    pub fn bind(mut self, host: IpAddr) -> Self {
        self.host = host;
        self
    }

    /// Sets the port. By default a free port is reserved.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Sets the password of the default user.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// Adds a user with ACL rules in the format of `ACL SETUSER`: `user("alice", "on >secret ~* +@all")`, or
    /// `user("default", "off")`. [`Server::query`] then logs in as a separate user.
    #[must_use]
    pub fn user(mut self, name: &str, rules: &str) -> Self {
        self.users = true;
        self.config(format!("user {name} {rules}"))
    }

    /// Protects the server as `environment` says. [`Server::url`] contains all that a client needs. In
    /// [`Environment::Tls`] and [`Environment::MtlsAcl`], all servers of the process have the same authority and the
    /// same certificates, and replicas of each other log in.
    #[must_use]
    pub fn environment(mut self, environment: Environment) -> Self {
        if environment == Environment::Plain {
            return self;
        }
        self = self.tls();
        let asks_clients = environment == Environment::MtlsAcl;
        let certificates = CertificateSource::OfProcess;
        self.tls = self.tls.map(|tls| Tls { asks_clients, certificates, ..tls });
        if asks_clients { self.with_client_user() } else { self }
    }

    /// Turns the default user off, and adds the user of clients.
    fn with_client_user(mut self) -> Self {
        let rules = if self.sentinel { SENTINEL_RULES } else { SERVER_RULES };
        self.client = Some((CLIENT_USER.to_owned(), CLIENT_PASSWORD.to_owned()));
        let password = quoted(&format!(">{CLIENT_PASSWORD}"));
        let server = self.user("default", "off").user(CLIENT_USER, &format!("on {password} {rules}"));
        if server.sentinel {
            return server;
        }
        server.config(format!("masteruser {OWN_USER}")).config("masterauth any")
    }

    /// Persists keys, so that they survive a [`Server::restart`].
    #[must_use]
    pub fn appendonly(self) -> Self {
        self.config("appendonly yes")
    }

    /// Also listens on [`Server::unix_socket`].
    #[must_use]
    pub fn unix_socket(mut self) -> Self {
        self.unix_socket = true;
        self
    }

    /// Uses only TLS on the port, with a certificate for `localhost`, 127.0.0.1 and ::1 from an authority of its
    /// own: [`Server::ca_file`]. Queries of this crate use the Unix socket.
    #[must_use]
    pub fn tls(mut self) -> Self {
        let names = certificates::LOCAL.map(str::to_owned).to_vec();
        self.tls = Some(Tls { names, asks_clients: false, certificates: CertificateSource::Own });
        self.unix_socket()
    }

    /// Like [`tls`](Self::tls), with a self-signed certificate, as `openssl req -x509` creates: [`Server::ca_file`]
    /// is the same certificate.
    ///
    /// # Errors
    ///
    /// [`Error::NotReady`] if the certificate cannot be created.
    pub fn self_signed_tls(self) -> Result<Self, Error> {
        let names = certificates::LOCAL.map(str::to_owned);
        Ok(self.tls_with(&Certificates::self_signed(&names)?))
    }

    /// Like [`tls`](Self::tls), with a certificate for other names.
    #[must_use]
    pub fn tls_for(mut self, names: &[&str]) -> Self {
        self = self.tls();
        self.tls = self.tls.map(|tls| Tls { names: names.iter().map(ToString::to_string).collect(), ..tls });
        self
    }

    /// Like [`tls`](Self::tls), and requires clients to present a certificate of the same authority, such as
    /// [`Server::client_certificate`].
    #[must_use]
    pub fn mutual_tls(mut self) -> Self {
        self = self.tls();
        self.tls = self.tls.map(|tls| Tls { asks_clients: true, ..tls });
        self
    }

    /// Like [`tls`](Self::tls), with certificates that other servers share.
    pub(crate) fn tls_with(mut self, certificates: &Certificates) -> Self {
        let asks_clients = self.tls.as_ref().is_some_and(|tls| tls.asks_clients);
        self = self.tls();
        let certificates = CertificateSource::Given(certificates.clone());
        self.tls = self.tls.map(|tls| Tls { asks_clients, certificates, ..tls });
        self
    }

    /// Makes the server a replica of `master`, with the master's password. After the start it may not have the
    /// master's data yet.
    #[must_use]
    pub fn replica_of(self, master: &Server) -> Self {
        let replica = self.config(format!("replicaof {} {}", master.address.ip(), master.port()));
        match &master.password {
            Some(password) => replica.config(format!("masterauth {}", quoted(password))),
            None => replica,
        }
    }

    /// Adds a line to the configuration file, such as `maxmemory 10mb`.
    #[must_use]
    pub fn config(mut self, line: impl Into<String>) -> Self {
        self.lines.push(line.into());
        self
    }

    /// Starts the server and returns when it answers.
    ///
    /// # Errors
    ///
    /// [`Error::NoServer`] if none is installed, [`Error::PortTaken`], [`Error::Ended`] with the end of its log if
    /// its configuration is invalid, [`Error::TimedOut`] after 20 s.
    pub fn start(self) -> Result<Server, Error> {
        let server = || {
            let server = self.clone().launch(self.reserve_port()?)?;
            server.wait_until_ready()?;
            Ok(server)
        };
        if self.port.is_some() { server() } else { retry_taken_ports(server) }
    }

    fn reserve_port(&self) -> Result<Port, Error> {
        self.port.map_or_else(|| Port::any(self.host), |port| Port::exactly(port, self.host))
    }

    /// Starts the server without waiting until it answers.
    pub(crate) fn launch(self, port: Port) -> Result<Server, Error> {
        let program = binary::redis_server()?;
        let folder = tempfile::Builder::new()
            .prefix("ha-redis-")
            .tempdir()
            .map_err(Error::io("make a temporary folder for the server"))?;
        if let Some(tls) = &self.tls {
            tls.certificates()?.write(folder.path())?;
        }
        let config = folder.path().join(CONFIG_FILE);
        fs::write(&config, self.config_file(port.number(), folder.path()))
            .map_err(Error::io("write the server's configuration"))?;

        let mut arguments = vec![config.into_os_string()];
        arguments.extend(self.sentinel.then(|| "--sentinel".into()));
        let guard =
            Guard::new(folder, &program, arguments).map_err(Error::io("start the guard of the server"))?;
        let server = Server {
            folder: guard.folder().to_owned(),
            guard: Mutex::new(Guarded { guard, pid: 0, hangs: false }),
            address: SocketAddr::new(reachable(self.host), port.number()),
            port,
            reserved: Vec::new(),
            login: self.login(),
            tls: self.tls.is_some(),
            asks_clients: self.tls.is_some_and(|tls| tls.asks_clients),
            client: self.client,
            password: self.password,
        };
        server.launch()?;
        Ok(server)
    }

    pub(crate) fn config_file(&self, port: u16, folder: &Path) -> String {
        let folder = folder.display().to_string();
        let mut file = format!("bind {}\nprotected-mode no\ndir {}\n", self.host, quoted(&folder));
        match &self.tls {
            Some(tls) => file.push_str(&tls.config_lines(port, &folder)),
            None => file.push_str(&format!("port {port}\n")),
        }
        // No snapshots, and a replica detects a lost master quickly. Replicas load through the disk: after a
        // diskless sync, the master sends nothing for up to a second, and all writes of that time would be lost
        // with it.
        let settings = "save \"\"\nrepl-diskless-sync no\nrepl-ping-replica-period 1\n";
        file.push_str(settings);
        if let Some(password) = &self.password {
            file.push_str(&format!("requirepass {}\n", quoted(password)));
        }
        if self.users {
            file.push_str(&format!("user {OWN_USER} on nopass ~* &* +@all\n"));
        }
        if self.unix_socket {
            file.push_str(&format!("unixsocket {}\n", quoted(&format!("{folder}/redis.sock"))));
        }
        for line in &self.lines {
            file.push_str(line);
            file.push('\n');
        }
        file
    }

    /// Returns the command that logs queries in, or nothing if they need no login.
    fn login(&self) -> Vec<String> {
        match &self.password {
            _ if self.users => vec!["AUTH".into(), OWN_USER.into(), "any".into()],
            Some(password) => vec!["AUTH".into(), password.clone()],
            None => Vec::new(),
        }
    }
}

impl Tls {
    fn certificates(&self) -> Result<Certificates, Error> {
        match &self.certificates {
            CertificateSource::Own => Certificates::of_server(&self.names),
            CertificateSource::OfProcess => Certificates::of_process(),
            CertificateSource::Given(certificates) => Ok(certificates.clone()),
        }
    }

    /// Returns the lines for clients, and for the links to masters, replicas and Sentinels.
    fn config_lines(&self, port: u16, folder: &str) -> String {
        let file = |name| quoted(&format!("{folder}/{name}"));
        format!(
            "port 0\ntls-port {port}\ntls-replication yes\ntls-auth-clients {}\n\
             tls-ca-cert-file {}\ntls-cert-file {}\ntls-key-file {}\n",
            if self.asks_clients { "yes" } else { "no" },
            file(certificates::AUTHORITY),
            file(certificates::SERVER),
            file(certificates::SERVER_KEY),
        )
    }
}

impl fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Configuration lines may hold passwords.
        f.debug_struct("ServerBuilder")
            .field("host", &self.host)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

fn reachable(host: IpAddr) -> IpAddr {
    match host {
        IpAddr::V4(host) if host.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(host) if host.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        host => host,
    }
}

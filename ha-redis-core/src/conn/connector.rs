//! Opens connections: socket, TLS, handshake, role.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::address::Address;
use crate::config::{AddressMap, Protocol, RedisConfig};
use crate::conn::dial::{Dial, FailedAddresses};
use crate::conn::handshake_forms::HandshakeForms;
use crate::conn::login::{CurrentLogin, Login};
use crate::conn::raw_connection::RawConnection;
use crate::conn::tls::Tls;
use crate::conn::tls_probe::speaks_tls;
use crate::credentials::Credentials;
use crate::error::{Error, Kind};
use crate::proto::{Answer, Form, Greeting, Handshake, Limits, Secrets};
use crate::runtime::{Endpoint, Runtime, Transport};
use crate::sync::Snapshot;
use crate::time::{Elapsed, until};
use crate::topology::AddressSource;

/// The limit of a Sentinel's reply: enough for what it reports about some hundred servers.
#[cfg(feature = "sentinel")]
const MAX_SENTINEL_BYTES: usize = 4 << 20;

/// Opens connections of one kind: to the data, or to the Sentinels.
#[derive(Debug)]
pub(crate) struct Connector {
    pub(crate) runtime: Arc<dyn Runtime>,
    /// Who its connections log in as.
    pub(crate) login: Arc<Login>,
    /// The handshake without the credentials.
    handshake: Handshake,
    protocol: Protocol,
    forms: HandshakeForms,
    failed: FailedAddresses,
    /// `None` if connections are not encrypted.
    tls: Option<Arc<Tls>>,
    /// The limits of replies after the handshake.
    limits: Limits,
    dialing: Snapshot<Dialing>,
    /// Connections with an older TLS session than this one are to be replaced.
    required_tls_session: AtomicU64,
}

/// The settings of a connection attempt that may change while the client runs.
#[derive(Debug)]
struct Dialing {
    /// The bound on the whole attempt, from the lookup of the name to the last reply of the handshake.
    timeout: Duration,
    /// Where servers with other announced addresses are reached.
    map: AddressMap,
}

/// Returns the passwords of both kinds of servers: each may also have the other's.
pub(crate) fn secrets_of(config: &RedisConfig) -> Secrets {
    let secrets = Secrets::new([config.password(), config.sentinel_password()].into_iter().flatten());
    secrets.allow_hosts(configured_hosts(config));
    secrets
}

/// Returns the hosts that the configuration names.
pub(crate) fn configured_hosts(config: &RedisConfig) -> Vec<String> {
    let mapped = config.address_map().iter().flat_map(|(announced, reached)| [announced, reached]);
    let mapped = mapped.map(|target| target.parse().unwrap_or_else(|_| Address::tcp(target, 1)));
    let named = config.sentinel_hosts().iter().cloned().chain([config.address()]).chain(mapped);
    let hosts = named.filter_map(|address| match address {
        Address::Tcp { host, .. } => Some(host),
        Address::Unix(_) => None,
    });
    hosts.collect()
}

/// The result of a handshake.
enum HandshakeResult {
    Ready(Greeting),
    /// The server needs another form of handshake, and may have closed the connection after this one.
    OtherForm {
        why: Error,
        closed: bool,
    },
    /// The server closed the connection without a reply.
    Closed(Error),
}

impl Connector {
    /// Creates a connector for masters and replicas.
    pub(crate) fn for_data(
        runtime: Arc<dyn Runtime>,
        config: &RedisConfig,
        login: Arc<Login>,
        tls: Option<Arc<Tls>>,
        secrets: Secrets,
        queries_role: bool,
    ) -> Self {
        let (db, role) = (config.db(), queries_role);
        let client_name = config.client_name().map(str::to_owned);
        let handshake = Handshake { client_name, db, role, secrets, ..Handshake::default() };
        Self::new(runtime, login, handshake, tls, config, config.socket_connect_timeout())
    }

    /// Creates a connector for single commands that need no database. A busy server refuses SELECT.
    pub(crate) fn for_urgent(
        runtime: Arc<dyn Runtime>,
        config: &RedisConfig,
        login: Arc<Login>,
        tls: Option<Arc<Tls>>,
        secrets: Secrets,
    ) -> Self {
        let mut connector = Self::for_data(runtime, config, login, tls, secrets, false);
        connector.handshake.db = 0;
        connector
    }

    /// Creates a connector for Sentinels, which have no databases and their own users.
    #[cfg(feature = "sentinel")]
    pub(crate) fn for_sentinels(
        runtime: Arc<dyn Runtime>,
        config: &RedisConfig,
        login: Arc<Login>,
        tls: Option<Arc<Tls>>,
        secrets: Secrets,
    ) -> Self {
        let client_name = config.client_name().map(str::to_owned);
        let handshake = Handshake { client_name, settings: "sentinel_", secrets, ..Handshake::default() };
        let timeout = config.sentinel_socket_connect_timeout();
        let mut sentinels = Self::new(runtime, login, handshake, tls, config, timeout);
        let max_bytes = &mut sentinels.limits.max_reply_bytes;
        *max_bytes = (*max_bytes).min(MAX_SENTINEL_BYTES);
        sentinels
    }

    fn new(
        runtime: Arc<dyn Runtime>,
        login: Arc<Login>,
        handshake: Handshake,
        tls: Option<Arc<Tls>>,
        config: &RedisConfig,
        timeout: Duration,
    ) -> Self {
        Self {
            runtime,
            login,
            handshake,
            protocol: config.protocol(),
            forms: HandshakeForms::default(),
            failed: FailedAddresses::default(),
            limits: Limits::of(config),
            tls,
            dialing: Snapshot::new(Dialing { timeout, map: config.address_map().clone() }),
            required_tls_session: AtomicU64::new(0),
        }
    }

    /// Looks whether the files of TLS have changed, and requires the current TLS session of all connections from now on.
    pub(crate) async fn require_current_tls(&self) {
        if let Some(tls) = &self.tls {
            tls.look(&*self.runtime, self.dialing.load().timeout).await;
            self.required_tls_session.store(tls.session_id(), Ordering::Release);
        }
    }

    /// Returns true if a connection with this TLS session is to be replaced.
    pub(crate) fn is_outdated(&self, tls_session: u64) -> bool {
        tls_session < self.required_tls_session.load(Ordering::Acquire)
    }

    /// Hides the password from now on wherever a server repeats it.
    pub(crate) fn remember(&self, credentials: &Credentials) {
        self.secrets().add(self.handshake.settings, credentials.password());
    }

    /// Logs in with these credentials from now on.
    pub(crate) fn log_in_as(&self, credentials: Option<Credentials>) {
        credentials.iter().for_each(|credentials| self.remember(credentials));
        self.login.set(credentials);
    }

    /// Sets the bound of connection attempts, and where servers are reached, from now on.
    pub(crate) fn set_dialing(&self, timeout: Duration, map: &AddressMap) {
        self.dialing.store(Dialing { timeout, map: map.clone() });
    }

    /// Connects to `address`. Errors report `address_source` as the origin of the address.
    pub(crate) async fn connect(
        &self,
        address: &Address,
        address_source: &AddressSource,
    ) -> Result<(RawConnection, Greeting), Error> {
        let dialing = self.dialing.load();
        let bound = self.runtime.now() + dialing.timeout;
        let reached = dialing.map.reach(address);
        let failed = match &reached {
            Some(reached) => {
                format!("cannot connect to {reached}, for {address} in the address_map ({address_source})")
            }
            None => format!("cannot connect to {address} ({address_source})"),
        };
        let Ok(login) = until(&*self.runtime, bound, self.login.current()).await else {
            let missing = self.login.missing().unwrap_or_default();
            return Err(Error::new(Kind::Timeout, format!("{failed}: {missing}")));
        };
        let dial = async |login: &CurrentLogin| {
            let server = reached.as_ref().unwrap_or(address);
            let dialed = self.dial(server, login, dialing.timeout, bound).await;
            if dialed.is_ok() {
                self.login.on_accepted(address, login);
            }
            dialed.map_err(|error| error.during(&failed))
        };
        match dial(&login).await {
            Err(error) if error.kind() == Kind::Authentication => {
                match self.login.former(address, login.version) {
                    // The provider may be ahead of this server.
                    Some(former) => dial(&former).await.map_err(|_| error),
                    None => Err(error),
                }
            }
            dialed => dialed,
        }
    }

    async fn dial(
        &self,
        server: &Address,
        login: &CurrentLogin,
        timeout: Duration,
        bound: Instant,
    ) -> Result<(RawConnection, Greeting), Error> {
        let mut dial = Dial::new(&*self.runtime, server, timeout);
        let opened = dial.open(&self.failed, |endpoint, socket| {
            Box::pin(async move {
                let ready = self.make_ready(server, endpoint, socket, login).await;
                // An invalid reply may contain a password too.
                ready.map_err(|error| self.handshake.hide_secrets(error))
            })
        });
        let opened = until(&*self.runtime, bound, opened).await;
        dial.record_failures(&self.failed);
        opened.unwrap_or_else(|Elapsed| {
            let suspects = self.tls.as_deref().filter(|_| dial.has_connected());
            let timeout_hint = suspects.map(Tls::timeout_hint).unwrap_or_default();
            Err(Error::new(Kind::Timeout, format!("{}{timeout_hint}", dial.timeout_cause())))
        })
    }

    /// Makes an open connection ready for use.
    async fn make_ready(
        &self,
        server: &Address,
        endpoint: Endpoint<'_>,
        socket: Box<dyn Transport>,
        login: &CurrentLogin,
    ) -> Result<(RawConnection, Greeting), Error> {
        let (mut raw, mut greeting) = match self.handshake(server, endpoint, socket, login).await {
            Ok(ready) => ready,
            Err(error) => {
                let may_be_tls = matches!(error.kind(), Kind::Lost | Kind::Protocol);
                let probe = may_be_tls && self.tls.is_none() && !self.forms.is_known(server);
                return Err(match probe && speaks_tls(&*self.runtime, endpoint).await {
                    true => self.needs_tls(&error),
                    false => error,
                });
            }
        };
        raw.set_connection_id(greeting.connection_id);
        if self.handshake.role && greeting.role.is_none() {
            greeting.role = raw.role_by_info().await?;
        }
        raw.set_limits(self.limits.clone());
        Ok((raw, greeting))
    }

    /// Runs the handshake in the form that the server is known to accept, then in simpler ones if it refuses that. If
    /// the server closes the connection, the next form runs on a new connection to the same endpoint.
    async fn handshake(
        &self,
        server: &Address,
        endpoint: Endpoint<'_>,
        socket: Box<dyn Transport>,
        login: &CurrentLogin,
    ) -> Result<(RawConnection, Greeting), Error> {
        let handshake = Handshake {
            credentials: login.credentials.clone(),
            origin: Arc::clone(&login.origin),
            ..self.handshake.clone()
        };
        let mut form = self.first_form(server);
        let mut open = Some(self.secure(server, socket).await?);
        let mut first_error = None;
        loop {
            let mut raw = match open.take() {
                Some(raw) => raw,
                None => {
                    let socket = self.runtime.connect(endpoint).await;
                    let socket = socket.map_err(|error| Error::new(Kind::Connect, error.to_string()))?;
                    self.secure(server, socket).await?
                }
            };
            let why = match self.try_form(&handshake, server, form, &mut raw).await {
                Ok(HandshakeResult::Ready(greeting)) => {
                    raw.set_ready(form, login.version);
                    self.forms.learn(server, form, self.runtime.now());
                    return Ok((raw, greeting));
                }
                Ok(HandshakeResult::Closed(why)) => {
                    form = self.forms.on_close(server, form, self.runtime.now());
                    tracing::debug!(%server, %why, ?form, "the server closed the connection; repeating the handshake");
                    first_error.get_or_insert(why);
                    continue;
                }
                Ok(HandshakeResult::OtherForm { why, closed }) => {
                    open = Some(raw).filter(|_| !closed);
                    why
                }
                // If the server closes every connection, the first error is the most informative.
                Err(error) if error.kind() == Kind::Lost => return Err(first_error.unwrap_or(error)),
                Err(error) => return Err(error),
            };
            tracing::debug!(%server, %why, ?form, "repeating the handshake in a simpler form");
            form = form.simpler();
            first_error.get_or_insert(why);
        }
    }

    async fn secure(&self, server: &Address, socket: Box<dyn Transport>) -> Result<RawConnection, Error> {
        match &self.tls {
            Some(tls) => {
                let secured = tls.secure(server, socket, &*self.runtime, self.dialing.load().timeout).await;
                secured.map(|(stream, session)| RawConnection::new(stream).with_tls_session(session))
            }
            None => Ok(RawConnection::new(socket)),
        }
    }

    fn first_form(&self, server: &Address) -> Form {
        match (self.protocol, self.forms.first(server, self.runtime.now())) {
            (Protocol::Resp3, _) => Form::Hello,
            (Protocol::Resp2, Form::Hello) => Form::Resp2,
            (_, known) => known,
        }
    }

    async fn try_form(
        &self,
        handshake: &Handshake,
        server: &Address,
        form: Form,
        raw: &mut RawConnection,
    ) -> Result<HandshakeResult, Error> {
        let mut replies = Vec::new();
        let queried = raw.query_into(&handshake.commands(form), &mut replies).await;
        // A server that rejects the connection sends the reason before it closes.
        match (handshake.read(form, &replies)?, queried) {
            (Answer::Ready(greeting), Ok(())) => Ok(HandshakeResult::Ready(greeting)),
            (Answer::OnlyResp2(why), _) if self.protocol == Protocol::Resp3 => {
                let message = format!("{}; `protocol` = resp3 needs HELLO: set it to auto", why.message());
                Err(Error::new(Kind::Config, message))
            }
            (Answer::OnlyResp2(why), queried) => {
                Ok(HandshakeResult::OtherForm { why, closed: queried.is_err() })
            }
            (Answer::Ready(_), Err(error)) => {
                let may_be_unsupported = match form {
                    Form::Hello => {
                        let new = self.protocol == Protocol::Auto && !self.forms.accepts_hello(server);
                        new && replies.is_empty()
                    }
                    Form::Resp2 => true,
                    Form::Bare => false,
                };
                match may_be_unsupported && error.kind() == Kind::Lost {
                    // Some proxies close the connection after an unknown command.
                    true => Ok(HandshakeResult::Closed(error)),
                    false => Err(error),
                }
            }
        }
    }

    /// Returns the limits of replies on a connection that is ready.
    pub(crate) fn limits(&self) -> Limits {
        self.limits.clone()
    }

    /// Returns the passwords that peers may repeat.
    pub(crate) fn secrets(&self) -> &Secrets {
        self.handshake.secrets()
    }

    /// Returns the text of a server without the passwords that it repeats.
    pub(crate) fn hide(&self, text: String) -> String {
        self.handshake.hide(text)
    }

    /// Returns the error without the passwords that a server repeats in it.
    pub(crate) fn hide_secrets(&self, error: Error) -> Error {
        self.handshake.hide_secrets(error)
    }

    fn needs_tls(&self, error: &Error) -> Error {
        let message = format!(
            "{}; the server speaks TLS on this port: set `{}ssl`, as rediss:// does in a URL",
            error.message(),
            self.handshake.settings
        );
        Error::new(Kind::Config, message)
    }
}

//! Making a connection ready for use: socket, handshake, role.

use std::sync::Arc;
use std::time::Duration;

use crate::address::Address;
use crate::config::{AddressMap, Protocol, RedisConfig};
use crate::conn::dial::{Dial, FailedAddresses};
use crate::conn::handshake_forms::HandshakeForms;
use crate::conn::raw_connection::RawConnection;
use crate::conn::tls::Tls;
use crate::conn::tls_probe::speaks_tls;
use crate::error::{Error, Kind};
use crate::proto::{Answer, Form, Greeting, Handshake, Limits, Secrets};
use crate::runtime::{Endpoint, Runtime, Transport};
use crate::time::until;
use crate::topology::AddressSource;

/// What the replies of a Sentinel may take: what it knows of some hundred servers fits.
#[cfg(feature = "sentinel")]
const MAX_SENTINEL_BYTES: usize = 4 << 20;

/// Opens connections of one kind: to the data, or to the Sentinels.
#[derive(Debug)]
pub(crate) struct Connector {
    pub(crate) runtime: Arc<dyn Runtime>,
    handshake: Handshake,
    protocol: Protocol,
    forms: HandshakeForms,
    failed: FailedAddresses,
    /// Where servers are reached that announce other addresses.
    map: AddressMap,
    /// `None` where connections are plain.
    tls: Option<Tls>,
    /// What replies may take once the handshake is over.
    limits: Limits,
    /// The bound on everything from the look-up of the name to the last word of the handshake.
    timeout: Duration,
}

/// Each server could say the other's password, too, if it has it.
fn secrets_of(config: &RedisConfig) -> Secrets {
    let secrets = Secrets::new([config.password(), config.sentinel_password()].into_iter().flatten());
    let mapped = config.address_map().iter().flat_map(|(announced, reached)| [announced, reached]);
    let mapped = mapped.map(|place| place.parse().unwrap_or_else(|_| Address::tcp(place, 1)));
    let named = config.sentinel_hosts().iter().cloned().chain([config.address()]).chain(mapped);
    secrets.except(named.filter_map(|address| match address {
        Address::Tcp { host, .. } => Some(host),
        Address::Unix(_) => None,
    }))
}

/// What became of a handshake.
enum HandshakeResult {
    Ready(Greeting),
    /// The server says that it wants it in another form, and may have closed the connection for this one.
    Otherwise {
        why: Error,
        closed: bool,
    },
    /// It closed the connection without a word.
    Closed(Error),
}

impl Connector {
    /// For connections to masters and replicas.
    pub(crate) fn for_data(runtime: Arc<dyn Runtime>, config: &RedisConfig, asks_role: bool) -> Self {
        let handshake = Handshake {
            username: config.username().map(str::to_owned),
            password: config.password().map(Into::into),
            client_name: config.client_name().map(str::to_owned),
            db: config.db(),
            role: asks_role,
            settings: "",
            secrets: secrets_of(config),
        };
        let tls = Tls::of_data(config);
        Self::new(runtime, handshake, tls, config, config.socket_connect_timeout())
    }

    /// For connections on which one command is said that needs no database. A server that is busy selects none.
    pub(crate) fn for_urgent(runtime: Arc<dyn Runtime>, config: &RedisConfig) -> Self {
        let mut connector = Self::for_data(runtime, config, false);
        connector.handshake.db = 0;
        connector
    }

    /// For connections to Sentinels, which have no databases and their own users.
    #[cfg(feature = "sentinel")]
    pub(crate) fn for_sentinels(runtime: Arc<dyn Runtime>, config: &RedisConfig) -> Self {
        let handshake = Handshake {
            username: config.sentinel_username().map(str::to_owned),
            password: config.sentinel_password().map(Into::into),
            client_name: config.client_name().map(str::to_owned),
            db: 0,
            role: false,
            settings: "sentinel_",
            secrets: secrets_of(config),
        };
        let tls = Tls::of_sentinels(config);
        let mut sentinels =
            Self::new(runtime, handshake, tls, config, config.sentinel_socket_connect_timeout());
        let most = &mut sentinels.limits.max_reply_bytes;
        *most = (*most).min(MAX_SENTINEL_BYTES);
        sentinels
    }

    fn new(
        runtime: Arc<dyn Runtime>,
        handshake: Handshake,
        tls: Option<Tls>,
        config: &RedisConfig,
        timeout: Duration,
    ) -> Self {
        Self {
            runtime,
            handshake,
            protocol: config.protocol(),
            forms: HandshakeForms::default(),
            failed: FailedAddresses::default(),
            map: config.address_map().clone(),
            limits: Limits::of(config),
            tls,
            timeout,
        }
    }

    /// How its connections are secured, if they are.
    pub(crate) fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// Connects to `address`. `address_source` says in errors where the address comes from.
    pub(crate) async fn connect(
        &self,
        address: &Address,
        address_source: &AddressSource,
    ) -> Result<(RawConnection, Greeting), Error> {
        let bound = self.runtime.now() + self.timeout;
        let reached = self.map.reach(address);
        let failed = match &reached {
            Some(reached) => {
                format!("cannot connect to {reached}, for {address} in the address_map ({address_source})")
            }
            None => format!("cannot connect to {address} ({address_source})"),
        };
        let server = reached.as_ref().unwrap_or(address);
        let mut dial = Dial::new(&*self.runtime, server, self.timeout);
        let opened = dial.open(&self.failed, |endpoint, socket| {
            Box::pin(async move {
                let ready = self.greet(server, endpoint, socket).await;
                // Also what is no answer to the handshake may repeat it.
                ready.map_err(|error| self.handshake.hide_secrets(error))
            })
        });
        let opened = until(&*self.runtime, bound, opened).await;
        dial.remember(&self.failed);
        match opened {
            Ok(Ok(ready)) => Ok(ready),
            Ok(Err(error)) => Err(error.during(failed)),
            Err(_) => {
                let suspects = self.tls.as_ref().filter(|_| dial.has_connected());
                let suspicion = suspects.map(Tls::suspicion).unwrap_or_default();
                let message = format!("{failed}: {}{suspicion}", dial.silence());
                Err(Error::new(Kind::Timeout, message))
            }
        }
    }

    /// Makes a connection ready that has been opened.
    async fn greet(
        &self,
        server: &Address,
        endpoint: Endpoint<'_>,
        socket: Box<dyn Transport>,
    ) -> Result<(RawConnection, Greeting), Error> {
        let (mut raw, mut greeting) = match self.introduce(server, endpoint, socket).await {
            Ok(introduced) => introduced,
            Err(error) => {
                let odd = matches!(error.kind(), Kind::Lost | Kind::Protocol);
                let suspect = odd && self.tls.is_none() && !self.forms.is_known(server);
                return Err(match suspect && speaks_tls(&*self.runtime, endpoint).await {
                    true => self.wants_tls(&error),
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

    /// Says the handshake in the form that the server is known to take, and in simpler ones if it takes none of that;
    /// on other connections to the same endpoint, if it closes them.
    async fn introduce(
        &self,
        server: &Address,
        endpoint: Endpoint<'_>,
        socket: Box<dyn Transport>,
    ) -> Result<(RawConnection, Greeting), Error> {
        let mut form = self.first_form(server);
        let mut open = Some(self.secure(server, socket).await?);
        let mut first = None;
        loop {
            let mut raw = match open.take() {
                Some(raw) => raw,
                None => {
                    let socket = self.runtime.connect(endpoint).await;
                    let socket = socket.map_err(|error| Error::new(Kind::Connect, error.to_string()))?;
                    self.secure(server, socket).await?
                }
            };
            let why = match self.say(server, form, &mut raw).await {
                Ok(HandshakeResult::Ready(greeting)) => {
                    self.forms.learn(server, form, self.runtime.now());
                    return Ok((raw, greeting));
                }
                Ok(HandshakeResult::Closed(why)) => {
                    form = self.forms.on_close(server, form, self.runtime.now());
                    tracing::debug!(%server, %why, ?form, "it closed the connection; the handshake is said again");
                    first.get_or_insert(why);
                    continue;
                }
                Ok(HandshakeResult::Otherwise { why, closed }) => {
                    open = Some(raw).filter(|_| !closed);
                    why
                }
                // Of a server that closes every connection, the first one tells most.
                Err(error) if error.kind() == Kind::Lost => return Err(first.unwrap_or(error)),
                Err(error) => return Err(error),
            };
            tracing::debug!(%server, %why, ?form, "the handshake is said in a simpler form");
            form = form.simpler();
            first.get_or_insert(why);
        }
    }

    async fn secure(&self, server: &Address, socket: Box<dyn Transport>) -> Result<RawConnection, Error> {
        match &self.tls {
            Some(tls) => tls.secure(server, socket).await.map(RawConnection::new),
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

    async fn say(
        &self,
        server: &Address,
        form: Form,
        raw: &mut RawConnection,
    ) -> Result<HandshakeResult, Error> {
        let mut replies = Vec::new();
        let asked = raw.query_into(&self.handshake.commands(form), &mut replies).await;
        // A server that turns clients away says why before it hangs up.
        match (self.handshake.read(form, &replies)?, asked) {
            (Answer::Ready(greeting), Ok(())) => Ok(HandshakeResult::Ready(greeting)),
            (Answer::OnlyResp2(why), _) if self.protocol == Protocol::Resp3 => {
                let message = format!("{}; `protocol` = resp3 needs HELLO: set it to auto", why.message());
                Err(Error::new(Kind::Config, message))
            }
            (Answer::OnlyResp2(why), asked) => Ok(HandshakeResult::Otherwise { why, closed: asked.is_err() }),
            (Answer::Ready(_), Err(error)) => {
                let unknown = match form {
                    Form::Hello => {
                        let new = self.protocol == Protocol::Auto && !self.forms.takes_hello(server);
                        new && replies.is_empty()
                    }
                    Form::Resp2 => true,
                    Form::Bare => false,
                };
                match unknown && error.kind() == Kind::Lost {
                    // There are proxies that close the connection for a command that they do not know.
                    true => Ok(HandshakeResult::Closed(error)),
                    false => Err(error),
                }
            }
        }
    }

    /// What replies may take on a connection that is ready.
    pub(crate) fn limits(&self) -> Limits {
        self.limits.clone()
    }

    /// The passwords that peers may repeat.
    pub(crate) fn secrets(&self) -> &Secrets {
        self.handshake.secrets()
    }

    /// What a server has said on a connection that is ready, without the passwords that it has repeated.
    pub(crate) fn hide(&self, said: String) -> String {
        self.handshake.hide(said)
    }

    /// An error of such a connection, without them.
    pub(crate) fn hide_secrets(&self, error: Error) -> Error {
        self.handshake.hide_secrets(error)
    }

    fn wants_tls(&self, error: &Error) -> Error {
        let message = format!(
            "{}; it speaks TLS on this port: set `{}ssl`, as rediss:// does in a URL",
            error.message(),
            self.handshake.settings
        );
        Error::new(Kind::Config, message)
    }
}

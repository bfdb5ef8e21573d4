//! TLS: its configuration, read once for each client, and the handshake of each connection.
//!
//! rustls does not depend on a runtime, so all of this is in the core. A runtime opens the socket; [`TlsStream`]
//! encrypts what goes through it.

mod explain;
mod file_reader;
mod files;
mod pem_file;
mod stream;

use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

pub(crate) use self::explain::is_permanent;
pub(crate) use self::file_reader::FileReader;
use self::files::Files;
use self::stream::TlsStream;
use crate::address::Address;
use crate::config::{ConfigError, RedisConfig};
use crate::error::{Error, Kind};
use crate::runtime::{Runtime, Transport};
use crate::time::Elapsed;

/// The names of the settings, for errors.
#[derive(Debug, PartialEq, Eq)]
struct Names {
    ssl: &'static str,
    ca_certs: &'static str,
    certfile: &'static str,
    keyfile: &'static str,
    server_name: &'static str,
}

static DATA: Names = Names {
    ssl: "ssl",
    ca_certs: "ssl_ca_certs",
    certfile: "ssl_certfile",
    keyfile: "ssl_keyfile",
    server_name: "ssl_server_name",
};

#[cfg(feature = "sentinel")]
static SENTINELS: Names = Names {
    ssl: "sentinel_ssl",
    ca_certs: "sentinel_ssl_ca_certs",
    certfile: "sentinel_ssl_certfile",
    keyfile: "sentinel_ssl_keyfile",
    server_name: "sentinel_ssl_server_name",
};

/// TLS for one kind of connections: to the data, or to the Sentinels.
pub(crate) struct Tls {
    server_name: Option<String>,
    source: Arc<Source>,
}

/// The configuration that is read from files in another thread.
struct Source {
    names: &'static Names,
    files: Files,
    config: OnceLock<Arc<ClientConfig>>,
}

impl Source {
    fn new(names: &'static Names, files: Files) -> Arc<Self> {
        Arc::new(Self { names, files, config: OnceLock::new() })
    }
}

impl Tls {
    /// Creates the TLS settings for masters and replicas; `None` if their connections are not encrypted.
    pub(crate) fn of_data(config: &RedisConfig) -> Option<Self> {
        config.ssl().then(|| Self {
            server_name: config.ssl_server_name().map(str::to_owned),
            source: Source::new(
                &DATA,
                Files::new(config.ssl_ca_certs(), config.ssl_certfile().zip(config.ssl_keyfile())),
            ),
        })
    }

    /// Creates the TLS settings for Sentinels; `None` if their connections are not encrypted, or if there are none.
    #[cfg(feature = "sentinel")]
    pub(crate) fn of_sentinels(config: &RedisConfig) -> Option<Self> {
        let identity = config.sentinel_ssl_certfile().zip(config.sentinel_ssl_keyfile());
        (config.use_sentinel() && config.sentinel_ssl()).then(|| Self {
            server_name: config.sentinel_ssl_server_name().map(str::to_owned),
            source: Source::new(&SENTINELS, Files::new(config.sentinel_ssl_ca_certs(), identity)),
        })
    }

    /// Runs the TLS handshake on a new connection.
    pub(crate) async fn secure(
        &self,
        address: &Address,
        socket: Box<dyn Transport>,
    ) -> Result<Box<dyn Transport>, Error> {
        let failed = |error: io::Error| {
            let kind = if is_permanent(&error) { Kind::Tls } else { Kind::Connect };
            Error::new(kind, error.to_string())
        };
        let config = self.source.config.get().ok_or_else(|| {
            Error::new(
                Kind::Config,
                format!("{} is on, but its files are not read yet", self.source.names.ssl),
            )
        })?;
        let name = self.name_of(address)?;
        let session = ClientConnection::new(Arc::clone(config), name)
            .map_err(|error| failed(explain::error(&error, self.source.names)))?;
        let stream = TlsStream::open(session, socket, self.source.names).await.map_err(failed)?;
        Ok(Box::new(stream))
    }

    /// Returns a possible cause for a server that does not reply.
    pub(crate) fn timeout_hint(&self) -> String {
        format!("; if the port does not speak TLS, turn `{}` off", self.source.names.ssl)
    }

    /// Returns the name that the server's certificate must have.
    fn name_of(&self, address: &Address) -> Result<ServerName<'static>, Error> {
        let name = match (&self.server_name, address) {
            (Some(name), _) => name.clone(),
            // A certificate does not contain the zone of a link-local address.
            (None, Address::Tcp { host, .. }) => host.split('%').next().unwrap_or(host).to_owned(),
            (None, Address::Unix(path)) => path.display().to_string(),
        };
        ServerName::try_from(name.clone()).map_err(|_| {
            let message = format!(
                "a certificate cannot have the name `{name}`; set `{}` to the name that it has",
                self.source.names.server_name
            );
            Error::new(Kind::Config, message)
        })
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server_name, source } = self;
        f.debug_struct("Tls")
            .field("files", &source.files)
            .field("server_name", server_name)
            .finish_non_exhaustive()
    }
}

/// Reads the files once, before the first connection, until `by` at the latest. Concurrent callers wait for the same
/// attempt.
///
/// # Errors
/// Returns everything that is wrong with any of the files, or that they were not read in time.
pub(crate) async fn prepare(
    all: Vec<&Tls>,
    reader: &FileReader,
    runtime: &dyn Runtime,
    by: Instant,
) -> Result<(), Error> {
    if all.iter().all(|tls| tls.source.config.get().is_some()) {
        return Ok(());
    }
    let sources: Vec<_> = all.into_iter().map(|tls| Arc::clone(&tls.source)).collect();
    let list = sources.iter().map(|source| source.files.list(source.names)).collect::<Vec<_>>().join(", ");
    reader.read(Box::new(move || read(&sources)), runtime, by).await.unwrap_or_else(|Elapsed| {
        let message = format!("cannot read in time: {list}; check that their file system responds");
        Err(Error::new(Kind::Timeout, message))
    })
}

/// Reads the files of all sources. Sources with the same files share one configuration.
fn read(sources: &[Arc<Source>]) -> Result<(), Error> {
    let mut problems = Vec::new();
    let mut read: Vec<(&Files, Option<Arc<ClientConfig>>)> = Vec::new();
    for source in sources {
        let known = read.iter().find(|(files, _)| **files == source.files).map(|(_, config)| config.clone());
        let config = known.unwrap_or_else(|| {
            let config = files::client_config(&source.files, source.names);
            let config = config.map_err(|found| problems.extend(found)).ok().map(Arc::new);
            read.push((&source.files, config.clone()));
            config
        });
        if let Some(config) = config {
            // It fails if an earlier attempt has set it already.
            let _ = source.config.set(config);
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(ConfigError::new(problems).into()) }
}

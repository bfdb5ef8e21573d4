//! TLS: its configuration, which is read from files again when they change, and the handshake of each connection.
//!
//! rustls does not depend on a runtime, so all of this is in the core. A runtime opens the socket; [`TlsStream`]
//! encrypts what goes through it.

mod application;
mod authorities;
mod certificate;
mod client_tls;
mod explain;
mod file_reader;
mod files;
mod identity;
mod key;
mod names;
mod pem_file;
mod provider;
mod session;
mod source;
mod stream;
#[cfg(test)]
mod tests;
mod verifier;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConnection;
use rustls::pki_types::ServerName;

pub(crate) use self::application::ApplicationTls;
pub use self::application::TlsConfig;
pub(crate) use self::client_tls::{ClientTls, StagedTls};
pub(crate) use self::explain::is_permanent;
use self::names::Names;
use self::session::Session;
use self::source::FileSource;
use self::stream::TlsStream;
use crate::address::Address;
use crate::error::{Error, Kind};
use crate::runtime::{Runtime, Transport};
use crate::sync::Snapshot;

/// How long a connection waits at most for a look at the files, if what was read before can be used.
const MAX_WAIT: Duration = Duration::from_millis(250);

/// TLS for one kind of connections: to the data, or to the Sentinels.
pub(crate) struct Tls {
    names: &'static Names,
    /// Replaced as a whole when the client is reconfigured.
    settings: Snapshot<TlsSettings>,
}

struct TlsSettings {
    server_name: Option<String>,
    source: Source,
}

impl TlsSettings {
    /// Returns the files, if the TLS configuration comes from some.
    fn files(&self) -> Option<Arc<FileSource>> {
        match &self.source {
            Source::Files(files) => Some(Arc::clone(files)),
            Source::Application(_) => None,
        }
    }
}

/// Where the TLS configuration comes from.
#[derive(Clone)]
enum Source {
    Files(Arc<FileSource>),
    Application(Session),
}

impl Tls {
    fn new(names: &'static Names, settings: Arc<TlsSettings>) -> Arc<Self> {
        Arc::new(Self { names, settings: Snapshot::of(settings) })
    }

    /// Returns the number of the session that new connections use; larger numbers are later sessions.
    pub(crate) fn session_id(&self) -> u64 {
        match &self.settings.load().source {
            Source::Application(session) => session.id,
            Source::Files(source) => source.session().map_or(0, |session| session.id),
        }
    }

    /// Looks whether files have changed, for at most this time.
    pub(crate) async fn look(&self, runtime: &dyn Runtime, max_wait: Duration) {
        if let Some(source) = self.settings.load().files() {
            source.look(runtime, max_wait).await;
        }
    }

    /// Runs the TLS handshake on a new connection, and returns the number of its session. Files that have changed are read first, for at most a quarter of
    /// the `timeout` of the whole connection attempt.
    pub(crate) async fn secure(
        &self,
        address: &Address,
        socket: Box<dyn Transport>,
        runtime: &dyn Runtime,
        timeout: Duration,
    ) -> Result<(Box<dyn Transport>, u64), Error> {
        let settings = self.settings.load();
        let session = match &settings.source {
            Source::Application(session) => session.clone(),
            Source::Files(source) => {
                source.look(runtime, MAX_WAIT.min(timeout / 4)).await;
                source.session().ok_or_else(|| {
                    let message = format!("{} is on, but its files are not read yet", self.names.ssl);
                    Error::new(Kind::Config, message)
                })?
            }
        };
        let failed = |error: io::Error| {
            let kind = if is_permanent(&error) { Kind::Tls } else { Kind::Connect };
            Error::new(kind, error.to_string())
        };
        let name = self.name_of(address, settings.server_name.as_deref())?;
        let (details, id) = (session.details, session.id);
        let connection = ClientConnection::new(session.rustls, name)
            .map_err(|error| failed(explain::error(&error, &details)))?;
        let stream = TlsStream::open(connection, socket, details).await.map_err(failed)?;
        Ok((Box::new(stream), id))
    }

    /// Returns a possible cause for a server that does not reply.
    pub(crate) fn timeout_hint(&self) -> String {
        match self.settings.load().source {
            Source::Files(_) => format!("; if the port does not speak TLS, turn `{}` off", self.names.ssl),
            Source::Application(_) => "; check that the port speaks TLS".to_owned(),
        }
    }

    /// Returns the name that the server's certificate must have.
    fn name_of(&self, address: &Address, configured: Option<&str>) -> Result<ServerName<'static>, Error> {
        let name = match (configured, address) {
            (Some(name), _) => name.to_owned(),
            // A certificate does not contain the zone of a link-local address.
            (None, Address::Tcp { host, .. }) => host.split('%').next().unwrap_or(host).to_owned(),
            (None, Address::Unix(path)) => path.display().to_string(),
        };
        ServerName::try_from(name.clone()).map_err(|_| {
            let message = format!(
                "a certificate cannot have the name `{name}`; set `{}` to the name that it has",
                self.names.server_name
            );
            Error::new(Kind::Config, message)
        })
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = self.settings.load();
        let source = match &settings.source {
            Source::Files(source) => source.list(),
            Source::Application(_) => "a configuration of the application".to_owned(),
        };
        f.debug_struct("Tls")
            .field("source", &source)
            .field("server_name", &settings.server_name)
            .finish_non_exhaustive()
    }
}

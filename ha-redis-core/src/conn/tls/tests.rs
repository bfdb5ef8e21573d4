//! Which TLS configuration connections use: from files, from changed files, and of the application's own.

use std::fs;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::mpsc;
use std::task::{Context, Poll};
use std::time::Instant;

use async_trait::async_trait;
use futures_lite::future::{block_on, poll_once};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig, ServerConnection};
use tempfile::TempDir;

use super::certificate::CertificateDescription;
use super::provider::provider;
use super::*;
use crate::config::{RedisConfig, RedisConfigBuilder};
use crate::manual_runtime::ManualRuntime;
use crate::runtime::{Endpoint, Task, Timer, alarm};
use crate::sync::{Mutex, lock};

const TIMEOUT: Duration = Duration::from_secs(2);

/// A runtime with timers and nothing else.
#[derive(Debug)]
struct Timers;

#[async_trait]
impl Runtime for Timers {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn timer(&self, at: Instant) -> Box<dyn Timer> {
        alarm(at)
    }

    fn spawn(&self, _: Task) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    async fn resolve(&self, _: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    async fn connect(&self, _: Endpoint<'_>) -> io::Result<Box<dyn Transport>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// The client's end of a connection to a server in the same thread.
struct Loopback(Arc<Mutex<ServerConnection>>);

impl Transport for Loopback {
    fn poll_read(&mut self, _: &mut Context<'_>, mut buf: &mut [u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(lock(&self.0).write_tls(&mut buf))
    }

    fn poll_write(&mut self, _: &mut Context<'_>, mut buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut server = lock(&self.0);
        let taken = server.read_tls(&mut buf)?;
        // The alert of an error is read by the client.
        let _ = server.process_new_packets();
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Returns a certificate and its key, in PEM.
    fn sign(&self, name: &str) -> (String, String) {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        Arc::new(roots)
    }

    /// Returns a server that requires client certificates of `clients`.
    fn server(&self, clients: &Self) -> ServerConnection {
        let (certificate, key) = self.sign("server");
        let provider = Arc::new(provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(clients.roots(), Arc::clone(&provider));
        let config =
            ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_client_cert_verifier(verifier.build().unwrap());
        let (chain, key) = parsed(&certificate, &key);
        ServerConnection::new(Arc::new(config.with_single_cert(chain, key).unwrap())).unwrap()
    }

    /// Returns a configuration of an application, with a client certificate of this name.
    fn client(&self, name: &str) -> TlsConfig {
        let (certificate, key) = self.sign(name);
        let (chain, key) = parsed(&certificate, &key);
        let config = ClientConfig::builder_with_provider(Arc::new(provider()));
        let config = config.with_safe_default_protocol_versions().unwrap();
        let config = config.with_root_certificates(self.roots());
        TlsConfig::from(config.with_client_auth_cert(chain, key).unwrap())
    }
}

fn parsed(certificate: &str, key: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
    (vec![certificate], PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap())
}

/// The files of a client.
struct Folder(TempDir);

impl Folder {
    fn new(authority: &Authority, name: &str) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.write("ca", &authority.0.pem());
        folder.write_pair(&authority.sign(name));
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn write_pair(&self, (certificate, key): &(String, String)) {
        self.write("certificate", certificate);
        self.write("key", key);
    }

    fn settings(&self) -> RedisConfigBuilder {
        let settings = RedisConfig::builder().ssl(true).ssl_ca_certs(self.path("ca"));
        settings.ssl_certfile(self.path("certificate")).ssl_keyfile(self.path("key"))
    }
}

fn of_data(data: TlsConfig) -> ApplicationTls {
    ApplicationTls {
        data: Some(data),
        #[cfg(feature = "sentinel")]
        sentinels: None,
    }
}

fn prepared(config: RedisConfigBuilder, own: ApplicationTls) -> Result<ClientTls, Error> {
    let tls = ClientTls::new(&config.build().unwrap(), own);
    block_on(tls.prepare(&Timers, Timers.now() + TIMEOUT)).map(|()| tls)
}

fn shared(server: ServerConnection) -> Arc<Mutex<ServerConnection>> {
    Arc::new(Mutex::new(server))
}

/// Runs a handshake, and returns the subject of the client's certificate.
fn subject(tls: &Tls, server: ServerConnection) -> Result<String, Error> {
    let server = shared(server);
    let socket = Box::new(Loopback(Arc::clone(&server)));
    block_on(tls.secure(&Address::tcp("localhost", 6379), socket, &Timers, TIMEOUT))?;
    Ok(client_of(&server))
}

/// Returns the subject of the certificate that the client has sent.
fn client_of(server: &Mutex<ServerConnection>) -> String {
    let server = lock(server);
    let certificate =
        server.peer_certificates().and_then(|chain| chain.first()).expect("a client certificate");
    CertificateDescription::read(certificate).expect("a readable certificate").subject
}

#[test]
fn changed_pair_is_used_when_it_fits() {
    let authority = Authority::new("authority");
    let folder = Folder::new(&authority, "first");
    let tls = prepared(folder.settings(), ApplicationTls::default()).unwrap().data().unwrap();
    let subject = || subject(&tls, authority.server(&authority)).unwrap();
    assert_eq!(subject(), "CN=first");
    let second = authority.sign("second");
    folder.write("certificate", &second.0);
    assert_eq!(subject(), "CN=first", "the key is still the first one's");
    folder.write("key", &second.1);
    assert_eq!(subject(), "CN=second");
    fs::remove_file(folder.path("key")).unwrap();
    assert_eq!(subject(), "CN=second", "the last good pair stays in use");
    folder.write_pair(&authority.sign("third"));
    assert_eq!(subject(), "CN=third");
}

#[test]
fn changed_authority_is_used_while_the_pair_is_not_complete() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let folder = Folder::new(&old, "first");
    let tls = prepared(folder.settings(), ApplicationTls::default()).unwrap().data().unwrap();
    folder.write("key", &new.sign("second").1);
    let refused = subject(&tls, new.server(&old)).unwrap_err();
    assert_eq!(
        refused.to_string(),
        format!(
            "TLS: the server's certificate CN=server is from the authority CN=new, which is not in `ssl_ca_certs` {}; \
             give the certificate of that authority with `ssl_ca_certs` (not sent)",
            folder.path("ca").display()
        )
    );
    folder.write("ca", &new.0.pem());
    assert_eq!(subject(&tls, new.server(&old)).unwrap(), "CN=first");
}

#[cfg(unix)]
#[test]
fn replaced_link_is_noticed() {
    let authority = Authority::new("authority");
    let (folder, other) = (Folder::new(&authority, "first"), Folder::new(&authority, "second"));
    // As Kubernetes mounts secrets: the files are links to a folder that is replaced by renaming a link.
    let mount = tempfile::tempdir().unwrap();
    let point = |target: &Folder| {
        std::os::unix::fs::symlink(target.0.path(), mount.path().join("new")).unwrap();
        fs::rename(mount.path().join("new"), mount.path().join("data")).unwrap();
    };
    point(&folder);
    let data = mount.path().join("data");
    let settings = RedisConfig::builder().ssl(true).ssl_ca_certs(data.join("ca"));
    let settings = settings.ssl_certfile(data.join("certificate")).ssl_keyfile(data.join("key"));
    let tls = prepared(settings, ApplicationTls::default()).unwrap().data().unwrap();
    assert_eq!(subject(&tls, authority.server(&authority)).unwrap(), "CN=first");
    point(&other);
    assert_eq!(subject(&tls, authority.server(&authority)).unwrap(), "CN=second");
}

#[test]
fn hung_file_system_delays_one_connection() {
    let authority = Authority::new("authority");
    let folder = Folder::new(&authority, "first");
    let tls = prepared(folder.settings(), ApplicationTls::default()).unwrap().data().unwrap();
    let runtime = ManualRuntime::new();
    let (release, released) = mpsc::channel::<()>();
    tls.settings.load().files().unwrap().hang_until(released, &runtime);
    folder.write_pair(&authority.sign("second"));
    let connect = || {
        let (tls, runtime, server) = (&tls, &runtime, shared(authority.server(&authority)));
        async move {
            let socket = Box::new(Loopback(Arc::clone(&server)));
            tls.secure(&Address::tcp("localhost", 6379), socket, runtime, TIMEOUT).await.map(drop).unwrap();
            client_of(&server)
        }
    };
    let mut first = pin!(connect());
    assert_eq!(block_on(poll_once(&mut first)), None);
    runtime.pass(MAX_WAIT);
    assert_eq!(block_on(first), "CN=first");
    assert_eq!(block_on(poll_once(pin!(connect()))).unwrap(), "CN=first", "nothing is waited for");
    release.send(()).unwrap();
    let start = Instant::now();
    while subject(&tls, authority.server(&authority)).unwrap() != "CN=second" {
        assert!(start.elapsed() < Duration::from_secs(30));
    }
}

/// A connection that a server closes after an alert, which can be read only when the runtime has noticed it.
struct Closing {
    server: Loopback,
    is_closed: bool,
    is_noticed: bool,
}

impl Transport for Closing {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.is_closed && !std::mem::replace(&mut self.is_noticed, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.server.poll_read(cx, buf)
    }

    fn poll_write(&mut self, _: &mut Context<'_>, mut buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let mut server = lock(&self.server.0);
        let taken = server.read_tls(&mut buf)?;
        self.is_closed = server.process_new_packets().is_err();
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[test]
fn last_alert_is_waited_for() {
    let authority = Authority::new("authority");
    let folder = Folder::new(&authority, "first");
    let settings = RedisConfig::builder().ssl(true).ssl_ca_certs(folder.path("ca"));
    let tls = prepared(settings, ApplicationTls::default()).unwrap().data().unwrap();
    let server = Loopback(shared(authority.server(&authority)));
    let socket = Box::new(Closing { server, is_closed: false, is_noticed: false });
    let error = block_on(async {
        let (mut stream, _) =
            tls.secure(&Address::tcp("localhost", 6379), socket, &Timers, TIMEOUT).await.unwrap();
        // The first write may only fill the session.
        poll_fn(|cx| stream.poll_write(cx, b"PING")).await?;
        poll_fn(|cx| stream.poll_flush(cx)).await
    });
    assert_eq!(
        error.unwrap_err().to_string(),
        "TLS: the server asks for a client certificate (alert CertificateRequired); give one with `ssl_certfile` and \
         `ssl_keyfile`"
    );
}

#[test]
fn configuration_of_the_application_replaces_files() {
    let authority = Authority::new("authority");
    let own = of_data(authority.client("application"));
    let tls = prepared(RedisConfig::builder(), own.clone()).unwrap().data().unwrap();
    assert_eq!(subject(&tls, authority.server(&authority)).unwrap(), "CN=application");
    let stranger = Authority::new("stranger");
    assert_eq!(
        subject(&tls, stranger.server(&authority)).unwrap_err().to_string(),
        "TLS: the server's certificate is refused: UnknownIssuer; change the server, or the `TlsConfig` that the \
         application gives to the client (not sent)"
    );
    let contradicting =
        Folder::new(&authority, "file").settings().ssl_min_version(crate::config::TlsVersion::Tls13);
    let refused = prepared(contradicting, own).unwrap_err().to_string();
    let settings = ["ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_min_version"];
    let lines = settings.map(|setting| {
        format!(
            "`{setting}`: found none, expected nothing next to a TlsConfig, which decides on it; leave it out, or give \
             no TlsConfig"
        )
    });
    assert_eq!(refused, format!("invalid configuration: {} (not sent)", lines.join("\n")));
}

#[cfg(feature = "sentinel")]
#[test]
fn sentinels_use_the_application_unless_they_have_settings() {
    let authority = Authority::new("authority");
    let folder = Folder::new(&authority, "file");
    let sentinels =
        || RedisConfig::builder().use_sentinel(true).sentinel_hosts([("localhost", 26379)]).ssl(true);
    let used = |settings: RedisConfigBuilder, own: ApplicationTls| {
        let tls = prepared(settings, own).unwrap();
        [tls.data(), tls.sentinels()].map(|tls| subject(&tls.unwrap(), authority.server(&authority)).unwrap())
    };
    let data = of_data(authority.client("data"));
    assert_eq!(used(sentinels(), data.clone()), ["CN=data", "CN=data"]);
    let with_files = sentinels()
        .sentinel_ssl_ca_certs(folder.path("ca"))
        .sentinel_ssl_certfile(folder.path("certificate"))
        .sentinel_ssl_keyfile(folder.path("key"));
    assert_eq!(used(with_files, data.clone()), ["CN=data", "CN=file"]);
    let both = ApplicationTls { sentinels: Some(authority.client("sentinels")), ..data };
    assert_eq!(used(sentinels(), both), ["CN=data", "CN=sentinels"]);
    let only = ApplicationTls { data: None, sentinels: Some(authority.client("sentinels")) };
    let with_data_files = folder.settings().use_sentinel(true).sentinel_hosts([("localhost", 26379)]);
    assert_eq!(used(with_data_files, only), ["CN=file", "CN=sentinels"]);
}

#[test]
fn settings_are_replaced_as_a_whole_or_not_at_all() {
    let authority = Authority::new("authority");
    let (first, second) = (Folder::new(&authority, "first"), Folder::new(&authority, "second"));
    let client = prepared(first.settings(), ApplicationTls::default()).unwrap();
    let tls = client.data().unwrap();
    let subject = || subject(&tls, authority.server(&authority)).unwrap();
    let stage = |config: RedisConfigBuilder| {
        block_on(client.stage(&config.build().unwrap(), &Timers, Timers.now() + TIMEOUT))
    };
    let staged = stage(second.settings()).unwrap();
    assert_eq!(subject(), "CN=first");
    client.install(staged);
    assert_eq!(subject(), "CN=second");

    first.write("ca", "");
    first.write("key", "");
    let refused = stage(first.settings()).err().unwrap().to_string();
    assert!(refused.contains("`ssl_ca_certs`") && refused.contains("`ssl_keyfile`"), "{refused}");
    assert_eq!(subject(), "CN=second");
    let off = stage(RedisConfig::builder()).err().unwrap().to_string();
    assert_eq!(
        off,
        "invalid configuration: `ssl`: found \"false\", expected true, as when the client was created; create another \
         client (not sent)"
    );
}

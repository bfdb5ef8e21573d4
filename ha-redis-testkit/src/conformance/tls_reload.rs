//! Tests that files of TLS are read again when they change.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ha_redis_core::rustls::pki_types::CertificateDer;
use ha_redis_core::rustls::pki_types::pem::PemObject;
use ha_redis_core::rustls::{self, ClientConfig, RootCertStore};
use ha_redis_core::{Client, ClientOptions, RedisConfig};
use redis::AsyncCommands;
use tempfile::TempDir;

use super::kit::{BOUND, Kit, config};
use super::load::{Load, none_failed};
use super::rest::kill_connections;
use super::watch::{found, watch};
use crate::certificates::{
    AUTHORITY, Authority, CLIENT, CLIENT_KEY, Certificates, LOCAL, Signed, ends_in, expired,
};
use crate::{Server, Topology};

tests![
    new_authority_is_read,
    new_client_certificate_is_read,
    half_replaced_pair_is_reported_once,
    expired_replacement_is_not_used,
    end_of_client_certificate_is_announced,
    rotation_in_a_topology_fails_no_call,
    reconfiguring_replaces_live_connections,
    own_configuration_is_used,
];

fn names() -> Vec<String> {
    LOCAL.map(str::to_owned).to_vec()
}

/// The files of a client.
struct Files(TempDir);

impl Files {
    fn new(authority: &Authority) -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        files.write(AUTHORITY, &authority.pem());
        files.write_pair(&client_of(authority));
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn write_pair(&self, client: &Signed) {
        self.write(CLIENT, &client.certificate);
        self.write(CLIENT_KEY, &client.key);
    }

    /// Adds these files to the settings for a server.
    fn config(&self, url: &str) -> RedisConfig {
        let settings = config(url).to_builder().ssl_ca_certs(self.path(AUTHORITY));
        let settings = settings.ssl_certfile(self.path(CLIENT)).ssl_keyfile(self.path(CLIENT_KEY));
        settings.failover_wait(BOUND).build().unwrap()
    }

    /// Watches the log for warnings about these files.
    fn watch(&self) -> &'static str {
        let folder = self.0.path().display().to_string().leak();
        watch(folder);
        folder
    }
}

fn client_of(authority: &Authority) -> Signed {
    authority.sign("ha-redis test client", &[], |_| ()).unwrap()
}

/// Returns the files of a server that requires certificates of the authority `clients`.
fn server_files(server: &Authority, clients: &Authority) -> Certificates {
    server.certificates(&names()).unwrap().with(AUTHORITY, &clients.pem())
}

/// Ends the client's connections three times, and checks that it makes new ones.
async fn connects_anew(client: &Client, server: &Server) {
    for _ in 0..3 {
        kill_connections([server]);
        client.connection().set::<_, _, ()>("key", 1).await.unwrap();
    }
}

async fn new_authority_is_read(kit: Kit) {
    let (old, new) = (Authority::new().unwrap(), Authority::new().unwrap());
    let files = Files::new(&old);
    let server =
        Server::builder().mutual_tls().tls_with(&old.certificates(&names()).unwrap()).start().unwrap();
    let client = kit.connect(files.config(&server.url())).await.unwrap();
    connects_anew(&client, &server).await;
    files.write(AUTHORITY, &new.pem());
    server_files(&new, &old).write(server.folder()).unwrap();
    server.restart().unwrap();
    connects_anew(&client, &server).await;
    // The reverse: nothing of the previous authority is left.
    server_files(&old, &old).write(server.folder()).unwrap();
    server.restart().unwrap();
    let refused = kit.error_that(&client, |text| text.contains("TLS")).await;
    assert!(
        refused.contains(old.name()) && refused.contains(&files.path(AUTHORITY).display().to_string()),
        "{refused}"
    );
}

async fn new_client_certificate_is_read(kit: Kit) {
    let (servers, old, new) =
        (Authority::new().unwrap(), Authority::new().unwrap(), Authority::new().unwrap());
    let files = Files::new(&servers);
    files.write_pair(&client_of(&old));
    let server = Server::builder().mutual_tls().tls_with(&server_files(&servers, &old)).start().unwrap();
    let client = kit.connect(files.config(&server.url())).await.unwrap();
    connects_anew(&client, &server).await;
    files.write_pair(&client_of(&new));
    server_files(&servers, &new).write(server.folder()).unwrap();
    server.restart().unwrap();
    connects_anew(&client, &server).await;
}

async fn half_replaced_pair_is_reported_once(kit: Kit) {
    let authority = Authority::new().unwrap();
    let files = Files::new(&authority);
    let certificates = authority.certificates(&names()).unwrap();
    let server = Server::builder().mutual_tls().tls_with(&certificates).start().unwrap();
    let client = kit.connect(files.config(&server.url())).await.unwrap();
    let folder = files.watch();
    let next = client_of(&authority);
    files.write(CLIENT_KEY, &next.key);
    connects_anew(&client, &server).await;
    let key = files.path(CLIENT_KEY);
    let certificate = files.path(CLIENT);
    assert_eq!(
        found(folder),
        [format!(
            "why = `ssl_keyfile`: found {key:?}, expected the key of the certificate CN=ha-redis test client in \
             {certificate:?}; correct the path or the file: it is the key of another certificate"
        )]
    );
    files.write(CLIENT, &next.certificate);
    connects_anew(&client, &server).await;
    let taken = format!("files = `ssl_ca_certs` {}", files.path(AUTHORITY).display());
    assert!(found(folder).last().unwrap().replace('"', "").starts_with(&taken), "{:?}", found(folder));
}

async fn expired_replacement_is_not_used(kit: Kit) {
    let authority = Authority::new().unwrap();
    let files = Files::new(&authority);
    let certificates = authority.certificates(&names()).unwrap();
    let server = Server::builder().mutual_tls().tls_with(&certificates).start().unwrap();
    let client = kit.connect(files.config(&server.url())).await.unwrap();
    let folder = files.watch();
    files.write_pair(&authority.sign("ha-redis test client", &[], expired).unwrap());
    connects_anew(&client, &server).await;
    let certificate = files.path(CLIENT);
    assert_eq!(
        found(folder),
        [format!(
            "why = `ssl_certfile`: found {certificate:?}, expected a certificate that is valid now; renew it, or \
             correct the clock of this machine: CN=ha-redis test client expired on 2001-01-01T00:00:00Z"
        )]
    );
}

async fn end_of_client_certificate_is_announced(kit: Kit) {
    let authority = Authority::new().unwrap();
    let files = Files::new(&authority);
    let server =
        Server::builder().mutual_tls().tls_with(&authority.certificates(&names()).unwrap()).start().unwrap();
    let folder = files.watch();
    let day = Duration::from_secs(24 * 60 * 60);
    let ends_in = |days: u32| authority.sign("orders", &[], |params| ends_in(params, days * day)).unwrap();
    files.write_pair(&ends_in(8));
    let client = kit.connect(files.config(&server.url())).await.unwrap();
    connects_anew(&client, &server).await;
    assert_eq!(found(folder), Vec::<String>::new());
    files.write_pair(&ends_in(6));
    connects_anew(&client, &server).await;
    let found = found(folder);
    let [_taken, warning] = &found[..] else { panic!("{found:?}") };
    let certificate = files.path(CLIENT);
    let start = format!(
        "message = `ssl_certfile` {}: the client's certificate CN=orders expires on 2",
        certificate.display()
    );
    assert!(warning.starts_with(&start) && warning.ends_with("Z; renew it"), "{warning}");
}

/// Restarts all processes, one after another.
async fn restart_all(topology: &Topology, load: &Load) {
    for process in topology.sentinels().iter().chain(topology.servers()) {
        process.restart().unwrap();
        topology.wait_until_healthy().unwrap();
        load.progress(64).await;
    }
}

async fn rotation_in_a_topology_fails_no_call(kit: Kit) {
    let (old, new) = (Authority::new().unwrap(), Authority::new().unwrap());
    let both = format!("{}{}", old.pem(), new.pem());
    let certificates = |authority: &Authority, trusted: &str| {
        authority.certificates(&names()).unwrap().with(AUTHORITY, trusted)
    };
    let topology =
        Topology::builder().mutual_tls().tls_with(&certificates(&old, &both)).config("appendonly yes");
    let topology = topology.start().unwrap();
    let files = Files::new(&old);
    files.write(AUTHORITY, &both);
    let client = kit.connect(files.config(&topology.url())).await.unwrap();
    let load = Load::start(&kit, &client);
    load.progress(64).await;
    // First all certificates are replaced, which both authorities' trust allows; then the old authority goes.
    for trusted in [both, new.pem()] {
        for process in topology.servers().iter().chain(topology.sentinels()) {
            certificates(&new, &trusted).write(process.folder()).unwrap();
        }
        files.write(AUTHORITY, &trusted);
        files.write_pair(&client_of(&new));
        restart_all(&topology, &load).await;
    }
    for (caller, seen) in load.finish().await.into_iter().enumerate() {
        assert!(seen.other_errors.is_empty(), "caller {caller}: {:?}", seen.other_errors);
    }
}

async fn reconfiguring_replaces_live_connections(kit: Kit) {
    let authority = Authority::new().unwrap();
    let certificates = server_files(&authority, &authority);
    let server = Server::builder().mutual_tls().tls_with(&certificates).start().unwrap();
    let (old, new) = (Files::new(&authority), Files::new(&authority));
    let settings = old.config(&server.url()).to_builder().shared_connections(2);
    let client = kit.connect(settings.build().unwrap()).await.unwrap();
    let lent = client.dedicated().await.unwrap();
    let load = Load::start(&kit, &client);
    load.progress(100).await;
    let before = ids(&server);
    let wrong = client.config().to_builder().ssl_keyfile("/nowhere/key").build().unwrap();
    let error = client.reconfigure(wrong).await.unwrap_err().to_string();
    assert!(error.contains("`ssl_keyfile`: found \"/nowhere/key\""), "{error}");
    let other = Files::new(&Authority::new().unwrap());
    let wrong = client.config().to_builder().ssl_ca_certs(other.path(AUTHORITY)).build().unwrap();
    let error = client.reconfigure(wrong).await.unwrap_err();
    assert!(error.is_connection() && error.to_string().contains("`ssl_ca_certs`"), "{error}");
    assert!(ids(&server).is_superset(&before), "the former settings are in use");
    let config = new.config(&server.url()).to_builder().shared_connections(2).build().unwrap();
    let changed = client.reconfigure(config).await.unwrap();
    assert_eq!(changed, ["ssl_ca_certs", "ssl_certfile", "ssl_keyfile"]);
    kit.until("all but the connection that is lent are new", || {
        ids(&server).intersection(&before).count() == 1
    })
    .await;
    drop(lent);
    kit.until("all connections are new", || ids(&server).is_disjoint(&before)).await;
    // A connection that is still being made may use the next files already.
    let both_serve = async {
        while client.health_check().await.open_connections < 2 {
            kit.sleep(Duration::from_millis(10)).await;
        }
    };
    kit.within("both shared connections serve callers", both_serve).await;
    // Files that have changed, with the same settings.
    let before = ids(&server);
    new.write_pair(&client_of(&authority));
    assert!(client.reconfigure((*client.config()).clone()).await.unwrap().is_empty());
    kit.until("all connections are new again", || ids(&server).is_disjoint(&before)).await;
    load.progress(100).await;
    none_failed(&load.finish().await);
}

/// Returns the IDs of the client connections of the server, but that of the query.
fn ids(server: &Server) -> BTreeSet<u64> {
    let list = server.query(&["CLIENT", "LIST", "TYPE", "NORMAL"]).unwrap();
    let lines = list.text().unwrap().lines().filter(|line| !line.contains("cmd=client"));
    let id = |line: &str| line.split(' ').next()?.strip_prefix("id=")?.parse().ok();
    lines.filter_map(id).collect()
}

async fn own_configuration_is_used(kit: Kit) {
    let topology = Topology::builder().tls().start().unwrap();
    let url = topology.url().replace("rediss", "redis");
    let plain = url.split('?').next().unwrap();
    let authority = fs::read(topology.servers()[0].ca_file()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&authority).unwrap()).unwrap();
    let rustls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let rustls = rustls.with_safe_default_protocol_versions().unwrap();
    let rustls = rustls.with_root_certificates(roots).with_no_client_auth();
    let options = ClientOptions::new().tls(rustls);
    let settings = config(plain).to_builder().failover_wait(BOUND).build().unwrap();
    let client = Client::with_options(settings, kit.runtime.clone(), options);
    client.initialize().await.unwrap();
    client.connection().set::<_, _, ()>("key", 1).await.unwrap();
    let unknown = Client::new(config(plain), kit.runtime.clone());
    assert!(unknown.initialize().await.is_err());
}

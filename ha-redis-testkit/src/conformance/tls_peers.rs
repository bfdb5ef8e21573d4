//! Tests servers with broken TLS: each is refused at once, with an error that names the fix.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use ha_redis_core::TlsVersion;
use rcgen::{CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose};
use redis::AsyncCommands;

use super::kit::{Kit, config, peak_memory, settings};
use super::rest::kill_connections;
use super::watch::{found, watch};
use crate::Server;
use crate::certificates::{
    AUTHORITY, Authority, Certificates, LOCAL, SERVER, SERVER_KEY, Signed, expired, not_yet_valid,
    self_signed,
};

tests![
    refused_certificates_are_explained,
    refused_authorities_are_explained,
    refused_chains_are_explained,
    refused_client_certificates_are_explained,
    certificate_expiry_checked_on_reconnect,
    long_certificate_chain_accepted,
    endless_certificate_chain_refused,
    certificate_names_escaped_and_truncated,
    old_tls_version_refused,
    current_tls_versions_accepted,
    minimum_version_kept,
    plain_server_is_explained,
    skipped_checks_are_logged,
];

fn names() -> Vec<String> {
    LOCAL.map(str::to_owned).to_vec()
}

/// Returns the error for this server. The call fails at once, although its failover wait is long.
async fn refusal(kit: &Kit, server: &Server) -> String {
    let long_connect = config(&server.url()).to_builder().socket_connect_timeout(Duration::from_secs(20));
    let client = kit.client(long_connect.failover_wait(Duration::from_secs(600)).build().unwrap());
    let start = Instant::now();
    let error = client.connection().get::<_, Option<i64>>("key").await.unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(15), "{error}");
    error.to_string()
}

fn assert_contains(text: &str, expected: &[&str]) {
    expected.iter().for_each(|expected| assert!(text.contains(expected), "{expected} in: {text}"));
}

/// Starts a server with this certificate, whose clients trust `trusted`, and returns what they are told.
async fn explanation(kit: &Kit, server: &Signed, trusted: &str) -> String {
    let certificates = Certificates::of_server(&names()).unwrap().with(AUTHORITY, trusted);
    let certificates = certificates.with(SERVER, &server.certificate).with(SERVER_KEY, &server.key);
    let server = Server::builder().tls_with(&certificates).start().unwrap();
    let ca = server.ca_file().display().to_string();
    said(&refusal(kit, &server).await, &server).replace(&ca, "CA_FILE")
}

/// Returns what an error says about TLS, without the server and the outcome.
fn said(error: &str, server: &Server) -> String {
    let before = format!("cannot connect to {} (the address in the configuration): TLS: ", server.address());
    // TLS 1.3 reports a client certificate only after the handshake.
    let error = error.replacen("the connection was lost: ", "", 1);
    let said = error.strip_prefix(&before).and_then(|said| said.strip_suffix(" (not sent)"));
    said.unwrap_or_else(|| panic!("{error}")).to_owned()
}

async fn refused_certificates_are_explained(kit: Kit) {
    let authority = Authority::named("the authority").unwrap();
    let sign = |change: fn(&mut CertificateParams)| authority.sign("orders", &names(), change).unwrap();
    let nameless = authority.sign("orders", &[], |_| ()).unwrap();
    let internal = ["redis.internal", "10.0.0.1"].map(str::to_owned);
    let internal = authority.sign("orders", &internal, |_| ()).unwrap();
    for (server, expected) in [
        (
            sign(expired),
            "the server's certificate CN=orders expired on 2001-01-01T00:00:00Z; renew it, or correct the clock of \
             this machine",
        ),
        (
            sign(not_yet_valid),
            "the server's certificate CN=orders is not valid before 3000-01-01T00:00:00Z; correct the clock of this \
             machine, or wait",
        ),
        (
            internal,
            "the server's certificate CN=orders is not valid for the name 127.0.0.1, but for redis.internal, \
             10.0.0.1; connect to one of these names, or set `ssl_server_name` to one",
        ),
        (
            nameless,
            "the server's certificate CN=orders is not valid for the name 127.0.0.1: it has no names; create one with \
             the names of the server (subjectAltName); the common name does not count",
        ),
        (
            sign(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]),
            "the server's certificate CN=orders is not for servers; create one with the extended key usage \
             serverAuth, or with none",
        ),
    ] {
        assert_eq!(explanation(&kit, &server, &authority.pem()).await, expected);
    }
}

async fn refused_authorities_are_explained(kit: Kit) {
    let authority = Authority::named("the authority").unwrap();
    let stranger = Authority::named("a stranger").unwrap();
    let namesake = Authority::named("the authority").unwrap();
    let sign = |change: fn(&mut CertificateParams)| authority.sign("orders", &names(), change).unwrap();
    for (server, trusted, expected) in [
        (
            sign(|_| ()),
            &stranger,
            "the server's certificate CN=orders is from the authority CN=the authority, which is not in \
             `ssl_ca_certs` CA_FILE; give the certificate of that authority with `ssl_ca_certs`",
        ),
        (
            sign(|_| ()),
            &namesake,
            "the server's certificate CN=orders is not signed by the authority CN=the authority in `ssl_ca_certs` \
             CA_FILE, but by another of its name; give the certificate of the authority that signed it with \
             `ssl_ca_certs`",
        ),
        (
            self_signed("orders", &names()).unwrap(),
            &authority,
            "the server's certificate CN=orders is self-signed and not in `ssl_ca_certs` CA_FILE; give it with \
             `ssl_ca_certs`",
        ),
        (
            sign(|params| params.distinguished_name = DistinguishedName::new()),
            &stranger,
            "the server's certificate localhost is from the authority CN=the authority, which is not in \
             `ssl_ca_certs` CA_FILE; give the certificate of that authority with `ssl_ca_certs`",
        ),
    ] {
        assert_eq!(explanation(&kit, &server, &trusted.pem()).await, expected);
    }
}

async fn refused_chains_are_explained(kit: Kit) {
    let (root, stranger) = (Authority::named("the root").unwrap(), Authority::named("a stranger").unwrap());
    let intermediate = root.authority("the intermediate", |_| ()).unwrap();
    let ended = root.authority("the intermediate", expired).unwrap();
    let with_chain = |authority: &Authority| {
        let leaf = authority.sign("orders", &names(), |_| ()).unwrap();
        Signed { certificate: format!("{}{}", leaf.certificate, authority.pem()), ..leaf }
    };
    for (server, trusted, expected) in [
        (
            with_chain(&intermediate),
            &stranger,
            "the server's certificate CN=orders is from the authority CN=the root, which is not in `ssl_ca_certs` \
             CA_FILE; give the certificate of that authority with `ssl_ca_certs`",
        ),
        (
            intermediate.sign("orders", &names(), |_| ()).unwrap(),
            &root,
            "the server's certificate CN=orders is from the authority CN=the intermediate, which is not in \
             `ssl_ca_certs` CA_FILE; give the certificate of that authority with `ssl_ca_certs`",
        ),
        (
            with_chain(&ended),
            &root,
            "a certificate authority in the chain of the server's certificate CN=orders has expired; renew it, or \
             correct the clock of this machine",
        ),
    ] {
        assert_eq!(explanation(&kit, &server, &trusted.pem()).await, expected);
    }
}

async fn refused_client_certificates_are_explained(kit: Kit) {
    let (authority, stranger) = (Authority::new().unwrap(), Authority::named("a stranger").unwrap());
    let certificates = authority.certificates(&names()).unwrap();
    let foreign = stranger.sign("orders", &[], |_| ()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (file, key) = (folder.path().join("orders.pem"), folder.path().join("orders.key"));
    std::fs::write(&file, &foreign.certificate).unwrap();
    std::fs::write(&key, &foreign.key).unwrap();
    for (protocol, asked) in [
        (
            "TLSv1.2",
            "the server refuses the connection (alert HandshakeFailure); if the server asks for a client \
            certificate, give one with `ssl_certfile` and `ssl_keyfile`",
        ),
        (
            "TLSv1.3",
            "the server asks for a client certificate (alert CertificateRequired); give one with \
            `ssl_certfile` and `ssl_keyfile`",
        ),
    ] {
        let server = Server::builder().mutual_tls().tls_with(&certificates);
        let server = server.config(format!("tls-protocols {protocol}")).start().unwrap();
        assert_eq!(said(&refusal(&kit, &server).await, &server), asked);
        let own = config(&server.url()).to_builder().ssl_certfile(&file).ssl_keyfile(&key);
        let error = kit.connect(own.build().unwrap()).await.unwrap_err().to_string();
        assert_eq!(
            said(&error, &server),
            format!(
                "the server refuses the client's certificate CN=orders from `ssl_certfile` {} (alert UnknownCA); give \
                 one of an authority that the server trusts with `ssl_certfile` and `ssl_keyfile`, or let the server \
                 trust CN=a stranger",
                file.display()
            )
        );
    }
}

async fn certificate_expiry_checked_on_reconnect(kit: Kit) {
    let valid = Certificates::of_server(&names()).unwrap();
    let server = Server::builder().tls_with(&valid).start().unwrap();
    let settings = config(&server.url()).to_builder().failover_wait(Duration::from_millis(500));
    let client = kit.connect(settings.build().unwrap()).await.unwrap();
    let mut redis = client.connection();
    redis.set::<_, _, ()>("key", 1).await.unwrap();
    Certificates::expired(&names()).unwrap().write(server.folder()).unwrap();
    server.restart().unwrap();
    // The first call may still use the previous connection.
    let refused = kit.error_that(&client, |text| text.contains("TLS")).await;
    assert!(refused.contains("certificate"), "{refused}");
    valid.write(server.folder()).unwrap();
    server.restart().unwrap();
    kit.until_master(&client, &server).await;
    redis.set::<_, _, ()>("key", 2).await.unwrap();
}

async fn long_certificate_chain_accepted(kit: Kit) {
    let long = Certificates::of_server(&names()).unwrap().with_chain(20);
    let server = Server::builder().tls_with(&long).start().unwrap();
    kit.client_of(&server).await.connection().set::<_, _, ()>("key", 1).await.unwrap();
}

async fn endless_certificate_chain_refused(kit: Kit) {
    for length in [300, 3000] {
        let endless = Certificates::of_server(&names()).unwrap().with_chain(length);
        let server = Server::builder().tls_with(&endless).start().unwrap();
        let before = peak_memory();
        assert_contains(&refusal(&kit, &server).await, &[&server.address().to_string(), "TLS", "chain"]);
        assert!(peak_memory().saturating_sub(before) < 16 << 20);
    }
}

async fn certificate_names_escaped_and_truncated(kit: Kit) {
    let many: Vec<_> = (0..500).map(|number| format!("{}.{number}.example", "x".repeat(60))).collect();
    let odd = "a\r\n2026 INFO all is well \u{1b}[2J\u{7}".to_owned();
    for names in [many, vec![odd]] {
        let server = Server::builder().tls_with(&Certificates::of_server(&names).unwrap()).start().unwrap();
        let refused = refusal(&kit, &server).await;
        assert_contains(&refused, &["not valid for the name 127.0.0.1, but for ", "`ssl_server_name`"]);
        assert!(!refused.contains(char::is_control) && refused.len() < 1000, "{} bytes", refused.len());
    }
}

async fn old_tls_version_refused(kit: Kit) {
    for old in ["TLSv1", "TLSv1.1"] {
        // Builds of OpenSSL without these versions fail to start the server, which is correct as well.
        let Ok(server) = Server::builder().tls().config(format!("tls-protocols {old}")).start() else {
            continue;
        };
        assert_eq!(
            said(&refusal(&kit, &server).await, &server),
            "the server supports neither TLS 1.2 nor TLS 1.3; turn one of them on in the server (`tls-protocols` in \
             redis.conf)"
        );
    }
}

async fn current_tls_versions_accepted(kit: Kit) {
    for protocol in ["TLSv1.2", "TLSv1.3"] {
        let server = Server::builder().tls().config(format!("tls-protocols {protocol}")).start().unwrap();
        kit.client_of(&server).await.connection().set::<_, _, ()>("key", 1).await.unwrap();
    }
}

async fn minimum_version_kept(kit: Kit) {
    for (protocol, is_accepted) in [("TLSv1.2", false), ("TLSv1.3", true)] {
        let server = Server::builder().tls().config(format!("tls-protocols {protocol}")).start().unwrap();
        let settings = config(&server.url()).to_builder().ssl_min_version(TlsVersion::Tls13);
        let connected = kit.connect(settings.build().unwrap()).await;
        if is_accepted {
            connected.unwrap().connection().set::<_, _, ()>("key", 1).await.unwrap();
            continue;
        }
        assert_eq!(
            said(&connected.unwrap_err().to_string(), &server),
            "the server does not support TLS 1.3; turn it on in the server (`tls-protocols` in redis.conf), or set \
             `ssl_min_version` to 1.2"
        );
    }
}

async fn plain_server_is_explained(kit: Kit) {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    thread::spawn(move || {
        // Redis ends what it cannot read with an error.
        while let Ok((mut connection, _)) = server.accept() {
            let _ = connection.write_all(b"-ERR Protocol error\r\n");
            let _ = connection.read(&mut [0; 1024]);
        }
    });
    let error = kit.connect(settings(&format!("rediss://{address}")).build().unwrap()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "cannot connect to {address} (the address in the configuration): TLS: the server does not reply in TLS \
             (received corrupt message of type InvalidContentType); if the server does not speak TLS on this port, use \
             another port, or turn `ssl` off (not sent)"
        )
    );
}

async fn skipped_checks_are_logged(kit: Kit) {
    const SETTING: &str = "ssl_danger_accept_invalid_certs";
    let expired = Certificates::expired(&["redis.internal".to_owned()]).unwrap();
    let server = Server::builder().mutual_tls().tls_with(&expired).start().unwrap();
    let folder = server.folder().display().to_string().leak();
    watch(folder);
    watch(SETTING);
    let settings = settings(&format!("rediss://{}", server.address()));
    let settings = settings.ssl_certfile(server.client_certificate()).ssl_keyfile(server.client_key());
    kit.connect(settings.clone().build().unwrap()).await.unwrap_err();
    assert_eq!(found(folder), Vec::<String>::new());
    // The rest of TLS holds, among it the client's certificate.
    let client = kit.connect(settings.ssl_danger_accept_invalid_certs(true).build().unwrap()).await.unwrap();
    for _ in 0..3 {
        kill_connections([&server]);
        client.connection().set::<_, _, ()>("key", 1).await.unwrap();
    }
    assert_eq!(found(folder).len(), 1, "{:?}", found(folder));
    let warnings = found(SETTING);
    assert!(
        warnings.iter().all(|warning| warning
            == "message = ssl_danger_accept_invalid_certs = true: certificates of servers are not verified, so anyone on \
                the network can impersonate them; use it for development only")
            && !warnings.is_empty(),
        "{warnings:?}"
    );
}

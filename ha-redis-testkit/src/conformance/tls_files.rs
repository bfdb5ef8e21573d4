//! Tests what is said about each mistake in the files and passwords of TLS, word for word.

use std::fs;
use std::path::{Path, PathBuf};

use ha_redis_core::{RedisConfig, RedisConfigBuilder};
use redis::AsyncCommands;

use super::kit::{Kit, config};
use crate::certificates::{Authority, encrypted, expired, not_yet_valid};
use crate::{Server, Topology};

tests![
    mistakes_in_files_are_explained,
    sentinel_settings_are_named,
    encrypted_key_is_used,
    password_of_the_data_key_may_be_inherited,
];

const PASSWORD: &str = "hunter2secret";

/// A key as `openssl genrsa -aes128` wrote it before OpenSSL 3.
const LEGACY_KEY: &str = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\
    DEK-Info: AES-128-CBC,0123456789ABCDEF0123456789ABCDEF\n\nc2VjcmV0\n-----END RSA PRIVATE KEY-----\n";

/// A key as `openssl pkcs8 -topk8` wrote it before OpenSSL 1.1, by DES and MD5.
const OLD_ENCRYPTION: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----\n\
    MCcwGwYJKoZIhvcNAQUDMA4ECAECAwQFBgcIAgIIAAQIAQIDBAUGBwg=\n-----END ENCRYPTED PRIVATE KEY-----\n";

/// A key that signs nothing: X25519.
const OTHER_ALGORITHM: &str = "-----BEGIN PRIVATE KEY-----\n\
    MC4CAQAwBQYDK2VuBCIEIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g\n-----END PRIVATE KEY-----\n";

const NO_CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
const NO_KEY: &str = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";

/// The contents of a client's files, and the mistakes in them.
struct Case {
    authorities: String,
    certificate: String,
    key: String,
    password: Option<&'static str>,
    /// Without what begins and ends every error; `{ca}`, `{certificate}` and `{key}` are the files.
    expected: &'static str,
}

/// Returns the files of authorities that are wrong.
fn wrong_authorities(authority: &Authority) -> Vec<Case> {
    let client = authority.sign("orders", &[], |_| ()).unwrap();
    let case = |authorities: &str, expected| Case {
        authorities: authorities.to_owned(),
        certificate: client.certificate.clone(),
        key: client.key.clone(),
        password: None,
        expected,
    };
    vec![
        case(
            "",
            "`ssl_ca_certs`: found {ca}, expected a PEM file with at least one certificate; correct the path or the \
             file: it has no certificate",
        ),
        case(
            &client.key,
            "`ssl_ca_certs`: found {ca}, expected a PEM file with at least one certificate; correct the path or the \
             file: it has a private key and no certificate",
        ),
        case(
            "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n",
            "`ssl_ca_certs`: found {ca}, expected a PEM file with at least one certificate; correct the path or the \
             file: a section is not Base64",
        ),
        case(
            "-----BEGIN CERTIFICATE-----\nAAAA\n",
            "`ssl_ca_certs`: found {ca}, expected a PEM file with at least one certificate; correct the path or the \
             file: a section has no END line",
        ),
        case(
            &format!("{}{NO_CERTIFICATE}", authority.pem()),
            "`ssl_ca_certs`: found {ca}, expected a PEM file with at least one certificate; correct the path or the \
             file: certificate 2 in the file is malformed",
        ),
    ]
}

/// Returns certificates that are wrong, or do not fit their keys.
fn wrong_certificates(authority: &Authority) -> Vec<Case> {
    let sign = |change: fn(&mut rcgen::CertificateParams)| authority.sign("orders", &[], change).unwrap();
    let (good, other, old, new) = (sign(|_| ()), sign(|_| ()), sign(expired), sign(not_yet_valid));
    let case = |certificate: &str, key: &str, expected| Case {
        authorities: authority.pem(),
        certificate: certificate.to_owned(),
        key: key.to_owned(),
        password: None,
        expected,
    };
    vec![
        case(
            NO_CERTIFICATE,
            &good.key,
            "`ssl_certfile`: found {certificate}, expected a PEM file with at least one certificate; correct the path \
             or the file: the first certificate in the file is malformed",
        ),
        case(
            &good.key,
            &good.certificate,
            "`ssl_certfile`: found {certificate}, expected a PEM file with at least one certificate; correct the path \
             or the file: it has a private key and no certificate\n\
             `ssl_keyfile`: found {key}, expected a PEM file with a private key; correct the path or the file: it has \
             a certificate and no private key",
        ),
        case(
            &good.certificate,
            &other.key,
            "`ssl_keyfile`: found {key}, expected the key of the certificate CN=orders in {certificate}; correct the \
             path or the file: it is the key of another certificate",
        ),
        case(
            &old.certificate,
            &old.key,
            "`ssl_certfile`: found {certificate}, expected a certificate that is valid now; renew it, or correct the \
             clock of this machine: CN=orders expired on 2001-01-01T00:00:00Z",
        ),
        case(
            &new.certificate,
            &new.key,
            "`ssl_certfile`: found {certificate}, expected a certificate that is valid now; correct the clock of this \
             machine, or wait: CN=orders is not valid before 3000-01-01T00:00:00Z",
        ),
    ]
}

/// Returns keys that are wrong, without encryption.
fn wrong_keys(authority: &Authority) -> Vec<Case> {
    let client = authority.sign("orders", &[], |_| ()).unwrap();
    let case = |key: &str, expected| Case {
        authorities: authority.pem(),
        certificate: client.certificate.clone(),
        key: key.to_owned(),
        password: None,
        expected,
    };
    vec![
        case(
            "",
            "`ssl_keyfile`: found {key}, expected a PEM file with a private key; correct the path or the file: it has \
             no private key",
        ),
        case(
            &client.key.replace("-----END PRIVATE KEY-----", ""),
            "`ssl_keyfile`: found {key}, expected a PEM file with a private key; correct the path or the file: a \
             section has no END line",
        ),
        case(
            NO_KEY,
            "`ssl_keyfile`: found {key}, expected a PEM file with a private key; correct the path or the file: it is \
             not an RSA, ECDSA or Ed25519 key that TLS can use",
        ),
        case(
            OTHER_ALGORITHM,
            "`ssl_keyfile`: found {key}, expected a PEM file with a private key; correct the path or the file: it is \
             not an RSA, ECDSA or Ed25519 key that TLS can use",
        ),
    ]
}

/// Returns encrypted keys that cannot be read, and passwords that do not fit.
fn wrong_encryption(authority: &Authority) -> Vec<Case> {
    let client = authority.sign("orders", &[], |_| ()).unwrap();
    let locked = encrypted(&client.key, PASSWORD);
    let case = |key: &str, password, expected| Case {
        authorities: authority.pem(),
        certificate: client.certificate.clone(),
        key: key.to_owned(),
        password,
        expected,
    };
    vec![
        case(
            &locked,
            None,
            "`ssl_password`: found none, expected the password of the encrypted key in {key}; set it, or give an \
             unencrypted key with `ssl_keyfile`",
        ),
        case(
            &locked,
            Some("hunter3secret"),
            "`ssl_password`: found <hidden>, expected the password of the encrypted key in {key}; this one does not \
             decrypt it; correct it, or `ssl_keyfile`",
        ),
        case(
            &client.key,
            Some(PASSWORD),
            "`ssl_password`: found <hidden>, expected no password, because the key in {key} is not encrypted; leave it \
             out, or encrypt the key: openssl pkcs8 -topk8 -v2 aes-256-cbc -in {path} -out NEW_FILE",
        ),
        case(
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
            Some(PASSWORD),
            "`ssl_keyfile`: found {key}, expected a PEM file with a private key; correct the path or the file: the \
             encrypted key is malformed",
        ),
        case(
            LEGACY_KEY,
            Some(PASSWORD),
            "`ssl_keyfile`: found {key}, expected a PEM file with a private key; correct the path or the file: it is \
             encrypted in the format from before PKCS#8; convert it: openssl pkcs8 -topk8 -v2 aes-256-cbc -in {path} \
             -out NEW_FILE",
        ),
        case(
            OLD_ENCRYPTION,
            Some(PASSWORD),
            "`ssl_keyfile`: found {key}, expected a PEM file with a private key; correct the path or the file: the \
             method of its encryption is not supported; convert it: openssl pkcs8 -topk8 -v2 aes-256-cbc -in {path} \
             -out NEW_FILE",
        ),
    ]
}

async fn mistakes_in_files_are_explained(kit: Kit) {
    let authority = Authority::named("the authority").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| -> PathBuf {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let cases = [wrong_authorities, wrong_certificates, wrong_keys, wrong_encryption];
    for case in cases.into_iter().flat_map(|cases| cases(&authority)) {
        let (ca, key) = (file("ca.pem", &case.authorities), file("client.key", &case.key));
        let certificate = file("client.pem", &case.certificate);
        let settings = RedisConfig::builder().host("127.0.0.1").port(1).ssl(true);
        let settings = settings.ssl_ca_certs(&ca).ssl_certfile(&certificate).ssl_keyfile(&key);
        let settings = case.password.into_iter().fold(settings, RedisConfigBuilder::ssl_password);
        let error = kit.connect(settings.build().unwrap()).await.unwrap_err();
        let shown = |path: &Path| format!("{path:?}");
        let expected = case.expected.replace("{ca}", &shown(&ca)).replace("{key}", &shown(&key));
        let expected = expected.replace("{certificate}", &shown(&certificate));
        let expected = expected.replace("{path}", &key.display().to_string());
        assert_eq!(error.to_string(), format!("invalid configuration: {expected} (not sent)"));
        assert!(error.is_config() && !format!("{error:?}").contains(PASSWORD), "{error:?}");
    }
}

async fn sentinel_settings_are_named(kit: Kit) {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.pem");
    let settings = RedisConfig::builder().use_sentinel(true).sentinel_hosts([("127.0.0.1", 1)]);
    let settings = settings.sentinel_ssl(true).sentinel_ssl_ca_certs(&missing);
    let error = kit.connect(settings.build().unwrap()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "invalid configuration: `sentinel_ssl_ca_certs`: found {missing:?}, expected a PEM file with at least one \
             certificate, an ordinary file of at most 4 MiB; correct the path or the file: No such file or directory \
             (os error 2) (not sent)"
        )
    );
}

/// Encrypts the key of the server's clients, and returns the file.
fn encrypt_key(server: &Server) -> PathBuf {
    let locked = server.folder().join("encrypted.key");
    let key = fs::read_to_string(server.client_key()).unwrap();
    fs::write(&locked, encrypted(&key, PASSWORD)).unwrap();
    locked
}

async fn encrypted_key_is_used(kit: Kit) {
    let server = Server::builder().mutual_tls().start().unwrap();
    let locked = encrypt_key(&server);
    let settings = config(&server.url()).to_builder().ssl_certfile(server.client_certificate());
    let settings = settings.ssl_keyfile(locked).ssl_password(PASSWORD);
    let client = kit.connect(settings.build().unwrap()).await.unwrap();
    client.connection().set::<_, _, ()>("key", 1).await.unwrap();
}

async fn password_of_the_data_key_may_be_inherited(kit: Kit) {
    let topology = Topology::builder().mutual_tls().start().unwrap();
    let server = &topology.servers()[0];
    let settings = config(&topology.url()).to_builder().ssl_certfile(server.client_certificate());
    let settings = settings.ssl_keyfile(encrypt_key(server)).ssl_password(PASSWORD);
    let plain = settings.clone().sentinel_ssl_certfile(server.client_certificate());
    // The Sentinels' own key is not encrypted: the password is not meant for it.
    for settings in [settings, plain.sentinel_ssl_keyfile(server.client_key())] {
        let client = kit.connect(settings.build().unwrap()).await.unwrap();
        client.connection().set::<_, _, ()>("key", 1).await.unwrap();
    }
}

//! A certificate authority for one test, and the certificates that it has signed.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::OnceLock;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use crate::Error;

pub(crate) const AUTHORITY: &str = "ca.crt";
pub(crate) const SERVER: &str = "server.crt";
pub(crate) const SERVER_KEY: &str = "server.key";
pub(crate) const CLIENT: &str = "client.crt";
pub(crate) const CLIENT_KEY: &str = "client.key";

/// The names of a server on the local machine.
pub(crate) const LOCAL: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// PEM files by name: the certificate of an authority, and one certificate each for the server and its clients.
#[derive(Clone)]
pub(crate) struct Certificates {
    files: Vec<(&'static str, String)>,
}

impl Certificates {
    /// Creates the certificates of a server with these names.
    pub(crate) fn of_server(names: &[String]) -> Result<Self, Error> {
        Self::signed(names, |_| ())
    }

    /// Returns certificates that all servers of this process may share.
    pub(crate) fn of_process() -> Result<Self, Error> {
        static CERTIFICATES: OnceLock<Certificates> = OnceLock::new();
        if let Some(certificates) = CERTIFICATES.get() {
            return Ok(certificates.clone());
        }
        let new = Self::of_server(&LOCAL.map(str::to_owned))?;
        // Another thread may have been first.
        Ok(CERTIFICATES.get_or_init(|| new).clone())
    }

    /// Creates the certificates of a server whose certificate has expired.
    #[cfg(feature = "conformance")]
    pub(crate) fn expired(names: &[String]) -> Result<Self, Error> {
        Self::signed(names, |server| {
            server.not_before = rcgen::date_time_ymd(2000, 1, 1);
            server.not_after = rcgen::date_time_ymd(2001, 1, 1);
        })
    }

    /// Creates the certificates of a server that sends its authority's certificate this many times as well.
    #[cfg(feature = "conformance")]
    pub(crate) fn with_chain(mut self, length: usize) -> Self {
        let find = |name| self.files.iter().position(|(file, _)| *file == name);
        if let (Some(authority), Some(server)) = (find(AUTHORITY), find(SERVER)) {
            let chain = self.files[authority].1.repeat(length);
            self.files[server].1.push_str(&chain);
        }
        self
    }

    fn signed(names: &[String], change: fn(&mut CertificateParams)) -> Result<Self, Error> {
        let files = sign(names, change)
            .map_err(|error| Error::NotReady(format!("cannot make certificates: {error}")))?;
        Ok(Self { files })
    }

    /// Creates a self-signed certificate, as `openssl req -x509` does: the server's certificate is also the
    /// authority.
    pub(crate) fn self_signed(names: &[String]) -> Result<Self, Error> {
        let files = self_sign(names)
            .map_err(|error| Error::NotReady(format!("cannot make a certificate: {error}")))?;
        Ok(Self { files })
    }

    pub(crate) fn write(&self, folder: &Path) -> Result<(), Error> {
        let written = self.files.iter().try_for_each(|(name, pem)| fs::write(folder.join(name), pem));
        written.map_err(Error::io("write the server's certificates"))
    }
}

fn sign(
    names: &[String],
    change: fn(&mut CertificateParams),
) -> Result<Vec<(&'static str, String)>, rcgen::Error> {
    // Each authority needs a name of its own, because authorities are identified by name.
    let number = RandomState::new().hash_one(());
    let mut authority = named(&format!("ha-redis test authority {number:016x}"), &[])?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
    let (server_key, client_key) = (KeyPair::generate()?, KeyPair::generate()?);
    let mut server = named("ha-redis test server", names)?;
    change(&mut server);
    let server = server.signed_by(&server_key, &authority)?;
    let client = named("ha-redis test client", &[])?.signed_by(&client_key, &authority)?;
    Ok(vec![
        (AUTHORITY, authority.pem()),
        (SERVER, server.pem()),
        (SERVER_KEY, server_key.serialize_pem()),
        (CLIENT, client.pem()),
        (CLIENT_KEY, client_key.serialize_pem()),
    ])
}

fn self_sign(names: &[String]) -> Result<Vec<(&'static str, String)>, rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut own = named("ha-redis test server", names)?;
    own.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let own = own.self_signed(&key)?.pem();
    Ok(vec![(AUTHORITY, own.clone()), (SERVER, own), (SERVER_KEY, key.serialize_pem())])
}

fn named(common_name: &str, names: &[String]) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, common_name);
    Ok(params)
}

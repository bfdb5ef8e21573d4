//! Certificate authorities for one test, and the certificates that they have signed.

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

/// A certificate authority with a name of its own.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    #[cfg(feature = "conformance")]
    name: String,
}

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub(crate) struct Signed {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Result<Self, Error> {
        // Each authority needs a name of its own, because authorities are identified by name.
        let number = RandomState::new().hash_one(());
        Self::named(&format!("ha-redis test authority {number:016x}"))
    }

    pub(crate) fn named(name: &str) -> Result<Self, Error> {
        let create = || {
            let mut params = named(name, &[])?;
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            CertifiedIssuer::self_signed(params, KeyPair::generate()?)
        };
        Ok(Self {
            issuer: create().map_err(failed)?,
            #[cfg(feature = "conformance")]
            name: name.to_owned(),
        })
    }

    /// Signs the certificate of another authority.
    #[cfg(feature = "conformance")]
    pub(crate) fn authority(
        &self,
        name: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Result<Self, Error> {
        let create = || {
            let mut params = named(name, &[])?;
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            change(&mut params);
            CertifiedIssuer::signed_by(params, KeyPair::generate()?, &self.issuer)
        };
        Ok(Self { issuer: create().map_err(failed)?, name: name.to_owned() })
    }

    /// Returns the common name.
    #[cfg(feature = "conformance")]
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the certificate, in PEM.
    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Signs a certificate with this common name for these names, changed by `change`.
    pub(crate) fn sign(
        &self,
        common_name: &str,
        names: &[String],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Result<Signed, Error> {
        let sign = || {
            let key = KeyPair::generate()?;
            let mut params = named(common_name, names)?;
            change(&mut params);
            let certificate = params.signed_by(&key, &self.issuer)?.pem();
            Ok(Signed { certificate, key: key.serialize_pem() })
        };
        sign().map_err(failed)
    }

    /// Returns the files of a server with these names and of its clients.
    pub(crate) fn certificates(&self, names: &[String]) -> Result<Certificates, Error> {
        self.certificates_changed(names, |_| ())
    }

    fn certificates_changed(
        &self,
        names: &[String],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Result<Certificates, Error> {
        let server = self.sign("ha-redis test server", names, change)?;
        let client = self.sign("ha-redis test client", &[], |_| ())?;
        Ok(Certificates {
            files: vec![
                (AUTHORITY, self.pem()),
                (SERVER, server.certificate),
                (SERVER_KEY, server.key),
                (CLIENT, client.certificate),
                (CLIENT_KEY, client.key),
            ],
        })
    }
}

/// PEM files by name: the certificate of an authority, and one certificate each for the server and its clients.
#[derive(Clone)]
pub(crate) struct Certificates {
    files: Vec<(&'static str, String)>,
}

impl Certificates {
    /// Creates the certificates of a server with these names.
    pub(crate) fn of_server(names: &[String]) -> Result<Self, Error> {
        Authority::new()?.certificates(names)
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
        Authority::new()?.certificates_changed(names, expired)
    }

    /// Replaces a file.
    #[cfg(feature = "conformance")]
    pub(crate) fn with(mut self, name: &str, pem: &str) -> Self {
        self.files.iter_mut().filter(|(file, _)| *file == name).for_each(|(_, text)| pem.clone_into(text));
        self
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

    /// Creates a self-signed certificate, as `openssl req -x509` does: the server's certificate is also the
    /// authority.
    pub(crate) fn self_signed(names: &[String]) -> Result<Self, Error> {
        let files = self_sign(names).map_err(failed)?;
        Ok(Self { files })
    }

    pub(crate) fn write(&self, folder: &Path) -> Result<(), Error> {
        let written = self.files.iter().try_for_each(|(name, pem)| fs::write(folder.join(name), pem));
        written.map_err(Error::io("write the server's certificates"))
    }
}

/// Creates a certificate that signs itself and is no authority.
#[cfg(feature = "conformance")]
pub(crate) fn self_signed(common_name: &str, names: &[String]) -> Result<Signed, Error> {
    let sign = || {
        let key = KeyPair::generate()?;
        let certificate = named(common_name, names)?.self_signed(&key)?.pem();
        Ok(Signed { certificate, key: key.serialize_pem() })
    };
    sign().map_err(failed)
}

/// Makes a certificate valid in the past only.
#[cfg(feature = "conformance")]
pub(crate) fn expired(certificate: &mut CertificateParams) {
    certificate.not_before = rcgen::date_time_ymd(2000, 1, 1);
    certificate.not_after = rcgen::date_time_ymd(2001, 1, 1);
}

/// Makes a certificate valid in the future only.
#[cfg(feature = "conformance")]
pub(crate) fn not_yet_valid(certificate: &mut CertificateParams) {
    certificate.not_before = rcgen::date_time_ymd(3000, 1, 1);
    certificate.not_after = rcgen::date_time_ymd(3001, 1, 1);
}

/// Makes a certificate end after this time from now.
#[cfg(feature = "conformance")]
pub(crate) fn ends_in(certificate: &mut CertificateParams, time: std::time::Duration) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    certificate.not_after = rcgen::date_time_ymd(1970, 1, 1) + now + time;
}

/// Encrypts a key in PEM with a password.
#[cfg(feature = "conformance")]
pub(crate) fn encrypted(key: &str, password: &str) -> String {
    use pkcs8::pkcs5::pbes2::Parameters;
    use pkcs8::{LineEnding, PrivateKeyInfoRef, SecretDocument};
    let (_, key) = SecretDocument::from_pem(key).expect("a key in PEM");
    let key = PrivateKeyInfoRef::try_from(key.as_bytes()).expect("a key in PKCS#8");
    let parameters = Parameters::generate_pbkdf2_sha256_aes256cbc(2048, b"a salt of a test", [7; 16]);
    let encrypted = key.encrypt_with_params(parameters.expect("valid parameters"), password);
    let pem = encrypted.expect("an encrypted key").to_pem("ENCRYPTED PRIVATE KEY", LineEnding::LF);
    pem.expect("an encrypted key in PEM").to_string()
}

fn failed(error: rcgen::Error) -> Error {
    Error::NotReady(format!("cannot make certificates: {error}"))
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

//! Reads a private key, encrypted or not.

use pkcs8::der::{self, zeroize::Zeroizing};
use pkcs8::pkcs5;
use pkcs8::{EncryptedPrivateKeyInfoRef, PrivateKeyInfoRef, SecretDocument};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::authorities::describe;
use super::files::{Content, IdentityFiles, unreadable, wrong};
use super::names::Names;
use crate::config::{Problem, cut};

pub(super) const KEY: &str = "a PEM file with a private key";

const BEGIN_ENCRYPTED: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----";
const END_ENCRYPTED: &str = "-----END ENCRYPTED PRIVATE KEY-----";
const BEGIN_CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";
/// The header of a key that OpenSSL has encrypted in its format from before PKCS#8.
const LEGACY: &str = "Proc-Type: 4,ENCRYPTED";

/// Reads the key of the client's certificate.
pub(super) fn read(
    files: &IdentityFiles,
    content: &Content,
    names: &Names,
) -> Result<PrivateKeyDer<'static>, Problem> {
    let bytes = content.as_ref().map_err(|error| unreadable(names.keyfile, &files.keyfile, KEY, error))?;
    // PEM is ASCII: whatever else stands there is no part of a key.
    let text = Zeroizing::new(String::from_utf8_lossy(bytes).into_owned());
    if text.contains(LEGACY) {
        return Err(unsupported_encryption(files, names, "it is encrypted in the format from before PKCS#8"));
    }
    match (encrypted_section(&text), &files.password) {
        (Some(section), Some(password)) => decrypt(section, password.expose(), files, names),
        (Some(_), None) => Err(missing_password(files, names)),
        (None, Some(_)) if !files.is_password_inherited => Err(superfluous_password(files, names)),
        (None, _) => PrivateKeyDer::from_pem_slice(bytes).map_err(|error| {
            let why = match error {
                pem::Error::NoItemsFound if text.contains(BEGIN_CERTIFICATE) => {
                    "it has a certificate and no private key"
                }
                error => describe(&error),
            };
            wrong(names.keyfile, &files.keyfile, KEY, why)
        }),
    }
}

/// Returns the encrypted key, or all that follows its BEGIN line if it has no END line.
fn encrypted_section(text: &str) -> Option<&str> {
    let section = &text[text.find(BEGIN_ENCRYPTED)?..];
    let end = section.find(END_ENCRYPTED).map_or(section.len(), |end| end + END_ENCRYPTED.len());
    Some(&section[..end])
}

fn decrypt(
    section: &str,
    password: &str,
    files: &IdentityFiles,
    names: &Names,
) -> Result<PrivateKeyDer<'static>, Problem> {
    let malformed = || wrong(names.keyfile, &files.keyfile, KEY, "the encrypted key is malformed");
    let unsupported =
        || unsupported_encryption(files, names, "the method of its encryption is not supported");
    let (_, encrypted) = SecretDocument::from_pem(section).map_err(|_| malformed())?;
    let encrypted =
        EncryptedPrivateKeyInfoRef::try_from(encrypted.as_bytes()).map_err(|error| match error {
            pkcs8::Error::Asn1(error) if matches!(error.kind(), der::ErrorKind::OidUnknown { .. }) => {
                unsupported()
            }
            _ => malformed(),
        })?;
    let key = encrypted.decrypt(password).map_err(|error| match error {
        pkcs8::Error::EncryptedPrivateKey(
            pkcs5::Error::UnsupportedAlgorithm { .. }
            | pkcs5::Error::NoPbes1CryptSupport
            | pkcs5::Error::AlgorithmParametersInvalid { .. },
        ) => unsupported(),
        _ => wrong_password(files, names),
    })?;
    // A wrong password may give bytes that happen to have the right padding.
    if PrivateKeyInfoRef::try_from(key.as_bytes()).is_err() {
        return Err(wrong_password(files, names));
    }
    Ok(PrivatePkcs8KeyDer::from(key.as_bytes().to_vec()).into())
}

fn unsupported_encryption(files: &IdentityFiles, names: &Names, why: &str) -> Problem {
    let convert = format!("{why}; convert it: {}", convert_command(files));
    wrong(names.keyfile, &files.keyfile, KEY, convert)
}

/// Returns the command that encrypts a key, or encrypts it in another way.
fn convert_command(files: &IdentityFiles) -> String {
    let file = cut(&files.keyfile.display().to_string());
    format!("openssl pkcs8 -topk8 -v2 aes-256-cbc -in {} -out NEW_FILE", file.escape_debug())
}

fn missing_password(files: &IdentityFiles, names: &Names) -> Problem {
    let allowed = format!("the password of the encrypted key in {}", shown(files));
    Problem::new(
        names.password,
        allowed,
        format!("set it, or give an unencrypted key with `{}`", names.keyfile),
    )
}

fn wrong_password(files: &IdentityFiles, names: &Names) -> Problem {
    let allowed = format!("the password of the encrypted key in {}", shown(files));
    let remedy = format!("this one does not decrypt it; correct it, or `{}`", names.keyfile);
    Problem::new(names.password, allowed, remedy).hidden()
}

fn superfluous_password(files: &IdentityFiles, names: &Names) -> Problem {
    let allowed = format!("no password, because the key in {} is not encrypted", shown(files));
    let remedy = format!("leave it out, or encrypt the key: {}", convert_command(files));
    Problem::new(names.password, allowed, remedy).hidden()
}

fn shown(files: &IdentityFiles) -> String {
    format!("{:?}", cut(&files.keyfile.display().to_string()))
}

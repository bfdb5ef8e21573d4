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
use crate::peer_text::escaped;

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
    let file = escaped(&cut(&files.keyfile.display().to_string())).into_owned();
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

#[cfg(test)]
mod tests {
    use super::super::names::DATA;
    use super::*;
    use crate::config::Password;

    /// Written by `openssl pkcs8 -topk8 -v2 aes-256-cbc` of OpenSSL 3, with the password `hunter2secret`.
    const BY_AES: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----\n\
        MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAgeAqoMLqfYugICCAAw\n\
        DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEAroYT8i45ZswE/zjr11tzcEgZB2\n\
        5lyW9rHBNl9thNmvPZnLlnyS6z6nYmk64rSiSLT0GxXxn+3LFtZwEqkPKn4M5pXe\n\
        hA29Y6siHtuDUKXX5wCBPqwNYWYvnydQk5B7eFoN+H8fJDcCpoFEuzFvKDTgPyb/\n\
        O5ikdpk2iwhRc3iOPwoTKIk0AjyRBk8Pw9/OJ84g4sOYpcV6w6B0AL9dkhkOEbI=\n\
        -----END ENCRYPTED PRIVATE KEY-----\n";
    /// Written with `-v2 des3`.
    const BY_DES: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----\n\
        MIHjME4GCSqGSIb3DQEFDTBBMCkGCSqGSIb3DQEFDDAcBAi3UVuuekZNPAICCAAw\n\
        DAYIKoZIhvcNAgkFADAUBggqhkiG9w0DBwQIDELvhD6NwcAEgZCr9FEaOsRwAGd6\n\
        A9OboY6RQ+SIZY6CkSrKSurFumxxwgSuqti0a4Ki519R6pCFRQ2ZotLMuyXrHzcH\n\
        cbdLoek2wuJgX8HJ5lLoOfdM31EVjuR4IHrjz0rHYhhkrwGAePBzddtS/Pyg20G+\n\
        oLzovBmdzNXPi9FaGH0fNOIQT12eWfQfDAidOaHPiXujI4f0cuc=\n\
        -----END ENCRYPTED PRIVATE KEY-----\n";
    /// Written with `-v2prf hmacWithSHA1`, the default before OpenSSL 1.1.
    const BY_SHA1: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----\n\
        MIHeMEkGCSqGSIb3DQEFDTA8MBsGCSqGSIb3DQEFDDAOBAgeSWPBcM5BfAICCAAw\n\
        HQYJYIZIAWUDBAEqBBCf6Ul6s8K29zrGQ485Nx7CBIGQGYN31Kt0o6MZykYlIxy4\n\
        Xt7ZE9tCpi5aRG8EKqQZViuK9WKNPnIJdkmLDocBFRLfpsU9Um2Wnn81gz1FOi7N\n\
        hJ8f/nBHLULGDT2O3yMkn6QEjurxhOslUXqCUXunggbpiDAufX92YYAROt+92dyq\n\
        Qpn6NWO8wUAIh3EzvqXZLGldzpxRelMyFQGiImGY7eRP\n\
        -----END ENCRYPTED PRIVATE KEY-----\n";

    fn read_key(text: &str, password: &str) -> Result<PrivateKeyDer<'static>, String> {
        let files = IdentityFiles {
            certfile: "/certificate".into(),
            keyfile: "/key".into(),
            password: Some(Password::new(password)),
            is_password_inherited: false,
        };
        read(&files, &Ok(text.as_bytes().to_vec()), &DATA).map_err(|problem| problem.to_string())
    }

    #[test]
    fn keys_of_openssl_are_read() {
        assert!(matches!(read_key(BY_AES, "hunter2secret"), Ok(PrivateKeyDer::Pkcs8(_))));
        assert!(read_key(&format!("a comment\n{BY_AES}"), "hunter2secret").is_ok());
        assert!(read_key(&BY_AES.replace('\n', "\r\n"), "hunter2secret").is_ok());
        for key in [BY_DES, BY_SHA1] {
            assert_eq!(
                read_key(key, "hunter2secret").unwrap_err(),
                "`ssl_keyfile`: found \"/key\", expected a PEM file with a private key; correct the path or the file: \
                 the method of its encryption is not supported; convert it: openssl pkcs8 -topk8 -v2 aes-256-cbc -in \
                 /key -out NEW_FILE"
            );
        }
    }

    #[test]
    fn every_wrong_password_is_named() {
        // The last three decrypt to bytes with valid padding, as one wrong password in 256 does.
        for number in [0, 1, 102, 178, 528] {
            let refused = read_key(BY_AES, &format!("wrong {number}")).unwrap_err();
            assert!(refused.starts_with("`ssl_password`: found <hidden>"), "{refused}");
        }
    }
}

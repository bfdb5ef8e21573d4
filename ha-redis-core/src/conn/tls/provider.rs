//! The cryptography of TLS. It is passed to rustls explicitly, so that neither the process's default nor another
//! crate's features matter.

use rustls::crypto::CryptoProvider;
#[cfg(feature = "tls-aws-lc-rs")]
use rustls::crypto::aws_lc_rs as library;
#[cfg(not(feature = "tls-aws-lc-rs"))]
use rustls::crypto::ring as library;

/// Returns aws-lc-rs with the feature `tls-aws-lc-rs`, and ring without.
pub(super) fn provider() -> CryptoProvider {
    library::default_provider()
}

#[cfg(test)]
mod tests {
    use rustls::NamedGroup;

    use super::*;

    #[test]
    fn key_exchange_is_post_quantum_with_aws_lc_rs() {
        let first = provider().kx_groups.first().map(|group| group.name());
        let expected = match cfg!(feature = "tls-aws-lc-rs") {
            true => NamedGroup::X25519MLKEM768,
            false => NamedGroup::X25519,
        };
        assert_eq!(first, Some(expected));
    }
}

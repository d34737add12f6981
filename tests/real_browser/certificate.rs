//! A certificate for the hosts under `test`, made anew by each run.

use std::sync::{Arc, LazyLock};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rcgen::{CertifiedKey, PublicKeyData};
use sha2::{Digest, Sha256};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::{ServerConfig, version};

const HOSTS: [&str; 5] = [
    "shop.test",
    "*.shop.test",
    "other.test",
    "third.test",
    "*.shared.test",
];

pub(crate) struct Certificate {
    /// The SHA-256 of the public key, in base64.
    pub(crate) key_hash: String,
    certified: CertifiedKey<rcgen::KeyPair>,
}

pub(crate) static CERTIFICATE: LazyLock<Certificate> = LazyLock::new(|| {
    let certified = rcgen::generate_simple_self_signed(HOSTS.map(String::from)).unwrap();
    let public_key = certified.signing_key.subject_public_key_info();
    Certificate {
        key_hash: BASE64_STANDARD.encode(Sha256::digest(public_key)),
        certified,
    }
});

impl Certificate {
    /// The certificate and its private key, for other programs.
    pub(crate) fn pem(&self) -> (String, String) {
        let CertifiedKey { cert, signing_key } = &self.certified;
        (cert.pem(), signing_key.serialize_pem())
    }

    /// A server that has it, and speaks these protocols, the best first.
    pub(crate) fn server(&self, protocols: &[&str]) -> Arc<ServerConfig> {
        let key = PrivatePkcs8KeyDer::from(self.certified.signing_key.serialize_der());
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![self.certified.cert.der().clone()],
                PrivateKeyDer::Pkcs8(key),
            )
            .unwrap();
        config.alpn_protocols = protocols
            .iter()
            .map(|protocol| protocol.as_bytes().to_vec())
            .collect();
        Arc::new(config)
    }
}

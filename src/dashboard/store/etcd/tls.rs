use std::path::Path;

use etcd_client::{Certificate, Identity, TlsOptions};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::dashboard::config::{ConfigError, wrong};
use crate::dashboard::coordinator::{CA_KEY, CERT_KEY, EtcdTls, KEY_KEY};

/// Reads the files as they are now.
///
/// # Errors
/// [`ConfigError::Value`], for the first file that can't be read or does not hold what it should.
pub(crate) async fn options(tls: &EtcdTls) -> Result<TlsOptions, ConfigError> {
    let ca = certificates(CA_KEY, &tls.ca).await?;
    let options = TlsOptions::new().ca_certificate(Certificate::from_pem(ca));
    let Some((cert, key)) = &tls.identity else {
        return Ok(options);
    };
    let identity = Identity::from_pem(certificates(CERT_KEY, cert).await?, private_key(key).await?);
    Ok(options.identity(identity))
}

async fn certificates(name: &'static str, path: &Path) -> Result<Vec<u8>, ConfigError> {
    let pem = read(name, path).await?;
    let mut found = CertificateDer::pem_slice_iter(&pem).peekable();
    if found.peek().is_some() && found.all(|certificate| certificate.is_ok()) {
        return Ok(pem);
    }
    let reason = "it holds no certificate; name a PEM file with -----BEGIN CERTIFICATE-----";
    Err(wrong(name, path.display(), reason))
}

async fn private_key(path: &Path) -> Result<Vec<u8>, ConfigError> {
    let pem = read(KEY_KEY, path).await?;
    if PrivateKeyDer::from_pem_slice(&pem).is_ok() {
        return Ok(pem);
    }
    let reason = "it holds no private key; name a PEM file with one that has no passphrase";
    Err(wrong(KEY_KEY, path.display(), reason))
}

async fn read(name: &'static str, path: &Path) -> Result<Vec<u8>, ConfigError> {
    tokio::fs::read(path).await.map_err(|error| {
        let reason = format!("it can't be read: {error}; name a PEM file that this process may read");
        wrong(name, path.display(), reason)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_that_does_not_hold_what_it_should_is_named_with_its_key() {
        let folder = tempfile::TempDir::new().unwrap();
        let made = rcgen::generate_simple_self_signed(["etcd".to_owned()]).unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let (cert, key) = (
            file("cert", &made.cert.pem()),
            file("key", &made.signing_key.serialize_pem()),
        );
        let (garbage, missing) = (file("garbage", "-----BEGIN"), folder.path().join("missing"));
        let right = |ca: &Path, identity| EtcdTls {
            ca: ca.to_owned(),
            identity,
        };
        options(&right(&cert, Some((cert.clone(), key.clone())))).await.unwrap();
        for (tls, name, reason) in [
            (right(&missing, None), CA_KEY, "can't be read"),
            (right(&garbage, None), CA_KEY, "no certificate"),
            (right(&key, None), CA_KEY, "no certificate"),
            (
                right(&cert, Some((missing.clone(), key.clone()))),
                CERT_KEY,
                "can't be read",
            ),
            (right(&cert, Some((cert.clone(), missing))), KEY_KEY, "can't be read"),
            (
                right(&cert, Some((cert.clone(), cert.clone()))),
                KEY_KEY,
                "no private key",
            ),
        ] {
            let error = options(&tls).await.unwrap_err().to_string();
            assert!(error.starts_with(name) && error.contains(reason), "{error}");
        }
    }
}

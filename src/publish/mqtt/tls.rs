//! TLS as `[mqtt.tls]` wants it.

use std::error::Error;
use std::io;
use std::sync::Arc;

use rumqttc::ConnectionError;
use rumqttc::tokio_rustls::rustls;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{CertificateError, ClientConfig, RootCertStore};

use crate::daemon::config::TlsConfig;

/// Puts rustls' configuration together, with TLS 1.2 and 1.3.
///
/// # Errors
/// What is wrong with which key of `[mqtt.tls]`.
pub(super) fn client_config(tls: &TlsConfig) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    if let Some(pem) = &tls.ca {
        let wrong = |error: String| format!("mqtt.tls.ca_file: {error}");
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
            let added = roots.add(certificate);
            added.map_err(|error| wrong(error.to_string()))?;
        }
    } else {
        // Some of the system's may be of a kind that rustls doesn't know; the others do.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(
                "[mqtt.tls]: this system trusts no authority (Debian: apt-get install \
                 ca-certificates); or name one with ca_file"
                    .into(),
            );
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots);
    let Some((chain, key)) = &tls.client else {
        return Ok(Arc::new(builder.with_no_client_auth()));
    };
    let chain = CertificateDer::pem_slice_iter(chain)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| format!("mqtt.tls.client_certificate_file: {error}"))?;
    // The parser's errors say what kind of section is wrong, never what is in it.
    let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes())
        .map_err(|error| format!("mqtt.tls.client_key_file: {error}"))?;
    let config = builder.with_client_auth_cert(chain, key).map_err(|error| {
        format!("mqtt.tls.client_certificate_file and client_key_file don't go together: {error}")
    })?;
    Ok(Arc::new(config))
}

/// What rustls says, if it's behind the error.
fn rustls_error(error: &ConnectionError) -> Option<&rustls::Error> {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // An I/O error's `source` is that of the error in it, which would pass it over.
        next = match error.downcast_ref::<io::Error>() {
            Some(io) => io.get_ref().map(|inner| inner as &(dyn Error + 'static)),
            None => error.source(),
        };
    }
    None
}

/// What to do about an error of TLS; `None` if it's none.
pub(super) fn explain(error: &ConnectionError, host: &str) -> Option<String> {
    let Some(error) = rustls_error(error) else {
        // A broker that was spoken TLS to on its plain port just hangs up.
        return matches!(error, ConnectionError::Tls(_)).then(|| {
            format!("is mqtt.port the port for TLS (8883), and is a broker there? ({error})")
        });
    };
    let hint = match error {
        rustls::Error::InvalidCertificate(problem) => match problem {
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => {
                "the broker's certificate has expired or isn't valid yet, or this device's clock is \
                 wrong"
                    .to_owned()
            }
            // A bad signature: an authority of the same name, but with another key.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "the broker's certificate comes from an authority that isn't in mqtt.tls.ca_file"
                    .to_owned()
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                format!("the broker's certificate isn't for {host:?}, which is mqtt.host")
            }
            _ => "the broker's certificate is refused".to_owned(),
        },
        rustls::Error::AlertReceived(_) => {
            "the broker refuses our certificate, or the lack of one; see \
             mqtt.tls.client_certificate_file"
                .to_owned()
        }
        rustls::Error::InvalidMessage(_) => {
            "it doesn't speak TLS; is mqtt.port the port for TLS (8883)?".to_owned()
        }
        _ => "TLS failed".to_owned(),
    };
    Some(format!("{hint} ({error})"))
}

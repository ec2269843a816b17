//! One connection to one chosen address: frames, versions, TLS. Bounded in size, and each step in time.

use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use jiff::Timestamp;
use kafka_protocol::{
    messages::{ApiVersionsRequest, RequestHeader, ResponseHeader},
    protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes, VersionRange},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{self, CertificateError, ClientConfig, RootCertStore},
};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{KafkaError, KafkaFault, Step, Target, Tls, counted::Counted};

const LARGEST_FRAME: usize = 16 * 1024 * 1024;
const CLIENT_ID: &str = "kafka-external-access";

pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A connection on which ApiVersions was answered.
pub struct Connection {
    stream: Box<dyn Stream>,
    limit: Duration,
    next_correlation: i32,
    offered: BTreeMap<i16, VersionRange>,
    certificate_ends: Option<Timestamp>,
}

/// How long each step took.
pub type Times = Vec<(Step, Duration)>;

impl Connection {
    /// Connects, does the TLS handshake where wanted, and asks for the broker's versions (ApiVersions v0, which every
    /// broker answers, before authentication too). SASL is the caller's next step.
    pub async fn open(target: &Target, times: &mut Times) -> Result<Self, KafkaError> {
        let limit = target.step_timeout;
        let tcp = connect(target, times).await?;
        // A failure only costs latency.
        let _ = tcp.set_nodelay(true);
        let mut certificate_ends = None;
        let stream: Box<dyn Stream> = match &target.security.tls {
            None => Box::new(tcp),
            Some(tls) => {
                let stream = step(Step::Tls, limit, times, handshake(tls, tcp)).await?;
                certificate_ends = first_end(stream.get_ref().1.peer_certificates().unwrap_or_default());
                Box::new(stream)
            }
        };
        let mut connection = Self::over(stream, limit, times).await?;
        connection.certificate_ends = certificate_ends;
        Ok(connection)
    }

    /// The same on a stream that is there already.
    pub(super) async fn over(
        stream: Box<dyn Stream>,
        limit: Duration,
        times: &mut Times,
    ) -> Result<Self, KafkaError> {
        let offered = BTreeMap::new();
        let mut connection = Self { stream, limit, next_correlation: 0, offered, certificate_ends: None };
        let request = ApiVersionsRequest::default();
        let versions = step(Step::ApiVersions, limit, times, connection.exchange(&request, 0)).await?;
        if versions.error_code != 0 {
            let fault = KafkaFault::Code { code: versions.error_code, message: String::new() };
            return Err(KafkaError { step: Step::ApiVersions, fault });
        }
        let ranges = versions
            .api_keys
            .iter()
            .map(|api| (api.api_key, VersionRange { min: api.min_version, max: api.max_version }));
        connection.offered = ranges.collect();
        Ok(connection)
    }

    /// The first end of a certificate in the chain that the broker showed; `None`: no TLS.
    pub fn certificate_ends(&self) -> Option<Timestamp> {
        self.certificate_ends
    }

    /// True when the broker answers requests of this kind on this listener.
    pub fn offers(&self, api_key: i16) -> bool {
        self.offered.contains_key(&api_key)
    }

    /// Sends a request in the newest version that both sides know, and waits for its answer.
    pub async fn ask<R: Request>(
        &mut self,
        at: Step,
        name: &'static str,
        request: &R,
        times: &mut Times,
    ) -> Result<R::Response, KafkaError> {
        let unsupported = KafkaError { step: at, fault: KafkaFault::Unsupported(name) };
        let offered = self.offered.get(&R::KEY).ok_or_else(|| unsupported.clone())?;
        let common = offered.intersect(&R::VERSIONS);
        if common.is_empty() {
            return Err(unsupported);
        }
        let limit = self.limit;
        step(at, limit, times, self.exchange(request, common.max)).await
    }

    async fn exchange<R: Request>(&mut self, request: &R, version: i16) -> Result<R::Response, KafkaFault> {
        let correlation = self.next_correlation;
        self.next_correlation = correlation.wrapping_add(1);
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(correlation)
            .with_client_id(Some(StrBytes::from_static_str(CLIENT_ID)));
        let mut frame = BytesMut::new();
        frame.put_i32(0);
        let encoding = |error| KafkaFault::Malformed(format!("{error:.200}"));
        header.encode(&mut frame, R::header_version(version)).map_err(encoding)?;
        request.encode(&mut frame, version).map_err(encoding)?;
        let length =
            i32::try_from(frame.len() - 4).map_err(|_| KafkaFault::Malformed("request too large".into()))?;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        self.stream.write_all(&frame).await.map_err(closed)?;
        self.stream.flush().await.map_err(closed)?;
        // Header version 1 goes with flexible versions (KIP-482).
        let header_version = R::Response::header_version(version);
        let mut reply = Counted::new(self.frame().await?, header_version > 0);
        let header = ResponseHeader::decode(&mut reply, header_version).map_err(encoding)?;
        if header.correlation_id != correlation {
            return Err(KafkaFault::Malformed("an answer to another request".into()));
        }
        R::Response::decode(&mut reply, version).map_err(encoding)
    }

    async fn frame(&mut self) -> Result<Bytes, KafkaFault> {
        let mut head = [0; 4];
        self.stream.read_exact(&mut head).await.map_err(closed)?;
        // RFC 8446 section 5.1: an alert record of TLS begins with 21, 3.
        if head[..2] == [21, 3] {
            return Err(KafkaFault::Protocol("it wants TLS, and was spoken to in plain text".into()));
        }
        let length = (&head[..]).get_i32();
        let length = usize::try_from(length).ok().filter(|length| *length <= LARGEST_FRAME);
        let length = length.ok_or_else(|| KafkaFault::Malformed("this does not look like Kafka".into()))?;
        let mut frame = BytesMut::with_capacity(length.min(64 * 1024));
        while frame.len() < length {
            let missing = length - frame.len();
            let mut part = (&mut self.stream).take(u64::try_from(missing).unwrap_or(u64::MAX));
            if part.read_buf(&mut frame).await.map_err(closed)? == 0 {
                return Err(KafkaFault::Network("the connection ended in the middle of an answer".into()));
            }
        }
        Ok(frame.freeze())
    }
}

/// The TCP connection alone.
pub async fn connect(target: &Target, times: &mut Times) -> Result<TcpStream, KafkaError> {
    let connecting = async { TcpStream::connect(target.at).await.map_err(io_fault) };
    step(Step::Tcp, target.step_timeout, times, connecting).await
}

/// Runs one step under its own deadline and records its time.
pub async fn step<T>(
    at: Step,
    limit: Duration,
    times: &mut Times,
    work: impl Future<Output = Result<T, KafkaFault>>,
) -> Result<T, KafkaError> {
    let start = tokio::time::Instant::now();
    let result = tokio::time::timeout(limit, work).await.unwrap_or(Err(KafkaFault::TimedOut(limit)));
    match result {
        Ok(done) => {
            times.push((at, start.elapsed()));
            Ok(done)
        }
        Err(fault) => Err(KafkaError { step: at, fault }),
    }
}

fn io_fault(error: std::io::Error) -> KafkaFault {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => KafkaFault::Refused,
        _ => KafkaFault::Network(error.to_string()),
    }
}

fn closed(error: std::io::Error) -> KafkaFault {
    if let Some(error) = of_tls(&error) {
        return tls_fault(error);
    }
    if ended(&error) {
        let text =
            "the broker closed the connection (does the listener want SASL, TLS or a client certificate?)";
        return KafkaFault::Network(text.into());
    }
    io_fault(error)
}

fn ended(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | ConnectionReset | BrokenPipe)
}

fn of_tls(error: &std::io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// `notAfter` (RFC 5280 section 4.1.2.5) of the certificate that ends first.
pub(super) fn first_end(chain: &[CertificateDer<'_>]) -> Option<Timestamp> {
    let end = |der: &CertificateDer<'_>| {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()
    };
    chain.iter().filter_map(end).min()
}

/// A refused client certificate arrives as an alert with the first answer (RFC 8446 section 4.4.2.4), not in the
/// handshake.
fn tls_fault(error: &rustls::Error) -> KafkaFault {
    match error {
        rustls::Error::InvalidMessage(_) => {
            KafkaFault::Protocol("it speaks plain text, and was spoken to in TLS".into())
        }
        rustls::Error::PeerIncompatible(_) => KafkaFault::Protocol(error.to_string()),
        rustls::Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. }) => {
            let seconds = i64::try_from(not_after.as_secs()).unwrap_or(i64::MAX);
            KafkaFault::CertificateExpired(Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX))
        }
        rustls::Error::InvalidCertificate(_) | rustls::Error::AlertReceived(_) => {
            KafkaFault::Certificate(error.to_string())
        }
        // How the refusal of a missing or unknown client certificate arrives from a broker on Java 17.
        rustls::Error::DecryptError => {
            let text = "the broker ended the conversation after the handshake; \
                        it probably wants another client certificate";
            KafkaFault::Certificate(text.into())
        }
        _ => KafkaFault::Network(error.to_string()),
    }
}

async fn handshake(
    tls: &Tls,
    tcp: TcpStream,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, KafkaFault> {
    let config = client_config(tls)?;
    let name = ServerName::try_from(tls.server_name.clone())
        .map_err(|_| KafkaFault::Certificate(format!("\"{}\" is not a name", tls.server_name)))?;
    let connected = TlsConnector::from(Arc::new(config)).connect(name, tcp).await;
    connected.map_err(|error| match of_tls(&error) {
        Some(error) => tls_fault(error),
        // A plain listener takes the greeting of TLS for a frame of 369 MB and hangs up without a word.
        None if ended(&error) => {
            let text = "it closed the connection when it was spoken to in TLS; it probably speaks plain text";
            KafkaFault::Protocol(text.into())
        }
        None => io_fault(error),
    })
}

pub(super) fn client_config(tls: &Tls) -> Result<ClientConfig, KafkaFault> {
    let wrong = |what: &str| KafkaFault::Certificate(format!("the Secret's {what} cannot be used"));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(tls.ca_pem.as_bytes()) {
        roots.add(certificate.map_err(|_| wrong("ca.crt"))?).map_err(|_| wrong("ca.crt"))?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| KafkaFault::Certificate(error.to_string()))?
        .with_root_certificates(roots);
    let Some((chain, key)) = &tls.identity_pem else { return Ok(builder.with_no_client_auth()) };
    let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<Vec<_>, _>>();
    let key = PrivateKeyDer::from_pem_slice(key.reveal().as_bytes()).map_err(|_| wrong("tls.key"))?;
    builder
        .with_client_auth_cert(chain.map_err(|_| wrong("tls.crt"))?, key)
        .map_err(|_| wrong("tls.crt and tls.key"))
}

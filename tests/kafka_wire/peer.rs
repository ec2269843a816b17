//! A peer that answers like broker 7 of a cluster of 3 and 7, but for one quirk.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::{
    messages::{
        ApiKey, ApiVersionsResponse, BrokerId, DescribeClusterResponse, DescribeConfigsRequest,
        DescribeConfigsResponse, IncrementalAlterConfigsResponse, MetadataResponse, RequestHeader,
        ResponseHeader, SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeResponse,
        api_versions_response::ApiVersion,
        describe_cluster_response::DescribeClusterBroker,
        describe_configs_response::{
            DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
        },
        incremental_alter_configs_response::AlterConfigsResourceResponse,
        metadata_response::MetadataResponseBroker,
    },
    protocol::{Decodable, Encodable, StrBytes},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// What is wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Quirk {
    #[default]
    None,
    OtherCorrelation,
    GiantFrame,
    NegativeFrame,
    LargestFrameThenSilence,
    Garbage,
    HalfFrame,
    Closes,
    TlsAlert,
    EachAnswerAfter(Duration),
    NeverThatId,
    Unauthorized,
    NoResult,
    Refuses,
    NoAlter,
    FalseSignature,
    OnlyGssapi,
    NoSasl,
}

/// What arrived.
#[derive(Debug, Default)]
pub struct Seen {
    pub connections: usize,
    pub clients: Vec<String>,
    pub correlations: Vec<i32>,
}

#[derive(Clone, Default)]
pub struct Peer {
    pub quirk: Quirk,
    /// Without DescribeCluster, as before 2.8.
    pub old: bool,
    pub seen: Arc<Mutex<Seen>>,
}

/// Serves on a port of loopback until the test's runtime ends.
pub async fn serve(peer: Peer) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            peer.seen.lock().expect("seen").connections += 1;
            tokio::spawn(peer.clone().talk(stream));
        }
    });
    at
}

impl Peer {
    /// Ends with the connection, whichever side ends it.
    async fn talk(self, mut stream: TcpStream) {
        let mut logins = 0;
        while let Ok(length) = stream.read_u32().await {
            let mut frame = vec![0; usize::try_from(length).expect("a length")];
            if stream.read_exact(&mut frame).await.is_err() {
                return;
            }
            let reply = self.answer(Bytes::from(frame), &mut logins);
            let sent = match self.quirk {
                Quirk::Closes => return,
                Quirk::GiantFrame => stream.write_all(&(16 * 1024 * 1024 + 1_i32).to_be_bytes()).await,
                Quirk::NegativeFrame => stream.write_all(&(-1_i32).to_be_bytes()).await,
                Quirk::LargestFrameThenSilence => {
                    stream.write_all(&(16 * 1024 * 1024_i32).to_be_bytes()).await
                }
                Quirk::Garbage => stream.write_all(b"\0\0\0\x09\0\0\0\0garba").await,
                Quirk::HalfFrame => {
                    let half = &reply[..reply.len() / 2];
                    let _ = stream.write_all(half).await;
                    return;
                }
                Quirk::TlsAlert => stream.write_all(&[21, 3, 3, 0, 2, 2, 80]).await,
                Quirk::EachAnswerAfter(time) => {
                    tokio::time::sleep(time).await;
                    stream.write_all(&reply).await
                }
                _ => stream.write_all(&reply).await,
            };
            if sent.is_err() {
                return;
            }
        }
    }

    /// The whole frame of an answer.
    fn answer(&self, mut frame: Bytes, logins: &mut usize) -> Bytes {
        let key = ApiKey::try_from(i16::from_be_bytes([frame[0], frame[1]])).expect("a known request");
        let version = i16::from_be_bytes([frame[2], frame[3]]);
        let header =
            RequestHeader::decode(&mut frame, key.request_header_version(version)).expect("a header");
        {
            let mut seen = self.seen.lock().expect("seen");
            seen.clients.extend(header.client_id.iter().map(ToString::to_string));
            seen.correlations.push(header.correlation_id);
        }
        let other = i32::from(self.quirk == Quirk::OtherCorrelation);
        let mut out = BytesMut::new();
        out.put_u32(0);
        let head = ResponseHeader::default().with_correlation_id(header.correlation_id + other);
        head.encode(&mut out, key.response_header_version(version)).expect("a header");
        self.body(key, version, frame, logins, &mut out);
        let length = u32::try_from(out.len() - 4).expect("a length");
        out[..4].copy_from_slice(&length.to_be_bytes());
        out.freeze()
    }

    fn body(&self, key: ApiKey, version: i16, mut frame: Bytes, logins: &mut usize, out: &mut BytesMut) {
        let done = match key {
            ApiKey::ApiVersions => self.versions().encode(out, version),
            ApiKey::DescribeCluster => cluster().encode(out, version),
            ApiKey::Metadata => metadata().encode(out, version),
            ApiKey::DescribeConfigs => {
                let request = DescribeConfigsRequest::decode(&mut frame, version).expect("a request");
                self.configs(request.resources[0].resource_name.as_str()).encode(out, version)
            }
            ApiKey::IncrementalAlterConfigs => self.altered().encode(out, version),
            ApiKey::SaslHandshake => self.mechanisms().encode(out, version),
            ApiKey::SaslAuthenticate => {
                let request = SaslAuthenticateRequest::decode(&mut frame, version).expect("a request");
                *logins += 1;
                challenge(&request.auth_bytes, *logins).encode(out, version)
            }
            other => panic!("nobody should ask {other:?}"),
        };
        done.expect("an answer");
    }

    fn versions(&self) -> ApiVersionsResponse {
        let keys = [
            (ApiKey::Metadata, 9),
            (ApiKey::DescribeCluster, 0),
            (ApiKey::DescribeConfigs, 4),
            (ApiKey::IncrementalAlterConfigs, 1),
            (ApiKey::SaslHandshake, 1),
            (ApiKey::SaslAuthenticate, 2),
        ];
        let offered = keys.into_iter().filter(|(key, _)| match key {
            ApiKey::DescribeCluster => !self.old,
            ApiKey::IncrementalAlterConfigs => self.quirk != Quirk::NoAlter,
            _ => true,
        });
        let ranges = offered.map(|(key, max)| {
            ApiVersion::default().with_api_key(key as i16).with_min_version(0).with_max_version(max)
        });
        ApiVersionsResponse::default().with_api_keys(ranges.collect())
    }

    fn configs(&self, asked: &str) -> DescribeConfigsResponse {
        let result = DescribeConfigsResult::default()
            .with_resource_type(4)
            .with_resource_name(StrBytes::from_string(asked.to_owned()));
        let wrong = |code, words: &str| {
            result
                .clone()
                .with_error_code(code)
                .with_error_message(Some(StrBytes::from_string(words.to_owned())))
        };
        let result = match self.quirk {
            Quirk::Unauthorized => wrong(31, "Cluster authorization failed."),
            _ if asked != "7" || self.quirk == Quirk::NeverThatId => {
                wrong(42, &format!("Unexpected broker id, expected 7 or empty string, but received {asked}"))
            }
            _ => result.with_configs(vec![setting()]),
        };
        DescribeConfigsResponse::default().with_results(vec![result])
    }

    fn altered(&self) -> IncrementalAlterConfigsResponse {
        let answer = AlterConfigsResourceResponse::default().with_resource_type(4);
        let answers = match self.quirk {
            Quirk::NoResult => Vec::new(),
            Quirk::Refuses => {
                let words = StrBytes::from_string("ä".repeat(1000));
                vec![answer.with_error_code(42).with_error_message(Some(words))]
            }
            _ => vec![answer],
        };
        IncrementalAlterConfigsResponse::default().with_responses(answers)
    }

    fn mechanisms(&self) -> SaslHandshakeResponse {
        let names =
            |names: &[&'static str]| names.iter().map(|name| StrBytes::from_static_str(name)).collect();
        match self.quirk {
            Quirk::OnlyGssapi => {
                SaslHandshakeResponse::default().with_error_code(33).with_mechanisms(names(&["GSSAPI"]))
            }
            Quirk::NoSasl => SaslHandshakeResponse::default().with_error_code(34),
            _ => SaslHandshakeResponse::default().with_mechanisms(names(&[
                "PLAIN",
                "SCRAM-SHA-256",
                "SCRAM-SHA-512",
            ])),
        }
    }
}

/// A well-formed challenge, then a signature made without the password.
fn challenge(message: &Bytes, number: usize) -> SaslAuthenticateResponse {
    let text = String::from_utf8(message.to_vec()).expect("text");
    let reply = match (number, text.split_once("r=")) {
        (1, Some((_, nonce))) => format!("r={nonce}more,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"),
        _ => "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=".to_owned(),
    };
    SaslAuthenticateResponse::default().with_auth_bytes(Bytes::from(reply))
}

fn setting() -> DescribeConfigsResourceResult {
    let stored = StrBytes::from_static_str("INTERNAL://:9092,EXTERNAL://:9094");
    let fixed = StrBytes::from_static_str("INTERNAL://:9092");
    let name = StrBytes::from_static_str("listeners");
    let synonym = |source, value: &StrBytes| {
        DescribeConfigsSynonym::default()
            .with_name(name.clone())
            .with_source(source)
            .with_value(Some(value.clone()))
    };
    DescribeConfigsResourceResult::default()
        .with_name(name.clone())
        .with_value(Some(stored.clone()))
        .with_config_source(2)
        .with_synonyms(vec![synonym(2, &stored), synonym(4, &fixed)])
}

fn cluster() -> DescribeClusterResponse {
    let broker = |id| {
        DescribeClusterBroker::default()
            .with_broker_id(BrokerId(id))
            .with_host(StrBytes::from_static_str("203.0.113.10"))
            .with_port(9094)
    };
    DescribeClusterResponse::default()
        .with_cluster_id(StrBytes::from_static_str("fake"))
        .with_brokers(vec![broker(3), broker(7)])
}

fn metadata() -> MetadataResponse {
    let broker = |id| {
        MetadataResponseBroker::default()
            .with_node_id(BrokerId(id))
            .with_host(StrBytes::from_static_str("203.0.113.10"))
            .with_port(9094)
    };
    MetadataResponse::default()
        .with_cluster_id(Some(StrBytes::from_static_str("fake")))
        .with_brokers(vec![broker(3), broker(7)])
}

//! What the parsers of a broker's answers promise of any bytes (`src/fuzzing.rs`).

use std::{cell::RefCell, collections::BTreeMap, io::Cursor, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;
use kafka_protocol::{
    messages::{
        ApiVersionsRequest, DescribeClusterRequest, DescribeConfigsRequest, DescribeQuorumRequest,
        IncrementalAlterConfigsRequest, MetadataRequest, SaslAuthenticateRequest, SaslHandshakeRequest,
    },
    protocol::{Decodable, HeaderVersion, Request},
};
use rustls_pki_types::CertificateDer;
use tokio::runtime::{Builder, Runtime};

use super::{
    KafkaError, ListenerSetting, Sasl, SaslMechanism, SecretText, SettingChange, Tls, Validate, admin,
    cluster::cluster,
    counted::Counted,
    sasl,
    sighting::{self, Sighting},
    traffic::{self, Meter},
    wire::{Connection, Times, client_config, first_end},
};
use crate::domain::NodeId;

/// Longest message about what a broker has said, in characters: its own words, and ours.
const LONGEST: usize = 1000;
/// 2027-01-15, near the sightings of the seeds.
const NOW: i64 = 1_800_000_000;

/// One answer; the first byte says to which request, the second in which version. What [`Counted`] lets through is read as
/// it is without it.
pub fn answers(bytes: &[u8]) {
    let [kind, version, body @ ..] = bytes else { return };
    let body = Bytes::copy_from_slice(body);
    match kind % 8 {
        0 => answer::<ApiVersionsRequest>(*version, &body),
        1 => answer::<SaslHandshakeRequest>(*version, &body),
        2 => answer::<SaslAuthenticateRequest>(*version, &body),
        3 => answer::<DescribeClusterRequest>(*version, &body),
        4 => answer::<MetadataRequest>(*version, &body),
        5 => answer::<DescribeConfigsRequest>(*version, &body),
        6 => answer::<DescribeQuorumRequest>(*version, &body),
        _ => answer::<IncrementalAlterConfigsRequest>(*version, &body),
    }
}

fn answer<R: Request>(version: u8, body: &Bytes)
where
    R::Response: PartialEq + std::fmt::Debug,
{
    let versions = R::VERSIONS.min..=R::VERSIONS.max;
    let version = i16::from(version);
    if !versions.contains(&version) {
        return;
    }
    let flexible = R::Response::header_version(version) > 0;
    let counted = R::Response::decode(&mut Counted::new(body.clone(), flexible), version);
    if let Ok(counted) = counted {
        let plain = R::Response::decode(&mut body.clone(), version).expect("the same bytes");
        assert_eq!(counted, plain);
    }
}

/// A whole conversation: the first byte says what is asked and how to log in, the others are all that the broker sends. It
/// ends, and what is told of it is short.
pub fn conversation(bytes: &[u8]) {
    thread_local! {
        static RUNTIME: RefCell<Runtime> =
            RefCell::new(Builder::new_current_thread().enable_time().build().expect("a runtime"));
    }
    let [what, sent @ ..] = bytes else { return };
    let (what, sent) = (*what, sent.to_vec());
    let said = RUNTIME.with_borrow(|runtime| runtime.block_on(talk(what, sent)));
    if let Err(error) = said {
        assert!(error.to_string().chars().count() <= LONGEST, "{error}");
        let _ = error.class();
    }
}

async fn talk(what: u8, sent: Vec<u8>) -> Result<(), KafkaError> {
    let times = &mut Times::new();
    let stream = Box::new(tokio::io::join(Cursor::new(sent), tokio::io::sink()));
    let mut connection = Connection::over(stream, Duration::from_secs(60), times).await?;
    let mechanism = match what / 4 % 4 {
        0 => None,
        1 => Some(SaslMechanism::Plain),
        2 => Some(SaslMechanism::ScramSha256),
        _ => Some(SaslMechanism::ScramSha512),
    };
    if let Some(mechanism) = mechanism {
        let (username, password) = ("u".to_owned(), SecretText::new("canary-7f3a9c51"));
        let said = sasl::authenticate(&mut connection, &Sasl { mechanism, username, password }, times).await;
        assert!(!format!("{said:?}").contains("canary-7f3a9c51"), "{said:?}");
        said?;
    }
    match what % 4 {
        0 | 3 => admin::describe(&mut connection, times).await.map(drop),
        1 => cluster(&mut connection, times).await.map(drop),
        _ => {
            let changes = [SettingChange::Delete(ListenerSetting::Listeners)];
            admin::alter(&mut connection, NodeId(0), &changes, Validate::Only).await
        }
    }
}

/// SCRAM (RFC 5802): the server's first message in the first line, its last one in the second.
pub fn scram(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (first, last) = text.split_once('\n').unwrap_or((text, ""));
    sasl::fuzz::messages(first, last);
}

/// X.509: the first end of a chain does not depend on how often a certificate is in it.
pub fn certificates(bytes: &[u8]) {
    let der = CertificateDer::from(bytes);
    let once = first_end(std::slice::from_ref(&der));
    assert_eq!(first_end(&[der.clone(), der]), once);
}

/// A Secret with the client's side of TLS: `ca.crt`, `tls.crt` and `tls.key`, one behind the other. What is wrong is told
/// by the name of the key.
pub fn pem(text: &str) {
    let key = text.find("-----BEGIN PRIVATE KEY").or_else(|| text.find("-----BEGIN EC PRIVATE KEY"));
    let identity = key.map(|at| (Arc::from(&text[..at]), Arc::new(SecretText::new(&text[at..]))));
    let tls = Tls { server_name: "kafka".to_owned(), ca_pem: Arc::from(text), identity_pem: identity };
    if let Err(fault) = client_config(&tls) {
        let fault = fault.to_string();
        let of_key = ["ca.crt", "tls.crt", "tls.key", "tls.crt and tls.key"];
        let known = of_key.map(|key| format!("certificate: the Secret's {key} cannot be used"));
        assert!(known.contains(&fault), "{fault}");
    }
}

/// Prometheus text; the first byte says in pieces of which size it comes, which makes no difference.
pub fn metrics(bytes: &[u8]) {
    let [size, text @ ..] = bytes else { return };
    let meter = Meter {
        at: SocketAddr::from(([127, 0, 0, 1], 9404)),
        path: "/metrics".to_owned(),
        sent: "out".to_owned(),
        received: "in".to_owned(),
        listener: "EXTERNAL".to_owned(),
    };
    traffic::fuzz::pieces(&meter, text, usize::from(*size).max(1));
    if let Ok(text) = std::str::from_utf8(text) {
        traffic::fuzz::label(text);
    }
}

/// A value of the ConfigMap in which machines outside say what they see: what is not fresh, or not readable, is nothing.
pub fn sightings(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let now = Timestamp::from_second(NOW).expect("a time");
    let data = BTreeMap::from([("vm".to_owned(), text.to_owned())]);
    let fresh = sighting::fresh(&data, now);
    assert!(fresh.len() <= 1);
    for Sighting { at, .. } in &fresh {
        assert!(now.duration_since(*at).unsigned_abs() < sighting::FRESH);
    }
    for seen in &fresh {
        for node in seen.table.keys().chain(seen.brokers.keys()).map(|node| NodeId(*node)) {
            let told = seen.of(node);
            assert!(told.is_err() || seen.error.is_none());
            let course = seen.course(node);
            assert!(course.passed.len() <= seen.brokers.get(&node.0).map_or(0, |asked| asked.passed.len()));
        }
    }
}

/// Answers of a good broker, as seeds. `UPDATE=1` writes them.
#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use bytes::{BufMut, BytesMut};
    use kafka_protocol::{
        messages::{
            ApiKey, ApiVersionsResponse, DescribeClusterResponse, DescribeConfigsResponse,
            DescribeQuorumResponse, IncrementalAlterConfigsResponse, MetadataResponse, ResponseHeader,
            SaslAuthenticateResponse, SaslHandshakeResponse, TopicName,
            api_versions_response::ApiVersion,
            describe_cluster_response::DescribeClusterBroker,
            describe_configs_response::{
                DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
            },
            describe_quorum_response,
            incremental_alter_configs_response::AlterConfigsResourceResponse,
            metadata_response::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic},
        },
        protocol::Encodable,
    };

    use super::*;

    fn versions() -> ApiVersionsResponse {
        let newest = [
            (ApiKey::Metadata, 9),
            (ApiKey::DescribeCluster, 0),
            (ApiKey::DescribeConfigs, 4),
            (ApiKey::IncrementalAlterConfigs, 1),
            (ApiKey::SaslHandshake, 1),
            (ApiKey::SaslAuthenticate, 2),
            (ApiKey::DescribeQuorum, 1),
        ];
        let range = |(key, max)| ApiVersion::default().with_api_key(key as i16).with_max_version(max);
        ApiVersionsResponse::default().with_api_keys(newest.map(range).to_vec())
    }

    fn brokers() -> DescribeClusterResponse {
        let broker = |id: i32| {
            DescribeClusterBroker::default()
                .with_broker_id(id.into())
                .with_host("203.0.113.10".into())
                .with_port(9094)
        };
        DescribeClusterResponse::default()
            .with_cluster_id("c".into())
            .with_brokers(vec![broker(3), broker(7)])
    }

    fn topics() -> MetadataResponse {
        let partition = MetadataResponsePartition::default()
            .with_replica_nodes(vec![3.into(), 7.into()])
            .with_isr_nodes(vec![3.into()]);
        let topic = MetadataResponseTopic::default()
            .with_name(Some(TopicName("orders".into())))
            .with_partitions(vec![partition]);
        let broker =
            MetadataResponseBroker::default().with_node_id(3.into()).with_host("b".into()).with_port(9092);
        MetadataResponse::default()
            .with_brokers(vec![broker])
            .with_cluster_id(Some("c".into()))
            .with_topics(vec![topic])
    }

    /// What is told of a name that no topic has.
    fn no_topic() -> MetadataResponse {
        let topic = MetadataResponseTopic::default().with_error_code(3);
        MetadataResponse::default().with_topics(vec![topic])
    }

    fn settings(key: &'static str, value: &'static str) -> DescribeConfigsResponse {
        let synonym = DescribeConfigsSynonym::default()
            .with_name(key.into())
            .with_source(4)
            .with_value(Some(value.into()));
        let setting = DescribeConfigsResourceResult::default()
            .with_name(key.into())
            .with_value(Some(value.into()))
            .with_synonyms(vec![synonym]);
        let result =
            DescribeConfigsResult::default().with_resource_name("orders".into()).with_configs(vec![setting]);
        DescribeConfigsResponse::default().with_results(vec![result])
    }

    fn not_this_one() -> DescribeConfigsResponse {
        let words = "Unexpected broker id, expected 7 or empty string, but received 3";
        let result =
            DescribeConfigsResult::default().with_error_code(42).with_error_message(Some(words.into()));
        DescribeConfigsResponse::default().with_results(vec![result])
    }

    fn quorum() -> DescribeQuorumResponse {
        let voter = describe_quorum_response::ReplicaState::default()
            .with_replica_id(3.into())
            .with_log_end_offset(9)
            .with_last_caught_up_timestamp(1_800_000_000_000);
        let partition = describe_quorum_response::PartitionData::default()
            .with_leader_id(3.into())
            .with_high_watermark(9)
            .with_current_voters(vec![voter]);
        let topic = describe_quorum_response::TopicData::default().with_partitions(vec![partition]);
        DescribeQuorumResponse::default().with_topics(vec![topic])
    }

    fn altered() -> IncrementalAlterConfigsResponse {
        let answer = AlterConfigsResourceResponse::default().with_resource_type(4);
        IncrementalAlterConfigsResponse::default().with_responses(vec![answer])
    }

    fn mechanisms() -> SaslHandshakeResponse {
        SaslHandshakeResponse::default().with_mechanisms(vec!["PLAIN".into(), "SCRAM-SHA-256".into()])
    }

    fn encoded(version: i16, answer: &impl Encodable) -> Vec<u8> {
        let mut bytes = BytesMut::new();
        answer.encode(&mut bytes, version).expect("an answer");
        bytes.to_vec()
    }

    fn seed(kind: u8, version: u8, answer: &impl Encodable) -> Vec<u8> {
        [vec![kind, version], encoded(version.into(), answer)].concat()
    }

    /// Frames of a conversation, in order.
    #[derive(Default)]
    struct Frames(Vec<u8>, i32);

    impl Frames {
        fn with<A: Encodable + HeaderVersion>(mut self, version: i16, answer: &A) -> Self {
            let mut head = BytesMut::new();
            let header = ResponseHeader::default().with_correlation_id(self.1);
            header.encode(&mut head, A::header_version(version)).expect("a header");
            let body = encoded(version, answer);
            let length = u32::try_from(head.len() + body.len()).expect("a length");
            self.0.put_u32(length);
            self.0.extend([&head[..], &body[..]].concat());
            self.1 += 1;
            self
        }

        fn after(self, what: u8) -> Vec<u8> {
            [vec![what], self.0].concat()
        }
    }

    fn seeds() -> Vec<(&'static str, &'static str, Vec<u8>)> {
        let start = || Frames::default().with(0, &versions());
        let logged_in = || start().with(1, &mechanisms()).with(2, &SaslAuthenticateResponse::default());
        let listeners = settings("listeners", "INTERNAL://:9092");
        let minimum = settings("min.insync.replicas", "2");
        vec![
            ("answers", "versions", seed(0, 0, &versions())),
            ("answers", "versions-flexible", seed(0, 3, &versions())),
            ("answers", "handshake", seed(1, 1, &mechanisms())),
            ("answers", "login", seed(2, 2, &SaslAuthenticateResponse::default())),
            ("answers", "cluster", seed(3, 0, &brokers())),
            ("answers", "metadata", seed(4, 9, &topics())),
            ("answers", "metadata-old", seed(4, 1, &topics())),
            ("answers", "configs", seed(5, 4, &listeners)),
            ("answers", "configs-old", seed(5, 1, &listeners)),
            ("answers", "quorum", seed(6, 1, &quorum())),
            ("answers", "altered", seed(7, 1, &altered())),
            (
                "conversation",
                "describe",
                start().with(0, &brokers()).with(4, &not_this_one()).with(4, &listeners).after(0),
            ),
            (
                "conversation",
                "cluster",
                start().with(9, &no_topic()).with(9, &topics()).with(4, &minimum).with(1, &quorum()).after(1),
            ),
            ("conversation", "alter", start().with(1, &altered()).after(2)),
            (
                "conversation",
                "plain",
                logged_in().with(0, &brokers()).with(4, &not_this_one()).with(4, &listeners).after(4),
            ),
            ("conversation", "scram", logged_in().after(9)),
        ]
    }

    #[test]
    fn the_seeds_are_what_a_good_broker_sends() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
        for (target, name, bytes) in seeds() {
            let file = folder.join(target).join(name);
            if std::env::var_os("UPDATE").is_some() {
                fs::create_dir_all(folder.join(target)).expect("a folder");
                fs::write(&file, &bytes).expect("a seed can be written");
            }
            let committed = fs::read(&file).unwrap_or_default();
            assert!(
                committed == bytes,
                "{} is not current; run: UPDATE=1 cargo test --lib fuzz",
                file.display()
            );
        }
        let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
        for (_, name, bytes) in seeds().into_iter().filter(|(target, ..)| *target == "conversation") {
            let said = runtime.block_on(talk(bytes[0], bytes[1..].to_vec()));
            assert_eq!(said.is_ok(), name != "scram", "{name}: {said:?}");
        }
    }
}

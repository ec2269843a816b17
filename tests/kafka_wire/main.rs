//! What a broker, or something that is none, can do wrong on the wire. Every peer here is a socket on loopback.

mod peer;

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use kafka_external_access::{
    domain::{ErrorClass, NodeId},
    kafka::{
        Brokers, KafkaError, KafkaFault, ListenerSetting, Sasl, SaslMechanism, SecretText, Security,
        SettingChange, Step, Target, Validate, admin::TcpBrokers,
    },
    seams::{Leadership, SoleReplica},
};

use self::peer::{Peer, Quirk, serve};

const LIMIT: Duration = Duration::from_millis(400);

fn target(at: SocketAddr) -> Target {
    Target { at, security: Security::default(), step_timeout: LIMIT }
}

async fn error_of(quirk: Quirk) -> KafkaError {
    let at = serve(Peer { quirk, ..Peer::default() }).await;
    TcpBrokers.describe(&target(at)).await.expect_err("something is wrong")
}

#[tokio::test]
async fn a_good_answer_takes_all_steps_in_order_on_one_connection() {
    let peer = Peer::default();
    let seen = peer.seen.clone();
    let report = TcpBrokers.probe(&target(serve(peer).await)).await;
    let view = report.outcome.expect("an answer");
    assert_eq!((view.node, view.cluster.as_str()), (NodeId(7), "fake"));
    // The first broker of the table is asked about first; its words name the right one.
    let steps: Vec<Step> = report.passed.iter().map(|(step, _)| *step).collect();
    use Step::{ApiVersions, DescribeCluster, DescribeConfigs, Tcp};
    assert_eq!(steps, [Tcp, ApiVersions, DescribeCluster, DescribeConfigs, DescribeConfigs]);
    let listeners = view.setting(ListenerSetting::Listeners);
    assert_eq!(listeners.dynamic.as_deref(), Some("INTERNAL://:9092,EXTERNAL://:9094"));
    assert_eq!(listeners.fixed.as_deref(), Some("INTERNAL://:9092"));
    let seen = seen.lock().expect("what was seen");
    assert_eq!(seen.connections, 1);
    assert!(seen.clients.iter().all(|client| client == "kafka-external-access"), "{:?}", seen.clients);
    assert_eq!(seen.correlations, (0..4).collect::<Vec<i32>>());
}

#[tokio::test]
async fn a_broker_without_describe_cluster_is_asked_for_metadata() {
    let at = serve(Peer { old: true, ..Peer::default() }).await;
    let view = TcpBrokers.describe(&target(at)).await.expect("an answer");
    assert_eq!((view.node, view.advertised.len()), (NodeId(7), 2));
}

#[tokio::test]
async fn every_broken_answer_is_named() {
    let error = error_of(Quirk::OtherCorrelation).await;
    assert!(matches!(error.fault, KafkaFault::Malformed(_)), "{error}");
    let error = error_of(Quirk::GiantFrame).await;
    assert!(matches!(error.fault, KafkaFault::Malformed(_)), "{error}");
    let error = error_of(Quirk::NegativeFrame).await;
    assert!(matches!(error.fault, KafkaFault::Malformed(_)), "{error}");
    let error = error_of(Quirk::Garbage).await;
    assert!(matches!(error.fault, KafkaFault::Malformed(_)), "{error}");
    let error = error_of(Quirk::HalfFrame).await;
    assert!(matches!(error.fault, KafkaFault::Network(_)), "{error}");
    let error = error_of(Quirk::Closes).await;
    assert!(matches!(error.fault, KafkaFault::Network(_)), "{error}");
    let error = error_of(Quirk::TlsAlert).await;
    assert!(matches!(error.fault, KafkaFault::Protocol(_)), "{error}");
    assert_eq!(error.step, Step::ApiVersions);
}

#[tokio::test]
async fn a_frame_that_announces_much_and_sends_nothing_ends_at_the_limit() {
    let start = Instant::now();
    let error = error_of(Quirk::LargestFrameThenSilence).await;
    assert_eq!(error.fault, KafkaFault::TimedOut(LIMIT));
    assert!(start.elapsed() < LIMIT * 3);
}

#[tokio::test]
async fn each_step_has_the_whole_limit_for_itself_and_no_more() {
    let slow = Peer { quirk: Quirk::EachAnswerAfter(LIMIT.mul_f64(0.6)), ..Peer::default() };
    let report = TcpBrokers.probe(&target(serve(slow).await)).await;
    assert!(report.outcome.is_ok(), "{report:?}");
    let sum: Duration = report.passed.iter().map(|(_, took)| *took).sum();
    assert!(sum > LIMIT * 2, "{sum:?}");
    let start = Instant::now();
    let error = error_of(Quirk::EachAnswerAfter(LIMIT * 10)).await;
    assert_eq!((error.step, error.fault), (Step::ApiVersions, KafkaFault::TimedOut(LIMIT)));
    assert!(start.elapsed() < LIMIT * 3);
}

#[tokio::test]
async fn nobody_there_is_refused_at_once() {
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = socket.local_addr().expect("an address");
    drop(socket);
    let error = TcpBrokers.describe(&target(at)).await.expect_err("nobody");
    assert_eq!((error.step, &error.fault), (Step::Tcp, &KafkaFault::Refused));
    assert_eq!(error.class(), ErrorClass::Transient);
}

#[tokio::test]
async fn a_broker_that_denies_its_own_id_is_not_believed() {
    let error = error_of(Quirk::NeverThatId).await;
    assert_eq!(error.step, Step::DescribeConfigs);
    assert!(matches!(error.fault, KafkaFault::Malformed(_)), "{error}");
}

#[tokio::test]
async fn a_missing_right_is_named() {
    let error = error_of(Quirk::Unauthorized).await;
    assert_eq!(error.step, Step::DescribeConfigs);
    assert!(matches!(error.fault, KafkaFault::Authorization(_)), "{error}");
}

async fn alter(quirk: Quirk) -> Result<(), KafkaError> {
    let at = serve(Peer { quirk, ..Peer::default() }).await;
    let permit = SoleReplica.permit().expect("a permit");
    let change = [SettingChange::Delete(ListenerSetting::Listeners)];
    TcpBrokers.alter(permit, &target(at), NodeId(7), &change, Validate::AndApply).await
}

#[tokio::test]
async fn a_change_is_done_only_when_the_broker_says_so() {
    assert_eq!(alter(Quirk::None).await, Ok(()));
    let error = alter(Quirk::NoResult).await.expect_err("an empty answer");
    assert!(matches!(error.fault, KafkaFault::Malformed(_)), "{error}");
    let error = alter(Quirk::Refuses).await.expect_err("a refusal");
    let KafkaFault::Rejected(words) = &error.fault else { panic!("{error}") };
    assert_eq!(words.chars().count(), 300, "a broker's text is cut");
    let error = alter(Quirk::NoAlter).await.expect_err("not offered");
    assert!(matches!(error.fault, KafkaFault::Unsupported(_)), "{error}");
}

fn login(at: SocketAddr, mechanism: SaslMechanism) -> Target {
    let sasl = Sasl { mechanism, username: "user".into(), password: SecretText::new("pencil") };
    Target { security: Security { tls: None, sasl: Some(sasl) }, ..target(at) }
}

#[tokio::test]
async fn a_server_that_does_not_know_the_password_is_found_out() {
    for mechanism in [SaslMechanism::ScramSha256, SaslMechanism::ScramSha512] {
        let at = serve(Peer { quirk: Quirk::FalseSignature, ..Peer::default() }).await;
        let error = TcpBrokers.describe(&login(at, mechanism)).await.expect_err("an impostor");
        assert_eq!(error.step, Step::Sasl);
        assert!(matches!(error.fault, KafkaFault::Authentication(_)), "{error}");
    }
}

#[tokio::test]
async fn a_mechanism_that_is_not_offered_is_named_with_those_that_are() {
    let at = serve(Peer { quirk: Quirk::OnlyGssapi, ..Peer::default() }).await;
    let error = TcpBrokers.describe(&login(at, SaslMechanism::Plain)).await.expect_err("not offered");
    assert!(error.to_string().contains("GSSAPI"), "{error}");
    let at = serve(Peer { quirk: Quirk::NoSasl, ..Peer::default() }).await;
    let error = TcpBrokers.describe(&login(at, SaslMechanism::Plain)).await.expect_err("no SASL");
    assert!(matches!(error.fault, KafkaFault::Protocol(_)), "{error}");
}

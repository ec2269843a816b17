//! TLS and SASL against a real broker. Each wrong way to speak must be named so that a person knows what to change.

use std::{net::Ipv4Addr, process::ExitCode, sync::Arc, time::Duration};

use clap::Parser;
use jiff::Timestamp;
use kafka_external_access::{
    check,
    domain::NodeId,
    kafka::{
        Brokers, KafkaError, KafkaFault, Sasl, SaslMechanism, SecretText, Security, Step, Target, Tls,
        admin::TcpBrokers,
    },
    runtime::clock::SystemClock,
    seams::Clock,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::{
    at, block_on, plain,
    real::{RealKafka, WITH_ZOOKEEPER},
};

const PLAIN: u16 = 9092;
const SASL: u16 = 9093;
const TLS: u16 = 9094;
const MUTUAL: u16 = 9095;
const SASL_TLS: u16 = 9096;
const SOON: u16 = 9097;
const ENDED: u16 = 9098;

/// PEM of an authority, and of what it signed for the broker and for a client.
struct Papers {
    authority: String,
    broker: (String, String),
    client: (String, String),
    /// Of the broker; one ends in ten days, the other has ended.
    soon: (String, String),
    ended: (String, String),
}

const DAY: Duration = Duration::from_secs(86_400);

fn days(count: u32) -> Timestamp {
    SystemClock::default().now() + DAY * count
}

fn papers() -> Papers {
    let key = || KeyPair::generate().expect("a key");
    let mut authority = CertificateParams::new(Vec::new()).expect("a name");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, key()).expect("an authority");
    let signed_until = |names: &[&str], end: Timestamp| {
        let (key, names) = (key(), names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        let mut params = CertificateParams::new(names).expect("names");
        let seconds = u64::try_from(end.as_second()).expect("after 1970");
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds);
        (params.signed_by(&key, &authority).expect("a certificate").pem(), key.serialize_pem())
    };
    let signed = |names: &[&str]| signed_until(names, days(400));
    Papers {
        soon: signed_until(&["127.0.0.1"], days(10)),
        ended: signed_until(&["127.0.0.1"], days(0) - DAY),
        broker: signed(&["kafka.example.com", "127.0.0.1"]),
        client: signed(&["client"]),
        authority: authority.pem(),
    }
}

fn start(papers: &Papers) -> RealKafka {
    let mut kafka = RealKafka::in_own_network(WITH_ZOOKEEPER);
    kafka.start_zookeeper();
    for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let credential = format!("{mechanism}=[password=pencil-{mechanism}]");
        let user = ["--entity-type", "users", "--entity-name", "carol,=x"];
        let change = ["--zookeeper", "127.0.0.1:2181", "--alter", "--add-config", &credential];
        kafka.run("kafka.admin.ConfigCommand", &[&change[..], &user].concat());
    }
    let ports = [
        ("INTERNAL", PLAIN),
        ("SASL", SASL),
        ("TLS", TLS),
        ("MUTUAL", MUTUAL),
        ("SASLTLS", SASL_TLS),
        ("SOON", SOON),
        ("ENDED", ENDED),
    ];
    let list = |host: &str| ports.map(|(name, port)| format!("{name}://{host}:{port}")).join(",");
    let logins: String = ["sasl", "sasltls"]
        .map(|listener| {
            let of = |mechanism: &str| format!("listener.name.{listener}.{mechanism}.sasl.jaas.config");
            let scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;";
            let plain = "org.apache.kafka.common.security.plain.PlainLoginModule required user_alice=\"secret\";";
            format!(
                "{}={plain}\n{}={scram}\n{}={scram}\nlistener.name.{listener}.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512\n",
                of("plain"),
                of("scram-sha-256"),
                of("scram-sha-512")
            )
        })
        .concat();
    // Stores in files would need passwords on 2.8; the texts themselves (KIP-651) do not.
    let inline = |pem: &str| pem.trim().replace('\r', "").replace('\n', "\\n");
    let (chain, key) = (inline(&papers.broker.0), inline(&papers.broker.1));
    let authority = inline(&papers.authority);
    let own_papers = [("soon", &papers.soon), ("ended", &papers.ended)]
        .map(|(listener, (chain, key))| {
            let start = format!("listener.name.{listener}.ssl.keystore");
            let (chain, key) = (inline(chain), inline(key));
            format!("{start}.type=PEM\n{start}.certificate.chain={chain}\n{start}.key={key}\n")
        })
        .concat();
    kafka.start_broker(&format!(
        "broker.id=0\ninter.broker.listener.name=INTERNAL\nlisteners={}\nadvertised.listeners={}\n\
         listener.security.protocol.map=INTERNAL:PLAINTEXT,SASL:SASL_PLAINTEXT,TLS:SSL,MUTUAL:SSL,SASLTLS:SASL_SSL,SOON:SSL,ENDED:SSL\n\
         ssl.keystore.type=PEM\nssl.keystore.certificate.chain={chain}\nssl.keystore.key={key}\n\
         ssl.truststore.type=PEM\nssl.truststore.certificates={authority}\nlistener.name.mutual.ssl.client.auth=required\n{logins}{own_papers}",
        list(""),
        list("127.0.0.1"),
    ));
    kafka
}

fn tls(papers: &Papers, server_name: &str, identity: bool) -> Tls {
    let (chain, key) = &papers.client;
    let identity = identity.then(|| (Arc::from(chain.as_str()), Arc::new(SecretText::new(key.as_str()))));
    Tls { server_name: server_name.into(), ca_pem: papers.authority.as_str().into(), identity_pem: identity }
}

fn sasl(mechanism: SaslMechanism, username: &str, password: &str) -> Sasl {
    Sasl { mechanism, username: username.into(), password: SecretText::new(password) }
}

fn target(port: u16, tls: Option<Tls>, sasl: Option<Sasl>) -> Target {
    Target { at: at(port), security: Security { tls, sasl }, step_timeout: Duration::from_secs(10) }
}

async fn works(target: &Target) {
    let report = TcpBrokers.probe(target).await;
    let view = report.outcome.unwrap_or_else(|error| panic!("{target:?}: {error}"));
    assert_eq!(view.node, NodeId(0));
    let advertised = view.advertised.get(&NodeId(0)).map(|e| (e.host.clone(), e.port));
    assert_eq!(advertised, Some((Ipv4Addr::LOCALHOST.to_string(), target.at.port())));
    let took: Vec<Step> = report.passed.iter().map(|(step, _)| *step).collect();
    assert_eq!(took.contains(&Step::Tls), target.security.tls.is_some());
    assert_eq!(took.contains(&Step::Sasl), target.security.sasl.is_some());
}

async fn fails(target: &Target) -> (Step, KafkaFault) {
    let error = TcpBrokers.describe(target).await.expect_err("a refusal");
    assert!(!format!("{error:?} {error}").contains("secret"), "{error:?}");
    println!("{}: {error}", target.at.port());
    (error.step, error.fault)
}

#[test]
fn a_real_broker_is_spoken_to_in_tls_and_sasl_and_each_mistake_is_named() {
    let papers = papers();
    let kafka = start(&papers);
    block_on(async {
        good_ways(&papers).await;
        wrong_protocols(&papers).await;
        wrong_certificates(&papers).await;
        wrong_logins().await;
        certificates_that_end(&kafka, &papers).await;
        the_command_for_a_machine_outside(&kafka, &papers).await;
    });
}

async fn good_ways(papers: &Papers) {
    use SaslMechanism::{Plain, ScramSha256, ScramSha512};
    let named = || Some(tls(papers, "kafka.example.com", false));
    works(&target(TLS, named(), None)).await;
    works(&target(TLS, Some(tls(papers, "127.0.0.1", false)), None)).await;
    works(&target(MUTUAL, Some(tls(papers, "kafka.example.com", true)), None)).await;
    for login in [
        sasl(Plain, "alice", "secret"),
        sasl(ScramSha256, "carol,=x", "pencil-SCRAM-SHA-256"),
        sasl(ScramSha512, "carol,=x", "pencil-SCRAM-SHA-512"),
    ] {
        works(&target(SASL, None, Some(login.clone()))).await;
        works(&target(SASL_TLS, named(), Some(login))).await;
    }
}

async fn wrong_protocols(papers: &Papers) {
    let named = || Some(tls(papers, "kafka.example.com", false));
    let login = || Some(sasl(SaslMechanism::Plain, "alice", "secret"));
    let (step, fault) = fails(&target(PLAIN, named(), None)).await;
    assert!(matches!((step, &fault), (Step::Tls, KafkaFault::Protocol(_))), "{fault}");
    for port in [PLAIN, TLS] {
        let tls = (port == TLS).then(named).flatten();
        let (step, fault) = fails(&target(port, tls, login())).await;
        assert!(matches!((step, &fault), (Step::Sasl, KafkaFault::Protocol(_))), "{fault}");
    }
    let (step, fault) = fails(&plain(TLS)).await;
    assert!(matches!((step, &fault), (Step::ApiVersions, KafkaFault::Protocol(_))), "{fault}");
    let (_, fault) = fails(&plain(SASL)).await;
    assert!(fault.to_string().contains("SASL"), "{fault}");
}

async fn wrong_certificates(papers: &Papers) {
    let others = self::papers();
    let wrong_name = tls(papers, "other.example.com", false);
    let wrong_authority = tls(&others, "kafka.example.com", false);
    for wrong in [wrong_name, wrong_authority] {
        let (step, fault) = fails(&target(TLS, Some(wrong), None)).await;
        assert!(matches!((step, &fault), (Step::Tls, KafkaFault::Certificate(_))), "{fault}");
    }
    let stranger =
        Tls { identity_pem: tls(&others, "", true).identity_pem, ..tls(papers, "127.0.0.1", false) };
    for wrong in [tls(papers, "127.0.0.1", false), stranger] {
        let (_, fault) = fails(&target(MUTUAL, Some(wrong), None)).await;
        assert!(matches!(fault, KafkaFault::Certificate(_)), "{fault}");
    }
}

async fn wrong_logins() {
    use SaslMechanism::{Plain, ScramSha256, ScramSha512};
    for wrong in [
        sasl(Plain, "alice", "secret-not"),
        sasl(Plain, "nobody", "secret"),
        sasl(ScramSha256, "carol,=x", "secret-not"),
        sasl(ScramSha512, "nobody", "secret"),
    ] {
        let (step, fault) = fails(&target(SASL, None, Some(wrong))).await;
        assert!(matches!((step, &fault), (Step::Sasl, KafkaFault::Authentication(_))), "{fault}");
    }
}

async fn certificates_that_end(kafka: &RealKafka, papers: &Papers) {
    let by_address = || Some(tls(papers, "127.0.0.1", false));
    let seen = TcpBrokers.probe(&target(SOON, by_address(), None)).await;
    assert!(seen.outcome.is_ok(), "{seen:?}");
    let ends = seen.certificate_ends.expect("a certificate is shown");
    assert!(ends > days(9) && ends < days(11), "{ends}");
    let (step, fault) = fails(&target(ENDED, by_address(), None)).await;
    assert!(matches!((step, &fault), (Step::Tls, KafkaFault::CertificateExpired(_))), "{fault}");
    let plain = TcpBrokers.probe(&plain(PLAIN)).await;
    assert_eq!(plain.certificate_ends, None);

    let authority = kafka.write("authority.pem", &papers.authority);
    for (port, code, mark) in [(TLS, 0, "  √ "), (SOON, 0, "  ‼ "), (ENDED, 1, "  × ")] {
        let seen = TcpBrokers.probe(&target(port, by_address(), None)).await;
        let day = match (seen.certificate_ends, seen.outcome) {
            (Some(ends), Ok(_)) => ends,
            (_, Err(KafkaError { fault: KafkaFault::CertificateExpired(ended), .. })) => ended,
            other => panic!("{other:?}"),
        };
        let mut check = std::process::Command::new(env!("CARGO_BIN_EXE_kafka-external-access"));
        check.args(["check", "--bootstrap", &at(port).to_string(), "--tls-ca"]).arg(&authority);
        let output = check.output().expect("it runs");
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text.lines().find(|line| line.starts_with(mark)).unwrap_or_else(|| panic!("{text}"));
        assert!(line.contains(&day.strftime("%F").to_string()), "{line}");
        assert_eq!(output.status.code(), Some(code), "{text}");
    }
}

async fn the_command_for_a_machine_outside(kafka: &RealKafka, papers: &Papers) {
    let authority = kafka.write("authority.pem", &papers.authority);
    let authority = authority.to_str().expect("a path");
    let silent = "127.0.0.1:1";
    for (arguments, expected) in [
        (vec!["--bootstrap", "127.0.0.1:9092"], ExitCode::SUCCESS),
        (vec!["--bootstrap", "127.0.0.1:9094", "--tls-ca", authority, "-o", "json"], ExitCode::SUCCESS),
        (vec!["--bootstrap", "127.0.0.1:9094", "--timeout", "2s"], ExitCode::FAILURE),
        (vec!["--bootstrap", silent, "--bootstrap", "127.0.0.1:9092"], ExitCode::FAILURE),
        (vec!["--bootstrap", "127.0.0.1:9092", "--tls-ca", "/does/not/exist"], ExitCode::from(2)),
    ] {
        let parsed = Command::try_parse_from([&["check"], &arguments[..]].concat()).expect("arguments");
        let code = check::run(parsed.check).await;
        assert_eq!(format!("{code:?}"), format!("{expected:?}"), "{arguments:?}");
    }
}

#[derive(clap::Parser)]
struct Command {
    #[command(flatten)]
    check: check::CheckArgs,
}

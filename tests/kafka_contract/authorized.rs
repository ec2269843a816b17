//! Rights in Kafka, by the authorizer of a real broker. A list of topics leaves out what its reader may not describe, without
//! a word: whoever is to decide about restarts must be told that he does not see everything.

use std::time::Duration;

use kafka_external_access::kafka::{
    Brokers, KafkaFault, Sasl, SaslMechanism, SecretText, Security, Target, admin::TcpBrokers,
};

use crate::{
    at, block_on,
    real::{RealKafka, WITH_ZOOKEEPER},
};

const PLAIN: u16 = 9092;
const SASL: u16 = 9093;

fn start() -> RealKafka {
    let mut kafka = RealKafka::in_own_network(WITH_ZOOKEEPER);
    kafka.start_zookeeper();
    let login = "org.apache.kafka.common.security.plain.PlainLoginModule required user_some=\"secret\" user_every=\"secret\";";
    kafka.start_broker(&format!(
        "broker.id=0\ninter.broker.listener.name=INTERNAL\nlisteners=INTERNAL://:{PLAIN},SASL://:{SASL}\n\
         advertised.listeners=INTERNAL://127.0.0.1:{PLAIN},SASL://127.0.0.1:{SASL}\n\
         listener.security.protocol.map=INTERNAL:PLAINTEXT,SASL:SASL_PLAINTEXT\n\
         listener.name.sasl.sasl.enabled.mechanisms=PLAIN\nlistener.name.sasl.plain.sasl.jaas.config={login}\n\
         authorizer.class.name=kafka.security.authorizer.AclAuthorizer\nsuper.users=User:ANONYMOUS\n"
    ));
    kafka
}

fn allow(kafka: &RealKafka, user: &str, on: &[&str]) {
    let principal = format!("User:{user}");
    let acl = ["--authorizer-properties", "zookeeper.connect=127.0.0.1:2181", "--add"];
    let rights =
        ["--allow-principal", &principal, "--operation", "Describe", "--operation", "DescribeConfigs"];
    kafka.run("kafka.admin.AclCommand", &[&acl[..], &rights, on].concat());
}

fn user(name: &str) -> Target {
    let sasl =
        Sasl { mechanism: SaslMechanism::Plain, username: name.into(), password: SecretText::new("secret") };
    let security = Security { tls: None, sasl: Some(sasl) };
    Target { at: at(SASL), security, step_timeout: Duration::from_secs(10) }
}

#[test]
fn a_user_who_does_not_see_every_topic_is_told_so_and_never_shown_an_empty_cluster() {
    let kafka = start();
    let topics = ["--create", "--partitions", "1", "--replication-factor", "1", "--topic"];
    for topic in ["shown-1", "hidden-1"] {
        let server = ["--bootstrap-server", "127.0.0.1:9092"];
        kafka.run("kafka.admin.TopicCommand", &[&server[..], &topics, &[topic]].concat());
    }
    for user in ["some", "every"] {
        allow(&kafka, user, &["--cluster"]);
    }
    allow(&kafka, "some", &["--topic", "shown-", "--resource-pattern-type", "prefixed"]);
    allow(&kafka, "every", &["--topic", "*"]);
    block_on(async {
        let every = TcpBrokers.cluster(&user("every")).await.expect("it may see everything");
        let names: Vec<&str> = every.partitions.iter().map(|partition| partition.topic.as_str()).collect();
        assert!(names.contains(&"shown-1") && names.contains(&"hidden-1"), "{names:?}");
        let error = TcpBrokers.cluster(&user("some")).await.expect_err("it does not see hidden-1");
        let KafkaFault::Authorization(text) = error.fault else { panic!("{error}") };
        assert!(text.contains("on every topic"), "{text}");
    });
}

//! `bootstrap`: what a client is configured with, ready to paste.
//!
//! | client | form | keys as documented by |
//! |---|---|---|
//! | java | properties | Kafka, "Consumer Configs", "Producer Configs" |
//! | librdkafka | properties | librdkafka, CONFIGURATION.md |
//! | kcat | a command | kcat(1): `-X` takes librdkafka's keys |
//! | flink | SQL | Flink, "Apache Kafka SQL Connector": `properties.*` are the Java client's |
//! | starrocks | SQL | StarRocks, "CREATE ROUTINE LOAD": `property.*` are librdkafka's |
//! | druid | JSON | Druid, "Kafka supervisor spec": `consumerProperties` are the Java client's |

use std::process::ExitCode;

use clap::Args;
use kube::ResourceExt;
use serde_json::json;

use super::{cluster::ClusterArgs, failed, show};
use crate::api::{KafkaExternalAccess, SaslMechanism, SecurityProtocol};

/// Prints what a client is configured with.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Exit codes: 0 printed, 1 there is nothing to print yet, or that cannot be told, 2 wrong usage"
)]
pub struct BootstrapArgs {
    /// Name of the object
    pub name: String,
    /// The client
    #[arg(long = "for", value_enum)]
    pub client: ClientKind,
    /// The topic, where the client's form names one
    #[arg(long, default_value = "TOPIC")]
    pub topic: String,
    /// Which cluster
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// Clients whose form is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ClientKind {
    /// Kafka's own client, and what is built on it
    Java,
    /// The C client, and what is built on it
    Librdkafka,
    /// Flink SQL
    Flink,
    /// StarRocks Routine Load
    Starrocks,
    /// Druid's Kafka supervisor
    Druid,
    /// kcat
    Kcat,
}

/// Runs the command.
pub async fn run(args: BootstrapArgs) -> ExitCode {
    let printed = async {
        let objects = args.cluster.open().await?.objects(Some(&args.name), false).await?;
        let object = objects.first().ok_or("there is no such object")?;
        render(object, args.client, &args.topic)
    };
    match printed.await {
        Ok(text) => {
            show(&text);
            ExitCode::SUCCESS
        }
        Err(error) => failed(error),
    }
}

/// What stands for the reader's own.
const USER: &str = "USER";
const PASSWORD: &str = "PASSWORD";
const AUTHORITY: &str = "/path/to/ca.crt";

/// A listener as a client meets it.
struct Endpoint<'a> {
    servers: &'a str,
    protocol: SecurityProtocol,
    mechanism: &'static str,
}

/// The client's form for this object; the error says why there is none yet.
pub fn render(object: &KafkaExternalAccess, client: ClientKind, topic: &str) -> Result<String, String> {
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let servers = object.status.as_ref().and_then(|status| status.bootstrap_servers.as_deref());
    let servers = servers.ok_or_else(|| {
        format!("not every broker of {namespace}/{name} advertises yet: kubectl kafka-access status {name} -n {namespace}")
    })?;
    let endpoint = Endpoint { servers, protocol: protocol(object), mechanism: mechanism(object) };
    Ok(match client {
        ClientKind::Java => lines(&endpoint.java(), |key, value| format!("{key}={value}")),
        ClientKind::Librdkafka => lines(&endpoint.librdkafka(), |key, value| format!("{key}={value}")),
        ClientKind::Kcat => endpoint.kcat(),
        ClientKind::Flink => endpoint.flink(topic),
        ClientKind::Starrocks => endpoint.starrocks(topic),
        ClientKind::Druid => endpoint.druid(topic)?,
    })
}

/// The listener outside, else the internal one as the operator speaks to it.
fn protocol(object: &KafkaExternalAccess) -> SecurityProtocol {
    if let Some(listener) = &object.spec.listener {
        return listener.security_protocol;
    }
    let client = object.spec.kafka.client.as_ref();
    let tls = client.is_some_and(|client| client.tls.is_some());
    match (tls, client.is_some_and(|client| client.sasl.is_some())) {
        (false, false) => SecurityProtocol::Plaintext,
        (true, false) => SecurityProtocol::Ssl,
        (false, true) => SecurityProtocol::SaslPlaintext,
        (true, true) => SecurityProtocol::SaslSsl,
    }
}

/// As the operator's own user has it; Kafka knows no default for clients.
fn mechanism(object: &KafkaExternalAccess) -> &'static str {
    let sasl = object.spec.kafka.client.as_ref().and_then(|client| client.sasl.as_ref());
    match sasl.map(|sasl| sasl.mechanism) {
        Some(SaslMechanism::Plain) => "PLAIN",
        Some(SaslMechanism::ScramSha256) => "SCRAM-SHA-256",
        Some(SaslMechanism::ScramSha512) | None => "SCRAM-SHA-512",
    }
}

fn lines(settings: &[(String, String)], line: impl Fn(&str, &str) -> String) -> String {
    settings.iter().map(|(key, value)| line(key, value) + "\n").collect()
}

type Settings = Vec<(String, String)>;

fn own(settings: &[(&str, &str)]) -> Settings {
    settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

impl Endpoint<'_> {
    fn tls(&self) -> bool {
        matches!(self.protocol, SecurityProtocol::Ssl | SecurityProtocol::SaslSsl)
    }

    fn sasl(&self) -> bool {
        matches!(self.protocol, SecurityProtocol::SaslPlaintext | SecurityProtocol::SaslSsl)
    }

    /// Keys of the Java client; PEM truststores since 2.7 (KIP-651).
    fn java(&self) -> Settings {
        let protocol = self.protocol.to_string();
        let mut settings = own(&[("bootstrap.servers", self.servers), ("security.protocol", &protocol)]);
        if self.sasl() {
            let module = match self.mechanism {
                "PLAIN" => "org.apache.kafka.common.security.plain.PlainLoginModule",
                _ => "org.apache.kafka.common.security.scram.ScramLoginModule",
            };
            let login = format!("{module} required username=\"{USER}\" password=\"{PASSWORD}\";");
            settings.extend(own(&[("sasl.mechanism", self.mechanism), ("sasl.jaas.config", &login)]));
        }
        if self.tls() {
            settings.extend(own(&[("ssl.truststore.type", "PEM"), ("ssl.truststore.location", AUTHORITY)]));
        }
        settings
    }

    /// Keys of librdkafka.
    fn librdkafka(&self) -> Settings {
        let mut settings = own(&[("bootstrap.servers", self.servers)]);
        settings.extend(self.librdkafka_security());
        settings
    }

    fn librdkafka_security(&self) -> Settings {
        let protocol = self.protocol.to_string();
        let mut settings = own(&[("security.protocol", &protocol)]);
        if self.sasl() {
            settings.extend(own(&[
                ("sasl.mechanism", self.mechanism),
                ("sasl.username", USER),
                ("sasl.password", PASSWORD),
            ]));
        }
        if self.tls() {
            settings.extend(own(&[("ssl.ca.location", AUTHORITY)]));
        }
        settings
    }

    fn kcat(&self) -> String {
        let settings = self.librdkafka_security();
        let options: String =
            settings.iter().map(|(key, value)| format!(" \\\n  -X {key}={value}")).collect();
        format!("kcat -L -b {}{options}\n", self.servers)
    }

    fn flink(&self, topic: &str) -> String {
        let mut options = own(&[("connector", "kafka"), ("topic", topic)]);
        // The jar for SQL has Kafka's classes under a name of its own.
        let shaded = |value: String| match value.strip_prefix("org.apache.kafka.") {
            Some(class) => format!("org.apache.flink.kafka.shaded.org.apache.kafka.{class}"),
            None => value,
        };
        options
            .extend(self.java().into_iter().map(|(key, value)| (format!("properties.{key}"), shaded(value))));
        options.extend(own(&[
            ("properties.group.id", "GROUP"),
            ("scan.startup.mode", "earliest-offset"),
            ("format", "json"),
        ]));
        let options: Vec<String> = options
            .iter()
            .map(|(key, value)| format!("  '{key}' = '{}'", value.replace('\'', "''")))
            .collect();
        format!("CREATE TABLE TABLE_NAME (\n  COLUMN_NAME STRING\n) WITH (\n{}\n);\n", options.join(",\n"))
    }

    fn starrocks(&self, topic: &str) -> String {
        let mut source = own(&[("kafka_broker_list", self.servers), ("kafka_topic", topic)]);
        source.extend(self.librdkafka_security().into_iter().map(|(key, value)| {
            // A file that the database was given: CREATE FILE "ca.crt" IN DATABASE ...
            let value = if key == "ssl.ca.location" { "FILE:ca.crt".to_owned() } else { value };
            (format!("property.{key}"), value)
        }));
        source.extend(own(&[("property.kafka_default_offsets", "OFFSET_BEGINNING")]));
        let source: Vec<String> =
            source.iter().map(|(key, value)| format!("  \"{key}\" = \"{value}\"")).collect();
        format!(
            "CREATE ROUTINE LOAD DATABASE_NAME.JOB_NAME ON TABLE_NAME\nPROPERTIES\n(\n  \"format\" = \"json\"\n)\nFROM KAFKA\n(\n{}\n);\n",
            source.join(",\n")
        )
    }

    fn druid(&self, topic: &str) -> Result<String, String> {
        let consumer: serde_json::Map<String, serde_json::Value> =
            self.java().into_iter().map(|(key, value)| (key, json!(value))).collect();
        let spec = json!({"type": "kafka", "spec": {
            "dataSchema": {
                "dataSource": "DATASOURCE_NAME",
                "timestampSpec": {"column": "timestamp", "format": "auto"},
                "dimensionsSpec": {"useSchemaDiscovery": true},
            },
            "ioConfig": {
                "topic": topic, "inputFormat": {"type": "json"}, "useEarliestOffset": true,
                "consumerProperties": consumer,
            },
            "tuningConfig": {"type": "kafka"},
        }});
        serde_json::to_string_pretty(&spec).map(|text| text + "\n").map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::super::tests::{object, transcript};
    use super::*;

    #[test]
    fn every_client_has_its_form_with_and_without_protection() {
        for client in ClientKind::value_variants() {
            let mut text = String::new();
            for name in ["ready", "pod-addresses", "troubled"] {
                let form = render(&object(name), *client, "orders").expect("a form");
                text.push_str(&format!("==> {name} <==\n{form}"));
            }
            let name = client.to_possible_value().expect("a name").get_name().to_owned();
            transcript(&format!("bootstrap-{name}"), &text);
        }
    }

    #[test]
    fn before_every_broker_advertises_there_is_nothing_to_paste() {
        let error = render(&object("new"), ClientKind::Java, "t").expect_err("nothing yet");
        assert!(error.contains("not every broker of ydata/new advertises yet"), "{error}");
    }
}

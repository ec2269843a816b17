//! `kafka-external-access check`: the probe for a machine outside, without any right in Kubernetes.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, UdpSocket},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use clap::Args;
use serde_json::json;

use crate::{
    domain::{Endpoint, NodeId},
    kafka::{
        Brokers, KafkaError, KafkaFault, Sasl, SaslMechanism, SecretText, Security, Step, Target, Tls,
        admin::TcpBrokers, probe::Report,
    },
};

/// Checks every broker of a Kafka from where this runs, as a client would reach it.
#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    /// host:port list, as a client is given it
    #[arg(long, required = true, value_delimiter = ',')]
    pub bootstrap: Vec<Endpoint>,
    /// Limit for each step: seconds, as in 5 or 5s
    #[arg(long, default_value = "5s", value_parser = seconds)]
    pub timeout: Duration,
    /// PEM file of the authorities to trust; speaks TLS
    #[arg(long)]
    pub tls_ca: Option<std::path::PathBuf>,
    /// plain, scram-sha-256 or scram-sha-512; the password comes from the environment variable KAFKA_PASSWORD
    #[arg(long, requires = "sasl_username")]
    pub sasl: Option<Mechanism>,
    /// SASL user
    #[arg(long)]
    pub sasl_username: Option<String>,
    /// text or json
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: Output,
}

/// SASL mechanisms of the command line.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Mechanism {
    /// PLAIN
    Plain,
    /// SCRAM-SHA-256
    #[value(name = "scram-sha-256")]
    Scram256,
    /// SCRAM-SHA-512
    #[value(name = "scram-sha-512")]
    Scram512,
}

/// How the result is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number =
        text.strip_suffix('s').unwrap_or(text).parse().ok().filter(|seconds| (1..=300).contains(seconds));
    number.map(Duration::from_secs).ok_or_else(|| "1s to 300s".to_owned())
}

/// What one address turned out to be.
struct Finding {
    at: Endpoint,
    expected: Option<NodeId>,
    report: Result<Report, String>,
}

/// Runs the check. Exit code 0: every broker is reachable and is who it should be; 1: not; 2: wrong usage.
pub async fn run(args: CheckArgs) -> ExitCode {
    let ca = match &args.tls_ca {
        None => None,
        Some(file) => match std::fs::read_to_string(file) {
            Ok(pem) => Some(Arc::from(pem)),
            Err(error) => {
                eprintln!("error: {}: {error}", file.display());
                return ExitCode::from(2);
            }
        },
    };
    let checker = Checker { args: &args, ca };
    let mut findings = Vec::new();
    let mut table = BTreeMap::new();
    for at in &args.bootstrap {
        let finding = checker.probe(at.clone(), None).await;
        if let Ok(Report { outcome: Ok(view), .. }) = &finding.report {
            table = view.advertised.clone();
            break;
        }
        findings.push(finding);
    }
    for (node, endpoint) in &table {
        findings.push(checker.probe(endpoint.clone(), Some(*node)).await);
    }
    let good = !table.is_empty() && findings.iter().all(|finding| verdict(finding, &table).is_ok());
    match args.output {
        Output::Text => print_text(&findings, &table, good),
        Output::Json => print_json(&findings, &table, good),
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct Checker<'a> {
    args: &'a CheckArgs,
    ca: Option<Arc<str>>,
}

impl Checker<'_> {
    async fn probe(&self, at: Endpoint, expected: Option<NodeId>) -> Finding {
        let resolved = tokio::net::lookup_host((at.host.as_str(), at.port)).await;
        let address = resolved
            .map_err(|error| error.to_string())
            .and_then(|mut found| found.next().ok_or("no address".to_owned()));
        let report = match address {
            Ok(address) => Ok(TcpBrokers.probe(&self.target(address, &at.host)).await),
            Err(error) => Err(format!("{} does not resolve here: {error}", at.host)),
        };
        Finding { at, expected, report }
    }

    fn target(&self, at: SocketAddr, host: &str) -> Target {
        let tls =
            self.ca.clone().map(|ca_pem| Tls { server_name: host.to_owned(), ca_pem, identity_pem: None });
        let sasl = self.args.sasl.map(|mechanism| Sasl {
            mechanism: match mechanism {
                Mechanism::Plain => SaslMechanism::Plain,
                Mechanism::Scram256 => SaslMechanism::ScramSha256,
                Mechanism::Scram512 => SaslMechanism::ScramSha512,
            },
            username: self.args.sasl_username.clone().unwrap_or_default(),
            password: SecretText::new(std::env::var("KAFKA_PASSWORD").unwrap_or_default()),
        });
        Target { at, security: Security { tls, sasl }, step_timeout: self.args.timeout }
    }
}

/// What a person can do about it.
fn advice(error: &KafkaError) -> Option<&'static str> {
    match &error.fault {
        KafkaFault::TimedOut(_) if error.step == Step::Tcp => {
            Some("is the port open in the security group, and does a route lead there?")
        }
        KafkaFault::Refused => Some("the address leads somewhere, and nothing listens there"),
        KafkaFault::Certificate(_) => Some("compare --tls-ca and the names in the broker's certificate"),
        KafkaFault::Authentication(_) => Some("check --sasl, --sasl-username and KAFKA_PASSWORD"),
        KafkaFault::Authorization(_) => Some("the user needs DESCRIBE_CONFIGS on the cluster for this check"),
        KafkaFault::Protocol(_) => Some("check --tls-ca and --sasl against the listener's protocol"),
        _ => None,
    }
}

/// The sentence for a finding; `Err` when a client would notice.
fn verdict(finding: &Finding, table: &BTreeMap<NodeId, Endpoint>) -> Result<String, String> {
    let report = finding.report.as_ref().map_err(Clone::clone)?;
    let view = report.outcome.as_ref().map_err(|error| match advice(error) {
        Some(advice) => format!("{error}; {advice}"),
        None => error.to_string(),
    })?;
    if let Some(expected) = finding.expected.filter(|expected| *expected != view.node) {
        return Err(format!("leads to broker {} instead of broker {expected}", view.node));
    }
    if view.advertised != *table {
        return Err("shows another table of brokers than the first broker asked".to_owned());
    }
    let times: Vec<String> =
        report.passed.iter().map(|(step, took)| format!("{step} {} ms", took.as_millis())).collect();
    Ok(times.join(", "))
}

/// The address that packets to the first broker leave from; no packet is sent to find out.
fn seen_from(findings: &[Finding]) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let local = findings.first().and_then(|finding| {
        let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
        socket.connect((finding.at.host.as_str(), finding.at.port)).ok()?;
        Some(socket.local_addr().ok()?.ip().to_string())
    });
    format!("{} ({})", host.trim(), local.unwrap_or_else(|| "no route".to_owned()))
}

fn print_text(findings: &[Finding], table: &BTreeMap<NodeId, Endpoint>, good: bool) {
    println!("seen from {}", seen_from(findings));
    for finding in findings {
        let name = finding.expected.map_or("bootstrap".to_owned(), |node| format!("broker {node}"));
        match verdict(finding, table) {
            Ok(text) => println!("ok    {name} at {}: {text}", finding.at),
            Err(text) => println!("FAIL  {name} at {}: {text}", finding.at),
        }
    }
    let summary =
        if good { "every broker is reachable and is who it should be" } else { "clients here will fail" };
    println!("{}: {summary}", if good { "ok" } else { "FAIL" });
}

fn print_json(findings: &[Finding], table: &BTreeMap<NodeId, Endpoint>, good: bool) {
    let one = |finding: &Finding| {
        let verdict = verdict(finding, table);
        json!({
            "at": finding.at.to_string(),
            "broker": finding.expected,
            "ok": verdict.is_ok(),
            "text": verdict.unwrap_or_else(|error| error),
        })
    };
    let found: Vec<_> = findings.iter().map(one).collect();
    println!("{}", json!({"from": seen_from(findings), "ok": good, "brokers": found}));
}

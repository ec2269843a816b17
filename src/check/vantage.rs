//! The probe for a machine outside. It needs a right in Kubernetes only where it reports: `patch` on one ConfigMap.

use std::{collections::BTreeMap, net::UdpSocket, process::ExitCode, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::{
    CheckArgs,
    findings::{Category, render},
};
use crate::{
    cli::{Output, connect::Dialer, failed, show},
    domain::{Endpoint, NodeId, innermost},
    kafka::{
        BrokerView, Brokers, KafkaError, KafkaFault, Step,
        admin::TcpBrokers,
        probe::{Course, Report, ends_soon},
        sighting::{self, Asked, Sighting},
    },
    runtime::clock::SystemClock,
    seams::Clock,
};

/// What one address turned out to be.
struct Finding {
    at: Endpoint,
    expected: Option<NodeId>,
    report: Result<Report, String>,
}

/// Runs the check. Exit code 0: every broker is reachable and is who it should be; 1: not; 2: wrong usage.
pub async fn run(args: CheckArgs) -> ExitCode {
    let dialer = match args.connect.dialer() {
        Ok(dialer) => dialer,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    let checker = Checker { args: &args, dialer };
    let reporter = match reporter(&args).await {
        Ok(reporter) => reporter,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    loop {
        let checked = checker.check().await;
        match args.output {
            // One line for each check, for who reads them as they come.
            Output::Json => println!("{}", in_json(&checked)),
            output => match output.of(&in_json(&checked), || render(&[in_words(&checked)])) {
                Ok(text) => show(&text),
                Err(error) => return failed(error),
            },
        }
        let mut told = true;
        if let Some((maps, name)) = &reporter
            && let Err(error) = report(maps, name, &checked).await
        {
            eprintln!("error: {error}");
            told = false;
        }
        match args.every {
            Some(pause) => SystemClock::default().sleep(pause).await,
            None if checked.good && told => return ExitCode::SUCCESS,
            None => return ExitCode::FAILURE,
        }
    }
}

/// Everything that one check found.
struct Checked {
    findings: Vec<Finding>,
    table: BTreeMap<NodeId, Endpoint>,
    good: bool,
}

/// Where to report to.
async fn reporter(args: &CheckArgs) -> Result<Option<(Api<ConfigMap>, String)>, String> {
    let Some(key) = &args.report else { return Ok(None) };
    let cluster = args.cluster.open().await?;
    Ok(Some((Api::namespaced(cluster.client, &key.namespace), sighting::config_map(&key.name))))
}

/// One merge patch of this machine's own key.
async fn report(maps: &Api<ConfigMap>, name: &str, checked: &Checked) -> Result<(), String> {
    let sighting = sighting(checked, SystemClock::default().now());
    let value = serde_json::to_string(&sighting).map_err(|error| error.to_string())?;
    let patch = Patch::Merge(json!({"data": {machine(): value}}));
    match maps.patch_metadata(name, &PatchParams::default(), &patch).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => {
            Err(format!("ConfigMap {name} does not exist; create it once: kubectl create configmap {name}"))
        }
        Err(kube::Error::Api(status)) => {
            Err(format!("what was seen could not be reported: {}", status.message))
        }
        Err(error) => Err(format!("what was seen could not be reported: {}", innermost(&error))),
    }
}

fn sighting(checked: &Checked, at: Timestamp) -> Sighting {
    let Checked { findings, table, .. } = checked;
    let asked = findings.iter().filter_map(|finding| {
        let answered = finding.view().map(|view| view.node.0);
        // Who answers instead is told as such, not as an error.
        let other = answered.is_some_and(|answered| Some(NodeId(answered)) != finding.expected);
        let error = verdict(finding, table).err().filter(|_| !other).map(|wrong| wrong.to_string());
        let course = finding.report.as_ref().map(Course::of).unwrap_or_default();
        let certificate_ends = finding.certificate_ends();
        let seconds = |(step, took): (&Step, &Duration)| (step.to_string(), took.as_secs_f64());
        let passed = course.passed.iter().map(seconds).collect();
        let failed = course.failed.map(|(step, fault)| (step.to_string(), fault.to_owned()));
        Some((finding.expected?.0, Asked { answered, error, certificate_ends, passed, failed }))
    });
    let nobody = || {
        let first = findings.first()?;
        Some(format!("{}: {}", first.at, verdict(first, table).err()?))
    };
    Sighting {
        at,
        from: seen_from(findings),
        error: if table.is_empty() { nobody() } else { None },
        table: table.iter().map(|(node, endpoint)| (node.0, endpoint.to_string())).collect(),
        brokers: asked.collect(),
    }
}

impl Checker<'_> {
    async fn check(&self) -> Checked {
        let mut findings = Vec::new();
        let mut table = BTreeMap::new();
        for at in &self.args.bootstrap {
            let finding = self.probe(at.clone(), None).await;
            if let Some(view) = finding.view() {
                table = view.advertised.clone();
                break;
            }
            findings.push(finding);
        }
        for (node, endpoint) in &table {
            findings.push(self.probe(endpoint.clone(), Some(*node)).await);
        }
        let good = !table.is_empty() && findings.iter().all(|finding| verdict(finding, &table).is_ok());
        Checked { findings, table, good }
    }
}

impl Finding {
    /// The broker that answered.
    fn view(&self) -> Option<&BrokerView> {
        self.report.as_ref().ok()?.outcome.as_ref().ok()
    }

    fn certificate_ends(&self) -> Option<Timestamp> {
        self.report.as_ref().ok()?.certificate_ends
    }
}

struct Checker<'a> {
    args: &'a CheckArgs,
    dialer: Dialer,
}

impl Checker<'_> {
    async fn probe(&self, at: Endpoint, expected: Option<NodeId>) -> Finding {
        let resolved = tokio::net::lookup_host((at.host.as_str(), at.port)).await;
        let address = resolved
            .map_err(|error| error.to_string())
            .and_then(|mut found| found.next().ok_or("no address".to_owned()));
        let report = match address {
            Ok(address) => Ok(TcpBrokers.probe(&self.dialer.target(address, &at.host)).await),
            Err(error) => Err(format!("{} does not resolve here: {error}", at.host)),
        };
        Finding { at, expected, report }
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
        KafkaFault::CertificateExpired(_) => Some("renew the broker's certificate"),
        KafkaFault::Authentication(_) => Some("check --sasl, --sasl-username and KAFKA_PASSWORD"),
        KafkaFault::Authorization(_) => Some("the user needs DESCRIBE_CONFIGS on the cluster for this check"),
        KafkaFault::Protocol(_) => Some("check --tls-ca and --sasl against the listener's protocol"),
        _ => None,
    }
}

/// What a client would notice.
struct Wrong {
    text: String,
    remedy: Option<&'static str>,
}

impl From<String> for Wrong {
    fn from(text: String) -> Self {
        Self { text, remedy: None }
    }
}

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.remedy {
            Some(remedy) => write!(f, "{}; {remedy}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

/// The sentence for a finding; `Err` when a client would notice.
fn verdict(finding: &Finding, table: &BTreeMap<NodeId, Endpoint>) -> Result<String, Wrong> {
    let report = finding.report.as_ref().map_err(Clone::clone)?;
    let wrong = |error: &KafkaError| Wrong { text: error.to_string(), remedy: advice(error) };
    let view = report.outcome.as_ref().map_err(wrong)?;
    if let Some(expected) = finding.expected.filter(|expected| *expected != view.node) {
        return Err(format!("leads to broker {} instead of broker {expected}", view.node).into());
    }
    if view.advertised != *table {
        return Err("shows another table of brokers than the first broker asked".to_owned().into());
    }
    let times: Vec<String> =
        report.passed.iter().map(|(step, took)| format!("{step} {} ms", took.as_millis())).collect();
    Ok(times.join(", "))
}

/// The name of this machine, as a ConfigMap takes it for a key.
fn machine() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let name: String = host.trim().chars().filter(|c| fits(*c)).take(200).collect();
    if name.is_empty() { "machine".to_owned() } else { name }
}

/// The address that packets to the first broker leave from; no packet is sent to find out.
fn seen_from(findings: &[Finding]) -> String {
    let host = machine();
    let local = findings.first().and_then(|finding| {
        let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
        socket.connect((finding.at.host.as_str(), finding.at.port)).ok()?;
        Some(socket.local_addr().ok()?.ip().to_string())
    });
    format!("{host} ({})", local.unwrap_or_else(|| "no route".to_owned()))
}

fn in_words(checked: &Checked) -> Category {
    let Checked { findings, table, good } = checked;
    let mut seen = Category::new(format!("seen from {}", seen_from(findings)));
    for finding in findings {
        let name = finding.expected.map_or("bootstrap".to_owned(), |node| format!("broker {node}"));
        match verdict(finding, table) {
            Ok(text) => {
                let text = format!("{name} at {}: {text}", finding.at);
                match finding.certificate_ends() {
                    None => seen.good(text),
                    Some(ends) => {
                        let text = format!("{text}; its certificate ends on {}", ends.strftime("%F"));
                        match ends_soon(ends, SystemClock::default().now()) {
                            true => seen.warn(text, "Renew the certificate before that day."),
                            false => seen.good(text),
                        }
                    }
                }
            }
            Err(Wrong { text, remedy }) => {
                seen.bad(format!("{name} at {}: {text}", finding.at), remedy.unwrap_or_default());
            }
        }
    }
    match good {
        true => seen.good("every broker is reachable and is who it should be"),
        false => seen.bad("clients here will fail", ""),
    }
    seen
}

fn in_json(checked: &Checked) -> serde_json::Value {
    let Checked { findings, table, good } = checked;
    let one = |finding: &Finding| {
        let verdict = verdict(finding, table);
        json!({
            "at": finding.at.to_string(),
            "broker": finding.expected,
            "ok": verdict.is_ok(),
            "certificateEnds": finding.certificate_ends(),
            "text": verdict.unwrap_or_else(|wrong| wrong.to_string()),
        })
    };
    let found: Vec<_> = findings.iter().map(one).collect();
    json!({"from": seen_from(findings), "ok": good, "brokers": found})
}

#[cfg(test)]
mod tests {
    use regex::Regex;

    use super::*;
    use crate::kafka::MetadataMode;

    const README: &str = include_str!("../../README.md");
    const HEADING: &str = "== on the virtual machine: kafka-external-access check\n";

    /// Three brokers, of which the first answers to the first identity that it is asked by.
    fn checked() -> Checked {
        let at = |node: i32| Endpoint { host: format!("203.0.113.{}", 10 + node), port: 9094 };
        let table: BTreeMap<NodeId, Endpoint> = (0..3).map(|node| (NodeId(node), at(node))).collect();
        let finding = |node: i32| {
            let asked = if node == 0 { 1 } else { 2 };
            let steps = [Step::Tcp, Step::ApiVersions, Step::DescribeCluster];
            let steps = steps.into_iter().chain(std::iter::repeat_n(Step::DescribeConfigs, asked));
            let view = BrokerView {
                node: NodeId(node),
                cluster: "cluster".to_owned(),
                advertised: table.clone(),
                settings: BTreeMap::new(),
                mode: MetadataMode::ZooKeeper,
            };
            let report = Report {
                passed: steps.map(|step| (step, Duration::from_millis(1))).collect(),
                outcome: Ok(view),
                certificate_ends: None,
            };
            Finding { at: at(node), expected: Some(NodeId(node)), report: Ok(report) }
        };
        Checked { findings: (0..3).map(finding).collect(), table, good: true }
    }

    /// Without what differs from run to run.
    fn shape(text: &str) -> String {
        let mut shape = text.trim_end().to_owned();
        for (varying, word) in [
            (r"seen from \S+ \([^)]*\)", "seen from MACHINE"),
            (r"\d+ ms", "TIME"),
            (r"\d+\.\d+\.\d+\.\d+", "ADDRESS"),
        ] {
            shape = Regex::new(varying).expect("a pattern").replace_all(&shape, word).into_owned();
        }
        shape
    }

    #[test]
    fn the_readme_shows_a_check_as_it_is_printed() {
        let shown = README.split_once(HEADING).and_then(|(_, rest)| rest.split_once("```"));
        let (shown, _) = shown.expect("a transcript of check in README.md");
        let printed = anstream::adapter::strip_str(&render(&[in_words(&checked())])).to_string();
        assert_eq!(shape(shown), shape(&printed));
    }
}

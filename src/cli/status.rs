//! `status`: what an object has come to, as a tree: broker, pod, node, address, what is advertised, what is reached.

use std::{fmt::Write, process::ExitCode, time::Duration};

use clap::Args;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;

use super::{
    Output,
    cluster::ClusterArgs,
    failed, show,
    style::{ASIDE, HEADING, Mark, bar, clear, paint},
};
use crate::{
    api::{BrokerBandwidth, BrokerState, BrokerStatus, KafkaExternalAccess, conditions::ConditionType},
    runtime::{clock::SystemClock, interval},
    seams::Clock,
};

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(2);

/// Shows what objects have come to.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Exit codes: 0 every object is Ready, 1 one is not, or that cannot be told, 2 wrong usage"
)]
pub struct StatusArgs {
    /// Name of the object. Default: all of the namespace
    pub name: Option<String>,
    /// Which cluster
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// All namespaces
    #[arg(short = 'A', long, conflicts_with_all = ["name", "namespace"])]
    pub all_namespaces: bool,
    /// Show each change, until the program is ended
    #[arg(short, long, conflicts_with = "wait")]
    pub watch: bool,
    /// Wait until every object is Ready
    #[arg(long)]
    pub wait: bool,
    /// How long to wait, for example 30s or 5m
    #[arg(long, default_value = "5m", value_parser = interval, requires = "wait")]
    pub timeout: Duration,
    /// text, json or yaml
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: Output,
}

/// Runs the command.
pub async fn run(args: StatusArgs) -> ExitCode {
    let cluster = match args.cluster.open().await {
        Ok(cluster) => cluster,
        Err(error) => return failed(error),
    };
    let clock = SystemClock::default();
    let started = clock.monotonic();
    let mut shown = String::new();
    loop {
        let objects = cluster.objects(args.name.as_deref(), args.all_namespaces).await;
        let late = clock.monotonic().saturating_sub(started) >= args.timeout;
        let objects = match objects {
            Ok(objects) => objects,
            // Who waits or watches outlives an API server that restarts.
            Err(_) if args.watch || (args.wait && !late) => {
                clock.sleep(PAUSE).await;
                continue;
            }
            Err(error) => return failed(error),
        };
        let ready = !objects.is_empty() && objects.iter().all(is_ready);
        if args.wait && !ready && !late {
            clock.sleep(PAUSE).await;
            continue;
        }
        let text = match args.output.of(&plain(&objects), || render(&objects)) {
            Ok(text) => text,
            Err(error) => return failed(error),
        };
        if text != shown {
            show(&format!("{}{text}", if args.watch { clear() } else { "" }));
            shown = text;
        }
        if !args.watch {
            return if ready { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
        clock.sleep(PAUSE).await;
    }
}

/// Without what only the API server needs.
fn plain(objects: &[KafkaExternalAccess]) -> Vec<KafkaExternalAccess> {
    let without = |object: &KafkaExternalAccess| {
        let mut object = object.clone();
        object.metadata.managed_fields = None;
        object
    };
    objects.iter().map(without).collect()
}

/// Ready, and for the spec of now.
pub fn is_ready(object: &KafkaExternalAccess) -> bool {
    let Some(status) = &object.status else { return false };
    let ready = status.condition(ConditionType::Ready).is_some_and(|ready| ready.status == "True");
    ready && status.observed_generation == object.metadata.generation
}

/// Objects as trees.
pub fn render(objects: &[KafkaExternalAccess]) -> String {
    if objects.is_empty() {
        return "no KafkaExternalAccess here\n".to_owned();
    }
    objects.iter().map(one).collect::<Vec<_>>().join("\n")
}

// Writing to a String cannot fail.
fn one(object: &KafkaExternalAccess) -> String {
    let mut text = String::new();
    let key = format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any());
    let key = paint(HEADING, key);
    let Some(status) = object.status.as_ref().filter(|status| !status.conditions.is_empty()) else {
        return format!("{} {key}: no operator has looked at it yet\n", Mark::Warning);
    };
    let ready = status.condition(ConditionType::Ready);
    let sentence = ready.map(|ready| ready.message.as_str()).unwrap_or_default();
    let _ = writeln!(text, "{} {key}: {sentence}", mark_of(ready));
    if status.observed_generation != object.metadata.generation {
        let _ = writeln!(text, "  {} the spec is newer than what stands here", Mark::Warning);
    }
    let mut fact = |name: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            let _ = writeln!(text, "  {} {value}", paint(ASIDE, format!("{name:9}")));
        }
    };
    let summary = status.summary.clone().unwrap_or_default();
    fact("mode", Some(format!("{:?}", object.spec.mode)));
    fact("brokers", Some(format!("{} ready", summary.ready)));
    fact("bootstrap", status.bootstrap_servers.clone());
    fact("sends", summary.egress);
    fact("receives", summary.ingress);
    fact("cost", summary.cost.map(|cost| format!("{cost} a month")));
    for kind in [ConditionType::Accepted, ConditionType::Programmed, ConditionType::Reachable] {
        let condition = status.condition(kind).filter(|condition| condition.status != "True");
        // What Ready says already is not said again.
        let told = |c: &&Condition| ready.is_none_or(|ready| ready.message != c.message);
        if let Some(c) = condition.filter(told) {
            let _ = writeln!(text, "  {} {kind} {} {}: {}", mark_of(Some(c)), c.status, c.reason, c.message);
        }
    }
    for (index, broker) in status.brokers.iter().enumerate() {
        tree(&mut text, broker, index + 1 == status.brokers.len());
    }
    if !status.plan.is_empty() {
        let _ = writeln!(text, "  {}", paint(HEADING, "outstanding"));
    }
    for (index, step) in status.plan.iter().enumerate() {
        let _ = writeln!(text, "  {:3}. {step}", index + 1);
    }
    text
}

fn mark_of(condition: Option<&Condition>) -> Mark {
    match condition.map(|condition| condition.status.as_str()) {
        Some("True") => Mark::Good,
        Some("False") => Mark::Bad,
        _ => Mark::Warning,
    }
}

/// How a broker stands.
pub fn mark(broker: &BrokerStatus) -> Mark {
    let reached = broker.health.as_ref().map(|health| health.reachable.as_str());
    match (broker.state, reached) {
        (BrokerState::Refused, _) | (BrokerState::Ready, Some("False")) => Mark::Bad,
        (BrokerState::Ready, _) => Mark::Good,
        (BrokerState::Idle, _) => Mark::Idle,
        (BrokerState::Waiting | BrokerState::Releasing, _) => Mark::Warning,
    }
}

fn tree(text: &mut String, broker: &BrokerStatus, last: bool) {
    let (branch, trunk) = if last { ("└─", "  ") } else { ("├─", "│ ") };
    let (branch, trunk) = (paint(ASIDE, branch), paint(ASIDE, trunk));
    let name = broker.node_id.map_or_else(|| "broker ?".to_owned(), |id| format!("broker {id}"));
    let steps = road(broker);
    let _ = writeln!(text, "  {branch} {} {}  {}", mark(broker), paint(HEADING, name), steps.join(" → "));
    let problem = broker.reason.as_ref().zip(broker.message.as_ref());
    let unreached =
        broker.health.as_ref().and_then(|health| health.reason.as_ref().zip(health.message.as_ref()));
    for (reason, message) in problem.into_iter().chain(unreached) {
        let _ = writeln!(text, "  {trunk}     {reason}: {message}");
    }
    for line in broker.bandwidth.iter().flat_map(carried) {
        let _ = writeln!(text, "  {trunk}     {line}");
    }
}

/// From the pod to the client, as far as it is known.
fn road(broker: &BrokerStatus) -> Vec<String> {
    let pod = broker.pod.clone().unwrap_or_else(|| format!("ordinal {}, no pod", broker.ordinal));
    let pod = match &broker.target {
        Some(target) => format!("{pod} ({target})"),
        None => pod,
    };
    let node = broker.node.as_ref().map(|node| format!("on {node}"));
    let whose = if broker.adopted == Some(true) { " (yours)" } else { "" };
    let address = broker.address.as_ref().map(|address| format!("{address}{whose}"));
    let advertised = broker.advertised.as_ref().map(|advertised| format!("advertises {advertised}"));
    let reached = broker.health.as_ref().map(|health| {
        let word = match health.reachable.as_str() {
            "True" => "reached",
            "False" => "not reached",
            _ => return format!("{} cannot tell whether it is reached", health.from),
        };
        format!("{word}, seen by {}", health.from)
    });
    [Some(pod), node, address, advertised, reached].into_iter().flatten().collect()
}

fn carried(bandwidth: &BrokerBandwidth) -> Vec<String> {
    let line = |name: &str, used: Option<u32>, limit: Option<u32>| {
        let told = flow(used, limit)?;
        Some(format!("{} {told}", paint(ASIDE, format!("{name:8}"))))
    };
    let egress = line("sends", bandwidth.egress_mbps, bandwidth.limit_egress_mbps);
    let ingress = line("receives", bandwidth.ingress_mbps, bandwidth.limit_ingress_mbps);
    egress.into_iter().chain(ingress).collect()
}

/// One direction; `None`: nothing is known of it.
pub fn flow(used: Option<u32>, limit: Option<u32>) -> Option<String> {
    match (used, limit) {
        (Some(used), Some(limit)) => Some(format!("{} {used:>4} of {limit} Mbit/s", bar(used, limit))),
        (Some(used), None) => Some(format!("{used} Mbit/s, no limit is known")),
        (None, Some(limit)) => Some(format!("limited to {limit} Mbit/s, use is not known")),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{object, transcript};
    use super::*;

    #[test]
    fn objects_are_shown_as_trees() {
        for name in ["ready", "troubled", "pod-addresses", "new"] {
            transcript(&format!("status-{name}"), &render(&[object(name)]));
        }
        transcript("status-none", &render(&[]));
    }

    #[test]
    fn ready_is_who_is_ready_for_the_spec_of_now() {
        let mut ready = object("ready");
        assert!(is_ready(&ready));
        assert!(!is_ready(&object("troubled")) && !is_ready(&object("new")));
        ready.metadata.generation = Some(99);
        assert!(!is_ready(&ready));
        assert!(render(&[ready]).contains("the spec is newer"));
    }

    #[test]
    fn programs_are_given_the_object_without_managed_fields() {
        let mut object = object("ready");
        object.metadata.managed_fields = Some(Vec::new());
        let text = Output::Yaml.of(&plain(&[object]), String::new).expect("YAML");
        assert!(text.contains("bootstrapServers") && !text.contains("managedFields"), "{text}");
    }
}

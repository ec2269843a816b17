//! What can be told of an object before or while it is served: from what the operator would see, and from the cluster's topics.
//!
//! | seen | finding | because |
//! |---|---|---|
//! | a broker advertises an address on the internal listener | failed | clients that only know addresses lose the cluster when every pod has moved (KIP-899) |
//! | a broker lacks the listener for clients outside | failed | clients are told of it there, or not at all |
//! | no rule of a broker's security groups admits the served port from outside | failed | no client outside reaches the broker |
//! | no router that the project can see joins the pods' network with the external one | warning | the cloud binds no address without one; another project's may not be shown |
//! | a topic with one replica | warning | its records are away while its broker restarts or moves |
//! | replicas <= min.insync.replicas | warning | it takes no records while one broker is away; `rollout: Restart` is blocked |
//! | min.insync.replicas 1 beside several replicas | warning | a record that was acknowledged may be on one broker only |
//! | replicas that are not in sync | failed | the next broker that goes may take the last copy |

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use super::{
    findings::{Category, counted, listed},
    network::{self, Routed},
};
use crate::{
    api::{Rollout, conditions::Reason},
    cli::style::Mark,
    domain::Ordinal,
    kafka::{BrokerView, ClusterState, ListenerSetting, MetadataMode, Partition},
    listeners::text::Listeners,
    plan::{
        Plan, Problem, Verdict,
        desired::{Desired, WantedListener, WantedProvider},
        failure::{problem_of_cloud, problem_of_kafka},
        observed::{CloudState, CredentialProblem, Observed},
    },
};

/// Everything that was looked at.
pub struct Looked<'a> {
    /// What is wanted.
    pub desired: &'a Desired,
    /// What there is.
    pub observed: &'a Observed,
    /// What would be done.
    pub plan: &'a Plan,
    /// Floating IPs in use and allowed, where the cloud tells.
    pub quota: Option<(u64, Option<u64>)>,
    /// Which pods a router joins with the external network.
    pub routed: Routed,
}

/// All categories, in the order of the road.
pub fn categories(looked: &Looked<'_>) -> Vec<Category> {
    vec![kubernetes(looked), cloud(looked), brokers(looked), topics(looked), decided(looked)]
}

fn kubernetes(Looked { desired, observed, .. }: &Looked<'_>) -> Category {
    let mut found = Category::new("kubernetes");
    let Some(set) = &observed.stateful_set else {
        found.bad(
            format!("StatefulSet {} does not exist", desired.stateful_set),
            Reason::StatefulSetNotFound.remedy(),
        );
        return found;
    };
    let replicas = counted(set.replicas as usize, "replica");
    found.good(format!("StatefulSet {} has {replicas}", desired.stateful_set));
    let without: Vec<String> = set
        .ordinals()
        .filter(|ordinal| !observed.pods.get(ordinal).is_some_and(|pod| pod.ip.is_some() && !pod.terminating))
        .map(|ordinal| format!("{}-{ordinal}", desired.stateful_set))
        .collect();
    match without.is_empty() {
        true => found.good("every broker's pod has an address"),
        false => found.warn(
            format!("no address yet: {}", listed(&without)),
            "Wait for the pods, or see kubectl describe pod.",
        ),
    }
    match set.internal_port {
        Some(port) => found.good(format!(
            "the listener settings of the pod template are understood: {} on port {port}",
            desired.internal_listener
        )),
        None if !desired.bootstrap.is_empty() => found.warn(
            "the listener settings of the pod template are not understood; the port in kafka.bootstrapServers is used",
            Reason::ListenerSettingsNotUnderstood.remedy(),
        ),
        None => found.bad(
            format!("listener {} is not found in the pod template", desired.internal_listener),
            "Set kafka.internalListener, kafka.statefulSet.container or kafka.bootstrapServers.",
        ),
    }
    if set.host_network && desired.provider != WantedProvider::PodAddresses {
        found.bad("the pods use the node's network", Reason::HostNetworkRefused.remedy());
    }
    if let Some(manager) = &set.manager {
        let touched = desired.listener.as_ref().is_some_and(|listener| listener.rollout == Rollout::Restart);
        let text = format!("somebody keeps the StatefulSet as it is: {manager}");
        match touched {
            true => {
                found.warn(text, "With rollout: Restart, make the change there (rollout: Manual shows it).")
            }
            false => found.good(text),
        }
    }
    found
}

fn cloud(Looked { desired, observed, quota, routed, .. }: &Looked<'_>) -> Category {
    let mut found = Category::new("cloud");
    let view = match &observed.cloud {
        CloudState::NotUsed => return found,
        CloudState::NoCredential(CredentialProblem::SecretMissing { name }) => {
            found.bad(format!("Secret {name} does not exist"), Reason::SecretNotFound.remedy());
            return found;
        }
        CloudState::NoCredential(CredentialProblem::Malformed { name, problem }) => {
            found.bad(format!("Secret {name}: {problem}"), Reason::SecretMalformed.remedy());
            return found;
        }
        CloudState::Failed(error) => {
            let Problem { reason, message } = problem_of_cloud(error);
            found.bad(message, reason.remedy());
            return found;
        }
        CloudState::Seen(view) => view,
    };
    found.good(format!("the credential is accepted, for project {}", view.project));
    found.good(format!("the external network is there: {}", view.floating_network));
    let wanted = observed.stateful_set.as_ref().map_or(0, |set| u64::from(set.replicas));
    if let Some((used, Some(limit))) = quota {
        let text = format!("{used} of {limit} floating IPs of the quota are in use");
        match limit.saturating_sub(*used) {
            // Those that exist already are among the used ones.
            room if room >= wanted || !observed.own.status.brokers.is_empty() => found.good(text),
            room => found.bad(format!("{text}: room for {room} of {wanted}"), Reason::QuotaExceeded.remedy()),
        }
    }
    for (ordinal, ports) in &view.ports {
        let pod = format!("{}-{ordinal}", desired.stateful_set);
        match ports.as_slice() {
            [port] if port.project == view.project => {}
            [] => found.bad(format!("{pod} has no port in the project"), Reason::PodWithoutPort.remedy()),
            [port] => found.bad(
                format!("{pod}'s port belongs to project {}", port.project),
                Reason::PortOfAnotherProject.remedy(),
            ),
            _ => found.bad(format!("{pod} has several ports"), Reason::PortAmbiguous.remedy()),
        }
    }
    network::routers(&mut found, &desired.stateful_set, &network::targets(observed), routed);
    network::groups(&mut found, desired, observed, view);
    found
}

fn brokers(Looked { desired, observed, .. }: &Looked<'_>) -> Category {
    let mut found = Category::new("brokers");
    let Some(kafka) = &observed.kafka else { return found };
    let mut answering: Vec<(Ordinal, &BrokerView)> = Vec::new();
    for (ordinal, view) in &kafka.internal {
        match view {
            Ok(view) => answering.push((*ordinal, view)),
            Err(error) => {
                let Problem { reason, message } = problem_of_kafka(error);
                found.bad(format!("{}-{ordinal}: {message}", desired.stateful_set), reason.remedy());
            }
        }
    }
    if answering.is_empty() {
        return found;
    }
    let internal = &desired.internal_listener;
    found.good(format!("answering on {internal}: {}", counted(answering.len(), "broker")));
    let addresses: Vec<String> = answering
        .iter()
        .filter_map(|(_, view)| view.advertised.get(&view.node))
        .filter(|endpoint| endpoint.host.parse::<Ipv4Addr>().is_ok())
        .map(ToString::to_string)
        .collect();
    match addresses.is_empty() {
        true => found.good(format!("{internal} advertises names")),
        false => found.bad(
            format!("{internal} advertises addresses: {}; clients lose the cluster when every pod has moved (KIP-899)", listed(&addresses)),
            Reason::PodAddressAdvertised.remedy(),
        ),
    }
    let unregistered: Vec<String> = answering
        .iter()
        .filter(|(_, view)| !view.advertised.contains_key(&view.node))
        .map(|(ordinal, _)| format!("{}-{ordinal}", desired.stateful_set))
        .collect();
    if !unregistered.is_empty() {
        found.bad(
            format!("not in the table that clients are told: {}", listed(&unregistered)),
            Reason::BrokerNotRegistered.remedy(),
        );
    }
    if let Some(listener) = &desired.listener {
        outside(&mut found, desired, listener, &answering);
    }
    found
}

fn outside(
    found: &mut Category,
    desired: &Desired,
    listener: &WantedListener,
    answering: &[(Ordinal, &BrokerView)],
) {
    let has = |view: &BrokerView| {
        let advertised = view.setting(ListenerSetting::AdvertisedListeners).effective.unwrap_or_default();
        Listeners::parse(&advertised).unwrap_or_default().get(&listener.name).is_some()
    };
    let without: Vec<String> = answering
        .iter()
        .filter(|(_, view)| !has(view))
        .map(|(ordinal, _)| format!("{}-{ordinal}", desired.stateful_set))
        .collect();
    let live = answering.iter().all(|(_, view)| view.mode == MetadataMode::ZooKeeper);
    let remedy = match (listener.rollout, live) {
        (Rollout::Manual, _) => "Apply the steps of kafka-external-access plan.",
        (Rollout::Restart, _) => {
            "The operator restarts them one after the other; see kafka-external-access plan."
        }
        (Rollout::Auto | Rollout::Dynamic, true) => {
            "The operator adds it while they run; see kafka-external-access plan."
        }
        (Rollout::Auto | Rollout::Dynamic, false) => Reason::RestartRequired.remedy(),
    };
    match without.is_empty() {
        true => found.good(format!("every broker has {}", listener.name)),
        false if without.len() == answering.len() => {
            found.warn(format!("no broker has {} yet", listener.name), remedy)
        }
        false => found.bad(format!("without {}: {}", listener.name, listed(&without)), remedy),
    }
}

fn topics(Looked { observed, .. }: &Looked<'_>) -> Category {
    let mut found = Category::new("topics");
    let Some(cluster) = observed.kafka.as_ref().and_then(|kafka| kafka.cluster.as_ref()) else {
        return found;
    };
    let cluster: &ClusterState = match cluster {
        Ok(cluster) => cluster,
        Err(error) => {
            let Problem { reason, message } = problem_of_kafka(error);
            found.warn(format!("topics cannot be looked at: {message}"), reason.remedy());
            return found;
        }
    };
    if cluster.partitions.is_empty() {
        found.good("there are no topics");
        return found;
    }
    let of = |wanted: &dyn Fn(&Partition) -> bool| -> Vec<String> {
        let names: BTreeSet<String> =
            cluster.partitions.iter().filter(|p| wanted(p)).map(|p| p.topic.clone()).collect();
        names.into_iter().collect()
    };
    let behind = of(&|p| p.in_sync.len() < p.replicas.len());
    match behind.is_empty() {
        true => found.good("every replica is in sync"),
        false => found.bad(
            format!("replicas are not in sync: {}", listed(&behind)),
            "See the brokers' logs; wait until they have caught up before anything restarts.",
        ),
    }
    let single = of(&|p| p.replicas.len() == 1);
    match single.is_empty() {
        true => found.good("every topic has several replicas"),
        false => found.warn(
            format!("one replica only: {}", listed(&single)),
            "Add replicas (kafka-reassign-partitions), and set default.replication.factor: 3.",
        ),
    }
    let tight = of(&|p| p.replicas.len() > 1 && p.replicas.len() as u64 <= u64::from(p.min_in_sync));
    if !tight.is_empty() {
        found.warn(
            format!(
                "take no records while one broker is away (replicas <= min.insync.replicas): {}",
                listed(&tight)
            ),
            "Add a replica, or set min.insync.replicas to one less than the replicas.",
        );
    }
    let loose = of(&|p| p.replicas.len() > 1 && p.min_in_sync <= 1);
    if !loose.is_empty() {
        found.warn(
            format!(
                "an acknowledged record may be on one broker only (min.insync.replicas 1): {}",
                listed(&loose)
            ),
            "Set min.insync.replicas: 2, and acks=all in producers.",
        );
    }
    found
}

/// What the operator would say.
fn decided(Looked { desired, plan, .. }: &Looked<'_>) -> Category {
    let mut found = Category::new("operator");
    for Problem { reason, message } in &plan.problems {
        found.bad(format!("{reason}: {message}"), reason.remedy());
    }
    for Problem { reason, message } in &plan.warnings {
        found.warn(format!("{reason}: {message}"), reason.remedy());
    }
    let mut told = BTreeMap::new();
    for (ordinal, verdict) in &plan.brokers {
        if let Verdict::Refused(problem) = verdict {
            let pods: &mut Vec<String> = told.entry((problem.reason, problem.message.clone())).or_default();
            pods.push(format!("{}-{ordinal}", desired.stateful_set));
        }
    }
    for ((reason, message), pods) in told {
        found.bad(format!("{}: {reason}: {message}", listed(&pods)), reason.remedy());
    }
    match plan.outstanding.len() {
        0 if found.findings.iter().all(|finding| finding.mark != Mark::Bad) => {
            found.good("nothing is outstanding");
        }
        0 => {}
        steps => found.warn(
            format!("outstanding: {}", counted(steps, "step")),
            "See them: kafka-external-access plan.",
        ),
    }
    found
}

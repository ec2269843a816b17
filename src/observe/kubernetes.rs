//! Objects of the API server in the words of the planner.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{ConfigMap, Container, Pod, PodSpec},
};
use kube::{Resource, ResourceExt, core::Selector};

use super::{Observer, manager::manager};
use crate::{
    api::{FINALIZER, KafkaExternalAccess, KafkaExternalAccessSpec, Rollout},
    domain::{AccessKey, Ordinal, Uid},
    kubernetes::{KubernetesError, Listed},
    listeners::{
        restart::{file, template},
        text::Listeners,
    },
    plan::{
        PodIdentity,
        desired::Desired,
        observed::{MOST_BROKERS, Observed, OtherAccess, Own, PodView, StatefulSetView, Wants},
        ownership,
    },
    reach::never_a_host,
};

/// What the API server shows.
pub struct Seen {
    pub others: Vec<OtherAccess>,
    pub stateful_set: Option<StatefulSetView>,
    pub pods: BTreeMap<Ordinal, PodView>,
    pub files: Option<ConfigMap>,
}

impl Observer {
    pub(super) async fn observe_kubernetes(
        &self,
        desired: &Desired,
        deleting: bool,
    ) -> Result<Seen, KubernetesError> {
        let namespace = &desired.key.namespace;
        let (objects, set) = futures::try_join!(
            self.kubernetes.accesses(),
            self.kubernetes.stateful_set(namespace, &desired.stateful_set)
        )?;
        let others = objects.iter().map(other).collect();
        let Some(set) = set else {
            return Ok(Seen { others, stateful_set: None, pods: BTreeMap::new(), files: None });
        };
        let selector = selector(&set);
        let pods = self.kubernetes.pods(namespace, &selector).await?;
        let owned = |pod: &&Pod| {
            pod.owner_references().iter().any(|o| o.kind == "StatefulSet" && o.name == set.name_any())
        };
        let pods = pods.iter().filter(owned).filter_map(|pod| pod_view(pod, &desired.stateful_set)).collect();
        let restarts = desired.listener.as_ref().is_some_and(|listener| listener.rollout == Rollout::Restart);
        // What an earlier `Restart` has left there counts when addresses go.
        let files = match restarts || deleting && template::refers_to_files(&set) {
            true => self.kubernetes.config_map(namespace, &file::name(&desired.stateful_set)).await?,
            false => None,
        };
        Ok(Seen { others, stateful_set: Some(stateful_set_view(&set, desired)), pods, files })
    }

    /// Pods that live on without their StatefulSet (`--cascade=orphan`): found by the names of the brokers that have an
    /// address, by the status or by a marker in the cloud.
    pub(super) async fn pods_left_alone(
        &self,
        desired: &Desired,
        observed: &Observed,
    ) -> Result<BTreeMap<Ordinal, PodView>, KubernetesError> {
        let mut pods = BTreeMap::new();
        for ordinal in ownership::with_address(desired, observed) {
            let name = format!("{}-{ordinal}", desired.stateful_set);
            let pod = self.kubernetes.pod(&desired.key.namespace, &name).await?;
            pods.extend(pod.and_then(|pod| pod_view(&pod, &desired.stateful_set)));
        }
        Ok(pods)
    }
}

/// The object itself.
pub fn own(object: &KafkaExternalAccess) -> Own {
    Own {
        uid: Uid::new(object.uid().unwrap_or_default()),
        generation: object.metadata.generation.unwrap_or_default(),
        held: held(object),
        deleting: object.metadata.deletion_timestamp.is_some(),
        created_at: created_at(object),
        status: object.status.clone().unwrap_or_default(),
    }
}

/// Our finalizer is on it.
pub(super) fn held(of: &impl ResourceExt) -> bool {
    of.finalizers().iter().any(|finalizer| finalizer == FINALIZER)
}

fn created_at(object: &impl ResourceExt) -> Option<Timestamp> {
    object.meta().creation_timestamp.as_ref().map(|time| time.0)
}

/// What an object of this cluster wants, for the others.
pub fn other(object: &Listed) -> OtherAccess {
    OtherAccess {
        key: AccessKey { namespace: object.namespace().unwrap_or_default(), name: object.name_any() },
        uid: Uid::new(object.uid().unwrap_or_default()),
        created_at: created_at(object),
        deleting: object.meta().deletion_timestamp.is_some(),
        held: held(object),
        wants: object.0.as_ref().ok().map(|object| wants(&object.spec)),
    }
}

fn wants(spec: &KafkaExternalAccessSpec) -> Wants {
    let listener = spec.listener.as_ref().map(|listener| listener.name.clone());
    let openstack = spec.own_openstack();
    Wants {
        target: (spec.kafka.stateful_set.name.clone(), listener),
        chosen_addresses: spec.brokers.iter().filter_map(|broker| broker.address).collect(),
        secret: openstack.map(|openstack| openstack.credentials_secret_ref.name.clone()),
        class: spec.class().map(str::to_owned),
    }
}

/// The StatefulSet's selector as the API takes it. The API server has checked it when it was written.
fn selector(set: &StatefulSet) -> String {
    let selector = set.spec.as_ref().map(|spec| spec.selector.clone()).unwrap_or_default();
    Selector::try_from(selector).map(|selector| selector.to_string()).unwrap_or_default()
}

/// A pod of the StatefulSet with this name, and its ordinal; `None`: not named as one.
pub fn pod_view(pod: &Pod, set: &str) -> Option<(Ordinal, PodView)> {
    let name = pod.name_any();
    let number = name.strip_prefix(set)?.strip_prefix('-')?;
    // As the StatefulSet controller writes it: `kafka-01` is another pod than `kafka-1`.
    let ordinal = number.parse::<u32>().ok().filter(|ordinal| ordinal.to_string() == number).map(Ordinal)?;
    // Its address is the node's, and an address outside would lead to the node.
    let on_node = pod.spec.as_ref().is_some_and(|spec| spec.host_network == Some(true));
    let status = pod.status.as_ref();
    let ended = status
        .and_then(|status| status.phase.as_deref())
        .is_some_and(|phase| ["Failed", "Succeeded"].contains(&phase));
    let ipv4 = |text: &str| text.parse::<Ipv4Addr>().ok().filter(|ip| never_a_host((*ip).into()).is_none());
    let first = status.and_then(|status| status.pod_ip.as_deref()).and_then(ipv4);
    let any = || status?.pod_ips.iter().flatten().find_map(|ip| ipv4(&ip.ip));
    let conditions = status.and_then(|status| status.conditions.as_ref());
    let view = PodView {
        identity: PodIdentity { name, uid: Uid::new(pod.uid().unwrap_or_default()) },
        node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        ip: first.or_else(any).filter(|_| !on_node),
        node_ip: status.and_then(|status| status.host_ip.as_deref()).and_then(ipv4),
        terminating: pod.metadata.deletion_timestamp.is_some() || ended,
        ready: conditions.into_iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True"),
        revision: pod.labels().get("controller-revision-hash").cloned(),
        reads_files: pod.spec.as_ref().is_some_and(template::reads_files),
    };
    Some((ordinal, view))
}

fn stateful_set_view(set: &StatefulSet, desired: &Desired) -> StatefulSetView {
    let spec = set.spec.as_ref();
    let pod = spec.and_then(|spec| spec.template.spec.clone()).unwrap_or_default();
    let container = broker_container(&pod, desired.container.as_deref());
    let listeners = container.and_then(listeners_of).unwrap_or_default();
    let ports = container.and_then(|container| container.ports.clone()).unwrap_or_default();
    let number = |port: i32| u16::try_from(port).ok();
    let declared = ports.iter().find(|port| {
        port.name.as_deref().is_some_and(|name| name.eq_ignore_ascii_case(&desired.internal_listener))
    });
    let internal = listeners.get(&desired.internal_listener).map(|listener| listener.port);
    // Those of its neighbours too: the address leads to the pod.
    let all_ports = pod.containers.iter().flat_map(|container| container.ports.iter().flatten());
    let listening: BTreeSet<u16> = all_ports.filter_map(|port| number(port.container_port)).collect();
    StatefulSetView {
        uid: Uid::new(set.uid().unwrap_or_default()),
        manager: manager(set),
        // Whoever may write a StatefulSet must not have the operator count to two billion.
        replicas: spec
            .and_then(|spec| spec.replicas)
            .and_then(|n| u32::try_from(n).ok())
            .unwrap_or(1)
            .min(MOST_BROKERS + 1),
        first_ordinal: spec
            .and_then(|spec| spec.ordinals.as_ref()?.start)
            .and_then(|n| u32::try_from(n).ok())
            .unwrap_or(0),
        service: spec.and_then(|spec| spec.service_name.clone()).unwrap_or_default(),
        object: Box::new(set.clone()),
        host_network: pod.host_network == Some(true),
        internal_port: internal.or_else(|| declared.and_then(|port| number(port.container_port))),
        listening_ports: listening
            .into_iter()
            .chain(listeners.iter().map(|listener| listener.port))
            .collect(),
    }
}

/// The named one, else the one that carries listener settings, else the only one.
fn broker_container<'a>(pod: &'a PodSpec, named: Option<&str>) -> Option<&'a Container> {
    if let Some(named) = named {
        return pod.containers.iter().find(|container| container.name == named);
    }
    let with_settings = pod.containers.iter().find(|container| listeners_of(container).is_some());
    with_settings.or(if pod.containers.len() == 1 { pod.containers.first() } else { None })
}

/// `listeners` from the environment (`KAFKA_LISTENERS`, `KAFKA_CFG_LISTENERS`) or from arguments
/// (`--override listeners=...`, within a shell line too).
fn listeners_of(container: &Container) -> Option<Listeners> {
    let from_environment = container.env.iter().flatten().find_map(|variable| {
        let named = ["KAFKA_LISTENERS", "KAFKA_CFG_LISTENERS"].contains(&variable.name.as_str());
        variable.value.as_deref().filter(|_| named)
    });
    let words = container.command.iter().flatten().chain(container.args.iter().flatten());
    let mut from_arguments = words.filter_map(|word| argument(word));
    let text = from_environment.or_else(|| from_arguments.next())?;
    Listeners::parse(text).ok()
}

fn argument(word: &str) -> Option<&str> {
    let marker = "listeners=";
    let own = word.match_indices(marker).find(|(at, _)| !word[..*at].ends_with('.'))?;
    let rest = &word[own.0 + marker.len()..];
    let rest = rest.trim_start_matches(['"', '\'']);
    rest.split(|c: char| c.is_whitespace() || c == '"' || c == '\'').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_that_pretends_to_be_a_broker_has_no_address() {
        let pod = |name: &str, spec: serde_json::Value, ip: &str| {
            let pod = serde_json::json!({"metadata": {"name": name}, "spec": spec, "status": {"podIP": ip}});
            pod_view(&serde_json::from_value(pod).expect("a pod"), "kafka")
                .map(|(ordinal, pod)| (ordinal.0, pod.ip))
        };
        let plain = || serde_json::json!({"containers": []});
        assert_eq!(pod("kafka-1", plain(), "10.0.0.1"), Some((1, Some([10, 0, 0, 1].into()))));
        for name in ["kafka-01", "kafka-+1", "kafka-1-0", "kafka--1", "other-1"] {
            assert_eq!(pod(name, plain(), "10.0.0.1"), None, "{name}");
        }
        let on_node = serde_json::json!({"containers": [], "hostNetwork": true});
        assert_eq!(pod("kafka-1", on_node, "10.0.0.1"), Some((1, None)), "the node's address");
        for ip in ["127.0.0.1", "169.254.169.254", "0.0.0.0", "100.100.100.200"] {
            assert_eq!(pod("kafka-1", plain(), ip), Some((1, None)), "{ip}");
        }
    }

    #[test]
    fn selectors_with_expressions_are_taken_over() {
        let set = serde_json::json!({"metadata": {}, "spec": {"serviceName": "s", "template": {}, "selector": {
            "matchLabels": {"app": "kafka"},
            "matchExpressions": [{"key": "tier", "operator": "In", "values": ["a", "b"]}]}}});
        let set: StatefulSet = serde_json::from_value(set).expect("a StatefulSet");
        assert_eq!(selector(&set), "app=kafka,tier in (a,b)");
    }

    #[test]
    fn ports_of_sidecars_are_reachable_through_the_address_as_well() {
        let object = serde_json::json!({
            "apiVersion": "kafkaaccess.dev/v1alpha1", "kind": "KafkaExternalAccess",
            "metadata": {"name": "a", "namespace": "b", "uid": "c"},
            "spec": {"kafka": {"statefulSet": {"name": "kafka"}}, "addresses": {"provider": {"type": "Static"}}}});
        let object: KafkaExternalAccess = serde_json::from_value(object).expect("an object");
        let set = serde_json::json!({"metadata": {}, "spec": {"serviceName": "s", "selector": {}, "template": {
            "spec": {"containers": [
                {"name": "kafka", "env": [{"name": "KAFKA_LISTENERS", "value": "INTERNAL://:9092"}]},
                {"name": "exporter", "ports": [{"containerPort": 9404}]}]}}}});
        let set: StatefulSet = serde_json::from_value(set).expect("a StatefulSet");
        let desired = crate::plan::desired::desired(&object, &crate::plan::class::Classes::default())
            .expect("a servable spec");
        let view = stateful_set_view(&set, &desired);
        assert_eq!((view.internal_port, view.listening_ports), (Some(9092), BTreeSet::from([9092, 9404])));
    }

    #[test]
    fn listeners_are_found_within_a_shell_line_and_not_confused_with_advertised_ones() {
        let line = "exec kafka.Kafka x.properties --override advertised.listeners=INTERNAL://$(POD_NAME):1 --override \"listeners=INTERNAL://:9092,B://:9093\" --override x=y";
        assert_eq!(argument(line), Some("INTERNAL://:9092,B://:9093"));
        assert_eq!(argument("--override advertised.listeners=A://b:1"), None);
    }
}

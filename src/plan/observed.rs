//! What was seen, in the words of the planner. `observe` makes it; nothing else reads the world.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::api::{apps::v1::StatefulSet, core::v1::ConfigMap};

use crate::{
    api::{BrokerStatus, KafkaExternalAccessStatus},
    cloud::{CloudError, FloatingIp, IngressRule, Port, limits::QosPolicy},
    domain::{AccessKey, ClusterId, NetworkId, Ordinal, ProjectId, Uid},
    kafka::{
        BrokerView, ClusterState, KafkaError, ListenerSetting,
        probe::{Course, Report},
        sighting::Seen,
        traffic::TrafficError,
    },
    listeners::restart::template,
    plan::{PodIdentity, cost::Prices, usage::Sample},
};

/// Everything that one decision rests on.
#[derive(Clone, Debug)]
pub struct Observed {
    /// This Kubernetes cluster.
    pub cluster: ClusterId,
    /// The object itself, as the API server shows it now.
    pub own: Own,
    /// Every object of the operator's scope: who else wants the same, and whose markers are alive.
    pub others: Vec<OtherAccess>,
    /// The StatefulSet; `None`: it does not exist.
    pub stateful_set: Option<StatefulSetView>,
    /// Its pods by ordinal.
    pub pods: BTreeMap<Ordinal, PodView>,
    /// The cloud.
    pub cloud: CloudState,
    /// The brokers; `None`: not asked yet in this reconcile.
    pub kafka: Option<KafkaState>,
    /// The ConfigMap with the brokers' files, read with `rollout: Restart`; `None`: it does not exist.
    pub files: Option<ConfigMap>,
    /// How much the listeners have carried, as far as it was read for this look.
    pub metering: Metering,
    /// What the cloud charges, as far as the operator was told.
    pub prices: Option<Prices>,
}

impl Observed {
    /// What the status says of a broker.
    pub fn recorded(&self, ordinal: Ordinal) -> Option<&BrokerStatus> {
        self.own.status.brokers.iter().find(|broker| broker.ordinal == ordinal.0)
    }

    /// This listener came into the pod template by us.
    pub fn in_template(&self, listener: &str) -> bool {
        self.stateful_set.as_ref().is_some_and(|set| template::is_ours(&set.object, listener))
    }
}

/// Readings of the brokers' byte counters.
#[derive(Clone, Debug, Default)]
pub struct Metering {
    /// Time between two readings.
    pub interval: Duration,
    /// Until the next one.
    pub due_in: Duration,
    /// What was read now; empty when it was not yet time.
    pub readings: BTreeMap<Ordinal, Result<Sample, TrafficError>>,
}

/// The object itself.
#[derive(Clone, Debug)]
pub struct Own {
    /// `metadata.uid`.
    pub uid: Uid,
    /// `metadata.generation`.
    pub generation: i64,
    /// Our finalizer is on it.
    pub held: bool,
    /// It is being deleted.
    pub deleting: bool,
    /// `metadata.creationTimestamp`; the older object wins.
    pub created_at: Option<Timestamp>,
    /// What we last reported. It may hold us back, never push us (I9).
    pub status: KafkaExternalAccessStatus,
}

/// Another object of the operator's scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherAccess {
    /// Namespace and name.
    pub key: AccessKey,
    /// UID.
    pub uid: Uid,
    /// When it was created.
    pub created_at: Option<Timestamp>,
    /// It is being deleted.
    pub deleting: bool,
    /// Our finalizer is on it. One without it has written nothing yet, and holds its Secret before it does.
    pub held: bool,
    /// What it wants; `None`: it cannot be read, so it may want anything.
    pub wants: Option<Wants>,
}

/// What another object wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// The StatefulSet and the listener name it wants (`None`: serves the internal listener).
    pub target: (String, Option<String>),
    /// Addresses it chose in its spec.
    pub chosen_addresses: BTreeSet<Ipv4Addr>,
    /// The Secret it uses, in its own namespace.
    pub secret: Option<String>,
    /// The class it uses instead.
    pub class: Option<String>,
}

/// What one object serves: the status has room for so many.
pub const MOST_BROKERS: u32 = 128;

/// The StatefulSet, as far as it matters.
#[derive(Clone, Debug, PartialEq)]
pub struct StatefulSetView {
    /// Its UID.
    pub uid: Uid,
    /// Who would undo a change of its template, in words with the place to change; `None`: nobody known.
    pub manager: Option<String>,
    /// Wanted replicas: ordinals `start .. start + replicas`. [`MOST_BROKERS`] + 1 stands for all that are more.
    pub replicas: u32,
    /// First ordinal (`spec.ordinals.start`).
    pub first_ordinal: u32,
    /// The pods use the node's network.
    pub host_network: bool,
    /// Port of the internal listener found in the pod template; `None`: settings not understood.
    pub internal_port: Option<u16>,
    /// Ports that the broker's container is known to listen on (declared, and from listener settings).
    pub listening_ports: BTreeSet<u16>,
    /// Name of its Service.
    pub service: String,
    /// The object itself, which `rollout: Restart` changes.
    pub object: Box<StatefulSet>,
}

impl StatefulSetView {
    /// Every ordinal that should exist.
    pub fn ordinals(&self) -> impl Iterator<Item = Ordinal> {
        (self.first_ordinal..self.first_ordinal.saturating_add(self.replicas)).map(Ordinal)
    }
}

/// One pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodView {
    /// Name and UID.
    pub identity: PodIdentity,
    /// The node it runs on.
    pub node: Option<String>,
    /// Its IPv4 address.
    pub ip: Option<Ipv4Addr>,
    /// The IPv4 address of its node.
    pub node_ip: Option<Ipv4Addr>,
    /// It is being deleted, or has ended.
    pub terminating: bool,
    /// Kubernetes calls it Ready.
    pub ready: bool,
    /// The revision of the template it was made from (label `controller-revision-hash`).
    pub revision: Option<String>,
    /// It has the ConfigMap of our files for a volume: without that it does not start again.
    pub reads_files: bool,
}

/// The cloud, or why it was not seen.
#[derive(Clone, Debug)]
pub enum CloudState {
    /// Provider Static: no call is made.
    NotUsed,
    /// The credential cannot be used.
    NoCredential(CredentialProblem),
    /// A read failed; nothing is decided from half a view.
    Failed(CloudError),
    /// Seen whole.
    Seen(Box<CloudView>),
}

impl CloudState {
    /// The view, where there is one.
    pub fn seen(&self) -> Option<&CloudView> {
        match self {
            Self::Seen(view) => Some(view),
            Self::NotUsed | Self::NoCredential(_) | Self::Failed(_) => None,
        }
    }
}

/// Why there is no usable credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialProblem {
    /// The Secret does not exist.
    SecretMissing {
        /// Its name.
        name: String,
    },
    /// A key is missing or wrong.
    Malformed {
        /// Its name.
        name: String,
        /// What is wrong, and what to do.
        problem: String,
    },
}

/// The cloud of one credential, read in this reconcile.
#[derive(Clone, Debug)]
pub struct CloudView {
    /// The project of the credential.
    pub project: ProjectId,
    /// The external network.
    pub floating_network: NetworkId,
    /// All floating IPs of the project.
    pub addresses: Vec<FloatingIp>,
    /// For each pod with an address: the ports that hold it.
    pub ports: BTreeMap<Ordinal, Vec<Port>>,
    /// Ingress rules of those ports' groups; an error is a warning, never a refusal.
    pub rules: Result<Vec<IngressRule>, CloudError>,
    /// The bandwidth policies that the spec or the status names, by name or identifier.
    pub policies: BTreeMap<String, Result<Vec<QosPolicy>, CloudError>>,
    /// Our finalizer is on the Secret.
    pub secret_held: bool,
    /// How long until this is too old to find what somebody has changed meanwhile.
    pub due_in: Duration,
}

/// The brokers, asked at their pods' addresses.
#[derive(Clone, Debug, Default)]
pub struct KafkaState {
    /// What each broker says over the internal listener.
    pub internal: BTreeMap<Ordinal, Result<BrokerView, KafkaError>>,
    /// Whether something accepts TCP at the listener's port in the pod; asked only while the listener is not in force.
    pub port_busy: BTreeMap<Ordinal, bool>,
    /// Last probe through the address.
    pub probes: BTreeMap<Ordinal, ProbeResult>,
    /// Every probe that was not known at the last look.
    pub probed: Vec<(Ordinal, ProbeResult)>,
    /// How long until they are to be probed again; `None`: nobody was, or others report.
    pub probes_due_in: Option<Duration>,
    /// What a restart would cost; `None`: not asked, because nobody is to restart.
    pub cluster: Option<Result<ClusterState, KafkaError>>,
}

impl KafkaState {
    /// The protocols of listeners as a broker's file or template has them.
    pub fn protocol_map(&self) -> Option<String> {
        let mut views = self.internal.values().filter_map(|view| view.as_ref().ok());
        views.find_map(|view| view.setting(ListenerSetting::SecurityProtocolMap).fixed)
    }
}

/// A probe through the address of a broker.
#[derive(Clone, Debug)]
pub struct ProbeResult {
    /// Who answered, and what it told; or why a client would fail.
    pub outcome: Result<Seen, String>,
    /// Through this address.
    pub through: Ipv4Addr,
    /// Where it was measured from.
    pub from: String,
    /// How far it came.
    pub course: Course,
}

impl ProbeResult {
    /// What the operator's own probe found.
    pub fn new(report: Report, through: Ipv4Addr, from: String) -> Self {
        let course = Course::of(&report);
        let certificate_ends = report.certificate_ends;
        let outcome = report.outcome.map(|view| Seen {
            node: view.node,
            advertised: view.advertised,
            certificate_ends,
        });
        Self { outcome: outcome.map_err(|error| error.to_string()), through, from, course }
    }
}

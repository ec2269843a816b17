//! Stands between the road and the simulated world: writes every call down, and can stop the road at any of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::StatefulSet,
    coordination::v1::Lease,
    core::v1::{ConfigMap, Pod, Secret},
    events::v1::Event,
};
use kafka_external_access::{
    api::{KafkaExternalAccess, KafkaExternalAccessClass, KafkaExternalAccessStatus},
    cloud::{
        Change, CloudError, Clouds, Credential, FloatingIp, FloatingIps, IngressRule, NetworkKind,
        NewFloatingIp, Port,
        limits::{BandwidthLimits, Direction, QosPolicy},
    },
    domain::{
        AccessKey, AddressId, NetworkId, NodeId, ProjectId, QosPolicyId, Revision, SecurityGroupId, Uid,
    },
    kafka::{
        BrokerView, Brokers, ClusterState, KafkaError, SettingChange, Target, Validate,
        probe::Report,
        traffic::{Meter, Traffic, TrafficError},
    },
    kubernetes::{Kubernetes, KubernetesError, Listed, stats::NodeStats},
    seams::{Leadership, SoleReplica, WritePermit},
};

/// Whose call it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seam {
    Kubernetes,
    Cloud,
    Kafka,
}

/// One call. `began` and `ended` are ticks of one counter, so that calls can be seen to overlap.
#[derive(Clone, Debug)]
pub struct Call {
    pub seam: Seam,
    pub name: &'static str,
    pub write: bool,
    pub began: u64,
    pub ended: Option<u64>,
}

/// Where the road stops for ever, as a process does that is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Before the call of this index has an effect.
    Before(usize),
    /// After its effect, before the answer.
    After(usize),
}

/// The record, and the knife.
#[derive(Default)]
pub struct Tap {
    calls: Mutex<Vec<Call>>,
    tick: AtomicU64,
    cut: Mutex<Option<Cut>>,
    was_cut: tokio::sync::Notify,
    follower: AtomicBool,
    permits: Mutex<Option<usize>>,
    permits_before_the_end: Mutex<Option<usize>>,
    ending: AtomicBool,
}

impl Tap {
    pub fn calls(&self) -> Vec<Call> {
        self.calls.lock().expect("not poisoned").clone()
    }

    pub fn clear(&self) {
        self.calls.lock().expect("not poisoned").clear();
    }

    /// Names of the writes since the last [`Self::clear`], without events.
    pub fn writes(&self, seam: Seam) -> Vec<&'static str> {
        let calls = self.calls();
        let writes = calls.iter().filter(|call| call.seam == seam && call.write && call.name != "publish");
        writes.map(|call| call.name).collect()
    }

    /// Calls of this name.
    pub fn count(&self, seam: Seam, name: &str) -> usize {
        self.calls().iter().filter(|call| call.seam == seam && call.name == name).count()
    }

    pub fn events(&self) -> usize {
        self.calls().iter().filter(|call| call.name == "publish").count()
    }

    pub fn cut_at(&self, cut: Option<Cut>) {
        *self.cut.lock().expect("not poisoned") = cut;
    }

    /// Returns when the road has stopped at the cut.
    pub async fn was_cut(&self) {
        self.was_cut.notified().await;
    }

    pub fn follow(&self, follower: bool) {
        self.follower.store(follower, Ordering::SeqCst);
    }

    /// Leads for this number of permits, then no more.
    pub fn follow_after(&self, permits: usize) {
        *self.permits.lock().expect("not poisoned") = Some(permits);
    }

    /// The process is asked to end when it has taken this number of permits; `None`: it is not.
    pub fn end_after(&self, permits: Option<usize>) {
        *self.permits_before_the_end.lock().expect("not poisoned") = permits;
        self.ending.store(false, Ordering::SeqCst);
    }

    fn count_towards_the_end(&self) {
        let mut permits = self.permits_before_the_end.lock().expect("not poisoned");
        *permits = permits.map(|left| left.saturating_sub(1));
        self.ending.store(*permits == Some(0), Ordering::SeqCst);
    }

    fn may_write(&self) -> bool {
        self.count_towards_the_end();
        let mut permits = self.permits.lock().expect("not poisoned");
        match permits.as_mut() {
            Some(0) => self.follower.store(true, Ordering::SeqCst),
            Some(left) => *left -= 1,
            None => {}
        }
        if self.follower.load(Ordering::SeqCst) {
            *permits = None;
            return false;
        }
        true
    }

    /// Longest chain of reads of the cloud of which each began after the one before had ended, among the reads that
    /// ended before the first write of the cloud.
    pub fn sequential_cloud_reads_before_the_first_write(&self) -> usize {
        let calls = self.calls();
        let cloud = || calls.iter().filter(|call| call.seam == Seam::Cloud);
        let first_write = cloud().find(|call| call.write).map_or(u64::MAX, |call| call.began);
        let mut reads = cloud()
            .filter(|call| !call.write)
            .filter_map(|call| Some((call.began, call.ended?)))
            .filter(|(_, ended)| *ended < first_write)
            .collect::<Vec<_>>();
        reads.sort_by_key(|(_, ended)| *ended);
        let mut free_from = 0;
        let mut chain = 0;
        for (began, ended) in reads {
            if chain == 0 || began > free_from {
                chain += 1;
                free_from = ended;
            }
        }
        chain
    }

    async fn pass<T>(
        &self,
        seam: Seam,
        name: &'static str,
        write: bool,
        call: impl Future<Output = T> + Send,
    ) -> T {
        let index = {
            let mut calls = self.calls.lock().expect("not poisoned");
            calls.push(Call { seam, name, write, began: self.next_tick(), ended: None });
            calls.len() - 1
        };
        tokio::task::yield_now().await;
        self.stop_if(Cut::Before(index)).await;
        let answer = call.await;
        self.stop_if(Cut::After(index)).await;
        let ended = self.next_tick();
        if let Some(call) = self.calls.lock().expect("not poisoned").get_mut(index) {
            call.ended = Some(ended);
        }
        answer
    }

    fn next_tick(&self) -> u64 {
        self.tick.fetch_add(1, Ordering::SeqCst)
    }

    async fn stop_if(&self, at: Cut) {
        if *self.cut.lock().expect("not poisoned") == Some(at) {
            self.was_cut.notify_one();
            std::future::pending::<()>().await;
        }
    }
}

/// Leads unless the tap says otherwise.
pub struct TappedLeadership {
    pub tap: Arc<Tap>,
    pub since: Timestamp,
}

#[async_trait]
impl Leadership for TappedLeadership {
    fn since(&self) -> Timestamp {
        self.since
    }

    fn permit(&self) -> Option<WritePermit> {
        if self.tap.may_write() { SoleReplica.permit() } else { None }
    }

    async fn ending(&self) {
        while !self.tap.ending.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
    }
}

/// A tapped API server.
pub struct TappedKubernetes(pub Arc<Tap>, pub Arc<dyn Kubernetes>);

macro_rules! tapped {
    ($self:ident, $seam:ident, read $name:ident($($argument:expr),*)) => {
        $self.0.pass(Seam::$seam, stringify!($name), false, $self.1.$name($($argument),*)).await
    };
    ($self:ident, $seam:ident, write $name:ident($($argument:expr),*)) => {
        $self.0.pass(Seam::$seam, stringify!($name), true, $self.1.$name($($argument),*)).await
    };
}

#[async_trait]
impl Kubernetes for TappedKubernetes {
    async fn access(&self, key: &AccessKey) -> Result<Option<KafkaExternalAccess>, KubernetesError> {
        tapped!(self, Kubernetes, read access(key))
    }
    async fn accesses(&self) -> Result<Vec<Listed>, KubernetesError> {
        tapped!(self, Kubernetes, read accesses())
    }
    async fn classes(&self) -> Result<Vec<KafkaExternalAccessClass>, KubernetesError> {
        tapped!(self, Kubernetes, read classes())
    }
    async fn namespace_labels(&self, name: &str) -> Result<BTreeMap<String, String>, KubernetesError> {
        tapped!(self, Kubernetes, read namespace_labels(name))
    }
    async fn cluster_uid(&self) -> Result<Uid, KubernetesError> {
        tapped!(self, Kubernetes, read cluster_uid())
    }
    async fn stateful_set(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<StatefulSet>, KubernetesError> {
        tapped!(self, Kubernetes, read stateful_set(namespace, name))
    }
    async fn node_stats(&self, node: &str) -> Result<NodeStats, KubernetesError> {
        tapped!(self, Kubernetes, read node_stats(node))
    }
    async fn pods(&self, namespace: &str, selector: &str) -> Result<Vec<Pod>, KubernetesError> {
        tapped!(self, Kubernetes, read pods(namespace, selector))
    }
    async fn pod(&self, namespace: &str, name: &str) -> Result<Option<Pod>, KubernetesError> {
        tapped!(self, Kubernetes, read pod(namespace, name))
    }
    async fn secret(&self, namespace: &str, name: &str) -> Result<Option<Secret>, KubernetesError> {
        tapped!(self, Kubernetes, read secret(namespace, name))
    }
    async fn config_map(&self, namespace: &str, name: &str) -> Result<Option<ConfigMap>, KubernetesError> {
        tapped!(self, Kubernetes, read config_map(namespace, name))
    }
    async fn write_config_map(&self, permit: WritePermit, map: &ConfigMap) -> Result<(), KubernetesError> {
        tapped!(self, Kubernetes, write write_config_map(permit, map))
    }
    async fn delete_config_map(&self, permit: WritePermit, of: &ConfigMap) -> Result<(), KubernetesError> {
        tapped!(self, Kubernetes, write delete_config_map(permit, of))
    }
    async fn change_stateful_set(
        &self,
        permit: WritePermit,
        of: &StatefulSet,
        target: &StatefulSet,
    ) -> Result<(), KubernetesError> {
        tapped!(self, Kubernetes, write change_stateful_set(permit, of, target))
    }
    async fn evict(
        &self,
        permit: WritePermit,
        namespace: &str,
        name: &str,
        uid: &Uid,
    ) -> Result<(), KubernetesError> {
        tapped!(self, Kubernetes, write evict(permit, namespace, name, uid))
    }
    async fn set_finalizer(
        &self,
        permit: WritePermit,
        of: &KafkaExternalAccess,
        present: bool,
    ) -> Result<KafkaExternalAccess, KubernetesError> {
        tapped!(self, Kubernetes, write set_finalizer(permit, of, present))
    }
    async fn set_secret_finalizer(
        &self,
        permit: WritePermit,
        of: &Secret,
        present: bool,
    ) -> Result<(), KubernetesError> {
        tapped!(self, Kubernetes, write set_secret_finalizer(permit, of, present))
    }
    async fn clear_replace(
        &self,
        permit: WritePermit,
        of: &KafkaExternalAccess,
    ) -> Result<(), KubernetesError> {
        tapped!(self, Kubernetes, write clear_replace(permit, of))
    }
    async fn write_status(
        &self,
        permit: WritePermit,
        of: &KafkaExternalAccess,
        status: &KafkaExternalAccessStatus,
    ) -> Result<(), KubernetesError> {
        tapped!(self, Kubernetes, write write_status(permit, of, status))
    }
    async fn publish(&self, permit: WritePermit, event: &Event) -> Result<(), KubernetesError> {
        tapped!(self, Kubernetes, write publish(permit, event))
    }
    async fn lease(&self, namespace: &str, name: &str) -> Result<Option<Lease>, KubernetesError> {
        tapped!(self, Kubernetes, read lease(namespace, name))
    }
    async fn write_lease(&self, lease: &Lease) -> Result<Lease, KubernetesError> {
        tapped!(self, Kubernetes, write write_lease(lease))
    }
}

/// Tapped clouds.
pub struct TappedClouds(pub Arc<Tap>, pub Arc<dyn Clouds>);

impl Clouds for TappedClouds {
    fn open(&self, credential: &Credential) -> Result<Arc<dyn FloatingIps>, CloudError> {
        Ok(Arc::new(TappedCloud(self.0.clone(), self.1.open(credential)?)))
    }
}

struct TappedCloud(Arc<Tap>, Arc<dyn FloatingIps>);

#[async_trait]
impl FloatingIps for TappedCloud {
    // Remembered by every provider after the first time, so they are no calls.
    async fn project(&self) -> Result<ProjectId, CloudError> {
        self.1.project().await
    }
    async fn network(&self, name_or_id: &str, kind: NetworkKind) -> Result<NetworkId, CloudError> {
        self.1.network(name_or_id, kind).await
    }
    async fn qos_policies(&self, name: &str) -> Result<Vec<QosPolicy>, CloudError> {
        tapped!(self, Cloud, read qos_policies(name))
    }

    async fn list(&self) -> Result<Vec<FloatingIp>, CloudError> {
        tapped!(self, Cloud, read list())
    }
    async fn get(&self, id: &AddressId) -> Result<Option<FloatingIp>, CloudError> {
        tapped!(self, Cloud, read get(id))
    }
    async fn ports(
        &self,
        network: Option<&NetworkId>,
        fixed_ips: &BTreeSet<Ipv4Addr>,
    ) -> Result<Vec<Port>, CloudError> {
        tapped!(self, Cloud, read ports(network, fixed_ips))
    }
    async fn ingress_rules(
        &self,
        groups: &BTreeSet<SecurityGroupId>,
    ) -> Result<Vec<IngressRule>, CloudError> {
        tapped!(self, Cloud, read ingress_rules(groups))
    }
    async fn create(&self, permit: WritePermit, new: &NewFloatingIp) -> Result<FloatingIp, CloudError> {
        tapped!(self, Cloud, write create(permit, new))
    }
    async fn update(
        &self,
        permit: WritePermit,
        id: &AddressId,
        read_at: Revision,
        change: &Change,
    ) -> Result<FloatingIp, CloudError> {
        tapped!(self, Cloud, write update(permit, id, read_at, change))
    }
    async fn delete(&self, permit: WritePermit, id: &AddressId, read_at: Revision) -> Result<(), CloudError> {
        tapped!(self, Cloud, write delete(permit, id, read_at))
    }
    async fn create_policy(
        &self,
        permit: WritePermit,
        limits: &BandwidthLimits,
    ) -> Result<QosPolicyId, CloudError> {
        tapped!(self, Cloud, write create_policy(permit, limits))
    }
    async fn add_rule(
        &self,
        permit: WritePermit,
        policy: &QosPolicyId,
        rule: (Direction, u32),
    ) -> Result<(), CloudError> {
        tapped!(self, Cloud, write add_rule(permit, policy, rule))
    }
    async fn delete_policy(&self, permit: WritePermit, policy: &QosPolicyId) -> Result<(), CloudError> {
        tapped!(self, Cloud, write delete_policy(permit, policy))
    }
}

/// Tapped brokers.
pub struct TappedBrokers(pub Arc<Tap>, pub Arc<dyn Brokers>);

#[async_trait]
impl Brokers for TappedBrokers {
    async fn describe(&self, target: &Target) -> Result<BrokerView, KafkaError> {
        tapped!(self, Kafka, read describe(target))
    }
    async fn accepts(&self, target: &Target) -> bool {
        tapped!(self, Kafka, read accepts(target))
    }
    async fn probe(&self, target: &Target) -> Report {
        tapped!(self, Kafka, read probe(target))
    }
    async fn traffic(&self, meter: &Meter) -> Result<Traffic, TrafficError> {
        tapped!(self, Kafka, read traffic(meter))
    }
    async fn cluster(&self, target: &Target) -> Result<ClusterState, KafkaError> {
        tapped!(self, Kafka, read cluster(target))
    }
    async fn alter(
        &self,
        permit: WritePermit,
        target: &Target,
        node: NodeId,
        changes: &[SettingChange],
        validate: Validate,
    ) -> Result<(), KafkaError> {
        let write = validate == Validate::AndApply;
        let call = self.1.alter(permit, target, node, changes, validate);
        self.0.pass(Seam::Kafka, "alter", write, call).await
    }
}

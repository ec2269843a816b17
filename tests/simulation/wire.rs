//! The way of every call of a replica to the simulated servers and back: delays, losses, refusals, late effects, and the
//! point at which a process is killed. What was sent arrives, whatever becomes of the sender meanwhile.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use futures::{channel::oneshot, future::Either};
use k8s_openapi::api::{
    apps::v1::StatefulSet,
    coordination::v1::Lease,
    core::v1::{ConfigMap, Pod, Secret},
    events::v1::Event,
};
use kafka_external_access::{
    api::{KafkaExternalAccess, KafkaExternalAccessClass, KafkaExternalAccessStatus},
    cloud::{
        Change, CloudError, CloudFault, Clouds, Credential, FloatingIp, FloatingIps, IngressRule,
        NetworkKind, NewFloatingIp, Port,
        limits::{BandwidthLimits, Direction, QosPolicy},
    },
    domain::{
        AccessKey, AddressId, NetworkId, NodeId, ProjectId, QosPolicyId, Revision, SecurityGroupId, Uid,
    },
    kafka::{
        BrokerView, Brokers, ClusterState, KafkaError, KafkaFault, SettingChange, Step, Target, Validate,
        probe::Report,
        traffic::{Meter, Traffic, TrafficError},
    },
    kubernetes::{Kubernetes, KubernetesError, KubernetesFault, Listed, stats::NodeStats},
    seams::WritePermit,
};

use crate::{
    executor::Group,
    faults::{Fate, Fault, Kind, Moment},
    world::World,
};

/// Calls of Kubernetes are given up after this (`kubernetes/api.rs`).
const KUBERNETES_LIMIT: Duration = Duration::from_secs(10);
/// Reads and writes of the cloud (`cloud/openstack/http.rs`).
const CLOUD_READ: Duration = Duration::from_secs(30);
const CLOUD_WRITE: Duration = Duration::from_secs(60);

/// All calls of one replica.
#[derive(Clone)]
pub struct Wire {
    pub world: Arc<World>,
    pub replica: usize,
}

/// One call on its way.
struct Sent {
    name: &'static str,
    kind: Kind,
    limit: Duration,
}

impl Wire {
    /// Sends, waits for the answer until the limit, and says what came: `Err(None)`: no answer in time.
    async fn send<T: Send + 'static>(
        &self,
        sent: Sent,
        fate: Fate,
        effect: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let world = &self.world;
        let time = world.executor.time.clone();
        let (tell, answer) = oneshot::channel();
        if !matches!(fate.fault, Some(Fault::RequestLost)) {
            let (world, delay, index) = (world.clone(), fate.there, fate.index);
            let (replica, writes) = (self.replica, sent.kind.writes());
            let arrives = async move {
                world.executor.time.sleep(delay).await;
                let done = effect.await;
                if writes {
                    world.after_effect();
                }
                world.faults().reached(replica, index, Moment::AfterEffect);
                let _ = tell.send(done);
            };
            self.world.executor.spawn(Group::World, arrives);
        }
        let answer = match fate.fault {
            Some(Fault::RequestLost | Fault::ReplyLost) => {
                time.sleep(sent.limit).await;
                drop(answer);
                None
            }
            _ => {
                let limit = time.sleep(sent.limit);
                match futures::future::select(answer, Box::pin(limit)).await {
                    Either::Left((Ok(answer), _)) => {
                        time.sleep(fate.back).await;
                        Some(answer)
                    }
                    _ => None,
                }
            }
        };
        if self.cut_here(fate.index, Moment::AfterReply) {
            std::future::pending::<()>().await;
        }
        self.world.trace(|| {
            let end = if answer.is_some() { "answered" } else { "no answer" };
            format!("r{} {} #{} {end}", self.replica, sent.name, fate.index)
        });
        answer
    }

    async fn depart(&self, sent: &Sent) -> Fate {
        let fate = self.world.faults().draw(self.replica, sent.name, sent.kind);
        self.world.trace(|| format!("r{} {} #{} {:?}", self.replica, sent.name, fate.index, fate.fault));
        if self.cut_here(fate.index, Moment::BeforeSend) {
            std::future::pending::<()>().await;
        }
        if sent.kind.writes() {
            self.world.check_leader(self.replica, sent.name);
        }
        fate
    }

    fn cut_here(&self, index: usize, moment: Moment) -> bool {
        self.world.faults().reached(self.replica, index, moment)
    }

    async fn kube<T: Send + 'static>(
        &self,
        name: &'static str,
        kind: Kind,
        effect: impl Future<Output = Result<T, KubernetesError>> + Send + 'static,
    ) -> Result<T, KubernetesError> {
        let sent = Sent { name, kind, limit: KUBERNETES_LIMIT };
        let failed = |fault| Err(KubernetesError { operation: name, fault });
        let fate = self.depart(&sent).await;
        let refused = match fate.fault {
            Some(Fault::ServerError) => Some(KubernetesFault::Unavailable("internal error".into())),
            Some(Fault::Conflict) => Some(KubernetesFault::Conflict),
            Some(Fault::Throttled) => Some(KubernetesFault::Unavailable("too many requests".into())),
            Some(Fault::Forbidden) => Some(KubernetesFault::Forbidden("not now".into())),
            Some(Fault::NotNow) => Some(KubernetesFault::NotNow("the disruption budget says no".into())),
            _ => None,
        };
        if let Some(fault) = refused {
            self.world.executor.time.sleep(fate.there).await;
            return failed(fault);
        }
        let lost = || KubernetesFault::Unavailable("no answer within 10 s".into());
        self.send(sent, fate, effect).await.unwrap_or_else(|| failed(lost()))
    }
}

macro_rules! kube {
    ($self:ident, $kind:ident, $name:ident($($argument:ident),*)) => {{
        let server = $self.world.api.clone();
        $(let $argument = $argument.to_owned();)*
        $self.kube(stringify!($name), Kind::$kind, async move { server.$name($(&$argument),*).await }).await
    }};
    ($self:ident, with $permit:ident, $name:ident($($argument:ident),*) $(, $plain:ident)?) => {{
        let (server, world) = ($self.world.api.clone(), $self.world.clone());
        $(let $argument = $argument.to_owned();)*
        let effect = async move {
            let done = server.$name($permit, $(&$argument),* $(, $plain)?).await;
            world.written(stringify!($name), done.is_ok());
            done
        };
        $self.kube(stringify!($name), Kind::KubernetesWrite, effect).await
    }};
}

#[async_trait]
impl Kubernetes for Wire {
    async fn access(&self, key: &AccessKey) -> Result<Option<KafkaExternalAccess>, KubernetesError> {
        kube!(self, KubernetesRead, access(key))
    }
    async fn accesses(&self) -> Result<Vec<Listed>, KubernetesError> {
        kube!(self, KubernetesRead, accesses())
    }
    async fn classes(&self) -> Result<Vec<KafkaExternalAccessClass>, KubernetesError> {
        kube!(self, KubernetesRead, classes())
    }
    async fn namespace_labels(&self, name: &str) -> Result<BTreeMap<String, String>, KubernetesError> {
        kube!(self, KubernetesRead, namespace_labels(name))
    }
    async fn cluster_uid(&self) -> Result<Uid, KubernetesError> {
        kube!(self, KubernetesRead, cluster_uid())
    }
    async fn stateful_set(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<StatefulSet>, KubernetesError> {
        kube!(self, KubernetesRead, stateful_set(namespace, name))
    }
    async fn pods(&self, namespace: &str, selector: &str) -> Result<Vec<Pod>, KubernetesError> {
        kube!(self, KubernetesRead, pods(namespace, selector))
    }
    async fn pod(&self, namespace: &str, name: &str) -> Result<Option<Pod>, KubernetesError> {
        kube!(self, KubernetesRead, pod(namespace, name))
    }
    async fn secret(&self, namespace: &str, name: &str) -> Result<Option<Secret>, KubernetesError> {
        kube!(self, KubernetesRead, secret(namespace, name))
    }
    async fn node_stats(&self, node: &str) -> Result<NodeStats, KubernetesError> {
        kube!(self, KubernetesRead, node_stats(node))
    }
    async fn config_map(&self, namespace: &str, name: &str) -> Result<Option<ConfigMap>, KubernetesError> {
        kube!(self, KubernetesRead, config_map(namespace, name))
    }
    async fn write_config_map(&self, permit: WritePermit, map: &ConfigMap) -> Result<(), KubernetesError> {
        kube!(self, with permit, write_config_map(map))
    }
    async fn delete_config_map(&self, permit: WritePermit, of: &ConfigMap) -> Result<(), KubernetesError> {
        kube!(self, with permit, delete_config_map(of))
    }
    async fn change_stateful_set(
        &self,
        permit: WritePermit,
        of: &StatefulSet,
        target: &StatefulSet,
    ) -> Result<(), KubernetesError> {
        kube!(self, with permit, change_stateful_set(of, target))
    }
    async fn evict(
        &self,
        permit: WritePermit,
        namespace: &str,
        name: &str,
        uid: &Uid,
    ) -> Result<(), KubernetesError> {
        let (server, world) = (self.world.api.clone(), self.world.clone());
        let (namespace, name, uid) = (namespace.to_owned(), name.to_owned(), uid.clone());
        let effect = async move {
            world.evicting(&name);
            let done = server.evict(permit, &namespace, &name, &uid).await;
            world.evicted(&name, done.is_ok());
            done
        };
        self.kube("evict", Kind::Eviction, effect).await
    }
    async fn set_finalizer(
        &self,
        permit: WritePermit,
        of: &KafkaExternalAccess,
        present: bool,
    ) -> Result<KafkaExternalAccess, KubernetesError> {
        kube!(self, with permit, set_finalizer(of), present)
    }
    async fn set_secret_finalizer(
        &self,
        permit: WritePermit,
        of: &Secret,
        present: bool,
    ) -> Result<(), KubernetesError> {
        kube!(self, with permit, set_secret_finalizer(of), present)
    }
    async fn clear_replace(
        &self,
        permit: WritePermit,
        of: &KafkaExternalAccess,
    ) -> Result<(), KubernetesError> {
        kube!(self, with permit, clear_replace(of))
    }
    async fn write_status(
        &self,
        permit: WritePermit,
        of: &KafkaExternalAccess,
        status: &KafkaExternalAccessStatus,
    ) -> Result<(), KubernetesError> {
        let (server, world) = (self.world.api.clone(), self.world.clone());
        let (of, status) = (of.clone(), status.clone());
        let effect = async move {
            let done = server.write_status(permit, &of, &status).await;
            if done.is_ok() {
                world.status_written(&of, &status);
            }
            done
        };
        self.kube("write_status", Kind::KubernetesWrite, effect).await
    }
    async fn publish(&self, permit: WritePermit, event: &Event) -> Result<(), KubernetesError> {
        kube!(self, with permit, publish(event))
    }
    async fn lease(&self, namespace: &str, name: &str) -> Result<Option<Lease>, KubernetesError> {
        kube!(self, Lease, lease(namespace, name))
    }
    async fn write_lease(&self, lease: &Lease) -> Result<Lease, KubernetesError> {
        kube!(self, Lease, write_lease(lease))
    }
}

impl Clouds for Wire {
    fn open(&self, credential: &Credential) -> Result<Arc<dyn FloatingIps>, CloudError> {
        if credential.clouds_yaml.is_empty() {
            let fault = CloudFault::Configuration("clouds.yaml is empty".into());
            return Err(CloudError { operation: "read the credential", fault });
        }
        Ok(Arc::new(CloudWire { wire: self.clone(), secret: credential.clouds_yaml.clone() }))
    }
}

/// The cloud through one credential.
struct CloudWire {
    wire: Wire,
    secret: String,
}

impl CloudWire {
    async fn call<T: Send + 'static>(
        &self,
        name: &'static str,
        kind: Kind,
        effect: impl Future<Output = Result<T, CloudError>> + Send + 'static,
    ) -> Result<T, CloudError> {
        let write = kind.writes();
        let sent = Sent { name, kind, limit: if write { CLOUD_WRITE } else { CLOUD_READ } };
        let failed = |fault| Err(CloudError { operation: name, fault });
        let fate = self.wire.depart(&sent).await;
        let world = self.wire.world.clone();
        if let Some(fault) = fate.fault.and_then(|fault| refusal(fault, write)) {
            world.executor.time.sleep(fate.there).await;
            return failed(fault);
        }
        let unclear = |text: &str| {
            if write { CloudFault::Unclear(text.into()) } else { CloudFault::Unavailable(text.into()) }
        };
        let then_fails = fate.fault == Some(Fault::ServerErrorAfterEffect);
        let secret = self.secret.clone();
        let checked = async move {
            if !world.is_valid(&secret) {
                let fault = CloudFault::Unauthorized("the credential was revoked".into());
                return Err(CloudError { operation: name, fault });
            }
            let done = effect.await;
            // What the cloud itself refuses may be tried again, as what is lost on the way.
            world.faults().of_cloud += u64::from(write && done.is_err());
            done
        };
        match self.wire.send(sent, fate, checked).await {
            Some(_) if then_fails => failed(unclear("500 internal server error")),
            Some(answer) => answer,
            None => failed(unclear("no answer in time")),
        }
    }
}

/// What the cloud says instead of doing it.
fn refusal(fault: Fault, write: bool) -> Option<CloudFault> {
    let text = || "injected".to_owned();
    Some(match fault {
        Fault::ServerError if write => CloudFault::Unclear("500 internal server error".into()),
        Fault::ServerError => CloudFault::Unavailable("500 internal server error".into()),
        Fault::Unauthorized => CloudFault::Unauthorized(text()),
        Fault::Quota => CloudFault::QuotaExceeded(text()),
        Fault::Pool => CloudFault::PoolEmpty(text()),
        Fault::PortBound => CloudFault::PortAlreadyBound(text()),
        Fault::RevisionChanged => CloudFault::RevisionChanged,
        Fault::Throttled => CloudFault::RateLimited { retry_after: None },
        Fault::ThrottledFor => CloudFault::RateLimited { retry_after: Some(Duration::from_secs(20)) },
        _ => return None,
    })
}

macro_rules! cloud {
    ($self:ident, $name:ident($($argument:ident),*)) => {{
        let server = $self.wire.world.cloud.clone();
        $(let $argument = $argument.to_owned();)*
        let effect = async move { server.$name($(&$argument),*).await };
        $self.call(stringify!($name), Kind::CloudRead, effect).await
    }};
}

#[async_trait]
impl FloatingIps for CloudWire {
    // Remembered by every provider after the first time, so they are no calls.
    async fn project(&self) -> Result<ProjectId, CloudError> {
        self.wire.world.cloud.project().await
    }
    async fn network(&self, name_or_id: &str, kind: NetworkKind) -> Result<NetworkId, CloudError> {
        self.wire.world.cloud.network(name_or_id, kind).await
    }
    async fn qos_policies(&self, name: &str) -> Result<Vec<QosPolicy>, CloudError> {
        cloud!(self, qos_policies(name))
    }
    async fn list(&self) -> Result<Vec<FloatingIp>, CloudError> {
        let world = self.wire.world.clone();
        let effect = async move {
            let now = world.cloud.list().await?;
            Ok(world.disturbed_list(now))
        };
        self.call("list", Kind::CloudRead, effect).await
    }
    async fn get(&self, id: &AddressId) -> Result<Option<FloatingIp>, CloudError> {
        cloud!(self, get(id))
    }
    async fn ports(
        &self,
        network: Option<&NetworkId>,
        fixed_ips: &BTreeSet<Ipv4Addr>,
    ) -> Result<Vec<Port>, CloudError> {
        let (server, network, fixed_ips) =
            (self.wire.world.cloud.clone(), network.cloned(), fixed_ips.clone());
        let effect = async move { server.ports(network.as_ref(), &fixed_ips).await };
        self.call("ports", Kind::CloudRead, effect).await
    }
    async fn ingress_rules(
        &self,
        groups: &BTreeSet<SecurityGroupId>,
    ) -> Result<Vec<IngressRule>, CloudError> {
        cloud!(self, ingress_rules(groups))
    }
    async fn create(&self, permit: WritePermit, new: &NewFloatingIp) -> Result<FloatingIp, CloudError> {
        let world = self.wire.world.clone();
        let new = new.clone();
        world.creating(&new);
        let description = new.description.clone();
        let effect = async move {
            let made = world.cloud.create(permit, &new).await;
            if let Ok(made) = &made {
                world.created(made);
            }
            made
        };
        let answer = self.call("create", Kind::CloudWrite, effect).await;
        let clear = !matches!(&answer, Err(CloudError { fault: CloudFault::Unclear(_), .. }));
        self.wire.world.ledger().create_answered(&description, clear);
        answer
    }
    async fn update(
        &self,
        permit: WritePermit,
        id: &AddressId,
        read_at: Revision,
        change: &Change,
    ) -> Result<FloatingIp, CloudError> {
        let world = self.wire.world.clone();
        let (id, change) = (id.clone(), change.clone());
        let effect = async move {
            let before = world.address(&id);
            let done = world.cloud.update(permit, &id, read_at, &change).await;
            if let (Some(before), Ok(after)) = (before, &done) {
                world.updated(&before, after, &change);
            }
            done
        };
        self.call("update", Kind::CloudWrite, effect).await
    }
    async fn delete(&self, permit: WritePermit, id: &AddressId, read_at: Revision) -> Result<(), CloudError> {
        let world = self.wire.world.clone();
        let id = id.clone();
        let effect = async move {
            let before = world.address(&id);
            let done = world.cloud.delete(permit, &id, read_at).await;
            if let (Some(before), Ok(())) = (before, &done) {
                world.deleted(&before);
            }
            done
        };
        self.call("delete", Kind::CloudWrite, effect).await
    }
    async fn create_policy(
        &self,
        permit: WritePermit,
        limits: &BandwidthLimits,
    ) -> Result<QosPolicyId, CloudError> {
        let (server, limits) = (self.wire.world.cloud.clone(), *limits);
        let effect = async move { server.create_policy(permit, &limits).await };
        self.call("create_policy", Kind::CloudWrite, effect).await
    }
    async fn add_rule(
        &self,
        permit: WritePermit,
        policy: &QosPolicyId,
        rule: (Direction, u32),
    ) -> Result<(), CloudError> {
        let (server, policy) = (self.wire.world.cloud.clone(), policy.clone());
        let effect = async move { server.add_rule(permit, &policy, rule).await };
        self.call("add_rule", Kind::CloudWrite, effect).await
    }
    async fn delete_policy(&self, permit: WritePermit, policy: &QosPolicyId) -> Result<(), CloudError> {
        let (server, policy) = (self.wire.world.cloud.clone(), policy.clone());
        let effect = async move { server.delete_policy(permit, &policy).await };
        self.call("delete_policy", Kind::CloudWrite, effect).await
    }
}

impl Wire {
    async fn kafka<T: Send + 'static>(
        &self,
        name: &'static str,
        kind: Kind,
        step: Step,
        limit: Duration,
        effect: impl Future<Output = Result<T, KafkaError>> + Send + 'static,
    ) -> Result<T, KafkaError> {
        let sent = Sent { name, kind, limit };
        let fate = self.depart(&sent).await;
        let world = self.world.clone();
        let led = async move {
            world.lead_traffic();
            effect.await
        };
        let lost = || Err(KafkaError { step, fault: KafkaFault::TimedOut(limit) });
        self.send(sent, fate, led).await.unwrap_or_else(lost)
    }
}

#[async_trait]
impl Brokers for Wire {
    async fn describe(&self, target: &Target) -> Result<BrokerView, KafkaError> {
        let (server, target, limit) = (self.world.kafka.clone(), target.clone(), target.step_timeout);
        let effect = async move { server.describe(&target).await };
        self.kafka("describe", Kind::KafkaRead, Step::DescribeConfigs, limit, effect).await
    }
    async fn accepts(&self, target: &Target) -> bool {
        let (server, target, limit) = (self.world.kafka.clone(), target.clone(), target.step_timeout);
        let effect = async move { Ok(server.accepts(&target).await) };
        self.kafka("accepts", Kind::KafkaRead, Step::Tcp, limit, effect).await.unwrap_or(false)
    }
    async fn probe(&self, target: &Target) -> Report {
        let (server, target, limit) = (self.world.kafka.clone(), target.clone(), target.step_timeout);
        let effect = async move { Ok(server.probe(&target).await) };
        let report = self.kafka("probe", Kind::KafkaRead, Step::Tcp, limit, effect).await;
        report.unwrap_or_else(|error| Report {
            passed: Vec::new(),
            outcome: Err(error),
            certificate_ends: None,
        })
    }
    async fn traffic(&self, meter: &Meter) -> Result<Traffic, TrafficError> {
        self.world.kafka.traffic(meter).await
    }
    async fn cluster(&self, target: &Target) -> Result<ClusterState, KafkaError> {
        let (world, target, limit) = (self.world.clone(), target.clone(), target.step_timeout);
        let effect = async move {
            world.tell_partitions();
            world.kafka.cluster(&target).await
        };
        self.kafka("cluster", Kind::KafkaRead, Step::Metadata, limit, effect).await
    }
    async fn alter(
        &self,
        permit: WritePermit,
        target: &Target,
        node: NodeId,
        changes: &[SettingChange],
        validate: Validate,
    ) -> Result<(), KafkaError> {
        let kind = if validate == Validate::Only { Kind::KafkaRead } else { Kind::KafkaWrite };
        let (world, target, limit) = (self.world.clone(), target.clone(), target.step_timeout);
        let changes = changes.to_vec();
        let effect = async move {
            let done = world.kafka.alter(permit, &target, node, &changes, validate).await;
            if validate == Validate::AndApply {
                world.written("alter", done.is_ok());
            }
            done
        };
        self.kafka("alter", kind, Step::AlterConfigs, limit, effect).await
    }
}

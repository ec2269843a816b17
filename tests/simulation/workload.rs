//! The StatefulSet controller, the kubelet and the brokers' processes of the simulated cluster.
//!
//! | rule | as on Kubernetes 1.36 |
//! |---|---|
//! | `OrderedReady` | a pod is made when all before it are Ready, and goes when it is the last and all are |
//! | `Parallel` | all are made, and go, at once |
//! | a template of another content | is another revision; the same content is the same revision again |
//! | `RollingUpdate` | pods of an older revision go, the highest ordinal first, each when all above it are Ready (`OrderedReady`: all); none below `partition` |
//! | `OnDelete` | nobody goes |
//! | a pod that is made anew below `partition` | is of the revision that the last finished roll left |

use std::{collections::btree_map::Entry, net::Ipv4Addr, sync::Arc, time::Duration};

use k8s_openapi::api::{
    apps::v1::{StatefulSet, StatefulSetStatus},
    core::v1::{Pod, PodTemplateSpec},
};
use kafka_external_access::kafka::{
    ListenerSetting,
    simulated::{BrokerFile, StartFailure},
};
use serde_json::json;

use crate::{
    executor::Group,
    world::{SET, World, node, parsed},
};

pub fn pod_name(ordinal: u32) -> String {
    format!("{SET}-{ordinal}")
}

/// Which revision pods are of, and who may go for another one.
struct Revisions {
    /// Of pods that are made below `partition`.
    current: Option<String>,
    /// Of the template.
    update: Option<String>,
    /// `None`: `OnDelete`.
    partition: Option<u32>,
}

impl Revisions {
    fn of(set: &StatefulSet) -> Self {
        let strategy = set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
        let on_delete = strategy.is_some_and(|strategy| strategy.type_.as_deref() == Some("OnDelete"));
        let partition = strategy.and_then(|strategy| strategy.rolling_update.as_ref()?.partition);
        let status = set.status.as_ref();
        Self {
            current: status.and_then(|status| status.current_revision.clone()),
            update: status.and_then(|status| status.update_revision.clone()),
            partition: (!on_delete).then_some(partition.and_then(|n| u32::try_from(n).ok()).unwrap_or(0)),
        }
    }

    /// Of a pod that is made now.
    fn of_new(&self, ordinal: u32) -> Option<&String> {
        let held_back = self.partition.is_some_and(|partition| ordinal < partition);
        if held_back { self.current.as_ref() } else { self.update.as_ref() }
    }
}

fn revision(pod: &Pod) -> Option<String> {
    pod.metadata.labels.as_ref()?.get("controller-revision-hash").cloned()
}

/// Pods and brokers.
impl World {
    /// What the StatefulSet controller and the kubelet do about what they see.
    pub fn govern(self: &Arc<Self>) {
        self.end_pods();
        self.bury_pods();
        if self.api.of_stateful_set(SET, |_| ()).is_none() || self.is_behind() {
            return;
        }
        let wanted = self.wanted_pods();
        let here = |ordinal: u32| self.api.of_pod(&pod_name(ordinal), |_| ()).is_some();
        let ordered = !self.setup.parallel;
        let waits_for = (0..wanted).find(|ordinal| !self.is_ready(*ordinal));
        for ordinal in 0..wanted {
            if !here(ordinal) && self.around().starting.insert(ordinal) {
                self.executor.spawn(Group::World, start_pod(self.clone(), ordinal));
            }
            if ordered && waits_for == Some(ordinal) {
                break;
            }
        }
        let superfluous = (wanted..wanted + 6).rev().filter(|ordinal| here(*ordinal));
        let most = match (ordered, waits_for) {
            (false, _) => usize::MAX,
            (true, None) => 1,
            (true, Some(_)) => 0,
        };
        superfluous.take(most).for_each(|ordinal| self.api.delete_pod(&pod_name(ordinal)));
        if !ordered || waits_for.is_none() {
            self.roll(wanted);
        }
        self.end_pods();
        self.bury_pods();
    }

    /// Its broker runs, and it is not on its way out.
    fn is_ready(&self, ordinal: u32) -> bool {
        let stays = |pod: &Pod| pod.metadata.deletion_timestamp.is_none();
        self.is_up(ordinal) && self.api.of_pod(&pod_name(ordinal), stays) == Some(true)
    }

    /// The controller has not seen the newest template; it will.
    fn is_behind(self: &Arc<Self>) -> bool {
        let behind = self.api.of_stateful_set(SET, |set| {
            let seen = set.status.as_ref().and_then(|status| status.observed_generation);
            seen != set.metadata.generation
        });
        if behind != Some(true) {
            return false;
        }
        if self.setup.seen_in.is_zero() {
            self.take_template_in();
            return false;
        }
        if !std::mem::replace(&mut self.around().looks_soon, true) {
            let within = u64::try_from(self.setup.seen_in.as_millis()).expect("a short time");
            self.later(self.chance.millis(1, within), |world| {
                world.around().looks_soon = false;
                world.take_template_in();
            });
        }
        true
    }

    /// The revision of the template, and of a new StatefulSet the first.
    fn take_template_in(&self) {
        let new = self.api.of_stateful_set(SET, |set| {
            let seen = set.status.as_ref().and_then(|status| status.observed_generation);
            let spec = set.spec.as_ref().filter(|_| seen != set.metadata.generation);
            spec.map(|spec| spec.template.clone())
        });
        let Some(template) = new.flatten() else { return };
        let revision = self.revision_of(&template);
        self.edit_status(|status, generation| {
            status.observed_generation = generation;
            status.current_revision.get_or_insert_with(|| revision.clone());
            status.update_revision = Some(revision);
        });
    }

    fn edit_status(&self, edit: impl FnOnce(&mut StatefulSetStatus, Option<i64>)) {
        self.api.edit_stateful_set(SET, |set| {
            let generation = set.metadata.generation;
            edit(set.status.get_or_insert_default(), generation);
        });
    }

    fn revision_of(&self, template: &PodTemplateSpec) -> String {
        let templates = &mut self.around().templates;
        let known = templates.iter().find(|(_, known)| *known == template).map(|(name, _)| name.clone());
        known.unwrap_or_else(|| {
            let name = format!("revision-{}", templates.len());
            templates.insert(name.clone(), template.clone());
            name
        })
    }

    /// Pods of an older revision go where the strategy says so, one after the other.
    fn roll(&self, wanted: u32) {
        let Some(revisions) = self.api.of_stateful_set(SET, Revisions::of) else { return };
        let Some(partition) = revisions.partition else { return };
        let outdated = |ordinal: &u32| self.is_outdated(*ordinal, &revisions);
        let next = (0..wanted).rev().find(|ordinal| outdated(ordinal) || !self.is_ready(*ordinal));
        match next {
            Some(ordinal) if ordinal >= partition && outdated(&ordinal) => {
                self.api.delete_pod(&pod_name(ordinal));
            }
            None if revisions.current != revisions.update => {
                self.edit_status(|status, _| status.current_revision = revisions.update.clone());
            }
            _ => {}
        }
    }

    fn is_outdated(&self, ordinal: u32, revisions: &Revisions) -> bool {
        self.api.of_pod(&pod_name(ordinal), revision).flatten() != revisions.update
    }

    /// With the strategy `OnDelete` people restart brokers of an older template themselves, one after the other.
    pub fn roll_by_hand(&self) -> bool {
        let Some(revisions) = self.api.of_stateful_set(SET, Revisions::of) else { return false };
        let wanted = self.wanted_pods();
        let all_up = (0..wanted).all(|ordinal| self.is_ready(ordinal));
        let next = (0..wanted).rev().find(|ordinal| self.is_outdated(*ordinal, &revisions));
        let Some(ordinal) = next.filter(|_| all_up) else { return false };
        self.api.delete_pod(&pod_name(ordinal));
        true
    }

    /// Pods that were deleted end: first the broker, then the rest.
    fn end_pods(self: &Arc<Self>) {
        for ordinal in 0..8 {
            let ends = |pod: &Pod| pod.metadata.deletion_timestamp.as_ref().and(pod.metadata.uid.clone());
            let Some(uid) = self.api.of_pod(&pod_name(ordinal), ends).flatten() else { continue };
            let now = self.now();
            let mut around = self.around();
            if let Entry::Vacant(entry) = around.ending.entry(uid.clone()) {
                entry.insert(now);
                drop(around);
                self.executor.spawn(Group::World, end_pod(self.clone(), ordinal, uid));
            }
        }
    }

    /// What was a pod's goes with it: its process at once, its port a little later.
    fn bury_pods(&self) {
        let here =
            |ordinal: u32| self.api.of_pod(&pod_name(ordinal), |pod| pod.metadata.uid.clone()).flatten();
        let pods = self.around().pods.clone();
        for (ordinal, (uid, ip)) in pods {
            if here(ordinal).as_ref() == Some(&uid) {
                continue;
            }
            self.trace(|| format!("pod {} at {ip} is gone", pod_name(ordinal)));
            self.around().pods.remove(&ordinal);
            self.broker_ends(ordinal);
            let cloud = self.cloud.clone();
            if self.chance.permille(700) {
                cloud.remove_port(ip);
            } else {
                let (time, delay) = (self.executor.time.clone(), self.chance.millis(1_000, 90_000));
                self.executor.spawn(Group::World, async move {
                    time.sleep(delay).await;
                    cloud.remove_port(ip);
                });
            }
        }
    }

    pub fn broker_ends(&self, ordinal: u32) {
        self.kafka.stop(node(ordinal));
        let now = self.now();
        let mut around = self.around();
        if around.up.remove(&ordinal).is_some() {
            around.down.insert(ordinal, now);
        }
    }

    /// Brokers are added: what was sent a moment before knows nothing of them.
    pub fn are_not_up_yet(&self, added: std::ops::Range<u32>) {
        let now = self.now();
        self.around().down.extend(added.map(|ordinal| (ordinal, now)));
    }

    /// Starts the broker's process in its pod. False: it does not start.
    pub fn broker_starts(&self, ordinal: u32) -> bool {
        let Some(ip) = self.pod_ip(ordinal) else { return false };
        let Some(file) = self.broker_file(ordinal) else { return false };
        let started = self.kafka.start(node(ordinal), ip, file);
        self.trace(|| format!("broker {ordinal} starts at {ip}: {started:?}"));
        if started.is_ok() {
            let now = self.now();
            self.around().up.insert(ordinal, now);
        }
        if matches!(started, Err(StartFailure::EndpointTaken { .. })) && self.ledger().went_without_set {
            self.forget_stored(ordinal);
        }
        started.is_ok()
    }

    /// People do as docs/dynamic.md says: what was stored for a broker by an object that ended without its StatefulSet
    /// nobody else can take out.
    fn forget_stored(&self, ordinal: u32) {
        self.faults().count("StoredSettingsDeleted");
        for setting in ListenerSetting::ALL {
            self.kafka.store(node(ordinal), setting, None);
        }
    }

    /// As the kubelet does: again and again while the pod is there.
    pub async fn start_until_up(&self, ordinal: u32, uid: &str) {
        while self.is_pod(ordinal, uid) && !self.broker_starts(ordinal) {
            self.executor.time.sleep(Duration::from_secs(7)).await;
        }
    }

    pub fn pod_uid(&self, ordinal: u32) -> Option<String> {
        self.around().pods.get(&ordinal).map(|(uid, _)| uid.clone())
    }

    /// What the template and the pod's file make of the broker's settings, as the broker reads them.
    fn broker_file(&self, ordinal: u32) -> Option<BrokerFile> {
        let template = self.api.pod_now(&pod_name(ordinal))?.spec?;
        let value = |name: &str| {
            let env = template.containers.first()?.env.as_ref()?;
            env.iter().find(|variable| variable.name == name)?.value.clone()
        };
        let advertised = value("KAFKA_ADVERTISED_LISTENERS")?
            .replace("$$", "$")
            .replace("$(POD_NAME)", &pod_name(ordinal));
        let advertised = match advertised.split_once("${kea:") {
            None => advertised,
            Some((fixed, _)) => {
                let files = self.api.config_map_now(&format!("{SET}-external-access"))?.data?;
                let file = files.get(&format!("{}.properties", pod_name(ordinal)))?;
                let external = file.lines().find_map(|line| line.strip_prefix("external="))?;
                format!("{fixed}{external}")
            }
        };
        Some(BrokerFile {
            listeners: value("KAFKA_LISTENERS")?,
            advertised: Some(advertised),
            protocols: value("KAFKA_LISTENER_SECURITY_PROTOCOL_MAP")?,
            hostname: pod_name(ordinal),
        })
    }

    fn make_pod(&self, ordinal: u32) -> Option<String> {
        let (uid, revision) = self.api.of_stateful_set(SET, |set| {
            (set.metadata.uid.clone(), Revisions::of(set).of_new(ordinal).cloned())
        })?;
        let template = self.around().templates.get(revision.as_ref()?)?.spec.clone();
        let mut pod: Pod = parsed(json!({
            "metadata": {"name": pod_name(ordinal), "namespace": "ydata",
                "labels": {"app": "kafka", "controller-revision-hash": revision},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": SET,
                    "uid": uid, "controller": true}]},
            "status": {"phase": "Pending"}}));
        pod.spec = template;
        self.api.put_pod(pod);
        self.api.pod_now(&pod_name(ordinal))?.metadata.uid
    }

    /// The pod gets its address and a port in the cloud. False: it is gone.
    fn give_address(&self, ordinal: u32, uid: &str) -> bool {
        let Some(mut pod) = self.api.pod_now(&pod_name(ordinal)) else { return false };
        if pod.metadata.uid.as_deref() != Some(uid) {
            return false;
        }
        let ip = {
            let mut around = self.around();
            around.next_host += 1;
            let ip = Ipv4Addr::from(0x0A80_0000 + u32::from(around.next_host));
            around.pods.insert(ordinal, (uid.to_owned(), ip));
            ip
        };
        self.cloud.add_port("demo", ip);
        let text = ip.to_string();
        pod.status = Some(parsed(json!({"phase": "Running", "podIP": text, "podIPs": [{"ip": text}]})));
        self.api.put_pod(pod);
        true
    }

    /// The kubelet starts nothing in a pod that is deleted.
    fn is_pod(&self, ordinal: u32, uid: &str) -> bool {
        let stays =
            |pod: &Pod| pod.metadata.uid.as_deref() == Some(uid) && pod.metadata.deletion_timestamp.is_none();
        self.api.of_pod(&pod_name(ordinal), stays) == Some(true)
    }

    fn set_ready(&self, ordinal: u32) {
        let Some(mut pod) = self.api.pod_now(&pod_name(ordinal)) else { return };
        let ready = json!([{"type": "Ready", "status": "True"}]);
        pod.status.get_or_insert_default().conditions = Some(parsed(ready));
        self.api.put_pod(pod);
    }
}

async fn start_pod(world: Arc<World>, ordinal: u32) {
    let time = world.executor.time.clone();
    time.sleep(world.chance.millis(500, 15_000)).await;
    world.around().starting.remove(&ordinal);
    let wanted = ordinal < world.wanted_pods() && world.api.pod_now(&pod_name(ordinal)).is_none();
    let Some(uid) = wanted.then(|| world.make_pod(ordinal)).flatten() else { return };
    world.after_effect();
    time.sleep(world.chance.millis(100, 4_000)).await;
    if !world.give_address(ordinal, &uid) {
        return;
    }
    world.after_effect();
    time.sleep(world.chance.millis(500, 10_000)).await;
    world.start_until_up(ordinal, &uid).await;
    time.sleep(world.chance.millis(100, 5_000)).await;
    if world.is_pod(ordinal, &uid) {
        world.set_ready(ordinal);
        world.after_effect();
    }
}

async fn end_pod(world: Arc<World>, ordinal: u32, uid: String) {
    let most = u64::try_from(world.setup.pods_end_in.as_millis()).expect("a short time");
    let time = world.executor.time.clone();
    time.sleep(world.chance.millis(0, most)).await;
    if world.pod_uid(ordinal).as_ref() == Some(&uid) {
        world.broker_ends(ordinal);
    }
    time.sleep(world.chance.millis(0, 3_000)).await;
    world.api.pod_has_ended(&pod_name(ordinal), &uid);
    world.around().ending.remove(&uid);
    world.after_effect();
}

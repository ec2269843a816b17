//! What is remembered of how actions ended.

use super::*;
use crate::{
    cloud::{CloudError, NewFloatingIp, limits::BandwidthLimits},
    domain::{AccessKey, ClusterId, NetworkId, NodeId, OwnerMarker, PortId, Revision},
    plan::Outside,
};

const BROKER: Ordinal = Ordinal(0);

fn start() -> Timestamp {
    Timestamp::from_second(1_800_000_000).expect("a time")
}

fn at(seconds: u64) -> Timestamp {
    start() + Duration::from_secs(seconds)
}

fn pod(uid: &str) -> PodIdentity {
    PodIdentity { uid: Uid::new(uid), name: "kafka-0".into() }
}

fn target() -> Binding {
    Binding { port: PortId::new("port-0"), fixed_ip: [10, 128, 0, 20].into() }
}

fn endpoint() -> Endpoint {
    Endpoint { host: "203.0.113.10".into(), port: 9094 }
}

fn allocate() -> Action {
    let new = NewFloatingIp {
        network: NetworkId::new("net"),
        description: String::new(),
        binding: target(),
        qos_policy: None,
    };
    Action::Allocate { ordinal: BROKER, pod: pod("p"), new }
}

fn bind() -> Action {
    let id = AddressId::new("a");
    let (pod, to) = (pod("p"), target());
    Action::Bind { ordinal: BROKER, pod, id, read_at: Revision(1), to, marker: None, adopts: None }
}

fn advertise() -> Action {
    Action::Advertise {
        address: Outside::Stated([203, 0, 113, 10].into()),
        ordinal: BROKER,
        node: NodeId(0),
        endpoint: endpoint(),
        changes: vec![],
    }
}

fn cloud(fault: CloudFault) -> Result<(), Cause> {
    Err(Cause::Cloud(CloudError { operation: "test", fault }))
}

fn quota() -> Result<(), Cause> {
    cloud(CloudFault::QuotaExceeded("floatingip".into()))
}

fn after(actions: &[(Action, Result<(), Cause>)]) -> Memory {
    let mut memory = Memory::new(start());
    for (action, result) in actions {
        memory.record(action, result, start(), 0.0);
    }
    memory
}

#[test]
fn who_moves_an_address_that_we_bound_is_somebody_else_until_we_unbind_it() {
    let marker = OwnerMarker {
        cluster: ClusterId::new("c1"),
        key: AccessKey { namespace: "ydata".into(), name: "kafka".into() },
        uid: Uid::new("u"),
        ordinal: BROKER,
    };
    let (id, read_at) = (AddressId::new("a"), Revision(1));
    let bound = BTreeMap::from([(BROKER, target())]);
    assert_eq!(after(&[(allocate(), Ok(()))]).bound_by_us, bound);
    assert_eq!(after(&[(allocate(), quota())]).bound_by_us, BTreeMap::new());
    assert_eq!(after(&[(bind(), Ok(()))]).bound_by_us, bound);
    assert_eq!(after(&[(bind(), Err(Cause::MovedAway))]).bound_by_us, bound, "the next look counts it");
    assert_eq!(after(&[(bind(), cloud(CloudFault::RevisionChanged))]).bound_by_us, BTreeMap::new());
    for end in [
        Action::Unbind { ordinal: BROKER, id: id.clone(), read_at },
        Action::Release { ordinal: BROKER, id: id.clone(), marker: marker.clone() },
        Action::Retain { ordinal: BROKER, id, read_at, marker },
    ] {
        assert_eq!(after(&[(bind(), Ok(())), (end.clone(), Ok(()))]).bound_by_us, BTreeMap::new());
        assert_eq!(after(&[(bind(), Ok(())), (end, quota())]).bound_by_us, bound);
    }
}

#[test]
fn what_a_broker_was_told_is_remembered_until_it_is_withdrawn_whoever_led_in_between() {
    let told = BTreeMap::from([(BROKER, endpoint())]);
    assert_eq!(after(&[(advertise(), Ok(()))]).told, told);
    let cut_off = Err(Cause::LookAgain("the broker was not asked afterwards"));
    assert_eq!(after(&[(advertise(), cut_off)]).led_again(at(60)).told, told);
    let taken_back = Err(Cause::ListenerNotApplied("not open in time".into()));
    assert_eq!(after(&[(advertise(), taken_back)]).told, BTreeMap::new());
    let withdraw = Action::Withdraw { ordinal: BROKER, node: NodeId(0), changes: vec![] };
    assert_eq!(after(&[(advertise(), Ok(())), (withdraw, Ok(()))]).told, BTreeMap::new());
}

#[test]
fn refused_allocations_pause_the_next_ones_twice_as_long_each_time() {
    let pause = |refusals: usize, jitter: f64| {
        let mut memory = Memory::new(start());
        for _ in 0..refusals {
            memory.record(&allocate(), &quota(), start(), jitter);
        }
        memory.allocation.map(|pause| pause.until)
    };
    let waits = [5, 10, 20, 40, 80, 160, 300, 300];
    for (refusals, seconds) in (1..).zip(waits) {
        assert_eq!(pause(refusals, 0.0), Some(at(seconds)), "{refusals}");
    }
    assert_eq!(pause(40, 0.0), Some(at(300)));
    assert_eq!(pause(1, 0.5), Some(start() + Duration::from_millis(5500)));
    let memory = after(&[(allocate(), quota()), (allocate(), Ok(()))]);
    assert_eq!((memory.allocation, memory.allocated), (None, true));
}

#[test]
fn an_allocation_that_met_another_one_pauses_nothing_and_an_unclear_one_is_remembered() {
    for fault in [
        CloudFault::PortAlreadyBound("x".into()),
        CloudFault::RevisionChanged,
        CloudFault::NotFound("x".into()),
    ] {
        let memory = after(&[(allocate(), cloud(fault))]);
        assert_eq!((memory.allocation, memory.unclear_create_at), (None, None));
        assert!(memory.allocated);
    }
    let memory = after(&[(allocate(), cloud(CloudFault::Unclear("x".into())))]);
    assert_eq!((memory.allocation, memory.unclear_create_at), (None, Some(start())));
    // The pod is looked at before the call and after it, so it may have been sent.
    let unseen = KubernetesFault::Unavailable("x".into());
    let unseen = Cause::Kubernetes(KubernetesError { operation: "read the pod", fault: unseen });
    for cause in [Cause::LookAgain("x"), unseen] {
        assert!(after(&[(allocate(), Err(cause))]).allocated);
    }
}

#[test]
fn a_request_to_hold_the_secret_is_unclear_only_without_an_answer() {
    let kubernetes = |fault| Err(Cause::Kubernetes(KubernetesError { operation: "test", fault }));
    let unclear = |result| after(&[(Action::HoldSecret, result)]).unclear_hold;
    assert!(unclear(kubernetes(KubernetesFault::Unavailable("x".into()))));
    assert!(!unclear(kubernetes(KubernetesFault::Conflict)));
    assert!(!unclear(Ok(())));
}

#[test]
fn a_listener_that_was_taken_back_is_left_alone_for_five_minutes_or_until_it_is_there() {
    let refused = || Err(Cause::ListenerNotApplied("it did not open".into()));
    let memory = after(&[(advertise(), refused())]);
    assert_eq!(memory.listener_refused[&BROKER], (at(300), "it did not open".to_owned()));
    assert!(after(&[(advertise(), refused()), (advertise(), Ok(()))]).listener_refused.is_empty());
    assert!(after(&[(advertise(), Err(Cause::NotLeading))]).listener_refused.is_empty());
}

#[test]
fn a_policy_that_something_else_has_is_remembered() {
    let limits = BandwidthLimits { egress_mbps: Some(1), ingress_mbps: None };
    let id = QosPolicyId::new("q1");
    let remove = Action::RemovePolicy { id: id.clone(), name: limits.policy_name() };
    let in_use = cloud(CloudFault::QosPolicyInUse("x".into()));
    assert_eq!(after(&[(remove.clone(), in_use)]).policies_in_use, BTreeSet::from([id]));
    assert!(after(&[(remove.clone(), quota())]).policies_in_use.is_empty());
    assert!(after(&[(remove, Ok(()))]).policies_in_use.is_empty());
}

#[test]
fn a_restart_was_in_vain_when_the_new_pod_still_does_not_tell_the_same_endpoint() {
    let goal = endpoint();
    let restart = |goal: Option<Endpoint>| Action::Restart { ordinal: BROKER, pod: pod("old"), goal };
    let mut memory = after(&[(restart(Some(goal.clone())), Ok(()))]);
    assert!(memory.in_vain(BROKER, &pod("new"), Some(&goal)));
    assert!(!memory.in_vain(BROKER, &pod("old"), Some(&goal)), "it has not gone yet");
    assert!(!memory.in_vain(BROKER, &pod("new"), None), "another goal");
    assert!(!memory.in_vain(Ordinal(1), &pod("new"), Some(&goal)), "another broker");
    memory.restarted.get_mut(&BROKER).expect("a restart").reached = true;
    assert!(!memory.in_vain(BROKER, &pod("new"), Some(&goal)), "it was reached once");
    let refused = Err(Cause::NotLeading);
    assert!(!after(&[(restart(None), refused)]).in_vain(BROKER, &pod("new"), None));
}

#[test]
fn a_restart_counts_for_the_broker_of_that_stateful_set_while_it_has_one() {
    let set = |uid: &str, replicas| StatefulSetView {
        uid: Uid::new(uid),
        manager: None,
        replicas,
        first_ordinal: 0,
        host_network: false,
        internal_port: None,
        listening_ports: BTreeSet::new(),
        service: "kafka-headless".into(),
        object: Box::default(),
    };
    let last = Ordinal(2);
    let in_vain_after = |seen: &[Option<StatefulSetView>]| {
        let mut memory = Memory::new(start());
        memory.forget_restarts(Some(&set("a", 3)));
        let restart = Action::Restart { ordinal: last, pod: pod("old"), goal: Some(endpoint()) };
        memory.record(&restart, &Ok(()), start(), 0.0);
        seen.iter().for_each(|set| memory.forget_restarts(set.as_ref()));
        memory.in_vain(last, &pod("new"), Some(&endpoint()))
    };
    assert!(in_vain_after(&[Some(set("a", 3)), Some(set("a", 4))]));
    assert!(!in_vain_after(&[None, Some(set("a", 3))]), "the StatefulSet was away");
    assert!(!in_vain_after(&[Some(set("b", 3))]), "another StatefulSet of that name");
    assert!(!in_vain_after(&[Some(set("a", 2)), Some(set("a", 3))]), "the broker was scaled away");
}

#[test]
fn a_restart_counts_until_the_broker_is_to_tell_something_else() {
    let observed = |plan: &Plan| {
        let mut memory =
            after(&[(Action::Restart { ordinal: BROKER, pod: pod("old"), goal: Some(endpoint()) }, Ok(()))]);
        memory.forget_other_goals(plan);
        memory.in_vain(BROKER, &pod("new"), Some(&endpoint()))
    };
    let wants = |host: &str| Plan {
        endpoints: BTreeMap::from([(BROKER, Endpoint { host: host.into(), port: 9094 })]),
        ..Plan::default()
    };
    assert!(observed(&Plan::default()), "nothing is wanted now");
    assert!(observed(&wants("203.0.113.10")));
    assert!(!observed(&wants("198.51.100.7")));
}

//! The sentences that every Kafka keeps, real or simulated. Each leaves its world as it found it.

use std::{fmt::Debug, time::Duration};

use kafka_external_access::{
    domain::{Endpoint, NodeId},
    kafka::{
        BrokerView, Brokers, ClusterState, KafkaError, KafkaFault, ListenerSetting, MetadataMode,
        SettingChange, Step, Target, Validate,
    },
    listeners::{
        apply::{ApplyError, Subject, apply, remove},
        dynamic::{Decision, Refusal, Surroundings, Wanted, decide, take_back, withdraw},
    },
    seams::{Clock, Leadership, SoleReplica},
};

/// Two brokers, 0 and 1, with one listener `INTERNAL`; `EXTERNAL` is to come.
pub trait World {
    fn brokers(&self) -> &dyn Brokers;
    fn clock(&self) -> &dyn Clock;
    fn at(&self, number: u16, port: u16) -> Target;
    fn occupy(&mut self, number: u16, port: u16, occupied: bool);
    /// False: the broker did not come back.
    fn restart(&mut self, number: u16) -> bool;
}

pub const INTERNAL_PORT: u16 = 9092;
const EXTERNAL_PORT: u16 = 9192;
/// Long enough for a broker to apply what it should not have stored.
const APPLIED: Duration = Duration::from_secs(2);
/// Until what was asked for must be so.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the file of a broker says.
pub fn file(number: u16) -> [(ListenerSetting, String); 3] {
    let port = INTERNAL_PORT + number;
    [
        (ListenerSetting::Listeners, format!("INTERNAL://:{port}")),
        (ListenerSetting::AdvertisedListeners, format!("INTERNAL://localhost:{port}")),
        (ListenerSetting::SecurityProtocolMap, "INTERNAL:PLAINTEXT".to_owned()),
    ]
}

/// The whole suite, one sentence after the other.
pub async fn all(world: &mut dyn World) {
    let sentence = |text| println!("- {text}");
    sentence("a broker says who it is, what it advertises and what its file says");
    describes(world).await;
    sentence("a probe passes every step in order, and a port that nobody opened is refused");
    probes(world).await;
    sentence("the cluster has a controller and no quorum");
    has_a_controller(world).await;
    sentence("what is not stored can be deleted, and nothing happens");
    deletes_nothing(world).await;
    sentence("a change for another broker is refused and names who answers");
    refuses_another_id(world).await;
    sentence("a dry run changes nothing");
    dry_run(world).await;
    sentence("what is not valid is refused in the dry run, and nothing of it is stored");
    invalid(world).await;
    sentence("a listener comes and goes in a running broker, and the internal one does not notice");
    comes_and_goes(world).await;
    sentence("an address that changes is advertised anew");
    address_changes(world).await;
    sentence("where a broker does not have the listener of the question, it is left out of the answer");
    left_out_without_the_listener(world).await;
    sentence("the other broker hears of an address that changed");
    heard_by_the_other(world).await;
    sentence("an endpoint of another broker is stored without a word and never registered; we take it back");
    endpoint_of_another(world).await;
    sentence("a port that is taken is stored without a word and never opened; we take it back");
    busy_port(world).await;
    sentence("a value that somebody else stored is left alone");
    shadowed(world).await;
    sentence("what is stored outlives a restart, and can be taken out afterwards");
    outlives_restart(world).await;
    sentence("a stored endpoint that another broker is registered with keeps a broker from starting");
    stored_duplicate_is_deadly(world).await;
}

async fn describes(world: &mut dyn World) {
    for number in [0, 1] {
        let view = internal(world, number).await;
        assert_eq!((view.node, view.mode), (id(number), MetadataMode::ZooKeeper));
        assert!(!view.cluster.is_empty());
        let table = [0, 1].map(|n| (id(n), Endpoint { host: "localhost".into(), port: INTERNAL_PORT + n }));
        assert_eq!(view.advertised.into_iter().collect::<Vec<_>>(), table);
        for (setting, fixed) in file(number) {
            let value = view.settings.get(&setting).cloned().unwrap_or_default();
            let shown = (value.dynamic, value.fixed, value.effective);
            assert_eq!(shown, (None, Some(fixed.clone()), Some(fixed)), "{setting:?}");
        }
    }
}

async fn refuses_another_id(world: &mut dyn World) {
    // The other broker of the cluster, and one that it does not have.
    for wrong in [id(1), NodeId(7)] {
        for validate in [Validate::Only, Validate::AndApply] {
            let error = alter(world, 0, wrong, &changes(world, 0).await, validate).await;
            let error = error.expect_err("another broker's change");
            let named = |words: &String| words.starts_with("Unexpected broker id, expected 0");
            assert!(matches!(&error.fault, KafkaFault::Rejected(words) if named(words)), "{error}");
        }
    }
    untouched(world, 0).await;
    untouched(world, 1).await;
}

async fn probes(world: &mut dyn World) {
    for number in [0, 1] {
        let report = world.brokers().probe(&world.at(number, INTERNAL_PORT + number)).await;
        let mut steps: Vec<Step> = report.passed.iter().map(|(step, _)| *step).collect();
        // Who is asked for another broker first is asked twice.
        steps.dedup();
        assert_eq!(steps, [Step::Tcp, Step::ApiVersions, Step::DescribeCluster, Step::DescribeConfigs]);
        assert_eq!(report.outcome.map(|view| view.node), Ok(id(number)));
        let nobody = world.brokers().probe(&world.at(number, EXTERNAL_PORT + number)).await;
        let refused = KafkaError { step: Step::Tcp, fault: KafkaFault::Refused };
        assert_eq!((nobody.passed, nobody.outcome), (vec![], Err(refused)));
    }
}

async fn has_a_controller(world: &mut dyn World) {
    let states = [cluster(world, 0).await, cluster(world, 1).await];
    assert_eq!(states[0], states[1]);
    assert!(states[0].controller.is_some_and(|controller| [id(0), id(1)].contains(&controller)));
    assert_eq!(states[0].quorum, None);
}

async fn cluster(world: &dyn World, number: u16) -> ClusterState {
    let target = world.at(number, INTERNAL_PORT + number);
    world.brokers().cluster(&target).await.expect("the broker knows its cluster")
}

async fn deletes_nothing(world: &mut dyn World) {
    for validate in [Validate::Only, Validate::AndApply] {
        assert_eq!(alter(world, 0, id(0), &take_back(), validate).await, Ok(()));
    }
    untouched(world, 0).await;
}

/// The table of a listener has who advertises on it. To a client the others have no leader (LISTENER_NOT_FOUND), so the
/// bootstrap list waits for all.
async fn left_out_without_the_listener(world: &mut dyn World) {
    put(world, 0, &wanted(0)).await.expect("a listener");
    let alone = |view: &BrokerView| view.advertised.clone().into_iter().eq([(id(0), wanted(0).endpoint)]);
    eventually(world, &world.at(0, EXTERNAL_PORT), alone).await;
    let before = internal(world, 0).await.advertised;
    assert_eq!(before.len(), 2, "inside both are there: {before:?}");
    put(world, 1, &wanted(1)).await.expect("a listener");
    eventually(world, &world.at(0, EXTERNAL_PORT), |view| view.advertised.len() == 2).await;
    take_out(world, 1).await;
    eventually(world, &world.at(0, EXTERNAL_PORT), alone).await;
    take_out(world, 0).await;
}

async fn heard_by_the_other(world: &mut dyn World) {
    for number in [0, 1] {
        put(world, number, &wanted(number)).await.expect("a listener");
    }
    let mut moved = wanted(0);
    moved.endpoint.host = "203.0.113.99".into();
    let Decision::Change(changes) = judge(world, 0, &moved).await else { panic!("a change of address") };
    assert_eq!(alter(world, 0, id(0), &changes, Validate::AndApply).await, Ok(()));
    let heard = |view: &BrokerView| view.advertised.get(&id(0)) == Some(&moved.endpoint);
    eventually(world, &world.at(1, EXTERNAL_PORT + 1), heard).await;
    assert_eq!(internal(world, 1).await.advertised.len(), 2, "inside nothing changes");
    take_out(world, 1).await;
    take_out(world, 0).await;
}

async fn dry_run(world: &mut dyn World) {
    let changes = changes(world, 0).await;
    assert_eq!(alter(world, 0, id(0), &changes, Validate::Only).await, Ok(()));
    world.clock().sleep(APPLIED).await;
    untouched(world, 0).await;
}

async fn invalid(world: &mut dyn World) {
    use ListenerSetting::{AdvertisedListeners, Listeners, SecurityProtocolMap};
    for (setting, value) in [
        (AdvertisedListeners, "INTERNAL://localhost:9092,NEW://203.0.113.1:1"),
        (Listeners, "INTERNAL://:9092,NEW://:9200"),
        (AdvertisedListeners, "INTERNAL://0.0.0.0:9092"),
        (Listeners, "nonsense"),
        (SecurityProtocolMap, "INTERNAL:SSL"),
    ] {
        for validate in [Validate::Only, Validate::AndApply] {
            let change = [SettingChange::Set(setting, value.into())];
            let answer = alter(world, 0, id(0), &change, validate).await;
            let rejected = |error: &KafkaError| matches!(error.fault, KafkaFault::Rejected(_));
            assert!(answer.as_ref().is_err_and(rejected), "{value}: {answer:?}");
        }
    }
    untouched(world, 0).await;
}

async fn comes_and_goes(world: &mut dyn World) {
    let before = internal(world, 1).await.advertised;
    for number in [0, 1] {
        put(world, number, &wanted(number)).await.expect("a listener");
    }
    let outside = [0, 1].map(|n| (id(n), wanted(n).endpoint));
    for number in [0, 1] {
        eventually(world, &world.at(number, EXTERNAL_PORT + number), |view| {
            view.node == id(number) && view.advertised.clone().into_iter().eq(outside.clone())
        })
        .await;
        let own = internal(world, number).await;
        assert_eq!(own.advertised, before);
        assert_eq!(judge(world, number, &wanted(number)).await, Decision::InForce);
    }
    take_out(world, 1).await;
    take_out(world, 0).await;
}

async fn address_changes(world: &mut dyn World) {
    put(world, 0, &wanted(0)).await.expect("a listener");
    let mut moved = wanted(0);
    moved.endpoint.host = "203.0.113.99".into();
    match judge(world, 0, &moved).await {
        Decision::Change(changes) => assert_eq!(changes.len(), 1, "{changes:?}"),
        other => panic!("{other:?}"),
    }
    put(world, 0, &moved).await.expect("the new address");
    take_out(world, 0).await;
}

async fn endpoint_of_another(world: &mut dyn World) {
    put(world, 0, &wanted(0)).await.expect("a listener");
    let same = Wanted { endpoint: wanted(0).endpoint, ..wanted(1) };
    assert_eq!(
        judge(world, 1, &same).await,
        Decision::Refused(Refusal::EndpointTaken { by: id(0), endpoint: same.endpoint.clone() })
    );
    // Past our own guard: the broker itself says nothing.
    let changes = past_guards(world, 1, &same).await;
    let refused = carry_out(world, 1, &same, &changes).await.expect_err("a duplicate");
    assert!(matches!(refused, ApplyError::NotApplied(_)), "{refused}");
    untouched_again(world, 1).await;
    take_out(world, 0).await;
}

async fn busy_port(world: &mut dyn World) {
    let wanted = wanted(1);
    let port = world.at(1, wanted.port);
    assert!(!world.brokers().accepts(&port).await);
    world.occupy(1, wanted.port, true);
    let view = internal(world, 1).await;
    let busy = world.brokers().accepts(&port).await;
    assert_eq!(
        decide(&view, [].iter(), &wanted, &around(busy)),
        Decision::Refused(Refusal::PortBusy(wanted.port))
    );
    let changes = past_guards(world, 1, &wanted).await;
    assert_eq!(alter(world, 1, id(1), &changes, Validate::AndApply).await, Ok(()), "the broker says nothing");
    // And shows it as in force.
    let shown = |view: &BrokerView| {
        let value = view.setting(ListenerSetting::AdvertisedListeners).effective;
        value.is_some_and(|value| value.contains(&wanted.endpoint.host))
    };
    eventually(world, &world.at(1, INTERNAL_PORT + 1), shown).await;
    assert_eq!(alter(world, 1, id(1), &take_back(), Validate::AndApply).await, Ok(()));
    let refused = carry_out(world, 1, &wanted, &changes).await.expect_err("a busy port");
    assert!(matches!(refused, ApplyError::NotApplied(_)), "{refused}");
    world.occupy(1, wanted.port, false);
    untouched_again(world, 1).await;
    put(world, 1, &wanted).await.expect("the port is free now");
    take_out(world, 1).await;
}

async fn shadowed(world: &mut dyn World) {
    let foreign = format!("INTERNAL://:{INTERNAL_PORT},ADMIN://:9300");
    let change = [
        SettingChange::Set(ListenerSetting::Listeners, foreign.clone()),
        SettingChange::Set(ListenerSetting::SecurityProtocolMap, "INTERNAL:PLAINTEXT,ADMIN:PLAINTEXT".into()),
    ];
    alter(world, 0, id(0), &change, Validate::AndApply).await.expect("somebody's own listener");
    eventually(world, &world.at(0, 9300), |view| view.node == id(0)).await;
    assert_eq!(judge(world, 0, &wanted(0)).await, Decision::Refused(Refusal::Shadowed("listeners")));
    let view = internal(world, 0).await;
    assert_eq!(withdraw(&view, "EXTERNAL"), []);
    assert_eq!(view.setting(ListenerSetting::Listeners).dynamic, Some(foreign));
    alter(world, 0, id(0), &take_back(), Validate::AndApply).await.expect("taken out by its owner");
    untouched_again(world, 0).await;
}

async fn outlives_restart(world: &mut dyn World) {
    put(world, 1, &wanted(1)).await.expect("a listener");
    assert!(world.restart(1), "the broker comes back");
    let right = |view: &BrokerView| view.advertised.get(&id(1)) == Some(&wanted(1).endpoint);
    eventually(world, &world.at(1, wanted(1).port), right).await;
    assert_eq!(judge(world, 1, &wanted(1)).await, Decision::InForce);
    take_out(world, 1).await;
}

async fn stored_duplicate_is_deadly(world: &mut dyn World) {
    put(world, 0, &wanted(0)).await.expect("a listener");
    let same = Wanted { endpoint: wanted(0).endpoint, ..wanted(1) };
    let changes = past_guards(world, 1, &same).await;
    alter(world, 1, id(1), &changes, Validate::AndApply).await.expect("stored");
    let stored = |view: &BrokerView| view.setting(ListenerSetting::AdvertisedListeners).dynamic.is_some();
    eventually(world, &world.at(1, INTERNAL_PORT + 1), stored).await;
    assert!(!world.restart(1), "the broker does not start");
    // The other broker lets the endpoint go, and it starts.
    take_out(world, 0).await;
    assert!(world.restart(1), "the broker comes back");
    take_out(world, 1).await;
}

/// KRaft: who answers is known, and nothing that is advertised changes.
pub async fn kraft(world: &mut dyn World, node: NodeId) {
    let view = world.brokers().describe(&world.at(0, INTERNAL_PORT)).await.expect("an answer");
    assert_eq!((view.node, view.mode), (node, MetadataMode::KRaft));
    assert_eq!(view.advertised.get(&node).map(|e| e.port), Some(INTERNAL_PORT));
    assert_eq!(
        decide(&view, [].iter(), &wanted(0), &around(false)),
        Decision::Refused(Refusal::RestartRequired)
    );
    let value = format!("INTERNAL://localhost:{INTERNAL_PORT},EXTERNAL://203.0.113.10:9192");
    let change = [
        SettingChange::Set(
            ListenerSetting::Listeners,
            format!("INTERNAL://:{INTERNAL_PORT},EXTERNAL://:9192,CONTROLLER://:9093"),
        ),
        SettingChange::Set(ListenerSetting::AdvertisedListeners, value),
        SettingChange::Set(
            ListenerSetting::SecurityProtocolMap,
            "INTERNAL:PLAINTEXT,EXTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT".into(),
        ),
    ];
    for validate in [Validate::Only, Validate::AndApply] {
        let error = alter(world, 0, node, &change, validate).await.expect_err("not in KRaft");
        // 3.9: "Advertised listeners cannot be altered when using a Raft-based metadata quorum".
        let says = |words: &String| words.to_lowercase().replace('.', " ").contains("advertised listeners");
        assert!(matches!(&error.fault, KafkaFault::Rejected(words) if says(words)), "{error}");
    }
    let after = world.brokers().describe(&world.at(0, INTERNAL_PORT)).await.expect("an answer");
    assert_eq!(after, view);
    let wrong =
        alter(world, 0, NodeId(7), &change, Validate::Only).await.expect_err("another broker's change");
    assert!(matches!(&wrong.fault, KafkaFault::Rejected(_)), "{wrong}");
    let quorum = cluster(world, 0).await.quorum.expect("a quorum");
    assert_eq!((quorum.leader, quorum.voters), (node, [(node, true)].into()));
}

fn id(number: u16) -> NodeId {
    NodeId(i32::from(number))
}

pub fn wanted(number: u16) -> Wanted<'static> {
    let port = EXTERNAL_PORT + number;
    let endpoint = Endpoint { host: format!("203.0.113.{}", 10 + number), port };
    Wanted { name: "EXTERNAL", port, protocol: "PLAINTEXT".into(), endpoint }
}

pub async fn internal(world: &dyn World, number: u16) -> BrokerView {
    let target = world.at(number, INTERNAL_PORT + number);
    world.brokers().describe(&target).await.expect("the broker answers on its internal listener")
}

fn around(port_busy: bool) -> Surroundings {
    Surroundings { port_busy, addresses: Vec::new() }
}

/// The decision for one broker, from fresh views of both.
async fn judge(world: &dyn World, number: u16, wanted: &Wanted<'_>) -> Decision {
    let (own, other) = (internal(world, number).await, internal(world, 1 - number).await);
    decide(&own, [other].iter(), wanted, &around(false))
}

async fn changes(world: &dyn World, number: u16) -> Vec<SettingChange> {
    past_guards(world, number, &wanted(number)).await
}

/// The change as it would be without any other broker to compare with.
pub async fn past_guards(world: &dyn World, number: u16, wanted: &Wanted<'_>) -> Vec<SettingChange> {
    match decide(&internal(world, number).await, [].iter(), wanted, &around(false)) {
        Decision::Change(changes) => changes,
        other => panic!("{other:?}"),
    }
}

async fn alter(
    world: &dyn World,
    number: u16,
    node: NodeId,
    changes: &[SettingChange],
    validate: Validate,
) -> Result<(), KafkaError> {
    let permit = SoleReplica.permit().expect("the only replica leads");
    let target = world.at(number, INTERNAL_PORT + number);
    world.brokers().alter(permit, &target, node, changes, validate).await
}

pub async fn put(world: &dyn World, number: u16, wanted: &Wanted<'_>) -> Result<(), ApplyError> {
    let Decision::Change(changes) = judge(world, number, wanted).await else { panic!("nothing to change") };
    carry_out(world, number, wanted, &changes).await
}

pub async fn carry_out(
    world: &dyn World,
    number: u16,
    wanted: &Wanted<'_>,
    changes: &[SettingChange],
) -> Result<(), ApplyError> {
    let target = world.at(number, INTERNAL_PORT + number);
    let external = world.at(number, wanted.port);
    apply(&subject(world, number, &target), &external, &wanted.endpoint, changes).await
}

fn subject<'a>(world: &'a dyn World, number: u16, internal: &'a Target) -> Subject<'a> {
    Subject {
        brokers: world.brokers(),
        clock: world.clock(),
        leadership: &SoleReplica,
        node: id(number),
        internal,
    }
}

/// Withdraws, and sees the listener close and the file's values alone in force.
pub async fn take_out(world: &dyn World, number: u16) {
    let target = world.at(number, INTERNAL_PORT + number);
    let changes = withdraw(&internal(world, number).await, "EXTERNAL");
    assert_eq!(changes, take_back());
    let endpoint = wanted(number).endpoint;
    remove(&subject(world, number, &target), Some(&endpoint), &changes).await.expect("taken out");
    untouched_again(world, number).await;
}

/// Nothing is stored, and nothing answers on the external port.
pub async fn untouched(world: &dyn World, number: u16) {
    assert_eq!(touched(world, number).await, None);
}

/// The same, once the broker has applied what it was told.
async fn untouched_again(world: &dyn World, number: u16) {
    until(world, async || touched(world, number).await.map_or(Ok(()), Err)).await;
}

/// What is stored or answers.
async fn touched(world: &dyn World, number: u16) -> Option<String> {
    let view = internal(world, number).await;
    for (setting, fixed) in file(number) {
        let value = view.setting(setting);
        if (&value.dynamic, &value.effective) != (&None, &Some(fixed)) {
            return Some(format!("{setting:?}: {value:?}"));
        }
    }
    let outside = world.brokers().describe(&world.at(number, EXTERNAL_PORT + number)).await;
    let outside = outside.map_err(|error| error.fault);
    (outside != Err(KafkaFault::Refused)).then(|| format!("{outside:?}"))
}

async fn eventually(world: &dyn World, at: &Target, right: impl Fn(&BrokerView) -> bool) {
    until(world, async || match world.brokers().describe(at).await {
        Ok(view) if right(&view) => Ok(()),
        seen => Err(seen),
    })
    .await;
}

async fn until<E: Debug>(world: &dyn World, mut look: impl AsyncFnMut() -> Result<(), E>) {
    let start = world.clock().monotonic();
    while let Err(seen) = look().await {
        assert!(world.clock().monotonic() - start < PATIENCE, "{seen:?}");
        world.clock().sleep(Duration::from_millis(200)).await;
    }
}

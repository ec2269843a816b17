//! The sentences that every cloud keeps, real or simulated. Each starts in a world of its own: no floating IP, no port of
//! an earlier one.

use std::{collections::BTreeSet, net::Ipv4Addr, sync::Arc};

use kafka_external_access::{
    cloud::{
        Binding, Change, CloudError, CloudFault, FloatingIp, FloatingIps, IngressRule, NetworkKind,
        NewFloatingIp, limits::BandwidthLimits,
    },
    domain::{AddressId, ErrorClass, PortId, QosPolicyId},
    seams::{Leadership, SoleReplica, WritePermit},
};

/// What people and other systems do to the cloud.
pub trait World {
    /// The floating IPs of the project, with pages of this size where the cloud has pages.
    fn cloud(&self, page: usize) -> Arc<dyn FloatingIps>;
    /// Names of the external network and of the pods' network.
    fn networks(&self) -> [&'static str; 2];
    /// The name of two external networks.
    fn ambiguous_network(&self) -> &'static str;
    /// A port of the project on the pods' network, with that many addresses.
    fn port(&self, addresses: usize) -> Vec<Binding>;
    /// A port that the project does not own.
    fn port_of_others(&self) -> Binding;
    /// A port of the project on a network without a router to the external one.
    fn port_without_router(&self) -> Binding;
    /// The port goes, as with its pod.
    fn remove_port(&self, port: &PortId);
    /// A floating IP of another project.
    fn address_of_others(&self) -> AddressId;
    /// Somebody lets the address serve a port forwarding to this target.
    fn forward(&self, address: &AddressId, to: &Binding);
    /// A group of its own for the port, with one rule: TCP to `ports` from `from` or from anywhere.
    fn admit(&self, port: &PortId, ports: Option<(u16, u16)>, from: Option<&str>);
    /// An administrator shares a bandwidth policy of that name with these limits, in kilobits per second. Each call makes one more.
    fn share_policy(&self, name: &str, egress: Option<u32>, ingress: Option<u32>) -> QosPolicyId;
    /// Whether the credential of the clouds that are opened from now on may make policies.
    fn permit_policies(&self, permitted: bool);
    /// Floating IPs that the project may have.
    fn set_quota(&self, floating_ips: usize);
    /// The external network has no address left, or has again.
    fn set_pool_empty(&self, empty: bool);
}

/// All sentences, handed to a macro of the test that keeps them.
macro_rules! every_sentence {
    ($macro:ident) => {
        $macro! {
            an_address_is_created_bound_and_described_by_one_call
            an_address_is_read_as_it_was_created
            an_address_that_does_not_exist_is_none
            a_second_address_for_a_target_is_refused_and_not_left_over
            a_port_with_two_addresses_takes_two_and_each_target_is_found
            an_address_moves_to_another_port_by_one_call
            a_bound_target_takes_no_other_address_by_a_move
            a_move_from_a_stale_read_is_refused
            an_unbound_address_keeps_its_description
            a_description_changes_alone_and_the_binding_stays
            marker_and_binding_change_by_one_call
            a_description_of_255_characters_is_kept_and_a_longer_one_refused
            every_change_raises_the_revision
            a_deletion_from_a_stale_read_is_refused
            a_deletion_of_what_is_gone_succeeds
            a_change_of_what_is_gone_is_not_found
            a_port_that_goes_leaves_its_address_unbound_with_a_new_revision
            the_quota_refuses_one_more_and_its_raise_admits_it
            an_empty_pool_is_told_from_a_used_up_quota
            a_port_that_does_not_exist_is_not_found
            a_port_of_others_is_refused_and_nothing_is_left_over
            an_address_that_the_port_does_not_have_is_refused
            a_port_without_a_router_is_told
            the_list_is_complete_over_several_pages
            the_list_shows_no_address_of_others
            an_address_of_others_does_not_exist
            an_address_that_forwards_ports_is_neither_free_nor_bound_nor_deleted
            ports_are_found_by_any_of_their_addresses
            ports_of_another_network_are_not_found
            ingress_rules_are_those_of_the_group
            networks_are_found_by_name_and_by_identifier
            a_network_that_is_unknown_or_of_the_wrong_kind_is_told
            an_ambiguous_network_is_told_with_its_count
            the_project_owns_what_it_creates
            a_policy_is_found_by_name_and_by_identifier_with_its_limits
            a_policy_that_is_unknown_or_ambiguous_is_told
            a_policy_is_made_rule_by_rule_and_is_known_as_ours
            a_policy_that_an_address_has_is_not_removed
            a_project_that_may_make_no_policies_is_refused
            an_address_is_created_with_its_policy
            another_policy_leaves_binding_and_description
            a_policy_that_is_gone_is_refused_and_nothing_is_left_over
        }
    };
}

const MARKER: &str = "kea/v1 c=5cbb4b45 n=ydata/kafka u=0b2f7a54 o=0";

fn permit() -> WritePermit {
    SoleReplica.permit().expect("nobody else leads")
}

fn one(world: &dyn World) -> Binding {
    world.port(1).remove(0)
}

/// Creates through `cloud`, which need not be the world's own.
pub async fn try_create_through(
    cloud: &dyn FloatingIps,
    world: &dyn World,
    target: &Binding,
) -> Result<FloatingIp, CloudError> {
    let network = cloud.network(world.networks()[0], NetworkKind::External).await?;
    let (description, binding) = (MARKER.to_owned(), target.clone());
    cloud.create(permit(), &NewFloatingIp { network, description, binding, qos_policy: None }).await
}

async fn try_create(world: &dyn World, target: &Binding) -> Result<FloatingIp, CloudError> {
    try_create_through(&*world.cloud(500), world, target).await
}

async fn create(world: &dyn World, target: &Binding) -> FloatingIp {
    try_create(world, target).await.expect("an address")
}

async fn update(world: &dyn World, read: &FloatingIp, change: Change) -> Result<FloatingIp, CloudError> {
    world.cloud(500).update(permit(), &read.id, read.revision, &change).await
}

/// Changes the address as it is now. The router reports its status at any time, which is a change too (seen on Neutron 29).
async fn alter(world: &dyn World, of: &FloatingIp, change: Change) -> Result<FloatingIp, CloudError> {
    loop {
        match update(world, &read(world, &of.id).await, change.clone()).await {
            Err(CloudError { fault: CloudFault::RevisionChanged, .. }) => {}
            result => return result,
        }
    }
}

/// Deletes the address as it is now.
async fn release(world: &dyn World, of: &FloatingIp) -> Result<(), CloudError> {
    loop {
        let now = world.cloud(500).get(&of.id).await?.unwrap_or_else(|| of.clone());
        match world.cloud(500).delete(permit(), &of.id, now.revision).await {
            Err(CloudError { fault: CloudFault::RevisionChanged, .. }) => {}
            result => return result,
        }
    }
}

fn bind(to: &Binding) -> Change {
    Change::Bind { to: to.clone(), description: None }
}

async fn read(world: &dyn World, id: &AddressId) -> FloatingIp {
    world.cloud(500).get(id).await.expect("an answer").expect("it exists")
}

async fn list(world: &dyn World) -> Vec<FloatingIp> {
    world.cloud(500).list().await.expect("a list")
}

fn fault<T: std::fmt::Debug>(result: Result<T, CloudError>) -> CloudFault {
    result.expect_err("a refusal").fault
}

pub async fn an_address_is_created_bound_and_described_by_one_call(world: &dyn World) {
    let target = one(world);
    let made = create(world, &target).await;
    assert_eq!(made.binding.as_ref(), Some(&target));
    assert_eq!(made.description, MARKER);
    assert!(!made.has_port_forwardings && !made.is_free());
    assert!(made.created_at.is_some());
}

pub async fn an_address_is_read_as_it_was_created(world: &dyn World) {
    let made = create(world, &one(world)).await;
    let known = |read: &FloatingIp| (read.id.clone(), read.address, read.binding.clone(), read.created_at);
    assert_eq!(known(&read(world, &made.id).await), known(&made));
    assert_eq!(list(world).await.iter().map(known).collect::<Vec<_>>(), [known(&made)]);
}

pub async fn an_address_that_does_not_exist_is_none(world: &dyn World) {
    let gone = create(world, &one(world)).await;
    release(world, &gone).await.expect("a release");
    assert_eq!(world.cloud(500).get(&gone.id).await, Ok(None));
}

pub async fn a_second_address_for_a_target_is_refused_and_not_left_over(world: &dyn World) {
    let target = one(world);
    let first = create(world, &target).await;
    let refusal = fault(try_create(world, &target).await);
    assert!(matches!(refusal, CloudFault::PortAlreadyBound(_)), "{refusal:?}");
    assert_eq!(refusal.class(), ErrorClass::Waiting);
    assert_eq!(list(world).await.into_iter().map(|left| left.id).collect::<Vec<_>>(), [first.id]);
}

pub async fn a_port_with_two_addresses_takes_two_and_each_target_is_found(world: &dyn World) {
    let targets = world.port(2);
    assert_eq!(targets[0].port, targets[1].port);
    for target in &targets {
        assert_eq!(create(world, target).await.binding.as_ref(), Some(target));
    }
    let bound: BTreeSet<_> = list(world).await.into_iter().filter_map(|address| address.binding).collect();
    assert_eq!(bound, targets.into_iter().collect());
}

pub async fn an_address_moves_to_another_port_by_one_call(world: &dyn World) {
    let (from, to) = (one(world), one(world));
    let made = create(world, &from).await;
    let moved = alter(world, &made, bind(&to)).await.expect("a move");
    assert_eq!((moved.id, moved.address, moved.binding), (made.id.clone(), made.address, Some(to.clone())));
    assert_eq!(read(world, &made.id).await.binding, Some(to));
}

pub async fn a_bound_target_takes_no_other_address_by_a_move(world: &dyn World) {
    let (first, second) = (one(world), one(world));
    let (held, moving) = (create(world, &first).await, create(world, &second).await);
    let refusal = fault(alter(world, &moving, bind(&first)).await);
    assert!(matches!(refusal, CloudFault::PortAlreadyBound(_)), "{refusal:?}");
    assert_eq!(read(world, &held.id).await.binding, Some(first));
    assert_eq!(read(world, &moving.id).await.binding, Some(second));
}

pub async fn a_move_from_a_stale_read_is_refused(world: &dyn World) {
    let (from, by_somebody, by_us) = (one(world), one(world), one(world));
    let stale = create(world, &from).await;
    alter(world, &stale, bind(&by_somebody)).await.expect("somebody moves it");
    assert_eq!(fault(update(world, &stale, bind(&by_us)).await), CloudFault::RevisionChanged);
    assert_eq!(read(world, &stale.id).await.binding, Some(by_somebody));
}

pub async fn an_unbound_address_keeps_its_description(world: &dyn World) {
    let made = create(world, &one(world)).await;
    let unbound = alter(world, &made, Change::Unbind { description: None }).await.expect("unbound");
    assert!(unbound.is_free());
    let now = read(world, &made.id).await;
    assert_eq!((now.binding, now.description.as_str(), now.address), (None, MARKER, made.address));
}

pub async fn a_description_changes_alone_and_the_binding_stays(world: &dyn World) {
    let target = one(world);
    let made = create(world, &target).await;
    alter(world, &made, Change::Describe("mine".into())).await.expect("described");
    let now = read(world, &made.id).await;
    assert_eq!((now.description.as_str(), now.binding), ("mine", Some(target)));
}

pub async fn marker_and_binding_change_by_one_call(world: &dyn World) {
    let (from, to) = (one(world), one(world));
    let made = create(world, &from).await;
    let change = Change::Bind { to: to.clone(), description: Some("taken over".into()) };
    let taken = alter(world, &made, change).await.expect("taken over");
    assert_eq!((taken.description.as_str(), &taken.binding), ("taken over", &Some(to)));
    let left = Change::Unbind { description: Some("left".into()) };
    let left = alter(world, &read(world, &made.id).await, left).await.expect("left");
    assert_eq!((left.description.as_str(), left.binding), ("left", None));
}

pub async fn a_description_of_255_characters_is_kept_and_a_longer_one_refused(world: &dyn World) {
    let made = create(world, &one(world)).await;
    let longest = "x".repeat(255);
    let kept = alter(world, &made, Change::Describe(longest.clone())).await.expect("kept");
    assert_eq!(kept.description, longest);
    let refusal = fault(alter(world, &kept, Change::Describe("x".repeat(256))).await);
    assert!(matches!(refusal, CloudFault::Refused(_)), "{refusal:?}");
    assert_eq!(read(world, &made.id).await.description, longest);
}

pub async fn every_change_raises_the_revision(world: &dyn World) {
    let address = create(world, &one(world)).await;
    let (first, second) = (one(world), one(world));
    let changes =
        [Change::Describe("other".into()), Change::Unbind { description: None }, bind(&first), bind(&second)];
    for change in changes {
        let before = read(world, &address.id).await;
        alter(world, &before, change.clone()).await.expect("a change");
        assert!(read(world, &address.id).await.revision > before.revision, "{change:?}");
    }
}

pub async fn a_deletion_from_a_stale_read_is_refused(world: &dyn World) {
    let stale = create(world, &one(world)).await;
    let now = alter(world, &stale, Change::Describe("not ours any more".into())).await.expect("described");
    let refusal = fault(world.cloud(500).delete(permit(), &stale.id, stale.revision).await);
    assert_eq!(refusal, CloudFault::RevisionChanged);
    assert_eq!(read(world, &stale.id).await.description, now.description);
}

pub async fn a_deletion_of_what_is_gone_succeeds(world: &dyn World) {
    let made = create(world, &one(world)).await;
    for _ in 0..2 {
        assert_eq!(release(world, &made).await, Ok(()));
    }
    assert!(list(world).await.is_empty());
}

pub async fn a_change_of_what_is_gone_is_not_found(world: &dyn World) {
    let target = one(world);
    let made = create(world, &target).await;
    release(world, &made).await.expect("a release");
    let refusal = fault(update(world, &made, bind(&target)).await);
    assert!(matches!(refusal, CloudFault::NotFound(_)), "{refusal:?}");
}

pub async fn a_port_that_goes_leaves_its_address_unbound_with_a_new_revision(world: &dyn World) {
    let target = one(world);
    let made = create(world, &target).await;
    world.remove_port(&target.port);
    let now = read(world, &made.id).await;
    assert!(now.is_free() && now.revision > made.revision, "{now:?}");
    assert_eq!((now.address, now.description), (made.address, made.description));
}

pub async fn the_quota_refuses_one_more_and_its_raise_admits_it(world: &dyn World) {
    create(world, &one(world)).await;
    world.set_quota(1);
    let target = one(world);
    let refusal = fault(try_create(world, &target).await);
    assert!(matches!(refusal, CloudFault::QuotaExceeded(_)), "{refusal:?}");
    assert_eq!(refusal.class(), ErrorClass::Terminal);
    world.set_quota(2);
    create(world, &target).await;
}

pub async fn an_empty_pool_is_told_from_a_used_up_quota(world: &dyn World) {
    world.set_pool_empty(true);
    let target = one(world);
    let refusal = fault(try_create(world, &target).await);
    assert!(matches!(refusal, CloudFault::PoolEmpty(_)), "{refusal:?}");
    assert!(list(world).await.is_empty());
    world.set_pool_empty(false);
    create(world, &target).await;
}

pub async fn a_port_that_does_not_exist_is_not_found(world: &dyn World) {
    let target = one(world);
    world.remove_port(&target.port);
    let refusal = fault(try_create(world, &target).await);
    assert!(matches!(refusal, CloudFault::NotFound(_)), "{refusal:?}");
    assert!(list(world).await.is_empty());
}

pub async fn a_port_of_others_is_refused_and_nothing_is_left_over(world: &dyn World) {
    let foreign = world.port_of_others();
    let refusal = fault(try_create(world, &foreign).await);
    assert!(matches!(refusal, CloudFault::Refused(_)), "{refusal:?}");
    assert!(list(world).await.is_empty());
    let made = create(world, &one(world)).await;
    let refusal = fault(alter(world, &made, bind(&foreign)).await);
    assert!(matches!(refusal, CloudFault::Refused(_)), "{refusal:?}");
    assert_eq!(read(world, &made.id).await.binding, made.binding);
}

pub async fn an_address_that_the_port_does_not_have_is_refused(world: &dyn World) {
    let wrong = Binding { fixed_ip: one(world).fixed_ip, ..one(world) };
    let refusal = fault(try_create(world, &wrong).await);
    assert!(matches!(refusal, CloudFault::Refused(_)), "{refusal:?}");
    assert!(list(world).await.is_empty());
}

pub async fn a_port_without_a_router_is_told(world: &dyn World) {
    let island = world.port_without_router();
    let refusal = fault(try_create(world, &island).await);
    assert!(matches!(refusal, CloudFault::NoRouter(_)), "{refusal:?}");
    assert!(list(world).await.is_empty());
}

pub async fn the_list_is_complete_over_several_pages(world: &dyn World) {
    let mut made = BTreeSet::new();
    for _ in 0..5 {
        made.insert(create(world, &one(world)).await.id);
    }
    // Single objects, a last page that is short, one that comes out even, one that is longer than the list.
    for page in [1, 2, 5, 500] {
        let listed = world.cloud(page).list().await.expect("a list");
        assert_eq!(listed.len(), made.len(), "pages of {page}");
        assert_eq!(listed.into_iter().map(|address| address.id).collect::<BTreeSet<_>>(), made);
    }
}

pub async fn the_list_shows_no_address_of_others(world: &dyn World) {
    let foreign = world.address_of_others();
    assert!(list(world).await.iter().all(|address| address.id != foreign));
}

pub async fn an_address_of_others_does_not_exist(world: &dyn World) {
    let foreign = world.address_of_others();
    assert_eq!(world.cloud(500).get(&foreign).await, Ok(None));
}

pub async fn an_address_that_forwards_ports_is_neither_free_nor_bound_nor_deleted(world: &dyn World) {
    let (target, other) = (one(world), one(world));
    let made = create(world, &target).await;
    let unbound = alter(world, &made, Change::Unbind { description: None }).await.expect("unbound");
    world.forward(&unbound.id, &target);
    let forwarding = read(world, &made.id).await;
    assert!(forwarding.has_port_forwardings && forwarding.binding.is_none() && !forwarding.is_free());
    let refusal = fault(alter(world, &forwarding, bind(&other)).await);
    assert!(matches!(refusal, CloudFault::InUseByPortForwarding(_)), "{refusal:?}");
    let refusal = fault(release(world, &made).await);
    assert!(matches!(refusal, CloudFault::InUseByPortForwarding(_)), "{refusal:?}");
    assert!(read(world, &made.id).await.has_port_forwardings);
}

pub async fn ports_are_found_by_any_of_their_addresses(world: &dyn World) {
    let cloud = world.cloud(500);
    let pods = cloud.network(world.networks()[1], NetworkKind::Internal).await.expect("the pods' network");
    let (single, pair) = (one(world), world.port(2));
    one(world);
    let nobody = Ipv4Addr::new(10, 128, 3, 254);
    let wanted = BTreeSet::from([single.fixed_ip, pair[1].fixed_ip, nobody]);
    for page in [1, 500] {
        for network in [Some(&pods), None] {
            let found = world.cloud(page).ports(network, &wanted).await.expect("ports");
            let ids: BTreeSet<_> = found.iter().map(|port| port.id.clone()).collect();
            assert_eq!((found.len(), ids), (2, BTreeSet::from([single.port.clone(), pair[0].port.clone()])));
            let both = found.into_iter().find(|port| port.id == pair[0].port).expect("the pair");
            let addresses: BTreeSet<_> = both.fixed_ips.into_iter().collect();
            assert_eq!(addresses, pair.iter().map(|target| target.fixed_ip).collect());
            assert_eq!((both.network, both.port_security_enabled), (pods.clone(), Some(true)));
        }
    }
    assert_eq!(cloud.ports(Some(&pods), &BTreeSet::new()).await, Ok(vec![]));
}

pub async fn ports_of_another_network_are_not_found(world: &dyn World) {
    let cloud = world.cloud(500);
    let pods = cloud.network(world.networks()[1], NetworkKind::Internal).await.expect("the pods' network");
    let island = world.port_without_router();
    let wanted = BTreeSet::from([island.fixed_ip]);
    assert_eq!(cloud.ports(Some(&pods), &wanted).await, Ok(vec![]));
    let anywhere = cloud.ports(None, &wanted).await.expect("ports");
    assert_eq!(anywhere.into_iter().map(|port| port.id).collect::<Vec<_>>(), [island.port]);
}

pub async fn ingress_rules_are_those_of_the_group(world: &dyn World) {
    let cloud = world.cloud(500);
    let cases = [
        (Some((9094, 9096)), Some("198.51.100.0/24")),
        (Some((9094, 9094)), None),
        (None, Some("0.0.0.0/0")),
    ];
    for (ports, from) in cases {
        let target = one(world);
        world.admit(&target.port, ports, from);
        let found = cloud.ports(None, &BTreeSet::from([target.fixed_ip])).await.expect("the port");
        let groups: BTreeSet<_> = found[0].security_groups.iter().cloned().collect();
        assert_eq!(groups.len(), 1);
        let rules = cloud.ingress_rules(&groups).await.expect("rules");
        let seen = |rule: &IngressRule| (rule.ipv4, rule.tcp, rule.ports, rule.remote_ip_prefix.clone());
        let wanted = (true, true, ports, from.map(str::to_owned));
        assert_eq!(rules.iter().map(seen).collect::<Vec<_>>(), [wanted]);
        assert!(groups.contains(&rules[0].group) && rules[0].remote_group.is_none());
    }
}

pub async fn networks_are_found_by_name_and_by_identifier(world: &dyn World) {
    let cloud = world.cloud(500);
    for (name, kind) in world.networks().into_iter().zip([NetworkKind::External, NetworkKind::Internal]) {
        let id = cloud.network(name, kind).await.expect("by name");
        assert_eq!(cloud.network(id.as_str(), kind).await, Ok(id.clone()));
        assert_eq!(cloud.network(name, kind).await, Ok(id), "asked again");
    }
}

pub async fn a_network_that_is_unknown_or_of_the_wrong_kind_is_told(world: &dyn World) {
    let cloud = world.cloud(500);
    let kind = NetworkKind::External;
    let nobody = "00000000-0000-4000-8000-000000000000";
    for name in ["no such network", nobody, world.networks()[1]] {
        let unknown = CloudFault::NetworkUnknown { name: name.to_owned(), kind };
        assert_eq!(fault(cloud.network(name, kind).await), unknown);
    }
}

pub async fn an_ambiguous_network_is_told_with_its_count(world: &dyn World) {
    let name = world.ambiguous_network();
    let refusal = fault(world.cloud(500).network(name, NetworkKind::External).await);
    assert_eq!(refusal, CloudFault::NetworkAmbiguous { name: name.to_owned(), count: 2 });
}

pub async fn the_project_owns_what_it_creates(world: &dyn World) {
    let project = world.cloud(500).project().await.expect("a project");
    let target = one(world);
    assert_eq!(create(world, &target).await.project, project);
    let ports = world.cloud(500).ports(None, &BTreeSet::from([target.fixed_ip])).await.expect("ports");
    assert_eq!(ports.into_iter().map(|port| port.project).collect::<Vec<_>>(), [project]);
}

async fn create_limited(
    world: &dyn World,
    target: &Binding,
    policy: &QosPolicyId,
) -> Result<FloatingIp, CloudError> {
    let cloud = world.cloud(500);
    let network = cloud.network(world.networks()[0], NetworkKind::External).await?;
    let (description, binding) = (MARKER.to_owned(), target.clone());
    let new = NewFloatingIp { network, description, binding, qos_policy: Some(policy.clone()) };
    cloud.create(permit(), &new).await
}

pub async fn a_policy_is_found_by_name_and_by_identifier_with_its_limits(world: &dyn World) {
    let cloud = world.cloud(500);
    let limits = [(Some(100_000), Some(50_000)), (None, Some(20_000)), (Some(10_000), None), (None, None)];
    for (number, (egress, ingress)) in limits.into_iter().enumerate() {
        let name = format!("contract-limit-{number}");
        let id = world.share_policy(&name, egress, ingress);
        for asked in [name.as_str(), id.as_str()] {
            let found = cloud.qos_policies(asked).await.expect("policies");
            let [found] = found.as_slice() else { panic!("one: {found:?}") };
            assert_eq!((&found.id, &found.name), (&id, &name));
            assert_eq!((found.egress_kbps, found.ingress_kbps), (egress, ingress), "{asked}");
            assert!(!found.is_managed_in(&cloud.project().await.expect("the project")));
        }
    }
}

pub async fn a_policy_that_is_unknown_or_ambiguous_is_told(world: &dyn World) {
    let cloud = world.cloud(500);
    for name in ["no such policy", "00000000-0000-4000-8000-000000000000"] {
        assert_eq!(cloud.qos_policies(name).await, Ok(vec![]));
    }
    let name = "contract-limit-twice";
    for _ in 0..2 {
        world.share_policy(name, None, None);
    }
    assert_eq!(cloud.qos_policies(name).await.expect("policies").len(), 2);
}

const LIMITS: BandwidthLimits = BandwidthLimits { egress_mbps: Some(37), ingress_mbps: Some(38) };

pub async fn a_policy_is_made_rule_by_rule_and_is_known_as_ours(world: &dyn World) {
    world.permit_policies(true);
    let cloud = world.cloud(500);
    let project = cloud.project().await.expect("the project");
    let id = cloud.create_policy(permit(), &LIMITS).await.expect("a policy");
    for (rules, rule) in LIMITS.rules().enumerate() {
        let found = cloud.qos_policies(&LIMITS.policy_name()).await.expect("policies");
        assert_eq!((&found[0].id, found[0].is_managed_in(&project)), (&id, true));
        assert_eq!(found[0].lacks(&LIMITS).map(|lacking| lacking.len()), Some(2 - rules));
        cloud.add_rule(permit(), &id, rule).await.expect("a rule");
    }
    assert!(cloud.qos_policies(&LIMITS.policy_name()).await.expect("policies")[0].says(&LIMITS));
    let again = LIMITS.rules().next().expect("a rule");
    assert_eq!(fault(cloud.add_rule(permit(), &id, again).await), CloudFault::RevisionChanged);
    cloud.delete_policy(permit(), &id).await.expect("it goes");
    assert_eq!(cloud.qos_policies(&LIMITS.policy_name()).await, Ok(vec![]));
    cloud.delete_policy(permit(), &id).await.expect("gone already is gone");
}

pub async fn a_policy_that_an_address_has_is_not_removed(world: &dyn World) {
    world.permit_policies(true);
    let cloud = world.cloud(500);
    let id = cloud.create_policy(permit(), &LIMITS).await.expect("a policy");
    let made = create_limited(world, &one(world), &id).await.expect("an address");
    let refusal = fault(cloud.delete_policy(permit(), &id).await);
    assert!(matches!(refusal, CloudFault::QosPolicyInUse(_)), "{refusal:?}");
    release(world, &made).await.expect("released");
    cloud.delete_policy(permit(), &id).await.expect("it goes");
}

pub async fn a_project_that_may_make_no_policies_is_refused(world: &dyn World) {
    world.permit_policies(false);
    let refusal = fault(world.cloud(500).create_policy(permit(), &LIMITS).await);
    assert!(matches!(refusal, CloudFault::Forbidden(_)), "{refusal:?}");
}

pub async fn an_address_is_created_with_its_policy(world: &dyn World) {
    let policy = world.share_policy("contract-limit", Some(100_000), None);
    let target = one(world);
    let made = create_limited(world, &target, &policy).await.expect("an address");
    assert_eq!((made.qos_policy.as_ref(), made.binding.as_ref()), (Some(&policy), Some(&target)));
    assert_eq!(read(world, &made.id).await.qos_policy, Some(policy));
}

pub async fn another_policy_leaves_binding_and_description(world: &dyn World) {
    let (first, second) =
        (world.share_policy("contract-limit", None, None), world.share_policy("contract-more", None, None));
    let target = one(world);
    let made = create_limited(world, &target, &first).await.expect("an address");
    let changed = alter(world, &made, Change::Limit(second.clone())).await.expect("another policy");
    assert_eq!((changed.qos_policy.as_ref(), changed.binding.as_ref()), (Some(&second), Some(&target)));
    assert_eq!(changed.description, MARKER);
    let unlimited = create(world, &one(world)).await;
    assert_eq!(unlimited.qos_policy, None);
    let limited = alter(world, &unlimited, Change::Limit(first.clone())).await.expect("a first policy");
    assert_eq!((limited.qos_policy, limited.binding), (Some(first), unlimited.binding));
}

pub async fn a_policy_that_is_gone_is_refused_and_nothing_is_left_over(world: &dyn World) {
    let (target, nothing) = (one(world), QosPolicyId::new("00000000-0000-4000-8000-000000000000"));
    let refusal = fault(create_limited(world, &target, &nothing).await);
    assert!(matches!(refusal, CloudFault::NotFound(_)), "{refusal:?}");
    assert!(list(world).await.is_empty());
    let made = create(world, &target).await;
    let refusal = fault(alter(world, &made, Change::Limit(nothing)).await);
    assert!(matches!(refusal, CloudFault::NotFound(_)), "{refusal:?}");
    assert_eq!(read(world, &made.id).await.binding, Some(target));
}

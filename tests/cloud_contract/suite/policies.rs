//! Bandwidth policies.

use kafka_external_access::{
    cloud::{
        Binding, Change, CloudError, CloudFault, FloatingIp, NetworkKind, NewFloatingIp,
        limits::BandwidthLimits,
    },
    domain::QosPolicyId,
};

use super::{MARKER, World, alter, bind, create, fault, list, one, permit, read, release};

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

pub async fn moves_and_descriptions_keep_the_policy(world: &dyn World) {
    let policy = world.share_policy("contract-limit", Some(100_000), None);
    let made = create_limited(world, &one(world), &policy).await.expect("an address");
    let changes = [
        Change::Describe("other".into()),
        Change::Unbind { description: None },
        bind(&one(world)),
        bind(&one(world)),
    ];
    for change in changes {
        alter(world, &made, change.clone()).await.expect("a change");
        assert_eq!(read(world, &made.id).await.qos_policy.as_ref(), Some(&policy), "{change:?}");
    }
}

pub async fn a_policy_of_one_direction_says_nothing_of_the_other(world: &dyn World) {
    world.permit_policies(true);
    let cloud = world.cloud(500);
    let limits = BandwidthLimits { egress_mbps: None, ingress_mbps: Some(41) };
    let id = cloud.create_policy(permit(), &limits).await.expect("a policy");
    for rule in limits.rules() {
        cloud.add_rule(permit(), &id, rule).await.expect("a rule");
    }
    let found = cloud.qos_policies(&limits.policy_name()).await.expect("policies");
    assert_eq!((found[0].egress_kbps, found[0].ingress_kbps), (None, Some(41_000)));
    cloud.delete_policy(permit(), &id).await.expect("it goes");
}

pub async fn a_rule_for_a_policy_that_is_gone_is_not_found(world: &dyn World) {
    world.permit_policies(true);
    let cloud = world.cloud(500);
    let id = cloud.create_policy(permit(), &LIMITS).await.expect("a policy");
    cloud.delete_policy(permit(), &id).await.expect("it goes");
    let rule = LIMITS.rules().next().expect("a rule");
    let refusal = fault(cloud.add_rule(permit(), &id, rule).await);
    assert!(matches!(refusal, CloudFault::NotFound(_)), "{refusal:?}");
}

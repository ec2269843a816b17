//! The sentences that every cloud keeps, real or simulated. Each starts in a world of its own: no floating IP, no port of
//! an earlier one.

pub mod addresses;
pub mod forwarding;
pub mod lists;
pub mod moves;
pub mod policies;
pub mod races;
pub mod refusals;

use std::sync::Arc;

use kafka_external_access::{
    cloud::{
        Binding, Change, CloudError, CloudFault, FloatingIp, FloatingIps, IngressRule, NetworkKind,
        NewFloatingIp,
    },
    domain::{AddressId, NetworkId, PortId, QosPolicyId},
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
    /// No security group protects the port any more.
    fn drop_port_security(&self, port: &PortId);
    /// A floating IP of another project.
    fn address_of_others(&self) -> AddressId;
    /// The other project gives its floating IP back.
    fn release_of_others(&self, address: &AddressId);
    /// The other project's floating IP still exists.
    fn others_have(&self, address: &AddressId) -> bool;
    /// Somebody lets the address serve a port forwarding to this target. False: the cloud refuses it.
    fn forward(&self, address: &AddressId, to: &Binding) -> bool;
    /// The address serves no port forwarding any more.
    fn stop_forwarding(&self, address: &AddressId);
    /// A group of its own for the port, with these rules. Their group is the new one, and so is a remote group.
    fn admit(&self, port: &PortId, rules: &[IngressRule]);
    /// An administrator shares a bandwidth policy of that name with these limits, in kilobits per second. Each call makes one more.
    fn share_policy(&self, name: &str, egress: Option<u32>, ingress: Option<u32>) -> QosPolicyId;
    /// Whether the credential of the clouds that are opened from now on may make policies.
    fn permit_policies(&self, permitted: bool);
    /// Floating IPs that the project may have.
    fn set_quota(&self, floating_ips: usize);
    /// The external network has no address left, or has again. Where it is empty the other project has the last one.
    fn set_pool_empty(&self, empty: bool) -> Option<AddressId>;
    /// The clock of the cloud shows a later second.
    fn pass_a_second(&self);
}

/// All sentences, by subject, handed to a macro of the test that keeps them.
macro_rules! every_sentence {
    ($macro:ident) => {
        $macro! {
            addresses::an_address_is_created_bound_and_described_by_one_call
            addresses::an_address_is_read_as_it_was_created
            addresses::an_address_that_does_not_exist_is_none
            addresses::a_second_address_for_a_target_is_refused_and_not_left_over
            addresses::a_port_with_two_addresses_takes_two_and_each_target_is_found
            addresses::a_description_changes_alone_and_the_binding_stays
            addresses::a_description_of_255_characters_is_kept_and_a_longer_one_refused
            addresses::a_deletion_of_what_is_gone_succeeds
            addresses::a_change_of_what_is_gone_is_not_found
            addresses::the_project_owns_what_it_creates
            addresses::a_description_that_is_too_long_creates_nothing
            addresses::descriptions_are_given_back_letter_for_letter
            addresses::two_addresses_may_carry_the_same_marker
            addresses::the_older_of_two_addresses_is_told
            addresses::a_release_frees_quota_and_target
            moves::an_address_moves_to_another_port_by_one_call
            moves::a_bound_target_takes_no_other_address_by_a_move
            moves::an_unbound_address_keeps_its_description
            moves::marker_and_binding_change_by_one_call
            moves::every_change_raises_the_revision
            moves::a_port_that_goes_leaves_its_address_unbound_with_a_new_revision
            moves::an_unbound_address_is_bound_again
            moves::two_addresses_change_places_by_three_calls
            moves::an_address_moves_between_the_addresses_of_one_port
            moves::unbinding_one_of_two_leaves_the_other
            moves::a_port_that_goes_leaves_both_of_its_addresses_unbound
            moves::a_binding_that_is_so_already_leaves_the_revision_and_the_same_description_raises_it
            races::a_move_from_a_stale_read_is_refused
            races::a_deletion_from_a_stale_read_is_refused
            races::a_description_from_a_stale_read_is_refused
            races::a_policy_from_a_stale_read_is_refused
            races::a_read_from_before_the_port_went_is_stale
            races::of_two_moves_at_once_the_address_ends_at_one_of_their_targets
            races::of_two_addresses_for_one_target_at_once_one_is_bound
            races::of_two_creations_for_one_target_at_once_one_is_left
            races::of_two_releases_at_once_none_is_an_error
            refusals::the_quota_refuses_one_more_and_its_raise_admits_it
            refusals::an_empty_pool_is_told_from_a_used_up_quota
            refusals::a_port_that_does_not_exist_is_not_found
            refusals::a_port_of_others_is_refused_and_nothing_is_left_over
            refusals::an_address_that_the_port_does_not_have_is_refused
            refusals::a_port_without_a_router_is_told
            refusals::a_used_up_quota_is_told_before_a_taken_target
            refusals::an_empty_pool_is_told_before_a_taken_target
            refusals::a_used_up_quota_is_told_before_an_empty_pool
            refusals::a_description_that_is_too_long_is_told_before_the_quota
            refusals::a_used_up_quota_lets_addresses_move_and_go
            refusals::addresses_of_others_do_not_count_in_the_quota
            refusals::an_address_that_others_give_back_fills_an_empty_pool
            refusals::an_address_of_others_is_neither_changed_nor_released
            refusals::an_internal_network_gives_no_address
            refusals::a_network_that_does_not_exist_gives_no_address
            refusals::a_port_that_does_not_exist_takes_no_address_by_a_move
            refusals::a_port_without_a_router_takes_no_address_by_a_move
            refusals::an_address_that_the_port_does_not_have_is_refused_by_a_move
            refusals::a_refused_creation_costs_no_quota
            forwarding::an_address_that_forwards_ports_is_neither_free_nor_bound_nor_deleted
            forwarding::a_bound_address_takes_no_port_forwarding
            forwarding::a_bound_target_takes_no_port_forwarding
            forwarding::a_target_with_a_port_forwarding_takes_an_address_of_its_own
            forwarding::an_address_that_forwards_ports_is_described_and_limited
            forwarding::the_last_port_forwarding_that_goes_leaves_the_address_free
            forwarding::a_port_that_goes_takes_its_port_forwarding_with_it
            lists::the_list_is_complete_over_several_pages
            lists::the_list_shows_no_address_of_others
            lists::an_address_of_others_does_not_exist
            lists::ports_are_found_by_any_of_their_addresses
            lists::ports_of_another_network_are_not_found
            lists::ingress_rules_are_those_of_the_group
            lists::networks_are_found_by_name_and_by_identifier
            lists::a_network_that_is_unknown_or_of_the_wrong_kind_is_told
            lists::an_ambiguous_network_is_told_with_its_count
            lists::ports_are_found_among_more_addresses_than_one_query_names
            lists::a_port_of_others_on_the_pods_network_shows_its_owner
            lists::a_port_without_port_security_is_told
            lists::rules_are_complete_over_several_pages
            lists::rules_of_several_groups_come_together
            lists::rules_of_other_protocols_and_of_groups_are_told_apart
            lists::no_group_has_no_rules
            lists::targets_that_a_router_joins_with_the_external_network_are_told
            lists::a_router_joins_with_the_network_of_its_gateway_and_nobody_whose_port_is_gone
            policies::a_policy_is_found_by_name_and_by_identifier_with_its_limits
            policies::a_policy_that_is_unknown_or_ambiguous_is_told
            policies::a_policy_is_made_rule_by_rule_and_is_known_as_ours
            policies::a_policy_that_an_address_has_is_not_removed
            policies::a_project_that_may_make_no_policies_is_refused
            policies::an_address_is_created_with_its_policy
            policies::another_policy_leaves_binding_and_description
            policies::a_policy_that_is_gone_is_refused_and_nothing_is_left_over
            policies::moves_and_descriptions_keep_the_policy
            policies::a_policy_of_one_direction_says_nothing_of_the_other
            policies::a_rule_for_a_policy_that_is_gone_is_not_found
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

/// Creates with another description than the marker.
async fn try_describe(world: &dyn World, target: &Binding, text: &str) -> Result<FloatingIp, CloudError> {
    let network = world.cloud(500).network(world.networks()[0], NetworkKind::External).await?;
    let (description, binding) = (text.to_owned(), target.clone());
    world
        .cloud(500)
        .create(permit(), &NewFloatingIp { network, description, binding, qos_policy: None })
        .await
}

/// Creates from another network than the external one.
async fn try_create_from(
    world: &dyn World,
    network: NetworkId,
    target: &Binding,
) -> Result<FloatingIp, CloudError> {
    let (description, binding) = (MARKER.to_owned(), target.clone());
    world
        .cloud(500)
        .create(permit(), &NewFloatingIp { network, description, binding, qos_policy: None })
        .await
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

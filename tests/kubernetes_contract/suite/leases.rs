//! The lease of the leader.

use k8s_openapi::api::coordination::v1::Lease;
use kafka_external_access::kubernetes::KubernetesFault;
use serde_json::json;

use super::{World, fault};

fn lease(world: &dyn World, holder: &str) -> Lease {
    let key = world.key();
    let object = json!({
        "metadata": {"name": key.name, "namespace": key.namespace},
        "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15},
    });
    serde_json::from_value(object).expect("a lease")
}

fn held_by(mut lease: Lease, holder: &str) -> Lease {
    lease.spec.get_or_insert_default().holder_identity = Some(holder.to_owned());
    lease
}

async fn holder(world: &dyn World) -> Option<String> {
    let key = world.key();
    world.api().lease(&key.namespace, &key.name).await.expect("an answer")?.spec?.holder_identity
}

pub async fn of_two_that_make_the_lease_one_has_it(world: &dyn World) {
    world.api().write_lease(&lease(world, "one")).await.expect("the lease");
    let refusal = fault(world.api().write_lease(&lease(world, "other")).await);
    assert_eq!((refusal, holder(world).await.as_deref()), (KubernetesFault::Conflict, Some("one")));
}

pub async fn of_two_that_take_the_lease_from_one_read_one_has_it(world: &dyn World) {
    let read = world.api().write_lease(&lease(world, "former")).await.expect("the lease");
    world.api().write_lease(&held_by(read.clone(), "one")).await.expect("taken");
    let refusal = fault(world.api().write_lease(&held_by(read, "other")).await);
    assert_eq!((refusal, holder(world).await.as_deref()), (KubernetesFault::Conflict, Some("one")));
}

pub async fn a_lease_is_renewed_from_what_the_last_renewal_gave_back(world: &dyn World) {
    let mut mine = world.api().write_lease(&lease(world, "one")).await.expect("the lease");
    for transitions in 1..4 {
        mine.spec.get_or_insert_default().lease_transitions = Some(transitions);
        mine = world.api().write_lease(&mine).await.expect("renewed");
    }
    assert_eq!(holder(world).await.as_deref(), Some("one"));
}

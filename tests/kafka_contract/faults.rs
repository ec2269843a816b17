//! Lost requests and lost answers, which only the simulated Kafka can produce at will.

use kafka_external_access::{
    domain::NodeId,
    kafka::{
        MetadataMode, Validate,
        simulated::{Fault, Request},
    },
    listeners::apply::ApplyError,
};

use crate::{
    block_on,
    simulated::{Simulated, pod},
    suite::{World, carry_out, past_guards, put, take_out, untouched, wanted},
};

/// The dry run is the first change, the real one the second.
fn world(second: Fault) -> Simulated {
    let world = Simulated::new(MetadataMode::ZooKeeper, &[0, 1]);
    world.kafka.disturb([None, Some(second)]);
    world
}

fn changes(world: &Simulated) -> Vec<(Validate, bool)> {
    let calls = world.kafka.take_calls();
    let alters = calls.into_iter().filter_map(|call| match call.request {
        Request::Alter { node: NodeId(0), changes, validate } => {
            let deletes = changes == kafka_external_access::listeners::dynamic::take_back();
            Some((validate, deletes))
        }
        _ => None,
    });
    alters.collect()
}

#[test]
fn an_answer_that_got_lost_is_no_failure_when_the_listener_is_there() {
    let world = world(Fault::ReplyLost);
    block_on(async {
        put(&world, 0, &wanted(0)).await.expect("the listener is there");
        assert_eq!(changes(&world), [(Validate::Only, false), (Validate::AndApply, false)]);
        take_out(&world, 0).await;
    });
}

#[test]
fn a_change_that_got_lost_leaves_nothing_stored() {
    let world = world(Fault::RequestLost);
    block_on(async {
        let error = put(&world, 0, &wanted(0)).await.expect_err("no listener");
        assert!(matches!(error, ApplyError::NotApplied(_)), "{error}");
        let expected = [(Validate::Only, false), (Validate::AndApply, false), (Validate::AndApply, true)];
        assert_eq!(changes(&world), expected);
        untouched(&world, 0).await;
    });
}

#[test]
fn an_answer_that_got_lost_and_a_listener_that_does_not_open_leave_nothing_stored() {
    let mut world = world(Fault::ReplyLost);
    block_on(async {
        let wanted = wanted(0);
        let changes = past_guards(&world, 0, &wanted).await;
        world.occupy(0, wanted.port, true);
        let error = carry_out(&world, 0, &wanted, &changes).await.expect_err("no listener");
        assert!(matches!(error, ApplyError::NotApplied(_)), "{error}");
        assert!(world.kafka.stored(NodeId(0)).is_empty());
    });
}

#[test]
fn an_address_that_leads_to_another_broker_does_not_pass_for_the_right_one() {
    let world = Simulated::new(MetadataMode::ZooKeeper, &[0, 1]);
    block_on(async {
        put(&world, 0, &wanted(0)).await.expect("a listener");
        let outside = std::net::Ipv4Addr::new(203, 0, 113, 10);
        let mut through = world.at(0, wanted(0).port);
        through.at = (outside, wanted(0).port).into();
        world.kafka.forward(outside, Some(pod(0)));
        assert_eq!(world.brokers().probe(&through).await.outcome.map(|view| view.node), Ok(NodeId(0)));
        world.kafka.forward(outside, Some(pod(1)));
        assert!(world.brokers().probe(&through).await.outcome.is_err());
        through.at = (outside, 9093).into();
        assert_eq!(world.brokers().probe(&through).await.outcome.map(|view| view.node), Ok(NodeId(1)));
        world.kafka.forward(outside, None);
        assert!(world.brokers().probe(&through).await.outcome.is_err());
    });
}

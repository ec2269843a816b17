//! Stories that once broke a rule, kept as they were found.

use crate::{
    Operator, rules,
    story::{Event, Kind, Listener, Place, Start},
    world::Rules,
};

fn start(replicas: u32, listener: Listener, addresses: Vec<(Kind, Place)>) -> Operator {
    let start = Start {
        replicas,
        listener,
        retain_when_deleted: false,
        delete_when_scaled: false,
        accept_exposure: false,
        limit: None,
        rules: Rules::Listener,
        kraft: false,
        addresses,
    };
    Operator::new(start.world())
}

fn live(operator: &mut Operator, events: &[Event]) {
    for event in events {
        operator.live_through(event);
    }
    operator.settles();
}

/// I10: the broker could not be asked, and so was taken for one that stores nothing.
#[test]
fn a_surplus_address_stays_while_a_broker_that_may_store_it_cannot_be_asked() {
    let mut operator = start(2, Listener::Auto, vec![(Kind::Foreign, Place::Stranger)]);
    let second = Event::Made(Kind::OneTooMany(1), Place::Stranger);
    live(&mut operator, &[Event::Terminating(2), Event::WithoutAddress(1), second]);
}

/// It was released and unbound by the same plan.
#[test]
fn an_own_address_that_the_spec_names_is_let_go_once() {
    let mut operator = start(1, Listener::LeftOut, vec![]);
    live(&mut operator, &[Event::Moved(0), Event::Adopted(0, 0), Event::Deleted]);
    assert!(operator.world.gone);
    rules::nothing_is_left(&operator.world);
}

/// Its address is kept; that nobody probes it says nothing about the others.
#[test]
fn a_broker_that_is_scaled_away_leaves_the_others_reachable() {
    let mut operator = start(3, Listener::Auto, vec![]);
    live(&mut operator, &[Event::Restarted, Event::Scaled(2)]);
    rules::everything_works(&operator.world, &operator.status());
}

/// The row of the broker that was there last stayed, as one that waits.
#[test]
fn without_brokers_none_is_waited_for() {
    let mut operator = start(1, Listener::LeftOut, vec![]);
    operator.world.wanted_addresses().retention_policy.when_scaled =
        kafka_external_access::api::Retention::Delete;
    live(&mut operator, &[Event::Restarted, Event::Scaled(0)]);
    assert_eq!(operator.status().summary.map(|summary| summary.ready), Some("0/0".to_owned()));
}

//! What cannot be done is said in a condition with a listed reason, changes nothing, and ends by itself when the cause is gone.

use std::time::Duration;

use http::Method;
use kafka_external_access::api::BrokerState;
use lab::cloud::SecurityRule;
use serde_json::json;

use crate::world::{READY, in_lab};

#[test]
fn a_quota_of_two_binds_two_and_the_third_arrives_when_it_is_raised() {
    in_lab("quota", async |world| {
        let project = world.cloud.facts().demo.project_id.clone();
        world.admin.set_floating_ip_quota(&project, Some(2)).expect("the quota can be set");
        world.apply_credential(&world.cloud.facts().demo.clone()).await;
        world.start_operator();
        world.create(|_| {}).await;
        let object = world.reason("Programmed", "False", "QuotaExceeded", READY).await;
        assert_eq!(world.ledger().len(), 2);
        world.assert_bound(0..2).await;
        assert!(
            object
                .status
                .is_some_and(|s| s.brokers.iter().filter(|b| b.state == BrokerState::Ready).count() <= 2)
        );
        world.neutron.forget();
        tokio::time::sleep(Duration::from_secs(30)).await;
        // The pause doubles from 5 s: in 30 s at most three slots begin.
        let posts = world.neutron.count(&Method::POST, "/floatingips");
        assert!((1..=3).contains(&posts), "{posts} POSTs in 30 s");
        world.admin.set_floating_ip_quota(&project, Some(50)).expect("the quota can be set");
        world.condition("Ready", "True", READY).await;
        assert_eq!(world.ledger().len(), 3);
    });
}

#[test]
fn a_security_group_that_blocks_the_port_is_named_and_opening_it_needs_no_write() {
    in_lab("security_group_blocks", async |world| {
        world.close_security_group();
        world.apply_credential(&world.cloud.facts().demo.clone()).await;
        world.start_operator();
        world.create(|_| {}).await;
        world.condition("Programmed", "True", READY).await;
        world.reason("Reachable", "False", "SecurityGroupBlocks", READY).await;
        world.neutron.forget();
        world.reset_security_group();
        world.condition("Reachable", "True", READY).await;
        assert_eq!(world.neutron.mutations(), []);
    });
}

#[test]
fn a_security_group_that_opens_everything_keeps_the_address_off_until_it_is_accepted() {
    in_lab("exposure", async |world| {
        let group = world.cloud.facts().security_group_id.clone();
        let everything = SecurityRule::everything(lab::cloud::Direction::Ingress, "0.0.0.0/0");
        world.demo.add_rule(&group, &everything).expect("a rule");
        world.apply_credential(&world.cloud.facts().demo.clone()).await;
        world.start_operator();
        world.create(|_| {}).await;
        world.reason("Programmed", "False", "InternalExposed", READY).await;
        assert_eq!(world.neutron.mutations(), [], "nothing is bound");
        world.patch(json!({"spec": {"addresses": {"acceptExposure": true}}})).await;
        world.condition("Ready", "True", READY).await;
        world.assert_bound(0..3).await;
    });
}

#[test]
fn every_mistake_in_the_credential_has_its_sentence() {
    in_lab("credentials", async |world| {
        let facts = world.cloud.facts().clone();
        world.start_operator();
        world.create(|_| {}).await;
        world.reason("Accepted", "False", "SecretNotFound", READY).await;
        world.apply_clouds_yaml("openstack", "clouds: [").await;
        world.reason("Accepted", "False", "SecretMalformed", READY).await;
        let mut wrong = facts.demo.clone();
        wrong.password = "wrong".into();
        world.apply_credential(&wrong).await;
        world.reason("Programmed", "False", "CredentialsRefused", READY).await;
        world.apply_credential(&facts.demo).await;
        world.condition("Ready", "True", READY).await;
    });
}

#[test]
fn an_unknown_network_is_named() {
    in_lab("network", async |world| {
        world.apply_credential(&world.cloud.facts().demo.clone()).await;
        world.start_operator();
        world
            .create(|o| {
                o["spec"]["addresses"]["provider"]["openstack"]["floatingNetwork"] = json!("no-such-network")
            })
            .await;
        let object = world.reason("Programmed", "False", "NetworkNotFound", READY).await;
        let message = &object
            .status
            .expect("a status")
            .conditions
            .iter()
            .find(|c| c.type_ == "Programmed")
            .expect("it")
            .message
            .clone();
        assert!(message.contains("no-such-network"), "{message}");
    });
}

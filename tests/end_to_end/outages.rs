//! What others do not notice: an in-cluster application, while the product works and while its surroundings fail.

use std::time::Duration;

use lab::cloud::Service;

use crate::{
    proxy::Fault,
    world::{in_lab, smallest},
};

const READY: Duration = Duration::from_secs(60);

#[test]
fn an_in_cluster_producer_and_consumer_group_notice_nothing() {
    in_lab("in_cluster_clients", async |world| {
        let witness = world
            .lab
            .kafka(lab::kafka::Flavour::ZooKeeper, "ydata")
            .witness("witness")
            .expect("the witness starts");
        world.apply_credential(&world.cloud.facts().demo.clone()).await;
        world.start_operator();
        world.create(|_| {}).await;
        world.condition("Ready", "True", READY).await;
        world.kill_operator();
        world.start_operator();
        world.condition("Reachable", "True", READY).await;
        world.delete(Duration::from_secs(120)).await;
        let report = witness.finish().expect("the witness reports");
        println!("{report}");
        let number = |name: &str| report[name].as_u64().unwrap_or(u64::MAX);
        assert!(number("acknowledged") > 1000, "{report}");
        assert_eq!(
            (number("lost"), number("duplicated"), number("offsetsWentBack"), number("errorCount")),
            (0, 0, 0, 0),
            "{report}"
        );
    });
}

#[test]
fn keystone_and_neutron_down_for_a_minute_change_nothing() {
    in_lab("cloud_down", async |world| {
        world.apply_credential(&world.cloud.facts().demo.clone()).await;
        world.start_operator();
        world.create(|_| {}).await;
        world.condition("Ready", "True", READY).await;
        let before = world.ledger();
        world.cloud.stop(Service::Network).expect("Neutron stops");
        world.cloud.stop(Service::Identity).expect("Keystone stops");
        tokio::time::sleep(Duration::from_secs(60)).await;
        world.cloud.start(Service::Identity).expect("Keystone starts");
        world.cloud.start(Service::Network).expect("Neutron starts");
        world.condition("Ready", "True", Duration::from_secs(120)).await;
        let ids = |ledger: &std::collections::BTreeMap<u32, lab::cloud::FloatingIp>| {
            ledger.values().map(|a| (a.id.clone(), a.port_id.clone())).collect::<Vec<_>>()
        };
        assert_eq!(ids(&world.ledger()), ids(&before));
    });
}

#[test]
fn a_create_whose_reply_is_lost_makes_no_second_address() {
    in_lab("lost_reply", async |world| {
        world.apply_credential(&world.cloud.facts().demo.clone()).await;
        let dropped = std::sync::atomic::AtomicU32::new(0);
        world.neutron.faults(move |method, path| {
            let create = method == http::Method::POST && path.ends_with("/floatingips");
            (create && dropped.fetch_add(1, std::sync::atomic::Ordering::SeqCst) < 3)
                .then_some(Fault::DropReply)
        });
        world.start_operator();
        world.create(|_| {}).await;
        world.condition("Ready", "True", Duration::from_secs(120)).await;
        assert_eq!(world.demo.floating_ips().expect("floating IPs").len(), 3);
        assert_eq!(world.ledger().keys().copied().collect::<Vec<_>>(), [0, 1, 2]);
    });
}

#[test]
fn a_credential_of_another_project_re_allocates_nothing() {
    in_lab("another_project", async |world| {
        let facts = world.cloud.facts().clone();
        world.apply_credential(&facts.demo).await;
        world.start_operator();
        world.create(|_| {}).await;
        world.condition("Ready", "True", READY).await;
        let before: Vec<String> = world.ledger().values().map(|a| a.id.clone()).collect();
        world.neutron.forget();
        world.apply_credential(&facts.other).await;
        world.reason("Programmed", "False", "ProjectChanged", READY).await;
        assert_eq!(world.neutron.mutations(), []);
        world.apply_credential(&facts.demo).await;
        world.condition("Ready", "True", READY).await;
        assert_eq!(world.ledger().values().map(|a| a.id.clone()).collect::<Vec<_>>(), before);
        assert_eq!(smallest()["kind"], "KafkaExternalAccess");
    });
}

#[test]
fn a_token_that_is_revoked_is_renewed_without_a_word() {
    in_lab("revoked", async |world| {
        world.apply_credential(&world.cloud.facts().demo.clone()).await;
        world.start_operator();
        world.create(|_| {}).await;
        world.condition("Ready", "True", READY).await;
        let refused = std::sync::atomic::AtomicU32::new(0);
        world.neutron.faults(move |_, _| {
            (refused.fetch_add(1, std::sync::atomic::Ordering::SeqCst) < 1).then_some(Fault::Answer(401))
        });
        let address = world.ledger()[&0].clone();
        world.demo.unbind_floating_ip(&address.id).expect("unbind");
        world
            .eventually("it is bound again with a new token", Duration::from_secs(330), async || {
                if world.ledger()[&0].port_id == address.port_id { Ok(()) } else { Err(()) }
            })
            .await;
    });
}

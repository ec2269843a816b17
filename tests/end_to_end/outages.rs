//! What others do not notice: an in-cluster application, while the product works and while its surroundings fail.

use std::time::Duration;

use kafka_external_access::api::KafkaExternalAccess;
use lab::cloud::Service;
use serde_json::json;

use crate::{
    proxy::{Call, Fault},
    witness::Witness,
    world::{NAMESPACE, READY, in_lab, smallest},
};

/// A cloud that cannot be asked is asked again after a minute at the latest, and up to a fifth more (docs/architecture.md).
const LONGEST_BACKOFF: Duration = Duration::from_secs(72);

#[test]
fn an_in_cluster_producer_and_consumer_group_notice_nothing() {
    in_lab("in_cluster_clients", async |world| {
        let witness = Witness::start(world.lab, NAMESPACE);
        witness.running(world).await;
        world.apply_credential(&world.cloud.facts().demo.clone()).await;
        world.start_operator();
        world.create(|_| {}).await;
        world.condition("Ready", "True", READY).await;
        world.condition("Reachable", "True", READY).await;
        world.delete().await;
        witness.noticed_nothing(world).await;
    });
}

#[test]
fn keystone_and_neutron_down_for_a_while_change_nothing_and_are_found_again() {
    in_lab("cloud_down", async |world| {
        world.apply_credential(&world.cloud.facts().demo.clone()).await;
        world.start_operator();
        world.create(|object| object["spec"]["probe"]["timeout"] = json!("20s")).await;
        world.condition("Ready", "True", READY).await;
        let ready = world.condition("Reachable", "True", READY).await;
        let bound = || world.ledger().into_values().map(|a| (a.id, a.port_id)).collect::<Vec<_>>();
        let before = bound();
        world.neutron.forget();
        world.cloud.stop(Service::Neutron).expect("Neutron stops");
        world.cloud.stop(Service::Keystone).expect("Keystone stops");
        world.reason("Programmed", "False", "CloudUnavailable", READY).await;
        // One list of the addresses at each look; who has begun another look has told what came of the one before.
        let lists = |call: &&Call| call.status == 502 && call.path.ends_with("/floatingips");
        let asked = || world.neutron.calls().iter().filter(lists).count();
        let asked_again = async |times: u32| {
            let enough = asked() + usize::try_from(times).expect("few");
            let look = async || if asked() >= enough { Ok(()) } else { Err(asked()) };
            world.eventually("the cloud is asked again", (times + 1) * LONGEST_BACKOFF, look).await;
        };
        asked_again(2).await;
        let told = world.access().await.expect("the object");
        asked_again(4).await;
        let later = world.access().await.expect("the object");
        let status = |object: &KafkaExternalAccess| object.status.clone().expect("a status");
        assert_eq!(later.metadata.resource_version, told.metadata.resource_version, "it is told once");
        assert_eq!(status(&later).bootstrap_servers, status(&ready).bootstrap_servers);
        let reachable = status(&later).conditions.into_iter().find(|c| c.type_ == "Reachable").expect("it");
        assert_eq!((reachable.status.as_str(), reachable.reason.as_str()), ("True", "Reachable"));
        assert_eq!(status(&later).hosts, status(&ready).hosts);
        let good = || {
            let scraped = world.scrape();
            let of = "broker_probes_total{namespace=\"ydata\",name=\"kafka\",broker=\"1\",vantage=\"operator\",result=\"Reachable\"} ";
            let line =
                scraped.lines().find_map(|line| line.split_once(of).map(|(_, count)| count.to_owned()));
            line.and_then(|count| count.parse::<u64>().ok()).unwrap_or_default()
        };
        let before_now = good();
        world
            .eventually("the addresses are probed", READY, async || match good() {
                count if count > before_now => Ok(()),
                count => Err(count),
            })
            .await;
        world.cloud.start(Service::Keystone).expect("Keystone starts");
        world.cloud.start(Service::Neutron).expect("Neutron starts");
        world.condition("Ready", "True", READY).await;
        assert_eq!(world.neutron.mutations(), []);
        assert_eq!(bound(), before);
    });
}

#[test]
fn creates_whose_requests_or_replies_are_lost_make_no_second_address() {
    in_lab("lost_reply", async |world| {
        world.apply_credential(&world.cloud.facts().demo.clone()).await;
        let creates = std::sync::atomic::AtomicU32::new(0);
        world.neutron.faults(move |method, path| {
            let create = method == http::Method::POST && path.ends_with("/floatingips");
            let faults = [
                Fault::DropReply,
                Fault::DropRequest,
                Fault::DropReply,
                Fault::Delay(Duration::from_secs(3)),
            ];
            let n = creates.fetch_add(u32::from(create), std::sync::atomic::Ordering::SeqCst);
            faults.get(usize::try_from(n).unwrap_or(usize::MAX)).filter(|_| create).cloned()
        });
        world.start_operator();
        world.create(|_| {}).await;
        world.condition("Ready", "True", READY).await;
        world.neutron.heal();
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
        world.unbind(&address);
        world
            .eventually("it is bound again with a new token", READY, async || {
                if world.ledger()[&0].port_id == address.port_id { Ok(()) } else { Err(()) }
            })
            .await;
    });
}

#[test]
fn an_api_server_that_is_restarted_costs_no_address_and_no_write() {
    in_lab("api_server", async |world| {
        world.apply_credential(&world.cloud.facts().demo.clone()).await;
        world.start_operator();
        world.create(|_| {}).await;
        world.condition("Ready", "True", READY).await;
        let before: Vec<String> = world.ledger().into_values().map(|a| a.id).collect();
        world.neutron.forget();
        world.lab.restart_api_server().expect("the API server starts again");
        // It watches and leads again: what happens now is acted on.
        world.unbind(&world.ledger()[&1]);
        world
            .eventually("the address is bound again", READY, async || {
                if world.ledger()[&1].port_id.is_some() { Ok(()) } else { Err(()) }
            })
            .await;
        // The router of the test counts a call when it has passed the answer on.
        world
            .eventually("the change is counted", READY, async || match world.neutron.mutations().len() {
                0 => Err(()),
                _ => Ok(()),
            })
            .await;
        world.condition("Ready", "True", READY).await;
        assert_eq!(world.neutron.mutations().len(), 1, "one PUT, for what was unbound by hand");
        assert_eq!(world.ledger().into_values().map(|a| a.id).collect::<Vec<_>>(), before);
    });
}

#[test]
fn a_password_that_is_changed_holds_everything_as_it_is_until_the_secret_is_renewed() {
    in_lab("rotated", async |world| {
        let facts = world.cloud.facts().clone();
        let project = (facts.demo.project.as_str(), facts.demo.project_id.as_str());
        let name = format!("end-to-end-{}", std::process::id());
        let mut user = world.admin.create_user(&name, "first", project, &["member"]).expect("a user");
        world.apply_credential(&user).await;
        world.start_operator();
        world.create(|_| {}).await;
        let before = world.condition("Ready", "True", READY).await;
        let bound = world.ledger();
        world.neutron.forget();
        world.admin.set_password(&user.user_id, "second").expect("another password");
        let object = world.reason("Programmed", "False", "CredentialsRefused", READY).await;
        let servers =
            |object: &KafkaExternalAccess| object.status.clone().unwrap_or_default().bootstrap_servers;
        assert_eq!(servers(&object), servers(&before), "what was achieved stays told");
        user.password = "second".to_owned();
        world.apply_credential(&user).await;
        world.condition("Ready", "True", READY).await;
        assert_eq!(world.neutron.mutations(), [], "nothing was changed");
        assert_eq!(
            world.ledger().into_values().map(|a| a.port_id).collect::<Vec<_>>(),
            bound.into_values().map(|a| a.port_id).collect::<Vec<_>>()
        );
        world.delete().await;
        world.admin.identity("DELETE", &format!("/users/{}", user.user_id), None).expect("deleted");
    });
}

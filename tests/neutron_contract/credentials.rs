//! What real credentials do: they are revoked, changed, refused, and belong to a project.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use kafka_external_access::{
    cloud::{
        Change, CloudError, CloudFault, FloatingIps,
        openstack::{CallObserver, CallOutcome, Neutron, clouds_yaml as config},
    },
    runtime::clock::SystemClock,
    seams::{Clock, Leadership, SoleReplica},
};
use lab::cloud::{Account, ApplicationCredential, CloudFacts, clouds_yaml};
use serde_json::json;

use crate::{
    suite::{World, try_create_through},
    world::{Real, credential, in_lab, open, unique},
};

/// Life of a token in the lab.
const USUAL_TOKEN_SECONDS: u32 = 3600;

/// A user of its own in the pods' project, so that no other test depends on its password.
fn user(world: &Real, role: &str) -> Account {
    let demo = &world.cloud.facts().demo;
    let project = (demo.project.as_str(), demo.project_id.as_str());
    world.admin.create_user(&unique("user"), "a password", project, &[role]).expect("a user")
}

fn application_yaml(world: &Real, application: &ApplicationCredential, secret: &str) -> String {
    let (keystone, id) = (&world.cloud.facts().keystone, &application.id);
    format!(
        "clouds: {{lab: {{auth_type: v3applicationcredential, region_name: {}, auth: {{auth_url: '{keystone}', \
         application_credential_id: '{id}', application_credential_secret: '{secret}'}}}}}}",
        CloudFacts::REGION
    )
}

fn fault<T: std::fmt::Debug>(result: Result<T, CloudError>) -> CloudFault {
    result.expect_err("a refusal").fault
}

async fn refused(cloud: &dyn FloatingIps) -> bool {
    matches!(fault(cloud.list().await), CloudFault::Unauthorized(_))
}

/// A revocation counts for the whole second in which it was made, tokens that are younger included (seen on Keystone 30), and
/// the lab's Neutron takes a token for good for one second after it asked.
async fn revocation_is_over() {
    tokio::time::sleep(Duration::from_millis(1100)).await;
}

#[test]
fn a_token_that_was_revoked_is_renewed_without_a_word() {
    in_lab(async |world| {
        let account = user(world, "member");
        let cloud = open(world.cloud.clouds_yaml(&account));
        cloud.list().await.expect("a first list");
        // Keystone revokes the tokens of a user who is disabled.
        world.admin.set_enabled(&account.user_id, false).expect("disabled");
        world.admin.set_enabled(&account.user_id, true).expect("enabled again");
        revocation_is_over().await;
        cloud.list().await.expect("a list with a new token");
    });
}

#[test]
fn a_password_that_was_changed_is_refused_and_the_new_one_works() {
    in_lab(async |world| {
        let account = user(world, "member");
        let cloud = open(world.cloud.clouds_yaml(&account));
        cloud.list().await.expect("a first list");
        world.admin.set_password(&account.user_id, "another password").expect("a new password");
        revocation_is_over().await;
        assert!(refused(&*cloud).await);
        let renewed = Account { password: "another password".into(), ..account };
        open(world.cloud.clouds_yaml(&renewed)).list().await.expect("a list with the new password");
    });
}

#[test]
fn a_wrong_password_an_unknown_user_and_an_unknown_project_are_refused() {
    in_lab(async |world| {
        let right = user(world, "member");
        let wrong = [
            Account { password: "wrong".into(), ..right.clone() },
            Account { user: unique("nobody"), ..right.clone() },
            Account { project: unique("nowhere"), ..right },
        ];
        for account in wrong {
            assert!(refused(&*open(world.cloud.clouds_yaml(&account))).await, "{account:?}");
        }
    });
}

#[test]
fn a_user_who_may_not_write_may_read() {
    in_lab(async |world| {
        let cloud = open(world.cloud.clouds_yaml(&user(world, "reader")));
        assert_eq!(cloud.list().await, Ok(vec![]));
        let target = world.port(1).remove(0);
        let refusal = fault(try_create_through(&*cloud, world, &target).await);
        assert!(matches!(refusal, CloudFault::Forbidden(_)), "{refusal:?}");
    });
}

#[test]
fn an_application_credential_works_in_its_project_until_it_is_deleted() {
    in_lab(async |world| {
        let session = world.cloud.login(&user(world, "member")).expect("a session");
        let application =
            session.create_application_credential(&unique("application")).expect("a credential");
        let cloud = open(application_yaml(world, &application, &application.secret));
        let project = cloud.project().await.expect("a project");
        assert_eq!(project.as_str(), world.cloud.facts().demo.project_id);
        cloud.list().await.expect("a list");
        assert!(refused(&*open(application_yaml(world, &application, "wrong"))).await);
        session.delete_application_credential(&application.id).expect("deleted");
        revocation_is_over().await;
        assert!(refused(&*cloud).await);
    });
}

#[test]
fn each_project_sees_its_own_and_so_does_an_administrator() {
    in_lab(async |world| {
        let facts = world.cloud.facts();
        let foreign = world.address_of_others();
        for account in [&facts.demo, &facts.other, &facts.admin] {
            let cloud = open(world.cloud.clouds_yaml(account));
            assert_eq!(cloud.project().await.expect("a project").as_str(), account.project_id);
            let sees_it = cloud.list().await.expect("a list").iter().any(|address| address.id == foreign);
            assert_eq!(sees_it, account.project == facts.other.project, "{account:?}");
        }
    });
}

#[test]
fn a_catalogue_of_several_regions_needs_one_named() {
    in_lab(async |world| {
        let facts = world.cloud.facts();
        let yaml = |region: &str| clouds_yaml(&facts.demo, &facts.keystone, region);
        let unnamed = yaml("X").replace("    region_name: X\n", "");
        let several =
            format!("set region_name to one of: {}, {}", CloudFacts::REGION, CloudFacts::PROXY_REGION);
        assert_eq!(fault(open(unnamed).list().await), CloudFault::Configuration(several));
        let text = fault(open(yaml("Nowhere")).list().await).to_string();
        assert!(text.contains("no network service in region Nowhere"), "{text}");
    });
}

#[test]
fn an_auth_url_that_is_not_keystones_is_told_as_such() {
    in_lab(async |world| {
        let facts = world.cloud.facts();
        let neutrons = clouds_yaml(&facts.demo, &facts.neutron, CloudFacts::REGION);
        let refusal = fault(open(neutrons).list().await);
        assert!(matches!(refusal, CloudFault::Configuration(_)), "{refusal:?}");
        let nobodys = clouds_yaml(&facts.demo, "http://10.128.0.1:1/v3", CloudFacts::REGION);
        assert!(matches!(fault(open(nobodys).list().await), CloudFault::Unavailable(_)));
    });
}

/// Time stands still until somebody moves it: a clock that is behind the cloud's.
#[derive(Default)]
struct Hand(Mutex<Duration>);

#[async_trait]
impl Clock for Hand {
    fn now(&self) -> Timestamp {
        SystemClock::default().now()
    }

    fn steady(&self) -> Timestamp {
        self.now()
    }

    fn monotonic(&self) -> Duration {
        *self.0.lock().expect("no test panics with it")
    }

    async fn sleep(&self, period: Duration) {
        *self.0.lock().expect("no test panics with it") += period;
    }
}

/// Counts the logins.
#[derive(Default)]
struct Logins(AtomicUsize);

impl CallObserver for Logins {
    fn called(&self, operation: &'static str, _: CallOutcome, _: Duration) {
        if operation == "log in to the cloud" {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn with_clock(clouds_yaml: String) -> (Arc<Hand>, Arc<Logins>, Neutron) {
    let (clock, logins) = (Arc::new(Hand::default()), Arc::new(Logins::default()));
    let config = config::parse(&credential(clouds_yaml)).expect("a readable credential");
    let cloud = Neutron::new(config, clock.clone(), logins.clone()).expect("a cloud");
    (clock, logins, cloud)
}

#[test]
fn a_token_is_renewed_before_it_expires() {
    in_lab(async |world| {
        let (clock, logins, cloud) = with_clock(world.cloud.clouds_yaml(&world.cloud.facts().demo));
        let logins = || logins.0.load(Ordering::Relaxed);
        for _ in 0..3 {
            cloud.list().await.expect("a list");
        }
        assert_eq!(logins(), 1);
        clock.sleep(Duration::from_secs(u64::from(USUAL_TOKEN_SECONDS) * 4 / 5)).await;
        for _ in 0..3 {
            cloud.list().await.expect("a list");
        }
        assert_eq!(logins(), 2);
    });
}

/// An application credential of the pods' project with these attributes.
fn application(world: &Real, attributes: serde_json::Value) -> ApplicationCredential {
    let account = user(world, "member");
    let session = world.cloud.login(&account).expect("a session");
    let mut body = json!({"application_credential": attributes});
    body["application_credential"]["name"] = json!(unique("application"));
    let path = format!("/users/{}/application_credentials", account.user_id);
    let mut made = session.identity("POST", &path, Some(&body)).expect("a credential");
    serde_json::from_value(made["application_credential"].take()).expect("a credential")
}

#[test]
fn an_application_credential_with_access_rules_may_do_what_they_say_and_no_more() {
    in_lab(async |world| {
        let read = json!([{"service": "network", "method": "GET", "path": "/v2.0/**"}]);
        let reader = application(world, json!({"access_rules": read}));
        let cloud = open(application_yaml(world, &reader, &reader.secret));
        assert_eq!(cloud.list().await, Ok(vec![]));
        let refusal = fault(try_create_through(&*cloud, world, &world.port(1)[0]).await);
        assert!(matches!(refusal, CloudFault::Unauthorized(_)), "{refusal:?}");
        // What the operator needs, and nothing else.
        let rules: Vec<_> = ["GET", "POST", "PUT", "DELETE"]
            .map(|method| json!({"service": "network", "method": method, "path": "/v2.0/floatingips/**"}))
            .into_iter()
            .chain([
                json!({"service": "network", "method": "GET", "path": "/v2.0/*"}),
                json!({"service": "network", "method": "POST", "path": "/v2.0/floatingips"}),
            ])
            .collect();
        let enough = application(world, json!({"access_rules": rules}));
        let cloud = open(application_yaml(world, &enough, &enough.secret));
        let target = world.port(1).remove(0);
        let made = try_create_through(&*cloud, world, &target).await.expect("an address");
        assert_eq!(made.binding, Some(target));
        let held = cloud.get(&made.id).await.expect("an answer").expect("the address");
        let permit = || SoleReplica.permit().expect("nobody else leads");
        let unbound =
            cloud.update(permit(), &made.id, held.revision, &Change::Unbind { description: None }).await;
        unbound.expect("unbound");
        // Its status follows each change, and raises the revision: ACTIVE and DOWN, whenever the agent gets to it.
        let released = loop {
            let held = cloud.get(&made.id).await.expect("an answer").expect("the address");
            match cloud.delete(permit(), &made.id, held.revision).await {
                Err(error) if error.fault == CloudFault::RevisionChanged => {}
                other => break other,
            }
        };
        assert_eq!(released, Ok(()));
    });
}

#[test]
fn an_application_credential_that_has_expired_is_refused() {
    in_lab(async |world| {
        let end = Timestamp::now() + Duration::from_secs(30);
        let text = end.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string();
        let short = application(world, json!({"expires_at": text}));
        let cloud = open(application_yaml(world, &short, &short.secret));
        assert_eq!(cloud.list().await, Ok(vec![]));
        tokio::time::sleep(Duration::from_secs(31)).await;
        // A token that was given out may outlive its credential; a new one is not given.
        assert!(refused(&*open(application_yaml(world, &short, &short.secret))).await);
    });
}

#[test]
fn a_catalogue_has_the_version_in_its_url_or_not() {
    in_lab(async |world| {
        let facts = world.cloud.facts();
        let services = world.admin.identity("GET", "/services?type=network", None).expect("services");
        let service = services["services"][0]["id"].as_str().expect("the network service").to_owned();
        for path in ["", "/", "/v2.0", "/v2.0/"] {
            let region = unique("region");
            let body = json!({"region": {"id": region}});
            world.admin.identity("POST", "/regions", Some(&body)).expect("a region");
            let url = format!("{}{path}", facts.neutron);
            let endpoint =
                json!({"service_id": service, "interface": "public", "url": url, "region_id": region});
            let body = json!({"endpoint": endpoint});
            world.admin.identity("POST", "/endpoints", Some(&body)).expect("an endpoint");
            let cloud = open(clouds_yaml(&facts.demo, &facts.keystone, &region));
            assert_eq!(cloud.list().await, Ok(vec![]), "{url}");
        }
    });
}

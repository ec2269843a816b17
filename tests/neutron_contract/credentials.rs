//! What real credentials do: they are revoked, changed, refused, and belong to a project.

use std::time::Duration;

use kafka_external_access::cloud::{CloudError, CloudFault, FloatingIps};
use lab::cloud::{Account, ApplicationCredential, CloudFacts, clouds_yaml};

use crate::{
    suite::{World, try_create_through},
    world::{Real, in_lab, open, unique},
};

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

/// A revocation counts for the whole second in which it was made, tokens that are younger included (seen on Keystone 30).
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

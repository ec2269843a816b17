//! What Neutron does with requests that the operator never sends, and why it does not send them.

use std::collections::BTreeSet;

use kafka_external_access::{cloud::Binding, domain::AddressId};
use lab::LabError;
use serde_json::{Value, json};

use crate::{
    suite::{World, try_create_through},
    world::{Real, in_lab},
};

const MARKER: &str = "kea/v1 c=5cbb4b45 n=ydata/kafka u=0b2f7a54 o=0";

/// Status and text of a refusal.
fn refused(answer: Result<Value, LabError>) -> (u16, String) {
    match answer {
        Err(LabError::Api { status, body, .. }) => (status, body),
        other => panic!("a refusal: {other:?}"),
    }
}

fn create(world: &Real, mut attributes: Value) -> Result<Value, LabError> {
    attributes["floating_network_id"] = json!(world.cloud.facts().external_network_id);
    world.demo.network("POST", "/floatingips", Some(&json!({"floatingip": attributes})))
}

async fn bound(world: &Real) -> (AddressId, Binding) {
    let target = world.port(1).remove(0);
    let made = try_create_through(&*world.cloud(500), world, &target).await.expect("an address");
    (made.id, target)
}

fn found(world: &Real, query: &str) -> usize {
    let list = world.demo.network("GET", &format!("/floatingips?{query}"), None).expect("a list");
    list["floatingips"].as_array().map_or(0, Vec::len)
}

/// So the marker is in the description.
#[test]
fn tags_in_a_creation_are_refused() {
    in_lab(async |world| {
        let (status, text) = refused(create(world, json!({"tags": ["kea"]})));
        assert_eq!(status, 400);
        assert!(text.contains("tags"), "{text}");
        assert!(world.demo.floating_ips().expect("a list").is_empty());
    });
}

/// So an address cannot be chosen first and be its own key.
#[test]
fn a_member_does_not_choose_the_address() {
    in_lab(async |world| {
        let (status, _) = refused(create(world, json!({"floating_ip_address": "203.0.113.77"})));
        assert_eq!(status, 403);
    });
}

/// So the whole list is read, and markers are compared here.
#[test]
fn a_filter_by_description_is_exact_and_knows_no_prefix() {
    in_lab(async |world| {
        bound(world).await;
        let query = |text: &str| format!("description={}", text.replace('=', "%3D").replace(' ', "%20"));
        assert_eq!(found(world, &query(MARKER)), 1);
        for other in ["kea/v1", &MARKER[..MARKER.len() - 1], &format!("{MARKER}1")] {
            assert_eq!(found(world, &query(other)), 0, "{other}");
        }
    });
}

/// So what is found is checked again: where filters are not validated they are ignored.
#[test]
fn an_unknown_filter_is_refused() {
    in_lab(async |world| {
        let answer = world.demo.network("GET", "/floatingips?bogus=1", None);
        assert_eq!(refused(answer).0, 400);
    });
}

/// So there is no empty change.
#[test]
fn an_empty_put_unbinds() {
    in_lab(async |world| {
        let (id, target) = bound(world).await;
        let held = || world.demo.floating_ip(id.as_str()).expect("the address");
        assert_eq!(held().port_id.as_deref(), Some(target.port.as_str()));
        world.demo.update_floating_ip(id.as_str(), &json!({})).expect("accepted without a word");
        assert_eq!(held().port_id, None);
    });
}

/// So every binding names its fixed IP.
#[test]
fn a_port_with_several_addresses_needs_one_named() {
    in_lab(async |world| {
        let port = world.port(2).remove(0).port;
        let (status, text) = refused(create(world, json!({"port_id": port})));
        assert_eq!(status, 400);
        assert!(text.contains("multiple fixed IPv4 addresses"), "{text}");
    });
}

/// So every update carries the revision that was read.
#[test]
fn a_put_without_a_revision_moves_a_bound_address_silently() {
    in_lab(async |world| {
        let (id, _) = bound(world).await;
        let other = world.port(1).remove(0);
        let change = json!({"port_id": other.port});
        let moved = world.demo.update_floating_ip(id.as_str(), &change).expect("accepted without a word");
        assert_eq!(moved.port_id.as_deref(), Some(other.port.as_str()));
    });
}

/// So an object that comes twice makes a list incomplete.
#[test]
fn a_page_after_a_marker_that_is_gone_is_the_first_page_again() {
    in_lab(async |world| {
        let mut made = BTreeSet::new();
        for _ in 0..4 {
            made.insert(bound(world).await.0.to_string());
        }
        let page = |after: &str| -> (Vec<String>, bool) {
            let path = format!("/floatingips?limit=2{after}");
            let page = world.demo.network("GET", &path, None).expect("a page");
            let ids = page["floatingips"].as_array().into_iter().flatten();
            let ids = ids.filter_map(|address| address["id"].as_str()).map(str::to_owned).collect();
            let links = page["floatingips_links"].as_array().cloned().unwrap_or_default();
            (ids, links.iter().any(|link| link["rel"] == "next"))
        };
        let (first, more) = page("");
        assert!(more);
        let (second, more) = page(&format!("&marker={}", first[1]));
        assert!(more, "a full page names a next one, also where there is none");
        let all: BTreeSet<String> = first.iter().chain(&second).cloned().collect();
        assert_eq!(all, made);
        world.demo.delete_floating_ip(&first[1]).expect("released");
        let (again, _) = page(&format!("&marker={}", first[1]));
        assert!(again.contains(&first[0]), "{again:?} after {first:?}");
    });
}

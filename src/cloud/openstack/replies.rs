//! The parser and the classes of errors, held to recorded replies of Neutron 29 and Keystone 30.

use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use super::{
    http::refusal,
    wire::{One, Page, WireFloatingIp, WirePort, WireRule},
};
use crate::{
    cloud::{CloudFault, FloatingIp, IngressRule, Port},
    domain::ErrorClass,
};

const RECORDED: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/neutron-replies.jsonl"));

#[derive(Deserialize)]
struct Reply {
    name: String,
    method: String,
    path: String,
    status: u16,
    response_body: Value,
}

impl Reply {
    fn fault(&self) -> CloudFault {
        let body = self.response_body.to_string();
        let status = StatusCode::from_u16(self.status).expect("a status");
        refusal(status, &reqwest::header::HeaderMap::new(), body.as_bytes(), self.method != "GET", &[])
    }

    fn read<T: for<'a> Deserialize<'a>>(&self) -> T {
        serde_json::from_value(self.response_body.clone())
            .unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }
}

fn recorded() -> Vec<Reply> {
    RECORDED.lines().map(|line| serde_json::from_str(line).expect("a record")).collect()
}

fn named(name: &str) -> Reply {
    recorded().into_iter().find(|reply| reply.name == name).unwrap_or_else(|| panic!("no record {name}"))
}

#[test]
fn every_recorded_floating_ip_port_and_rule_is_understood() {
    let mut counts = (0, 0, 0);
    for reply in recorded().into_iter().filter(|reply| {
        reply.status < 300 && !reply.path.contains("/tags") && !reply.path.contains("fields=")
    }) {
        let object = reply.response_body.as_object().cloned().unwrap_or_default();
        if object.contains_key("floatingip") {
            let one: FloatingIp = reply.read::<One<WireFloatingIp>>().floatingip.into();
            assert!(!one.project.as_str().is_empty(), "{}", reply.name);
            counts.0 += 1;
        } else if object.contains_key("floatingips") {
            counts.0 += reply.read::<Page<WireFloatingIp>>().items.len();
        } else if object.contains_key("port") {
            let one: Port = reply.read::<One<WirePort>>().floatingip.into();
            assert!(!one.id.as_str().is_empty(), "{}", reply.name);
            counts.1 += 1;
        } else if object.contains_key("ports") {
            counts.1 += reply.read::<Page<WirePort>>().items.len();
        } else if let Some(rule) = object.get("security_group_rule") {
            let rule: WireRule = serde_json::from_value(rule.clone()).expect("a rule");
            let rule: IngressRule = rule.into();
            assert!(rule.tcp, "{}", reply.name);
            counts.2 += 1;
        }
    }
    assert!(counts.0 > 100 && counts.1 > 10 && counts.2 > 0, "{counts:?}");
}

#[test]
fn a_bound_and_an_unbound_address_are_told_apart() {
    let bound: FloatingIp = named("fip.show.bound").read::<One<WireFloatingIp>>().floatingip.into();
    let free: FloatingIp = named("fip.show.unbound").read::<One<WireFloatingIp>>().floatingip.into();
    let forwarding: FloatingIp =
        named("fip.show.with-port-forwardings").read::<One<WireFloatingIp>>().floatingip.into();
    assert!(bound.binding.is_some() && !bound.is_free());
    assert!(free.is_free());
    assert!(
        forwarding.binding.is_none() && !forwarding.is_free(),
        "an address with port forwardings is not free"
    );
}

#[test]
fn the_three_conflicts_mean_three_things() {
    let port_taken = named("fip.create.with-port-already-bound.409").fault();
    assert!(matches!(port_taken, CloudFault::PortAlreadyBound(_)), "{port_taken:?}");
    let quota = named("quota.fip.3.exceeded").fault();
    assert!(matches!(quota, CloudFault::QuotaExceeded(_)), "{quota:?}");
    let pool = named("fip.create.pool-exhausted").fault();
    assert!(matches!(pool, CloudFault::PoolEmpty(_)), "{pool:?}");
    assert_eq!((port_taken.class(), quota.class()), (ErrorClass::Waiting, ErrorClass::Terminal));
}

#[test]
fn every_recorded_error_has_its_fault() {
    type Fits = fn(&CloudFault) -> bool;
    let expected: [(&str, Fits); 10] = [
        ("auth.garbage-token", |fault| matches!(fault, CloudFault::Unauthorized(_))),
        ("token.after-expiry.post", |fault| matches!(fault, CloudFault::Unauthorized(_))),
        ("keystone.auth.password.wrong-password", |fault| matches!(fault, CloudFault::Unauthorized(_))),
        ("fip.create.specific-address.member", |fault| matches!(fault, CloudFault::Forbidden(_))),
        ("fip.associate.subnet-not-routed", |fault| matches!(fault, CloudFault::NoRouter(_))),
        ("fip.associate.port-unknown", |fault| matches!(fault, CloudFault::NotFound(_))),
        ("fip.show.unknown", |fault| matches!(fault, CloudFault::NotFound(_))),
        ("fip.update.if-match.stale", |fault| *fault == CloudFault::RevisionChanged),
        ("fip.delete.if-match.stale", |fault| *fault == CloudFault::RevisionChanged),
        ("fip.delete.with-port-forwardings", |fault| matches!(fault, CloudFault::InUseByPortForwarding(_))),
    ];
    for (name, fits) in expected {
        let fault = named(name).fault();
        assert!(fits(&fault), "{name}: {fault:?}");
    }
    for reply in recorded().into_iter().filter(|reply| reply.status >= 500) {
        let fault = reply.fault();
        let unclear = matches!(fault, CloudFault::Unclear(_));
        assert_eq!(unclear, reply.method != "GET", "{}: {fault:?}", reply.name);
    }
}

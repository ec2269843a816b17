//! The cloud past the counting proxies: what people do to it, and what it holds.

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

use lab::cloud::{Direction, FloatingIp, SecurityRule};
use serde_json::json;

use super::{NAMESPACE, PORT, World};

impl World {
    /// The project's floating IPs with a marker of ours, by ordinal; two for one ordinal fail the test.
    pub fn ledger(&self) -> BTreeMap<u32, FloatingIp> {
        let mut ledger = BTreeMap::new();
        for address in self.demo.floating_ips().expect("floating IPs can be listed") {
            if let Some((_, ordinal)) = address.description.split_once(" o=") {
                let ordinal = ordinal.parse().expect("a marker ends with the ordinal");
                let double = ledger.insert(ordinal, address);
                assert!(
                    double.is_none(),
                    "two addresses for broker {ordinal}: {double:?} and {:?}",
                    ledger[&ordinal]
                );
            }
        }
        ledger
    }

    /// Everything from the pods' subnet, and TCP from anywhere to the listener's port: nothing else.
    pub fn reset_security_group(&self) {
        let group = &self.cloud.facts().security_group_id;
        self.close_security_group();
        self.demo.add_rule(group, &SecurityRule::tcp(PORT)).expect("a rule can be added");
    }

    /// Nothing from anywhere.
    pub fn close_security_group(&self) {
        let group = &self.cloud.facts().security_group_id;
        for rule in self.demo.rules(group).expect("rules can be read") {
            let from_anywhere =
                rule.rule.remote_ip_prefix.as_deref().is_none_or(|prefix| prefix == "0.0.0.0/0");
            if rule.rule.direction == Direction::Ingress
                && from_anywhere
                && rule.rule.remote_group_id.is_none()
            {
                self.demo.delete_rule(&rule.id).expect("a rule can be removed");
            }
        }
    }

    pub fn unbind(&self, address: &FloatingIp) {
        self.demo
            .update_floating_ip(&address.id, &json!({"port_id": null}))
            .expect("an address can be unbound");
    }

    pub fn bind(&self, address: &FloatingIp, port: Option<&str>) {
        self.demo
            .update_floating_ip(&address.id, &json!({"port_id": port}))
            .expect("an address can be bound");
    }

    pub fn describe_address(&self, address: &FloatingIp, text: &str) {
        let change = json!({"description": text});
        self.demo.update_floating_ip(&address.id, &change).expect("an address can be described");
    }

    /// The Neutron port of a pod.
    pub fn port(&self, pod: &str) -> lab::cloud::Port {
        self.demo.pod_port(NAMESPACE, pod).expect("ports can be read").expect("the pod has a port")
    }

    /// The pod's address.
    pub async fn pod_ip(&self, name: &str) -> Ipv4Addr {
        self.eventually(&format!("pod {name} has an address"), Duration::from_secs(240), async || {
            let pod = self.pods().get_opt(name).await.expect("pods can be read");
            let ip = pod
                .filter(|pod| pod.metadata.deletion_timestamp.is_none())
                .and_then(|pod| pod.status?.pod_ip);
            ip.and_then(|ip| ip.parse().ok()).ok_or("no address yet")
        })
        .await
    }

    /// Every address of ours leads to the pod of its broker.
    pub async fn assert_bound(&self, ordinals: std::ops::Range<u32>) {
        let ledger = self.ledger();
        for ordinal in ordinals {
            let ip = self.pod_ip(&format!("kafka-{ordinal}")).await;
            let bound = ledger.get(&ordinal).and_then(|address| address.fixed_ip_address);
            assert_eq!(bound, Some(ip), "the address of broker {ordinal} leads to its pod");
        }
    }
}

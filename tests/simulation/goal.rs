//! Whether the world is as its user wants it: judged when nothing goes wrong any more.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use futures::FutureExt;
use kafka_external_access::{
    api::{BrokerStatus, KafkaExternalAccess},
    domain::Endpoint,
    kafka::{Brokers, Security, Target},
};

use crate::{
    ledger::owned,
    setup::Listener,
    world::{SECRET, World, key, node},
};

impl World {
    /// What is not yet as wanted; `None`: everything is.
    pub fn unfinished(self: &Arc<Self>) -> Option<String> {
        match self.api.access_now(&key()) {
            Some(object) if object.metadata.deletion_timestamp.is_some() => {
                let status = object.status.unwrap_or_default();
                Some(format!("the object still goes: {:?} {:?}", status.conditions, status.brokers))
            }
            Some(object) => self.unserved(&object),
            None => self.left_over(),
        }
    }

    fn unserved(self: &Arc<Self>, object: &KafkaExternalAccess) -> Option<String> {
        let uid = object.metadata.uid.clone().unwrap_or_default();
        let poisoned = self.cloud.addresses().iter().find_map(|address| {
            let foreign = owned(&address.description).is_none() && address.description == "not ours";
            address.binding.as_ref().filter(|_| foreign).map(|binding| binding.fixed_ip)
        });
        for ordinal in 0..self.wanted_pods() {
            if poisoned.is_some() && poisoned == self.pod_ip(ordinal) {
                continue;
            }
            let Some(pod) = self.pod_ip(ordinal) else {
                return Some(format!("pod {ordinal} has no address"));
            };
            let chosen = object.spec.brokers.iter().find(|broker| broker.ordinal == ordinal);
            let chosen = chosen.and_then(|broker| broker.address);
            let addresses = self.cloud.addresses();
            let serving: Vec<_> = addresses
                .iter()
                .filter(|address| match chosen {
                    Some(chosen) => address.address == chosen,
                    None => owned(&address.description)
                        .is_some_and(|marker| marker.uid.as_str() == uid && marker.ordinal.0 == ordinal),
                })
                .collect();
            let [one] = serving.as_slice() else {
                let status = object.status.clone().unwrap_or_default();
                let told = status.brokers.iter().find(|broker| broker.ordinal == ordinal);
                let count = serving.len();
                return Some(format!("I1: broker {ordinal} has {count} addresses; the status says {told:?}"));
            };
            if one.binding.as_ref().map(|binding| binding.fixed_ip) != Some(pod) {
                return Some(format!("{} does not lead to broker {ordinal}", one.address));
            }
            if let Some(text) = self.untold(ordinal, one.address) {
                let status = object.status.clone().unwrap_or_default();
                let told = status.brokers.iter().find(|broker| broker.ordinal == ordinal);
                return Some(format!("{text}; the status says {told:?}"));
            }
        }
        let status = object.status.clone().unwrap_or_default();
        if poisoned.is_some() {
            let foreign = |broker: &BrokerStatus| broker.reason.as_deref() == Some("PortHasForeignAddress");
            let told = status.brokers.iter().any(foreign);
            return (!told).then(|| format!("nobody is told of the foreign address: {:#?}", status.brokers));
        }
        let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready");
        match ready {
            Some(ready) if ready.status == "True" => None,
            other => Some(format!("the status says {other:?}, {:#?}", status.brokers)),
        }
    }

    /// What a client sees who comes in through the address.
    fn untold(self: &Arc<Self>, ordinal: u32, address: Ipv4Addr) -> Option<String> {
        if self.setup.listener == Listener::None {
            return None;
        }
        self.lead_traffic();
        let target = Target {
            at: (address, 9094).into(),
            security: Security::default(),
            step_timeout: Duration::from_secs(5),
        };
        let view = self.kafka.describe(&target).now_or_never()?;
        let Ok(view) = view else { return Some(format!("{address}: {view:?}")) };
        let wanted = Endpoint { host: self.setup.host(ordinal, address), port: 9094 };
        if view.node != node(ordinal) || view.advertised.get(&view.node) != Some(&wanted) {
            return Some(format!("{address} should lead to broker {ordinal}, and says {view:?}"));
        }
        None
    }

    /// What the broker has told since its start.
    pub fn broker_tells(&self, ordinal: u32) -> Option<String> {
        self.pod_ip(ordinal)?;
        let target = Target {
            at: (self.pod_ip(ordinal)?, 9092).into(),
            security: Security::default(),
            step_timeout: Duration::from_secs(5),
        };
        let view = self.kafka.describe(&target).now_or_never()?.ok()?;
        view.setting(kafka_external_access::kafka::ListenerSetting::AdvertisedListeners).fixed
    }

    fn left_over(&self) -> Option<String> {
        let left = self.cloud.addresses().into_iter().find(|address| owned(&address.description).is_some());
        if let Some(left) = left {
            return Some(format!("I4: {left:?} is left"));
        }
        let (without_set, may_tell) = {
            let ledger = self.ledger();
            (ledger.went_without_set, ledger.brokers_may_tell)
        };
        if self.setup.listener == Listener::Auto && !without_set && !may_tell {
            let stored = (0..8).find(|ordinal| !self.kafka.stored(node(*ordinal)).is_empty());
            if let Some(ordinal) = stored.filter(|ordinal| self.is_up(*ordinal)) {
                return Some(format!("settings are left at broker {ordinal}"));
            }
        }
        let secret = self.api.secret_now(SECRET)?;
        let held = secret.metadata.finalizers.iter().flatten().count();
        (held > 0).then(|| "the Secret is still held".into())
    }
}

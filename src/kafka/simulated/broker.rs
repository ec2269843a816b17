//! One broker in memory: what its file says, what is stored for it, and what really runs.
//!
//! | a change of stored settings | what the broker does (2.8.2 with ZooKeeper, as observed) |
//! |---|---|
//! | is not valid in itself | refuses, in the dry run too |
//! | names a port that is taken, or an endpoint that another broker is registered with | stores it, answers with success, shows it as in force, and only logs that it was not applied |
//! | anything else | stores it, opens and closes listeners by name a moment later, and registers anew |

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    time::Duration,
};

use crate::{
    domain::{Endpoint, NodeId},
    kafka::{ListenerSetting, MetadataMode, SettingChange, SettingValue},
};

/// What the configuration file of a broker says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerFile {
    /// `listeners`; the first one is the listener between brokers.
    pub listeners: String,
    /// `advertised.listeners`.
    pub advertised: Option<String>,
    /// `listener.security.protocol.map`.
    pub protocols: String,
    /// What the broker takes for its own host name where an advertised entry has none.
    pub hostname: String,
}

/// `NAME -> (host, port)`.
pub(super) type Entries = BTreeMap<String, (String, u16)>;

/// A broker that may run.
#[derive(Clone, Debug)]
pub(super) struct Broker {
    pub(super) file: BrokerFile,
    pub(super) stored: BTreeMap<ListenerSetting, String>,
    pub(super) running: Option<Running>,
}

/// A broker that runs.
#[derive(Clone, Debug)]
pub(super) struct Running {
    pub(super) pod: Ipv4Addr,
    /// Sockets that are really open, by listener.
    pub(super) open: BTreeMap<String, u16>,
    /// What the cluster has heard from the broker.
    pub(super) registered: BTreeMap<String, Endpoint>,
    /// When the stored settings are applied.
    pub(super) due: Option<Duration>,
}

/// What the rest of the world means for a broker that opens listeners and registers.
pub(super) struct Surroundings {
    pub(super) mode: MetadataMode,
    /// Ports that other processes of the pod listen on.
    pub(super) busy: BTreeSet<u16>,
    /// What the other brokers are registered with.
    pub(super) taken: BTreeMap<Endpoint, NodeId>,
}

/// Why a broker does not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartFailure {
    /// It cannot bind a listener.
    #[error("port {0} is in use")]
    PortBusy(u16),
    /// Its registration is refused (ZooKeeper mode).
    #[error("{endpoint} is registered by broker {by}")]
    EndpointTaken {
        /// The other broker.
        by: NodeId,
        /// The endpoint.
        endpoint: Endpoint,
    },
    /// Its settings are refused.
    #[error("{0}")]
    Settings(String),
}

impl Broker {
    pub(super) fn setting(&self, setting: ListenerSetting) -> SettingValue {
        let fixed = match setting {
            ListenerSetting::Listeners => Some(self.file.listeners.clone()),
            ListenerSetting::AdvertisedListeners => self.file.advertised.clone(),
            ListenerSetting::SecurityProtocolMap => Some(self.file.protocols.clone()),
        };
        let dynamic = self.stored.get(&setting).cloned();
        // The broker shows a stored value as in force even when it could not apply it.
        SettingValue { effective: dynamic.clone().or_else(|| fixed.clone()), dynamic, fixed }
    }

    fn value(&self, setting: ListenerSetting) -> String {
        self.setting(setting).effective.unwrap_or_default()
    }

    pub(super) fn protocol(&self, listener: &str) -> Option<String> {
        protocols(&self.value(ListenerSetting::SecurityProtocolMap)).remove(listener)
    }

    fn listeners(&self) -> Result<Entries, String> {
        entries(&self.value(ListenerSetting::Listeners))
    }

    fn advertised(&self) -> Result<BTreeMap<String, Endpoint>, String> {
        let text = self.setting(ListenerSetting::AdvertisedListeners).effective;
        let listed = entries(&text.unwrap_or_else(|| self.value(ListenerSetting::Listeners)))?;
        let named =
            listed.into_iter().filter(|(name, _)| name != "CONTROLLER").map(|(name, (host, port))| {
                let host = if host.is_empty() { self.file.hostname.clone() } else { host };
                (name, Endpoint { host, port })
            });
        Ok(named.collect())
    }

    /// The broker's own check of a change; its words are those of Kafka 2.8.2.
    pub(super) fn after(&self, changes: &[SettingChange], mode: MetadataMode) -> Result<Self, String> {
        let mut next = self.clone();
        for change in changes {
            match change {
                SettingChange::Set(setting, value) => next.stored.insert(*setting, value.clone()),
                SettingChange::Delete(setting) => next.stored.remove(setting),
            };
        }
        let changed = |setting| self.stored.get(&setting) != next.stored.get(&setting);
        if mode == MetadataMode::KRaft && changed(ListenerSetting::AdvertisedListeners) {
            return Err("Cannot update these configs dynamically: Set(advertised.listeners)".into());
        }
        next.check()?;
        let moved = self.listeners()?.into_keys().find(|name| {
            let after = next.protocol(name);
            after.is_some() && after != self.protocol(name)
        });
        match moved {
            Some(name) => Err(format!("Security protocol cannot be updated for existing listener {name}")),
            None => Ok(next),
        }
    }

    fn check(&self) -> Result<(), String> {
        let (listeners, advertised) = (self.listeners()?, self.advertised()?);
        let ports: BTreeSet<u16> = listeners.values().map(|(_, port)| *port).collect();
        if ports.len() < listeners.len() {
            return Err("requirement failed: Each listener must have a different port".into());
        }
        if let Some(name) =
            listeners.keys().chain(advertised.keys()).find(|name| self.protocol(name).is_none())
        {
            return Err(format!("No security protocol defined for listener {name}"));
        }
        if advertised.values().any(|endpoint| endpoint.host == "0.0.0.0") {
            return Err("advertised.listeners cannot use the nonroutable meta-address 0.0.0.0".into());
        }
        if advertised.keys().any(|name| !listeners.contains_key(name)) {
            return Err(
                "requirement failed: advertised.listeners listener names must be equal to or a subset of \
                        the ones defined in listeners"
                    .into(),
            );
        }
        let internal = self.file.listeners.split("://").next().unwrap_or_default().trim();
        if !advertised.contains_key(internal) {
            return Err("requirement failed: inter.broker.listener.name must be a listener name defined in \
                        advertised.listeners"
                .into());
        }
        Ok(())
    }

    /// Starts the process in a pod.
    pub(super) fn start(&mut self, pod: Ipv4Addr, around: &Surroundings) -> Result<(), StartFailure> {
        self.check().map_err(StartFailure::Settings)?;
        let listeners = self.listeners().map_err(StartFailure::Settings)?;
        let registered = self.advertised().map_err(StartFailure::Settings)?;
        let open: BTreeMap<String, u16> =
            listeners.into_iter().map(|(name, (_, port))| (name, port)).collect();
        if let Some(port) = open.values().find(|port| around.busy.contains(port)) {
            return Err(StartFailure::PortBusy(*port));
        }
        if let Some((by, endpoint)) = around.conflict(&registered) {
            return Err(StartFailure::EndpointTaken { by, endpoint });
        }
        self.running = Some(Running { pod, open, registered, due: None });
        Ok(())
    }

    /// Applies what is stored: sockets by the listener's name only, then the registration. What fails is only logged.
    pub(super) fn apply(&mut self, around: &Surroundings) {
        let (Ok(listeners), Ok(advertised)) = (self.listeners(), self.advertised()) else { return };
        let Some(running) = &mut self.running else { return };
        running.due = None;
        running.open.retain(|name, _| listeners.contains_key(name));
        for (name, (_, port)) in listeners {
            if running.open.contains_key(&name) {
                continue;
            }
            if around.busy.contains(&port) {
                return;
            }
            running.open.insert(name, port);
        }
        if around.mode == MetadataMode::ZooKeeper && around.conflict(&advertised).is_none() {
            running.registered = advertised;
        }
    }
}

impl Surroundings {
    /// The other broker that is registered with one of these endpoints. KRaft does not look.
    fn conflict(&self, registered: &BTreeMap<String, Endpoint>) -> Option<(NodeId, Endpoint)> {
        let mut endpoints = registered.values().filter(|_| self.mode == MetadataMode::ZooKeeper);
        endpoints.find_map(|endpoint| Some((*self.taken.get(endpoint)?, endpoint.clone())))
    }
}

/// Kafka's own reading of a list, apart from the product's.
fn entries(text: &str) -> Result<Entries, String> {
    let parsed = text.split(',').map(str::trim).filter(|entry| !entry.is_empty()).map(|entry| {
        let (name, rest) = entry.split_once("://")?;
        let (host, port) = rest.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Some((name.to_ascii_uppercase(), (host.to_owned(), port.parse().ok()?)))
    });
    let parsed: Option<Entries> = parsed.collect();
    parsed.ok_or_else(|| format!("Unable to parse {text} to a broker endpoint"))
}

fn protocols(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split(',').filter_map(|entry| entry.rsplit_once(':'));
    pairs.map(|(name, protocol)| (name.trim().to_ascii_uppercase(), protocol.trim().to_owned())).collect()
}

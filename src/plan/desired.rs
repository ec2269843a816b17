//! What the object wants, validated: after this nobody reads the raw spec.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    time::Duration,
};

use crate::{
    api::{Mode, RetentionPolicy, Rollout, SecurityProtocol},
    domain::{AccessKey, Endpoint, Ordinal, Uid},
};

/// A spec that can be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// Namespace and name.
    pub key: AccessKey,
    /// UID of the object.
    pub uid: Uid,
    /// Apply or only plan.
    pub mode: Mode,
    /// Name of the StatefulSet.
    pub stateful_set: String,
    /// The broker's container, where named.
    pub container: Option<String>,
    /// Name of the internal listener.
    pub internal_listener: String,
    /// How to reach the internal listener, where given.
    pub bootstrap: Vec<Endpoint>,
    /// The listener for clients outside; `None`: the addresses serve the internal listener.
    pub listener: Option<WantedListener>,
    /// Where addresses come from.
    pub provider: WantedProvider,
    /// What happens to unused addresses.
    pub retention: RetentionPolicy,
    /// The user accepts that more than the listener is reachable.
    pub accept_exposure: bool,
    /// Addresses to adopt (OpenStack) or to use (Static); unique.
    pub chosen_addresses: BTreeMap<Ordinal, Ipv4Addr>,
    /// Names to advertise for single brokers.
    pub advertised_hosts: BTreeMap<Ordinal, String>,
    /// Brokers whose lost address may be replaced.
    pub replace: BTreeSet<Ordinal>,
    /// Time between two probes.
    pub probe_interval: Duration,
    /// Limit for each step of a probe.
    pub probe_timeout: Duration,
}

/// The listener for clients outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedListener {
    /// Its name in Kafka.
    pub name: String,
    /// Its port.
    pub port: u16,
    /// Its protocol.
    pub protocol: SecurityProtocol,
    /// How it comes into the brokers.
    pub rollout: Rollout,
    /// Name to advertise, with placeholders.
    pub host_template: Option<String>,
}

/// Where addresses come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WantedProvider {
    /// OpenStack.
    OpenStack {
        /// Entry of clouds.yaml.
        cloud_name: String,
        /// The Secret with the credential.
        secret: String,
        /// External network, name or identifier.
        floating_network: String,
        /// Pods' network, name or identifier.
        pod_network: Option<String>,
    },
    /// Addresses that somebody else binds.
    Static,
}

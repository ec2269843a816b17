//! The words of the product as types. Parsing is validation: a value that exists is valid.
//!
//! Nothing here knows Kubernetes, a cloud or a wire protocol.

use std::{fmt, net::SocketAddrV4, str::FromStr};

use serde::{Deserialize, Serialize};

/// Position of a broker in its StatefulSet: `kafka-2` has ordinal 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ordinal(pub u32);

/// What Kafka calls the broker: `broker.id` (ZooKeeper) or `node.id` (KRaft). Need not equal the ordinal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub i32);

/// `revision_number` of a cloud object; goes up with every change (Networking API v2.0, "Revisions").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub u64);

macro_rules! display_inner {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}
display_inner!(Ordinal, NodeId, Revision);

macro_rules! opaque_id {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Takes the identifier as its issuer spelled it.
            pub fn new(id: impl Into<String>) -> Self {
                Self(id.into())
            }

            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        display_inner!($name);
    )*};
}

opaque_id! {
    /// Identifier of a floating IP in the cloud.
    AddressId,
    /// Identifier of a network port in the cloud.
    PortId,
    /// Identifier of a network in the cloud.
    NetworkId,
    /// Identifier of the project (tenant) that a credential is scoped to.
    ProjectId,
    /// Identifier of a security group in the cloud.
    SecurityGroupId,
    /// Identifier of a QoS policy in the cloud.
    QosPolicyId,
    /// Identity of a Kubernetes cluster: the UID of its namespace `kube-system`, or `--cluster-id`.
    ClusterId,
    /// UID that the API server gave to an object; never used twice.
    Uid,
}

/// Namespace and name of a `KafkaExternalAccess`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccessKey {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

/// Namespace and name of a Secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretKey {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl fmt::Display for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The innermost cause says what happened; the outer ones repeat what was tried.
pub fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// The text is not `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not namespace/name")]
pub struct InvalidAccessKey(String);

impl FromStr for AccessKey {
    type Err = InvalidAccessKey;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
                Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
            }
            _ => Err(InvalidAccessKey(text.to_owned())),
        }
    }
}

impl fmt::Display for AccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A host (name or address) and a port, as a client dials it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// A DNS name or an IPv4 address.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl From<SocketAddrV4> for Endpoint {
    fn from(at: SocketAddrV4) -> Self {
        Self { host: at.ip().to_string(), port: at.port() }
    }
}

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidEndpoint(text.chars().take(300).collect());
        let (host, port) = text.rsplit_once(':').ok_or_else(invalid)?;
        let port = port.parse().map_err(|_| invalid())?;
        if host.is_empty() || host.len() > 253 || port == 0 {
            return Err(invalid());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

/// The text is not `host:port`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not host:port")]
pub struct InvalidEndpoint(String);

/// The owner marker of an address: **allocated by us**, for this broker of this object of this cluster.
///
/// It is the `description` of the floating IP, written by the create call itself (Networking API v2.0:
/// `description`, at most 255 characters, the only free text that is atomic with the creation).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnerMarker {
    /// The Kubernetes cluster.
    pub cluster: ClusterId,
    /// Namespace and name of the `KafkaExternalAccess`.
    pub key: AccessKey,
    /// UID of the `KafkaExternalAccess`.
    pub uid: Uid,
    /// The broker.
    pub ordinal: Ordinal,
}

/// The marker of an address whose object was deleted with `whenDeleted: Retain`: kept for an object of the
/// same cluster and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RetainedMarker {
    /// The Kubernetes cluster.
    pub cluster: ClusterId,
    /// Namespace and name of the deleted `KafkaExternalAccess`.
    pub key: AccessKey,
    /// The broker.
    pub ordinal: Ordinal,
}

/// A marker of ours, read back from a cloud object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Marker {
    /// In use by an object that exists, or existed.
    Owned(OwnerMarker),
    /// Kept for an object to come.
    Retained(RetainedMarker),
}

const OWNED: &str = "kea/v1 ";
const RETAINED: &str = "kea-retained/v1 ";

impl Marker {
    /// Reads a marker. `None`: this text was not written by us, so the object is somebody else's.
    ///
    /// Only the exact text that [`OwnerMarker`] or [`RetainedMarker`] prints is a marker; any edit makes it foreign.
    pub fn parse(description: &str) -> Option<Self> {
        let marker = match (description.strip_prefix(OWNED), description.strip_prefix(RETAINED)) {
            (Some(fields), _) => {
                let [cluster, key, uid, ordinal] = fields_of(fields, ["c=", "n=", "u=", "o="])?;
                Marker::Owned(OwnerMarker {
                    cluster: ClusterId::new(cluster),
                    key: key_of(key)?,
                    uid: Uid::new(uid),
                    ordinal: Ordinal(ordinal.parse().ok()?),
                })
            }
            (None, Some(fields)) => {
                let [cluster, key, ordinal] = fields_of(fields, ["c=", "n=", "o="])?;
                Marker::Retained(RetainedMarker {
                    cluster: ClusterId::new(cluster),
                    key: key_of(key)?,
                    ordinal: Ordinal(ordinal.parse().ok()?),
                })
            }
            (None, None) => return None,
        };
        (marker.to_string() == description).then_some(marker)
    }
}

fn fields_of<'a, const N: usize>(text: &'a str, names: [&str; N]) -> Option<[&'a str; N]> {
    let mut words = text.split(' ');
    let mut values = [""; N];
    for (value, name) in values.iter_mut().zip(names) {
        *value = words.next()?.strip_prefix(name).filter(|v| !v.is_empty())?;
    }
    words.next().is_none().then_some(values)
}

fn key_of(text: &str) -> Option<AccessKey> {
    let (namespace, name) = text.split_once('/')?;
    Some(AccessKey { namespace: namespace.to_owned(), name: name.to_owned() })
}

impl fmt::Display for OwnerMarker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cluster, key, uid, ordinal } = self;
        write!(f, "{OWNED}c={cluster} n={key} u={uid} o={ordinal}")
    }
}

impl fmt::Display for RetainedMarker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cluster, key, ordinal } = self;
        write!(f, "{RETAINED}c={cluster} n={key} o={ordinal}")
    }
}

impl fmt::Display for Marker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Owned(marker) => marker.fmt(f),
            Self::Retained(marker) => marker.fmt(f),
        }
    }
}

impl OwnerMarker {
    /// The marker the address gets when its object goes and the address stays.
    pub fn retained(&self) -> RetainedMarker {
        RetainedMarker { cluster: self.cluster.clone(), key: self.key.clone(), ordinal: self.ordinal }
    }
}

/// What should happen after an error: the one question every error of the product answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// Will not go away without a change of the spec, of a right or of the environment by a person.
    Terminal,
    /// May go away by itself: try again with back-off.
    Transient,
    /// Nothing is wrong; something has to happen first and an event or a known time will tell.
    Waiting,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner() -> OwnerMarker {
        OwnerMarker {
            cluster: ClusterId::new("5cbb4b45-02cd-4e8b-a2d7-3c1f0a3a9a11"),
            key: AccessKey { namespace: "ydata".into(), name: "kafka".into() },
            uid: Uid::new("0b2f7a54-93ba-4a5e-8a4e-1f6f3f0f9a77"),
            ordinal: Ordinal(2),
        }
    }

    #[test]
    fn a_marker_reads_back_as_written() {
        let owned = Marker::Owned(owner());
        let retained = Marker::Retained(owner().retained());
        assert_eq!(Marker::parse(&owned.to_string()), Some(owned));
        assert_eq!(Marker::parse(&retained.to_string()), Some(retained));
    }

    #[test]
    fn an_edited_marker_is_not_a_marker() {
        let text = owner().to_string();
        for edited in
            [format!("{text} "), text.replace("o=2", "o=02"), text.replace("u=", "u"), text.to_uppercase()]
        {
            assert_eq!(Marker::parse(&edited), None, "{edited}");
        }
        assert_eq!(Marker::parse("my own address"), None);
    }

    #[test]
    fn the_longest_marker_fits_a_description() {
        let mut longest = owner();
        longest.key = AccessKey { namespace: "n".repeat(63), name: "m".repeat(63) };
        longest.ordinal = Ordinal(127);
        assert!(longest.to_string().len() <= 255, "{}", longest.to_string().len());
    }
}

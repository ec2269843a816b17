//! The ConfigMap with one properties file per broker. A broker reads its own when it starts (FileConfigProvider,
//! KIP-297); a missing file or key keeps it from starting, so there are keys for brokers that do not exist yet, and the
//! ConfigMap belongs to the StatefulSet and not to the object.
//!
//! | the broker | its file |
//! |---|---|
//! | has an address that leads to it | `external=,EXTERNAL://203.0.113.10:9094`: the value brings its own comma |
//! | has none now | what the file says already: a broker that restarts keeps what it told clients |
//! | never had one, or is to be withdrawn | `external=`: it starts, and advertises nothing more |

use std::{collections::BTreeMap, net::Ipv4Addr};

use k8s_openapi::{
    api::{apps::v1::StatefulSet, core::v1::ConfigMap},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::ResourceExt;

use crate::{
    cloud::Outside,
    domain::{Endpoint, Ordinal},
};

/// Where the files are in the container.
pub const FOLDER: &str = "/etc/kafka-external-access";
/// The key in each file.
pub const KEY: &str = "external";
const FEWEST: u32 = 32;
/// Twice what an object serves; a ConfigMap holds 1 MiB.
const MOST: u32 = 256;
const HEAD: &str = "# Written by kafka-external-access. The broker reads it when it starts.\n";

/// The name of the ConfigMap of a StatefulSet.
pub fn name(stateful_set: &str) -> String {
    format!("{stateful_set}-external-access")
}

/// What one broker shall tell clients outside. Made from an address that leads to the broker, and from nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertised(String);

impl Advertised {
    /// The entry of a listener at an address that leads to the broker.
    pub fn of(listener: &str, _leads_to_it: &Outside, endpoint: &Endpoint) -> Self {
        Self(format!(",{listener}://{endpoint}"))
    }
}

/// Whether the ConfigMap of that name is the operator's: it has a file of ours, or has nothing.
pub fn is_ours(present: &ConfigMap) -> bool {
    let mut values = present.data.iter().flat_map(|data| data.values()).peekable();
    values.peek().is_none() && present.binary_data.is_none() || values.any(|value| value.starts_with(HEAD))
}

/// The pod that tells clients this address from its next start.
pub fn teller(files: &ConfigMap, address: Ipv4Addr) -> Option<&str> {
    let entry = format!("://{address}:");
    let ours = files.data.as_ref().filter(|_| is_ours(files))?;
    let (file, _) = ours.iter().find(|(_, text)| text.contains(&entry))?;
    file.strip_suffix(".properties")
}

/// The ConfigMap as it should be, from the one that is there. Files of brokers that are not in `advertised` stay.
pub fn wanted(
    set: &StatefulSet,
    present: Option<&ConfigMap>,
    advertised: &BTreeMap<Ordinal, Advertised>,
) -> ConfigMap {
    let before = present.and_then(|map| map.data.clone()).unwrap_or_default();
    config_map(set, present, |ordinal, file| {
        let stays = || before.get(&file).cloned().unwrap_or_else(|| content(""));
        advertised.get(&ordinal).map_or_else(stays, |entry| content(&entry.0))
    })
}

/// The ConfigMap that advertises nothing.
pub fn empty(set: &StatefulSet, present: Option<&ConfigMap>) -> ConfigMap {
    let mut files = config_map(set, present, |_, _| content(""));
    // Those of brokers that there were as well.
    let all = files.data.iter_mut().flatten().filter(|(file, _)| file.ends_with(".properties"));
    all.for_each(|(_, text)| *text = content(""));
    files
}

fn content(value: &str) -> String {
    format!("{HEAD}{KEY}={value}\n")
}

fn config_map(
    set: &StatefulSet,
    present: Option<&ConfigMap>,
    of: impl Fn(Ordinal, String) -> String,
) -> ConfigMap {
    let spec = set.spec.as_ref();
    let number =
        |value: Option<i32>, otherwise| value.and_then(|n| u32::try_from(n).ok()).unwrap_or(otherwise);
    let replicas = number(spec.and_then(|spec| spec.replicas), 1);
    let first = number(spec.and_then(|spec| spec.ordinals.as_ref()?.start), 0);
    let count = FEWEST.max(replicas.saturating_mul(2)).min(MOST);
    let mut data = present.and_then(|map| map.data.clone()).unwrap_or_default();
    // Ordinals that begin later may begin earlier again.
    for ordinal in first.saturating_sub(MOST)..first.saturating_add(count) {
        let file = format!("{}-{ordinal}.properties", set.name_any());
        data.insert(file.clone(), of(Ordinal(ordinal), file));
    }
    let owner = OwnerReference {
        api_version: "apps/v1".to_owned(),
        kind: "StatefulSet".to_owned(),
        name: set.name_any(),
        uid: set.uid().unwrap_or_default(),
        ..OwnerReference::default()
    };
    let mut metadata = present.map(|map| map.metadata.clone()).unwrap_or_else(|| ObjectMeta {
        name: Some(name(&set.name_any())),
        namespace: set.namespace(),
        ..ObjectMeta::default()
    });
    metadata.owner_references = Some(vec![owner]);
    ConfigMap { metadata, data: Some(data), ..ConfigMap::default() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(replicas: u32) -> StatefulSet {
        let set = json!({"metadata": {"name": "kafka", "namespace": "ydata", "uid": "s"},
            "spec": {"replicas": replicas, "serviceName": "s", "selector": {}, "template": {}}});
        serde_json::from_value(set).expect("a StatefulSet")
    }

    fn advertised(ordinal: u32) -> BTreeMap<Ordinal, Advertised> {
        let endpoint = Endpoint { host: "203.0.113.10".to_owned(), port: 9094 };
        let outside = Outside::Stated(Ipv4Addr::new(203, 0, 113, 10));
        BTreeMap::from([(Ordinal(ordinal), Advertised::of("EXTERNAL", &outside, &endpoint))])
    }

    fn line(map: &ConfigMap, file: &str) -> Option<String> {
        Some(map.data.as_ref()?.get(file)?.lines().last()?.to_owned())
    }

    #[test]
    fn brokers_that_do_not_exist_yet_have_a_file() {
        for (replicas, count) in [(3, 32), (40, 80)] {
            let map = wanted(&set(replicas), None, &BTreeMap::new());
            assert_eq!(map.data.as_ref().map(BTreeMap::len), Some(count));
            assert_eq!(line(&map, "kafka-31.properties").as_deref(), Some("external="));
        }
    }

    #[test]
    fn a_broker_without_an_address_keeps_what_its_file_says() {
        let first = wanted(&set(3), None, &advertised(1));
        assert_eq!(
            line(&first, "kafka-1.properties").as_deref(),
            Some("external=,EXTERNAL://203.0.113.10:9094")
        );
        let second = wanted(&set(3), Some(&first), &BTreeMap::new());
        assert_eq!(second, first, "nothing is written when nothing changes");
        let none = empty(&set(3), Some(&first));
        assert_eq!(line(&none, "kafka-1.properties").as_deref(), Some("external="));
    }

    #[test]
    fn it_goes_with_the_stateful_set() {
        let map = wanted(&set(3), None, &BTreeMap::new());
        let owners = map.metadata.owner_references.expect("owners");
        assert_eq!((owners[0].kind.as_str(), owners[0].uid.as_str()), ("StatefulSet", "s"));
    }
}

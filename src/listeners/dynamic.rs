//! Decides which stored settings make a running broker listen on and advertise one more listener (ZooKeeper mode,
//! Kafka 2.8 - 3.9). Pure.
//!
//! A stored value outlives the pod, the object and the operator, and can keep a broker from starting. So the stored
//! value is always `what the configuration file says` + `our entry`, and nothing is stored where that could hurt:
//!
//! | the broker | then |
//! |---|---|
//! | advertises the wanted endpoint under the wanted name | in force |
//! | is being migrated to KRaft, or is there with our settings still stored | refused: `rollout: Restart` moves them out first |
//! | is in KRaft mode | refused: needs a restart (KAFKA-18405, KAFKA-13835) |
//! | binds one of its listeners to an address, or advertises its pod's or node's | refused: a stored copy would outlive that address |
//! | has the name, or the port, for another listener in its file | refused |
//! | something else listens on the port in the pod | refused: the broker would store it and fail to bind |
//! | another broker advertises the endpoint, live or stored | refused: the broker could not register at its next start |
//! | has a stored value that is not `file + our entry` | refused: names the key |
//! | otherwise | store the three settings in one request |

use std::net::IpAddr;

use super::text::{InvalidListener, ListenerText, Listeners, ProtocolMap};
use crate::{
    domain::{Endpoint, NodeId},
    kafka::{BrokerView, ListenerSetting, MetadataMode, SettingChange},
};

/// The listener that a broker should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// Its name.
    pub name: &'a str,
    /// The port it binds.
    pub port: u16,
    /// Its protocol, in Kafka's word.
    pub protocol: String,
    /// What it tells clients.
    pub endpoint: Endpoint,
}

/// What follows for one broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The broker is as it should be.
    InForce,
    /// Store these, together.
    Change(Vec<SettingChange>),
    /// Not possible.
    Refused(Refusal),
}

/// Why a listener cannot come into a running broker.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// KRaft.
    #[error("this broker runs in KRaft mode, where advertised listeners change only with a restart")]
    RestartRequired,
    /// Stored settings would go along to KRaft, where they cannot be changed.
    #[error(
        "listener settings stored in Kafka would be carried along by the migration to KRaft; set rollout: Restart, which moves them into the pod template"
    )]
    Leftovers,
    /// A listener is bound to an address that will vanish.
    #[error(
        "listener {listener} of the broker is bound to {host}; write listeners without a host ({listener}://:PORT)"
    )]
    PodAddress {
        /// The listener.
        listener: String,
        /// The address.
        host: String,
    },
    /// A listener advertises an address that will vanish.
    #[error(
        "listener {listener} of the broker advertises {host}, which goes with its pod; advertise a name ({listener}://$(POD_NAME).SERVICE.NAMESPACE.svc:PORT)"
    )]
    PodAddressTold {
        /// The listener.
        listener: String,
        /// The address.
        host: String,
    },
    /// The configuration file has a listener of that name with other values.
    #[error("the broker's configuration has a listener {0} already")]
    NameTaken(String),
    /// The configuration file has another listener on that port.
    #[error("port {port} of the pod is used by the broker's listener {listener}")]
    PortOfListener {
        /// The port.
        port: u16,
        /// The listener that has it.
        listener: String,
    },
    /// Another process listens on that port.
    #[error("something listens on port {0} in the pod already")]
    PortBusy(u16),
    /// Another broker tells clients the same endpoint.
    #[error("broker {by} advertises {endpoint} already")]
    EndpointTaken {
        /// The other broker.
        by: NodeId,
        /// The endpoint.
        endpoint: Endpoint,
    },
    /// A stored value hides the configuration file's.
    #[error(
        "the stored value of {0} is not what the broker's configuration says plus this listener; delete it with kafka-configs --delete-config, or restore the configuration"
    )]
    Shadowed(&'static str),
    /// The settings cannot be read.
    #[error("the broker's listener settings are not understood: {0}")]
    NotUnderstood(String),
}

impl From<InvalidListener> for Refusal {
    fn from(error: InvalidListener) -> Self {
        Self::NotUnderstood(error.to_string())
    }
}

/// What is known of the pod that the broker runs in.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// Something accepts TCP at the listener's port although the listener is not in force.
    pub port_busy: bool,
    /// Addresses that go with the pod: its own, and its node's.
    pub addresses: Vec<IpAddr>,
}

/// Decides for one broker. `others` are the other brokers' views.
pub fn decide<'a>(
    own: &BrokerView,
    others: impl Iterator<Item = &'a BrokerView>,
    wanted: &Wanted<'_>,
    around: &Surroundings,
) -> Decision {
    match changes(own, others, wanted, around) {
        Ok(changes) if changes.is_empty() => Decision::InForce,
        Ok(changes) => Decision::Change(changes),
        Err(refusal) => Decision::Refused(refusal),
    }
}

fn changes<'a>(
    own: &BrokerView,
    mut others: impl Iterator<Item = &'a BrokerView>,
    wanted: &Wanted<'_>,
    around: &Surroundings,
) -> Result<Vec<SettingChange>, Refusal> {
    let taken = others.find(|other| advertises_anywhere(other, &wanted.endpoint)).map(|other| other.node);
    if let Some(by) = taken {
        return Err(Refusal::EndpointTaken { by, endpoint: wanted.endpoint.clone() });
    }
    let advertised = advertises(own, wanted);
    let stored = || !withdraw(own, wanted.name).is_empty();
    if own.mode == MetadataMode::Migrating || own.mode == MetadataMode::KRaft && stored() {
        return Err(Refusal::Leftovers);
    }
    if own.mode == MetadataMode::KRaft {
        return if advertised { Ok(Vec::new()) } else { Err(Refusal::RestartRequired) };
    }
    let file = File::of(own, wanted.name)?;
    if advertised && file.listeners.get(wanted.name).is_some() {
        return Ok(Vec::new());
    }
    file.admits(wanted, around)?;
    let target = file.with(wanted);
    let stored = Stored::of(own);
    stored.is_ours_or_nothing(&file, wanted.name)?;
    let changes = stored.missing(&target);
    if around.port_busy && stored.0.iter().all(Option::is_none) {
        return Err(Refusal::PortBusy(wanted.port));
    }
    Ok(changes)
}

/// True when the broker's value in force tells clients the wanted endpoint under the wanted name.
pub fn advertises(broker: &BrokerView, wanted: &Wanted<'_>) -> bool {
    let effective = broker.setting(ListenerSetting::AdvertisedListeners).effective.unwrap_or_default();
    let listeners = Listeners::parse(&effective).unwrap_or_default();
    listeners.get(wanted.name).is_some_and(|listener| listener.is_at(&wanted.endpoint))
}

/// True when a value in force or stored contains the endpoint: the broker tells it to clients, now or after a restart.
pub fn advertises_anywhere(broker: &BrokerView, endpoint: &Endpoint) -> bool {
    any_entry(broker, &endpoint.host, |entry| entry.is_at(endpoint))
}

/// True when a value in force or stored contains the host, on whatever port.
pub fn names_host(broker: &BrokerView, host: &str) -> bool {
    any_entry(broker, host, |entry| entry.host == host)
}

/// A value that is not understood counts as a match when it contains the host at all: an address must not be released
/// because of a text that we cannot read.
fn any_entry(broker: &BrokerView, host: &str, wanted: impl Fn(&ListenerText) -> bool) -> bool {
    let setting = broker.setting(ListenerSetting::AdvertisedListeners);
    let values = [setting.effective, setting.dynamic, setting.fixed];
    values.into_iter().flatten().any(|value| match Listeners::parse(&value) {
        Ok(listeners) => listeners.iter().any(&wanted),
        Err(_) => value.contains(host),
    })
}

/// The changes that take our listener out of the stored settings again. Empty: nothing of ours is stored. What
/// somebody else stored around it stays.
pub fn withdraw(own: &BrokerView, name: &str) -> Vec<SettingChange> {
    let file = File::of(own, name).ok();
    let stored = SETTINGS.into_iter().zip(Stored::of(own).0);
    let changes = stored.filter_map(|(setting, value)| {
        let value = value.filter(|value| has(setting, value, name))?;
        let fixed = match &file {
            Some(file) => file.text(setting),
            None => own.setting(setting).fixed.unwrap_or_default(),
        };
        let rest = without_ours(setting, &value, &fixed, name)?;
        let change =
            if rest == fixed { SettingChange::Delete(setting) } else { SettingChange::Set(setting, rest) };
        (change != SettingChange::Set(setting, value)).then_some(change)
    });
    changes.collect()
}

/// The broker's file says this endpoint by itself, so that it stays when stored settings go.
pub fn in_file(own: &BrokerView, endpoint: &Endpoint) -> bool {
    let file = own.setting(ListenerSetting::AdvertisedListeners).fixed.unwrap_or_default();
    Listeners::parse(&file).is_ok_and(|file| file.iter().any(|listener| listener.is_at(endpoint)))
}

/// All three settings deleted: the way back when a change did not take. [`decide`] changes nothing where somebody else
/// has stored something, so whatever is stored is ours.
pub fn take_back() -> [SettingChange; 3] {
    SETTINGS.map(SettingChange::Delete)
}

const SETTINGS: [ListenerSetting; 3] = ListenerSetting::ALL;

/// What the broker's configuration file (or environment, or arguments) says.
struct File {
    listeners: Listeners,
    advertised: Listeners,
    map: ProtocolMap,
}

impl File {
    fn of(own: &BrokerView, name: &str) -> Result<Self, Refusal> {
        let fixed = |setting| own.setting(setting).fixed;
        let listeners = Listeners::parse(&fixed(ListenerSetting::Listeners).unwrap_or_default())?;
        let advertised = match fixed(ListenerSetting::AdvertisedListeners) {
            Some(text) if !text.is_empty() => Listeners::parse(&text)?,
            _ => Self::advertised_by_default(own, &listeners, name)?,
        };
        let map = ProtocolMap::parse(&fixed(ListenerSetting::SecurityProtocolMap).unwrap_or_default())?;
        Ok(Self { listeners, advertised, map })
    }

    /// Without `advertised.listeners` Kafka advertises `listeners`, and its own host name where an entry has no host.
    /// Written down explicitly, that must be exactly what the broker is registered with.
    fn advertised_by_default(
        own: &BrokerView,
        listeners: &Listeners,
        name: &str,
    ) -> Result<Listeners, Refusal> {
        let others: Vec<_> =
            listeners.iter().filter(|entry| !entry.name.eq_ignore_ascii_case(name)).collect();
        match (others.as_slice(), own.advertised.get(&own.node)) {
            ([only], Some(registered)) => {
                Ok(Listeners::default().with(&only.name, &registered.host, registered.port))
            }
            _ => Err(Refusal::NotUnderstood("advertised.listeners is not set; set it explicitly".to_owned())),
        }
    }

    fn admits(&self, wanted: &Wanted<'_>, around: &Surroundings) -> Result<(), Refusal> {
        let vanishes =
            |host: &str| host.parse::<IpAddr>().is_ok_and(|ip| !ip.is_unspecified() && !ip.is_loopback());
        if let Some(bound) = self.listeners.iter().find(|entry| vanishes(&entry.host)) {
            return Err(Refusal::PodAddress { listener: bound.name.clone(), host: bound.host.clone() });
        }
        let goes = |host: &str| host.parse::<IpAddr>().is_ok_and(|ip| around.addresses.contains(&ip));
        if let Some(told) = self.advertised.iter().find(|entry| goes(&entry.host)) {
            return Err(Refusal::PodAddressTold { listener: told.name.clone(), host: told.host.clone() });
        }
        if self.listeners.get(wanted.name).is_some() || self.advertised.get(wanted.name).is_some() {
            return Err(Refusal::NameTaken(wanted.name.to_owned()));
        }
        match self.listeners.iter().find(|entry| entry.port == wanted.port) {
            Some(other) => Err(Refusal::PortOfListener { port: wanted.port, listener: other.name.clone() }),
            None => Ok(()),
        }
    }

    fn with(&self, wanted: &Wanted<'_>) -> [String; 3] {
        let Endpoint { host, port } = &wanted.endpoint;
        SETTINGS.map(|setting| match setting {
            ListenerSetting::Listeners => self.listeners.with(wanted.name, "", wanted.port).to_string(),
            ListenerSetting::AdvertisedListeners => {
                self.advertised.with(wanted.name, host, *port).to_string()
            }
            ListenerSetting::SecurityProtocolMap => self.map.with(wanted.name, &wanted.protocol).to_string(),
        })
    }

    fn text(&self, setting: ListenerSetting) -> String {
        match setting {
            ListenerSetting::Listeners => self.listeners.to_string(),
            ListenerSetting::AdvertisedListeners => self.advertised.to_string(),
            ListenerSetting::SecurityProtocolMap => self.map.to_string(),
        }
    }
}

/// What is stored in Kafka for this broker.
struct Stored([Option<String>; 3]);

impl Stored {
    fn of(own: &BrokerView) -> Self {
        Self(SETTINGS.map(|setting| own.setting(setting).dynamic))
    }

    /// Whoever stored something else has a reason that we do not know.
    fn is_ours_or_nothing(&self, file: &File, name: &str) -> Result<(), Refusal> {
        for (setting, value) in SETTINGS.into_iter().zip(&self.0) {
            let Some(value) = value else { continue };
            let fixed = file.text(setting);
            if without_ours(setting, value, &fixed, name).as_ref() != Some(&fixed) {
                return Err(Refusal::Shadowed(setting.key()));
            }
        }
        Ok(())
    }

    fn missing(&self, target: &[String; 3]) -> Vec<SettingChange> {
        let settings = SETTINGS.into_iter().zip(&self.0).zip(target);
        let differing = settings.filter(|((_, stored), target)| stored.as_ref() != Some(target));
        differing.map(|((setting, _), target)| SettingChange::Set(setting, target.clone())).collect()
    }
}

/// Whether the text has an entry of that name.
fn has(setting: ListenerSetting, value: &str, name: &str) -> bool {
    match setting {
        ListenerSetting::SecurityProtocolMap => {
            ProtocolMap::parse(value).is_ok_and(|map| map.get(name).is_some())
        }
        _ => Listeners::parse(value).is_ok_and(|listeners| listeners.get(name).is_some()),
    }
}

/// The stored text as it would be without us: our entry is gone, or is the file's own of that name again. `None`: a
/// text is not understood.
fn without_ours(setting: ListenerSetting, value: &str, fixed: &str, name: &str) -> Option<String> {
    Some(match setting {
        ListenerSetting::SecurityProtocolMap => {
            let (map, file) = (ProtocolMap::parse(value).ok()?, ProtocolMap::parse(fixed).ok()?);
            match file.get(name) {
                Some(protocol) if map.get(name).is_some() => map.with(name, protocol).to_string(),
                _ => map.without(name).to_string(),
            }
        }
        _ => {
            let (listeners, file) = (Listeners::parse(value).ok()?, Listeners::parse(fixed).ok()?);
            match file.get(name) {
                Some(own) if listeners.get(name).is_some() => {
                    listeners.with(&own.name, &own.host, own.port).to_string()
                }
                _ => listeners.without(name).to_string(),
            }
        }
    })
}

/// The three settings in words, for a user who makes the change.
pub fn settings_in_words(own: &BrokerView, wanted: &Wanted<'_>) -> Result<Vec<String>, Refusal> {
    let file = File::of(own, wanted.name)?;
    Ok(SETTINGS
        .into_iter()
        .zip(file.with(wanted))
        .map(|(setting, value)| format!("{}={value}", setting.key()))
        .collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::kafka::SettingValue;

    fn broker(id: i32, listeners: &str, advertised: Option<&str>, stored: [Option<&str>; 3]) -> BrokerView {
        let fixed = [Some(listeners), advertised, Some("INTERNAL:PLAINTEXT")];
        let settings = SETTINGS.into_iter().zip(fixed).zip(stored).map(|((setting, fixed), dynamic)| {
            let value = SettingValue {
                dynamic: dynamic.map(str::to_owned),
                fixed: fixed.map(str::to_owned),
                effective: dynamic.or(fixed).map(str::to_owned),
            };
            (setting, value)
        });
        let host = format!("kafka-{id}.kafka-headless");
        BrokerView {
            node: NodeId(id),
            cluster: "c".into(),
            advertised: BTreeMap::from([(NodeId(id), Endpoint { host, port: 9092 })]),
            settings: settings.collect(),
            mode: MetadataMode::ZooKeeper,
        }
    }

    fn plain(id: i32) -> BrokerView {
        broker(id, "INTERNAL://:9092", Some(&format!("INTERNAL://kafka-{id}:9092")), [None; 3])
    }

    fn wanted() -> Wanted<'static> {
        let endpoint = Endpoint { host: "203.0.113.10".into(), port: 9094 };
        Wanted { name: "EXTERNAL", port: 9094, protocol: "PLAINTEXT".into(), endpoint }
    }

    const OURS: [Option<&str>; 3] = [
        Some("INTERNAL://:9092,EXTERNAL://:9094"),
        Some("INTERNAL://kafka-0:9092,EXTERNAL://203.0.113.10:9094"),
        Some("INTERNAL:PLAINTEXT,EXTERNAL:PLAINTEXT"),
    ];

    fn refusal(own: &BrokerView, others: &[BrokerView], busy: bool) -> Refusal {
        let around = Surroundings { port_busy: busy, addresses: vec![[10, 128, 0, 20].into()] };
        match decide(own, others.iter(), &wanted(), &around) {
            Decision::Refused(refusal) => refusal,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_plain_broker_gets_all_three_settings_in_one_change() {
        let expected =
            SETTINGS.into_iter().zip(OURS).map(|(s, v)| SettingChange::Set(s, v.unwrap_or_default().into()));
        assert_eq!(
            decide(&plain(0), [plain(1)].iter(), &wanted(), &Surroundings::default()),
            Decision::Change(expected.collect())
        );
    }

    #[test]
    fn what_is_in_force_is_left_alone_and_taken_out_again_by_deletion() {
        let own = broker(0, "INTERNAL://:9092", Some("INTERNAL://kafka-0:9092"), OURS);
        let busy = Surroundings { port_busy: true, ..Surroundings::default() };
        assert_eq!(decide(&own, [].iter(), &wanted(), &busy), Decision::InForce);
        assert_eq!(withdraw(&own, "EXTERNAL"), SETTINGS.map(SettingChange::Delete));
        assert_eq!(withdraw(&plain(0), "EXTERNAL"), []);
    }

    #[test]
    fn an_address_that_changed_costs_one_setting() {
        let mut stored = OURS;
        stored[1] = Some("INTERNAL://kafka-0:9092,EXTERNAL://203.0.113.99:9094");
        let own = broker(0, "INTERNAL://:9092", Some("INTERNAL://kafka-0:9092"), stored);
        let change =
            SettingChange::Set(ListenerSetting::AdvertisedListeners, OURS[1].unwrap_or_default().into());
        let busy = Surroundings { port_busy: true, ..Surroundings::default() };
        assert_eq!(decide(&own, [].iter(), &wanted(), &busy), Decision::Change(vec![change]));
    }

    #[test]
    fn every_guard_refuses() {
        let own = broker(0, "INTERNAL://10.128.0.9:9092", Some("INTERNAL://kafka-0:9092"), [None; 3]);
        assert!(matches!(refusal(&own, &[], false), Refusal::PodAddress { .. }));
        let own = broker(0, "INTERNAL://:9092", Some("INTERNAL://10.128.0.20:9092"), [None; 3]);
        assert!(matches!(refusal(&own, &[], false), Refusal::PodAddressTold { .. }));
        let own = broker(0, "INTERNAL://:9092,EXTERNAL://:9095", Some("INTERNAL://kafka-0:9092"), [None; 3]);
        assert!(matches!(refusal(&own, &[], false), Refusal::NameTaken(_)));
        let own = broker(0, "INTERNAL://:9092,ADMIN://:9094", Some("INTERNAL://kafka-0:9092"), [None; 3]);
        assert!(matches!(refusal(&own, &[], false), Refusal::PortOfListener { .. }));
        assert_eq!(refusal(&plain(0), &[], true), Refusal::PortBusy(9094));
        let other = broker(1, "INTERNAL://:9092", Some("INTERNAL://kafka-1:9092"), OURS);
        assert!(matches!(refusal(&plain(0), &[other], false), Refusal::EndpointTaken { by: NodeId(1), .. }));
        let own = broker(0, "INTERNAL://:19092", Some("INTERNAL://kafka-0:9092"), OURS);
        assert_eq!(refusal(&own, &[], false), Refusal::Shadowed("listeners"));
        let mut own = plain(0);
        own.mode = MetadataMode::KRaft;
        assert_eq!(refusal(&own, &[], false), Refusal::RestartRequired);
    }

    #[test]
    fn without_advertised_listeners_the_registered_name_is_written_down() {
        let own = broker(0, "INTERNAL://:9092", None, [None; 3]);
        let Decision::Change(changes) = decide(&own, [].iter(), &wanted(), &Surroundings::default()) else {
            panic!("a change")
        };
        let value = "INTERNAL://kafka-0.kafka-headless:9092,EXTERNAL://203.0.113.10:9094";
        assert_eq!(changes[1], SettingChange::Set(ListenerSetting::AdvertisedListeners, value.into()));
    }

    #[test]
    fn a_name_that_the_protocol_map_of_the_file_knows_already_is_no_obstacle() {
        for (fixed, stored) in [
            ("INTERNAL:PLAINTEXT,EXTERNAL:PLAINTEXT", "INTERNAL:PLAINTEXT,EXTERNAL:PLAINTEXT"),
            ("EXTERNAL:SSL,INTERNAL:PLAINTEXT", "EXTERNAL:PLAINTEXT,INTERNAL:PLAINTEXT"),
        ] {
            let with_map = |stored| {
                let mut own = broker(0, "INTERNAL://:9092", Some("INTERNAL://kafka-0:9092"), stored);
                if let Some(map) = own.settings.get_mut(&ListenerSetting::SecurityProtocolMap) {
                    map.fixed = Some(fixed.into());
                }
                own
            };
            let Decision::Change(changes) =
                decide(&with_map([None; 3]), [].iter(), &wanted(), &Surroundings::default())
            else {
                panic!("{fixed}")
            };
            assert_eq!(changes[2], SettingChange::Set(ListenerSetting::SecurityProtocolMap, stored.into()));
            let own = with_map([OURS[0], OURS[1], Some(stored)]);
            assert_eq!(decide(&own, [].iter(), &wanted(), &Surroundings::default()), Decision::InForce);
            assert_eq!(withdraw(&own, "EXTERNAL"), take_back());
        }
    }

    #[test]
    fn a_listener_that_moved_into_the_file_stays_when_the_stored_one_goes() {
        let own = broker(0, "INTERNAL://:9092,EXTERNAL://:9094", OURS[1], OURS);
        let expected = SETTINGS.map(SettingChange::Delete);
        assert_eq!(withdraw(&own, "EXTERNAL")[..2], expected[..2]);
    }

    #[test]
    fn kraft_needs_a_restart_whatever_else_is_unusual() {
        let mut own = broker(0, "INTERNAL://:9092,CONTROLLER://:9093", None, [None; 3]);
        own.mode = MetadataMode::KRaft;
        assert_eq!(refusal(&own, &[], true), Refusal::RestartRequired);
    }

    #[test]
    fn what_cannot_be_read_is_taken_to_name_the_address() {
        let strange = Some("EXTERNAL://203.0.113.10:9094,nonsense");
        let own = broker(0, "INTERNAL://:9092", Some("INTERNAL://kafka-0:9092"), [None, strange, None]);
        assert!(names_host(&own, "203.0.113.10") && advertises_anywhere(&own, &wanted().endpoint));
        assert!(!names_host(&own, "203.0.113.77"));
    }

    #[test]
    fn what_somebody_else_stored_without_our_entry_is_not_ours_to_take_out() {
        let own = broker(
            0,
            "INTERNAL://:9092",
            Some("INTERNAL://kafka-0:9092"),
            [Some("INTERNAL://:9092,ADMIN://:1"), None, None],
        );
        assert_eq!(withdraw(&own, "EXTERNAL"), []);
    }

    #[test]
    fn what_somebody_else_stored_around_ours_stays_when_ours_goes() {
        let mut stored = OURS;
        stored[0] = Some("INTERNAL://:9092,EXTERNAL://:9094,ADMIN://:9099");
        let own = broker(0, "INTERNAL://:9092", Some("INTERNAL://kafka-0:9092"), stored);
        let changes = withdraw(&own, "EXTERNAL");
        assert_eq!(
            changes[0],
            SettingChange::Set(ListenerSetting::Listeners, "INTERNAL://:9092,ADMIN://:9099".into())
        );
    }
}

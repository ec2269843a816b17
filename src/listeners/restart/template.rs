//! The pod template with our listener, without it, and the patch from one to the other.
//!
//! | what | in the template |
//! |---|---|
//! | `listeners` | what was there, and `NAME://:port` |
//! | `listener.security.protocol.map` | the whole map: what was there (else what the brokers have, else Kafka's default), every controller listener, and `NAME:PROTOCOL`; refused where a listener of the template has none |
//! | `advertised.listeners`, addresses | what was there, and a reference to the broker's file, whose value brings its own comma |
//! | `advertised.listeners`, names of `{podName}` only | what was there, and `,NAME://$(POD_NAME)...:port`: no file, no restart when an address changes |
//! | `config.providers` | our own alias behind what was there |
//! | update strategy | `OnDelete` while our roll runs; what was there, also where it is the same, is in annotation `kafkaaccess.dev/before` |
//!
//! What was there is opaque text: only what is ours is ever added, replaced or taken out.

use k8s_openapi::api::{
    apps::v1::{StatefulSet, StatefulSetUpdateStrategy},
    core::v1::{
        ConfigMapVolumeSource, Container, EnvVar, EnvVarSource, ObjectFieldSelector, PodSpec, Volume,
        VolumeMount,
    },
};
use kube::ResourceExt;
use serde::{Deserialize, Serialize};

use super::{
    dialect::{NotUnderstood, Settings},
    file, strategy,
};
use crate::listeners::text::ProtocolMap;

/// On the StatefulSet: what our change of the template replaced.
pub const BEFORE: &str = "kafkaaccess.dev/before";

const ALIAS: &str = "kea";
const VOLUME: &str = "kafka-external-access";
const PROVIDER: &str = "org.apache.kafka.common.config.provider.FileConfigProvider";
const POD_NAME: &str = "POD_NAME";

const LISTENERS: &str = "listeners";
const ADVERTISED: &str = "advertised.listeners";
const MAP: &str = "listener.security.protocol.map";
const CONTROLLERS: &str = "controller.listener.names";
const PROVIDERS: &str = "config.providers";
const PROVIDER_CLASS: &str = "config.providers.kea.class";
/// Kafka's default of the protocol map.
const DEFAULT_MAP: &str = "PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL";

/// The listener that the template should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// Its name.
    pub name: &'a str,
    /// The port it binds.
    pub port: u16,
    /// Its protocol, in Kafka's word.
    pub protocol: String,
    /// A name made of `{podName}` alone; `None`: each broker's own file says what it advertises.
    pub host: Option<&'a str>,
    /// The protocol map that the brokers have now, for a template that states none: theirs is in a file then.
    pub map: Option<&'a str>,
}

/// What our change replaced, as it stands in the annotation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Before {
    /// The listener that was added.
    pub listener: String,
    /// The update strategy to return to; absent: it was returned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<StatefulSetUpdateStrategy>,
    /// Values before; absent: the setting was not there.
    settings: Replaced,
    /// The variable with the pod's name is ours.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pod_name_added: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Replaced {
    listeners: String,
    advertised: String,
    map: Option<String>,
    providers: Option<String>,
}

/// Where the template stands.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// It has the listener as wanted.
    InShape,
    /// It had our listener, and somebody took it out.
    Reverted(Box<StatefulSet>),
    /// It should become this.
    Change(Box<StatefulSet>),
}

/// Compares a StatefulSet with what is wanted. An error: its settings cannot be changed by us.
pub fn state(
    set: &StatefulSet,
    container: Option<&str>,
    wanted: &Wanted<'_>,
) -> Result<State, NotUnderstood> {
    let before = before(set)?;
    if let Some(other) = before.as_ref().filter(|before| before.listener != wanted.name) {
        return Err(NotUnderstood(format!(
            "the template already has listener {} of another object; one object with rollout: Restart is possible for a StatefulSet",
            other.listener
        )));
    }
    let mut target = set.clone();
    let pod = pod_mut(&mut target)?;
    let at = broker(pod, container)?;
    let mut settings = Settings::of(&pod.containers[at])?;
    let was = base(&settings, wanted)?;
    let reverted = before.is_some() && stated(&settings, ADVERTISED)? == was.advertised;
    let pod_name = pod_name(&mut settings)?;
    write(&mut settings, &was, wanted, &pod_name.0)?;
    every_listener_has_a_protocol(&settings)?;
    pod.containers[at] = settings.container().clone();
    mount(pod, at, wanted.host.is_none(), &set.name_any());
    if target == *set {
        return Ok(State::InShape);
    }
    let kept = before.unwrap_or_else(|| Before {
        listener: wanted.name.to_owned(),
        strategy: None,
        settings: was,
        pod_name_added: pod_name.1,
    });
    strategy::hold(&mut target, kept);
    let target = Box::new(target);
    Ok(if reverted { State::Reverted(target) } else { State::Change(target) })
}

/// The annotation; `None`: this StatefulSet was never changed by us.
pub fn before(set: &StatefulSet) -> Result<Option<Before>, NotUnderstood> {
    let text = set.annotations().get(BEFORE);
    text.map(|text| serde_json::from_str(text))
        .transpose()
        .map_err(|error| NotUnderstood(format!("annotation {BEFORE} is not as it was written: {error}")))
}

/// This listener came into the template by us.
pub fn is_ours(set: &StatefulSet, listener: &str) -> bool {
    before(set).ok().flatten().is_some_and(|before| before.listener == listener)
}

/// The template states the brokers' roles, which none with ZooKeeper has (KIP-631).
pub fn states_roles(set: &StatefulSet, container: Option<&str>) -> bool {
    settings_of(set, container).is_ok_and(|settings| matches!(settings.get("process.roles"), Ok(Some(_))))
}

/// The template itself states the name that brokers advertise, so they have it again after each restart.
pub fn states_name(
    set: &StatefulSet,
    container: Option<&str>,
    listener: &str,
) -> Result<bool, NotUnderstood> {
    let settings = settings_of(set, container)?;
    Ok(entry_of(&stated(&settings, ADVERTISED)?, listener).is_some())
}

fn settings_of(set: &StatefulSet, container: Option<&str>) -> Result<Settings, NotUnderstood> {
    let pod = set.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    let pod = pod.ok_or_else(no_template)?;
    Settings::of(&pod.containers[broker(pod, container)?])
}

/// The StatefulSet as it was before us, with `OnDelete` until its brokers have restarted. `None`: it has nothing of ours.
pub fn restored(set: &StatefulSet, container: Option<&str>) -> Result<Option<StatefulSet>, NotUnderstood> {
    let Some(kept) = before(set)? else { return Ok(None) };
    let mut target = set.clone();
    let pod = pod_mut(&mut target)?;
    let at = broker(pod, container)?;
    let mut settings = Settings::of(&pod.containers[at])?;
    let now = without_ours(&settings, &kept)?;
    settings.set(LISTENERS, &now.listeners);
    settings.set(ADVERTISED, &now.advertised);
    for (key, value) in [(MAP, &now.map), (PROVIDERS, &now.providers), (PROVIDER_CLASS, &None)] {
        match value {
            Some(value) => settings.set(key, value),
            None => settings.remove(key),
        }
    }
    if kept.pod_name_added {
        let env = settings.container_mut().env.get_or_insert_default();
        env.retain(|variable| variable.name != POD_NAME);
        if env.is_empty() {
            settings.container_mut().env = None;
        }
    }
    pod.containers[at] = settings.container().clone();
    mount(pod, at, false, &set.name_any());
    if target == *set {
        return Ok(None);
    }
    strategy::hold(&mut target, kept);
    Ok(Some(target))
}

/// The last trace of us on the StatefulSet goes: strategy and annotation. `None`: there is none.
pub fn forgotten(set: &StatefulSet) -> Option<StatefulSet> {
    set.annotations().contains_key(BEFORE).then(|| {
        let mut target = strategy::returned(set).unwrap_or_else(|| set.clone());
        annotate(&mut target, None);
        target
    })
}

/// Its pods read their brokers' files: without the ConfigMap they would not start.
pub fn refers_to_files(set: &StatefulSet) -> bool {
    set.spec.as_ref().and_then(|spec| spec.template.spec.as_ref()).is_some_and(reads_files)
}

/// The same of one pod.
pub fn reads_files(pod: &PodSpec) -> bool {
    pod.volumes.iter().flatten().any(|volume| volume.name == VOLUME)
}

pub(super) fn annotate(target: &mut StatefulSet, kept: Option<&Before>) {
    match kept.and_then(|kept| serde_json::to_string(kept).ok()) {
        Some(text) => target.annotations_mut().insert(BEFORE.to_owned(), text),
        None => target.annotations_mut().remove(BEFORE),
    };
}

fn pod_mut(set: &mut StatefulSet) -> Result<&mut PodSpec, NotUnderstood> {
    let spec = set.spec.as_mut().and_then(|spec| spec.template.spec.as_mut());
    spec.ok_or_else(no_template)
}

fn no_template() -> NotUnderstood {
    NotUnderstood("the StatefulSet has no pod template".to_owned())
}

/// The named container, else the one whose settings are understood. Of the one that is Kafka's it is told why not.
fn broker(pod: &PodSpec, named: Option<&str>) -> Result<usize, NotUnderstood> {
    let of_kafka = |container: &Container| {
        container.env.iter().flatten().any(|variable| variable.name.starts_with("KAFKA_"))
    };
    let found = match named {
        Some(name) => pod.containers.iter().position(|container| container.name == name),
        None => pod.containers.iter().position(|container| Settings::of(container).is_ok()),
    };
    found.or_else(|| pod.containers.iter().position(of_kafka)).ok_or_else(|| {
        NotUnderstood("no container states listeners as KAFKA_LISTENERS or --override listeners=".to_owned())
    })
}

fn stated(settings: &Settings, key: &str) -> Result<String, NotUnderstood> {
    settings
        .get(key)?
        .filter(|text| !text.is_empty())
        .ok_or_else(|| NotUnderstood(format!("{key} is not set in the pod template; set it explicitly")))
}

/// What the settings say without us.
fn base(settings: &Settings, wanted: &Wanted<'_>) -> Result<Replaced, NotUnderstood> {
    let advertised = stated(settings, ADVERTISED)?;
    let listeners = stated(settings, LISTENERS)?;
    let advertised_by_us = cut(settings, &advertised, wanted.name);
    let bound_by_us = without_entry(&listeners, &bound(wanted)[1..]);
    let others = advertised_by_us.is_none() && entry_of(&advertised, wanted.name).is_some();
    if others || bound_by_us.is_none() && entry_of(&listeners, wanted.name).is_some() {
        return Err(NotUnderstood(format!(
            "the pod template has a listener {} already; choose another listener name",
            wanted.name
        )));
    }
    let listeners = bound_by_us.unwrap_or(listeners);
    if let Some(other) = listeners.split(',').find(|entry| entry.ends_with(&format!(":{}", wanted.port))) {
        return Err(NotUnderstood(format!("port {} of the pod is used by {}", wanted.port, other.trim())));
    }
    let advertised = advertised_by_us.unwrap_or(advertised);
    let (map, providers) = (map_without(settings, wanted.name)?, other_providers(settings)?);
    Ok(Replaced { listeners, advertised, map, providers })
}

/// What the settings say now without the listener that the annotation names: what somebody changed meanwhile stays.
fn without_ours(settings: &Settings, kept: &Before) -> Result<Replaced, NotUnderstood> {
    let (listeners, advertised) = (stated(settings, LISTENERS)?, stated(settings, ADVERTISED)?);
    let ours = entry_of(&listeners, &kept.listener).map(|at| entry_at(&listeners, at).to_owned());
    let listeners = ours.and_then(|ours| without_entry(&listeners, &ours)).unwrap_or(listeners);
    let map = match &kept.settings.map {
        Some(was) => map_without_added(settings, was, &kept.listener)?,
        // One that was not there is ours as a whole, unless somebody has added a listener that needs it.
        None if listeners == kept.settings.listeners => None,
        None => map_without(settings, &kept.listener)?,
    };
    Ok(Replaced {
        listeners,
        advertised: cut(settings, &advertised, &kept.listener).unwrap_or(advertised),
        map,
        providers: other_providers(settings)?,
    })
}

fn map_without(settings: &Settings, name: &str) -> Result<Option<String>, NotUnderstood> {
    let Some(text) = settings.get(MAP)? else { return Ok(None) };
    let known = ProtocolMap::parse(&text).map_err(|error| NotUnderstood(error.to_string()))?;
    Ok(Some(if known.get(name).is_some() { known.without(name).to_string() } else { text }))
}

/// Without our listener, and without the controllers' that were added with it.
fn map_without_added(settings: &Settings, was: &str, name: &str) -> Result<Option<String>, NotUnderstood> {
    let Some(text) = map_without(settings, name)? else { return Ok(None) };
    let (now, before) =
        (ProtocolMap::parse(&text).unwrap_or_default(), ProtocolMap::parse(was).unwrap_or_default());
    let controllers = settings.get(CONTROLLERS)?.unwrap_or_default();
    let added: Vec<&str> = controllers
        .split(',')
        .map(str::trim)
        .filter(|name| now.get(name).is_some() && before.get(name).is_none())
        .collect();
    let rest = added.into_iter().fold(now, |map, name| map.without(name)).to_string();
    // Blanks are the user's as well.
    Ok(Some(if rest == before.to_string() { was.to_owned() } else { rest }))
}

fn other_providers(settings: &Settings) -> Result<Option<String>, NotUnderstood> {
    Ok(settings.get(PROVIDERS)?.and_then(|text| {
        let others: Vec<&str> = text.split(',').filter(|alias| alias.trim() != ALIAS).collect();
        (!others.is_empty()).then(|| others.join(","))
    }))
}

/// The text without the entry of ours, wherever it stands; `None`: there is none. A file's value brings its comma; a name
/// is behind one of ours.
fn cut(settings: &Settings, advertised: &str, name: &str) -> Option<String> {
    let reference = settings.literal(ADVERTISED, REFERENCE_START);
    if let Some(at) = advertised.find(&reference) {
        let end = at + advertised[at..].find('}')? + 1;
        return Some(format!("{}{}", &advertised[..at], &advertised[end..]));
    }
    let at = entry_of(advertised, name).filter(|at| entry_at(advertised, *at).contains("$("))?;
    let (head, rest) = (&advertised[..at], &advertised[at + entry_at(advertised, at).len()..]);
    Some(format!("{}{rest}", head.strip_suffix(',').unwrap_or(head)))
}

/// The entry that starts there.
fn entry_at(text: &str, at: usize) -> &str {
    text[at..].split(',').next().unwrap_or_default()
}

/// The list without that entry; `None`: it is not in it.
fn without_entry(list: &str, entry: &str) -> Option<String> {
    let ours = |other: &&str| other.trim() == entry.trim();
    list.split(',').any(|other| ours(&other)).then(|| {
        let others: Vec<&str> = list.split(',').filter(|other| !ours(other)).collect();
        others.join(",")
    })
}

fn every_listener_has_a_protocol(settings: &Settings) -> Result<(), NotUnderstood> {
    let map = ProtocolMap::parse(&stated(settings, MAP)?).unwrap_or_default();
    let listeners = stated(settings, LISTENERS)?;
    let names = listeners.split(',').filter_map(|entry| Some(entry.trim().split_once("://")?.0));
    match names.into_iter().find(|name| map.get(name).is_none()) {
        None => Ok(()),
        Some(name) => Err(NotUnderstood(format!(
            "listener {name} has no protocol in the pod template, and the brokers could not be asked; state {MAP} there"
        ))),
    }
}

const REFERENCE_START: &str = "${kea:";

fn bound(wanted: &Wanted<'_>) -> String {
    format!(",{}://:{}", wanted.name, wanted.port)
}

/// Where the entry of a listener starts; to Kafka its name is the same in small letters.
fn entry_of(text: &str, name: &str) -> Option<usize> {
    let (text, start) = (text.to_ascii_uppercase(), format!("{}://", name.to_ascii_uppercase()));
    text.match_indices(&start).map(|(at, _)| at).find(|at| *at == 0 || text[..*at].trim_end().ends_with(','))
}

/// The variable that holds the pod's name, and whether it had to be added.
fn pod_name(settings: &mut Settings) -> Result<(String, bool), NotUnderstood> {
    let is_name = |variable: &EnvVar| {
        let source = variable.value_from.as_ref().and_then(|source| source.field_ref.as_ref());
        source.is_some_and(|field| field.field_path == "metadata.name")
    };
    let first = settings.order_counts();
    let env = settings.container_mut().env.get_or_insert_default();
    let user = super::dialect::variable(ADVERTISED);
    let above = env.iter().position(|variable| variable.name == user).filter(|_| first).unwrap_or(env.len());
    if let Some(variable) = env[..above].iter().find(|variable| is_name(variable)) {
        return Ok((variable.name.clone(), false));
    }
    if first || env.iter().any(|variable| variable.name == POD_NAME) {
        return Err(NotUnderstood(format!(
            "variable {POD_NAME} must be the pod's name (fieldRef metadata.name) and stand above {user}"
        )));
    }
    let source =
        ObjectFieldSelector { field_path: "metadata.name".to_owned(), api_version: Some("v1".to_owned()) };
    let variable = EnvVar {
        name: POD_NAME.to_owned(),
        value: None,
        value_from: Some(EnvVarSource { field_ref: Some(source), ..EnvVarSource::default() }),
    };
    env.push(variable);
    Ok((POD_NAME.to_owned(), true))
}

/// What has our entry already stays as it is: where somebody put it is where it belongs.
fn write(
    settings: &mut Settings,
    was: &Replaced,
    wanted: &Wanted<'_>,
    pod_name: &str,
) -> Result<(), NotUnderstood> {
    if stated(settings, LISTENERS)? == was.listeners {
        settings.set(LISTENERS, &format!("{}{}", was.listeners, bound(wanted)));
    }
    let now = settings.get(MAP)?;
    let map = ProtocolMap::parse(now.as_deref().or(wanted.map).unwrap_or(DEFAULT_MAP)).unwrap_or_default();
    let controllers = settings.get(CONTROLLERS)?.unwrap_or_default();
    let missing =
        controllers.split(',').map(str::trim).filter(|name| !name.is_empty() && map.get(name).is_none());
    let map = missing.fold(map.clone(), |map, name| map.with(name, "PLAINTEXT"));
    settings.set(MAP, &map.with(wanted.name, &wanted.protocol).to_string());
    let pod = format!("$({pod_name})");
    let ours = match wanted.host {
        Some(host) => format!(",{}://{}:{}", wanted.name, host.replace("{podName}", &pod), wanted.port),
        None => {
            let reference = format!("{REFERENCE_START}{}/{pod}.properties:{}}}", file::FOLDER, file::KEY);
            settings.literal(ADVERTISED, &reference)
        }
    };
    if !stated(settings, ADVERTISED)?.contains(&ours) {
        settings.set(ADVERTISED, &format!("{}{ours}", was.advertised));
    }
    if wanted.host.is_some() {
        match &was.providers {
            Some(others) => settings.set(PROVIDERS, others),
            None => settings.remove(PROVIDERS),
        }
        settings.remove(PROVIDER_CLASS);
        return Ok(());
    }
    let others = was.providers.as_ref().map(|others| format!("{others},")).unwrap_or_default();
    let listed = settings.get(PROVIDERS)?.is_some_and(|text| text.split(',').any(|one| one.trim() == ALIAS));
    if !listed {
        settings.set(PROVIDERS, &format!("{others}{ALIAS}"));
    }
    settings.set(PROVIDER_CLASS, PROVIDER);
    Ok(())
}

/// The folder with the files, whole: a `subPath` would not follow the ConfigMap.
fn mount(pod: &mut PodSpec, at: usize, wanted: bool, set: &str) {
    let container: &mut Container = &mut pod.containers[at];
    let mount = VolumeMount {
        name: VOLUME.to_owned(),
        mount_path: file::FOLDER.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    };
    let source = ConfigMapVolumeSource {
        name: file::name(set),
        default_mode: Some(0o644),
        ..ConfigMapVolumeSource::default()
    };
    let volume = Volume { name: VOLUME.to_owned(), config_map: Some(source), ..Volume::default() };
    let mounts = container.volume_mounts.get_or_insert_default();
    keep(mounts, wanted, mount, |mount| mount.name == VOLUME);
    if mounts.is_empty() {
        container.volume_mounts = None;
    }
    let volumes = pod.volumes.get_or_insert_default();
    keep(volumes, wanted, volume, |volume| volume.name == VOLUME);
    if volumes.is_empty() {
        pod.volumes = None;
    }
}

/// What is there stays as it is: the API server may have added defaults.
fn keep<T>(list: &mut Vec<T>, wanted: bool, ours: T, is_ours: impl Fn(&T) -> bool) {
    if !wanted {
        list.retain(|item| !is_ours(item));
    } else if !list.iter().any(is_ours) {
        list.push(ours);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::kubernetes::patch;

    const ENTRY: &str = "I://$(POD_NAME).kafka:9092";

    fn set(container: Value) -> StatefulSet {
        let set = json!({
            "metadata": {"name": "kafka", "namespace": "ydata", "uid": "s", "resourceVersion": "7"},
            "spec": {"serviceName": "s", "selector": {}, "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
                "template": {"spec": {"containers": [{"name": "sidecar"}, container]}}},
        });
        serde_json::from_value(set).expect("a StatefulSet")
    }

    fn environment(more: &[(&str, &str)]) -> StatefulSet {
        let mut env =
            vec![json!({"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}})];
        let usual = [("KAFKA_LISTENERS", "I://:9092"), ("KAFKA_ADVERTISED_LISTENERS", ENTRY)];
        env.extend(usual.iter().chain(more).map(|(name, value)| json!({"name": name, "value": value})));
        set(json!({"name": "kafka", "env": env}))
    }

    fn arguments() -> StatefulSet {
        let line = format!(
            "exec start.sh file --override listeners=I://:9092 --override advertised.listeners={ENTRY} --override x=y"
        );
        set(json!({"name": "kafka", "command": ["sh", "-c", line]}))
    }

    fn external() -> Wanted<'static> {
        Wanted {
            name: "EXTERNAL",
            port: 9094,
            protocol: "PLAINTEXT".to_owned(),
            host: None,
            map: Some("I:PLAINTEXT"),
        }
    }

    fn changed(set: &StatefulSet, wanted: &Wanted<'_>) -> StatefulSet {
        match state(set, None, wanted) {
            Ok(State::Change(target)) => *target,
            other => panic!("{other:?}"),
        }
    }

    fn settings(set: &StatefulSet) -> Settings {
        let pod = set.spec.as_ref().and_then(|spec| spec.template.spec.as_ref()).expect("a pod");
        Settings::of(&pod.containers[1]).expect("understood")
    }

    fn value(set: &StatefulSet, key: &str) -> String {
        settings(set).get(key).expect("readable").unwrap_or_default()
    }

    /// What the API server makes of the patch.
    fn patched(set: &StatefulSet, target: &StatefulSet) -> StatefulSet {
        let mut json = serde_json::to_value(set).expect("JSON");
        json_patch::patch(&mut json, &patch(set, target)).expect("the patch fits");
        serde_json::from_value(json).expect("a StatefulSet")
    }

    #[test]
    fn the_listener_comes_in_once_and_goes_byte_for_byte() {
        let dialects = [
            environment(&[]),
            arguments(),
            environment(&[
                ("KAFKA_LISTENER_SECURITY_PROTOCOL_MAP", "I:PLAINTEXT, CONTROLLER:SSL"),
                ("KAFKA_CONFIG_PROVIDERS", "vault"),
            ]),
        ];
        for before in dialects {
            let with = patched(&before, &changed(&before, &external()));
            assert_eq!(state(&with, None, &external()), Ok(State::InShape), "{with:?}");
            assert_eq!(value(&with, LISTENERS), "I://:9092,EXTERNAL://:9094");
            assert!(strategy::on_delete(&with) && strategy::rolling(&with));
            let rolled = patched(&with, &strategy::returned(&with).expect("it was held"));
            assert_eq!(
                rolled.spec.as_ref().map(|spec| &spec.update_strategy),
                before.spec.as_ref().map(|spec| &spec.update_strategy)
            );
            assert!(!strategy::rolling(&rolled) && strategy::returned(&rolled).is_none());
            let back = restored(&rolled, None).expect("understood").expect("it has something of ours");
            let back = patched(&rolled, &back);
            assert!(strategy::rolling(&back) && restored(&back, None) == Ok(None));
            let forgotten = patched(&back, &forgotten(&back).expect("the annotation is there"));
            let spec = |set: &StatefulSet| serde_json::to_string(&set.spec).expect("JSON");
            assert_eq!(spec(&forgotten), spec(&before));
            assert!(!forgotten.annotations().contains_key(BEFORE));
        }
    }

    #[test]
    fn every_setting_that_kafka_needs_is_whole() {
        let with = changed(&environment(&[("KAFKA_CONTROLLER_LISTENER_NAMES", "CONTROLLER")]), &external());
        assert_eq!(value(&with, MAP), "I:PLAINTEXT,CONTROLLER:PLAINTEXT,EXTERNAL:PLAINTEXT");
        let reference = "${kea:/etc/kafka-external-access/$(POD_NAME).properties:external}";
        assert_eq!(value(&with, ADVERTISED), format!("{ENTRY}{reference}"));
        assert_eq!(
            (value(&with, PROVIDERS).as_str(), value(&with, PROVIDER_CLASS).as_str()),
            ("kea", PROVIDER)
        );
        let shell = changed(&arguments(), &external());
        assert_eq!(value(&shell, ADVERTISED), format!("{ENTRY}\\{reference}"));
        let kept = changed(&environment(&[("KAFKA_CONFIG_PROVIDERS", "vault")]), &external());
        assert_eq!(value(&kept, PROVIDERS), "vault,kea");
        let map = [("KAFKA_LISTENER_SECURITY_PROTOCOL_MAP", "I:PLAINTEXT,CONTROLLER:SSL")];
        assert_eq!(
            value(&changed(&environment(&map), &external()), MAP),
            "I:PLAINTEXT,CONTROLLER:SSL,EXTERNAL:PLAINTEXT"
        );
    }

    #[test]
    fn names_need_neither_file_nor_provider() {
        let named = Wanted { host: Some("{podName}.kafka.example.com"), ..external() };
        let before = environment(&[]);
        let with = changed(&before, &named);
        assert_eq!(
            value(&with, ADVERTISED),
            format!("{ENTRY},EXTERNAL://$(POD_NAME).kafka.example.com:9094")
        );
        assert_eq!(value(&with, PROVIDERS), "");
        let pod = with.spec.as_ref().and_then(|spec| spec.template.spec.as_ref()).expect("a pod");
        assert_eq!(pod.volumes, None);
        assert_eq!(state(&with, None, &named), Ok(State::InShape));
        let addresses = changed(&with, &external());
        assert_eq!(value(&addresses, ADVERTISED), value(&changed(&before, &external()), ADVERTISED));
        let back = restored(&addresses, None).expect("understood").expect("ours");
        assert_eq!(value(&back, ADVERTISED), ENTRY);
    }

    #[test]
    fn a_comma_at_the_end_changes_the_template_once() {
        let before = environment(&[("KAFKA_ADVERTISED_LISTENERS", "I://a:9092,")]);
        for wanted in [external(), Wanted { host: Some("{podName}.example.com"), ..external() }] {
            let mut before = before.clone();
            let env = pod_mut(&mut before).expect("a pod").containers[1].env.as_mut().expect("variables");
            env.remove(2);
            let with = changed(&before, &wanted);
            assert_eq!(state(&with, None, &wanted), Ok(State::InShape), "{}", value(&with, ADVERTISED));
            let back = restored(&with, None).expect("understood").expect("ours");
            assert_eq!(value(&back, ADVERTISED), "I://a:9092,");
        }
    }

    fn edited(set: &StatefulSet, name: &str, edit: impl Fn(&str) -> String) -> StatefulSet {
        let mut set = set.clone();
        let env = pod_mut(&mut set).expect("a pod").containers[1].env.as_mut().expect("variables");
        let variable = env.iter_mut().find(|variable| variable.name == name).expect("a variable");
        variable.value = variable.value.as_deref().map(edit);
        set
    }

    #[test]
    fn what_somebody_adds_beside_ours_stays_in_its_place_and_outlives_us() {
        let map = ("KAFKA_LISTENER_SECURITY_PROTOCOL_MAP", "I:PLAINTEXT");
        let with = changed(&environment(&[map]), &external());
        let with = strategy::returned(&with).expect("it was held");
        let behind = |text: &str| format!("{text},ADMIN://:9095");
        let with = edited(&with, "KAFKA_LISTENERS", behind);
        let with = edited(&with, "KAFKA_ADVERTISED_LISTENERS", |text| format!("{text},ADMIN://a:9095"));
        let with = edited(&with, map.0, |text| format!("{text},ADMIN:SSL"));
        assert_eq!(state(&with, None, &external()), Ok(State::InShape), "no broker restarts for it");
        let back = restored(&with, None).expect("understood").expect("ours");
        assert_eq!(value(&back, LISTENERS), "I://:9092,ADMIN://:9095");
        assert_eq!(value(&back, ADVERTISED), format!("{ENTRY},ADMIN://a:9095"));
        assert_eq!(value(&back, MAP), "I:PLAINTEXT,ADMIN:SSL");
        let unstated = changed(&environment(&[]), &external());
        let added = edited(&unstated, "KAFKA_LISTENERS", behind);
        let added = edited(&added, map.0, |text| format!("{text},ADMIN:SSL"));
        let back = restored(&added, None).expect("understood").expect("ours");
        assert_eq!(value(&back, MAP), "I:PLAINTEXT,ADMIN:SSL", "ADMIN would have no protocol without it");
        let front = edited(&with, "KAFKA_LISTENERS", |text| text.replace("I://:9092", "I://:9192"));
        let back = restored(&front, None).expect("understood").expect("ours");
        assert_eq!(value(&back, LISTENERS), "I://:9192,ADMIN://:9095");
    }

    #[test]
    fn a_listener_without_a_protocol_is_refused() {
        let nobody_asked = Wanted { map: None, ..external() };
        let refusal = state(&environment(&[]), None, &nobody_asked).expect_err("nothing says what I is");
        assert!(refusal.to_string().contains("listener I has no protocol"), "{refusal}");
        let in_env = json!({"name": "KAFKA_CONTROLLER_LISTENER_NAMES", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}});
        let mut set = environment(&[]);
        let env = pod_mut(&mut set).expect("a pod").containers[1].env.as_mut().expect("variables");
        env.push(serde_json::from_value(in_env).expect("a variable"));
        assert!(state(&set, None, &external()).is_err(), "controllers that cannot be read are not left out");
    }

    #[test]
    fn a_name_in_small_letters_is_the_same_name() {
        let mut set = environment(&[]);
        set = edited(&set, "KAFKA_LISTENERS", |text| format!("{text},external://:9095"));
        let refusal = state(&set, None, &external()).expect_err("it is there");
        assert!(refusal.to_string().contains("has a listener EXTERNAL already"), "{refusal}");
    }

    #[test]
    fn what_somebody_took_out_is_not_put_back() {
        let before = environment(&[]);
        let mut reverted = before.clone();
        reverted.metadata.annotations = changed(&before, &external()).metadata.annotations;
        assert!(matches!(state(&reverted, None, &external()), Ok(State::Reverted(_))));
    }

    #[test]
    fn what_is_not_ours_is_refused() {
        let refused = |set: StatefulSet| state(&set, None, &external()).expect_err("refused").to_string();
        assert!(refused(environment(&[("KAFKA_CFG_X", "y")])).contains("KAFKA_CFG_X"));
        let mut taken = environment(&[]);
        let pod = pod_mut(&mut taken).expect("a pod");
        let env = pod.containers[1].env.as_mut().expect("variables");
        env[2].value = Some(format!("{ENTRY},EXTERNAL://somewhere.example.com:9094"));
        assert!(refused(taken).contains("has a listener EXTERNAL already"));
        let busy = Wanted { port: 9092, ..external() };
        assert!(
            state(&environment(&[]), None, &busy).expect_err("refused").to_string().contains("port 9092")
        );
        let second = Wanted { name: "SECOND", port: 9095, ..external() };
        let first = changed(&environment(&[]), &external());
        assert!(
            state(&first, None, &second)
                .expect_err("refused")
                .to_string()
                .contains("listener EXTERNAL of another object")
        );
        let nameless = set(json!({"name": "kafka", "env": [
            {"name": "KAFKA_LISTENERS", "value": "I://:9092"}, {"name": "KAFKA_ADVERTISED_LISTENERS", "value": "I://a:9092"}]}));
        assert!(refused(nameless).contains("POD_NAME"));
    }
}

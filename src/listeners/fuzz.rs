//! What the parsers of listeners, containers and StatefulSets promise of any text (`src/fuzzing.rs`).

use k8s_openapi::api::{
    apps::v1::{StatefulSet, StatefulSetSpec},
    core::v1::{Container, EnvVar, EnvVarSource, ObjectFieldSelector, PodSpec, PodTemplateSpec},
};

use super::{
    restart::{
        dialect::Settings,
        strategy,
        template::{self, State, Wanted},
    },
    text::{Listeners, ProtocolMap},
};

const KEYS: [&str; 4] =
    ["listeners", "advertised.listeners", "listener.security.protocol.map", "config.providers"];

/// `listeners` and `listener.security.protocol.map`: a text that is taken is written again as it was but for blanks, and one
/// entry changes alone.
pub fn texts(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(listeners) = Listeners::parse(text) {
        let written = listeners.to_string();
        assert_eq!(Listeners::parse(&written).as_ref(), Ok(&listeners));
        assert_eq!(blank_less(&written), blank_less(text));
        let with = listeners.with("NEW", "203.0.113.10", 9094);
        assert_eq!(Listeners::parse(&with.to_string()).as_ref(), Ok(&with));
        let new = with.get("new").expect("the new one");
        assert_eq!((new.host.as_str(), new.port), ("203.0.113.10", 9094));
        assert_eq!(with.without("NEW"), listeners.without("new"));
    }
    if let Ok(map) = ProtocolMap::parse(text) {
        assert_eq!(ProtocolMap::parse(&map.to_string()).as_ref(), Ok(&map));
        let with = map.with("NEW", "SSL");
        assert_eq!(with.get("new"), Some("SSL"));
        assert_eq!(with.without("NEW"), map.without("new"));
    }
}

/// Without what Kafka ignores: blanks around entries, and empty entries.
fn blank_less(text: &str) -> Vec<&str> {
    text.split(',').map(str::trim).filter(|entry| !entry.is_empty()).collect()
}

/// A container: a setting is read as it was written, changes no other one, and goes without a trace.
pub fn dialects(bytes: &[u8]) {
    let Some(container) = container(bytes) else { return };
    let Ok(settings) = Settings::of(&container) else { return };
    let read = |settings: &Settings| KEYS.map(|key| settings.get(key));
    let before = read(&settings);
    for (at, key) in KEYS.into_iter().enumerate() {
        let mut changed = settings.clone();
        match &before[at] {
            Ok(Some(value)) => {
                changed.set(key, value);
                assert_eq!(changed.container(), &container, "{key}");
                changed.set(key, "A://:1");
                expect(&read(&changed), &before, at);
                changed.set(key, value);
                assert_eq!(changed.container(), &container, "{key} set back");
            }
            Ok(None) => {
                changed.set(key, "A://:1");
                expect(&read(&changed), &before, at);
                changed.remove(key);
                assert_eq!(changed.container(), &container, "{key} removed");
            }
            Err(_) => {}
        }
    }
}

fn expect<E: PartialEq + std::fmt::Debug>(
    now: &[Result<Option<String>, E>; 4],
    before: &[Result<Option<String>, E>; 4],
    changed: usize,
) {
    for (at, key) in KEYS.into_iter().enumerate() {
        if at == changed {
            assert_eq!(now[at].as_ref().ok().cloned().flatten().as_deref(), Some("A://:1"), "{key}");
        } else {
            assert_eq!(now[at], before[at], "{key}, when {} changes", KEYS[changed]);
        }
    }
}

/// A StatefulSet, our annotation in the first line of the text, if it has one there: the template gets our listener in one
/// step, and what was there comes back.
pub fn templates(bytes: &[u8]) {
    let (annotation, bytes) = match bytes.strip_prefix(b"{") {
        Some(_) => bytes.split_at(bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len())),
        None => (&bytes[..0], bytes),
    };
    let bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
    let Some(container) = container(bytes) else { return };
    let mut set = of(container);
    if !annotation.is_empty() {
        let text = String::from_utf8_lossy(annotation).into_owned();
        set.metadata.annotations = Some([(template::BEFORE.to_owned(), text)].into());
    }
    let _ = (strategy::returned(&set), template::forgotten(&set), template::restored(&set, None));
    let (name, port, protocol) = ("EXTERNAL", 9094, "PLAINTEXT".to_owned());
    for host in [None, Some("{podName}.kafka.example.com")] {
        let wanted = Wanted { name, port, protocol: protocol.clone(), host, map: None };
        let Ok(State::Change(target)) = template::state(&set, None, &wanted) else { continue };
        // What somebody else has written of ours is taken for ours, and may take a step more.
        let ours = bytes.windows(3).any(|part| part == b"kea" || part == b"EXT");
        assert!(steps(&target, &wanted) <= if ours { 2 } else { 0 }, "{target:?}");
        if annotation.is_empty() && !ours {
            let back = template::restored(&target, None).expect("ours").expect("a change");
            let back = template::forgotten(&back).expect("an annotation");
            assert_eq!(spec_of(&back), spec_of(&set));
        }
    }
}

/// Changes until the template stays as it is, or is not ours to change.
fn steps(set: &StatefulSet, wanted: &Wanted<'_>) -> usize {
    let mut now = set.clone();
    for step in 0..10 {
        match template::state(&now, None, wanted) {
            Ok(State::Change(next) | State::Reverted(next)) => now = *next,
            Ok(State::InShape) | Err(_) => return step,
        }
    }
    usize::MAX
}

fn spec_of(set: &StatefulSet) -> Option<&PodSpec> {
    set.spec.as_ref()?.template.spec.as_ref()
}

fn of(container: Container) -> StatefulSet {
    let pod = PodSpec { containers: vec![container], ..PodSpec::default() };
    let template = PodTemplateSpec { spec: Some(pod), ..PodTemplateSpec::default() };
    let mut set = StatefulSet {
        spec: Some(StatefulSetSpec { template, ..StatefulSetSpec::default() }),
        ..StatefulSet::default()
    };
    set.metadata.name = Some("kafka".to_owned());
    set
}

/// The first character says how the others are meant: `e`, lines of variables `NAME=value`; `a`, lines of arguments; else
/// one line for a shell.
fn container(bytes: &[u8]) -> Option<Container> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (kind, text) = text.split_at_checked(1)?;
    let mut container = Container { name: "kafka".to_owned(), ..Container::default() };
    match kind {
        "e" => {
            let pod_name = ObjectFieldSelector { field_path: "metadata.name".to_owned(), api_version: None };
            let source = EnvVarSource { field_ref: Some(pod_name), ..EnvVarSource::default() };
            let pod_name = EnvVar { name: "POD_NAME".to_owned(), value: None, value_from: Some(source) };
            let variables = text.lines().filter_map(|line| {
                let (name, value) = line.split_once('=')?;
                Some(EnvVar { name: name.to_owned(), value: Some(value.to_owned()), value_from: None })
            });
            container.env = Some(std::iter::once(pod_name).chain(variables).collect());
        }
        "a" => container.args = Some(text.lines().map(str::to_owned).collect()),
        _ => container.command = Some(["sh", "-c", text].map(str::to_owned).into()),
    }
    Some(container)
}

//! Where a container states Kafka's settings.
//!
//! | sign | dialect | a setting | written into |
//! |---|---|---|---|
//! | variable `KAFKA_LISTENERS` | environment (apache/kafka, cp-kafka) | `KAFKA_` + key in capitals, `.` as `_`, `-` as `___`, `_` as `__` (KafkaDockerWrapper, KIP-975) | that variable |
//! | `--override listeners=...` | arguments of kafka-server-start.sh | `--override key=value` | that argument, or that place in a shell line |
//! | a variable `KAFKA_CFG_...` (Bitnami), or neither | not understood | | nothing |

use k8s_openapi::api::core::v1::{Container, EnvVar};

/// The settings of this container cannot be read or changed, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotUnderstood(pub String);

/// A container whose settings can be changed.
#[derive(Clone, Debug)]
pub struct Settings {
    container: Container,
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Environment,
    Words(Field),
    ShellLine(Field, usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Command,
    Args,
}

const FLAG: &str = "--override";

impl Settings {
    /// Reads a container; an error where its dialect is not one of the table.
    pub fn of(container: &Container) -> Result<Self, NotUnderstood> {
        let names = || container.env.iter().flatten().map(|variable| variable.name.as_str());
        if let Some(name) = names().find(|name| name.starts_with("KAFKA_CFG_")) {
            return Err(NotUnderstood(format!(
                "container {} is set by {name}, the dialect of another image",
                container.name
            )));
        }
        let place = if names().any(|name| name == "KAFKA_LISTENERS") {
            Some(Place::Environment)
        } else {
            [Field::Args, Field::Command].into_iter().find_map(|field| place_in(container, field))
        };
        let place = place.ok_or_else(|| {
            NotUnderstood(format!(
                "container {} states listeners neither as KAFKA_LISTENERS nor as --override listeners=",
                container.name
            ))
        })?;
        Ok(Self { container: container.clone(), place })
    }

    /// The container as it is now.
    pub fn container(&self) -> &Container {
        &self.container
    }

    /// The container, for what is not a setting.
    pub(super) fn container_mut(&mut self) -> &mut Container {
        &mut self.container
    }

    /// The value of a setting as it is written, `$(NAME)` unexpanded; `None`: it is not stated. An error where it is
    /// stated by reference.
    pub fn get(&self, key: &str) -> Result<Option<String>, NotUnderstood> {
        match self.place {
            Place::Environment => {
                let name = variable(key);
                let found = self.container.env.iter().flatten().find(|variable| variable.name == name);
                match found {
                    Some(EnvVar { value_from: Some(_), .. }) => {
                        Err(NotUnderstood(format!("variable {name} comes from elsewhere")))
                    }
                    other => Ok(other.map(|variable| variable.value.clone().unwrap_or_default())),
                }
            }
            Place::Words(field) => Ok(words(&self.container, field).windows(2).find_map(|pair| {
                (pair[0] == FLAG)
                    .then(|| pair[1].strip_prefix(&format!("{key}=")))
                    .flatten()
                    .map(str::to_owned)
            })),
            Place::ShellLine(field, at) => {
                let line = &words(&self.container, field)[at];
                Ok(token(line, key).map(|token| line[token.value].to_owned()))
            }
        }
    }

    /// Writes a setting where it stands, else behind the others.
    pub fn set(&mut self, key: &str, value: &str) {
        match self.place {
            Place::Environment => {
                let name = variable(key);
                let env = self.container.env.get_or_insert_default();
                match env.iter_mut().find(|variable| variable.name == name) {
                    Some(variable) => variable.value = Some(value.to_owned()),
                    None => env.push(EnvVar { name, value: Some(value.to_owned()), value_from: None }),
                }
            }
            Place::Words(field) => {
                let words = words_mut(&mut self.container, field);
                let wanted = format!("{key}={value}");
                let start = format!("{key}=");
                let at = (1..words.len()).find(|at| words[at - 1] == FLAG && words[*at].starts_with(&start));
                match at {
                    Some(at) => words[at] = wanted,
                    None => words.extend([FLAG.to_owned(), wanted]),
                }
            }
            Place::ShellLine(field, at) => {
                let line = &mut words_mut(&mut self.container, field)[at];
                *line = with_token(line, key, value);
            }
        }
    }

    /// A text that Kafka itself expands (`${...}`), as it must be written into this setting: a shell would take it first.
    pub fn literal(&self, key: &str, text: &str) -> String {
        let Place::ShellLine(field, at) = self.place else { return text.to_owned() };
        match token(&words(&self.container, field)[at], key) {
            Some(Token { quote: Some('\''), .. }) => text.to_owned(),
            _ => text.replace("${", "\\${"),
        }
    }

    /// Takes a setting out, as if it had never been written.
    pub fn remove(&mut self, key: &str) {
        match self.place {
            Place::Environment => {
                let name = variable(key);
                self.container.env.iter_mut().for_each(|env| env.retain(|variable| variable.name != name));
            }
            Place::Words(field) => {
                let words = words_mut(&mut self.container, field);
                let start = format!("{key}=");
                let at = (1..words.len()).find(|at| words[at - 1] == FLAG && words[*at].starts_with(&start));
                at.map(|at| words.drain(at - 1..=at));
            }
            Place::ShellLine(field, at) => {
                let line = &mut words_mut(&mut self.container, field)[at];
                if let Some(token) = token(line, key) {
                    let head = line[..token.whole.start].trim_end_matches(' ').len();
                    line.replace_range(head..token.whole.end, "");
                }
            }
        }
    }

    /// Whether a variable must be declared before it is used: kubelet expands `$(NAME)` in a variable only from those
    /// above it, in arguments from all.
    pub(super) fn order_counts(&self) -> bool {
        self.place == Place::Environment
    }
}

/// The variable of a setting.
pub fn variable(key: &str) -> String {
    let mut name = "KAFKA_".to_owned();
    for c in key.chars() {
        match c {
            '.' => name.push('_'),
            '_' => name.push_str("__"),
            '-' => name.push_str("___"),
            c => name.push(c.to_ascii_uppercase()),
        }
    }
    name
}

fn words(container: &Container, field: Field) -> &[String] {
    match field {
        Field::Command => container.command.as_deref(),
        Field::Args => container.args.as_deref(),
    }
    .unwrap_or_default()
}

fn words_mut(container: &mut Container, field: Field) -> &mut Vec<String> {
    match field {
        Field::Command => container.command.get_or_insert_default(),
        Field::Args => container.args.get_or_insert_default(),
    }
}

fn place_in(container: &Container, field: Field) -> Option<Place> {
    let words = words(container, field);
    if words.windows(2).any(|pair| pair[0] == FLAG && pair[1].starts_with("listeners=")) {
        return Some(Place::Words(field));
    }
    let line = words.iter().position(|word| token(word, "listeners").is_some())?;
    Some(Place::ShellLine(field, line))
}

/// Where `--override key=value` stands in a shell line.
struct Token {
    /// From the flag to the last character, quotes included.
    whole: std::ops::Range<usize>,
    value: std::ops::Range<usize>,
    quote: Option<char>,
}

/// The first of that key. A word that the shell would put together of several is not one, and neither is what stands in the
/// value of another flag or behind a quote without an end.
fn token(line: &str, key: &str) -> Option<Token> {
    let mut from = 0;
    while let Some(at) = line[from..].find(FLAG).map(|at| from + at) {
        from = at + FLAG.len();
        let start = from + (line[from..].len() - line[from..].trim_start().len());
        let quote = line[start..].chars().next().filter(|c| ['"', '\''].contains(c));
        let (start, width) = (start + quote.map_or(0, char::len_utf8), quote.map_or(0, char::len_utf8));
        let length = match quote {
            Some(quote) => line[start..].find(quote),
            None => Some(line[start..].find(char::is_whitespace).unwrap_or(line[start..].len())),
        };
        // `--overrides`, or `--override=...`.
        if start - width == from {
            continue;
        }
        let end = start + length?;
        from = end + width;
        let alone = line[from..].chars().next().is_none_or(char::is_whitespace);
        if alone && line[start..end].strip_prefix(key).is_some_and(|rest| rest.starts_with('=')) {
            return Some(Token { whole: at..from, value: start + key.len() + 1..end, quote });
        }
    }
    None
}

/// Replaced where it stands; a new one comes behind `advertised.listeners`, else behind `listeners`.
fn with_token(line: &str, key: &str, value: &str) -> String {
    if let Some(token) = token(line, key) {
        return format!("{}{value}{}", &line[..token.value.start], &line[token.value.end..]);
    }
    let neighbour = token(line, "advertised.listeners").or_else(|| token(line, "listeners"));
    let (head, tail) = line.split_at(neighbour.map_or(line.len(), |token| token.whole.end));
    format!("{head} {FLAG} {key}={value}{tail}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn settings(container: serde_json::Value) -> Result<Settings, NotUnderstood> {
        Settings::of(&serde_json::from_value(container).expect("a container"))
    }

    #[test]
    fn keys_become_variables_by_the_rules_of_the_image() {
        assert_eq!(variable("listener.security.protocol.map"), "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP");
        assert_eq!(variable("a_b-c.d"), "KAFKA_A__B___C_D");
    }

    #[test]
    fn every_dialect_is_read_changed_and_brought_back_byte_for_byte() {
        let line = "exec start.sh file --override broker.id=${POD_NAME##*-} --override listeners=I://:1 --override \"advertised.listeners=I://$(POD_NAME):1\" --override x=y";
        let dialects = [
            json!({"name": "kafka", "env": [
                {"name": "KAFKA_LISTENERS", "value": "I://:1"},
                {"name": "KAFKA_ADVERTISED_LISTENERS", "value": "I://$(POD_NAME):1"}, {"name": "X", "value": "y"}]}),
            json!({"name": "kafka", "command": ["sh", "-c", line]}),
            json!({"name": "kafka", "args": [
                "file", "--override", "listeners=I://:1", "--override", "advertised.listeners=I://$(POD_NAME):1"]}),
        ];
        for container in dialects {
            let mut settings = settings(container).expect("understood");
            let before = settings.container().clone();
            let get = |settings: &Settings, key| settings.get(key).expect("readable");
            assert_eq!(get(&settings, "listeners").as_deref(), Some("I://:1"));
            assert_eq!(get(&settings, "advertised.listeners").as_deref(), Some("I://$(POD_NAME):1"));
            assert_eq!(get(&settings, "config.providers"), None);
            settings.set("listeners", "I://:1,E://:2");
            settings.set("config.providers", "kea");
            assert_eq!(get(&settings, "listeners").as_deref(), Some("I://:1,E://:2"));
            assert_eq!(get(&settings, "config.providers").as_deref(), Some("kea"));
            assert_ne!(*settings.container(), before);
            settings.set("listeners", "I://:1");
            settings.remove("config.providers");
            assert_eq!(*settings.container(), before);
        }
    }

    #[test]
    fn what_is_meant_for_kafka_is_kept_from_the_shell() {
        let shell = |quoted: &str| {
            let line = format!("exec start.sh --override listeners=I://:1 --override {quoted}");
            settings(json!({"name": "kafka", "command": ["sh", "-c", line]})).expect("understood")
        };
        let literal = |settings: Settings| settings.literal("advertised.listeners", "${kea:a}");
        assert_eq!(literal(shell("advertised.listeners=I://a:1")), "\\${kea:a}");
        assert_eq!(literal(shell("\"advertised.listeners=I://a:1\"")), "\\${kea:a}");
        assert_eq!(literal(shell("'advertised.listeners=I://a:1'")), "${kea:a}");
    }

    #[test]
    fn only_words_of_their_own_are_settings_in_a_shell_line() {
        let line = "start.sh --override 'a=b --override config.providers=no' --overridelisteners=no --override 'b=c'd \
                    --override listeners=I://:1 --override config.providers=yes --override 'advertised.listeners=no";
        let settings = settings(json!({"name": "kafka", "command": ["sh", "-c", line]})).expect("understood");
        assert_eq!(settings.get("listeners").expect("readable").as_deref(), Some("I://:1"));
        assert_eq!(settings.get("config.providers").expect("readable").as_deref(), Some("yes"));
        assert_eq!(settings.get("advertised.listeners"), Ok(None));
    }

    #[test]
    fn other_dialects_are_named() {
        let bitnami = json!({"name": "kafka", "env": [{"name": "KAFKA_CFG_LISTENERS", "value": "A://:1"}]});
        assert!(settings(bitnami).expect_err("not ours").to_string().contains("KAFKA_CFG_LISTENERS"));
        let mounted = json!({"name": "kafka", "command": ["start.sh", "server.properties"]});
        assert!(settings(mounted).expect_err("not ours").to_string().contains("--override listeners="));
        let by_reference = json!({"name": "kafka", "env": [{"name": "KAFKA_LISTENERS",
            "valueFrom": {"configMapKeyRef": {"name": "a", "key": "b"}}}]});
        let settings = settings(by_reference).expect("the dialect is known");
        assert!(settings.get("listeners").is_err());
    }
}

//! The texts of `listeners`, `advertised.listeners` and `listener.security.protocol.map`.
//!
//! Entries keep their order and their exact text (blanks around commas, which Kafka ignores, are not part of an entry);
//! only one entry is ever added, replaced or removed.

use std::{collections::BTreeSet, fmt};

use crate::domain::Endpoint;

/// A list of entries `NAME://host:port`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listeners(Vec<ListenerText>);

/// One entry, and its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerText {
    /// Upper case, as Kafka compares names.
    pub name: String,
    /// May be empty: every interface, or the machine's own name when advertised.
    pub host: String,
    /// The port.
    pub port: u16,
    text: String,
}

impl ListenerText {
    /// It names this host and port.
    pub fn is_at(&self, endpoint: &Endpoint) -> bool {
        self.host == endpoint.host && self.port == endpoint.port
    }
}

/// The text is not one that Kafka takes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidListener {
    /// An entry of `listeners` or `advertised.listeners`.
    #[error("\"{0}\" is not NAME://host:port")]
    Listener(String),
    /// An entry of `listener.security.protocol.map`.
    #[error("\"{0}\" is not NAME:PROTOCOL")]
    Protocol(String),
    /// A name occurs twice.
    #[error("\"{0}\" is there twice")]
    Twice(String),
}

impl Listeners {
    /// Reads a list; an empty text is an empty list.
    pub fn parse(text: &str) -> Result<Self, InvalidListener> {
        let entries = entries(text).map(listener).collect::<Result<Vec<_>, _>>()?;
        unique(entries.iter().map(|entry| &entry.name))?;
        Ok(Self(entries))
    }

    /// The entries.
    pub fn iter(&self) -> impl Iterator<Item = &ListenerText> {
        self.0.iter()
    }

    /// The entry of that name.
    pub fn get(&self, name: &str) -> Option<&ListenerText> {
        self.0.iter().find(|entry| entry.name.eq_ignore_ascii_case(name))
    }

    /// The list with this entry at the end; one of the same name is replaced where it stands.
    #[must_use]
    pub fn with(&self, name: &str, host: &str, port: u16) -> Self {
        let text = if host.contains(':') {
            format!("{name}://[{host}]:{port}")
        } else {
            format!("{name}://{host}:{port}")
        };
        let new = ListenerText { name: name.to_ascii_uppercase(), host: host.to_owned(), port, text };
        let mut entries = self.0.clone();
        match entries.iter_mut().find(|entry| entry.name.eq_ignore_ascii_case(name)) {
            Some(entry) => *entry = new,
            None => entries.push(new),
        }
        Self(entries)
    }

    /// The list without the entry of that name.
    #[must_use]
    pub fn without(&self, name: &str) -> Self {
        Self(self.0.iter().filter(|entry| !entry.name.eq_ignore_ascii_case(name)).cloned().collect())
    }
}

fn entries(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|entry| !entry.is_empty())
}

fn unique<'a>(names: impl Iterator<Item = &'a String>) -> Result<(), InvalidListener> {
    let mut seen = BTreeSet::new();
    let mut names = names;
    match names.find(|name| !seen.insert(*name)) {
        Some(name) => Err(InvalidListener::Twice(shown(name))),
        None => Ok(()),
    }
}

fn shown(text: &str) -> String {
    text.chars().take(120).collect()
}

fn listener(text: &str) -> Result<ListenerText, InvalidListener> {
    let invalid = || InvalidListener::Listener(shown(text));
    let (name, rest) = text.split_once("://").ok_or_else(invalid)?;
    let (host, port) = rest.rsplit_once(':').ok_or_else(invalid)?;
    let host = match host.strip_prefix('[').map(|host| host.strip_suffix(']')) {
        Some(inner) => inner.ok_or_else(invalid)?,
        None if host.contains(':') => return Err(invalid()),
        None => host,
    };
    // Kafka's own set of characters of a host (EndPoint.uriParseExp).
    let strange = |c: char| !(c.is_ascii_alphanumeric() || "-%._:".contains(c));
    if name.is_empty() || name.contains(char::is_whitespace) || host.contains(strange) {
        return Err(invalid());
    }
    Ok(ListenerText {
        name: name.to_ascii_uppercase(),
        host: host.to_owned(),
        port: port.parse().map_err(|_| invalid())?,
        text: text.to_owned(),
    })
}

impl fmt::Display for Listeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<&str> = self.0.iter().map(|entry| entry.text.as_str()).collect();
        f.write_str(&texts.join(","))
    }
}

/// Entries `NAME:PROTOCOL`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProtocolMap(Vec<ProtocolText>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct ProtocolText {
    name: String,
    protocol: String,
    text: String,
}

impl ProtocolMap {
    /// Reads a map; an empty text is an empty map.
    pub fn parse(text: &str) -> Result<Self, InvalidListener> {
        let entries = entries(text).map(protocol).collect::<Result<Vec<_>, _>>()?;
        unique(entries.iter().map(|entry| &entry.name))?;
        Ok(Self(entries))
    }

    /// The protocol of a listener.
    pub fn get(&self, name: &str) -> Option<&str> {
        let entry = self.0.iter().find(|entry| entry.name.eq_ignore_ascii_case(name));
        entry.map(|entry| entry.protocol.as_str())
    }

    /// The map with this entry at the end; one of the same name is replaced where it stands.
    #[must_use]
    pub fn with(&self, name: &str, protocol: &str) -> Self {
        let text = format!("{name}:{protocol}");
        let new = ProtocolText { name: name.to_ascii_uppercase(), protocol: protocol.to_owned(), text };
        let mut entries = self.0.clone();
        match entries.iter_mut().find(|entry| entry.name.eq_ignore_ascii_case(name)) {
            // The same said in other letters stays as it is written.
            Some(entry) if entry.protocol == protocol => {}
            Some(entry) => *entry = new,
            None => entries.push(new),
        }
        Self(entries)
    }

    /// The map without this entry.
    #[must_use]
    pub fn without(&self, name: &str) -> Self {
        Self(self.0.iter().filter(|entry| !entry.name.eq_ignore_ascii_case(name)).cloned().collect())
    }
}

fn protocol(text: &str) -> Result<ProtocolText, InvalidListener> {
    let (name, protocol) = text.rsplit_once(':').map(|(n, p)| (n.trim(), p.trim())).unwrap_or_default();
    if name.is_empty() || protocol.is_empty() {
        return Err(InvalidListener::Protocol(shown(text)));
    }
    Ok(ProtocolText { name: name.to_ascii_uppercase(), protocol: protocol.to_owned(), text: text.to_owned() })
}

impl fmt::Display for ProtocolMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<&str> = self.0.iter().map(|entry| entry.text.as_str()).collect();
        f.write_str(&texts.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_entry_changes_and_the_others_keep_their_text() {
        let text = "INTERNAL://:9092,CONTROLLER://[::1]:9093";
        let listeners = Listeners::parse(text).expect("a list");
        assert_eq!(listeners.to_string(), text);
        assert_eq!(listeners.get("controller").map(|l| l.host.as_str()), Some("::1"));
        let with = listeners.with("EXTERNAL", "203.0.113.10", 9094);
        assert_eq!(with.to_string(), format!("{text},EXTERNAL://203.0.113.10:9094"));
        assert_eq!(
            with.with("EXTERNAL", "203.0.113.11", 9094).to_string(),
            format!("{text},EXTERNAL://203.0.113.11:9094")
        );
        assert_eq!(with.without("external"), listeners);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "INTERNAL",
            "://:9092",
            "A://h",
            "A://h:99999",
            "A B://h:1",
            "A://[::1:9092",
            "A://::1:9092",
            "A://h/x:1",
            "A://h:1,a://g:2",
        ] {
            assert!(Listeners::parse(text).is_err(), "{text}");
        }
        for text in ["INTERNAL", "INTERNAL:", ":SSL", "A:SSL,a:PLAINTEXT"] {
            assert!(ProtocolMap::parse(text).is_err(), "{text}");
        }
        assert_eq!(Listeners::parse("").map(|l| l.to_string()), Ok(String::new()));
    }

    #[test]
    fn the_protocol_map_keeps_its_other_entries() {
        let map = ProtocolMap::parse("INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT").expect("a map");
        assert_eq!(
            map.with("EXTERNAL", "SSL").to_string(),
            "INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT,EXTERNAL:SSL"
        );
        assert_eq!(map.with("EXTERNAL", "SSL").without("EXTERNAL"), map);
        assert_eq!(map.get("internal"), Some("PLAINTEXT"));
        assert_eq!(map.with("INTERNAL", "SSL").to_string(), "INTERNAL:SSL,CONTROLLER:PLAINTEXT");
    }
}

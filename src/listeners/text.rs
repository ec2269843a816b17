//! The texts of `listeners`, `advertised.listeners` and `listener.security.protocol.map`.
//!
//! Entries keep their order and their exact text; only one entry is ever added, replaced or removed.

use std::fmt;

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

/// The text is not a list of listeners.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not NAME://host:port")]
pub struct InvalidListener(String);

impl Listeners {
    /// Reads a list; an empty text is an empty list.
    pub fn parse(text: &str) -> Result<Self, InvalidListener> {
        let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        entries.map(entry).collect::<Result<_, _>>().map(Self)
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
        let text = format!("{name}://{host}:{port}");
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

fn entry(text: &str) -> Result<ListenerText, InvalidListener> {
    let invalid = || InvalidListener(text.chars().take(120).collect());
    let (name, rest) = text.split_once("://").ok_or_else(invalid)?;
    let (host, port) = rest.rsplit_once(':').ok_or_else(invalid)?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if name.is_empty() || name.contains(char::is_whitespace) {
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
pub struct ProtocolMap(Vec<(String, String)>);

impl ProtocolMap {
    /// Reads a map; entries without a colon are kept as they are.
    pub fn parse(text: &str) -> Self {
        let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        Self(
            entries
                .map(|entry| entry.split_once(':').unwrap_or((entry, "")))
                .map(|(n, p)| (n.to_owned(), p.to_owned()))
                .collect(),
        )
    }

    /// The protocol of a listener.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, protocol)| protocol.as_str())
    }

    /// The map with this entry, at the end when it is new.
    #[must_use]
    pub fn with(&self, name: &str, protocol: &str) -> Self {
        let mut entries = self.without(name).0;
        entries.push((name.to_owned(), protocol.to_owned()));
        Self(entries)
    }

    /// The map without this entry.
    #[must_use]
    pub fn without(&self, name: &str) -> Self {
        Self(self.0.iter().filter(|(known, _)| !known.eq_ignore_ascii_case(name)).cloned().collect())
    }
}

impl fmt::Display for ProtocolMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.0.iter().map(|(name, protocol)| format!("{name}:{protocol}")).collect();
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
        for text in ["INTERNAL", "://:9092", "A://h", "A://h:99999", "A B://h:1"] {
            assert!(Listeners::parse(text).is_err(), "{text}");
        }
        assert_eq!(Listeners::parse("").map(|l| l.to_string()), Ok(String::new()));
    }

    #[test]
    fn the_protocol_map_keeps_its_other_entries() {
        let map = ProtocolMap::parse("INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT");
        assert_eq!(
            map.with("EXTERNAL", "SSL").to_string(),
            "INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT,EXTERNAL:SSL"
        );
        assert_eq!(map.with("EXTERNAL", "SSL").without("EXTERNAL"), map);
        assert_eq!(map.get("internal"), Some("PLAINTEXT"));
    }
}

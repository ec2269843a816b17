//! The marked block within a hosts file. Every byte outside of it stays as it is.

use std::{net::Ipv4Addr, ops::Range, str::FromStr};

use jiff::Timestamp;

use crate::domain::AccessKey;

/// An address and the name that the broker there has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pair {
    /// The address.
    pub address: Ipv4Addr,
    /// The name.
    pub name: String,
}

impl std::fmt::Display for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.address, self.name)
    }
}

/// The text is no pair of an address and a name that may stand in a hosts file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not an address and a name of a broker")]
pub struct InvalidPair(String);

impl FromStr for Pair {
    type Err = InvalidPair;

    /// Whoever may write the status must not be able to redirect `localhost`, or names to this machine.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidPair(text.chars().take(300).collect());
        let (address, name) = text.split_once(' ').ok_or_else(invalid)?;
        let address: Ipv4Addr = address.parse().map_err(|_| invalid())?;
        let forbidden = address.is_loopback()
            || address.is_unspecified()
            || address.is_link_local()
            || address.is_multicast()
            || address.is_broadcast();
        let label = |label: &str| {
            !label.is_empty()
                && label.len() <= 63
                && label.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
        };
        let host = name.contains('.') && name.len() <= 253 && name.split('.').all(label);
        if forbidden || !host || name.parse::<Ipv4Addr>().is_ok() {
            return Err(invalid());
        }
        Ok(Self { address, name: name.to_owned() })
    }
}

/// Why a file is left alone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "line {line}: the block of {object} has no matching BEGIN and END; correct it by hand, or remove both lines"
)]
pub struct BrokenBlock {
    object: AccessKey,
    line: usize,
}

/// A block as it stands in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Its pairs; what is none is left out.
    pub pairs: Vec<Pair>,
    /// When it was written last.
    pub changed: Option<Timestamp>,
    at: Range<usize>,
}

const KEPT: &str =
    "# Kept by kafka-external-access: what stands between these two lines is replaced. Changed ";

fn marker(word: &str, object: &AccessKey) -> String {
    format!("# {word} kafka-external-access {object}")
}

/// Finds the object's block.
pub fn find(text: &[u8], object: &AccessKey) -> Result<Option<Block>, BrokenBlock> {
    let (begin, end) = (marker("BEGIN", object), marker("END", object));
    let broken = |line| Err(BrokenBlock { object: object.clone(), line });
    let (mut offset, mut open, mut found) = (0, None, None);
    let (mut pairs, mut changed) = (Vec::new(), None);
    for (index, bytes) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let line = String::from_utf8_lossy(bytes);
        let line = line.trim_end_matches(['\n', '\r']);
        if line == begin {
            if open.is_some() || found.is_some() {
                return broken(index + 1);
            }
            open = Some((offset, index));
        } else if line == end {
            let Some((start, _)) = open.take() else { return broken(index + 1) };
            found = Some(start..offset + bytes.len());
        } else if open.is_some() {
            pairs.extend(line.parse::<Pair>());
            changed = changed.or_else(|| line.strip_prefix(KEPT)?.parse().ok());
        }
        offset += bytes.len();
    }
    if let Some((_, index)) = open {
        return broken(index + 1);
    }
    Ok(found.map(|at| Block { pairs, changed, at }))
}

/// The text with the object's block as given, where the block was, else at the end. A text that did not end with a line
/// feed does not end with one either way.
pub fn with(text: &[u8], object: &AccessKey, pairs: &[Pair], now: Timestamp) -> Result<Vec<u8>, BrokenBlock> {
    let lines: Vec<String> = std::iter::once(marker("BEGIN", object))
        .chain(std::iter::once(format!("{KEPT}{now:.0}")))
        .chain(pairs.iter().map(Pair::to_string))
        .chain(std::iter::once(marker("END", object)))
        .collect();
    let lines = lines.join("\n");
    let (before, after, closed) = match find(text, object)? {
        Some(Block { at, .. }) => {
            let closed = text[at.clone()].ends_with(b"\n");
            (&text[..at.start], &text[at.end..], closed)
        }
        None => (text, &text[text.len()..], text.is_empty() || text.ends_with(b"\n")),
    };
    let mut new = before.to_vec();
    if !before.is_empty() && !before.ends_with(b"\n") {
        new.push(b'\n');
    }
    new.extend_from_slice(lines.as_bytes());
    if closed {
        new.push(b'\n');
    }
    new.extend_from_slice(after);
    Ok(new)
}

/// The text as it was without the object's block.
pub fn without(text: &[u8], object: &AccessKey) -> Result<Vec<u8>, BrokenBlock> {
    let Some(Block { at, .. }) = find(text, object)? else { return Ok(text.to_vec()) };
    let mut before = &text[..at.start];
    if !text[at.clone()].ends_with(b"\n") {
        before = before.strip_suffix(b"\n").unwrap_or(before);
    }
    Ok([before, &text[at.end..]].concat())
}

/// Names of the pairs that another line gives an address as well, with the line's number: there the first of the two wins.
pub fn elsewhere(text: &[u8], object: &AccessKey, pairs: &[Pair]) -> Vec<(String, usize)> {
    let own = find(text, object).ok().flatten().map_or(0..0, |block| block.at);
    let (mut offset, mut found) = (0, Vec::new());
    for (index, bytes) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let line = String::from_utf8_lossy(bytes);
        let words = line.split('#').next().unwrap_or_default().split_whitespace().skip(1);
        let names = words.filter(|word| pairs.iter().any(|pair| pair.name.eq_ignore_ascii_case(word)));
        if !own.contains(&offset) {
            found.extend(names.map(|name| (name.to_owned(), index + 1)));
        }
        offset += bytes.len();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object() -> AccessKey {
        "ydata/kafka".parse().expect("a key")
    }

    fn pairs(all: &[&str]) -> Vec<Pair> {
        all.iter().map(|text| text.parse().expect("a pair")).collect()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    #[test]
    fn a_block_goes_as_it_came_and_every_other_byte_stays() {
        let files: [&[u8]; 6] = [
            b"",
            b"127.0.0.1 localhost\n",
            b"127.0.0.1 localhost",
            b"127.0.0.1\tlocalhost\r\n\r\n::1 x # \xff\xfe not text\n\n\n",
            b"\n",
            b"# BEGIN kafka-external-access ydata/kafka-2\n# END kafka-external-access ydata/kafka-2\n",
        ];
        let one = pairs(&["10.128.0.20 kafka-0.kafka-headless.ydata.svc"]);
        let two = pairs(&["10.128.0.21 kafka-0.kafka-headless.ydata.svc", "10.128.0.22 kafka-1.b.c"]);
        for file in files {
            let first = with(file, &object(), &one, at(0)).expect("no block");
            assert_eq!(find(&first, &object()).expect("whole").expect("there").pairs, one);
            let second = with(&first, &object(), &two, at(9)).expect("a block");
            let block = find(&second, &object()).expect("whole").expect("there");
            assert_eq!((block.pairs, block.changed), (two.clone(), Some(at(9))));
            let text = String::from_utf8_lossy(file);
            assert_eq!(without(&first, &object()).expect("a block"), file, "{text:?}");
            assert_eq!(without(&second, &object()).expect("a block"), file, "{text:?}");
        }
    }

    #[test]
    fn a_block_stays_where_it_is() {
        let file = with(b"a 1\n", &object(), &[], at(0)).expect("no block");
        let file = [&file[..], b"10.0.0.1 later"].concat();
        let new = with(&file, &object(), &pairs(&["10.0.0.2 a.b"]), at(1)).expect("a block");
        let text = String::from_utf8(new).expect("text");
        let expected = format!(
            "a 1\n# BEGIN kafka-external-access ydata/kafka\n{KEPT}1970-01-01T00:00:01Z\n10.0.0.2 a.b\n# END kafka-external-access ydata/kafka\n10.0.0.1 later"
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn a_block_that_is_not_whole_is_left_alone() {
        let begin = "# BEGIN kafka-external-access ydata/kafka\n";
        let end = "# END kafka-external-access ydata/kafka\n";
        for (file, line) in [
            (begin.to_owned(), 1),
            (format!("x\n{end}"), 2),
            (format!("{begin}{begin}{end}"), 2),
            (format!("{begin}{end}{begin}{end}"), 3),
        ] {
            let broken = Err(BrokenBlock { object: object(), line });
            assert_eq!(with(file.as_bytes(), &object(), &[], at(0)), broken, "{file}");
            assert_eq!(without(file.as_bytes(), &object()), broken, "{file}");
        }
    }

    #[test]
    fn a_status_cannot_redirect_names_that_are_no_brokers() {
        for wrong in [
            "127.0.0.1 kafka-0.a",
            "0.0.0.0 kafka-0.a",
            "169.254.169.254 kafka-0.a",
            "10.0.0.1 localhost",
            "10.0.0.1 10.0.0.2",
            "10.0.0.1 a.b c.d",
            "10.0.0.1 a.b\n10.0.0.2 c.d",
            "10.0.0.1 a..b",
            "10.0.0.1",
            "::1 kafka-0.a",
        ] {
            assert!(wrong.parse::<Pair>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_name_that_another_line_has_too_is_told_with_the_line() {
        let named = pairs(&["10.0.0.2 a.b"]);
        let file = with(b"10.0.0.1 x A.B # a.b\n# 10.0.0.1 a.b\n", &object(), &named, at(0)).expect("none");
        assert_eq!(elsewhere(&file, &object(), &named), [("A.B".to_owned(), 1)]);
    }
}

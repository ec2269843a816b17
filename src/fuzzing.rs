//! Foreign bytes: each function here gives any bytes to one parser of what others write, and panics when the parser does
//! not keep a promise. `make fuzz` runs each under a fuzzer that is guided by coverage (`fuzz/`); the tests here run each on
//! the files of `fuzz/seeds/` and on mutations of them.
//!
//! In no other build: the module exists for tests and under `cfg(fuzzing)`.

use jiff::Timestamp;

use crate::{
    domain::{AccessKey, Endpoint, Marker},
    hosts::block::{self, Pair},
    plan,
};

pub use crate::{
    cloud::openstack::fuzz::{clouds_yaml, login, refusals},
    kafka::fuzz::{answers, certificates, conversation, metrics, scram, sightings},
    kubernetes::fuzz::kubelet,
    listeners::fuzz::{dialects, templates, texts},
};

/// A parser under test.
pub type Target = fn(&[u8]);

/// Every target by the name that it has in `fuzz/`.
pub const TARGETS: [(&str, Target); 17] = [
    ("answers", answers),
    ("certificates", certificates),
    ("clouds_yaml", clouds_yaml),
    ("conversation", conversation),
    ("dialects", dialects),
    ("hosts", hosts),
    ("kubelet", kubelet),
    ("login", login),
    ("metrics", metrics),
    ("pem", pem),
    ("refusals", refusals),
    ("replies", replies),
    ("scram", scram),
    ("sightings", sightings),
    ("templates", templates),
    ("texts", texts),
    ("words", words),
];

/// A reply of the network service, and what the planner makes of the security groups in it.
pub fn replies(bytes: &[u8]) {
    let (ports, rules) = crate::cloud::openstack::fuzz::replies(bytes);
    for port in &ports {
        plan::fuzz::exposure(port, &rules);
    }
}

/// PEM texts of the two kinds of Secret that hold some.
pub fn pem(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    crate::kafka::fuzz::pem(text);
    crate::cloud::openstack::fuzz::authorities(text);
}

/// A hosts file: our block goes as it came, every other byte stays, and no pair leads to this machine.
pub fn hosts(bytes: &[u8]) {
    let object: AccessKey = "ydata/kafka".parse().expect("a key");
    let pairs: Vec<Pair> =
        ["10.128.0.20 kafka-0.kafka.ydata.svc", "10.128.0.21 kafka-1.kafka.ydata.svc"].map(pair).into();
    let now = Timestamp::UNIX_EPOCH;
    for text in String::from_utf8_lossy(bytes).lines() {
        if let Ok(pair) = text.parse::<Pair>() {
            assert_eq!(pair.to_string().parse().as_ref(), Ok(&pair));
            assert!(!pair.address.is_loopback() && !pair.address.is_link_local(), "{pair}");
            assert!(pair.name.contains('.') && !pair.name.contains(char::is_whitespace), "{pair}");
        }
    }
    let Ok(before) = block::find(bytes, &object) else {
        assert!(block::with(bytes, &object, &pairs, now).is_err() && block::without(bytes, &object).is_err());
        return;
    };
    let with = block::with(bytes, &object, &pairs, now).expect("a whole block");
    let found = block::find(&with, &object).expect("whole").expect("there");
    assert_eq!((found.pairs, found.changed), (pairs.clone(), Some(now)));
    assert_eq!(block::with(&with, &object, &pairs, now).as_ref(), Ok(&with), "a second time");
    let _ = block::elsewhere(bytes, &object, &pairs);
    let without = block::without(&with, &object).expect("a whole block");
    match before {
        None => assert_eq!(without, bytes),
        Some(_) => assert_eq!(block::without(bytes, &object).as_ref(), Ok(&without)),
    }
}

fn pair(text: &str) -> Pair {
    text.parse().expect("a pair")
}

/// Words of the field, as they stand in descriptions, statuses and annotations: what is read is written as it was.
pub fn words(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(marker) = Marker::parse(text) {
        assert_eq!(marker.to_string(), text);
    }
    if let Ok(key) = text.parse::<AccessKey>() {
        assert_eq!(key.to_string(), text);
    }
    if let Ok(endpoint) = text.parse::<Endpoint>() {
        assert_eq!(endpoint.to_string().parse().as_ref(), Ok(&endpoint));
    }
    if let Ok(money) = text.parse::<plan::cost::Money>() {
        assert!(money.to_string().contains('.'));
    }
    if let Some(interval) = plan::desired::interval(text) {
        assert!(!interval.is_zero());
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    const MUTATIONS: u64 = 2000;

    /// Files of `fuzz/seeds/NAME/`, in order.
    fn seeds(name: &str) -> Vec<Vec<u8>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(name);
        let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let paths: BTreeSet<_> = files.map(|file| file.expect("a file").path()).collect();
        paths.into_iter().map(|path| fs::read(path).expect("a seed")).collect()
    }

    /// Marsaglia's xorshift: the same numbers in each run.
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, end: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            usize::try_from(self.0 % (end.max(1) as u64)).expect("small")
        }
    }

    /// One to four changes: a byte, a part left out, a part twice, a part of another seed.
    fn mutated(seed: &[u8], other: &[u8], numbers: &mut Numbers) -> Vec<u8> {
        let mut bytes = seed.to_vec();
        for _ in 0..=numbers.below(4) {
            let start = numbers.below(bytes.len());
            let end = (start + numbers.below(16)).min(bytes.len());
            match numbers.below(5) {
                0 if start < bytes.len() => bytes[start] = u8::try_from(numbers.below(256)).expect("a byte"),
                1 if start < bytes.len() => bytes[start] ^= 1 << numbers.below(8),
                2 => drop(bytes.drain(start..end)),
                3 => {
                    let part = bytes[start..end].to_vec();
                    bytes.splice(start..start, part);
                }
                _ => {
                    let from = numbers.below(other.len());
                    let part = &other[from..(from + numbers.below(32)).min(other.len())];
                    bytes.splice(start..start, part.iter().copied());
                }
            }
        }
        bytes
    }

    fn replay(name: &str, target: Target) {
        let seeds = seeds(name);
        assert!(!seeds.is_empty(), "{name} has no seed");
        let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
        for (at, seed) in seeds.iter().enumerate() {
            target(seed);
            for _ in 0..MUTATIONS {
                target(&mutated(seed, &seeds[(at + 1) % seeds.len()], &mut numbers));
            }
        }
    }

    /// One for each target, so that they run side by side.
    macro_rules! replays {
        ($($name:ident)*) => {
            $(#[test] fn $name() { replay(stringify!($name), super::$name); })*
            const REPLAYED: &[&str] = &[$(stringify!($name)),*];
        };
    }
    replays! {
        answers certificates clouds_yaml conversation dialects hosts kubelet login metrics pem refusals replies scram
        sightings templates texts words
    }

    #[test]
    fn every_target_is_replayed_and_has_its_program() {
        let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, REPLAYED);
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).expect("fuzz/Cargo.toml");
        for name in names {
            assert!(folder.join(format!("fuzz_targets/{name}.rs")).exists(), "{name}");
            assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
        }
    }
}

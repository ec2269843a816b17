//! What the planner promises of security groups of any kind (`src/fuzzing.rs`).

use std::collections::{BTreeMap, BTreeSet};

use super::{
    exposure::{Exposure, blocks, exposure as of},
    observed::CloudView,
};
use crate::{
    cloud::{IngressRule, Port},
    domain::{NetworkId, ProjectId},
};

/// A port without port security is open, and nothing is blocked there.
pub fn exposure(port: &Port, rules: &[IngressRule]) {
    let cloud = CloudView {
        project: ProjectId::new("p"),
        floating_network: NetworkId::new("n"),
        addresses: Vec::new(),
        ports: BTreeMap::new(),
        rules: Ok(rules.to_vec()),
        policies: BTreeMap::new(),
        secret_held: true,
        due_in: std::time::Duration::from_secs(300),
    };
    let seen = of(port, &cloud, 9094, &BTreeSet::from([9092, 9094]));
    let blocked = blocks(port, &cloud, 9094);
    if port.port_security_enabled == Some(false) {
        assert!(matches!(seen, Exposure::Open(_)) && !blocked);
    }
}

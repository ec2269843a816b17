//! What people and machines are told: status, events, metrics.

pub mod events;
pub mod metrics;
pub mod objects;
mod probes;

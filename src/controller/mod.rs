//! Drives reconciles: watches feed a queue of keys, workers take them.

pub mod queue;

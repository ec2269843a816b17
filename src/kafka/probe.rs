//! The probe: is this address really that broker, as a client sees it?

use std::time::Duration;

use super::{BrokerView, KafkaError, Step};

/// What a probe through one address found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The steps that succeeded, in order, with the time each took.
    pub passed: Vec<(Step, Duration)>,
    /// The view of the broker that answered, or the step that failed. Identity and table come from the same
    /// connection.
    pub outcome: Result<BrokerView, KafkaError>,
}

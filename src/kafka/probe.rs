//! The probe: is this address really that broker, as a client sees it?

use std::{collections::BTreeMap, time::Duration};

use jiff::{SignedDuration, Timestamp};
use strum::VariantNames;

use super::{BrokerView, KafkaError, KafkaFault, Step};

/// What a probe through one address found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The steps that succeeded, in order, with the time each took.
    pub passed: Vec<(Step, Duration)>,
    /// The view of the broker that answered, or the step that failed. Identity and table come from the same
    /// connection.
    pub outcome: Result<BrokerView, KafkaError>,
    /// The first end of a certificate in the chain that the broker showed; `None`: none was shown.
    pub certificate_ends: Option<Timestamp>,
}

/// Who is to renew a certificate that ends within this time is told.
const RENEW_WITHIN: SignedDuration = SignedDuration::from_hours(30 * 24);

/// True when a certificate that ends then should be renewed now.
pub fn ends_soon(certificate_ends: Timestamp, now: Timestamp) -> bool {
    certificate_ends.duration_since(now) < RENEW_WITHIN
}

/// How far a probe came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Course {
    /// The steps that succeeded, with the time that all requests of each took.
    pub passed: BTreeMap<Step, Duration>,
    /// The step that failed, and the kind of fault: one of [`KafkaFault`]'s names.
    pub failed: Option<(Step, &'static str)>,
}

impl Course {
    /// The course of a probe that was made here.
    pub fn of(report: &Report) -> Self {
        let mut passed = BTreeMap::new();
        for (step, took) in &report.passed {
            *passed.entry(*step).or_default() += *took;
        }
        let failed = report.outcome.as_ref().err().map(|error| (error.step, (&error.fault).into()));
        // A step of several requests may have failed in the last of them.
        if let Some((step, _)) = failed {
            passed.remove(&step);
        }
        Self { passed, failed }
    }

    /// The probe failed because a certificate has ended.
    pub fn certificate_has_ended(&self) -> bool {
        let ended: &str = (&KafkaFault::CertificateExpired(Timestamp::UNIX_EPOCH)).into();
        self.failed.is_some_and(|(_, fault)| fault == ended)
    }

    /// The course that somebody else tells of, in seconds; what is no name of a step or a fault is left out.
    pub fn told(passed: &BTreeMap<String, f64>, failed: Option<&(String, String)>) -> Self {
        let took = |(step, seconds): (&String, &f64)| {
            Some((step.parse().ok()?, Duration::try_from_secs_f64(*seconds).ok()?))
        };
        let fault = |name: &String| KafkaFault::VARIANTS.iter().find(|known| *known == name).copied();
        Self {
            passed: passed.iter().filter_map(took).collect(),
            failed: failed.and_then(|(step, name)| Some((step.parse().ok()?, fault(name)?))),
        }
    }
}

//! The history of probes: how often each step came to what, and how long it took last.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};

use crate::{
    api::{Vantage, conditions::Reason},
    domain::{AccessKey, Ordinal},
    kafka::{Step, probe::Course},
    plan::probes::ProbeVerdict,
};

/// Of a step, and of a probe as a whole.
const OK: &str = "ok";

/// Who probed which broker.
type Probed = (Ordinal, &'static str);

/// All probes of one object since this process leads.
#[derive(Debug, Default)]
pub struct History {
    results: BTreeMap<(Probed, &'static str), u64>,
    steps: BTreeMap<(Probed, &'static str, &'static str), u64>,
    took: BTreeMap<(Probed, &'static str), Duration>,
}

impl History {
    /// Takes one probe in.
    pub fn add(&mut self, ordinal: Ordinal, vantage: Vantage, course: &Course, verdict: &ProbeVerdict) {
        let probed = (ordinal, name(vantage));
        let result = match verdict {
            ProbeVerdict::Good => Reason::Reachable.into(),
            ProbeVerdict::Bad(problem) => problem.reason.into(),
        };
        *self.results.entry((probed, result)).or_default() += 1;
        for (step, took) in &course.passed {
            let step: &Step = step;
            *self.steps.entry((probed, step.into(), OK)).or_default() += 1;
            self.took.insert((probed, step.into()), *took);
        }
        if let Some((step, fault)) = &course.failed {
            *self.steps.entry((probed, step.into(), fault)).or_default() += 1;
        }
    }

    /// Only these brokers exist.
    pub fn keep(&mut self, brokers: &BTreeSet<Ordinal>) {
        self.results.retain(|((ordinal, _), _), _| brokers.contains(ordinal));
        self.steps.retain(|((ordinal, _), _, _), _| brokers.contains(ordinal));
        self.took.retain(|((ordinal, _), _), _| brokers.contains(ordinal));
    }
}

fn name(vantage: Vantage) -> &'static str {
    match vantage {
        Vantage::Operator => "operator",
        Vantage::Reports => "report",
    }
}

/// Labels that say who probed what.
fn labels<'a>(key: &'a AccessKey, ordinal: &'a str, vantage: &'a str) -> [(&'a str, &'a str); 4] {
    [("namespace", &key.namespace), ("name", &key.name), ("broker", ordinal), ("vantage", vantage)]
}

/// Shows the histories of all objects.
pub fn encode<'a>(
    encoder: &mut DescriptorEncoder<'_>,
    all: impl Iterator<Item = (&'a AccessKey, &'a History)> + Clone,
) -> Result<(), fmt::Error> {
    let help = "Probes through the broker's address by their result: Reachable, or why a client would fail";
    let mut results = encoder.encode_descriptor("broker_probes", help, None, MetricType::Counter)?;
    for (key, history) in all.clone() {
        for (((ordinal, vantage), result), count) in &history.results {
            let ordinal = ordinal.to_string();
            let [a, b, c, d] = labels(key, &ordinal, vantage);
            let labels = [a, b, c, d, ("result", result)];
            ConstCounter::new(*count).encode(results.encode_family(&labels)?)?;
        }
    }
    let help = "Steps of the probes through the broker's address by their outcome";
    let mut steps = encoder.encode_descriptor("broker_probe_steps", help, None, MetricType::Counter)?;
    for (key, history) in all.clone() {
        for (((ordinal, vantage), step, outcome), count) in &history.steps {
            let ordinal = ordinal.to_string();
            let [a, b, c, d] = labels(key, &ordinal, vantage);
            let labels = [a, b, c, d, ("step", step), ("outcome", outcome)];
            ConstCounter::new(*count).encode(steps.encode_family(&labels)?)?;
        }
    }
    let help = "How long the step took when it succeeded last";
    let (name, unit) = ("broker_probe_step_duration", Some(&Unit::Seconds));
    let mut took = encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
    for (key, history) in all {
        for (((ordinal, vantage), step), last) in &history.took {
            let ordinal = ordinal.to_string();
            let [a, b, c, d] = labels(key, &ordinal, vantage);
            let labels = [a, b, c, d, ("step", step)];
            ConstGauge::new(last.as_secs_f64()).encode(took.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

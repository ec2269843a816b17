//! Events: one for each change of substance, never twice for one thing.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::{Condition, MicroTime},
};
use kube::{Resource, ResourceExt, api::ObjectMeta};

use crate::{
    api::{BrokerStatus, KafkaExternalAccess, KafkaExternalAccessStatus},
    plan::{Action, Plan, desired::Desired},
};

/// Who reports.
const CONTROLLER: &str = "kafkaaccess.dev/operator";
/// In bytes (events.k8s.io/v1).
const LONGEST_NOTE: usize = 1024;

/// Something to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Something is wrong.
    pub warning: bool,
    /// One word.
    pub reason: String,
    /// What was done, or what changed.
    pub action: String,
    /// A sentence.
    pub text: String,
}

/// What changed between two statuses: conditions whose status or reason moved, brokers whose reason moved.
pub fn changes(before: &KafkaExternalAccessStatus, after: &KafkaExternalAccessStatus) -> Vec<Note> {
    let mut notes = Vec::new();
    for condition in &after.conditions {
        let same = |old: &&Condition| {
            old.type_ == condition.type_ && old.status == condition.status && old.reason == condition.reason
        };
        // `Ready` repeats its cause and `Progressing` only says that work goes on: the others tell the story.
        let told = match condition.type_.as_str() {
            "Ready" => condition.status == "True",
            "Progressing" => false,
            _ => condition.status == "False",
        };
        if told && !before.conditions.iter().any(|old| same(&old)) {
            notes.push(Note {
                warning: condition.status == "False"
                    && condition.reason != "InProgress"
                    && condition.reason != "Releasing",
                reason: condition.reason.clone(),
                action: condition.type_.clone(),
                text: condition.message.clone(),
            });
        }
    }
    // What several conditions say, or a condition says for a broker, is said once.
    let mut brokers: Vec<Note> = after.brokers.iter().filter_map(|broker| refused(before, broker)).collect();
    brokers.extend(after.brokers.iter().filter_map(|broker| limit_near(before, broker)));
    let mut told: BTreeSet<String> = brokers.iter().map(|note| note.reason.clone()).collect();
    notes.retain(|note| told.insert(note.reason.clone()));
    notes.extend(brokers);
    notes
}

fn refused(before: &KafkaExternalAccessStatus, broker: &BrokerStatus) -> Option<Note> {
    let old = before.brokers.iter().find(|old| old.ordinal == broker.ordinal);
    let news = broker.state == crate::api::BrokerState::Refused
        && old.and_then(|old| old.reason.as_ref()) != broker.reason.as_ref();
    news.then(|| Note {
        warning: true,
        reason: broker.reason.clone().unwrap_or_default(),
        action: format!("Broker{}", broker.ordinal),
        text: format!("broker {}: {}", broker.ordinal, broker.message.clone().unwrap_or_default()),
    })
}

fn limit_near(before: &KafkaExternalAccessStatus, broker: &BrokerStatus) -> Option<Note> {
    let is_near = |broker: &BrokerStatus| {
        broker.bandwidth.as_ref().is_some_and(|bandwidth| bandwidth.near_limit == Some(true))
    };
    let was = before.brokers.iter().any(|old| old.ordinal == broker.ordinal && is_near(old));
    let (now, pod) = (is_near(broker), broker.pod.as_deref().unwrap_or("the broker"));
    let (reason, text) = match now {
        true => ("LimitNear", format!("{pod} has used at least 80 % of its address's bandwidth for a while")),
        false => ("LimitNoLongerNear", format!("{pod} uses less than 80 % of its address's bandwidth again")),
    };
    (was != now).then(|| Note {
        warning: now,
        reason: reason.to_owned(),
        action: format!("Broker{}", broker.ordinal),
        text,
    })
}

/// What an action that was carried out is told as; `None`: housekeeping.
pub fn done(action: &Action, desired: &Desired) -> Option<Note> {
    let pod = |ordinal| format!("{}-{ordinal}", desired.stateful_set);
    let (reason, text) = match action {
        Action::Allocate { ordinal, new, .. } => (
            "Allocated",
            format!("allocated an address for {} and bound it to {}", pod(*ordinal), new.binding.fixed_ip),
        ),
        Action::Bind { ordinal, to, .. } => {
            ("Bound", format!("bound the address of {} to {}", pod(*ordinal), to.fixed_ip))
        }
        Action::Unbind { ordinal, .. } => ("Unbound", format!("unbound the address of {}", pod(*ordinal))),
        Action::Limit { ordinal, policy, .. } => {
            ("Limited", format!("limited the address of {} by QoS policy {policy}", pod(*ordinal)))
        }
        Action::MakePolicy { limits, .. } => {
            ("QosPolicyMade", format!("made QoS policy {} ({limits})", limits.policy_name()))
        }
        Action::RemovePolicy { name, .. } => ("QosPolicyRemoved", format!("removed QoS policy {name}")),
        Action::Retain { ordinal, .. } => {
            ("Retained", format!("kept the address of {} for an object of this name", pod(*ordinal)))
        }
        Action::Release { ordinal, .. } => ("Released", format!("released the address of {}", pod(*ordinal))),
        Action::Advertise { ordinal, endpoint, .. } => {
            ("Advertised", format!("{} advertises {endpoint}; it was not restarted", pod(*ordinal)))
        }
        Action::Withdraw { ordinal, .. } => {
            ("Withdrawn", format!("the listener was withdrawn from {}", pod(*ordinal)))
        }
        Action::ChangeTemplate { what, .. } => ("TemplateChanged", what.clone()),
        Action::Restart { ordinal, .. } => {
            ("Restarted", format!("restarted {}; the other brokers run", pod(*ordinal)))
        }
        Action::WriteFiles { .. }
        | Action::DeleteFiles { .. }
        | Action::HoldObject
        | Action::LetObjectGo
        | Action::HoldSecret
        | Action::LetSecretGo
        | Action::ClearReplace => {
            return None;
        }
    };
    Some(Note { warning: false, reason: reason.to_owned(), action: reason.to_owned(), text })
}

/// What is worth knowing although nothing is wrong with the object.
pub fn warnings(plan: &Plan) -> Vec<Note> {
    let note = |problem: &crate::plan::Problem| Note {
        warning: true,
        reason: problem.reason.to_string(),
        action: problem.reason.to_string(),
        text: problem.message.clone(),
    };
    plan.warnings.iter().map(note).collect()
}

/// The event object. `serial` makes its name unique within the process and the moment.
pub fn event(
    object: &KafkaExternalAccess,
    note: &Note,
    now: Timestamp,
    instance: &str,
    serial: u64,
) -> Event {
    let reference = object.object_ref(&());
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{}.{:x}.{serial:x}", object.name_any(), now.as_microsecond())),
            namespace: object.namespace(),
            ..ObjectMeta::default()
        },
        action: Some(note.action.clone()),
        event_time: Some(MicroTime(now)),
        note: Some(note.text[..note.text.floor_char_boundary(LONGEST_NOTE)].to_owned()),
        reason: Some(note.reason.clone()),
        regarding: Some(ObjectReference { field_path: None, ..reference }),
        reporting_controller: Some(CONTROLLER.to_owned()),
        reporting_instance: Some(instance.to_owned()),
        type_: Some(if note.warning { "Warning" } else { "Normal" }.to_owned()),
        ..Event::default()
    }
}

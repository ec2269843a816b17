//! Every decision as a case on disk: `tests/golden/<sentence>/case.yaml` describes a world, `plan.txt` what follows.
//! `UPDATE=1 cargo test --test plan_golden` rewrites what follows; read the difference before you commit it.

mod case;

use std::{collections::BTreeSet, fmt::Write, fs, path::Path};

use case::Case;
use kafka_external_access::{
    api::conditions::Reason,
    check::{
        findings::render,
        inside::{Looked, categories},
        network::targets,
    },
    domain::Ordinal,
    plan::{
        Action, Plan, Problem, Verdict, cost,
        desired::desired,
        plan,
        status::{rejected, status},
    },
};
use strum::IntoEnumIterator;

fn cases() -> Vec<(String, Case)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut cases = Vec::new();
    for entry in fs::read_dir(folder).expect("cases").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let text =
            fs::read_to_string(entry.path().join("case.yaml")).unwrap_or_else(|e| panic!("{name}: {e}"));
        let case = serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        cases.push((name, case));
    }
    cases.sort_by(|a, b| a.0.cmp(&b.0));
    cases
}

fn verdict(verdict: &Verdict) -> String {
    let told = |word: &str, problem: &Problem| format!("{word} {}: {}", problem.reason, problem.message);
    match verdict {
        Verdict::Settled => "settled".into(),
        Verdict::Idle => format!("idle {}", Reason::Idle),
        Verdict::Waiting(problem) => told("waiting", problem),
        Verdict::Refused(problem) => told("refused", problem),
        Verdict::Releasing(None) => "releasing".into(),
        Verdict::Releasing(Some(problem)) => told("releasing", problem),
    }
}

fn decide(case: &Case) -> String {
    let object = case.object();
    let desired = match desired(&object, &case.classes()) {
        Ok(desired) => desired,
        Err(problem) => {
            let status = rejected(&object, &problem, case::now());
            return format!("rejected {}: {}\n{}", problem.reason, problem.message, conditions(&status));
        }
    };
    let observed = case.observed(&object);
    let mut memory = case.memory();
    memory.see(&desired, &observed, case::now());
    let plan = plan(&desired, &observed, &memory, case::now());
    let status = status(&desired, &observed, &memory, &plan, &[], case::now());
    memory.see_probes(&plan, &observed);
    assert_eq!(status.plan, plan.outstanding, "what people have to do is told whole");
    let mut text = described(&plan);
    text.push_str(&conditions(&status));
    // With addresses the pairs follow from them.
    for line in status.hosts.iter().filter(|_| object.spec.addresses.is_none()) {
        writeln!(text, "host {line}").expect("a String");
    }
    for broker in &status.brokers {
        if let Some((health, reason)) = broker.health.as_ref().and_then(|h| Some((h, h.reason.as_ref()?))) {
            writeln!(text, "health {} {} {reason}", broker.ordinal, health.reachable).expect("a String");
        }
    }
    // Nothing is decided about them, and what they had is not forgotten.
    for broker in status.brokers.iter().filter(|broker| !plan.brokers.contains_key(&Ordinal(broker.ordinal)))
    {
        let address = broker.address.as_deref().unwrap_or("none");
        writeln!(text, "recorded {} {:?} {address}", broker.ordinal, broker.state).expect("a String");
    }
    for (ordinal, _) in memory.quarrels.iter().filter(|(_, quarrel)| !quarrel.moves.is_empty()) {
        writeln!(text, "moved away {ordinal}").expect("a String");
    }
    for ordinal in memory.target_gone_since.keys() {
        writeln!(text, "pod gone {ordinal}").expect("a String");
    }
    for id in memory.surplus_since.keys() {
        writeln!(text, "one too many {id}").expect("a String");
    }
    for ordinal in memory.restarted.iter().filter(|(_, last)| last.reached).map(|(ordinal, _)| ordinal) {
        writeln!(text, "restarted {ordinal} and not in vain").expect("a String");
    }
    if memory.may_rest(&plan) {
        text.push_str("rests\n");
    }
    if let (Some(prices), Some(now)) = (&observed.prices, &status.cost) {
        let afterwards = cost::afterwards(prices, &desired, &observed).per_month;
        writeln!(text, "cost {} in a month, {afterwards} afterwards", now.per_month).expect("a String");
    }
    writeln!(text, "bootstrap {}", status.bootstrap_servers.as_deref().unwrap_or("none")).expect("a String");
    text
}

fn described(plan: &Plan) -> String {
    let mut text = String::new();
    for action in &plan.actions {
        let name = format!("{action:?}");
        let name = name.split([' ', '(']).next().unwrap_or_default();
        let recorded = match action {
            Action::Bind { adopts: Some(_), .. } => ", recorded first",
            _ => "",
        };
        writeln!(text, "act {name}{recorded}").expect("a String");
    }
    if plan.restarts > 0 {
        writeln!(text, "restarts {}", plan.restarts).expect("a String");
    }
    for line in &plan.outstanding {
        writeln!(text, "outstanding {line}").expect("a String");
    }
    for (ordinal, held) in &plan.addresses {
        let adopted = if held.adopted { " adopted" } else { "" };
        let leads = if held.outside.is_some() { "" } else { ", does not lead to it yet" };
        writeln!(text, "address {ordinal} {}{adopted}{leads}", held.address).expect("a String");
    }
    for (ordinal, decided) in &plan.brokers {
        writeln!(text, "broker {ordinal} {}", verdict(decided)).expect("a String");
    }
    for problem in &plan.problems {
        writeln!(text, "problem {}: {}", problem.reason, problem.message).expect("a String");
    }
    for warning in &plan.warnings {
        writeln!(text, "warning {}: {}", warning.reason, warning.message).expect("a String");
    }
    if plan.ask_kafka {
        text.push_str("ask Kafka\n");
    }
    if plan.ask_cluster {
        text.push_str("ask what a restart would cost\n");
    }
    if let Some(wait) = plan.look_again {
        writeln!(text, "look again in {} s", wait.as_secs()).expect("a String");
    }
    text
}

fn conditions(status: &kafka_external_access::api::KafkaExternalAccessStatus) -> String {
    let line = |c: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition| {
        format!("{}={} {}\n", c.type_, c.status, c.reason)
    };
    status.conditions.iter().map(line).collect()
}

#[test]
fn every_case_is_decided_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut wrong = Vec::new();
    for (name, case) in cases() {
        let decided = decide(&case);
        let file = folder.join(&name).join("plan.txt");
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&file, &decided).expect("a case can be written");
        }
        let expected = fs::read_to_string(&file).unwrap_or_default();
        if decided != expected {
            wrong.push(format!("{name}\n--- expected\n{expected}--- decided\n{decided}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_same_world_is_decided_the_same_way_twice() {
    for (name, case) in cases() {
        assert_eq!(decide(&case), decide(&case), "{name}");
    }
}

#[test]
fn mode_plan_never_acts() {
    for (name, mut case) in cases() {
        case.set_mode_plan();
        assert!(!decide(&case).contains("\nact ") && !decide(&case).starts_with("act "), "{name}");
    }
}

/// What `check` says about a world: cases that have a `check.txt`.
#[test]
fn checks_find_what_is_written_and_how_to_mend_it() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut wrong = Vec::new();
    let mut seen = 0;
    for (name, case) in cases() {
        let file = folder.join(&name).join("check.txt");
        let Ok(expected) = fs::read_to_string(&file) else { continue };
        seen += 1;
        let object = case.object();
        let desired = desired(&object, &case.classes()).expect("a spec that can be served");
        let observed = case.observed(&object);
        let plan = plan(&desired, &observed, &case.memory(), case::now());
        let looked = Looked {
            desired: &desired,
            observed: &observed,
            plan: &plan,
            quota: Some((3, Some(50))),
            routed: Ok(Some(targets(&observed).into_values().collect())),
        };
        let told = render(&categories(&looked));
        let told = anstream::adapter::strip_str(&told).to_string();
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&file, &told).expect("a case can be written");
        } else if told != expected {
            wrong.push(format!("{name}\n--- expected\n{expected}--- told\n{told}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen >= 8, "{seen} cases");
}

/// Reasons that do not come from a decision: they come from actions that fail, or only describe a good state.
const NOT_DECIDED: [Reason; 3] =
    [Reason::Advertised, Reason::KafkaNotAuthorized, Reason::QosPolicyNotPermitted];

#[test]
fn every_reason_stands_in_a_case() {
    let all: String = cases().iter().map(|(_, case)| decide(case)).collect();
    let words: BTreeSet<&str> = all.split(|c: char| !c.is_alphanumeric()).collect();
    let missing: Vec<Reason> = Reason::iter()
        .filter(|r| !NOT_DECIDED.contains(r) && !words.contains(r.to_string().as_str()))
        .collect();
    assert!(missing.is_empty(), "no case shows {missing:?}");
}

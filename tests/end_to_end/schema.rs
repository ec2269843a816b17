//! What the API server lets through, and the sentence it refuses the rest with.

use std::collections::BTreeSet;

use kafka_external_access::api::KafkaExternalAccess;
use kube::{
    Api, CustomResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::world::{NAME, World, in_lab, smallest};

/// A change of the smallest object, as RFC 7396 has it.
type Change = Value;

struct Case {
    /// The rule's own sentence, or what the schema says of the field.
    sentence: &'static str,
    /// What is stored before; null: the object is new.
    before: Change,
    accepted: Change,
    refused: Change,
}

fn new(sentence: &'static str, accepted: Change, refused: Change) -> Case {
    Case { sentence, before: Value::Null, accepted, refused }
}

fn edit(sentence: &'static str, before: Change, accepted: Change, refused: Change) -> Case {
    Case { sentence, before, accepted, refused }
}

fn template(text: &str) -> Change {
    json!({"spec": {"listener": {"advertisedHostTemplate": text}}})
}

fn brokers(brokers: Value) -> Change {
    json!({"spec": {"brokers": brokers}})
}

fn provider(provider: Value) -> Change {
    json!({"spec": {"addresses": {"provider": provider}}})
}

/// In the provider's place, and beside it.
fn by_class(name: &str) -> Change {
    json!({"spec": {"addresses": {"provider": null, "classRef": {"name": name}}}})
}

fn with_class(name: &str) -> Change {
    json!({"spec": {"addresses": {"classRef": {"name": name}}}})
}

/// Each rule of the schema, with one object that it lets through and one that it refuses.
fn cases() -> Vec<Case> {
    let nothing = || json!({});
    let one = || brokers(json!([{"ordinal": 0, "address": "203.0.113.10"}]));
    vec![
        new(
            "openstack must be set exactly when type is OpenStack",
            nothing(),
            provider(json!({"type": "Static"})),
        ),
        new(
            "static may be set only when type is Static",
            provider(json!({"type": "Static", "openstack": null, "static": {}})),
            provider(json!({"static": {}})),
        ),
        new(
            "advertisedHostTemplate must contain {ordinal}, {podName} or {nodeId}: each broker needs a name of its own",
            template("{podName}.kafka.example.com"),
            template("kafka.example.com"),
        ),
        new(
            "listener.name must differ from kafka.internalListener",
            json!({"spec": {"kafka": {"internalListener": "PLAIN"}}}),
            json!({"spec": {"kafka": {"internalListener": "EXTERNAL"}}}),
        ),
        new(
            "brokers[].address must be unique",
            brokers(
                json!([{"ordinal": 0, "address": "203.0.113.10"}, {"ordinal": 1, "address": "203.0.113.11"}]),
            ),
            brokers(
                json!([{"ordinal": 0, "address": "203.0.113.10"}, {"ordinal": 1, "address": "203.0.113.10"}]),
            ),
        ),
        edit(
            "brokers[].address may be set once, then only removed",
            one(),
            brokers(json!([{"ordinal": 0}])),
            brokers(json!([{"ordinal": 0, "address": "203.0.113.11"}])),
        ),
        edit(
            "kafka.statefulSet.name cannot change; create another object",
            nothing(),
            json!({"spec": {"kafka": {"statefulSet": {"container": "broker"}}}}),
            json!({"spec": {"kafka": {"statefulSet": {"name": "other"}}}}),
        ),
        edit(
            "listener cannot be removed; delete the object, which withdraws it, and create one without",
            nothing(),
            json!({"spec": {"listener": {"rollout": "Manual"}}}),
            json!({"spec": {"listener": null}}),
        ),
        edit(
            "listener.name cannot change; create another object",
            json!({"spec": {"listener": null}}),
            json!({"spec": {"listener": {"name": "OUTSIDE", "port": 9094}}}),
            Value::Null,
        ),
        edit(
            "listener.name cannot change; create another object",
            nothing(),
            nothing(),
            json!({"spec": {"listener": {"name": "OUTSIDE"}}}),
        ),
        edit(
            "listener.port cannot change; create another object",
            nothing(),
            nothing(),
            json!({"spec": {"listener": {"port": 9095}}}),
        ),
        new("set either addresses.provider or addresses.classRef", by_class("a"), with_class("a")),
        edit(
            "addresses.provider and addresses.classRef cannot be exchanged; create another object",
            nothing(),
            json!({"spec": {"addresses": {"acceptExposure": true}}}),
            by_class("a"),
        ),
        edit(
            "addresses.classRef.name cannot change; create another object",
            by_class("a"),
            json!({"spec": {"addresses": {"acceptExposure": true}}}),
            with_class("b"),
        ),
        new(
            "listener needs addresses; without them brokers are reached at their pods, by the internal listener",
            json!({"spec": {"listener": null, "addresses": null}}),
            json!({"spec": {"addresses": null}}),
        ),
        new(
            "brokers[].address and brokers[].bandwidth need addresses",
            json!({"spec": {"listener": null, "addresses": null, "brokers": [{"ordinal": 0}]}}),
            json!({"spec": {"listener": null, "addresses": null, "brokers": [{"ordinal": 0, "address": "203.0.113.10"}]}}),
        ),
        edit(
            "addresses cannot be removed; delete the object, which gives them back, and create one without",
            json!({"spec": {"listener": null, "addresses": null}}),
            json!({"spec": {"addresses": smallest()["spec"]["addresses"]}}),
            Value::Null,
        ),
        edit(
            "addresses cannot be removed; delete the object, which gives them back, and create one without",
            json!({"spec": {"listener": null}}),
            nothing(),
            json!({"spec": {"addresses": null}}),
        ),
        edit(
            "addresses.provider.type cannot change; create another object",
            nothing(),
            nothing(),
            provider(json!({"type": "Static", "openstack": null})),
        ),
        edit(
            "floatingNetwork cannot change: addresses belong to their network",
            nothing(),
            provider(json!({"openstack": {"podNetwork": "pods"}})),
            provider(json!({"openstack": {"floatingNetwork": "another"}})),
        ),
        new("spec.brokers", brokers(json!([{"ordinal": 127}])), brokers(json!([{"ordinal": 128}]))),
        new("spec.brokers[0].address", one(), brokers(json!([{"ordinal": 0, "address": "203.0.113.256"}]))),
        new("duplicate entries for key [ordinal=0]", one(), brokers(json!([{"ordinal": 0}, {"ordinal": 0}]))),
        new(
            "spec.listener.port",
            json!({"spec": {"listener": {"port": 65535}}}),
            json!({"spec": {"listener": {"port": 65536}}}),
        ),
        new(
            "spec.listener.name",
            json!({"spec": {"listener": {"name": "CLIENTS_2"}}}),
            json!({"spec": {"listener": {"name": "clients-2"}}}),
        ),
        new("spec.mode", json!({"spec": {"mode": "Plan"}}), json!({"spec": {"mode": "Perhaps"}})),
        new(
            "spec.probe.interval",
            json!({"spec": {"probe": {"interval": "2m"}}}),
            json!({"spec": {"probe": {"interval": "soon"}}}),
        ),
        new(
            "spec.addresses.bandwidth.qosPolicy",
            json!({"spec": {"addresses": {"bandwidth": {"qosPolicy": "kafka-100"}}}}),
            json!({"spec": {"addresses": {"bandwidth": {"qosPolicy": ""}}}}),
        ),
        new(
            "set either qosPolicy, or egressMbps and ingressMbps or one of them",
            json!({"spec": {"addresses": {"bandwidth": {"egressMbps": 100}}}}),
            json!({"spec": {"addresses": {"bandwidth": {"egressMbps": 100, "qosPolicy": "kafka-100"}}}}),
        ),
        new(
            "spec.brokers[0].bandwidth.ingressMbps",
            brokers(json!([{"ordinal": 0, "bandwidth": {"egressMbps": 100, "ingressMbps": 50}}])),
            brokers(json!([{"ordinal": 0, "bandwidth": {"ingressMbps": 0}}])),
        ),
        new(
            "metrics.port must be set exactly when metrics.source is Endpoint",
            json!({"spec": {"metrics": {"source": "Kubelet"}}}),
            json!({"spec": {"metrics": {"source": "Kubelet", "port": 9404}}}),
        ),
        new(
            "spec.metrics.path",
            json!({"spec": {"metrics": {"port": 9404, "path": "/metrics"}}}),
            json!({"spec": {"metrics": {"port": 9404, "path": "http://metrics"}}}),
        ),
        new("field not declared in schema", nothing(), json!({"spec": {"listener": {"prot": 9094}}})),
    ]
}

/// The object with the change made to it.
pub fn changed(mut object: Value, change: &Change) -> Value {
    fn merge(into: &mut Value, change: &Value) {
        match (into, change) {
            (Value::Object(into), Value::Object(change)) => {
                for (key, value) in change {
                    if value.is_null() {
                        into.remove(key);
                    } else {
                        merge(into.entry(key.clone()).or_insert(Value::Null), value);
                    }
                }
            }
            (into, change) => *into = change.clone(),
        }
    }
    merge(&mut object, change);
    object
}

/// Sentences of all rules in the schema.
fn rules(schema: &Value, found: &mut BTreeSet<String>) {
    match schema {
        Value::Object(fields) => {
            let own = fields.get("x-kubernetes-validations").and_then(Value::as_array);
            for rule in own.into_iter().flatten() {
                found.insert(rule["message"].as_str().unwrap_or_default().to_owned());
            }
            for field in fields.values() {
                rules(field, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| rules(item, found)),
        _ => {}
    }
}

/// Without an effect: a new object with strict fields, as kubectl has it by default, or what `kubectl replace` does.
async fn dry_run(world: &World, object: &Value, exists: bool) -> Result<(), String> {
    let api: Api<kube::api::DynamicObject> = Api::namespaced_with(
        world.kube.clone(),
        crate::world::NAMESPACE,
        &KafkaExternalAccess::api_resource(),
    );
    let mut object: kube::api::DynamicObject = serde_json::from_value(object.clone()).expect("an object");
    let result = if exists {
        object.metadata.resource_version =
            api.get(NAME).await.expect("the stored object").metadata.resource_version;
        api.replace(NAME, &PostParams { dry_run: true, ..PostParams::default() }, &object).await
    } else {
        let params = PatchParams { dry_run: true, ..PatchParams::apply("schema").validation_strict() };
        api.patch(NAME, &params, &Patch::Apply(&object)).await
    };
    result.map(drop).map_err(|error| error.to_string())
}

#[test]
fn every_rule_of_the_schema_lets_one_object_through_and_refuses_another_with_its_sentence() {
    in_lab("schema", async |world| {
        for Case { sentence, before, accepted, refused } in cases() {
            let exists = !before.is_null();
            let nothing = json!({});
            let base = changed(smallest(), if exists { &before } else { &nothing });
            if exists {
                world.create(|object| *object = base.clone()).await;
            }
            let outcome = dry_run(world, &changed(base.clone(), &accepted), exists).await;
            assert_eq!(outcome, Ok(()), "{sentence}: {accepted}");
            if !refused.is_null() {
                let outcome = dry_run(world, &changed(base, &refused), exists).await;
                let text = outcome.expect_err(&format!("{sentence}: {refused}"));
                assert!(text.contains(sentence), "{sentence}: {text}");
            }
            if exists {
                world.delete().await;
            }
        }
    });
}

#[test]
fn no_rule_is_without_a_case() {
    let schema = serde_json::to_value(KafkaExternalAccess::crd()).expect("a schema");
    let mut found = BTreeSet::new();
    rules(&schema, &mut found);
    let told: BTreeSet<String> = cases().iter().map(|case| case.sentence.to_owned()).collect();
    assert!(found.len() >= 12, "{found:?}");
    assert_eq!(found.difference(&told).collect::<Vec<_>>(), Vec::<&String>::new());
}

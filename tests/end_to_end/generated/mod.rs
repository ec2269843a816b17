//! Objects that are made from the schema: what it forbids is refused with the field's name, and what it lets through is
//! served, or refused in a condition with a sentence.
//!
//! `GENERATED_SEED` makes other objects, `GENERATED_OBJECTS` more of them, `GENERATED_APPLIED` serves more of them.

mod values;

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use kafka_external_access::api::KafkaExternalAccess;
use kube::{
    Api, CustomResourceExt,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::{Value, json};

use self::values::{Path, fields, get, invalid, schema_of, set, shown, valid};
use crate::world::{NAMESPACE, ROLLED, World, current, describe, in_lab, smallest};

/// Without brokers, without a credential.
const EMPTY: &str = "generated";
/// Served at a time beside the real brokers.
const BESIDE_BROKERS: usize = 30;
const BESIDE_NOTHING: usize = 120;
const REASONS: &str = include_str!("../../../docs/reasons.md");

fn number(variable: &str, otherwise: u64) -> u64 {
    env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

fn schema() -> Value {
    let crd = serde_json::to_value(KafkaExternalAccess::crd()).expect("a schema");
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].clone()
}

/// The objects of the examples: each is valid, and together they go every way that there is.
fn bases() -> Vec<Value> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
    let mut named = smallest()["spec"].clone();
    named["listener"]["advertisedHostTemplate"] = json!("{podName}.kafka.example.com");
    let mut found = vec![smallest()["spec"].clone(), named];
    for entry in std::fs::read_dir(folder).expect("examples").flatten() {
        let text = std::fs::read_to_string(entry.path()).expect("an example");
        for document in text.split("\n---") {
            let object: Value = serde_saphyr::from_str(document).unwrap_or_default();
            if object["kind"] == "KafkaExternalAccess" {
                found.push(object["spec"].clone());
            }
        }
    }
    found
}

/// One generated spec, and what the schema says of it.
struct Generated {
    spec: Value,
    /// The field that is wrong.
    wrong: Option<(Path, Value)>,
}

/// Every invalid value of every field, then random ones that the schema's types and bounds allow.
fn generate(schema: &Value, bases: &[Value], rng: &mut StdRng, count: usize) -> Vec<Generated> {
    let fields = fields(schema);
    let mut all = Vec::new();
    for field in &fields {
        for value in invalid(schema_of(schema, field)) {
            let mut spec = bases.choose(rng).cloned().expect("a base");
            set(&mut spec, schema, field, value.clone(), rng);
            all.push(Generated { spec, wrong: Some((field.clone(), value)) });
        }
    }
    // Each field alone in each base, then several at a time.
    for field in &fields {
        for base in bases {
            let mut spec = base.clone();
            set(&mut spec, schema, field, valid(schema_of(schema, field), rng), rng);
            all.push(Generated { spec, wrong: None });
        }
    }
    while all.len() < count {
        let mut spec = bases.choose(rng).cloned().expect("a base");
        for _ in 0..rng.random_range(2..6) {
            let field = fields.choose(rng).expect("a field");
            set(&mut spec, schema, field, valid(schema_of(schema, field), rng), rng);
        }
        all.push(Generated { spec, wrong: None });
    }
    all
}

fn object(namespace: &str, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "kafkaaccess.dev/v1alpha1", "kind": "KafkaExternalAccess",
        "metadata": {"namespace": namespace, "name": name, "labels": {"generated": "yes"}}, "spec": spec,
    })
}

fn api(world: &World, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(world.kube.clone(), namespace, &KafkaExternalAccess::api_resource())
}

/// What the API server says of it, without an effect and with strict fields.
async fn asked(api: &Api<DynamicObject>, spec: &Value) -> Result<(), kube::Error> {
    let params = PatchParams { dry_run: true, ..PatchParams::apply("generated").validation_strict() };
    api.patch("generated", &params, &Patch::Apply(object(NAMESPACE, "generated", spec))).await.map(drop)
}

/// What is let through; the rest was refused as it should be.
async fn let_through(world: &World, schema: &Value, all: Vec<Generated>) -> Vec<Value> {
    let api = api(world, NAMESPACE);
    let answers = stream::iter(all).map(async |generated| {
        let answer = asked(&api, &generated.spec).await;
        (generated, answer)
    });
    let answers: Vec<_> = answers.buffer_unordered(8).collect().await;
    let mut through = Vec::new();
    for (Generated { spec, wrong }, answer) in answers {
        match (wrong, answer) {
            (None, Ok(())) => through.push(spec),
            (Some((path, value)), Ok(())) => panic!("{} takes {value}", shown(&path)),
            (wrong, Err(kube::Error::Api(refusal))) => {
                // Where a type is wrong, server-side apply itself gives up, which is a 500 with the field's path.
                let typed = refusal.code == 500 && refusal.message.contains("failed to create typed patch");
                assert!(typed || [400, 422].contains(&refusal.code), "{spec}: {refusal:?}");
                let field = wrong.and_then(|(path, _)| path.into_iter().rev().find(|name| name != "[]"));
                let named = field.is_none_or(|field| refusal.message.contains(&field));
                assert!(named && !refusal.message.is_empty(), "{spec}: {}", refusal.message);
            }
            (_, Err(error)) => panic!("{spec}: {error}"),
        }
    }
    covered(schema, &through);
    through
}

/// Each field was set in an object that was let through.
fn covered(schema: &Value, through: &[Value]) {
    let missing: Vec<String> = fields(schema)
        .into_iter()
        .filter(|field| !through.iter().any(|spec| !get(spec, field).is_null()))
        .map(|field| shown(&field))
        .collect();
    assert_eq!(missing, Vec::<String>::new(), "these fields were never let through");
}

/// All of them are told about in conditions with a listed reason and a sentence.
async fn told(world: &World, namespace: &str, count: usize) -> BTreeMap<String, KafkaExternalAccess> {
    let listed = ListParams::default().labels("generated=yes");
    world
        .eventually(&format!("{count} objects in {namespace} are told about"), ROLLED, async || {
            let all = world.accesses_in(namespace).list(&listed).await.expect("a list").items;
            let untold = all.iter().find(|object| !current(object) || !has_its_say(object));
            match untold {
                Some(object) => Err(format!("{} {}", json!(object.spec), describe(object))),
                None if all.len() < count => Err(format!("{} of {count}", all.len())),
                None => Ok(all
                    .into_iter()
                    .map(|object| (object.metadata.name.clone().unwrap_or_default(), object))
                    .collect()),
            }
        })
        .await
}

fn has_its_say(object: &KafkaExternalAccess) -> bool {
    let conditions = object.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let said = |condition: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition| {
        !condition.message.is_empty() && REASONS.contains(&format!("| `{}` |", condition.reason))
    };
    conditions.iter().any(|condition| condition.type_ == "Ready") && conditions.iter().all(said)
}

fn reconciles(world: &World) -> f64 {
    let page = world.scrape();
    let counts = page.lines().filter(|line| line.starts_with("kafka_external_access_reconciles_total"));
    counts.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

fn versions(objects: &BTreeMap<String, KafkaExternalAccess>) -> BTreeMap<&String, Option<String>> {
    objects.iter().map(|(name, object)| (name, object.metadata.resource_version.clone())).collect()
}

async fn create(world: &World, namespace: &str, name: &str, spec: &Value) {
    let made: DynamicObject = serde_json::from_value(object(namespace, name, spec)).expect("an object");
    let created = api(world, namespace).create(&PostParams::default(), &made).await;
    created.unwrap_or_else(|error| panic!("{spec}: {error}"));
}

async fn remove_all(world: &World, namespace: &str) {
    let listed = ListParams::default().labels("generated=yes");
    let api = world.accesses_in(namespace);
    api.delete_collection(&DeleteParams::default(), &listed).await.expect("the deletion is accepted");
    for object in api.list(&listed).await.expect("a list").items {
        // Whose brokers cannot be asked keeps its addresses (I10) until the user puts right how they are asked.
        let without = Patch::Merge(json!({ "spec": { "kafka": { "client": null } } }));
        let name = object.metadata.name.unwrap_or_default();
        match api.patch(&name, &PatchParams::default(), &without).await {
            Ok(_) => {}
            Err(kube::Error::Api(refusal)) if refusal.code == 404 => {}
            Err(error) => panic!("{}: {error}", json!(object.spec)),
        }
    }
    world
        .eventually("the generated objects are gone", ROLLED, async || {
            let left = api.list(&listed).await.expect("a list").items;
            left.first().map_or(Ok(()), |object| Err(format!("{} {}", json!(object.spec), describe(object))))
        })
        .await;
}

/// Beside the brokers with nothing but a plan, each with a listener of its own.
fn planned(spec: &Value, index: usize) -> Value {
    let mut spec = spec.clone();
    spec["mode"] = json!("Plan");
    own_listener(&mut spec, index);
    spec
}

fn own_listener(spec: &mut Value, index: usize) {
    if let Some(name) = spec["listener"]["name"].as_str() {
        let short: String = name.chars().take(50).collect();
        spec["listener"]["name"] = json!(format!("{short}_{index}"));
    }
}

/// A quiet while: nothing is written, and no object is looked at more often than the drift interval and the back-off say.
async fn quiet(world: &World, namespaces: [(&str, usize); 2]) {
    let look = async || {
        let mut all = BTreeMap::new();
        for (namespace, count) in namespaces {
            let told = told(world, namespace, count).await;
            all.extend(told.into_iter().map(|(name, object)| (format!("{namespace}/{name}"), object)));
        }
        all
    };
    world
        .eventually("nothing is written any more", ROLLED, async || {
            let (before, runs, start) = (look().await, reconciles(world), Instant::now());
            tokio::time::sleep(Duration::from_secs(10)).await;
            let (after, runs, seconds) =
                (look().await, reconciles(world) - runs, start.elapsed().as_secs_f64());
            let written: Vec<_> = versions(&after)
                .into_iter()
                .filter(|(name, version)| {
                    before.get(*name).map(|object| &object.metadata.resource_version) != Some(version)
                })
                .map(|(name, _)| name.clone())
                .collect();
            // Every 5 s, and once more for what a back-off of a second and more adds.
            #[allow(clippy::cast_precision_loss, reason = "a few hundred objects")]
            let most = after.len() as f64 * (seconds / 5.0 + 3.0);
            assert!(runs <= most, "a hot loop: {runs} reconciles of {} objects in {seconds} s", after.len());
            if written.is_empty() { Ok(()) } else { Err(written) }
        })
        .await;
}

/// Really served, one after the other: each ends in a condition with a sentence, and leaves nothing when it is deleted
/// but what it was told to retain.
async fn applied(world: &World, specs: &[Value]) {
    for (index, spec) in specs.iter().enumerate() {
        let mut spec = spec.clone();
        spec["mode"] = json!("Apply");
        // Without consent: no broker is restarted for this.
        spec["listener"]["rollout"] = json!("Auto");
        own_listener(&mut spec, index);
        create(world, NAMESPACE, &format!("applied-{index}"), &spec).await;
        let settled = async || {
            let before = told(world, NAMESPACE, 1).await;
            tokio::time::sleep(Duration::from_secs(6)).await;
            let after = told(world, NAMESPACE, 1).await;
            if versions(&before) == versions(&after) { Ok(after) } else { Err("it still changes") }
        };
        let objects = world.eventually("it has settled", ROLLED, settled).await;
        for object in objects.values() {
            println!("applied {}: {:?}", json!(object.spec), crate::world::condition(object, "Ready"));
        }
        remove_all(world, NAMESPACE).await;
        // What is retained makes room for the next object.
        for kept in world.ledger().into_values() {
            let retained = spec["addresses"]["retentionPolicy"]["whenDeleted"] == "Retain";
            assert!(retained && kept.description.starts_with("kea-retained/v1 "), "{spec}: {kept:?}");
            world.admin.delete_floating_ip(&kept.id).expect("a floating IP can be deleted");
        }
    }
}

#[test]
fn what_the_schema_forbids_is_refused_by_name_and_what_it_lets_through_is_served_or_refused_with_a_sentence()
{
    in_lab("generated", async |world| {
        let seed = number("GENERATED_SEED", 1);
        println!("GENERATED_SEED={seed}");
        let (schema, mut rng) = (schema(), StdRng::seed_from_u64(seed));
        let count = usize::try_from(number("GENERATED_OBJECTS", 1100)).expect("a number");
        let all = generate(&schema, &bases(), &mut rng, count);
        let made = all.len();
        assert!(made >= 1000, "{made} objects");
        let through = let_through(world, &schema, all).await;
        println!("{made} objects, {} let through", through.len());
        assert!(through.len() >= 100, "{} let through", through.len());

        let _ = world.lab.kubectl(&["create", "namespace", EMPTY]);
        world.apply_credential(&world.cloud.facts().demo.clone()).await;
        world.start_operator();
        let log_before = world.operator_log().len();
        let beside: Vec<&Value> = through.choose_multiple(&mut rng, BESIDE_BROKERS).collect();
        for (index, spec) in beside.iter().enumerate() {
            create(world, NAMESPACE, &format!("planned-{index}"), &planned(spec, index)).await;
        }
        let alone: Vec<&Value> = through.choose_multiple(&mut rng, BESIDE_NOTHING).collect();
        for (index, spec) in alone.iter().enumerate() {
            create(world, EMPTY, &format!("alone-{index}"), spec).await;
        }
        quiet(world, [(NAMESPACE, beside.len()), (EMPTY, alone.len())]).await;
        assert_eq!(world.neutron.mutations(), [], "a plan writes nothing");
        let ready = told(world, NAMESPACE, beside.len()).await;
        let reasons: BTreeSet<_> =
            ready.values().filter_map(|object| crate::world::condition(object, "Ready")).collect();
        println!("beside the brokers: {reasons:?}");
        remove_all(world, NAMESPACE).await;
        remove_all(world, EMPTY).await;

        let with_listener: Vec<Value> =
            through.iter().filter(|spec| spec["listener"]["name"].is_string()).cloned().collect();
        let some = usize::try_from(number("GENERATED_APPLIED", 3)).expect("a number");
        let some: Vec<Value> = with_listener.choose_multiple(&mut rng, some).cloned().collect();
        applied(world, &some).await;
        let log = world.operator_log();
        assert!(!log[log_before..].contains("panicked at"), "{}", &log[log_before..]);
    });
}

//! Valid and invalid values of any field, from the schema alone: a new field is covered without a new line here.

use proptest::{
    strategy::{Strategy, ValueTree},
    string::string_regex,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use rand::{Rng, rngs::StdRng, seq::IndexedRandom};
use serde_json::{Map, Value, json};

/// Letters that a text may hold where no pattern forbids them.
const LETTERS: [char; 16] =
    ['a', 'Z', '0', '-', '_', '.', '/', ':', ' ', '"', '\'', '{', '}', '\u{e9}', '\u{9375}', '\n'];

/// A field: the names that lead to it, `[]` for the first item of a list.
pub type Path = Vec<String>;

/// `spec.brokers[].address`.
pub fn shown(path: &[String]) -> String {
    path.join(".").replace(".[]", "[]")
}

/// Every field below a schema, those with fields of their own included.
pub fn fields(schema: &Value) -> Vec<Path> {
    let mut found = Vec::new();
    walk(schema, &mut Vec::new(), &mut found);
    found
}

fn walk(schema: &Value, path: &mut Path, found: &mut Vec<Path>) {
    if !path.is_empty() {
        found.push(path.clone());
    }
    let properties = schema["properties"].as_object();
    let items = schema.get("items").map(|items| ("[]".to_owned(), items));
    let below = properties.into_iter().flatten().map(|(name, below)| (name.clone(), below)).chain(items);
    for (name, below) in below {
        path.push(name);
        walk(below, path, found);
        path.pop();
    }
}

/// The schema of a field.
pub fn schema_of<'a>(schema: &'a Value, path: &[String]) -> &'a Value {
    path.iter().fold(schema, |schema, name| match name.as_str() {
        "[]" => &schema["items"],
        name => &schema["properties"][name],
    })
}

/// The object with this field set; what the way to it needs is made.
pub fn set(object: &mut Value, schema: &Value, path: &[String], value: Value, rng: &mut StdRng) {
    let Some((name, rest)) = path.split_first() else {
        *object = value;
        return;
    };
    if object.is_null() {
        *object = least(schema, rng);
    }
    let below = schema_of(schema, std::slice::from_ref(name));
    let place = match name.as_str() {
        "[]" => {
            let items = object.as_array_mut().expect("a list");
            if items.is_empty() {
                items.push(least(below, rng));
            }
            &mut items[0]
        }
        name => object.as_object_mut().expect("an object").entry(name).or_insert(Value::Null),
    };
    set(place, below, rest, value, rng);
}

/// The value of a field; null: it is not set.
pub fn get<'a>(object: &'a Value, path: &[String]) -> &'a Value {
    path.iter().fold(object, |object, name| match name.as_str() {
        "[]" => &object[0],
        name => &object[name],
    })
}

/// What is required, and nothing else.
fn least(schema: &Value, rng: &mut StdRng) -> Value {
    match schema["type"].as_str() {
        Some("object") => {
            let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let fields = required.map(|name| (name.to_owned(), valid(&schema["properties"][name], rng)));
            Value::Object(fields.collect::<Map<_, _>>())
        }
        Some("array") => json!([]),
        _ => valid(schema, rng),
    }
}

fn chosen<T: Clone>(of: &[T], rng: &mut StdRng) -> T {
    of.choose(rng).cloned().expect("something to choose from")
}

fn bound(schema: &Value, key: &str, otherwise: i64) -> i64 {
    // The schema may write whole numbers as 1.0.
    #[allow(clippy::cast_possible_truncation, reason = "bounds of fields are small")]
    schema[key].as_f64().map_or(otherwise, |number| number as i64)
}

/// One value that the schema of the field allows, its bounds as often as what is between.
pub fn valid(schema: &Value, rng: &mut StdRng) -> Value {
    if let Some(values) = schema["enum"].as_array() {
        let values: Vec<Value> = values.iter().filter(|value| !value.is_null()).cloned().collect();
        return chosen(&values, rng);
    }
    match schema["type"].as_str() {
        Some("boolean") => json!(rng.random::<bool>()),
        Some("integer") => {
            let (least, most) = (bound(schema, "minimum", 0), bound(schema, "maximum", 1000));
            let between = rng.random_range(least..=most);
            json!(chosen(&[least, most, between], rng))
        }
        Some("string") => json!(text(schema, rng)),
        Some("array") => {
            let item = valid(&schema["items"], rng);
            if rng.random() { json!([item]) } else { json!([]) }
        }
        Some("object") => {
            let mut object = least(schema, rng);
            for (name, below) in schema["properties"].as_object().into_iter().flatten() {
                if object.get(name).is_none() && rng.random_ratio(1, 3) {
                    object[name.as_str()] = valid(below, rng);
                }
            }
            object
        }
        other => panic!("a type that no value is known for: {other:?}"),
    }
}

fn text(schema: &Value, rng: &mut StdRng) -> String {
    let least = usize::try_from(bound(schema, "minLength", 0)).unwrap_or(0);
    let most = usize::try_from(bound(schema, "maxLength", 64)).unwrap_or(64);
    let Some(pattern) = schema["pattern"].as_str() else {
        let length = chosen(&[least, most, rng.random_range(least..=most.min(40))], rng);
        return (0..length).map(|_| chosen(&LETTERS, rng)).collect();
    };
    let matching = string_regex(pattern.trim_start_matches('^').trim_end_matches('$')).expect("a pattern");
    let seed = TestRng::from_seed(RngAlgorithm::ChaCha, &rng.random::<[u8; 32]>());
    let mut runner = TestRunner::new_with_rng(Config::default(), seed);
    for _ in 0..1000 {
        let text = matching.new_tree(&mut runner).expect("a text").current();
        if (least..=most).contains(&text.chars().count()) {
            return text;
        }
    }
    panic!("no text of {least} to {most} letters is {pattern}");
}

/// Values that the schema of the field forbids, each for another reason.
pub fn invalid(schema: &Value) -> Vec<Value> {
    let mut found = vec![];
    match schema["type"].as_str() {
        Some("boolean") => found.extend([json!("true"), json!(1)]),
        Some("integer") => {
            found.extend([json!("1"), json!(1.5)]);
            found.extend(schema["minimum"].as_f64().map(|_| json!(bound(schema, "minimum", 0) - 1)));
            found.extend(schema["maximum"].as_f64().map(|_| json!(bound(schema, "maximum", 0) + 1)));
        }
        Some("string") if schema["enum"].is_array() => found.extend([json!("no such value"), json!("")]),
        Some("string") => {
            found.push(json!(7));
            found.extend(schema["maxLength"].as_u64().map(|most| json!("a".repeat(most as usize + 1))));
            found.extend(schema["minLength"].as_u64().filter(|least| *least > 0).map(|_| json!("")));
            let pattern = schema["pattern"].as_str().map(|text| regex::Regex::new(text).expect("a pattern"));
            let texts = ["", " ", "%", "\u{e9}", "a b", "\n", "-", "0"];
            let outside = |text: &&&str| pattern.as_ref().is_some_and(|pattern| !pattern.is_match(text));
            found.extend(texts.iter().filter(outside).map(|text| json!(text)));
        }
        Some("array") => found.push(json!("text")),
        Some("object") => {
            found.push(json!("text"));
            for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                let mut rng = <StdRng as rand::SeedableRng>::seed_from_u64(0);
                let mut lacking = least(schema, &mut rng);
                lacking.as_object_mut().expect("an object").remove(name);
                found.push(lacking);
            }
            found.push(json!({"noSuchField": 1}));
        }
        other => panic!("a type that no value is known for: {other:?}"),
    }
    found
}

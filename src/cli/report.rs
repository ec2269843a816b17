//! `report`: what somebody needs who helps, in one file, without secrets.
//!
//! | taken | left out |
//! |---|---|
//! | the object, its StatefulSet, that one's pods, ConfigMaps of the operator, events about them | Secrets: they are not read at all |
//! | names of environment variables; values of those that make listeners | all other values |
//! | commands and arguments | those that carry a password, a key, a token or a JAAS line |
//! | names of probes' headers and of volumes' attributes | their values |
//! | how a container ended | its last message, which may be lines of its log |
//! | names of annotations and the operator's own | values of all others (`last-applied-configuration` repeats the manifest) |

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{ConfigMap, Pod},
    events::v1::Event,
};
use kube::{Api, Resource, ResourceExt, api::ListParams};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    cluster::{Cluster, ClusterArgs},
    failed, show,
};
use crate::{
    api::KafkaExternalAccess, kafka::sighting, listeners::restart::file, runtime::clock::SystemClock,
    seams::Clock,
};

/// Writes a support bundle: YAML documents, without any content of Secrets.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Exit codes: 0 written, 1 the object cannot be read, 2 wrong usage")]
pub struct ReportArgs {
    /// Name of the object
    pub name: String,
    /// Which cluster
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// The file to write. Default: standard output
    #[arg(short, long)]
    pub file: Option<PathBuf>,
}

/// Runs the command.
pub async fn run(args: ReportArgs) -> ExitCode {
    let written = async {
        let cluster = args.cluster.open().await?;
        let documents = collect(&cluster, &args.name).await?;
        let text = text(&documents)?;
        match &args.file {
            Some(file) => std::fs::write(file, text).map_err(|error| format!("{}: {error}", file.display())),
            None => {
                show(&text);
                Ok(())
            }
        }
    };
    match written.await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(error),
    }
}

/// Documents of one stream, with secrets left out.
pub fn text(documents: &[Value]) -> Result<String, String> {
    let mut text = String::new();
    for document in documents {
        text.push_str("---\n");
        text.push_str(&serde_saphyr::to_string(&redacted(document)).map_err(|error| error.to_string())?);
    }
    Ok(text)
}

async fn collect(cluster: &Cluster, name: &str) -> Result<Vec<Value>, String> {
    let objects = cluster.objects(Some(name), false).await?;
    let object: &KafkaExternalAccess = objects.first().ok_or("there is no such object")?;
    let set = object.spec.kafka.stateful_set.name.clone();
    let mut documents = vec![head(object), value(object)?];
    let sets: Api<StatefulSet> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let events: Api<Event> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    documents.push(read(sets.get_opt(&set).await, "StatefulSet", &set));
    let of_set = |pod: &Pod| {
        pod.owner_references().iter().any(|owner| owner.kind == "StatefulSet" && owner.name == set)
    };
    documents.extend(listed(pods.list(&ListParams::default()).await, "pods", of_set));
    for map in [file::name(&set), sighting::config_map(name)] {
        documents.push(read(maps.get_opt(&map).await, "ConfigMap", &map));
    }
    let about = |event: &Event| {
        let name = event.regarding.as_ref().and_then(|about| about.name.clone()).unwrap_or_default();
        name == object.name_any() || name == set || name.starts_with(&format!("{set}-"))
    };
    documents.extend(listed(events.list(&ListParams::default()).await, "events", about));
    Ok(documents)
}

fn head(object: &KafkaExternalAccess) -> Value {
    let key = format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any());
    json!({
        "report": key, "at": SystemClock::default().now().to_string(),
        "program": format!("kafka-external-access {}", env!("CARGO_PKG_VERSION")),
        "leftOut": "content of Secrets, values of environment variables, arguments with passwords",
    })
}

fn value(object: &impl Serialize) -> Result<Value, String> {
    serde_json::to_value(object).map_err(|error| error.to_string())
}

/// What cannot be read is told in its place: a report with a gap is better than none.
fn read<K: Serialize>(found: Result<Option<K>, kube::Error>, kind: &str, name: &str) -> Value {
    match found {
        Ok(Some(object)) => value(&object).unwrap_or_else(|error| json!({"kind": kind, "unreadable": error})),
        Ok(None) => json!({"kind": kind, "name": name, "exists": false}),
        Err(error) => json!({"kind": kind, "name": name, "unreadable": error.to_string()}),
    }
}

fn listed<K>(
    found: Result<kube::core::ObjectList<K>, kube::Error>,
    kind: &str,
    wanted: impl Fn(&K) -> bool,
) -> Vec<Value>
where
    K: Resource + Clone + Serialize + DeserializeOwned,
{
    match found {
        Ok(list) => {
            list.items.iter().filter(|item| wanted(item)).filter_map(|item| value(item).ok()).collect()
        }
        Err(error) => vec![json!({"kind": kind, "unreadable": error.to_string()})],
    }
}

const REDACTED: &str = "(left out)";
/// Where they stand, a secret may stand as well.
const TELLTALE: [&str; 10] = [
    "password",
    "passwd",
    "secret",
    "token",
    "jaas",
    "credential",
    "private key",
    "keystore.key",
    "authorization",
    "apikey",
];

fn telltale(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    TELLTALE.iter().any(|word| text.contains(word)) || text.contains("://") && text.contains('@')
}

/// A variable that makes listeners, or says which broker it is.
fn shown(variable: &str) -> bool {
    !telltale(variable)
        && (variable.ends_with("LISTENERS")
            || variable.ends_with("LISTENER_SECURITY_PROTOCOL_MAP")
            || variable.ends_with("LISTENER_NAME")
            || ["POD_NAME", "POD_IP"].contains(&variable))
}

/// The same without what may be secret.
pub fn redacted(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let pair = |(key, value): (&String, &Value)| {
                let value = match (key.as_str(), value) {
                    ("managedFields", _) => return None,
                    ("annotations", Value::Object(annotations)) => annotations_of(annotations),
                    ("env", Value::Array(variables)) => variables.iter().map(variable).collect(),
                    ("command" | "args", Value::Array(words)) => words.iter().map(word).collect(),
                    ("httpHeaders", Value::Array(headers)) => headers.iter().map(header).collect(),
                    ("volumeAttributes", Value::Object(attributes)) => hidden(attributes),
                    // The last lines of the log, where the container asks for that.
                    ("terminated", Value::Object(state)) if state.contains_key("message") => {
                        let mut state = state.clone();
                        state.insert("message".to_owned(), json!(REDACTED));
                        Value::Object(state)
                    }
                    _ => redacted(value),
                };
                Some((key.clone(), value))
            };
            Value::Object(fields.iter().filter_map(pair).collect())
        }
        Value::Array(items) => items.iter().map(redacted).collect(),
        plain => plain.clone(),
    }
}

fn annotations_of(annotations: &serde_json::Map<String, Value>) -> Value {
    let pair = |(key, value): (&String, &Value)| {
        let own = key.starts_with("kafkaaccess.dev/") && !value.as_str().is_some_and(telltale);
        (key.clone(), if own { value.clone() } else { json!(REDACTED) })
    };
    Value::Object(annotations.iter().map(pair).collect())
}

fn variable(variable: &Value) -> Value {
    let name = variable["name"].as_str().unwrap_or_default();
    match &variable["value"] {
        Value::Null => variable.clone(),
        Value::String(value) if shown(name) && !telltale(value) => variable.clone(),
        _ => json!({"name": name, "value": REDACTED}),
    }
}

fn header(header: &Value) -> Value {
    json!({"name": header["name"], "value": REDACTED})
}

fn hidden(values: &serde_json::Map<String, Value>) -> Value {
    Value::Object(values.keys().map(|key| (key.clone(), json!(REDACTED))).collect())
}

fn word(word: &Value) -> Value {
    if word.as_str().is_some_and(telltale) { json!(REDACTED) } else { word.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CANARY: &str = "c4n4ry";

    #[test]
    fn nothing_that_may_be_secret_gets_into_a_report() {
        let container = json!({"name": "kafka", "env": [
                {"name": "KAFKA_LISTENERS", "value": "INTERNAL://:9092"},
                {"name": "KAFKA_OPTS", "value": CANARY},
                {"name": "KAFKA_SASL_PASSWORD", "value": CANARY},
                {"name": "KAFKA_CFG_LISTENERS", "value": format!("user:{CANARY}@http://x")},
                {"name": "FROM", "valueFrom": {"secretKeyRef": {"name": "kafka", "key": "password"}}},
            ],
            "command": ["sh", "-c", format!("exec kafka --override ssl.keystore.password={CANARY}")],
            "args": ["--override", "listeners=INTERNAL://:9092", format!("JAAS={CANARY}"),
                format!("ssl.keystore.key=-----BEGIN PRIVATE KEY-----{CANARY}")],
            "livenessProbe": {"httpGet": {"httpHeaders": [{"name": "Authorization", "value": CANARY}]}},
            "lastState": {"terminated": {"exitCode": 1, "message": CANARY}}});
        let set = json!({
            "kind": "StatefulSet",
            "metadata": {
                "managedFields": [{"x": CANARY}],
                "annotations": {
                    "kubectl.kubernetes.io/last-applied-configuration": CANARY,
                    "kafkaaccess.dev/before": "{\"listeners\":\"INTERNAL://:9092\"}",
                    "kafkaaccess.dev/odd": format!("password={CANARY}"),
                }},
            "spec": {"template": {"spec": {"containers": [container.clone()], "initContainers": [container],
                "volumes": [{"name": "v", "csi": {"driver": "d", "volumeAttributes": {"key": CANARY}}}]}}},
        });
        let text = text(&[set]).expect("YAML");
        assert!(!text.contains(CANARY), "{text}");
        for kept in ["INTERNAL://:9092", "KAFKA_SASL_PASSWORD", "secretKeyRef", "kafkaaccess.dev/before"] {
            assert!(text.contains(kept), "{kept}: {text}");
        }
    }
}

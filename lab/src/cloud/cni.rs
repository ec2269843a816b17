//! The CNI plugin that ties pods to the cloud.

use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;

use serde::Deserialize;
use serde_json::{Value, json};

use super::api::{Session, field};
use super::facts::CloudFacts;
use super::http::Http;
use super::records::Port;
use crate::error::{Context, LabError, Result};

/// The hidden subcommand, and the plugin's CNI type.
pub const SUBCOMMAND: &str = "neutron-port";
const VERSIONS: [&str; 4] = ["0.3.1", "0.4.0", "1.0.0", "1.1.0"];
/// CNI specification, error codes: what is 100 or more is the plugin's own.
const OWN_ERROR: u16 = 100;

/// What the plugin needs to know of its configuration; CNI specification, "Plugin configuration objects".
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Configuration {
    cni_version: String,
    facts: PathBuf,
    #[serde(default)]
    prev_result: Value,
}

/// The keys that the plugin's configuration has beside its type.
#[must_use]
pub fn configuration(facts: &std::path::Path) -> Value {
    json!({ "facts": facts })
}

/// A chained CNI plugin that gives every pod a Neutron port with the address it got, as plugins for OpenStack do; the port ends with the pod.
/// When Neutron does not answer the plugin fails, and the kubelet tries again.
pub fn run() -> ExitCode {
    match answer() {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            print!(
                "{}",
                json!({"cniVersion": "0.4.0", "code": OWN_ERROR, "msg": format!("{SUBCOMMAND}: {error}")})
            );
            ExitCode::FAILURE
        }
    }
}

fn answer() -> Result<String> {
    let mut input = String::new();
    std::io::stdin().read_to_string(&mut input).to(|| "read the configuration".to_owned())?;
    let command = std::env::var("CNI_COMMAND").unwrap_or_default();
    if command == "VERSION" {
        return Ok(json!({"cniVersion": "1.0.0", "supportedVersions": VERSIONS}).to_string());
    }
    let configuration: Configuration = serde_json::from_str(&input)
        .map_err(std::io::Error::from)
        .to(|| "read the configuration".to_owned())?;
    let facts = CloudFacts::read(&configuration.facts)?;
    let session = Session::open(Http::here(), &facts.keystone, &facts.neutron, &facts.admin)?;
    let container = std::env::var("CNI_CONTAINERID").unwrap_or_default();
    match command.as_str() {
        "ADD" => {
            let pod = pod_name(&std::env::var("CNI_ARGS").unwrap_or_default());
            add(&session, &facts, &container, &pod, address(&configuration.prev_result)?)?;
            let mut result = configuration.prev_result;
            result["cniVersion"] = json!(configuration.cni_version);
            Ok(result.to_string())
        }
        "DEL" => delete(&session, &format!("device_id={container}")).map(|()| String::new()),
        // CHECK: nothing of the port can be missing that the network would notice here.
        _ => Ok(String::new()),
    }
}

fn add(session: &Session, facts: &CloudFacts, container: &str, pod: &str, address: &str) -> Result<()> {
    // A port of a pod whose end nobody noticed may still hold the address.
    delete(session, &format!("network_id={}&fixed_ips=ip_address={address}", facts.pod_network_id))?;
    let port = json!({
        "project_id": facts.demo.project_id, "network_id": facts.pod_network_id, "name": pod,
        "fixed_ips": [{"subnet_id": facts.pod_subnet_id, "ip_address": address}],
        "device_id": container, "device_owner": "lab:pod", "security_groups": [facts.security_group_id],
    });
    session.create_port(&port).map(|_| ())
}

fn delete(session: &Session, filter: &str) -> Result<()> {
    let ports: Vec<Port> = field(session.network("GET", &format!("/ports?{filter}"), None)?, "ports")?;
    for port in ports {
        match session.delete_port(&port.id) {
            Err(LabError::Api { status: 404, .. }) => {}
            other => other?,
        }
    }
    Ok(())
}

/// `namespace/name`, of `K8S_POD_NAMESPACE=...;K8S_POD_NAME=...`.
fn pod_name(arguments: &str) -> String {
    let value = |key: &str| {
        arguments
            .split(';')
            .find_map(|argument| argument.strip_prefix(key)?.strip_prefix('='))
            .unwrap_or_default()
    };
    format!("{}/{}", value("K8S_POD_NAMESPACE"), value("K8S_POD_NAME"))
}

/// The pod's first address, without its prefix length.
fn address(previous: &Value) -> Result<&str> {
    let address = previous["ips"][0]["address"].as_str().and_then(|address| address.split('/').next());
    address
        .ok_or_else(|| std::io::Error::other(previous.to_string()))
        .to(|| "find the pod's address in the result of the plugin before".to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{address, pod_name};

    #[test]
    fn the_port_is_named_after_the_pod() {
        let arguments =
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=ydata;K8S_POD_NAME=kafka-0;K8S_POD_INFRA_CONTAINER_ID=1";
        assert_eq!(pod_name(arguments), "ydata/kafka-0");
    }

    #[test]
    fn the_address_is_the_first_one_of_the_plugin_before() {
        let previous = json!({"ips": [{"address": "10.128.0.20/22"}, {"address": "fd00::1/64"}]});
        assert_eq!(address(&previous).ok(), Some("10.128.0.20"));
        assert!(address(&json!({})).is_err());
    }
}

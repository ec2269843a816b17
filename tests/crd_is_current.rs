//! The committed CRDs are what the types say.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kafka_external_access::api::{KafkaExternalAccess, KafkaExternalAccessClass};
use kube::CustomResourceExt;

fn is_current(file: &str, definition: &CustomResourceDefinition) {
    let path = format!("{}/crds/{file}", env!("CARGO_MANIFEST_DIR"));
    let committed = std::fs::read_to_string(path).expect("the CRD is committed");
    let generated = serde_saphyr::to_string(definition).expect("a CRD is YAML");
    assert!(committed == generated, "crds/{file} is not current; run: make generate");
}

#[test]
fn the_committed_crds_are_what_the_types_say() {
    is_current("kafkaexternalaccesses.yaml", &KafkaExternalAccess::crd());
    is_current("kafkaexternalaccessclasses.yaml", &KafkaExternalAccessClass::crd());
}

//! The committed CRD is what the types say.

use kafka_external_access::api::KafkaExternalAccess;
use kube::CustomResourceExt;

#[test]
fn the_committed_crd_is_what_the_types_say() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/crds/kafkaexternalaccesses.yaml");
    let committed = std::fs::read_to_string(file).expect("the CRD is committed");
    let generated = serde_saphyr::to_string(&KafkaExternalAccess::crd()).expect("a CRD is YAML");
    assert!(committed == generated, "crds/kafkaexternalaccesses.yaml is not current; run: make generate");
}

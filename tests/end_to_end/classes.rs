//! A platform team's class on real parts: the credential stays with the operator, and revoking does what it says.

use k8s_openapi::api::core::v1::Secret;
use kafka_external_access::api::{FINALIZER, KafkaExternalAccessClass};
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use lab::cloud::CloudFacts;
use serde_json::{Value, json};

use crate::world::{NAMESPACE, READY, World, in_lab};

/// Where tests run the operator: the namespace of its lease.
const OPERATOR: &str = "default";
const SECRET: &str = "class-credential";

impl World {
    fn classes(&self) -> Api<KafkaExternalAccessClass> {
        Api::all(self.kube.clone())
    }

    pub fn secrets_in(&self, namespace: &str) -> Api<Secret> {
        Api::namespaced(self.kube.clone(), namespace)
    }

    /// Removes classes and their credential.
    pub async fn clean_classes(&self) {
        let all = ListParams::default();
        self.classes()
            .delete_collection(&DeleteParams::default(), &all)
            .await
            .expect("classes can be deleted");
        let free = Patch::Merge(json!({"metadata": {"finalizers": []}}));
        let _ = self.secrets_in(OPERATOR).patch(SECRET, &PatchParams::default(), &free).await;
        let _ = self.secrets_in(OPERATOR).delete(SECRET, &DeleteParams::default()).await;
        self.label_namespace(None).await;
    }

    /// Class `lab` with the project's credential, for namespaces labelled `kafka=outside`, changed by `edit`.
    pub async fn apply_class(&self, edit: impl FnOnce(&mut Value)) {
        let account = self.cloud.facts().demo.clone();
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET},
            "stringData": {"clouds.yaml": self.cloud.clouds_yaml_through_proxy(&account)}});
        let params = PatchParams::apply("end-to-end").force();
        let secrets = self.secrets_in(OPERATOR);
        secrets.patch(SECRET, &params, &Patch::Apply(secret)).await.expect("the Secret is accepted");
        let mut class = json!({
            "apiVersion": "kafkaaccess.dev/v1alpha1", "kind": "KafkaExternalAccessClass",
            "metadata": {"name": "lab"},
            "spec": {
                "provider": {"type": "OpenStack", "openstack": {
                    "cloudName": "lab", "credentialsSecretRef": {"name": SECRET},
                    "floatingNetwork": CloudFacts::EXTERNAL_NETWORK, "podNetwork": CloudFacts::POD_NETWORK}},
                "namespaces": {"selector": {"matchLabels": {"kafka": "outside"}}, "whenRevoked": "Unbind"}}});
        edit(&mut class["spec"]);
        self.classes().patch("lab", &params, &Patch::Apply(class)).await.expect("the class is accepted");
    }

    pub async fn label_namespace(&self, value: Option<&str>) {
        let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(self.kube.clone());
        let patch = Patch::Merge(json!({"metadata": {"labels": {"kafka": value}}}));
        namespaces
            .patch(NAMESPACE, &PatchParams::default(), &patch)
            .await
            .expect("the namespace is labelled");
    }

    async fn class_secret_is_held(&self) -> bool {
        let secret = self.secrets_in(OPERATOR).get(SECRET).await.expect("the Secret");
        secret.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER)
    }
}

pub fn of_class(object: &mut Value) {
    object["spec"]["addresses"] = json!({"classRef": {"name": "lab"}});
}

#[test]
fn a_namespace_without_a_credential_is_served_by_a_class_until_it_is_revoked() {
    in_lab("class", async |world| {
        world.start_operator();
        world.create(of_class).await;
        world.reason("Accepted", "False", "ClassNotFound", READY).await;
        world.apply_class(|_| ()).await;
        world.reason("Accepted", "False", "NamespaceNotAllowed", READY).await;
        assert!(world.ledger().is_empty());
        world.label_namespace(Some("outside")).await;
        world.condition("Ready", "True", READY).await;
        world.assert_bound(0..3).await;
        assert!(world.class_secret_is_held().await);
        let before = world.ledger();

        // Revoked by a label: unbound, and nothing is released.
        world.label_namespace(None).await;
        world
            .eventually("everything is unbound", READY, async || {
                let bound = world.ledger().values().filter(|address| address.port_id.is_some()).count();
                if bound == 0 { Ok(()) } else { Err(bound) }
            })
            .await;
        world.reason("Ready", "False", "NamespaceNotAllowed", READY).await;
        let kept = world.ledger();
        assert_eq!(kept.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
        assert!(kept.iter().all(|(ordinal, address)| address.id == before[ordinal].id));

        // Allowed again: each broker has its own back.
        world.label_namespace(Some("outside")).await;
        world.condition("Ready", "True", READY).await;
        world.assert_bound(0..3).await;
        assert!(world.ledger().iter().all(|(ordinal, address)| address.id == before[ordinal].id));

        // What the class allows is counted in the cloud.
        world.apply_class(|class| class["limits"] = json!({"addressesPerNamespace": 2})).await;
        world.delete().await;
        assert!(world.ledger().is_empty());
        assert!(!world.class_secret_is_held().await);
        world.create(of_class).await;
        world.reason("Programmed", "False", "AddressLimitReached", READY).await;
        assert_eq!(world.ledger().len(), 2);
    });
}

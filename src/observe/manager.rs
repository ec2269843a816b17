//! Who keeps the StatefulSet as it is, and so where a user has to change it.
//!
//! | sign | manager |
//! |---|---|
//! | a controlling owner reference | that object: an operator writes the StatefulSet |
//! | label `kustomize.toolkit.fluxcd.io/name`, `helm.toolkit.fluxcd.io/name` | Flux |
//! | annotation `argocd.argoproj.io/tracking-id` | Argo CD |
//! | label `app.kubernetes.io/managed-by: Helm` with annotation `meta.helm.sh/release-name` | Helm |
//! | none of these | nobody that would undo a change |
//!
//! The first that fits is told: Flux and Argo CD drive Helm, and an operator stands over all of them. Argo CD's older
//! label `app.kubernetes.io/instance` is set by others too and says nothing.

use k8s_openapi::api::apps::v1::StatefulSet;
use kube::ResourceExt;

/// The manager of a StatefulSet in words, with the place to change: "Helm (release kafka): change its values".
/// `None`: nobody is known who would undo a change.
pub fn manager(set: &StatefulSet) -> Option<String> {
    let label = |name: &str| set.labels().get(name).cloned();
    let annotation = |name: &str| set.annotations().get(name).cloned();
    let owner = set.owner_references().iter().find(|owner| owner.controller == Some(true));
    let flux = |kind: &str, toolkit: &str| {
        let name = label(&format!("{toolkit}.toolkit.fluxcd.io/name"))?;
        let namespace = label(&format!("{toolkit}.toolkit.fluxcd.io/namespace")).unwrap_or_default();
        Some(format!("Flux ({kind} {namespace}/{name}): change it in its source"))
    };
    let argo = || {
        // The application's name, then `:group/kind:namespace/name`.
        let id = annotation("argocd.argoproj.io/tracking-id")?;
        let application = id.split(':').next().unwrap_or_default();
        Some(format!("Argo CD (application {application}): change it in its repository"))
    };
    let helm = || {
        label("app.kubernetes.io/managed-by").filter(|manager| manager == "Helm")?;
        let release = annotation("meta.helm.sh/release-name")?;
        Some(format!("Helm (release {release}): change its values"))
    };
    owner
        .map(|owner| format!("{} {}: change that object", owner.kind, owner.name))
        .or_else(|| flux("HelmRelease", "helm"))
        .or_else(|| flux("Kustomization", "kustomize"))
        .or_else(argo)
        .or_else(helm)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn managed(metadata: Value) -> Option<String> {
        let set = json!({"metadata": metadata, "spec": {"serviceName": "s", "selector": {}, "template": {}}});
        manager(&serde_json::from_value(set).expect("a StatefulSet"))
    }

    #[test]
    fn each_manager_is_known_by_its_own_sign() {
        let helm = json!({
            "labels": {"app.kubernetes.io/managed-by": "Helm"},
            "annotations": {"meta.helm.sh/release-name": "kafka"},
        });
        assert_eq!(managed(helm).as_deref(), Some("Helm (release kafka): change its values"));
        let argo = json!({"annotations": {
            "argocd.argoproj.io/tracking-id": "streams:apps/StatefulSet:ydata/kafka",
            "meta.helm.sh/release-name": "kafka",
        }});
        let told = "Argo CD (application streams): change it in its repository";
        assert_eq!(managed(argo).as_deref(), Some(told));
        let flux = json!({
            "labels": {
                "helm.toolkit.fluxcd.io/name": "kafka", "helm.toolkit.fluxcd.io/namespace": "flux",
                "app.kubernetes.io/managed-by": "Helm",
            },
            "annotations": {"meta.helm.sh/release-name": "kafka"},
        });
        let told = "Flux (HelmRelease flux/kafka): change it in its source";
        assert_eq!(managed(flux).as_deref(), Some(told));
        let operator = json!({"ownerReferences": [
            {"apiVersion": "v1", "kind": "Kafka", "name": "main", "uid": "u", "controller": true}]});
        assert_eq!(managed(operator).as_deref(), Some("Kafka main: change that object"));
    }

    #[test]
    fn a_set_that_somebody_applied_by_hand_has_no_manager() {
        assert_eq!(managed(json!({})), None);
        assert_eq!(managed(json!({"labels": {"app.kubernetes.io/instance": "kafka"}})), None);
        let owned =
            json!({"ownerReferences": [{"apiVersion": "v1", "kind": "App", "name": "a", "uid": "u"}]});
        assert_eq!(managed(owned), None, "an owner that does not control it");
    }
}

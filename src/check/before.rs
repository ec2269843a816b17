//! Before the installation: is the API server new enough, and may this account install?

use futures::future::join_all;
use k8s_openapi::{
    api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{Api, api::PostParams};

use super::findings::Category;
use crate::{cli::cluster::Cluster, domain::innermost};

/// Validation rules that compare with the old object (CEL) are stable since then.
const OLDEST: u32 = 29;
const CRD: &str = "kafkaexternalaccesses.kafkaaccess.dev";
/// What an installation makes: group, resource, and whether that belongs to no namespace.
const MADE: [(&str, &str, bool); 8] = [
    ("apiextensions.k8s.io", "customresourcedefinitions", true),
    ("rbac.authorization.k8s.io", "clusterroles", true),
    ("rbac.authorization.k8s.io", "clusterrolebindings", true),
    ("rbac.authorization.k8s.io", "roles", false),
    ("rbac.authorization.k8s.io", "rolebindings", false),
    ("", "serviceaccounts", false),
    ("apps", "deployments", false),
    ("kafkaaccess.dev", "kafkaexternalaccesses", false),
];

/// What was found out.
pub async fn categories(cluster: &Cluster) -> Vec<Category> {
    let mut server = Category::new("kubernetes api");
    match cluster.client.apiserver_version().await {
        Ok(version) => {
            let minor: String = version.minor.chars().take_while(char::is_ascii_digit).collect();
            let text = format!("the API server answers: {}", version.git_version);
            match minor.parse::<u32>() {
                Ok(minor) if minor < OLDEST => {
                    server.bad(text, format!("Kubernetes 1.{OLDEST} or newer is needed."));
                }
                _ => server.good(text),
            }
        }
        Err(error) => {
            server.bad(
                format!("the API server does not answer: {}", innermost(&error)),
                "Check the kubeconfig and the way there.",
            );
            return vec![server];
        }
    }
    let crds: Api<CustomResourceDefinition> = Api::all(cluster.client.clone());
    match crds.get_opt(CRD).await {
        Ok(Some(_)) => server.good(format!("CustomResourceDefinition {CRD} is installed")),
        Ok(None) => server.warn(
            format!("CustomResourceDefinition {CRD} is not installed yet"),
            "The chart brings it. Without Helm: kafka-external-access crd | kubectl apply --server-side -f -",
        ),
        Err(error) => server.warn(
            format!(
                "whether CustomResourceDefinition {CRD} is installed cannot be told: {}",
                innermost(&error)
            ),
            "Let this account read it.",
        ),
    }
    vec![server, rights(cluster).await]
}

async fn rights(cluster: &Cluster) -> Category {
    let mut found = Category::new(format!("rights to install, in namespace {}", cluster.namespace));
    let asked = MADE.iter().map(|made| async move { (made, may_create(cluster, *made).await) });
    for ((group, resource, everywhere), answer) in join_all(asked).await {
        let name = if group.is_empty() { (*resource).to_owned() } else { format!("{resource}.{group}") };
        match answer {
            Ok(true) => found.good(format!("may create {name}")),
            // Without rights in the whole cluster there is an installation for one namespace.
            Ok(false) if *everywhere => found.warn(
                format!("may not create {name}"),
                "Have an administrator create it, or let the operator serve one namespace (--namespace).",
            ),
            Ok(false) => found.bad(format!("may not create {name}"), "Have that right granted."),
            Err(error) => found.warn(format!("whether {name} may be created cannot be told: {error}"), ""),
        }
    }
    found
}

async fn may_create(
    cluster: &Cluster,
    (group, resource, everywhere): (&str, &str, bool),
) -> Result<bool, String> {
    let attributes = ResourceAttributes {
        group: Some(group.to_owned()),
        resource: Some(resource.to_owned()),
        verb: Some("create".to_owned()),
        namespace: (!everywhere).then(|| cluster.namespace.clone()),
        ..ResourceAttributes::default()
    };
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(attributes),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let reviews: Api<SelfSubjectAccessReview> = Api::all(cluster.client.clone());
    let answer = reviews.create(&PostParams::default(), &review).await;
    answer.map(|review| review.status.is_some_and(|status| status.allowed)).map_err(|error| innermost(&error))
}

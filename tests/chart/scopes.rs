//! Which rights which scope leads to.

use serde_json::{Value, json};

use crate::helm::{CHART, Helm, of_kind, only, refusal, rendered};

fn names<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a str> {
    of_kind(objects, kind)
        .into_iter()
        .map(|object| object["metadata"]["namespace"].as_str().unwrap_or_default())
        .collect()
}

fn arguments(objects: &[Value]) -> Vec<&str> {
    let container = &only(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0];
    container["args"].as_array().expect("arguments").iter().filter_map(Value::as_str).collect()
}

fn served(objects: &[Value]) -> Vec<&str> {
    arguments(objects).into_iter().filter_map(|argument| argument.strip_prefix("--namespace=")).collect()
}

/// Rules of the operator, without those of the test pod.
fn rules<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    let hooked = |object: &&Value| object["metadata"]["annotations"]["helm.sh/hook"].is_null();
    let roles = of_kind(objects, kind).into_iter().filter(hooked);
    roles.flat_map(|role| role["rules"].as_array().expect("rules")).collect()
}

/// | scope | clusterId | cluster roles | roles |
/// |---|---|---|---|
/// | Cluster | | objects, classes, kube-system | lease |
/// | Cluster | given | objects, classes | lease |
/// | Namespaces | | kube-system | lease, and objects in each |
/// | Namespaces | given | none | lease, and objects in each |
/// | ReleaseNamespace | given | none | lease and objects |
#[test]
fn each_scope_has_rights_just_where_it_serves() {
    let cluster = rendered(&json!({}));
    assert_eq!(served(&cluster), [""; 0]);
    assert_eq!(rules(&cluster, "ClusterRole").len(), 11);
    assert_eq!(rules(&cluster, "Role").len(), 2, "the lease");
    let known = rendered(&json!({"clusterId": "c"}));
    assert_eq!(rules(&known, "ClusterRole").len(), 10);
    assert!(arguments(&known).contains(&"--cluster-id=c"));

    // The release's namespace among them, and one of them twice.
    let watch = json!({"scope": "Namespaces", "namespaces": ["b", "n", "a", "b"]});
    let listed = rendered(&json!({"watch": watch}));
    assert_eq!(served(&listed), ["a", "b", "n"]);
    let only_identity = json!([{
        "apiGroups": [""], "resources": ["namespaces"], "resourceNames": ["kube-system"], "verbs": ["get"]}]);
    assert_eq!(json!(rules(&listed, "ClusterRole")), only_identity);
    // The third `n` is the test pod's.
    assert_eq!(names(&listed, "RoleBinding"), ["a", "b", "n", "n", "n"]);
    let known = rendered(&json!({"watch": watch, "clusterId": "c"}));
    assert_eq!(names(&known, "ClusterRole"), [""; 0]);
    assert_eq!(names(&known, "ClusterRoleBinding"), [""; 0]);

    let own = rendered(&json!({"watch": {"scope": "ReleaseNamespace"}, "clusterId": "c"}));
    assert_eq!(served(&own), ["n"]);
    assert_eq!(names(&own, "ClusterRole"), [""; 0]);
    assert_eq!(rules(&own, "Role").len(), 8 + 2);
}

/// | resource | always | with rbac.restarts |
/// |---|---|---|
/// | StatefulSets | get, list, watch | patch |
/// | evictions | | create |
/// | ConfigMaps | get | create, update, delete |
#[test]
fn what_only_restarts_need_can_be_left_out() {
    let verbs = |restarts: bool, resource: &str| -> Vec<String> {
        let objects = rendered(&json!({"rbac": {"restarts": restarts}}));
        let all = rules(&objects, "ClusterRole").into_iter();
        let of_it = all.filter(|rule| rule["resources"] == json!([resource]));
        let verbs = of_it.flat_map(|rule| rule["verbs"].as_array().expect("verbs"));
        verbs.map(|verb| verb.as_str().expect("a verb").to_owned()).collect()
    };
    for (resource, always, more) in [
        ("statefulsets", vec!["get", "list", "watch"], vec!["patch"]),
        ("pods/eviction", vec![], vec!["create"]),
        ("configmaps", vec!["get"], vec!["create", "update", "delete"]),
    ] {
        assert_eq!(verbs(false, resource), always, "{resource}");
        assert_eq!(verbs(true, resource), [always, more].concat(), "{resource}");
    }
}

#[test]
fn no_scope_has_a_wildcard_or_lists_secrets() {
    let scopes = [
        json!({}),
        json!({"watch": {"scope": "Namespaces", "namespaces": ["a"]}}),
        json!({"watch": {"scope": "ReleaseNamespace"}, "clusterId": "c"}),
    ];
    for values in scopes {
        let objects = rendered(&values);
        for rule in [rules(&objects, "ClusterRole"), rules(&objects, "Role")].concat() {
            assert!(!rule.to_string().contains('*'), "{rule}");
            let verbs = |verb: &str| rule["verbs"].as_array().expect("verbs").contains(&json!(verb));
            let secrets = rule["resources"].as_array().expect("resources").contains(&json!("secrets"));
            assert!(!(secrets && (verbs("list") || verbs("watch"))), "{rule}");
        }
    }
}

#[test]
fn every_subject_is_the_account_of_the_pods() {
    let objects = rendered(&json!({"serviceAccount": {"create": false, "name": "mine"}}));
    let pod = &only(&objects, "Deployment")["spec"]["template"]["spec"];
    assert_eq!(pod["serviceAccountName"], "mine");
    let bindings = [of_kind(&objects, "ClusterRoleBinding"), of_kind(&objects, "RoleBinding")].concat();
    let of_operator: Vec<_> =
        bindings.iter().filter(|binding| binding["metadata"]["annotations"].is_null()).collect();
    assert_eq!(of_operator.len(), 2);
    for binding in of_operator {
        let account = json!([{"kind": "ServiceAccount", "name": "mine", "namespace": "n"}]);
        assert_eq!(binding["subjects"], account);
    }
}

#[test]
fn a_scope_that_cannot_work_is_refused_with_what_to_do() {
    let own = refusal(&json!({"watch": {"scope": "ReleaseNamespace"}}));
    assert!(own.contains("clusterId must be given") && own.contains("kubectl get namespace"), "{own}");
    let none = refusal(&json!({"watch": {"scope": "Namespaces"}}));
    assert!(none.contains("watch/namespaces") || none.contains("watch.namespaces"), "{none}");
    let both = refusal(&json!({"watch": {"scope": "Cluster", "namespaces": ["a"]}}));
    assert!(both.contains("watch/namespaces") || both.contains("watch.namespaces"), "{both}");
}

#[test]
fn without_rbac_the_notes_have_every_rule_that_the_roles_would_have() {
    let values = |create: bool| json!({"rbac": {"create": create, "kubelets": true}});
    let install = ["install", "r", CHART, "--namespace", "n", "--dry-run=client", "--values", "-"];
    let notes = Helm::new().text(&install, &values(false).to_string()).expect("a dry run");
    let notes = notes.split_once("No roles were made").expect("notes").1;
    let objects = rendered(&values(true));
    let roles = of_kind(&objects, "ClusterRole").into_iter().chain(of_kind(&objects, "Role"));
    // Those of the pod of `helm test` are its own.
    let roles = roles.filter(|role| role["metadata"]["annotations"].is_null());
    for rule in roles.flat_map(|role| role["rules"].as_array().expect("rules")) {
        for resource in rule["resources"].as_array().expect("resources") {
            let resource = resource.as_str().expect("a name");
            assert!(notes.contains(resource), "{resource} is not in\n{notes}");
        }
    }
}

#[test]
fn without_rbac_nothing_of_it_is_made() {
    let objects = rendered(&json!({"rbac": {"create": false}}));
    assert_eq!(names(&objects, "ClusterRole"), [""; 0]);
    assert_eq!(rules(&objects, "Role").len(), 0);
}

//! The operator's rights: every test runs it with those of the chart, and in the end they are compared with what the API
//! server's audit log says was used.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    sync::OnceLock,
};

use kube::config::Kubeconfig;
use lab::Lab;
use serde_json::Value;

use crate::installed::{CHART, RELEASE};

/// Where the lease is of the operators that tests start as processes.
const NAMESPACE: &str = "default";

/// Roles and bindings of the chart, for an operator that serves the whole cluster.
pub fn manifest(lab: &Lab) -> &'static str {
    static RENDERED: OnceLock<String> = OnceLock::new();
    RENDERED.get_or_init(|| {
        let args = ["template", RELEASE, CHART, "--namespace", NAMESPACE];
        let helm = lab.command("helm").args(args).args(["--show-only", "templates/rbac.yaml"]);
        helm.args(["--set", "rbac.kubelets=true"]).text().expect("the chart can be rendered")
    })
}

/// The account that the roles are bound to.
fn account() -> String {
    format!("system:serviceaccount:{NAMESPACE}:{RELEASE}")
}

/// A kubeconfig of that account.
pub fn kubeconfig(lab: &Lab) -> PathBuf {
    let file = lab.sandbox().paths().state().join("operator.kubeconfig");
    let mut config = Kubeconfig::read_from(&lab.facts().kubeconfig).expect("the lab's kubeconfig");
    for user in config.auth_infos.iter_mut().filter_map(|user| user.auth_info.as_mut()) {
        user.impersonate = Some(account());
    }
    let text = serde_saphyr::to_string(&config).expect("a kubeconfig is YAML");
    // Another replica may read it in this moment.
    let new = file.with_extension("new");
    fs::write(&new, text).expect("the lab's state can be written");
    fs::rename(&new, &file).expect("the lab's state can be written");
    file
}

/// One thing that may be done, or was: verb, group and resource with its subresource.
type Right = (String, String, String);

fn granted(lab: &Lab) -> BTreeSet<Right> {
    let objects: Vec<Value> = serde_saphyr::from_multiple(manifest(lab)).expect("manifests are YAML");
    let rules = objects.iter().flat_map(|object| object["rules"].as_array().into_iter().flatten());
    let words = |rule: &Value, key: &str| -> Vec<String> {
        let words = rule[key].as_array().expect("a list").iter();
        words.map(|word| word.as_str().expect("a word").to_owned()).collect()
    };
    let mut rights = BTreeSet::new();
    for rule in rules {
        for group in words(rule, "apiGroups") {
            for resource in words(rule, "resources") {
                let verbs = words(rule, "verbs").into_iter();
                rights.extend(verbs.map(|verb| (verb, group.clone(), resource.clone())));
            }
        }
    }
    rights
}

/// The API server's record, older parts of it included.
fn audit_logs(current: &Path) -> Vec<PathBuf> {
    let stem = current.file_stem().expect("a name").to_string_lossy().into_owned();
    let entries = fs::read_dir(current.parent().expect("a folder")).expect("the folder of logs");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&stem)))
        .collect()
}

/// What operators asked for, and what of it was refused for want of a right.
fn used(log: &Path, used: &mut BTreeSet<Right>, refused: &mut BTreeSet<Right>) {
    let name = format!(":{RELEASE}\"");
    let file = fs::File::open(log).expect("the audit log");
    for line in BufReader::new(file).lines() {
        let line = line.expect("a line");
        if !line.contains(&name) {
            continue;
        }
        // The last line may be half written.
        let Ok(event) = serde_json::from_str::<Value>(&line) else { continue };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let who = [&event["impersonatedUser"]["username"], &event["user"]["username"]].map(text);
        let Some(who) = who.iter().find(|who| who.starts_with("system:serviceaccount:")) else { continue };
        if !who.ends_with(&format!(":{RELEASE}")) {
            continue;
        }
        let of = &event["objectRef"];
        let subresource = text(&of["subresource"]);
        let resource = text(&of["resource"]);
        let resource = if subresource.is_empty() { resource } else { format!("{resource}/{subresource}") };
        let right = (text(&event["verb"]), text(&of["apiGroup"]), resource);
        match event["annotations"]["authorization.k8s.io/decision"].as_str() {
            Some("allow") => drop(used.insert(right)),
            // An uninstalled chart's roles are gone a moment before its pods are.
            _ if *who == account() => drop(refused.insert(right)),
            _ => {}
        }
    }
}

#[test]
#[ignore = "after all the others: it is about what they did"]
fn the_chart_grants_what_the_operator_used_and_nothing_else() {
    let (mut all, mut refused) = (BTreeSet::new(), BTreeSet::new());
    let mut rights = None;
    for paths in lab::shared_labs() {
        let lab = Lab::attach_at(&paths).expect("the labs that the tests used");
        rights.get_or_insert_with(|| granted(&lab));
        audit_logs(&lab.facts().audit_log).iter().for_each(|log| used(log, &mut all, &mut refused));
    }
    // An API server that has just started refuses for a moment what it allows for the rest of its life.
    let refused: Vec<_> = refused.difference(&all).collect();
    assert_eq!(refused, Vec::<&Right>::new(), "asked for without the right");
    let granted = rights.expect("a lab");
    let unused: Vec<_> = granted.difference(&all).collect();
    assert_eq!(unused, Vec::<&Right>::new(), "granted and never used");
    let more: Vec<_> = all.difference(&granted).collect();
    assert_eq!(more, Vec::<&Right>::new(), "used by a right that is not the chart's");
}

//! The dashboard, as Grafana's sidecar finds it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::helm::{of_kind, only, rendered};

const FILE: &str = "kafka-external-access.json";

fn dashboard(values: Value) -> (Value, Value) {
    let objects = rendered(&json!({"grafanaDashboard": values}));
    let map = only(&objects, "ConfigMap").clone();
    let text = map["data"][FILE].as_str().expect("a dashboard");
    let dashboard = serde_json::from_str(text).expect("a dashboard is JSON");
    (map, dashboard)
}

#[test]
fn the_dashboard_is_there_on_request_and_has_the_label_of_the_sidecar() {
    assert_eq!(of_kind(&rendered(&json!({})), "ConfigMap").len(), 0);
    let (map, _) = dashboard(json!({"enabled": true}));
    assert_eq!(map["metadata"]["labels"]["grafana_dashboard"], "1");
    assert_eq!(map["metadata"]["namespace"], "n");
    let (map, _) = dashboard(json!({
        "enabled": true, "namespace": "monitoring",
        "labels": {"find": "me"}, "annotations": {"grafana_folder": "Kafka"},
    }));
    assert_eq!(map["metadata"]["labels"]["find"], "me");
    assert_eq!(map["metadata"]["annotations"]["grafana_folder"], "Kafka");
    assert_eq!(map["metadata"]["namespace"], "monitoring");
}

#[test]
fn the_dashboard_is_what_the_file_says() {
    let committed = include_str!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/charts/kafka-external-access/files/dashboards/kafka-external-access.json"
    ));
    let (_, dashboard) = dashboard(json!({"enabled": true}));
    assert_eq!(dashboard, serde_json::from_str::<Value>(committed).expect("JSON"));
}

/// Squares of the grid that a panel covers.
fn covers(place: &Value) -> impl Iterator<Item = (u64, u64)> {
    let number = |key: &str| place[key].as_u64().expect("a number");
    let (x, y, width, height) = (number("x"), number("y"), number("w"), number("h"));
    assert!(x + width <= 24, "Grafana's grid has 24 columns");
    (x..x + width).flat_map(move |x| (y..y + height).map(move |y| (x, y)))
}

#[test]
fn every_panel_has_a_place_a_title_and_queries_of_the_chosen_prometheus() {
    let (_, dashboard) = dashboard(json!({"enabled": true}));
    let panels = dashboard["panels"].as_array().expect("panels");
    let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().expect("a number")), "{panel}");
        let title = panel["title"].as_str().expect("a title");
        assert!(covers(&panel["gridPos"]).all(|square| taken.insert(square)), "{title} lies on another");
        if panel["type"] == "row" {
            continue;
        }
        let targets = panel["targets"].as_array().expect("queries");
        assert!(!targets.is_empty(), "{title}");
        for target in targets {
            assert_eq!(
                target["datasource"],
                json!({"type": "prometheus", "uid": "${datasource}"}),
                "{title}"
            );
            assert!(target["expr"].as_str().is_some_and(|query| !query.is_empty()), "{title}");
        }
    }
    let variables = dashboard["templating"]["list"].as_array().expect("variables");
    let names: Vec<_> = variables.iter().map(|variable| variable["name"].as_str().expect("a name")).collect();
    assert_eq!(names, ["datasource", "namespace", "name"]);
}

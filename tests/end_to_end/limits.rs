//! How much an address may carry, measured through it.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use kafka_external_access::{
    api::{BrokerBandwidth, BrokerStatus},
    kubernetes::{
        Kubernetes, KubernetesFault,
        api::{KubeApi, client},
    },
};
use lab::kubernetes::NODE;
use serde_json::{Value, json};

use crate::world::{Background, NAMESPACE, READY, World, in_lab};

const RECORD: usize = 1_000;
/// On the wire a segment of 1448 bytes has 66 bytes of headers.
const HEADERS: f64 = 1514.0 / 1448.0;

/// Mbit/s on the wire while the virtual machine produces to one partition: of a long run what it has more than a short
/// one, so that the start of the client and the burst that the policy allows do not count.
fn produced(world: &World, server: &str, topic: &str) -> f64 {
    let (short, long) = (2_000, 26_000);
    let more = taken(world, server, topic, long).saturating_sub(taken(world, server, topic, short));
    ((long - short) * RECORD * 8) as f64 / 1e6 * HEADERS / more.as_secs_f64()
}

/// How long the virtual machine takes for so many records.
fn taken(world: &World, server: &str, topic: &str, count: usize) -> Duration {
    let records = format!("{}\n", "x".repeat(RECORD - 1)).repeat(count);
    let vm = world.lab.vm().expect("the virtual machine");
    let start = Instant::now();
    let settings = ["-X", "acks=1", "-X", "linger.ms=20", "-X", "batch.num.messages=400"];
    vm.command("kcat")
        .args(["-P", "-b", server, "-t", topic, "-p", "0"])
        .args(settings)
        .text_with_input(records.as_bytes())
        .expect("the records are accepted");
    start.elapsed()
}

/// The first of nine measurements within 10 % of the limit, else the last: what else the machine does at the moment
/// spoils one, and does not make nine alike.
fn measured(limit: f64, measure: impl Fn() -> f64) -> f64 {
    let mut seen = measure();
    for _ in 0..8 {
        if (limit * 0.9..limit * 1.1).contains(&seen) {
            break;
        }
        seen = measure();
    }
    seen
}

#[test]
fn a_limit_is_part_of_the_first_call_it_is_real_and_it_changes_live() {
    in_lab("limits", async |world| {
        world.apply_credential(&world.cloud.facts().demo.clone()).await;
        let policy =
            |name: &str, mbps: u32| world.admin.create_qos_policy(name, mbps * 1000).expect("a policy");
        let (slow, fast) = (policy("end-to-end-20", 20), policy("end-to-end-60", 60));
        world.start_operator();
        world.neutron.forget();
        world
            .create(|object| object["spec"]["addresses"]["bandwidth"] = json!({"qosPolicy": "end-to-end-20"}))
            .await;
        let object = world.condition("Ready", "True", READY).await;
        assert_eq!(world.neutron.mutations().len(), 3, "allocated, bound and limited by one call each");
        let brokers = object.status.clone().unwrap_or_default().brokers;
        let limits = |mbps| Some(mbps).map(|mbps| (Some(mbps), Some(mbps)));
        let told = |brokers: &[BrokerStatus]| -> Vec<_> {
            let limits = |told: &BrokerBandwidth| (told.limit_egress_mbps, told.limit_ingress_mbps);
            brokers.iter().map(|broker| broker.bandwidth.as_ref().map(limits)).collect()
        };
        assert_eq!(told(&brokers), [limits(20); 3]);
        assert!(world.ledger().values().all(|a| a.qos_policy_id.as_deref() == Some(&slow)));
        world.cloud.settle().expect("the router follows");
        let server = object.status.and_then(|status| status.bootstrap_servers).expect("bootstrap servers");
        let topic = format!("limits-{}", std::process::id());
        // The topic is made by the first record.
        world.vm_kcat(&["-L", "-b", &server, "-t", &topic]).expect("the topic is asked for");
        let seen = measured(20.0, || produced(world, &server, &topic));
        assert!((18.0..22.0).contains(&seen), "{seen:.1} Mbit/s with 20");

        let leads = world.broker_lives().await;
        world.neutron.forget();
        world.patch(json!({"spec": {"addresses": {"bandwidth": {"qosPolicy": "end-to-end-60"}}}})).await;
        world
            .eventually("the status tells the new limit", READY, async || {
                let status = world.access().await.and_then(|object| object.status).unwrap_or_default();
                if told(&status.brokers) == [limits(60); 3] { Ok(()) } else { Err(status.brokers) }
            })
            .await;
        assert_eq!(world.neutron.mutations().len(), 3, "one change for each address");
        assert!(world.ledger().values().all(|a| a.qos_policy_id.as_deref() == Some(&fast)));
        world.assert_bound(0..3).await;
        world.cloud.settle().expect("the router follows");
        let faster = measured(60.0, || produced(world, &server, &topic));
        println!("limit 20 Mbit/s: {seen:.1}; limit 60 Mbit/s: {faster:.1}");
        assert!((54.0..66.0).contains(&faster), "{faster:.1} Mbit/s with 60");
        assert_eq!(world.broker_lives().await, leads, "no broker was restarted");
    });
}

/// Names of the operator's policies in the cloud.
fn policies(world: &World) -> Vec<String> {
    let listed = world.admin.network("GET", "/qos/policies", None).expect("policies");
    let names = listed["policies"].as_array().expect("a list").iter().map(|policy| policy["name"].as_str());
    names.flatten().filter(|name| name.starts_with("kea-")).map(str::to_owned).collect()
}

#[test]
fn limits_in_mbit_per_s_are_kept_by_policies_of_the_operator_and_who_may_not_make_them_is_told() {
    in_lab("managed_limits", async |world| {
        let demo = world.cloud.facts().demo.clone();
        world.apply_credential(&demo).await;
        world.start_operator();
        world
            .create(|object| {
                object["spec"]["addresses"]["bandwidth"] = json!({"egressMbps": 40, "ingressMbps": 30})
            })
            .await;
        let object = world.reason("Programmed", "False", "QosPolicyNotPermitted", READY).await;
        let told = object.status.unwrap_or_default().conditions;
        let told = &told.iter().find(|c| c.type_ == "Programmed").expect("a condition").message;
        assert!(told.contains("\"kea-egress-40mbps-ingress-30mbps\""), "{told}");
        assert!(world.ledger().is_empty(), "no address without its limit");

        let project = (demo.project.as_str(), demo.project_id.as_str());
        let name = format!("end-to-end-manager-{}", std::process::id());
        let user = world.admin.create_user(&name, "password", project, &["member", "manager"]);
        let user = user.expect("a manager of the project");
        world.apply_credential(&user).await;
        let object = world.condition("Ready", "True", READY).await;
        assert_eq!(policies(world), ["kea-egress-40mbps-ingress-30mbps"], "one for all brokers");
        world.cloud.settle().expect("the router follows");
        let server = object.status.and_then(|status| status.bootstrap_servers).expect("bootstrap servers");
        let topic = format!("managed-limits-{}", std::process::id());
        world.vm_kcat(&["-L", "-b", &server, "-t", &topic]).expect("the topic is asked for");
        let seen = measured(30.0, || produced(world, &server, &topic));
        assert!((27.0..33.0).contains(&seen), "{seen:.1} Mbit/s with 30");

        world.patch(json!({"spec": {"addresses": {"bandwidth": {"ingressMbps": null}}}})).await;
        world
            .eventually("the former policy is gone", READY, async || match policies(world) {
                names if names == ["kea-egress-40mbps"] => Ok(()),
                names => Err(names),
            })
            .await;
        world.delete().await;
        assert_eq!(policies(world), Vec::<String>::new(), "nothing is left over");
        world.admin.identity("DELETE", &format!("/users/{}", user.user_id), None).expect("deleted");
    });
}

/// The end of its input ends the load.
fn stop(mut load: Background) {
    drop(load.0.stdin.take());
    load.0.wait().expect("the load ends");
}

/// The status of broker 2, once it is as wanted.
async fn used(world: &World, what: &str, wanted: impl Fn(&BrokerBandwidth) -> bool) -> Vec<BrokerStatus> {
    world
        .eventually(what, READY, async || {
            let brokers = world.access().await.and_then(|object| object.status).unwrap_or_default().brokers;
            let told = brokers.last().and_then(|broker| broker.bandwidth.clone()).unwrap_or_default();
            if wanted(&told) { Ok(brokers) } else { Err(brokers) }
        })
        .await
}

/// Brokers behind 20 Mbit/s, whose use is read as `metrics` says, and a virtual machine that sends to broker 2 until it is
/// stopped: at the limit that could take 400 seconds.
async fn loaded(world: &mut World, metrics: Value, name: &str) -> Background {
    world.apply_credential(&world.cloud.facts().demo.clone()).await;
    world.admin.create_qos_policy("end-to-end-20", 20_000).expect("a policy");
    world.start_operator();
    world
        .create(|object| {
            object["spec"]["addresses"]["bandwidth"] = json!({"qosPolicy": "end-to-end-20"});
            object["spec"]["metrics"] = metrics;
        })
        .await;
    let object = world.condition("Ready", "True", READY).await;
    let server = object.status.and_then(|status| status.bootstrap_servers).expect("bootstrap servers");
    let topic = format!("{name}-{}", std::process::id());
    let placed = ["--create", "--topic", &topic, "--replica-assignment", "2:1:0"];
    world.kafka_tool("kafka.admin.TopicCommand", &placed).expect("a topic is made");
    world.cloud.settle().expect("the router follows");
    let line = format!(
        "yes {} | head -c 1000000000 | kcat -P -b {server} -t {topic} -p 0 -X acks=1 -X linger.ms=20 -X batch.num.messages=400 & read -r _; kill $!",
        "x".repeat(RECORD - 1)
    );
    let vm = world.lab.vm().expect("the virtual machine");
    Background(vm.command("sh").args(["-c", &line]).stdin(Stdio::piped()).spawn().expect("the load starts"))
}

#[test]
fn the_use_of_bandwidth_is_read_from_the_brokers_and_told_when_it_nears_the_limit() {
    in_lab("usage", async |world| {
        let agent =
            "-javaagent:/opt/kafka/jmx/jmx_prometheus_javaagent.jar=9404:/opt/kafka/jmx/exporter.yaml";
        // Broker 2 alone restarts and shows its counters.
        let exporter = json!({"spec": {
            "updateStrategy": {"rollingUpdate": {"partition": 2}},
            "template": {"spec": {"containers": [{"name": "kafka", "env": [{"name": "KAFKA_OPTS", "value": agent}]}]}},
        }});
        world.change_brokers(exporter).await;
        let load = loaded(world, json!({"port": 9404}), "usage").await;
        let brokers = used(world, "the use nears the limit", |told| told.near_limit == Some(true)).await;
        let told = brokers[2].bandwidth.clone().expect("told");
        assert_eq!(told.limit_ingress_mbps, Some(20), "{told:?}");
        assert_eq!(told.source.as_deref(), Some("metrics"));
        // What the others copy goes over the internal listener.
        let both = |told: &BrokerBandwidth| (told.ingress_mbps, told.egress_mbps) == (Some(20), Some(0));
        used(world, "20 Mbit/s are told", both).await;
        let wide = world.lab.kubectl(&["-n", NAMESPACE, "get", "kea", "-o", "wide"]).expect("columns");
        assert!(wide.contains("20 Mbit/s"), "{wide}");

        let scraped = world.scrape();
        for metric in ["object_ready", "broker_received_bytes_total", "broker_limit_bits"] {
            let named = format!("kafka_external_access_{metric}{{namespace=\"ydata\",name=\"kafka\"");
            assert!(scraped.lines().any(|line| line.starts_with(&named)), "{metric}: {scraped}");
        }

        stop(load);
        let idle = |told: &BrokerBandwidth| told.near_limit.is_none() && told.ingress_mbps == Some(0);
        used(world, "the use ends", idle).await;
        let told = ["-n", NAMESPACE, "get", "events.events.k8s.io", "-o", "jsonpath={.items[*].reason}"];
        let told = world.lab.kubectl(&told).expect("events");
        for reason in ["LimitNear", "LimitNoLongerNear", "MetricsUnreadable"] {
            assert!(told.split(' ').any(|seen| seen == reason), "{reason} in {told}");
        }
    });
}

#[test]
fn the_traffic_of_pods_is_read_from_the_kubelet_where_brokers_show_no_counters() {
    in_lab("kubelet", async |world| {
        let load = loaded(world, json!({"source": "Kubelet"}), "kubelet").await;
        // What arrives goes on to two other brokers.
        let copied = |told: &BrokerBandwidth| {
            told.ingress_mbps.is_some_and(|mbps| mbps >= 2) && told.egress_mbps > told.ingress_mbps
        };
        let brokers = used(world, "the pod's traffic is told", copied).await;
        let told = brokers[2].bandwidth.clone().expect("told");
        assert_eq!((told.source.as_deref(), told.window.as_deref()), (Some("podEgress"), Some("15s")));
        assert_eq!(told.near_limit, None, "more than the address carries: {told:?}");
        let wide = world.lab.kubectl(&["-n", NAMESPACE, "get", "kea", "-o", "wide"]).expect("columns");
        assert!(wide.contains("Mbit/s (pods)"), "{wide}");
        let scraped = world.scrape();
        let sent =
            "kafka_external_access_pod_sent_bytes_total{namespace=\"ydata\",name=\"kafka\",broker=\"2\"}";
        assert!(scraped.lines().any(|line| line.starts_with(sent)), "{scraped}");
        stop(load);

        // Somebody without the right is told which.
        let mut config = kube::Config::from_custom_kubeconfig(
            kube::config::Kubeconfig::read_from(&world.lab.facts().kubeconfig).expect("the lab's kubeconfig"),
            &kube::config::KubeConfigOptions::default(),
        )
        .await
        .expect("the lab's kubeconfig");
        config.auth_info.impersonate = Some("somebody".to_owned());
        let somebody = KubeApi::new(client(config).expect("a client"), vec![]);
        let refused = somebody.node_stats(NODE).await.expect_err("no right");
        let KubernetesFault::Forbidden(text) = &refused.fault else { panic!("{refused}") };
        assert!(text.contains("nodes/proxy"), "{text}");
    });
}

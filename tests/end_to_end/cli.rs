//! What a person sees who runs Kafka: the plugin of kubectl, on a real cluster.

use std::{path::PathBuf, process::Output};

use serde_json::json;

use crate::world::{NAMESPACE, READY, World, in_lab};

/// A folder with the program under the names that kubectl looks for.
struct Plugin {
    folder: PathBuf,
}

impl Plugin {
    fn install() -> Self {
        let folder = std::env::temp_dir().join(format!("kafka-access-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        for name in ["kubectl-kafka_access", "kubectl_complete-kafka_access"] {
            let link = folder.join(name);
            let _ = std::fs::remove_file(&link);
            std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_kafka-external-access"), link).expect("a link");
        }
        Self { folder }
    }

    /// A shell line with kubectl and the plugin.
    fn shell(&self, world: &World, line: &str) -> Output {
        let line = format!("PATH={}:$PATH; {line}", self.folder.display());
        world.lab.command("sh").args(["-c", &line]).output().expect("it runs")
    }

    /// What `kubectl kafka-access ...` prints, and its exit code.
    fn run(&self, world: &World, args: &str) -> (String, Option<i32>) {
        let output = self.shell(world, &format!("kubectl kafka-access {args}"));
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (text, output.status.code())
    }
}

#[test]
fn the_plugin_of_kubectl_shows_checks_and_hands_out_what_it_promises() {
    in_lab("plugin", async |world| {
        let plugin = Plugin::install();
        let example = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/smallest.yaml");
        before_anything_exists(world, &plugin, example).await;

        world.apply_credential(&world.cloud.facts().demo.clone()).await;
        world.start_operator();
        world.create(|_| {}).await;
        let (text, code) = plugin.run(world, "status kafka -n ydata --wait --timeout 7m");
        assert_eq!(code, Some(0), "{text}");
        let object = world.condition("Reachable", "True", READY).await;
        let servers = object.status.and_then(|status| status.bootstrap_servers).expect("servers");
        let (text, code) = plugin.run(world, "status -n ydata");
        assert_eq!(code, Some(0), "{text}");
        assert_eq!(text.matches("√ broker ").count(), 3, "{text}");
        assert!(text.contains("Everything works.") && text.contains(&servers), "{text}");
        assert!(!text.contains('\u{1b}'), "no colours where there is no terminal: {text:?}");
        println!("{text}");
        let (json, _) = plugin.run(world, "status -A -o json");
        let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(json[0]["status"]["bootstrapServers"], json!(servers));

        hand_out(world, &plugin);
        look_inside(world, &plugin).await;
        assert_eq!(plugin.run(world, "plan kafka -n ydata").1, Some(0), "nothing is outstanding");
        for wrong in ["status other -n ydata", "bootstrap other -n ydata --for java", "report other -n ydata"]
        {
            let (text, code) = plugin.run(world, wrong);
            assert_eq!(code, Some(1), "{wrong}: {text}");
            assert!(text.contains("there is no KafkaExternalAccess ydata/other"), "{text}");
        }
        assert_eq!(plugin.run(world, "status --sooner").1, Some(2));
        let completed = plugin.shell(world, "kubectl __complete kafka-access boot 2>/dev/null");
        assert!(String::from_utf8_lossy(&completed.stdout).starts_with("bootstrap\n"), "{completed:?}");
        let read = plugin.shell(world, "kubectl kafka-access crd | true");
        assert!(read.stderr.is_empty(), "who reads may have enough: {read:?}");
        std::fs::remove_dir_all(&plugin.folder).expect("removed");
    });
}

/// What a check prints that finds nothing wrong; replicas may have to catch up first.
async fn passes(world: &World, plugin: &Plugin, args: &str) -> String {
    world
        .eventually(args, READY, async || match plugin.run(world, args) {
            (text, Some(0)) => Ok(text),
            (text, _) => Err(text),
        })
        .await
}

/// `check --pre`: rights, credential, network, quota, security groups and dialect, before there is an object.
async fn before_anything_exists(world: &World, plugin: &Plugin, example: &str) {
    let (text, code) = plugin.run(world, &format!("check --pre -n ydata -f {example}"));
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("× Secret openstack does not exist"), "{text}");
    world.apply_credential(&world.cloud.facts().demo.clone()).await;
    let text = passes(world, plugin, &format!("check --pre -n ydata -f {example}")).await;
    for found in [
        "√ may create customresourcedefinitions.apiextensions.k8s.io",
        "√ the credential is accepted",
        "√ 0 of 50 floating IPs of the quota are in use",
        "√ a router joins the pod network with the external network",
        "√ the pods' security groups admit TCP 9094 from outside",
        "√ the listener settings of the pod template are understood: INTERNAL on port 9092",
        "√ INTERNAL advertises names",
        "‼ no broker has EXTERNAL yet",
    ] {
        assert!(text.contains(found), "{found}: {text}");
    }
    println!("{text}");
    let project = &world.cloud.facts().demo.project_id;
    world.admin.set_floating_ip_quota(project, Some(2)).expect("the quota can be set");
    let (text, code) = plugin.run(world, &format!("check --pre -n ydata -f {example}"));
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("× 0 of 2 floating IPs of the quota are in use: room for 2 of 3"), "{text}");
    world.admin.set_floating_ip_quota(project, Some(50)).expect("the quota can be set");
    world.close_security_group();
    let (text, code) = plugin.run(world, &format!("check --pre -n ydata -f {example}"));
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("× kafka-0, kafka-1, kafka-2: no rule of the groups of port "), "{text}");
    world.reset_security_group();
}

/// `bootstrap` and `report`: what is printed works, and what is secret is not printed.
fn hand_out(world: &World, plugin: &Plugin) {
    let (servers, _) = plugin.run(world, "bootstrap kafka -n ydata --for librdkafka");
    let servers = servers.lines().find_map(|line| line.strip_prefix("bootstrap.servers=")).expect("servers");
    let program = env!("CARGO_BIN_EXE_kafka-external-access");
    let checked = world.vm_shell(&format!("{program} check --bootstrap {servers}"));
    let text = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success(), "{checked:?}");
    assert!(text.starts_with("seen from vm (203.0.113.200)\n  √ broker 0 at "), "{text}");
    assert!(text.contains("√ every broker is reachable and is who it should be"), "{text}");
    println!("{text}");
    let (kcat, code) = plugin.run(world, "bootstrap kafka -n ydata --for kcat");
    assert_eq!(code, Some(0), "{kcat}");
    let listed = world.vm_shell(&kcat);
    assert_eq!(String::from_utf8_lossy(&listed.stdout).matches("\n  broker ").count(), 3, "{listed:?}");
    // The Java client refuses a file that it does not understand, and warns of keys that it does not know.
    let (java, _) = plugin.run(world, "bootstrap kafka -n ydata --for java");
    let write = ["-n", NAMESPACE, "exec", "-i", "client", "--", "sh", "-c", "cat > /tmp/client.properties"];
    world.lab.command("kubectl").args(write).text_with_input(java.as_bytes()).expect("a file in the pod");
    let servers = java.lines().find_map(|line| line.strip_prefix("bootstrap.servers=")).expect("servers");
    let with_file = ["--command-config", "/tmp/client.properties"];
    let told = world.kafka_tool_at(servers, "kafka.admin.BrokerApiVersionsCommand", &with_file);
    let told = told.expect("the Java client takes the file");
    assert_eq!(told.matches("isFenced: false").count().max(told.matches("(id: ").count()), 3, "{told}");
    let (druid, _) = plugin.run(world, "bootstrap kafka -n ydata --for druid --topic orders");
    let druid: serde_json::Value = serde_json::from_str(&druid).expect("JSON");
    assert_eq!(druid["spec"]["ioConfig"]["topic"], json!("orders"));

    let secret = world.lab.kubectl(&[
        "-n",
        NAMESPACE,
        "get",
        "secret",
        "openstack",
        "-o",
        "jsonpath={.data.clouds\\.yaml}",
    ]);
    let secret = secret.expect("the Secret");
    let password = &world.cloud.facts().demo.password;
    let (report, code) = plugin.run(world, "report kafka -n ydata");
    assert_eq!(code, Some(0), "{report}");
    assert!(!report.contains(password.as_str()) && !report.contains(secret.trim()), "no content of a Secret");
    for kind in ["kind: KafkaExternalAccess", "kind: StatefulSet", "kind: Pod", "reason: Allocated"] {
        assert!(report.contains(kind), "{kind}: {report}");
    }
}

/// `check NAME`: topics that would not outlive a broker, each with what to do.
async fn look_inside(world: &World, plugin: &Plugin) {
    let text = passes(world, plugin, "check kafka -n ydata").await;
    assert!(
        text.contains("√ every broker has EXTERNAL") && text.contains("√ nothing is outstanding"),
        "{text}"
    );
    let topic = |name: &str, settings: &[&str]| {
        let create = ["--create", "--topic", name, "--partitions", "1"];
        world
            .kafka_tool("kafka.admin.TopicCommand", &[&create[..], settings].concat())
            .expect("a topic is made");
    };
    topic("alone", &["--replication-factor", "1"]);
    topic("tight", &["--replication-factor", "3", "--config", "min.insync.replicas=3"]);
    topic("loose", &["--replication-factor", "3", "--config", "min.insync.replicas=1"]);
    let warnings = [
        ("‼ one replica only: alone", "Add replicas"),
        ("while one broker is away (replicas <= min.insync.replicas): tight", "Add a replica, or set"),
        ("on one broker only (min.insync.replicas 1): loose", "Set min.insync.replicas: 2"),
    ];
    // Warnings are no failure. The broker that is asked may hear of the topics a little later.
    let told = async || match plugin.run(world, "check kafka -n ydata") {
        (text, Some(0)) if warnings.iter().all(|(found, _)| text.contains(found)) => Ok(text),
        (text, _) => Err(text),
    };
    let text = world.eventually("each topic has its warning", READY, told).await;
    for (found, remedy) in warnings {
        let line =
            text.lines().position(|line| line.contains(found)).unwrap_or_else(|| panic!("{found}: {text}"));
        assert!(text.lines().nth(line + 1).is_some_and(|fix| fix.contains(remedy)), "{remedy}: {text}");
    }
    println!("{text}");
    for name in ["alone", "tight", "loose"] {
        world
            .kafka_tool("kafka.admin.TopicCommand", &["--delete", "--topic", name])
            .expect("a topic is removed");
    }
}

//! A virtual machine that reaches pods and cannot look their names up: no address is wanted, and its hosts file is kept.

use std::{path::Path, process::Output};

use kafka_external_access::api::KafkaExternalAccess;
use lab::cloud::SecurityRule;
use serde_json::json;

use crate::world::{Background, NAMESPACE, READY, World, describe, in_lab};

pub const BOOTSTRAP: &str = "kafka-0.kafka-headless.ydata.svc:9092,kafka-1.kafka-headless.ydata.svc:9092,kafka-2.kafka-headless.ydata.svc:9092";
/// Odd on purpose: another mode and owner than usual, no line feed at the end, bytes that are no text.
const ODD: &str = r"printf '127.0.0.1 localhost\n# \377 \t kept\r\n10.9.8.7 other.example.com' > /etc/hosts; chmod 640 /etc/hosts; chown 1234:4321 /etc/hosts";

struct Vm<'a> {
    world: &'a World,
    kubeconfig: &'a Path,
}

impl Vm<'_> {
    fn command(&self, args: &[&str]) -> lab::Command {
        let vm = self.world.lab.vm().expect("the virtual machine");
        let program = env!("CARGO_BIN_EXE_kafka-external-access");
        vm.command(program).args(["hosts", "ydata/kafka"]).args(args).env("KUBECONFIG", self.kubeconfig)
    }

    fn hosts(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("it runs")
    }

    /// Content, mode and owner of the hosts file, in hexadecimal.
    fn file(&self) -> String {
        let output = self.world.vm_shell("stat -c '%a %u:%g' /etc/hosts; od -An -tx1 /etc/hosts");
        String::from_utf8(output.stdout).expect("text")
    }
}

fn pairs(object: &KafkaExternalAccess) -> Vec<String> {
    object.status.clone().unwrap_or_default().hosts
}

/// Three pairs, none of them among `before`.
pub async fn all_moved(world: &World, before: &[String]) -> Vec<String> {
    world
        .eventually("the brokers answer at their new addresses", READY, async || {
            let object = world.access().await.ok_or("the object does not exist")?;
            let now = pairs(&object);
            let moved = now.len() == 3 && !now.iter().any(|pair| before.contains(pair));
            if moved { Ok(now) } else { Err(describe(&object)) }
        })
        .await
}

/// A new client on the machine is told of all three, by their internal names.
pub async fn all_by_name(world: &World) {
    let names: Vec<String> = BOOTSTRAP.split(',').map(str::to_owned).collect();
    world.vm_lists(BOOTSTRAP, &names).await;
}

async fn start(world: &mut World) -> Vec<String> {
    world.start_operator();
    without_addresses(world).await
}

/// Makes an object without addresses, on a network where the machine reaches pods, and waits for its pairs.
pub async fn without_addresses(world: &World) -> Vec<String> {
    world.cloud.set_machine_to_pods(true).expect("the way to pods can be switched");
    let group = &world.cloud.facts().security_group_id;
    world.demo.add_rule(group, &SecurityRule::tcp(9092)).expect("a rule can be added");
    world
        .create(|object| {
            let spec = object["spec"].as_object_mut().expect("a spec");
            spec.retain(|field, _| field == "kafka");
        })
        .await;
    let object = world.condition("Ready", "True", READY).await;
    assert_eq!(object.status.as_ref().and_then(|s| s.bootstrap_servers.as_deref()), Some(BOOTSTRAP));
    assert!(!crate::world::held(&object), "nothing is held, so nothing holds the object");
    pairs(&object)
}

#[test]
fn a_machine_that_reaches_pods_but_not_names_follows_pods_that_move_within_one_refresh() {
    in_lab("hosts", async |world| {
        let lives = world.broker_lives().await;
        let first = start(world).await;
        let kubeconfig = world.vm_account("kafka-hosts", "hosts.yaml");
        world.assert_one_right("kafka-hosts");
        let vm = Vm { world, kubeconfig: &kubeconfig };
        assert!(world.vm_shell(ODD).status.success());
        let original = vm.file();
        assert_eq!(vm.hosts(&["--check"]).status.code(), Some(1), "there is no block yet");
        let once = vm.hosts(&["--once"]);
        assert!(once.status.success(), "{once:?}");
        assert_eq!(String::from_utf8_lossy(&once.stdout).lines().count(), 3, "three new pairs: {once:?}");
        assert_eq!(vm.hosts(&["--check"]).status.code(), Some(0));
        assert!(vm.hosts(&["--once"]).stdout.is_empty(), "nothing is said where nothing changes");
        all_by_name(world).await;

        // A client that runs all the time, and every pod moves.
        let topic = format!("moves-{}", std::process::id());
        let create = ["--create", "--topic", &topic, "--partitions", "1", "--replication-factor", "3"];
        world.kafka_tool("kafka.admin.TopicCommand", &create).expect("a topic is made");
        let machine = world.lab.vm().expect("the virtual machine");
        let received = world.own_file("received");
        // `-E`: kcat itself would end when no broker can be reached; the client library goes on. An attempt towards an
        // address that is gone lasts 30 s unless told otherwise.
        let patience = "-X socket.connection.setup.timeout.ms=5000 -X reconnect.backoff.max.ms=1000";
        let reader = format!(
            "exec kcat -C -E -u -q {patience} -b {BOOTSTRAP} -t {topic} -o beginning > {}",
            received.display()
        );
        let reader = machine.command("sh").args(["-c", &reader]).spawn().expect("kcat runs");
        let reader = Background(reader);
        let seen = |what: &'static str| {
            let received = received.clone();
            async move {
                std::fs::read_to_string(&received)
                    .unwrap_or_default()
                    .contains(what)
                    .then_some(())
                    .ok_or(what)
            }
        };
        send(world, &topic, "before");
        world.eventually("the reader has the first record", READY, async || seen("before").await).await;
        world
            .lab
            .kubectl(&["-n", NAMESPACE, "delete", "pod", "-l", "app=kafka"])
            .expect("pods can be deleted");
        let moved = all_moved(world, &first).await;
        let behind = vm.hosts(&["--check"]);
        assert_eq!(behind.status.code(), Some(1), "the file is behind: {behind:?}");
        let at = std::time::Instant::now();
        let once = vm.hosts(&["--once"]);
        assert!(once.status.success(), "{once:?}");
        all_by_name(world).await;
        println!("a new client works {:?} after the refresh began", at.elapsed());
        send(world, &topic, "after");
        world.eventually("the reader goes on by itself", READY, async || seen("after").await).await;
        println!("the running client has recovered {:?} after the refresh began", at.elapsed());
        drop(reader);
        std::fs::remove_file(&received).expect("removed");
        assert!(pairs(&world.access().await.expect("the object")) == moved);

        let output = vm.hosts(&["--remove"]);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(vm.file(), original, "every byte, mode and owner");
        assert_ne!(world.broker_lives().await, lives, "the pods are new ones");
        assert_eq!(world.neutron.calls().len(), 0, "no call to the cloud");
        world.delete().await;
        world.remove_vm_account("kafka-hosts", &kubeconfig);
    });
}

fn send(world: &World, topic: &str, text: &str) {
    let vm = world.lab.vm().expect("the virtual machine");
    let args = ["-P", "-b", BOOTSTRAP, "-t", topic, "-X", "request.required.acks=-1"];
    vm.command("kcat").args(args).text_with_input(format!("{text}\n").as_bytes()).expect("a record is sent");
}

#[test]
fn while_the_api_server_is_away_the_file_stays_and_the_age_of_its_data_is_told() {
    in_lab("hosts_alone", async |world| {
        start(world).await;
        let kubeconfig = world.vm_account("kafka-hosts", "hosts.yaml");
        let vm = Vm { world, kubeconfig: &kubeconfig };
        let mut away: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(&kubeconfig).expect("a kubeconfig")).expect("JSON");
        assert!(vm.hosts(&["--once"]).status.success());
        let file = vm.file();
        // Nobody listens there.
        away["clusters"][0]["cluster"]["server"] = json!("https://127.0.0.1:9");
        let nowhere = kubeconfig.with_extension("away");
        std::fs::write(&nowhere, away.to_string()).expect("a kubeconfig");
        let alone = Vm { world, kubeconfig: &nowhere };
        for mode in ["--check", "--once"] {
            let output = alone.hosts(&[mode]);
            assert_eq!(output.status.code(), Some(1), "{output:?}");
            assert!(
                String::from_utf8_lossy(&output.stderr).contains("the API server does not tell"),
                "{output:?}"
            );
        }
        let check = alone.hosts(&["--check"]);
        assert!(String::from_utf8_lossy(&check.stdout).contains("with what was known"), "{check:?}");
        // It goes on trying, and says once how old its data is.
        let said = world.own_file("said");
        let out = std::fs::File::create(&said).expect("a file");
        let agent = Background(alone.command(&["--interval", "1s"]).stdout(out).spawn().expect("it runs"));
        let told = async || {
            let text = std::fs::read_to_string(&said).unwrap_or_default();
            if text.contains("the file stays as it is, with what was known") { Ok(()) } else { Err(text) }
        };
        world.eventually("the age of the data is told", READY, told).await;
        assert_eq!(vm.file(), file, "names go on working");
        all_by_name(world).await;
        drop(agent);
        assert!(alone.hosts(&["--remove"]).status.success(), "the block goes without the API server");
        assert!(world.vm_table(BOOTSTRAP).is_err(), "without the block no name is known");
        std::fs::remove_file(&said).expect("removed");
        std::fs::remove_file(&nowhere).expect("removed");
        world.remove_vm_account("kafka-hosts", &kubeconfig);
    });
}

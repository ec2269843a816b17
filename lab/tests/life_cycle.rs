//! The lab starts from nothing, starts again, recovers from every way of being cut off, and leaves nothing behind. It runs beside a lab that is up: its state
//! folder is its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use lab::{Paths, Process};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

struct OwnLab {
    state_home: PathBuf,
}

impl OwnLab {
    fn new() -> Self {
        Self { state_home: Path::new(env!("CARGO_TARGET_TMPDIR")).join("life-cycle") }
    }

    fn paths(&self) -> Paths {
        Paths::below(&self.state_home, Path::new("/nonexistent"))
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
        command.env("XDG_STATE_HOME", &self.state_home).args(arguments);
        command.output().expect("the lab's program runs")
    }

    fn succeed(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "lab {arguments:?}: {error}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Part and pid, of those that are up.
    fn parts(&self) -> BTreeMap<String, i32> {
        let status = String::from_utf8_lossy(&self.run(&["status"]).stdout).into_owned();
        let line = |line: &str| -> Option<(String, i32)> {
            let words: Vec<&str> = line.split_whitespace().collect();
            (words.get(1) == Some(&"up")).then(|| (words[0].to_owned(), words[3].parse().expect("a pid")))
        };
        status.lines().filter_map(line).collect()
    }

    /// Name, identity and number of restarts of every pod.
    fn pods(&self) -> String {
        let columns = "custom-columns=NAME:.metadata.name,UID:.metadata.uid,RESTARTS:.status.containerStatuses[0].restartCount";
        self.succeed(&["kubectl", "get", "pods", "--all-namespaces", "--output", columns])
    }

    fn holder(&self) -> Process {
        let record =
            std::fs::read_to_string(self.paths().state().join("holder.json")).expect("the holder's record");
        serde_json::from_str(&record).expect("a process")
    }

    fn produce(&self, text: &str) {
        let command = format!("echo {text} | kcat -P -b {BOOTSTRAP} -t log");
        self.succeed(&["exec", "--", "sh", "-c", &command]);
    }

    /// The whole log. Brokers that have just registered may not have been told yet what they lead, and refuse.
    fn consume(&self) -> String {
        let arguments = ["exec", "--", "kcat", "-C", "-e", "-q", "-b", BOOTSTRAP, "-t", "log"];
        for _ in 0..120 {
            let output = self.run(&arguments);
            if output.status.success() {
                return String::from_utf8_lossy(&output.stdout).into_owned();
            }
            std::thread::sleep(Duration::from_secs(1));
        }
        self.succeed(&arguments)
    }
}

impl Drop for OwnLab {
    fn drop(&mut self) {
        self.run(&["down"]);
    }
}

const BOOTSTRAP: &str = "kafka-0.kafka-headless.ydata.svc:9092";

/// What a lab could leave on the machine.
#[derive(Debug, PartialEq, Eq)]
struct Machine {
    mounts: String,
    links: String,
    addresses: String,
    network_namespaces: String,
    firewall: String,
    kernel_settings: String,
}

impl Machine {
    fn look() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        Self {
            mounts: read("/proc/self/mountinfo"),
            links: printed("ip", &["-oneline", "link"]),
            addresses: printed("ip", &["-oneline", "-4", "address"]),
            network_namespaces: printed("ip", &["netns", "list"]),
            firewall: printed("nft", &["list", "ruleset"]),
            kernel_settings: [
                "vm/overcommit_memory",
                "kernel/panic",
                "kernel/panic_on_oops",
                "kernel/keys/root_maxkeys",
            ]
            .map(|name| read(&format!("/proc/sys/{name}")))
            .concat(),
        }
    }
}

/// Nothing where the program comes with the lab's first start: a machine without `nft` has no rules.
fn printed(program: &str, arguments: &[&str]) -> String {
    match Command::new(program).args(arguments).output() {
        Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => panic!("{program}: {error}"),
    }
}

/// Processes whose command line names the folder.
fn processes_of(folder: &Path) -> Vec<String> {
    let folder = folder.display().to_string();
    let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
    let lines = processes.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(&folder))
        .collect()
}

fn groups_of(name: &str) -> Vec<PathBuf> {
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup").expect("control groups").flatten();
    let places =
        hierarchies.map(|entry| entry.path().join(name)).chain([Path::new("/sys/fs/cgroup").join(name)]);
    places.filter(|path| path.exists()).collect()
}

#[test]
fn a_lab_starts_from_nothing_recovers_from_every_cut_and_leaves_nothing_behind() {
    let lab = OwnLab::new();
    lab.succeed(&["down"]);
    let before = Machine::look();

    lab.succeed(&["up"]);
    assert_eq!(Machine::look(), before, "a running lab shows on the machine");
    lab.produce("first");
    let parts = lab.parts();
    let pods = lab.pods();

    lab.succeed(&["up"]);
    assert_eq!(
        (lab.parts(), lab.pods()),
        (parts.clone(), pods.clone()),
        "up on a running lab changed something"
    );

    every_part_that_is_killed_comes_back_alone(&lab, &parts);
    a_broker_that_is_created_anew_keeps_its_log(&lab);
    a_lab_whose_holder_is_killed_starts_anew(&lab);

    lab.succeed(&["down"]);
    assert_eq!(Machine::look(), before, "down left something on the machine");
    assert_eq!(processes_of(lab.paths().state()), Vec::<String>::new());
    assert_eq!(groups_of(&lab.paths().cgroup()), Vec::<PathBuf>::new());
    assert!(!lab.paths().state().exists(), "the state folder is still there");
    let status = lab.run(&["status"]);
    assert!(
        !status.status.success() && String::from_utf8_lossy(&status.stderr).contains("no lab is running")
    );
    lab.succeed(&["down"]);
}

/// Parts that may end by themselves when etcd or the API server ends, or on what they see after it has come back.
const FOLLOWERS: [&str; 2] = ["kube-controller-manager", "kube-scheduler"];

fn every_part_that_is_killed_comes_back_alone(lab: &OwnLab, parts: &BTreeMap<String, i32>) {
    let pods = lab.pods();
    for name in parts.keys() {
        // Also one that has ended by itself since.
        lab.succeed(&["up"]);
        let mut others = lab.parts();
        let pid = others.remove(name).expect("the part is up");
        kill(Pid::from_raw(pid), Signal::SIGKILL).expect("the part runs");
        lab.succeed(&["up"]);
        let mut after = lab.parts();
        assert!(after.remove(name).is_some_and(|new| new != pid), "{name} is down");
        if ["etcd", "kube-apiserver"].contains(&name.as_str()) {
            for follower in FOLLOWERS {
                others.remove(follower);
                after.remove(follower);
            }
        }
        assert_eq!(after, others, "another part was restarted with {name}");
        assert_eq!(lab.pods(), pods, "pods were restarted with {name}");
    }
    assert_eq!(lab.consume(), "first\n");
}

fn a_broker_that_is_created_anew_keeps_its_log(lab: &OwnLab) {
    lab.succeed(&[
        "kubectl",
        "--namespace",
        "ydata",
        "delete",
        "pod",
        "kafka-0",
        "kafka-1",
        "kafka-2",
        "zookeeper-0",
    ]);
    lab.succeed(&["up"]);
    assert_eq!(lab.consume(), "first\n");
}

fn a_lab_whose_holder_is_killed_starts_anew(lab: &OwnLab) {
    let holder = lab.holder();
    kill(Pid::from_raw(holder.pid), Signal::SIGKILL).expect("the holder runs");
    lab.succeed(&["up"]);
    assert_ne!(lab.holder(), holder);
    lab.produce("second");
    assert_eq!(lab.consume(), "second\n", "a new lab starts empty");
}

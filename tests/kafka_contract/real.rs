//! Real brokers as processes, in a network namespace of the test's own thread: no port of the machine is used, and
//! nothing of it can be reached.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

const POM: &str = include_str!("../../lab/assets/kafka/pom.xml");
const LOG4J: &str = "log4j.rootLogger=INFO, stdout
log4j.appender.stdout=org.apache.log4j.ConsoleAppender
log4j.appender.stdout.layout=org.apache.log4j.PatternLayout
log4j.appender.stdout.layout.ConversionPattern=[%d] %p %m (%c)%n
";
/// A broker opens its ports within seconds; a loaded machine gets time.
const UP_WITHIN: Duration = Duration::from_secs(300);
const ZOOKEEPER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 2181);

/// A version of Kafka that the suite runs.
#[derive(Clone, Copy, Debug)]
pub struct Release {
    version: &'static str,
    logging: &'static str,
    slf4j: &'static str,
}

/// The oldest that is supported; logs to log4j 1, which it brings.
pub const WITH_ZOOKEEPER: Release = Release { version: "2.8.2", logging: "slf4j-log4j12", slf4j: "1.7.30" };
/// The last with ZooKeeper, and the one a migration goes through; logs to reload4j, which it brings.
pub const BOTH_MODES: Release = Release { version: "3.9.2", logging: "slf4j-reload4j", slf4j: "1.7.36" };
/// The newest.
pub const KRAFT: Release = Release { version: "4.4.0", logging: "slf4j-simple", slf4j: "1.7.36" };

impl Release {
    /// The folder of its jars, from Maven unless they are there.
    fn jars(self) -> PathBuf {
        let cache = lab::Cache::new(&lab::Paths::from_environment());
        let key = format!("kafka-jars-{}", self.version);
        let found = cache.get(&key, |folder| {
            let pom = [("kafka", self.version), ("logging", self.logging), ("slf4j", self.slf4j)]
                .iter()
                .fold(POM.to_owned(), |pom, (name, value)| pom.replace(&format!("{{{{{name}}}}}"), value));
            lab::write_file(&folder.join("pom.xml"), pom)?;
            let mut maven = Command::new("mvn");
            maven.args(["--quiet", "--batch-mode", "--file"]).arg(folder.join("pom.xml"));
            maven.args(["dependency:copy-dependencies", "-DincludeScope=runtime"]);
            lab::text(maven.arg(format!("-DoutputDirectory={}", folder.join("libs").display())))?;
            Ok(())
        });
        found.expect("Kafka's jars").join("libs")
    }
}

/// Processes of one Kafka; they end with it, also when a test panics.
pub struct RealKafka {
    folder: PathBuf,
    jars: PathBuf,
    zookeeper: Option<Process>,
    brokers: Vec<Option<Process>>,
}

impl RealKafka {
    /// An empty place for brokers, in a network of this thread alone. Everything that this thread starts or dials from
    /// now on is in that network.
    pub fn in_own_network(release: Release) -> Self {
        let jars = release.jars();
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)
            .expect("a network namespace (these tests run as root)");
        lab::text(Command::new("ip").args(["link", "set", "lo", "up"])).expect("loopback");
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("kafka-contract-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        Self { folder, jars, zookeeper: None, brokers: Vec::new() }
    }

    /// Starts ZooKeeper and waits for it.
    pub fn start_zookeeper(&mut self) {
        let data = self.folder.join("zookeeper");
        let properties = format!(
            "dataDir={}\nclientPort={}\nclientPortAddress={}\nadmin.enableServer=false\ntickTime=500\n",
            data.display(),
            ZOOKEEPER.port(),
            ZOOKEEPER.ip()
        );
        let file = self.write("zookeeper.properties", &properties);
        let main = "org.apache.zookeeper.server.quorum.QuorumPeerMain";
        let mut process = self.java("zookeeper", main, &[&file.display().to_string()]);
        let up = process.waits_until(|| TcpStream::connect(ZOOKEEPER).is_ok());
        assert!(up, "ZooKeeper does not start, see {}", process.log.display());
        self.zookeeper = Some(process);
    }

    /// Starts the next broker with these properties and waits until it is registered.
    pub fn start_broker(&mut self, properties: &str) {
        let number = self.brokers.len();
        let folder = self.folder.join(format!("data-{number}"));
        let mut text =
            format!("log.dirs={}\noffsets.topic.replication.factor=1\n{properties}", folder.display());
        if self.zookeeper.is_some() {
            text += &format!("zookeeper.connect={ZOOKEEPER}\nzookeeper.session.timeout.ms=10000\n");
        }
        self.write(&format!("broker-{number}.properties"), &text);
        self.brokers.push(None);
        assert!(self.start_again(number), "broker {number} does not start:\n{}", self.log(number));
    }

    /// Starts a stopped broker; false when it ends instead.
    pub fn start_again(&mut self, number: usize) -> bool {
        let file = self.folder.join(format!("broker-{number}.properties"));
        let before = self.starts(number);
        let mut process =
            self.java(&format!("broker-{number}"), "kafka.Kafka", &[&file.display().to_string()]);
        let up = process.waits_until(|| self.starts(number) > before);
        self.brokers[number] = Some(process);
        up
    }

    /// How often a broker has said that it is up, which it does once it is registered.
    fn starts(&self, number: usize) -> usize {
        let text = fs::read_to_string(self.folder.join(format!("broker-{number}.log"))).unwrap_or_default();
        let up = |line: &&str| {
            line.contains("started (kafka.server.KafkaServer)") || line.contains("Kafka Server started")
        };
        text.lines().filter(up).count()
    }

    /// Ends a broker as Kubernetes does: SIGTERM, so that it leaves the cluster.
    pub fn stop_broker(&mut self, number: usize) {
        if let Some(process) = self.brokers[number].take() {
            process.terminate();
        }
    }

    /// Formats the storage of the next broker (KRaft).
    pub fn format(&self, properties: &str, cluster: &str) {
        let number = self.brokers.len();
        let data = self.folder.join(format!("data-{number}"));
        let file = self.write("format.properties", &format!("log.dirs={}\n{properties}", data.display()));
        self.run("kafka.tools.StorageTool", &["format", "-t", cluster, "-c", &file.display().to_string()]);
    }

    /// Runs one of Kafka's tools to its end.
    pub fn run(&self, main: &str, args: &[&str]) {
        let mut process = self.java(main.rsplit('.').next().unwrap_or(main), main, args);
        let status = process.child.wait().expect("the tool's end");
        assert!(status.success(), "{main}: {status}, see {}", process.log.display());
    }

    /// The end of a broker's log.
    fn log(&self, number: usize) -> String {
        let text = fs::read_to_string(self.folder.join(format!("broker-{number}.log"))).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// Writes a file of this Kafka.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let file = self.folder.join(name);
        fs::write(&file, text).expect("a file");
        file
    }

    fn java(&self, name: &str, main: &str, args: &[&str]) -> Process {
        let log = self.folder.join(format!("{name}.log"));
        let out = fs::OpenOptions::new().create(true).append(true).open(&log).expect("a log");
        let log4j = self.write("log4j.properties", LOG4J);
        // The kernel ends it with this thread, should the test be killed.
        let mut command = Command::new("setpriv");
        command.args([
            "--pdeathsig",
            "KILL",
            "java",
            "-Xmx256m",
            "-XX:TieredStopAtLevel=1",
            "-XX:+UseSerialGC",
        ]);
        command.arg(format!("-Dlog4j.configuration=file:{}", log4j.display()));
        command.arg("-cp").arg(self.jars.join("*")).arg(main).args(args);
        let errors = out.try_clone().expect("a log");
        let child = command.current_dir(&self.folder).stdin(Stdio::null()).stdout(out).stderr(errors).spawn();
        Process { child: child.expect("java"), log }
    }
}

impl Drop for RealKafka {
    fn drop(&mut self) {
        self.brokers.clear();
        self.zookeeper = None;
        if std::thread::panicking() {
            eprintln!("logs are kept in {}", self.folder.display());
        } else {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// False when the process ends, or takes too long.
    fn waits_until(&mut self, mut ready: impl FnMut() -> bool) -> bool {
        let until = Instant::now() + UP_WITHIN;
        while Instant::now() < until && matches!(self.child.try_wait(), Ok(None)) {
            if ready() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        false
    }

    fn terminate(mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"));
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("a signal");
        let until = Instant::now() + Duration::from_secs(120);
        while Instant::now() < until && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

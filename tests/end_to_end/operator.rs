//! The operator as a process of its own in the lab's network, killed and started at will.

use std::{
    fs::File,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use lab::Lab;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::rights;

/// Health and metrics of the operator, and of a second replica.
const LISTEN: [&str; 2] = ["127.0.0.1:18080", "127.0.0.1:18081"];

/// The lease of operators whose take-over is not measured, the product's own: a machine that is busy for seconds ends no
/// leadership.
pub const LEASE: Duration = Duration::from_secs(15);

/// An operator that is told to end does so within this, a change under way included.
const END: Duration = Duration::from_secs(45);

/// What an operator shows at /metrics; nothing where none answers.
pub fn page(at: SocketAddr) -> String {
    answer(at, "/metrics")
}

/// Head and body of what an operator answers to a GET; nothing where none answers.
fn answer(at: SocketAddr, path: &str) -> String {
    ask(at, "GET", path, "")
}

/// Head and body of what an operator answers; nothing where none answers.
pub fn ask(at: SocketAddr, method: &str, path: &str, body: &str) -> String {
    let Ok(mut stream) = TcpStream::connect_timeout(&at, Duration::from_secs(1)) else {
        return String::new();
    };
    let head = format!("Host: {at}\r\nConnection: close\r\nContent-Length: {}", body.len());
    let request = format!("{method} {path} HTTP/1.1\r\n{head}\r\n\r\n{body}");
    let mut page = String::new();
    // A process that was stopped accepts and does not answer.
    let patient = stream.set_read_timeout(Some(Duration::from_secs(5)));
    let asked = patient
        .and_then(|()| stream.write_all(request.as_bytes()))
        .and_then(|()| stream.read_to_string(&mut page));
    if asked.is_ok() { page } else { String::new() }
}

/// Whether the operator with these metrics leads.
pub fn leads(page: &str) -> bool {
    // The whole line: the help of the metric begins like it.
    page.lines().any(|line| line == "kafka_external_access_leader 1")
}

/// A running operator; ended when it is dropped.
pub struct Operator {
    child: Child,
    log: PathBuf,
    listen: &'static str,
}

impl Operator {
    /// Starts it with the rights of the chart; its log is appended to `<target>/end-to-end/<test>.log`.
    pub fn start(lab: &Lab, test: &str) -> Self {
        Self::start_replica(lab, test, 0)
    }

    /// Starts the first or the second replica; they share the log.
    pub fn start_replica(lab: &Lab, test: &str, replica: usize) -> Self {
        Self::start_leased(lab, test, replica, LEASE)
    }

    /// Starts the first or the second replica with further arguments.
    pub fn start_with(lab: &Lab, test: &str, replica: usize, more: &[String]) -> Self {
        Self::spawn(lab, test, replica, LEASE, more)
    }

    /// Starts a replica that leads for this long at a time.
    pub fn start_leased(lab: &Lab, test: &str, replica: usize, lease: Duration) -> Self {
        Self::spawn(lab, test, replica, lease, &[])
    }

    fn spawn(lab: &Lab, test: &str, replica: usize, lease: Duration, more: &[String]) -> Self {
        let listen = LISTEN[replica];
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("end-to-end");
        std::fs::create_dir_all(&folder).expect("the target folder can be written");
        let log = folder.join(format!("{test}.log"));
        let file = File::options().create(true).append(true).open(&log).expect("the log can be written");
        let child = lab
            .command(env!("CARGO_BIN_EXE_kafka-external-access"))
            .args([
                "run",
                "--listen",
                listen,
                "--drift-interval",
                "5s",
                "--lease-duration",
                &format!("{}s", lease.as_secs()),
                "--metrics-interval",
                "3s",
            ])
            .args(more)
            .env("KUBECONFIG", rights::kubeconfig(lab))
            .env("RUST_LOG", "kafka_external_access=debug,info")
            .env("NODE_NAME", "lab-node")
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a file handle can be shared"))
            .stderr(file)
            .spawn()
            .expect("the operator starts");
        Self { child, log, listen }
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(mut self) {
        // An error means that it ended before: fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits until it leads; a former leader that was killed holds the lease until its end.
    pub fn wait_until_it_leads(&self) {
        let start = Instant::now();
        while !self.leads() {
            assert!(
                start.elapsed() < Duration::from_secs(120),
                "the operator does not lead\n{}",
                self.log_tail()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// What its own metric says.
    pub fn leads(&self) -> bool {
        leads(&self.scrape())
    }

    /// Its metrics; nothing where it does not answer.
    pub fn scrape(&self) -> String {
        page(self.listen.parse().expect("an address"))
    }

    /// Shows the log level, or sets it; head and body of the answer.
    pub fn log_level(&self, filter: Option<&str>) -> String {
        let at = self.listen.parse().expect("an address");
        match filter {
            Some(filter) => ask(at, "PUT", "/log-level", filter),
            None => answer(at, "/log-level"),
        }
    }

    /// Whether Kubernetes would call it ready.
    pub fn is_ready(&self) -> bool {
        answer(self.listen.parse().expect("an address"), "/readyz").starts_with("HTTP/1.1 200")
    }

    /// SIGSTOP, or SIGCONT.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a pid fits"));
        kill(pid, signal).expect("the operator exists");
    }

    /// SIGTERM; true when it ended with code 0 in time.
    pub fn terminate(&mut self) -> bool {
        self.signal(Signal::SIGTERM);
        let start = Instant::now();
        while start.elapsed() < END {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                return status.success();
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        false
    }

    /// Its whole log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("the log can be read")
    }

    /// The last lines of its log, for messages.
    pub fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().filter(|line| !line.contains("cloud call")).collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        // In order, so that the next one need not wait for the lease to end.
        if self.child.try_wait().ok().flatten().is_none() && !self.terminate() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

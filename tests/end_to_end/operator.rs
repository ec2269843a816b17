//! The operator as a process of its own in the lab's network, killed and started at will.

use std::{
    fs::File,
    io::{Read, Write},
    net::TcpStream,
    path::PathBuf,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use lab::Lab;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const LISTEN: &str = "127.0.0.1:18080";

/// A running operator; ended when it is dropped.
pub struct Operator {
    child: Child,
    log: PathBuf,
}

impl Operator {
    /// Starts it with the administrator's kubeconfig; its log is appended to `<target>/end-to-end/<test>.log`.
    pub fn start(lab: &Lab, test: &str) -> Self {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("end-to-end");
        std::fs::create_dir_all(&folder).expect("the target folder can be written");
        let log = folder.join(format!("{test}.log"));
        let file = File::options().create(true).append(true).open(&log).expect("the log can be written");
        let child = lab
            .command(env!("CARGO_BIN_EXE_kafka-external-access"))
            .args(["run", "--listen", LISTEN, "--drift-interval", "5s", "--lease-duration", "5s"])
            .env("RUST_LOG", "kafka_external_access=debug,info")
            .env("NODE_NAME", "lab-node")
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a file handle can be shared"))
            .stderr(file)
            .spawn()
            .expect("the operator starts");
        Self { child, log }
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(mut self) {
        // An error means that it ended before: fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits until it leads; a former leader that was killed holds the lease for its 5 s.
    pub fn wait_until_it_leads(&self) {
        let start = Instant::now();
        while !leads() {
            assert!(
                start.elapsed() < Duration::from_secs(30),
                "the operator does not lead\n{}",
                self.log_tail()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// SIGTERM; true when it ended with code 0 within `limit`.
    pub fn terminate(&mut self, limit: Duration) -> bool {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a pid fits"));
        kill(pid, Signal::SIGTERM).expect("the operator runs");
        let start = std::time::Instant::now();
        while start.elapsed() < limit {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                return status.success();
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        false
    }

    /// The last lines of its log, for messages.
    pub fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().filter(|line| !line.contains("cloud call")).collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }
}

/// What the operator's own metric says.
fn leads() -> bool {
    let Ok(mut stream) = TcpStream::connect(LISTEN) else { return false };
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {LISTEN}\r\nConnection: close\r\n\r\n");
    let mut page = String::new();
    let asked = stream.write_all(request.as_bytes()).and_then(|()| stream.read_to_string(&mut page));
    asked.is_ok() && page.contains("kafka_external_access_leader 1")
}

impl Drop for Operator {
    fn drop(&mut self) {
        // In order, so that the next one need not wait for the lease to end.
        if self.child.try_wait().ok().flatten().is_none() && !self.terminate(Duration::from_secs(12)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

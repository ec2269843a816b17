//! The operator as a process of its own in the lab's network, killed and started at will.

use std::{
    fs::File,
    path::PathBuf,
    process::{Child, Stdio},
    time::Duration,
};

use lab::Lab;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// A running operator; killed when it is dropped.
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
            .args(["run", "--listen", "127.0.0.1:18080"])
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
        self.end();
    }

    /// SIGTERM; true when it ended with code 0 within `limit`.
    pub fn terminate(mut self, limit: Duration) -> bool {
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
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    fn end(&mut self) {
        // An error means that it ended before: fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.end();
    }
}

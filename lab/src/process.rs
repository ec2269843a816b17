use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::error::{Context, LabError, Result, read_file, write_file};
use crate::sandbox::Sandbox;

const TAIL_LINES: usize = 20;
/// How long a killed process may take to end.
pub(crate) const END_LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(100);

/// One process on the machine, safe against a pid that was given to another process since.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// The pid as the machine sees it, not as the sandbox does.
    pub pid: i32,
    started: u64,
}

impl Process {
    /// The process that has this pid now.
    pub fn current(pid: u32) -> Result<Self> {
        let pid = i32::try_from(pid).map_err(std::io::Error::other).to(|| format!("use pid {pid}"))?;
        let stat = Stat::of(pid).ok_or(Errno::ESRCH).to(|| format!("look at process {pid}"))?;
        Ok(Self { pid, started: stat.started })
    }

    /// Whether it runs, and goes on running for all that is known: one that was killed and has not quite ended is not alive.
    #[must_use]
    pub fn alive(self) -> bool {
        self.stat().is_some_and(|stat| !stat.ended() && !stat.exiting) && !self.kill_pending()
    }

    /// Whether nothing of it runs any more, no thread either. A zombie is gone, although its parent has not taken note.
    #[must_use]
    pub fn gone(self) -> bool {
        let threads = || fs::read_dir(format!("/proc/{}/task", self.pid)).into_iter().flatten().count();
        self.stat().is_none_or(|stat| stat.ended() && threads() <= 1)
    }

    fn stat(self) -> Option<Stat> {
        Stat::of(self.pid).filter(|stat| stat.started == self.started)
    }

    /// proc(5): the signals that wait for the thread and for the process.
    fn kill_pending(self) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let pending = |line: &str| {
            line.strip_prefix("SigPnd:").or_else(|| line.strip_prefix("ShdPnd:")).map(str::to_owned)
        };
        let masks = status.lines().filter_map(|line| u64::from_str_radix(pending(line)?.trim(), 16).ok());
        masks.fold(0, |all, mask| all | mask) & (1 << (Signal::SIGKILL as u64 - 1)) != 0
    }

    /// Sends a signal; a process that is gone is fine.
    pub fn signal(self, signal: Signal) -> Result<()> {
        if !self.alive() {
            return Ok(());
        }
        match kill(Pid::from_raw(self.pid), signal) {
            Err(Errno::ESRCH) => Ok(()),
            other => other.to(|| format!("send {signal} to process {}", self.pid)),
        }
    }

    /// Asks it to end, and kills it when it has not ended within `grace`.
    pub fn stop(self, grace: Duration) -> Result<()> {
        self.signal(Signal::SIGTERM)?;
        if !self.gone_within(grace) {
            self.signal(Signal::SIGKILL)?;
            self.gone_within(END_LIMIT);
        }
        Ok(())
    }

    pub(crate) fn gone_within(self, limit: Duration) -> bool {
        let start = Instant::now();
        while !self.gone() && start.elapsed() < limit {
            sleep(Duration::from_millis(10));
        }
        self.gone()
    }

    /// Resident memory in bytes; 0 when it is gone.
    #[must_use]
    pub fn memory(self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        kib.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).map_or(0, |kib| kib * 1024)
    }
}

/// What proc(5) says of a process.
struct Stat {
    state: char,
    exiting: bool,
    /// In clock ticks after the start of the machine.
    started: u64,
}

impl Stat {
    fn of(pid: i32) -> Option<Self> {
        /// PF_EXITING of the kernel's flags: it is on its way out.
        const EXITING: u64 = 4;
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The command name stands in brackets and may hold spaces and brackets itself; the first field after it is number 3.
        let fields: Vec<&str> = text.get(text.rfind(')')? + 2..)?.split(' ').collect();
        let field = |number: usize| fields.get(number - 3).copied();
        Some(Self {
            state: field(3)?.chars().next()?,
            exiting: field(9)?.parse::<u64>().ok()? & EXITING != 0,
            started: field(22)?.parse().ok()?,
        })
    }

    fn ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }
}

/// Runs a command on the machine that must succeed, and gives back its standard output.
pub fn text(command: &mut Command) -> Result<String> {
    let line = format!("{command:?}").replace('"', "");
    let output = command.stdin(Stdio::null()).output().to(|| format!("run {line}"))?;
    successful(line, output)
}

/// The standard output of a command that must have succeeded.
pub(crate) fn successful(command: String, output: Output) -> Result<String> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let printed = [output.stdout, output.stderr].concat();
    Err(LabError::Program {
        command,
        outcome: outcome(output.status),
        output: last_lines(&String::from_utf8_lossy(&printed)),
    })
}

fn outcome(status: ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("ended with code {code}"),
        None => format!("was ended: {status}"),
    }
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

/// What a look at something that is not ready yet has shown.
pub enum Readiness {
    /// It can be used.
    Ready,
    /// Why it cannot be used yet.
    NotYet(String),
}

impl<T> From<Result<T>> for Readiness {
    fn from(result: Result<T>) -> Self {
        match result {
            Ok(_) => Self::Ready,
            Err(error) => Self::NotYet(error.to_string()),
        }
    }
}

/// Looks again and again until `look` finds it ready; an error after `limit`.
pub fn wait_until(what: &str, limit: Duration, mut look: impl FnMut() -> Readiness) -> Result<()> {
    let start = Instant::now();
    loop {
        match look() {
            Readiness::Ready => return Ok(()),
            Readiness::NotYet(last) if start.elapsed() >= limit => {
                return Err(LabError::Timeout { what: what.to_owned(), seconds: limit.as_secs(), last });
            }
            Readiness::NotYet(_) => sleep(POLL),
        }
    }
}

/// A part of the lab that runs in the background, inside the sandbox.
pub struct Daemon<'a> {
    sandbox: &'a Sandbox,
    name: String,
    program: PathBuf,
    args: Vec<String>,
    env: Vec<(String, String)>,
}

impl<'a> Daemon<'a> {
    /// `name` is how logs and errors call it. Its environment holds PATH, HOME and what `env` adds, nothing of the caller's.
    pub fn new(sandbox: &'a Sandbox, name: &str, program: impl Into<PathBuf>) -> Self {
        Self { sandbox, name: name.to_owned(), program: program.into(), args: Vec::new(), env: Vec::new() }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Adds a variable to its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// Starts it unless it runs. Does not wait until it is ready.
    pub fn start(&self) -> Result<Part> {
        if let Some(part) = Part::find(self.sandbox, &self.name) {
            if part.alive() {
                return Ok(part);
            }
            // Its ports are taken as long as one of its threads lives.
            part.process.gone_within(END_LIMIT);
        }
        let log = self.sandbox.paths().log(&self.name);
        let command = self
            .sandbox
            .command(&self.program)
            .clean_environment()
            .envs(self.env.clone())
            .args(&self.args)
            .current_dir("/")
            .own_group()
            .stdin(Stdio::null())
            .stdout(append(&log)?)
            .stderr(append(&log)?);
        let mut child = command.spawn()?;
        let process = Process::current(child.id())?;
        // Its end must be taken note of, else the sandbox cannot end while this process lives: see `Command::spawn`.
        std::thread::spawn(move || child.wait());
        let record = serde_json::to_string(&process)
            .map_err(std::io::Error::from)
            .to(|| "write a pid file".to_owned())?;
        write_file(&self.sandbox.paths().pid_file(&self.name), record)?;
        Ok(Part { name: self.name.clone(), process, log })
    }
}

pub(crate) fn append(log: &Path) -> Result<File> {
    if let Some(parent) = log.parent() {
        fs::create_dir_all(parent).to(|| format!("create {}", parent.display()))?;
    }
    OpenOptions::new().create(true).append(true).open(log).to(|| format!("open {}", log.display()))
}

/// A started part.
#[derive(Clone, Debug)]
pub struct Part {
    /// How logs and errors call it.
    pub name: String,
    /// Its process.
    pub process: Process,
    /// Its log file.
    pub log: PathBuf,
}

impl Part {
    /// The part of that name that was started last, alive or not.
    #[must_use]
    pub fn find(sandbox: &Sandbox, name: &str) -> Option<Self> {
        let record = read_file(&sandbox.paths().pid_file(name)).ok()?;
        Some(Self {
            name: name.to_owned(),
            process: serde_json::from_str(&record).ok()?,
            log: sandbox.paths().log(name),
        })
    }

    /// All parts that were started in this sandbox, by name.
    #[must_use]
    pub fn all(sandbox: &Sandbox) -> Vec<Self> {
        let folder = sandbox.paths().state().join("run");
        let files = fs::read_dir(folder).into_iter().flatten().flatten();
        let mut names: Vec<String> = files
            .filter_map(|file| Some(file.file_name().to_str()?.strip_suffix(".json")?.to_owned()))
            .collect();
        names.sort();
        names.iter().filter_map(|name| Self::find(sandbox, name)).collect()
    }

    /// Whether its process runs.
    #[must_use]
    pub fn alive(&self) -> bool {
        self.process.alive()
    }

    /// Waits until `look` finds it ready. The error names the part and shows the end of its log; a part that died is not waited for.
    pub fn wait_until(&self, limit: Duration, mut look: impl FnMut() -> Readiness) -> Result<()> {
        let mut died = false;
        let result = wait_until(&self.name, limit, || match look() {
            Readiness::NotYet(_) if !self.alive() => {
                died = true;
                Readiness::Ready
            }
            seen => seen,
        });
        match result {
            Ok(()) if died => Err(self.failed("ended before it was ready".to_owned())),
            Err(LabError::Timeout { seconds, last, .. }) => {
                Err(self.failed(format!("was not ready after {seconds} s ({last})")))
            }
            other => other,
        }
    }

    /// Asks it to end, and kills it after `grace`.
    pub fn stop(&self, grace: Duration) -> Result<()> {
        self.process.stop(grace)
    }

    /// The error of this part: the reason and the end of its log.
    #[must_use]
    pub fn failed(&self, reason: String) -> LabError {
        LabError::Part {
            part: self.name.clone(),
            reason,
            log: self.log.clone(),
            tail: last_lines(&String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_was_killed_is_not_alive_even_if_it_has_not_ended_yet() -> Result<()> {
        for _ in 0..100 {
            let mut child = Command::new("sleep").arg("60").spawn().to(|| "run sleep".to_owned())?;
            let process = Process::current(child.id())?;
            process.signal(Signal::SIGKILL)?;
            assert!(!process.alive());
            child.wait().to(|| "wait for sleep".to_owned())?;
        }
        Ok(())
    }

    #[test]
    fn a_process_is_alive_until_it_is_killed_and_reaped_or_not() -> Result<()> {
        let mut child = Command::new("sleep").arg("60").spawn().to(|| "run sleep".to_owned())?;
        let process = Process::current(child.id())?;
        assert!(process.alive());
        assert!(process.memory() > 0);
        process.stop(Duration::from_secs(5))?;
        assert!(!process.alive(), "a zombie is not alive");
        child.wait().to(|| "wait for sleep".to_owned())?;
        assert!(!process.alive());
        Ok(())
    }

    #[test]
    fn a_pid_that_another_process_has_now_is_not_the_same_process() -> Result<()> {
        let me = Process::current(std::process::id())?;
        let former = Process { started: me.started - 1, ..me };
        assert!(me.alive());
        assert!(!former.alive());
        Ok(())
    }

    #[test]
    fn a_failed_command_shows_what_it_printed() {
        let error = text(Command::new("sh").args(["-c", "echo told; echo why >&2; exit 3"]))
            .map(|_| ())
            .map_err(|e| e.to_string());
        assert_eq!(
            error,
            Err("`sh -c echo told; echo why >&2; exit 3` ended with code 3\ntold\nwhy".to_owned())
        );
    }
}

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ExitStatus, Output, Stdio};

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::Signal;

use crate::cache::remove_folder;
use crate::error::{Context, LabError, Result, read_file, write_file};
use crate::paths::Paths;
use crate::process::{self, END_LIMIT, Part, Process};
use crate::{cgroup, holder};

/// What the lab runs in: network, mount, process, IPC and host-name namespaces that exist as long as one process, the holder, lives. Nothing of it is
/// pinned on the machine: when the holder dies, every process in it is killed and its interfaces, mounts and firewall rules are gone.
#[derive(Clone, Debug)]
pub struct Sandbox {
    paths: Paths,
    holder: Process,
}

impl Sandbox {
    /// The sandbox that runs, if one does. One that is just ending is waited for.
    #[must_use]
    pub fn attach(paths: &Paths) -> Option<Self> {
        let holder: Process = serde_json::from_str(&read_file(&paths.holder()).ok()?).ok()?;
        if !holder.alive() {
            holder.gone_within(END_LIMIT);
        }
        holder.alive().then(|| Self { paths: paths.clone(), holder })
    }

    /// Starts a sandbox after removing what an earlier one, now dead, has left behind. `program` is the `lab` executable.
    pub fn start(paths: &Paths, program: &Path) -> Result<Self> {
        Self::remove_leftovers(paths)?;
        install(program, &paths.program())?;
        cgroup::create(&paths.cgroup())?;
        let mut child = in_thread(|| {
            let namespaces = CloneFlags::CLONE_NEWNET
                | CloneFlags::CLONE_NEWNS
                | CloneFlags::CLONE_NEWPID
                | CloneFlags::CLONE_NEWIPC
                | CloneFlags::CLONE_NEWUTS;
            unshare(namespaces).to(|| "make namespaces".to_owned())?;
            std::process::Command::new(paths.program())
                .arg(holder::SUBCOMMAND)
                .envs(paths.environment())
                .current_dir("/")
                .process_group(0)
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                // Not the caller's: who reads that to its end would wait as long as the lab lives.
                .stderr(process::append(&paths.log("sandbox"))?)
                .spawn()
                .to(|| "start the sandbox's first process".to_owned())
        })?;
        let holder = Process::current(child.id())?;
        let mut line = String::new();
        if let Some(output) = child.stdout.take() {
            BufReader::new(output)
                .read_line(&mut line)
                .to(|| "hear from the sandbox's first process".to_owned())?;
        }
        if line.trim() != holder::READY {
            child.wait().to(|| "wait for the sandbox's first process".to_owned())?;
            let part = Part { name: "sandbox".to_owned(), process: holder, log: paths.log("sandbox") };
            return Err(part.failed("ended before it was ready".to_owned()));
        }
        let record = serde_json::to_string(&holder)
            .map_err(std::io::Error::from)
            .to(|| "describe the holder".to_owned())?;
        write_file(&paths.holder(), record)?;
        Ok(Self { paths: paths.clone(), holder })
    }

    /// Ends every process of the sandbox at once, and with them all that it was.
    pub fn stop(self) -> Result<()> {
        self.holder.signal(Signal::SIGKILL)?;
        // The kernel ends the holder only after every other process of its namespace.
        if !self.holder.gone_within(END_LIMIT) {
            return Err(LabError::Timeout {
                what: "the end of the sandbox".to_owned(),
                seconds: END_LIMIT.as_secs(),
                last: format!("process {} lives", self.holder.pid),
            });
        }
        Self::remove_leftovers(&self.paths)
    }

    /// Removes what a sandbox that is dead has left: groups and files; all else died with it.
    pub(crate) fn remove_leftovers(paths: &Paths) -> Result<()> {
        cgroup::remove(&paths.cgroup())?;
        remove_folder(paths.state())
    }

    /// The same sandbox as a process in it sees it, which has namespaces of its own.
    pub(crate) fn of(&self, process: Process) -> Self {
        Self { paths: self.paths.clone(), holder: process }
    }

    /// Where its files are.
    #[must_use]
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// The process that holds the namespaces.
    #[must_use]
    pub fn holder(&self) -> Process {
        self.holder
    }

    /// A command that will run inside, in the caller's working directory and with the caller's environment less its proxies, which cannot be reached from
    /// inside, and with the variables by which the lab finds its files.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut inner = std::process::Command::new(program);
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.to_ascii_lowercase().ends_with("_proxy")) {
                inner.env_remove(name);
            }
        }
        if let Ok(folder) = std::env::current_dir() {
            inner.current_dir(folder);
        }
        inner.envs(self.paths.environment());
        Command { inner, holder: self.holder, paths: self.paths.clone() }
    }

    /// Moves the calling thread, and threads it starts from now on, into the sandbox's network. There is no way back: call it in a thread made for the purpose,
    /// before an asynchronous runtime is built in it.
    pub fn enter_network(&self) -> Result<()> {
        enter(self.holder, "net", CloneFlags::CLONE_NEWNET)
    }

    /// Memory of all its processes in bytes, shared pages counted once (proportional set size).
    #[must_use]
    pub fn memory(&self) -> u64 {
        // The holder's view of /proc shows the sandbox's processes, those of pods included, and no others.
        let processes = fs::read_dir(format!("/proc/{}/root/proc", self.holder.pid));
        processes
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| proportional_set_size(&entry.path()))
            .sum()
    }

    /// Runs `work` in a thread that is in the sandbox's network.
    pub fn in_network<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        in_thread(|| {
            self.enter_network()?;
            work()
        })
    }
}

/// Namespaces belong to threads: what must not come back to the caller happens in one of its own.
fn in_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| match scope.spawn(work).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

fn enter(holder: Process, namespace: &str, kind: CloneFlags) -> Result<()> {
    let file = File::open(format!("/proc/{}/ns/{namespace}", holder.pid))
        .to(|| format!("open the sandbox's {namespace} namespace"))?;
    setns(file, kind).to(|| format!("enter the sandbox's {namespace} namespace"))
}

fn enter_all(holder: Process) -> Result<()> {
    // setns(2): a thread that shares root and working folder with others may not change its mount namespace.
    unshare(CloneFlags::CLONE_FS).to(|| "leave the shared working folder".to_owned())?;
    enter(holder, "net", CloneFlags::CLONE_NEWNET)?;
    enter(holder, "ipc", CloneFlags::CLONE_NEWIPC)?;
    enter(holder, "uts", CloneFlags::CLONE_NEWUTS)?;
    enter(holder, "pid", CloneFlags::CLONE_NEWPID)?;
    // Last: afterwards /proc shows the sandbox's processes.
    enter(holder, "mnt", CloneFlags::CLONE_NEWNS)
}

fn proportional_set_size(process: &Path) -> Option<u64> {
    let sizes = fs::read_to_string(process.join("smaps_rollup")).ok()?;
    let kib = sizes.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    Some(kib.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// Puts a copy in place by a rename, because a program that runs cannot be written to.
pub(crate) fn install(program: &Path, place: &Path) -> Result<()> {
    let new = place.with_extension("new");
    if let Some(parent) = place.parent() {
        fs::create_dir_all(parent).to(|| format!("create {}", parent.display()))?;
    }
    fs::copy(program, &new).to(|| format!("copy {}", program.display()))?;
    fs::rename(&new, place).to(|| format!("install {}", place.display()))
}

/// A command that runs inside the sandbox. Its process is a child of this one and has a pid of the machine.
pub struct Command {
    inner: std::process::Command,
    holder: Process,
    paths: Paths,
}

impl Command {
    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.inner.arg(arg);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.inner.args(args);
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.inner.env(name, value);
        self
    }

    /// Sets variables of its environment.
    #[must_use]
    pub fn envs<K: AsRef<OsStr>, V: AsRef<OsStr>>(
        mut self,
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        self.inner.envs(variables);
        self
    }

    /// Nothing of the caller's environment, but a plain PATH and HOME.
    #[must_use]
    pub fn clean_environment(mut self) -> Self {
        let home = std::env::var_os("HOME").unwrap_or_else(|| OsString::from("/root"));
        self.inner.env_clear().env("PATH", SYSTEM_PATH).env("HOME", home);
        self.inner.envs(self.paths.environment());
        self
    }

    /// Sets its working directory.
    #[must_use]
    pub fn current_dir(mut self, folder: impl AsRef<Path>) -> Self {
        self.inner.current_dir(folder);
        self
    }

    /// A process group of its own, so that a signal of the terminal does not reach it.
    #[must_use]
    pub fn own_group(mut self) -> Self {
        self.inner.process_group(0);
        self
    }

    /// Sets its standard input.
    #[must_use]
    pub fn stdin(mut self, stdio: impl Into<Stdio>) -> Self {
        self.inner.stdin(stdio);
        self
    }

    /// Sets its standard output.
    #[must_use]
    pub fn stdout(mut self, stdio: impl Into<Stdio>) -> Self {
        self.inner.stdout(stdio);
        self
    }

    /// Sets its standard error.
    #[must_use]
    pub fn stderr(mut self, stdio: impl Into<Stdio>) -> Self {
        self.inner.stderr(stdio);
        self
    }

    /// Starts it. Wait for the child some time after it has ended: a process namespace ends only when nobody outside has an unreaped child in it
    /// (pid_namespaces(7)), so `down` would wait for this process.
    pub fn spawn(mut self) -> Result<Child> {
        in_thread(|| {
            enter_all(self.holder)?;
            self.inner.spawn().to(|| format!("run {}", self.line()))
        })
    }

    /// Runs it to its end; standard streams are the caller's unless set otherwise.
    pub fn status(self) -> Result<ExitStatus> {
        let line = self.line();
        self.spawn()?.wait().to(|| format!("wait for {line}"))
    }

    /// Runs it to its end and keeps what it printed.
    pub fn output(self) -> Result<Output> {
        let line = self.line();
        let child = self.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        child.wait_with_output().to(|| format!("wait for {line}"))
    }

    /// Runs it to its end, which must be a success, and gives back its standard output.
    pub fn text(self) -> Result<String> {
        let line = self.line();
        process::successful(line, self.output()?)
    }

    /// Like [`Self::text`], with `input` on its standard input.
    pub fn text_with_input(self, input: &[u8]) -> Result<String> {
        let line = self.line();
        let mut child = self.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let pipe = child.stdin.take();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                // A program that stops reading early has its reason, which its exit code tells.
                pipe.map(|mut pipe| std::io::Write::write_all(&mut pipe, input))
            });
            let output = child.wait_with_output().to(|| format!("wait for {line}"))?;
            process::successful(line, output)
        })
    }

    fn line(&self) -> String {
        let words = std::iter::once(self.inner.get_program()).chain(self.inner.get_args());
        words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
    }
}

/// Where Debian keeps programs.
pub const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

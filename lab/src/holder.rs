use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid, sethostname};

use crate::addresses::POD_GATEWAY;
use crate::error::{Context, Result, write_file};
use crate::paths::Paths;
use crate::process::text;

/// The hidden subcommand that runs [`hold`].
pub const SUBCOMMAND: &str = "init";
/// What [`hold`] prints when the sandbox can be used.
pub(crate) const READY: &str = "ready";

/// Values that the kubelet would set on the whole machine. It reads them first, so the sandbox shows it what it wants to see and the machine keeps its own.
const KERNEL_SETTINGS: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

/// The first process of the sandbox: arranges its own view of the machine, then reaps orphans until it is told to end.
pub fn hold(paths: &Paths) -> Result<()> {
    if getpid() != Pid::from_raw(1) {
        return Err(nix::Error::EPERM).to(|| "hold a sandbox outside of a process namespace".to_owned());
    }
    let signals = SigSet::from_iter([Signal::SIGCHLD, Signal::SIGTERM]);
    signals.thread_block().to(|| "block signals".to_owned())?;
    arrange_mounts(paths)?;
    sethostname("lab").to(|| "set the host name".to_owned())?;
    text(Command::new("ip").args(["link", "set", "lo", "up"]))?;
    write_file(Path::new("/proc/sys/net/ipv4/ip_forward"), "1")?;
    println!("{READY}");
    std::io::stdout().flush().to(|| "say that the sandbox is ready".to_owned())?;
    loop {
        let signal = signals.wait().to(|| "wait for a signal".to_owned())?;
        if signal == Signal::SIGTERM {
            return Ok(());
        }
        reap();
    }
}

fn reap() {
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        if status == WaitStatus::StillAlive {
            return;
        }
    }
}

fn arrange_mounts(paths: &Paths) -> Result<()> {
    let resolver = fs::canonicalize("/etc/resolv.conf").unwrap_or_else(|_| PathBuf::from("/etc/resolv.conf"));
    // Private first, or the mounts below would appear on the machine; shared inside, because the kubelet wants mounts to propagate into pods.
    propagation(MsFlags::MS_PRIVATE)?;
    propagation(MsFlags::MS_SHARED)?;
    special("proc", "/proc", "")?;
    make(paths.cache())?;
    let kept = [open(paths.state())?, open(paths.cache())?];
    // A /run of its own: sockets, network namespaces and containers of the machine are not seen inside, and those of the lab not outside.
    special("tmpfs", "/run", "mode=755")?;
    hide_var()?;
    for (path, folder) in [paths.state(), paths.cache()].iter().zip(&kept) {
        if path.starts_with("/var") || path.starts_with("/run") {
            bind(Path::new(&format!("/proc/self/fd/{}", folder.as_raw_fd())), make(path)?)?;
        }
    }
    for (name, value) in KERNEL_SETTINGS {
        let shown = Path::new("/run/lab/sys").join(name);
        write_file(&shown, format!("{value}\n"))?;
        bind(&shown, &Path::new("/proc/sys").join(name))?;
    }
    resolve_by_cluster_dns(&resolver)
}

/// Programs write below /var at places that cannot be configured (/var/lib/cni, /var/lib/kubelet, /var/log/containers). What they write is kept in memory and ends with the sandbox.
fn hide_var() -> Result<()> {
    make(Path::new("/run/lab/var/upper"))?;
    make(Path::new("/run/lab/var/work"))?;
    special("overlay", "/var", "lowerdir=/var,upperdir=/run/lab/var/upper,workdir=/run/lab/var/work")
}

/// Processes in the sandbox resolve cluster names as pods of the namespace `default` do.
fn resolve_by_cluster_dns(resolver: &Path) -> Result<()> {
    let wanted = Path::new("/run/lab/resolv.conf");
    let search = "default.svc.cluster.local svc.cluster.local cluster.local";
    write_file(wanted, format!("search {search}\nnameserver {POD_GATEWAY}\noptions ndots:5\n"))?;
    if !resolver.exists() {
        // The machine's file was a link into /run.
        write_file(resolver, "")?;
    }
    bind(wanted, resolver)
}

fn make(folder: &Path) -> Result<&Path> {
    fs::create_dir_all(folder).to(|| format!("create {}", folder.display()))?;
    Ok(folder)
}

fn open(folder: &Path) -> Result<File> {
    File::open(folder).to(|| format!("open {}", folder.display()))
}

fn propagation(kind: MsFlags) -> Result<()> {
    mount(None::<&str>, "/", None::<&str>, kind | MsFlags::MS_REC, None::<&str>)
        .to(|| "set the propagation of mounts".to_owned())
}

fn special(kind: &str, target: impl AsRef<Path>, options: &str) -> Result<()> {
    let target = target.as_ref();
    mount(Some(kind), target, Some(kind), MsFlags::empty(), Some(options))
        .to(|| format!("mount {kind} on {}", target.display()))
}

fn bind(source: &Path, target: &Path) -> Result<()> {
    mount(Some(source), target, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .to(|| format!("show {} at {}", source.display(), target.display()))
}

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::facts::{keystone, neutron};
use super::http::Http;
use crate::addresses::{KEYSTONE_PORT, NEUTRON_PORT, POD_GATEWAY};
use crate::cache::Cache;
use crate::error::{Context, LabError, Result, read_file, write_file};
use crate::packages;
use crate::paths::fnv;
use crate::process::{Daemon, Part, Process, Readiness, text};
use crate::progress::Progress;
use crate::sandbox::Sandbox;
use crate::template::fill;

const CONSTRAINTS: &str = include_str!("../../assets/cloud/constraints.txt");
const RUNNER: &str = include_str!("../../assets/cloud/run_service.py");
const KEYSTONE_CONF: &str = include_str!("../../assets/cloud/keystone.conf");
const NEUTRON_CONF: &str = include_str!("../../assets/cloud/neutron.conf");
/// In the sandbox's own /run, because the path of a socket may have 107 bytes only.
const SOCKET: &str = "/run/lab/mariadb.sock";
const TOKEN_SECONDS: u32 = 3600;

pub(super) const DATABASE_PART: &str = "mariadb";
pub(super) const ADMIN_PASSWORD: &str = "admin-of-the-lab";
pub(super) const NEUTRON_PASSWORD: &str = "neutron-of-the-lab";

/// Installs what the cloud needs, outside of the sandbox: programs, and the Python environment.
pub(super) fn install(cache: &Cache, progress: &Progress) -> Result<()> {
    packages::ensure(&[
        ("/usr/sbin/mariadbd", "mariadb-server-core"),
        ("nft", "nftables"),
        ("conntrack", "conntrack"),
        ("tc", "iproute2"),
        ("kcat", "kcat"),
    ])?;
    if cache.find(&environment_key()).is_none() {
        progress.step("Keystone and Neutron from PyPI", |_| build_environment(cache))?;
    }
    Ok(())
}

fn environment_key() -> String {
    format!("openstack-{:08x}", fnv(CONSTRAINTS.as_bytes()))
}

fn database_key() -> String {
    format!("openstack-database-{:08x}", fnv(tables_are_of().as_bytes()))
}

/// All that the content of the database comes from before anything is set up in it.
pub(super) fn tables_are_of() -> String {
    [CONSTRAINTS, ADMIN_PASSWORD, &keystone()].concat()
}

fn build_environment(cache: &Cache) -> Result<PathBuf> {
    if text(Command::new("python3").args(["-c", "import venv, ensurepip"])).is_err() {
        packages::ensure(&[("/usr/lib/python3.11/ensurepip/__init__.py", "python3-venv")])?;
    }
    cache.get(&environment_key(), |folder| {
        let constraints = folder.join("constraints.txt");
        write_file(&constraints, CONSTRAINTS)?;
        text(Command::new("python3").args(["-m", "venv"]).arg(folder))?;
        let mut pip = Command::new(folder.join("bin/python"));
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--constraint"]);
        text(pip.arg(constraints).args(["neutron", "keystone", "PyMySQL", "waitress"]))?;
        Ok(())
    })
}

/// A folder with a database that has all tables: `mysql`.
pub(super) fn tables(cache: &Cache) -> Result<PathBuf> {
    let environment = &build_environment(cache)?;
    cache.get(&database_key(), |folder| {
        let work = folder.join("work");
        fs::create_dir_all(&work).to(|| format!("create {}", work.display()))?;
        let data = folder.join("mysql");
        let socket = std::env::temp_dir().join(format!("lab-mariadb-{}.sock", std::process::id()));
        create_data(&data)?;
        configure(&work, environment, &socket, TOKEN_SECONDS)?;
        let mut command = Command::new("mariadbd");
        command.args(database_arguments(&data, &socket, &work.join("mariadb.log")));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().to(|| "run mariadbd".to_owned())?;
        let database = Process::current(child.id())?;
        let migrated = migrate(&work, environment, &socket, database);
        database.signal(Signal::SIGTERM)?;
        child.wait().to(|| "wait for mariadbd".to_owned())?;
        migrated?;
        crate::cache::remove_folder(&work)
    })
}

/// Makes MariaDB's own tables. Bootstrap mode wants one statement a line.
fn create_data(data: &Path) -> Result<()> {
    fs::create_dir_all(data).to(|| format!("create {}", data.display()))?;
    let mut script =
        "create database mysql;\nuse mysql;\nset @auth_root_socket=null;\nset @skip_auth_anonymous=1;\n"
            .to_owned();
    for file in ["mysql_system_tables.sql", "mysql_system_tables_data.sql"] {
        script += &read_file(&Path::new("/usr/share/mysql").join(file))?;
    }
    script += "\nflush privileges;\ncreate database keystone character set utf8;\ncreate database neutron character set utf8;\n";
    script += "create user lab@localhost;\ngrant all on *.* to lab@localhost;\n";
    let input = data.with_extension("sql");
    write_file(&input, script)?;
    let stdin = fs::File::open(&input).to(|| format!("open {}", input.display()))?;
    let mut mariadb = Command::new("mariadbd");
    mariadb.args([
        "--no-defaults",
        "--bootstrap",
        "--user=root",
        "--skip-log-bin",
        "--innodb-log-file-size=16M",
    ]);
    let output = mariadb.arg(format!("--datadir={}", data.display())).stdin(stdin).output();
    crate::process::successful("mariadbd --bootstrap".to_owned(), output.to(|| "run mariadbd".to_owned())?)?;
    fs::remove_file(&input).to(|| format!("remove {}", input.display()))
}

fn database_arguments(data: &Path, socket: &Path, log: &Path) -> Vec<String> {
    let mut arguments = vec![
        format!("--datadir={}", data.display()),
        format!("--socket={}", socket.display()),
        format!("--pid-file={}.pid", socket.display()),
        format!("--log-error={}", log.display()),
    ];
    let fixed = "--user=root --skip-networking --skip-log-bin --innodb-flush-log-at-trx-commit=0 --innodb-doublewrite=0 \
                 --innodb-buffer-pool-size=64M --innodb-log-file-size=16M --performance-schema=OFF --max-connections=100";
    arguments.extend(fixed.split_whitespace().map(str::to_owned));
    // The first argument must be this one.
    arguments.insert(0, "--no-defaults".to_owned());
    arguments
}

fn migrate(work: &Path, environment: &Path, socket: &Path, database: Process) -> Result<()> {
    let start = Instant::now();
    while !socket.exists() {
        if !database.alive() || start.elapsed() > Duration::from_secs(30) {
            let log = work.join("mariadb.log");
            let tail = read_file(&log).unwrap_or_default();
            return Err(LabError::Part {
                part: DATABASE_PART.to_owned(),
                reason: "did not start".to_owned(),
                log,
                tail,
            });
        }
        sleep(Duration::from_millis(50));
    }
    let manage = |program: &str, arguments: &[&str]| -> Result<()> {
        let mut command = Command::new(environment.join("bin/python"));
        command
            .args(["-W", "ignore"])
            .arg(work.join("run_service.py"))
            .arg(program)
            .arg(work)
            .args(arguments);
        text(&mut command).map(|_| ())
    };
    std::thread::scope(|scope| {
        let neutron = scope.spawn(|| manage("neutron-db-manage", &["upgrade", "heads"]));
        manage("keystone-manage", &["db_sync"])?;
        let url = keystone();
        let mut arguments = vec!["bootstrap", "--bootstrap-password", ADMIN_PASSWORD];
        arguments.extend(["--bootstrap-username", "admin", "--bootstrap-project-name", "admin"]);
        arguments.extend(["--bootstrap-role-name", "admin", "--bootstrap-service-name", "keystone"]);
        arguments.extend([
            "--bootstrap-region-id",
            super::CloudFacts::REGION,
            "--bootstrap-public-url",
            &url,
        ]);
        arguments.extend(["--bootstrap-internal-url", &url, "--bootstrap-admin-url", &url]);
        manage("keystone-manage", &arguments)?;
        neutron.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Writes the configuration and keys of both services, and the program that runs them.
fn configure(folder: &Path, environment: &Path, socket: &Path, token_seconds: u32) -> Result<()> {
    let shown = |path: &Path| path.display().to_string();
    let values = [
        ("folder", shown(folder)),
        ("environment", shown(environment)),
        ("socket", shown(socket)),
        ("keystone", keystone()),
        ("neutron_password", NEUTRON_PASSWORD.to_owned()),
        ("token_seconds", token_seconds.to_string()),
    ];
    let values = values.each_ref().map(|(name, value)| (*name, value.as_str()));
    write_file(&folder.join("keystone.conf"), fill(KEYSTONE_CONF, &values))?;
    write_file(&folder.join("neutron.conf"), fill(NEUTRON_CONF, &values))?;
    write_file(&folder.join("run_service.py"), RUNNER)?;
    for repository in ["fernet", "credential"] {
        for key in ["0", "1"] {
            let file = folder.join(repository).join(key);
            if !file.exists() {
                write_file(&file, fernet_key()?)?;
            }
        }
    }
    Ok(())
}

/// 32 random bytes in the URL-safe base64 alphabet: 43 characters, the last of which holds 4 bits, and one `=` (Fernet specification).
fn fernet_key() -> Result<String> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut random = [0_u8; 43];
    let mut source = fs::File::open("/dev/urandom").to(|| "open /dev/urandom".to_owned())?;
    source.read_exact(&mut random).to(|| "read /dev/urandom".to_owned())?;
    random[42] &= 0b11_1100;
    Ok(random.iter().map(|byte| char::from(ALPHABET[usize::from(byte & 63)])).chain(['=']).collect())
}

/// The two services and their database, in the sandbox.
#[derive(Clone, Debug)]
pub struct OpenStack {
    sandbox: Sandbox,
    environment: PathBuf,
    folder: PathBuf,
}

impl OpenStack {
    /// The services of this sandbox. [`prepare`] must have been called.
    pub fn new(sandbox: &Sandbox, cache: &Cache) -> Result<Self> {
        let environment = build_environment(cache)?;
        Ok(Self { sandbox: sandbox.clone(), environment, folder: sandbox.paths().part("cloud")? })
    }

    /// Starts what does not run, and waits until all answers. The first time its database is a copy of the one in the folder `template`.
    pub fn start(&self, template: &Path) -> Result<()> {
        let data = self.folder.join("mysql");
        if !data.exists() {
            let new = self.folder.join("mysql.new");
            crate::cache::remove_folder(&new)?;
            text(
                Command::new("cp")
                    .args(["--recursive", "--reflink=auto"])
                    .arg(template.join("mysql"))
                    .arg(&new),
            )?;
            fs::rename(&new, &data).to(|| format!("create {}", data.display()))?;
            configure(&self.folder, &self.environment, Path::new(SOCKET), TOKEN_SECONDS)?;
        }
        self.start_database(&data)?;
        std::thread::scope(|scope| {
            let neutron = scope.spawn(|| self.start_neutron());
            self.start_keystone()?;
            neutron.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn start_database(&self, data: &Path) -> Result<()> {
        let log = self.sandbox.paths().log(DATABASE_PART);
        let daemon = Daemon::new(&self.sandbox, DATABASE_PART, "/usr/sbin/mariadbd");
        let part = daemon.args(database_arguments(data, Path::new(SOCKET), &log)).start()?;
        part.wait_until(Duration::from_secs(30), || {
            self.sandbox.command("test").args(["-S", SOCKET]).text().into()
        })
    }

    /// Starts Keystone unless it runs, and waits until it answers.
    pub fn start_keystone(&self) -> Result<()> {
        self.serve("keystone", KEYSTONE_PORT, &keystone())
    }

    /// Starts Neutron unless it runs, and waits until it answers.
    pub fn start_neutron(&self) -> Result<()> {
        self.serve("neutron", NEUTRON_PORT, &neutron())
    }

    /// Ends Keystone or Neutron.
    pub fn stop(&self, part: &str) -> Result<()> {
        Part::find(&self.sandbox, part).map_or(Ok(()), |part| part.stop(Duration::from_secs(20)))
    }

    /// Ends all three, the database last and in order.
    pub fn stop_all(&self) -> Result<()> {
        ["neutron", "keystone", DATABASE_PART].iter().try_for_each(|part| self.stop(part))
    }

    /// Sets how long tokens live that are issued from now on, in seconds. Restarts Keystone.
    pub fn set_token_seconds(&self, seconds: u32) -> Result<()> {
        configure(&self.folder, &self.environment, Path::new(SOCKET), seconds)?;
        self.stop("keystone")?;
        self.start_keystone()
    }

    fn serve(&self, name: &str, port: u16, url: &str) -> Result<()> {
        if Part::find(&self.sandbox, name).is_some_and(|part| part.alive()) {
            return self.wait_for(name, url);
        }
        // Neutron keeps a file for "the first worker has done this" in the temporary folder, named after the parent's pid.
        let temporary = self.folder.join(format!("{name}-temporary"));
        crate::cache::remove_folder(&temporary)?;
        for folder in [&temporary, &self.folder.join("neutron")] {
            fs::create_dir_all(folder).to(|| format!("create {}", folder.display()))?;
        }
        let folder = self.folder.display().to_string();
        let runner = self.folder.join("run_service.py").display().to_string();
        Daemon::new(&self.sandbox, name, self.environment.join("bin/python"))
            .args(["-W", "ignore", &runner, name, &folder, POD_GATEWAY, &port.to_string()])
            .env("TMPDIR", temporary.display().to_string())
            .start()?;
        self.wait_for(name, url)
    }

    fn wait_for(&self, name: &str, url: &str) -> Result<()> {
        let http = Http::into(&self.sandbox);
        let part = Part::find(&self.sandbox, name).ok_or(LabError::NotRunning)?;
        part.wait_until(Duration::from_secs(90), || {
            Readiness::from(http.call(ureq::http::Method::GET, url, None, None))
        })
    }
}

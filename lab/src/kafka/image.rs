use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cache::Cache;
use crate::error::{Context, Result, write_file};
use crate::image::Recipe;
use crate::kubernetes::Image;
use crate::paths::fnv;
use crate::process::text;
use crate::progress::Progress;
use crate::template::fill;

use super::runtime;

/// Debian packages of the programs that the images are made with or of.
pub const PACKAGES: [(&str, &str); 5] = [
    crate::image::PACKAGES[0],
    ("busybox", "busybox-static"),
    ("javac", "openjdk-17-jdk-headless"),
    ("mvn", "maven"),
    ("kcat", "kcat"),
];

/// The Prometheus JMX exporter: brokers load it where KAFKA_OPTS says so.
const JMX_EXPORTER: &str = "io.prometheus.jmx:jmx_prometheus_javaagent:1.0.1";
const POM: &str = include_str!("../../assets/kafka/pom.xml");
/// Where an embedded file goes in the image, and whether it is a program.
type File = (&'static str, &'static str, u32);
const FILES: [File; 6] = [
    ("opt/kafka/jmx/exporter.yaml", include_str!("../../assets/kafka/jmx-exporter.yaml"), 0o644),
    ("opt/kafka/bin/kafka-run-class.sh", include_str!("../../assets/kafka/kafka-run-class.sh"), 0o755),
    ("opt/kafka/bin/kafka-server-start.sh", include_str!("../../assets/kafka/kafka-server-start.sh"), 0o755),
    ("etc/passwd", "root:x:0:0::/:/bin/sh\n", 0o644),
    ("etc/group", "root:x:0:\n", 0o644),
    ("etc/nsswitch.conf", "hosts: files dns\n", 0o644),
];
const ZOOKEEPER_FILES: [File; 4] = [
    (
        "opt/kafka/bin/zookeeper-server-start.sh",
        include_str!("../../assets/kafka/zookeeper-server-start.sh"),
        0o755,
    ),
    ("opt/kafka/config/zookeeper.properties", include_str!("../../assets/kafka/zookeeper.properties"), 0o644),
    (
        "opt/kafka/config/server.properties",
        include_str!("../../assets/kafka/server-zookeeper.properties"),
        0o644,
    ),
    ("opt/kafka/config/log4j.properties", LOG4J, 0o644),
];
const LOG4J: &str = include_str!("../../assets/kafka/log4j.properties");
const WRAPPER_FILES: [File; 4] = [
    ("etc/kafka/docker/run", include_str!("../../assets/kafka/run"), 0o755),
    ("etc/kafka/docker/server.properties", include_str!("../../assets/kafka/server-kraft.properties"), 0o644),
    ("etc/kafka/docker/log4j.properties", LOG4J, 0o644),
    ("etc/kafka/docker/tools-log4j.properties", LOG4J, 0o644),
];

/// What distinguishes the image of one release.
pub struct Release {
    pub version: &'static str,
    /// Runs with ZooKeeper, and brings it.
    zookeeper: bool,
    /// Brings apache/kafka's KafkaDockerWrapper (KIP-975, from 3.7).
    wrapper: bool,
    /// Where slf4j's output goes, and that artefact's version: 2.8 brings log4j 1, 3.9 reload4j; 4.x leaves the choice open.
    logging: (&'static str, &'static str),
}

pub static KAFKA_2: Release =
    Release { version: "2.8.2", zookeeper: true, wrapper: false, logging: ("slf4j-log4j12", "1.7.30") };
pub static KAFKA_3: Release =
    Release { version: "3.9.2", zookeeper: true, wrapper: true, logging: ("slf4j-reload4j", "1.7.36") };
pub static KAFKA_4: Release =
    Release { version: "4.4.0", zookeeper: false, wrapper: true, logging: ("slf4j-simple", "1.7.36") };
const FOLDERS: [&str; 12] = [
    "bin",
    "dev",
    "etc/kafka/docker",
    "mnt/shared/config",
    "opt/kafka/bin",
    "opt/kafka/config",
    "opt/kafka/libs",
    "proc",
    "run",
    "sys",
    "tmp",
    "var/lib",
];
const SHELL_COMMANDS: [&str; 21] = [
    "cat", "chmod", "chown", "cp", "date", "env", "grep", "head", "id", "ls", "mkdir", "nc", "ps", "rm",
    "sed", "seq", "sh", "sleep", "tail", "touch", "wget",
];
/// The name of the image of one Kafka version.
pub(super) fn name(version: &str) -> String {
    format!("localhost/lab/kafka:{version}")
}

/// The image of a release, from Maven's jars and a Java runtime of the machine's JDK; built once.
pub(super) fn kafka(cache: &Cache, progress: &Progress, release: &Release) -> Result<Image> {
    let version = release.version;
    let mut files = FILES.to_vec();
    if release.zookeeper {
        files.extend(ZOOKEEPER_FILES);
    }
    if release.wrapper {
        files.extend(WRAPPER_FILES);
    }
    let recipe =
        fnv(format!("{files:?}{SHELL_COMMANDS:?}{}{POM}{JMX_EXPORTER}", runtime::recipe()).as_bytes());
    image(cache, progress, &name(version), &format!("kafka-image-{version}-{recipe:08x}"), |root| {
        for folder in FOLDERS {
            fs::create_dir_all(root.join(folder)).to(|| format!("create {folder} of an image"))?;
        }
        for (path, content, mode) in &files {
            write_file(&root.join(path), content)?;
            fs::set_permissions(root.join(path), Permissions::from_mode(*mode))
                .to(|| format!("set the mode of {path}"))?;
        }
        busybox(&root.join("bin"), &SHELL_COMMANDS)?;
        jars(&root.join("opt/kafka/libs"), release)?;
        metrics_agent(&root.join("opt/kafka/jmx"))?;
        runtime::lay_out(root)?;
        runtime::share_classes(root)
    })
}

/// The image of the container that holds a pod's namespaces.
pub(super) fn pause(cache: &Cache, progress: &Progress) -> Result<Image> {
    image(cache, progress, "localhost/lab/pause:1", "pause-image-1", |root| {
        fs::create_dir_all(root.join("bin")).to(|| "create a folder of an image".to_owned())?;
        busybox(&root.join("bin"), &["sleep"])
    })
}

/// Lays a root folder out and packs it. Images without a command of their own sleep, which is what a pause container is for.
fn image(
    cache: &Cache,
    progress: &Progress,
    name: &str,
    key: &str,
    lay_out: impl FnOnce(&Path) -> Result<()>,
) -> Result<Image> {
    let archive = |entry: PathBuf| Image { name: name.to_owned(), archive: entry.join("image.tar") };
    if let Some(entry) = cache.find(key) {
        return Ok(archive(entry));
    }
    let build = |folder: &Path| {
        let root = folder.join("root");
        lay_out(&root)?;
        pack(folder, name)
    };
    progress.step(&format!("build image {name}"), |_| cache.get(key, build)).map(archive)
}

fn pack(folder: &Path, name: &str) -> Result<()> {
    let dockerfile = "FROM scratch\nCOPY root/ /\nENV PATH=/opt/java/bin:/opt/kafka/bin:/bin\nCMD [\"/bin/sleep\", \"2147483647\"]\n";
    write_file(&folder.join("Dockerfile"), dockerfile)?;
    let recipe = Recipe { name, dockerfile: &folder.join("Dockerfile"), context: folder, arguments: &[] };
    recipe.build(&folder.join("store"), &folder.join("image.tar"))?;
    crate::cache::remove_folder(&folder.join("root"))
}

fn busybox(folder: &Path, commands: &[&str]) -> Result<()> {
    fs::copy("/bin/busybox", folder.join("busybox")).to(|| "copy busybox".to_owned())?;
    for command in commands {
        symlink("busybox", folder.join(command)).to(|| format!("link {command}"))?;
    }
    Ok(())
}

fn metrics_agent(folder: &Path) -> Result<()> {
    let mut maven = Command::new("mvn");
    maven.args(["--quiet", "--batch-mode", "dependency:copy", "-Dmdep.stripVersion=true"]);
    maven.args([format!("-Dartifact={JMX_EXPORTER}"), format!("-DoutputDirectory={}", folder.display())]);
    text(&mut maven).map(drop)
}

fn jars(libraries: &Path, release: &Release) -> Result<()> {
    let (logging, slf4j) = release.logging;
    let project = libraries.with_extension("project");
    write_file(
        &project.join("pom.xml"),
        fill(POM, &[("kafka", release.version), ("logging", logging), ("slf4j", slf4j)]),
    )?;
    let output = format!("-DoutputDirectory={}", libraries.display());
    let mut maven = Command::new("mvn");
    maven.args(["--quiet", "--batch-mode", "--file"]).arg(project.join("pom.xml"));
    text(maven.args(["dependency:copy-dependencies", "-DincludeScope=runtime", &output]))?;
    crate::cache::remove_folder(&project)
}

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::UNIX_EPOCH;

use crate::error::{Context, Result, write_file};
use crate::process::text;

const SHARE_CLASSES: &str = include_str!("../../assets/kafka/share-classes.sh");
/// What brokers, ZooKeeper and clients use; the compiler is there to run a single source file.
const JAVA_MODULES: &str = "java.base,java.desktop,java.instrument,java.logging,java.management,java.naming,java.security.jgss,java.security.sasl,java.sql,java.xml,\
    jdk.compiler,jdk.crypto.ec,jdk.httpserver,jdk.management,jdk.management.agent,jdk.naming.dns,jdk.net,jdk.security.auth,jdk.unsupported,jdk.zipfs";
/// The resolver's modules are loaded by name, so that no program lists them.
const RESOLVER: [&str; 3] = ["libnss_dns.so.2", "libnss_files.so.2", "libresolv.so.2"];
const LIBRARIES: &str = "/lib/x86_64-linux-gnu";

/// What the runtime is made of: other content, other image.
pub(super) fn recipe() -> String {
    format!("{JAVA_MODULES}{SHARE_CLASSES}whole seconds")
}

/// Lays a small Java runtime out, and the shared libraries of the machine that its programs need.
pub(super) fn lay_out(root: &Path) -> Result<()> {
    let compiler = text(Command::new("sh").args(["-c", "readlink -f \"$(command -v javac)\""]))?;
    let jlink = Path::new(compiler.trim()).with_file_name("jlink");
    let runtime = root.join("opt/java");
    text(
        Command::new(jlink)
            .args([
                "--no-header-files",
                "--no-man-pages",
                "--strip-java-debug-attributes",
                "--generate-cds-archive",
                "--compress=2",
                "--add-modules",
                JAVA_MODULES,
            ])
            .arg("--output")
            .arg(&runtime),
    )?;
    let programs = text(
        Command::new("find")
            .arg(&runtime)
            .args(["-type", "f", "(", "-name", "*.so", "-o", "-perm", "-u+x", ")"]),
    )?;
    let mut libraries: Vec<PathBuf> = RESOLVER.iter().map(|name| Path::new(LIBRARIES).join(name)).collect();
    for program in programs.lines() {
        // It fails for what is not dynamically linked; that needs nothing.
        let needed = text(Command::new("ldd").arg(program)).unwrap_or_default();
        libraries.extend(needed.lines().filter_map(library).filter(|path| !path.starts_with(root)));
    }
    libraries.sort();
    libraries.dedup();
    for library in libraries {
        let place = root.join(library.strip_prefix("/").unwrap_or(&library));
        let folder = place.parent().unwrap_or(root);
        fs::create_dir_all(folder).to(|| format!("create {}", folder.display()))?;
        fs::copy(&library, &place).to(|| format!("copy {}", library.display()))?;
    }
    Ok(())
}

/// Runs a broker once inside the image and keeps the classes that it loaded. The order of the jars is written down,
/// because such an archive counts only for the class path that it was made with.
pub(super) fn share_classes(root: &Path) -> Result<()> {
    let libraries = root.join("opt/kafka/libs");
    let mut jars: Vec<String> = fs::read_dir(&libraries)
        .to(|| format!("list {}", libraries.display()))?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .map(|name| format!("/opt/kafka/libs/{name}"))
        .collect();
    jars.sort();
    // An archive counts only for jars of the very second that it was made with, and a layer rounds to seconds.
    for jar in &jars {
        let jar = root.join(jar.trim_start_matches('/'));
        let file = fs::File::options().write(true).open(&jar).to(|| format!("open {}", jar.display()))?;
        file.set_modified(UNIX_EPOCH).to(|| format!("set the time of {}", jar.display()))?;
    }
    write_file(&root.join("opt/kafka/classpath"), jars.join(":"))?;
    write_file(&root.join("share-classes.sh"), SHARE_CLASSES)?;
    let run = format!(
        "mount --bind /dev {root}/dev && mount -t proc proc {root}/proc && ip link set lo up && exec chroot {root} /bin/sh /share-classes.sh",
        root = root.display()
    );
    text(
        Command::new("unshare")
            .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", &run])
            .env("PATH", "/bin:/sbin:/usr/bin:/usr/sbin"),
    )?;
    fs::remove_file(root.join("share-classes.sh")).to(|| "remove a script from an image".to_owned())
}

/// The file in a line of ldd(1): `name => /path (address)` or `/path (address)`.
fn library(line: &str) -> Option<PathBuf> {
    let path = line.split("=>").last()?.split_whitespace().next()?;
    path.starts_with('/').then(|| PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_libraries_that_ldd_names_are_found() {
        assert_eq!(
            library("\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00)"),
            Some("/lib/x86_64-linux-gnu/libc.so.6".into())
        );
        assert_eq!(
            library("\t/lib64/ld-linux-x86-64.so.2 (0x00)"),
            Some("/lib64/ld-linux-x86-64.so.2".into())
        );
        assert_eq!(library("\tlinux-vdso.so.1 (0x00)"), None);
        assert_eq!(library("\tlibjvm.so => not found"), None);
    }
}

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cache::Cache;
use crate::error::{Context, Result, write_file};
use crate::process::text;
use crate::progress::Progress;

/// The version of Kubernetes.
pub const KUBERNETES: &str = "1.36.3";
const ETCD: &str = "3.6.5";
const COREDNS: &str = "1.12.4";
const HELM: &str = "4.3.1";

const COMMANDS: [&str; 6] =
    ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl"];

/// Modules that live in the Kubernetes repository; its go.mod replaces them by folders, which holds for the main module only.
const STAGING: [&str; 33] = [
    "api",
    "apiextensions-apiserver",
    "apimachinery",
    "apiserver",
    "cli-runtime",
    "client-go",
    "cloud-provider",
    "cluster-bootstrap",
    "code-generator",
    "component-base",
    "component-helpers",
    "controller-manager",
    "cri-api",
    "cri-client",
    "cri-streaming",
    "csi-translation-lib",
    "dynamic-resource-allocation",
    "endpointslice",
    "externaljwt",
    "kms",
    "kube-aggregator",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubectl",
    "kubelet",
    "metrics",
    "mount-utils",
    "pod-security-admission",
    "sample-apiserver",
    "sample-cli-plugin",
    "sample-controller",
    "streaming",
];

/// The programs of the cluster; those that are not in the cache yet are built, from the Go module proxy.
pub fn build(cache: &Cache, progress: &Progress) -> Result<Vec<PathBuf>> {
    let mut programs = Vec::new();
    for command in COMMANDS {
        let package = format!("k8s.io/kubernetes/cmd/{command}");
        let entry = built(cache, progress, command, KUBERNETES, |folder| {
            let module = kubernetes_module(cache)?;
            go_build(&module, &kubernetes_link_flags(), &package, &folder.join(command))
        })?;
        programs.push(entry);
    }
    let etcd = built(cache, progress, "etcd", ETCD, |folder| {
        let package = "go.etcd.io/etcd/server/v3";
        let module = format!("module lab/etcd\n\ngo 1.26.0\n\nrequire {package} v{ETCD}\n");
        let wrapper = folder.join("module");
        wrap(&wrapper, &module, &[package])?;
        go_build(&wrapper, "-s -w", package, &folder.join("etcd"))
    })?;
    programs.push(etcd);
    let coredns = built(cache, progress, "coredns", COREDNS, |folder| {
        go_install(&format!("github.com/coredns/coredns@v{COREDNS}"), folder)
    })?;
    programs.push(coredns);
    programs.push(helm(cache, progress)?);
    Ok(programs)
}

/// helm; built when it is missing.
pub fn helm(cache: &Cache, progress: &Progress) -> Result<PathBuf> {
    built(cache, progress, "helm", HELM, |folder| {
        go_install(&format!("helm.sh/helm/v4/cmd/helm@v{HELM}"), folder)
    })
}

/// The program `name` in its cache entry `<name>-<version>`.
fn built(
    cache: &Cache,
    progress: &Progress,
    name: &str,
    version: &str,
    build: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let key = format!("{name}-{version}");
    if let Some(entry) = cache.find(&key) {
        return Ok(entry.join(name));
    }
    let entry = progress.step(&format!("build {name} {version}"), |_| cache.get(&key, build))?;
    Ok(entry.join(name))
}

/// `go install k8s.io/kubernetes/cmd/...` is refused because of its replace directives, so a module of our own requires it and repeats them.
fn kubernetes_module(cache: &Cache) -> Result<PathBuf> {
    cache.get(&format!("kubernetes-module-{KUBERNETES}"), |folder| {
        // Module k8s.io/x is v0.MINOR.PATCH of Kubernetes v1.MINOR.PATCH.
        let staging_version = KUBERNETES.replacen('1', "0", 1);
        let replaced: String = STAGING
            .iter()
            .map(|module| format!("\tk8s.io/{module} => k8s.io/{module} v{staging_version}\n"))
            .collect();
        let module = format!(
            "module lab/kube\n\ngo 1.26.0\n\nrequire k8s.io/kubernetes v{KUBERNETES}\n\nreplace (\n{replaced})\n"
        );
        wrap(folder, &module, &COMMANDS.map(|command| format!("k8s.io/kubernetes/cmd/{command}")))
    })
}

/// Without them the server calls itself v0.0.0, and version checks of charts fail.
fn kubernetes_link_flags() -> String {
    let minor = KUBERNETES.split('.').nth(1).unwrap_or_default();
    let mut flags = "-s -w".to_owned();
    for package in ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"] {
        for (name, value) in [
            ("gitVersion", format!("v{KUBERNETES}").as_str()),
            ("gitMajor", "1"),
            ("gitMinor", minor),
            ("gitTreeState", "clean"),
        ] {
            flags += &format!(" -X {package}.{name}={value}");
        }
    }
    flags
}

fn wrap(folder: &Path, module: &str, packages: &[impl AsRef<str>]) -> Result<()> {
    let imports: String = packages.iter().map(|package| format!("\t_ \"{}\"\n", package.as_ref())).collect();
    write_file(&folder.join("go.mod"), module)?;
    write_file(
        &folder.join("tools.go"),
        format!("//go:build tools\n\npackage tools\n\nimport (\n{imports})\n"),
    )?;
    text(go().args(["mod", "tidy"]).current_dir(folder)).map(drop)
}

fn go_build(module: &Path, link_flags: &str, package: &str, output: &Path) -> Result<()> {
    let mut command = go();
    command
        .current_dir(module)
        .args(["build", "-trimpath", "-ldflags", link_flags, "-o"])
        .arg(output)
        .arg(package);
    text(&mut command).map(drop)
}

fn go_install(package: &str, folder: &Path) -> Result<()> {
    let mut command = go();
    command.env("GOFLAGS", "").env("GOBIN", folder).args([
        "install",
        "-trimpath",
        "-ldflags",
        "-s -w",
        package,
    ]);
    text(&mut command).map(drop)
}

/// Where the Go module proxy's copy of a module is unpacked.
pub(crate) fn go_module(module: &str) -> Result<PathBuf> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Downloaded {
        dir: PathBuf,
    }
    let told = text(go().args(["mod", "download", "-json", module]))?;
    let downloaded: Downloaded =
        serde_json::from_str(&told).to(|| format!("read what `go mod download {module}` tells"))?;
    Ok(downloaded.dir)
}

fn go() -> Command {
    let mut command = Command::new("go");
    command.env("CGO_ENABLED", "0").env("GOFLAGS", "-mod=mod");
    command
}

//! helm, and what it renders.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use lab::{Cache, Paths, Progress};
use serde_json::Value;

/// The chart of this checkout.
pub const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/kafka-external-access");
/// Prometheus operator's kinds, as an API server that has them says it.
pub const MONITORING: [&str; 3] = ["ServiceMonitor", "PodMonitor", "PrometheusRule"];

/// The lab's helm.
pub struct Helm(PathBuf);

impl Helm {
    /// Built when it is missing.
    pub fn new() -> Self {
        let cache = Cache::new(&Paths::from_environment());
        Self(lab::kubernetes::helm(&cache, &Progress::silent()).expect("helm is built"))
    }

    /// Where it is.
    pub fn program(&self) -> &Path {
        &self.0
    }

    fn run(&self, args: &[&str], input: &str) -> Output {
        let mut child = Command::new(&self.0)
            .args(args)
            // Of no cluster at all.
            .env("KUBECONFIG", "/dev/null")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("helm starts");
        child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("helm reads its values");
        child.wait_with_output().expect("helm ends")
    }

    /// What helm prints; `Err`: what it complains about.
    pub fn text(&self, args: &[&str], input: &str) -> Result<String, String> {
        let output = self.run(args, input);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if output.status.success() { Ok(out.into_owned()) } else { Err(format!("{out}{err}")) }
    }

    /// The objects of a chart with these values, installed as release `r` in namespace `n`.
    pub fn render(&self, chart: &str, values: &Value, apis: &[&str]) -> Result<Vec<Value>, String> {
        let mut args = vec!["template", "r", chart, "--namespace", "n", "--values", "-"];
        apis.iter().for_each(|api| args.extend(["--api-versions", api]));
        let text = self.text(&args, &values.to_string())?;
        let objects: Vec<Value> = serde_saphyr::from_multiple(&text).map_err(|error| error.to_string())?;
        Ok(objects.into_iter().filter(|object| !object.is_null()).collect())
    }
}

/// The objects of the chart with these values.
pub fn rendered(values: &Value) -> Vec<Value> {
    Helm::new().render(CHART, values, &[]).unwrap_or_else(|error| panic!("{error}\nvalues: {values}"))
}

/// Why these values are refused.
pub fn refusal(values: &Value) -> String {
    match Helm::new().render(CHART, values, &[]) {
        Ok(_) => panic!("accepted: {values}"),
        Err(error) => error,
    }
}

/// Those of a kind.
pub fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}

/// The only one of a kind.
pub fn only<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    match of_kind(objects, kind).as_slice() {
        [object] => object,
        other => panic!("{} objects of kind {kind}", other.len()),
    }
}

/// Files of a folder, sorted by name, with their text.
pub fn files(folder: &Path) -> Vec<(String, String)> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let read = |path: PathBuf| {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        (name, std::fs::read_to_string(&path).expect("a text"))
    };
    let mut found: Vec<_> = entries.map(|entry| read(entry.expect("an entry").path())).collect();
    found.sort();
    found
}

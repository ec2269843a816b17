//! What the parser of a kubelet's statistics promises of any bytes (`src/fuzzing.rs`).

use super::stats::{NodeStats, Summary};

/// `stats/summary`: a pod is listed once, whatever is sent.
pub fn kubelet(bytes: &[u8]) {
    if let Ok(summary) = serde_json::from_slice::<Summary>(bytes) {
        let pods = summary.pods.len();
        assert!(NodeStats::from(summary).len() <= pods);
    }
}

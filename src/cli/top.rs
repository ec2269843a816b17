//! `top`: who carries how much of what it may carry.

use std::{cmp::Reverse, fmt::Write, process::ExitCode, time::Duration};

use clap::Args;
use kube::ResourceExt;

use super::{
    cluster::ClusterArgs,
    failed, show,
    status::{flow, mark},
    style::{ASIDE, HEADING, clear, paint},
};
use crate::{
    api::{BrokerBandwidth, KafkaExternalAccess},
    runtime::clock::SystemClock,
    seams::Clock,
};

/// The status moves at most every five minutes.
const PAUSE: Duration = Duration::from_secs(5);

/// Shows the use of bandwidth, the fullest broker first: means of five minutes, from the status.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Exit codes: 0 shown, 1 that cannot be told, 2 wrong usage")]
pub struct TopArgs {
    /// Name of the object. Default: all of the namespace
    pub name: Option<String>,
    /// Which cluster
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// All namespaces
    #[arg(short = 'A', long, conflicts_with_all = ["name", "namespace"])]
    pub all_namespaces: bool,
    /// Show each change, until the program is ended
    #[arg(short, long)]
    pub watch: bool,
}

/// Runs the command.
pub async fn run(args: TopArgs) -> ExitCode {
    let cluster = match args.cluster.open().await {
        Ok(cluster) => cluster,
        Err(error) => return failed(error),
    };
    let clock = SystemClock::default();
    let mut shown = String::new();
    loop {
        match cluster.objects(args.name.as_deref(), args.all_namespaces).await {
            Ok(objects) => {
                let text = render(&objects);
                if text != shown {
                    show(&format!("{}{text}", if args.watch { clear() } else { "" }));
                    shown = text;
                }
            }
            Err(error) if !args.watch => return failed(error),
            Err(_) => {}
        }
        if !args.watch {
            return ExitCode::SUCCESS;
        }
        clock.sleep(PAUSE).await;
    }
}

/// Per mille of the fuller direction; without a limit, after all that have one, by what is carried.
fn fullness(bandwidth: &BrokerBandwidth) -> (u64, u64) {
    let share = |used: Option<u32>, limit: Option<u32>| match (used, limit) {
        (Some(used), Some(limit)) => u64::from(used) * 1000 / u64::from(limit.max(1)),
        _ => 0,
    };
    let BrokerBandwidth { limit_egress_mbps, limit_ingress_mbps, egress_mbps, ingress_mbps, .. } = bandwidth;
    let carried = u64::from(egress_mbps.unwrap_or(0)) + u64::from(ingress_mbps.unwrap_or(0));
    (share(*egress_mbps, *limit_egress_mbps).max(share(*ingress_mbps, *limit_ingress_mbps)), carried)
}

/// One block for each broker.
pub fn render(objects: &[KafkaExternalAccess]) -> String {
    let mut rows = Vec::new();
    for object in objects {
        for broker in object.status.iter().flat_map(|status| &status.brokers) {
            let Some(bandwidth) = &broker.bandwidth else { continue };
            rows.push((fullness(bandwidth), object, broker, bandwidth));
        }
    }
    rows.sort_by_key(|(fullness, ..)| Reverse(*fullness));
    if rows.is_empty() {
        return "nothing is known of the use of bandwidth; set spec.metrics (docs/bandwidth.md)\n".to_owned();
    }
    let mut text = String::new();
    for (_, object, broker, bandwidth) in rows {
        let key = format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any());
        let pod = broker.pod.clone().unwrap_or_else(|| format!("ordinal {}", broker.ordinal));
        let address = broker.address.clone().unwrap_or_default();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{} {} {pod} {}", mark(broker), paint(HEADING, key), paint(ASIDE, address));
        let directions = [
            ("sends", bandwidth.egress_mbps, bandwidth.limit_egress_mbps),
            ("receives", bandwidth.ingress_mbps, bandwidth.limit_ingress_mbps),
        ];
        for (name, used, limit) in directions {
            if let Some(told) = flow(used, limit) {
                let _ = writeln!(text, "    {name:8} {told}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::tests::{object, transcript};
    use super::*;

    #[test]
    fn the_fullest_broker_comes_first() {
        transcript("top", &render(&[object("ready"), object("troubled")]));
        transcript("top-none", &render(&[object("new")]));
    }
}

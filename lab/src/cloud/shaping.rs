use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::Ipv4Addr;

use super::picture::{Limit, Picture};
use crate::addresses::{EXTERNAL_BRIDGE, POD_BRIDGE};

/// The smallest burst in bytes: one segmentation-offloaded packet of 64 KiB must fit.
const SMALLEST_BURST: u32 = 64 * 1024;

/// The class of an address, `major:minor` in hexadecimal: packets find it by their priority, which the rules set. The minor number is the address's last two bytes.
pub(super) fn class(floating: Ipv4Addr) -> String {
    let [_, _, third, fourth] = floating.octets();
    format!("1:{third:02x}{fourth:02x}")
}

/// Commands of tc(8) that give a device a root that lets everything pass which is in no class.
pub(super) fn roots() -> String {
    [POD_BRIDGE, EXTERNAL_BRIDGE].iter().fold(String::new(), |mut text, device| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "qdisc add dev {device} root handle 1: htb");
        text
    })
}

/// Commands of tc(8), one a line, that lead from one picture to the other. What goes out of the pods' bridge goes towards a pod, what goes out of the external
/// one comes from a pod.
pub(super) fn shaping(before: &Picture, after: &Picture) -> String {
    let (before, after) = (classes(before), classes(after));
    let mut text = String::new();
    for ((device, class), limit) in &after {
        if before.get(&(*device, class.clone())) != Some(limit) {
            let Limit { rate, .. } = limit;
            let burst = burst(*limit);
            let _ = writeln!(
                text,
                "class replace dev {device} parent 1: classid {class} htb rate {rate}kbit ceil {rate}kbit burst {burst} cburst {burst} quantum 60000"
            );
        }
    }
    for (device, class) in before.keys().filter(|key| !after.contains_key(key)) {
        let _ = writeln!(text, "class del dev {device} classid {class}");
    }
    text
}

fn classes(picture: &Picture) -> BTreeMap<(&'static str, String), Limit> {
    let limits = picture.addresses.iter().flat_map(|address| {
        [(POD_BRIDGE, address.limits.towards_pod), (EXTERNAL_BRIDGE, address.limits.from_pod)]
            .map(|(device, limit)| ((device, class(address.floating)), limit))
    });
    limits.filter_map(|(key, limit)| Some((key, limit?))).collect()
}

/// The policy's own, in bytes; 10 ms at full rate when it has none.
fn burst(limit: Limit) -> u32 {
    let bytes =
        if limit.burst > 0 { limit.burst.saturating_mul(125) } else { limit.rate.saturating_mul(125) / 100 };
    bytes.max(SMALLEST_BURST)
}

#[cfg(test)]
mod tests {
    use super::super::picture::{Address, Limits, Target};
    use super::*;

    fn picture(limits: Limits) -> Picture {
        let target = Target::Pod(Ipv4Addr::new(10, 128, 0, 20));
        let address = Address { floating: Ipv4Addr::new(203, 0, 113, 7), target, limits };
        Picture { addresses: vec![address], ..Picture::default() }
    }

    fn limit(rate: u32, burst: u32) -> Option<Limit> {
        Some(Limit { rate, burst })
    }

    #[test]
    fn ingress_is_shaped_on_the_way_to_the_pods_and_egress_on_the_way_out() {
        let both = picture(Limits { towards_pod: limit(1000, 0), from_pod: limit(100_000, 2000) });
        assert_eq!(
            shaping(&Picture::default(), &both),
            "class replace dev cni0 parent 1: classid 1:7107 htb rate 1000kbit ceil 1000kbit burst 65536 cburst 65536 quantum 60000\n\
             class replace dev ext0 parent 1: classid 1:7107 htb rate 100000kbit ceil 100000kbit burst 250000 cburst 250000 quantum 60000\n"
        );
    }

    #[test]
    fn nothing_is_done_when_nothing_changed_and_a_limit_that_went_is_removed() {
        let one = picture(Limits { towards_pod: limit(1000, 0), from_pod: None });
        assert_eq!(shaping(&one, &one), "");
        assert_eq!(shaping(&one, &picture(Limits::default())), "class del dev cni0 classid 1:7107\n");
    }
}

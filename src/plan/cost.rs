//! What the addresses of an object cost: an estimate from the operator's prices.
//!
//! | part | how |
//! |---|---|
//! | addresses | each that the object has allocated, idle ones as well; the user's own are not counted |
//! | bandwidth | the greater limit of its two directions, where an address has one |
//! | traffic | what its broker's listener sends at present, where that is known |
//!
//! A month has 730 hours.

use std::{collections::BTreeSet, fmt, str::FromStr};

use super::{
    desired::{Desired, WantedProvider},
    limits,
    observed::Observed,
    usage,
};
use crate::{
    api::{BrokerStatus, Cost},
    domain::Ordinal,
};

const HOURS: u128 = 730;
/// GB in a month of one Mbit/s, in thousandths: 3600 s x 730 / 8 / 1000.
const GB_PER_MBPS: u128 = 328_500;
const MILLION: u128 = 1_000_000;

/// An amount of money, in millionths of the currency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Money(u128);

/// What a cloud charges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prices {
    /// For example `EUR`.
    pub currency: String,
    /// For one address and hour.
    pub address_hour: Money,
    /// For one Mbit/s of an address's limit and hour.
    pub mbps_hour: Money,
    /// For one GB (10^9 bytes) that leaves a broker.
    pub gb: Money,
}

/// The text is not an amount.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not an amount such as 0.004; at most six digits after the point")]
pub struct InvalidMoney(String);

impl FromStr for Money {
    type Err = InvalidMoney;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidMoney(text.chars().take(40).collect());
        let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |text: &str| text.chars().all(|c| c.is_ascii_digit()) && !text.is_empty();
        if !digits(whole) || !digits(part) || whole.len() > 9 || part.len() > 6 {
            return Err(invalid());
        }
        let number = |text: &str| text.parse::<u128>().map_err(|_| invalid());
        Ok(Self(number(whole)? * MILLION + number(&format!("{part:0<6}"))?))
    }
}

impl fmt::Display for Money {
    /// Rounded to hundredths.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hundredths = (self.0 + 5_000) / 10_000;
        write!(f, "{}.{:02}", hundredths / 100, hundredths % 100)
    }
}

/// What is charged for one address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Charged {
    limit_mbps: Option<u32>,
    egress_mbps: Option<u32>,
}

impl Charged {
    /// As the status tells it.
    fn told(broker: Option<&BrokerStatus>) -> Self {
        let told = broker.and_then(|broker| broker.bandwidth.as_ref());
        Self {
            limit_mbps: told.and_then(|told| told.limit_egress_mbps.max(told.limit_ingress_mbps)),
            // What a pod sends goes to the other brokers as well.
            egress_mbps: told.filter(|told| !usage::of_pod(told)).and_then(|told| told.egress_mbps),
        }
    }
}

/// What the addresses of these brokers cost in a month.
pub fn now(prices: &Prices, brokers: &[BrokerStatus]) -> Cost {
    let own = brokers.iter().filter(|broker| broker.address_id.is_some() && broker.adopted != Some(true));
    sum(prices, &own.map(|broker| Charged::told(Some(broker))).collect::<Vec<_>>())
}

/// What they will cost when nothing is outstanding any more; traffic as it is now.
pub fn afterwards(prices: &Prices, desired: &Desired, observed: &Observed) -> Cost {
    if observed.own.deleting || desired.provider == WantedProvider::PodAddresses {
        return sum(prices, &[]);
    }
    let told = &observed.own.status.brokers;
    let kept = told.iter().filter(|broker| broker.address_id.is_some()).map(|broker| Ordinal(broker.ordinal));
    let wanted = observed.stateful_set.iter().flat_map(|set| set.ordinals());
    let all: BTreeSet<Ordinal> = wanted.chain(kept).collect();
    let charged =
        all.into_iter().filter(|ordinal| !desired.chosen_addresses.contains_key(ordinal)).map(|ordinal| {
            let before = Charged::told(told.iter().find(|broker| broker.ordinal == ordinal.0));
            let wanted = limits::wanted_mbps(desired, observed.cloud.seen(), ordinal);
            Charged { limit_mbps: wanted.or(before.limit_mbps), ..before }
        });
    sum(prices, &charged.collect::<Vec<_>>())
}

fn sum(prices: &Prices, charged: &[Charged]) -> Cost {
    let total =
        |mbps: fn(&Charged) -> Option<u32>| charged.iter().filter_map(mbps).map(u128::from).sum::<u128>();
    let count = charged.len() as u128;
    let addresses = Money(prices.address_hour.0 * HOURS * count);
    let bandwidth = Money(prices.mbps_hour.0 * HOURS * total(|charged| charged.limit_mbps));
    let traffic = Money(prices.gb.0 * GB_PER_MBPS * total(|charged| charged.egress_mbps) / 1000);
    Cost {
        currency: prices.currency.clone(),
        per_month: Money(addresses.0 + bandwidth.0 + traffic.0).to_string(),
        addresses: addresses.to_string(),
        bandwidth: bandwidth.to_string(),
        traffic: traffic.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::BrokerBandwidth;

    fn prices() -> Prices {
        let money = |text: &str| text.parse().expect("money");
        Prices {
            currency: "EUR".to_owned(),
            address_hour: money("0.004"),
            mbps_hour: money("0.0005"),
            gb: money("0.02"),
        }
    }

    fn broker(ordinal: u32, adopted: bool, bandwidth: Option<BrokerBandwidth>) -> BrokerStatus {
        serde_json::from_value(serde_json::json!({
            "ordinal": ordinal, "state": "Ready", "addressID": "a", "adopted": adopted, "bandwidth": bandwidth,
        }))
        .expect("a broker")
    }

    #[test]
    fn amounts_are_read_exactly_and_shown_in_hundredths() {
        let shown = |text: &str| text.parse::<Money>().map(|money| money.to_string());
        assert_eq!(shown("12").as_deref(), Ok("12.00"));
        assert_eq!(shown("0.004999").as_deref(), Ok("0.00"));
        assert_eq!(shown("0.005").as_deref(), Ok("0.01"));
        assert_eq!(shown("1.999999").as_deref(), Ok("2.00"));
        assert_eq!(shown("999999999.999999").as_deref(), Ok("1000000000.00"));
        for wrong in ["", ".", "1.", ".5", "1,5", "1.5x", "x.5", "-1", "1e3", "0.0000001", "1234567890"] {
            assert!(shown(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn addresses_limits_and_traffic_are_charged_and_the_users_own_address_is_not() {
        let limited = BrokerBandwidth {
            limit_egress_mbps: Some(100),
            limit_ingress_mbps: Some(50),
            egress_mbps: Some(20),
            ..BrokerBandwidth::default()
        };
        let brokers =
            [broker(0, false, Some(limited.clone())), broker(1, false, None), broker(2, true, Some(limited))];
        let cost = now(&prices(), &brokers);
        assert_eq!(cost.addresses, "5.84", "2 x 730 x 0.004");
        assert_eq!(cost.bandwidth, "36.50", "100 x 730 x 0.0005");
        assert_eq!(cost.traffic, "131.40", "20 x 328.5 x 0.02");
        assert_eq!(cost.per_month, "173.74");
    }
}

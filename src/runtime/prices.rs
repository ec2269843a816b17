//! Prices from the command line.

use clap::Args;

use crate::plan::cost::{Money, Prices};

/// What the cloud charges; estimates are shown where `--currency` is given.
#[derive(Args, Clone, Debug)]
pub struct PriceArgs {
    /// Currency of the prices, for example EUR
    #[arg(long, env = "KEA_CURRENCY")]
    pub currency: Option<String>,
    /// Price of one floating IP for an hour, for example 0.004
    #[arg(long, env = "KEA_PRICE_ADDRESS_HOUR", requires = "currency")]
    pub price_address_hour: Option<Money>,
    /// Price of one Mbit/s of an address's limit for an hour
    #[arg(long, env = "KEA_PRICE_MBPS_HOUR", requires = "currency")]
    pub price_mbps_hour: Option<Money>,
    /// Price of one GB that leaves a broker through its address
    #[arg(long, env = "KEA_PRICE_GB", requires = "currency")]
    pub price_gb: Option<Money>,
}

impl PriceArgs {
    /// The prices; what is not given costs nothing.
    pub fn prices(&self) -> Option<Prices> {
        let currency: String = self.currency.as_ref()?.chars().take(8).collect();
        Some(Prices {
            currency,
            address_hour: self.price_address_hour.unwrap_or_default(),
            mbps_hour: self.price_mbps_hour.unwrap_or_default(),
            gb: self.price_gb.unwrap_or_default(),
        })
    }
}

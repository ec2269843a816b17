//! The machine under the product: clocks, leadership, logs, HTTP.

pub mod clock;
pub mod lease;

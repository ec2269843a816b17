//! The Helm chart as helm renders it. What it does once it is installed is tested on the lab: tests/end_to_end/chart.rs.

mod dashboard;
mod helm;
mod scopes;
mod values;
mod variants;

//! What was refused is not tried again so soon, whoever asks: Keystone may lock an account after a few refusals, and
//! nobody grants a right within seconds. Another credential begins anew, because it has a session of its own.

use std::time::Duration;

use crate::cloud::{CloudError, CloudFault};

const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(300);

/// Refusals of one thing, in a row.
#[derive(Debug, Default)]
pub struct Refusals(Option<Refused>);

#[derive(Debug)]
struct Refused {
    error: CloudError,
    holds: Duration,
    /// On the monotonic clock.
    until: Duration,
}

impl Refusals {
    /// The last refusal, while it holds.
    pub fn hold(&self, now: Duration) -> Result<(), CloudError> {
        match &self.0 {
            Some(refused) if now < refused.until => Err(refused.error.clone()),
            _ => Ok(()),
        }
    }

    /// Takes in how it went: each refusal in a row holds twice as long as the one before.
    pub fn take<T>(&mut self, result: &Result<T, CloudError>, now: Duration) {
        match result {
            Err(error) if matches!(error.fault, CloudFault::Unauthorized(_) | CloudFault::Forbidden(_)) => {
                let holds = self.0.as_ref().map_or(FIRST, |before| (before.holds * 2).min(LONGEST));
                self.0 = Some(Refused { error: error.clone(), holds, until: now + holds });
            }
            Ok(_) => self.0 = None,
            // Says nothing about the right.
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_in_a_row_hold_longer_and_longer_and_a_success_ends_them() {
        let refused = || {
            let fault = CloudFault::Unauthorized("wrong password".to_owned());
            Err::<(), _>(CloudError { operation: "log in to the cloud", fault })
        };
        let mut refusals = Refusals::default();
        let mut now = Duration::ZERO;
        let mut holds = Vec::new();
        for _ in 0..8 {
            refusals.take(&refused(), now);
            let begin = now;
            while refusals.hold(now).is_err() {
                now += Duration::from_secs(1);
            }
            holds.push((now - begin).as_secs());
        }
        assert_eq!(holds, [10, 20, 40, 80, 160, 300, 300, 300]);
        let fault = CloudFault::Unavailable("connection refused".to_owned());
        refusals.take(&Err::<(), _>(CloudError { operation: "log in to the cloud", fault }), now);
        refusals.take(&refused(), now);
        assert!(
            refusals.hold(now + Duration::from_secs(299)).is_err(),
            "an outage in between changes nothing"
        );
        refusals.take(&Ok(()), now);
        assert!(refusals.hold(now).is_ok());
        refusals.take(&refused(), now);
        assert!(refusals.hold(now + FIRST).is_ok());
    }
}

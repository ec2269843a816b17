//! What went wrong while acting, and what people are told about it.

use crate::{
    api::conditions::Reason,
    cloud::{CloudError, CloudFault},
    domain::ErrorClass,
    kafka::{KafkaError, KafkaFault},
    kubernetes::{KubernetesError, KubernetesFault},
    plan::{Action, Problem},
};

/// An action that was not carried out.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// Which.
    pub action: Action,
    /// Why.
    pub cause: Cause,
}

/// Why an action was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// The cloud.
    #[error(transparent)]
    Cloud(CloudError),
    /// Kafka.
    #[error(transparent)]
    Kafka(KafkaError),
    /// The API server.
    #[error(transparent)]
    Kubernetes(KubernetesError),
    /// Kafka stored a listener and did not open it.
    #[error("{0}")]
    ListenerNotApplied(String),
    /// The world is not as it was observed: nothing was done, or what was done must be looked at.
    #[error("{0}")]
    LookAgain(&'static str),
    /// An address was bound, and led elsewhere when it was read back: somebody moved it at once.
    #[error("the address leads elsewhere after it was bound")]
    MovedAway,
    /// Another replica may lead.
    #[error("this replica does not lead")]
    NotLeading,
}

impl Cause {
    /// What should happen next.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Cloud(error) => error.class(),
            Self::Kafka(error) => error.class(),
            Self::Kubernetes(error) => error.class(),
            Self::ListenerNotApplied(_) => ErrorClass::Terminal,
            Self::LookAgain(_) | Self::MovedAway | Self::NotLeading => ErrorClass::Waiting,
        }
    }

    /// True when it may only mean that the world moved on since it was read. Once that is no failure: observe again.
    /// When it happens again at once, it is not the reading that was old.
    pub fn wants_another_look(&self) -> bool {
        match self {
            Self::LookAgain(_) | Self::MovedAway => true,
            Self::Cloud(error) => matches!(
                error.fault,
                CloudFault::RevisionChanged
                    | CloudFault::PortAlreadyBound(_)
                    | CloudFault::NotFound(_)
                    | CloudFault::QosPolicyInUse(_)
            ),
            _ => false,
        }
    }

    /// What a user is told; `None`: nothing, it sorts itself out.
    pub fn problem(&self) -> Option<Problem> {
        match self {
            Self::Cloud(error) => Some(problem_of_cloud(error)),
            Self::Kafka(error) => Some(problem_of_kafka(error)),
            Self::ListenerNotApplied(text) => Some(Problem::new(Reason::ListenerNotApplied, text)),
            Self::Kubernetes(KubernetesError { fault: KubernetesFault::NotNow(text), .. }) => {
                Some(Problem::new(Reason::RestartBlocked, text))
            }
            Self::Kubernetes(error) if error.class() != ErrorClass::Waiting => {
                Some(Problem::new(Reason::Retrying, error.to_string()))
            }
            Self::Kubernetes(_) | Self::LookAgain(_) | Self::MovedAway | Self::NotLeading => None,
        }
    }
}

/// The listed reason for a cloud error.
pub fn problem_of_cloud(error: &CloudError) -> Problem {
    let reason = match &error.fault {
        CloudFault::Unauthorized(_) => Reason::CredentialsRefused,
        CloudFault::Forbidden(_) => Reason::CredentialsForbidden,
        CloudFault::QuotaExceeded(_) => Reason::QuotaExceeded,
        CloudFault::PoolEmpty(_) => Reason::PoolEmpty,
        CloudFault::PortAlreadyBound(_) => Reason::PortHasForeignAddress,
        CloudFault::InUseByPortForwarding(_) => Reason::AddressInUse,
        CloudFault::NetworkUnknown { .. } => Reason::NetworkNotFound,
        CloudFault::QosPolicyUnknown { .. } => Reason::QosPolicyNotFound,
        CloudFault::QosPolicyNotPermitted { .. } => Reason::QosPolicyNotPermitted,
        CloudFault::QosPolicyAmbiguous { .. } => Reason::QosPolicyAmbiguous,
        CloudFault::NetworkAmbiguous { .. } => Reason::NetworkAmbiguous,
        CloudFault::NoRouter(_) => Reason::NoRouter,
        CloudFault::Configuration(_) => Reason::SecretMalformed,
        CloudFault::Refused(_) | CloudFault::NotFound(_) => Reason::CloudRefused,
        CloudFault::RevisionChanged | CloudFault::QosPolicyInUse(_) => Reason::InProgress,
        CloudFault::RateLimited { .. }
        | CloudFault::Unavailable(_)
        | CloudFault::Unclear(_)
        | CloudFault::BadReply(_) => Reason::CloudUnavailable,
    };
    Problem::new(reason, with_remedy(&error.to_string(), reason))
}

/// The listed reason for an error of a broker over the internal listener.
pub fn problem_of_kafka(error: &KafkaError) -> Problem {
    let reason = match &error.fault {
        KafkaFault::Protocol(_) | KafkaFault::Certificate(_) => Reason::KafkaNeedsTLS,
        KafkaFault::CertificateExpired(_) => Reason::CertificateExpired,
        KafkaFault::Authentication(_) => Reason::KafkaAuthenticationFailed,
        KafkaFault::Authorization(_) => Reason::KafkaNotAuthorized,
        KafkaFault::Rejected(_) | KafkaFault::Unsupported(_) => Reason::ListenerNotApplied,
        KafkaFault::Refused
        | KafkaFault::TimedOut(_)
        | KafkaFault::Network(_)
        | KafkaFault::Code { .. }
        | KafkaFault::Malformed(_) => Reason::KafkaUnreachable,
    };
    Problem::new(reason, with_remedy(&error.to_string(), reason))
}

fn with_remedy(text: &str, reason: Reason) -> String {
    match reason.remedy() {
        "" => text.to_owned(),
        remedy => format!("{text}. {remedy}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kubernetes(fault: KubernetesFault) -> Cause {
        Cause::Kubernetes(KubernetesError { operation: "test", fault })
    }

    fn cloud(fault: CloudFault) -> Cause {
        Cause::Cloud(CloudError { operation: "test", fault })
    }

    #[test]
    fn what_sorts_itself_out_is_no_problem() {
        let reason = |cause: Cause| cause.problem().map(|problem| problem.reason);
        for cause in [
            kubernetes(KubernetesFault::Conflict),
            kubernetes(KubernetesFault::NotFound),
            Cause::LookAgain("x"),
            Cause::MovedAway,
            Cause::NotLeading,
        ] {
            assert_eq!(reason(cause.clone()), None, "{cause:?}");
        }
        for (cause, told) in [
            (kubernetes(KubernetesFault::Unavailable("x".into())), Reason::Retrying),
            (kubernetes(KubernetesFault::Forbidden("x".into())), Reason::Retrying),
            (kubernetes(KubernetesFault::NotNow("x".into())), Reason::RestartBlocked),
            (cloud(CloudFault::QuotaExceeded("x".into())), Reason::QuotaExceeded),
            (Cause::ListenerNotApplied("x".into()), Reason::ListenerNotApplied),
        ] {
            assert_eq!(reason(cause.clone()), Some(told), "{cause:?}");
        }
    }

    #[test]
    fn what_may_only_mean_that_the_world_moved_on_is_looked_at_again() {
        for (cause, again) in [
            (Cause::LookAgain("x"), true),
            (Cause::MovedAway, true),
            (cloud(CloudFault::RevisionChanged), true),
            (cloud(CloudFault::PortAlreadyBound("x".into())), true),
            (cloud(CloudFault::NotFound("x".into())), true),
            (cloud(CloudFault::QosPolicyInUse("x".into())), true),
            (cloud(CloudFault::QuotaExceeded("x".into())), false),
            (kubernetes(KubernetesFault::Conflict), false),
            (Cause::NotLeading, false),
        ] {
            assert_eq!(cause.wants_another_look(), again, "{cause:?}");
        }
    }
}

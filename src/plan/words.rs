//! Actions in words, as `status.plan` and events show them.

use super::{Action, desired::Desired};

/// What follows when a sentence is about the first of several brokers.
pub fn and_more(others: usize) -> String {
    match others {
        0 => String::new(),
        others => format!(" (and {others} more brokers)"),
    }
}

/// One sentence for one action.
pub fn action(action: &Action, desired: &Desired) -> String {
    let pod = |ordinal| format!("{}-{ordinal}", desired.stateful_set);
    match action {
        Action::HoldObject => "hold the object until its addresses are gone (finalizer)".to_owned(),
        Action::LetObjectGo => "let the object go (finalizer)".to_owned(),
        Action::HoldSecret => "hold the credential's Secret while it is needed (finalizer)".to_owned(),
        Action::LetSecretGo => "let the credential's Secret go (finalizer)".to_owned(),
        Action::Allocate { ordinal, new, .. } => {
            format!("allocate an address for {} and bind it to {}", pod(*ordinal), new.binding.fixed_ip)
        }
        Action::Bind { ordinal, id, to, marker, .. } => {
            let taken = if marker.is_some() { "take over and bind" } else { "bind" };
            format!("{taken} address {id} of {} to {}", pod(*ordinal), to.fixed_ip)
        }
        Action::Unbind { ordinal, id, .. } => format!("unbind address {id} of {}", pod(*ordinal)),
        Action::Limit { ordinal, id, policy, .. } => {
            format!("limit address {id} of {} by QoS policy {policy}", pod(*ordinal))
        }
        Action::MakePolicy { limits, .. } => {
            format!("make QoS policy {} ({limits})", limits.policy_name())
        }
        Action::RemovePolicy { name, .. } => format!("remove QoS policy {name}, which no address has"),
        Action::Retain { ordinal, id, .. } => format!("mark address {id} of {} as retained", pod(*ordinal)),
        Action::Release { ordinal, id, .. } => format!("release address {id} of {}", pod(*ordinal)),
        Action::Advertise { ordinal, endpoint, .. } => {
            format!("advertise {endpoint} for {} without a restart", pod(*ordinal))
        }
        Action::Withdraw { ordinal, .. } => {
            format!("withdraw the listener from {} without a restart", pod(*ordinal))
        }
        Action::WriteFiles { files } => {
            format!(
                "write the addresses into ConfigMap {}",
                files.metadata.name.as_deref().unwrap_or_default()
            )
        }
        Action::DeleteFiles { files } => {
            format!("delete ConfigMap {}", files.metadata.name.as_deref().unwrap_or_default())
        }
        Action::ChangeTemplate { what, .. } => what.clone(),
        Action::Restart { ordinal, .. } => format!("restart {}", pod(*ordinal)),
        Action::ClearReplace => "remove the annotation kafkaaccess.dev/replace".to_owned(),
    }
}

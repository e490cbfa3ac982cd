//! Policies as they are where session, networks, time, organizations and device let the most: to tell what somebody might see at all,
//! without asking at each hour and from each network. More may come of it than of any one moment, and never less.
use cedar_policy::{Effect, Policy, PolicyId, PolicySet};
use serde_json::{Value, json};

use super::around::Looks;

impl Looks {
    /// Whether it looks at what is another at another moment. A server's tenant is always the same.
    pub(super) fn changes(self) -> bool {
        self.session || self.networks || self.time || self.organizations || self.device
    }
}

/// The same policies: what permits does so whatever these are, and what forbids does so only
/// where it does whatever they are.
pub(super) fn widest(set: &PolicySet) -> Result<PolicySet, String> {
    let mut widest = PolicySet::new();
    for policy in set.policies() {
        let policy = freed(policy).map_err(|error| format!("{}: {error}", policy.id()))?;
        widest.add(policy).map_err(|error| error.to_string())?;
    }
    Ok(widest)
}

fn freed(policy: &Policy) -> Result<Policy, String> {
    let mut json = policy.to_json().map_err(|error| error.to_string())?;
    let permits = policy.effect() == Effect::Permit;
    let conditions = json["conditions"].as_array_mut();
    for condition in conditions.into_iter().flatten() {
        let to = (condition["kind"] == "when") == permits;
        free(&mut condition["body"], to);
    }
    let id = PolicyId::new(policy.id());
    Policy::from_json(Some(id), json).map_err(|error| error.to_string())
}

/// Makes a condition, in Cedar's JSON, as often `to` as it can be by what changes around.
fn free(condition: &mut Value, to: bool) {
    let mut looks = Looks::default();
    looks.add(condition);
    if !looks.changes() {
        return;
    }
    let parts = condition.as_object_mut().filter(|parts| parts.len() == 1);
    let part = parts.and_then(|parts| parts.iter_mut().next());
    match part {
        Some((name, sides)) if name == "&&" || name == "||" => {
            free(&mut sides["left"], to);
            free(&mut sides["right"], to);
        }
        Some((name, of)) if name == "!" => free(&mut of["arg"], !to),
        _ => *condition = json!({ "Value": to }),
    }
}

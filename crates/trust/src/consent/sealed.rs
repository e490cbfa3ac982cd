//! Sealed entries: what somebody has marked as more confidential than the rest of a record, and for whom a
//! relationship alone is not enough to see it. Pure.
//!
//! A seal is a mark that the row itself carries (HL7 v3 `Confidentiality`). What codes stand for seals nothing: who
//! treats a patient has to know of it, unless somebody has said otherwise.
use serde::Deserialize;

use super::labels::Level;
use super::relations::By;
use crate::Role;

/// What a level of confidentiality needs.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Seal {
    /// The level; those above it have it, too, where no seal of their own says otherwise.
    level: Level,
    /// From whom it keeps rows.
    roles: Vec<Role>,
    /// The relationships that open it, by their names. Whoever is named as one who made the row needs none.
    #[serde(default)]
    opened_by: Vec<String>,
    /// Why a row is hidden.
    denied: String,
}

impl Seal {
    /// Why a row is hidden.
    pub(crate) fn denied(&self) -> &str {
        &self.denied
    }

    /// Whether a relationship opens it, as it is told: its name, and the resource that says so.
    pub(crate) fn is_opened_by(&self, told: &str) -> bool {
        let name = told.rsplit_once(' ').map_or(told, |(name, _)| name);
        self.opened_by.iter().any(|one| one == name)
    }
}

/// The seals of a rule pack.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seals(Vec<Seal>);

impl Seals {
    /// Ready to be asked. The first relationship that there is explains an access, and no other is looked for:
    /// those that open a seal have to stand before those that don't.
    ///
    /// # Errors
    /// What is wrong with the data, in words.
    pub(crate) fn of(mut seals: Vec<Seal>, relationships: &[By]) -> Result<Self, String> {
        for seal in &seals {
            if seal.denied.trim().is_empty() {
                return Err("a row is sealed, and no words say so (`denied`)".to_owned());
            }
            if let Some(role) = [Role::Patient, Role::System]
                .iter()
                .find(|role| seal.roles.contains(role))
            {
                return Err(format!("nothing is sealed from the role {}", role.name()));
            }
            for name in &seal.opened_by {
                let place = relationships.iter().position(|by| by.name == *name);
                let Some(place) = place else {
                    return Err(format!(
                        "a seal is opened by `{name}`, which is no relationship"
                    ));
                };
                let before = &relationships[..place];
                if let Some(other) = before.iter().find(|by| !seal.opened_by.contains(&by.name)) {
                    return Err(format!(
                        "a seal is opened by `{name}` and not by `{}`, which is looked for before it",
                        other.name
                    ));
                }
            }
        }
        seals.sort_by_key(|seal| std::cmp::Reverse(seal.level));
        Ok(Self(seals))
    }

    /// Those about a role.
    pub(crate) fn about(&self, role: Role) -> impl Iterator<Item = &Seal> {
        self.0.iter().filter(move |seal| seal.roles.contains(&role))
    }

    /// What keeps a row that is marked with a level from a role.
    pub(crate) fn on(&self, role: Role, marked: Level) -> Option<&Seal> {
        self.about(role).find(|seal| seal.level <= marked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consent::Rules;

    const PACK: &str = "name = 'x'\n[default]\npermit = ['TREAT']\npermitted = 'p'\ndenied = 'd'\n";

    fn wrong(seal: &str) -> String {
        let text = format!("{PACK}[[sealed]]\n{seal}");
        Rules::parse("x.toml", &text).expect_err(seal).to_string()
    }

    #[test]
    fn the_highest_seal_that_a_mark_reaches_counts() {
        let england = Rules::load("england").expect("a pack");
        let seals = england.seals();
        for (role, marked, by_team, by_order) in [
            (Role::Clinician, Level::Normal, true, true),
            (Role::Clinician, Level::Restricted, true, false),
            (Role::Clinician, Level::Very, false, false),
            (Role::Client, Level::Restricted, true, false),
            (Role::Patient, Level::Very, true, true),
        ] {
            let seal = seals.on(role, marked);
            let opens = |told| seal.is_none_or(|seal| seal.is_opened_by(told));
            assert_eq!(
                opens("care team CareTeam/t"),
                by_team,
                "{role:?} {marked:?}"
            );
            assert_eq!(
                opens("order ServiceRequest/s"),
                by_order,
                "{role:?} {marked:?}"
            );
        }
        let hipaa = Rules::load("us-hipaa").expect("a pack");
        assert!(hipaa.seals().about(Role::Clinician).next().is_none());
    }

    #[test]
    fn what_is_no_seal_is_refused() {
        for (seal, words) in [
            (
                "level = 'X'\nroles = ['clinician']\ndenied = 'd'",
                "`X` is no level of confidentiality",
            ),
            (
                "level = 'R'\nroles = ['patient']\ndenied = 'd'",
                "nothing is sealed from the role patient",
            ),
            (
                "level = 'R'\nroles = ['clinician']\ndenied = ' '",
                "no words say so",
            ),
            (
                "level = 'R'\nroles = ['clinician']\ndenied = 'd'\nopened_by = ['friendship']",
                "`friendship`, which is no relationship",
            ),
            (
                "level = 'R'\nroles = ['clinician']\ndenied = 'd'\nopened_by = ['care team']",
                "`care team` and not by `general practitioner`",
            ),
        ] {
            let said = wrong(seal);
            assert!(said.contains(words), "{seal}: {said}");
        }
    }
}

//! Who would see another way, if a patient's consents were another way.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fhir::{Reference, Resource, ResourceType};

use super::{Asker, Group, Trust};
use crate::consent::{Act, Asked};
use crate::identity::KnownAgent;
use crate::vault::{Asker as Might, Counts, Effect, Foreseen, Party};
use crate::{Action, Permit, Purpose, Role, TrustError};

/// The most kinds of those who might ask that are told apart. Consents name a handful.
const PARTIES_MAX: usize = 50;

/// Who might ask, of whom the same holds.
struct Those {
    role: Role,
    names: Vec<String>,
    known_as: Vec<String>,
    /// Whether consents name them.
    named: bool,
}

impl Trust {
    /// What would change for everybody who has a role here if a consent were written: a new one, or another
    /// version of one that is there; and whether `acts` are permitted now and would be then. Counted is what
    /// the permit itself lets see. Where policies look at the session, networks or the time, everybody is asked
    /// for as if these let the most. Scopes of tokens aren't looked at, and an emergency isn't: consents of
    /// `rules` say whom they don't bind then. In the audit before it is told.
    ///
    /// # Errors
    /// As [`crate::Vault::what_if`], but for large records, of which it tells a part and says so.
    pub async fn what_if(
        &self,
        permit: &Permit,
        consent: &Resource,
        acts: &[Act],
    ) -> Result<Foreseen, TrustError> {
        let vault = self.vault();
        let now_ms = i64::try_from(vault.ledger().clock().now_ms()).unwrap_or(i64::MAX);
        let change = vault.change(permit, consent, now_ms).await?;
        let (those, all_told) = self
            .who_might_ask(permit, &change.actors(), change.names_actors())
            .await?;
        let (mut askers, mut whose) = (Vec::new(), Vec::new());
        let set = self.policy_set();
        for (place, one) in those.iter().enumerate() {
            for purpose in set.purposes().all() {
                if let Some(grants) = self.may_see(one.role, purpose) {
                    whose.push((place, purpose));
                    askers.push(Might {
                        asked: Asked {
                            role: one.role,
                            purpose,
                            now_ms: change.at_ms(),
                            known_as: one.known_as.clone(),
                        },
                        grants,
                    });
                }
            }
        }
        let later_ms = (change.at_ms() > now_ms).then(|| change.at_ms());
        let acts = vault.acts(&change, acts);
        let compared = vault.compare(permit, change, &askers).await?;
        let mut effects: Vec<Vec<Effect>> = those.iter().map(|_| Vec::new()).collect();
        for ((place, purpose), [lost, gained]) in whose.into_iter().zip(&compared.of_askers) {
            let (lost, gained) = (counts(lost), counts(gained));
            if lost.is_empty() && gained.is_empty() {
                continue;
            }
            let of_these = &mut effects[place];
            match of_these
                .iter_mut()
                .find(|effect| (&effect.lost, &effect.gained) == (&lost, &gained))
            {
                Some(effect) => effect.purposes.push(purpose),
                None => of_these.push(Effect {
                    purposes: vec![purpose],
                    lost,
                    gained,
                }),
            }
        }
        let of_role: BTreeMap<Role, Vec<Effect>> = those
            .iter()
            .zip(&effects)
            .filter(|(one, _)| one.names.is_empty())
            .map(|(one, effects)| (one.role, effects.clone()))
            .collect();
        // Somebody of whom the same holds as of all of the role is among these, unless consents name them.
        let parties = those
            .into_iter()
            .zip(effects)
            .filter(|(one, effects)| {
                if one.names.is_empty() || one.named && !effects.is_empty() {
                    !effects.is_empty()
                } else {
                    (of_role.get(&one.role)).map_or(!effects.is_empty(), |all| all != effects)
                }
            })
            .map(|(one, effects)| Party {
                role: one.role,
                names: one.names,
                effects,
            })
            .collect();
        Ok(Foreseen {
            later_ms,
            parties,
            acts,
            looked_at: compared.looked_at,
            complete: compared.complete && all_told,
        })
    }

    /// Whether policies, and the scopes of an access token, let who has a permit do something else, for the same
    /// purpose and under a permit of its own: for pages and cards, which offer nothing that would be refused.
    #[must_use]
    pub fn would_let(&self, permit: &Permit, interaction: Action, kind: ResourceType) -> bool {
        permit.grants.interaction(interaction, kind) && permit.scopes_allow(interaction, kind)
    }

    /// Whom a consent can name: those who are known as something in FHIR. For whoever may see consents.
    ///
    /// # Errors
    /// `Refused`, `Ledger`, `Damaged`.
    pub async fn whom_consents_can_name(
        &self,
        permit: &Permit,
    ) -> Result<Vec<KnownAgent>, TrustError> {
        self.vault()
            .require(permit, Action::Search, ResourceType::Consent)
            .await?;
        Ok(self.identity().all_known(permit.tenant()).await?.rows)
    }

    /// What policies let a role see for a purpose, if consents bind it and it sees anything that they hide.
    fn may_see(&self, role: Role, purpose: Purpose) -> Option<Arc<super::Grants>> {
        if purpose == Purpose::Emergency || !self.vault().rules().reaches(role, purpose) {
            return None;
        }
        // Wherever they ask from, and at whatever hour: whom a change concerns at some moment, it concerns.
        let grants = self.inner.policies.widest_grants(&Asker {
            role,
            part: None,
            purpose,
            own: false,
            around: None,
        });
        let sees = ResourceType::all().any(|kind| {
            let group = grants.group(kind);
            let hidden = matches!(
                group,
                Group::Clinical | Group::Financial | Group::Coordination
            );
            hidden && grants.interaction(Action::Search, kind)
        });
        sees.then_some(grants)
    }

    /// Who might ask, told apart as far as consents tell them apart; and whether these are all.
    async fn who_might_ask(
        &self,
        permit: &Permit,
        actors: &[String],
        tells_apart: bool,
    ) -> Result<(Vec<Those>, bool), TrustError> {
        let roles = Role::ALL
            .into_iter()
            .filter(|role| !matches!(role, Role::Patient | Role::Proxy | Role::System));
        let mut those: Vec<Those> = roles
            .map(|role| Those {
                role,
                names: Vec::new(),
                known_as: Vec::new(),
                named: false,
            })
            .collect();
        if !tells_apart {
            return Ok((those, true));
        }
        let known = self.identity().all_known(permit.tenant()).await?;
        type Alike = (Role, BTreeSet<String>, BTreeSet<ResourceType>);
        let mut alike: BTreeMap<Alike, Those> = BTreeMap::new();
        for agent in known.rows {
            let named = agent.known_as.iter().filter(|one| actors.contains(one));
            let named: BTreeSet<String> = named.cloned().collect();
            let kinds = agent
                .known_as
                .iter()
                .filter_map(|one| Reference::relative(one))
                .map(|(kind, _)| kind);
            let is_named = !named.is_empty();
            let key = (agent.role, named, kinds.collect());
            let those = alike.entry(key).or_insert_with(|| Those {
                role: agent.role,
                names: Vec::new(),
                known_as: agent.known_as.clone(),
                named: is_named,
            });
            those.names.push(agent.name);
        }
        let complete = known.complete && alike.len() <= PARTIES_MAX;
        those.extend(alike.into_values().take(PARTIES_MAX));
        Ok((those, complete))
    }
}

fn counts(references: &[Reference]) -> Counts {
    let mut counts = Counts::new();
    for reference in references {
        *counts.entry(reference.kind).or_default() += 1;
    }
    counts
}

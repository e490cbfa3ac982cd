//! May a row be shown? What all of a patient's consents say of it, made ready once for many rows.
//!
//! Each consent says yes, no or nothing of a row. The newest word counts, save that a general yes takes back
//! no "no" that names whom or what it is about: that is taken back by a change of the consent that said it, or
//! by a newer yes that names them too. Where nobody says anything, the rule pack does.
use fhir::{Resource, ResourceType};
use serde_json::json;

use super::provision::{Asked, Provision, Related, Said};
use super::row::Row;
use super::rules::{Binding, Needs, Rules};
use super::{given_ms, is_about_access, is_unverified, opted_out, refused_at, type_of};

/// A patient's consents, ready to be asked.
#[derive(Debug, Default)]
pub struct Access {
    consents: Vec<Ready>,
}

#[derive(Debug)]
struct Ready {
    id: Option<String>,
    /// Whether it names an organization that keeps to it.
    agreed: bool,
    given_ms: i64,
    /// `None`: whenever it is asked, since nobody has written when.
    refused_ms: Option<i64>,
    refused_by_ms: i64,
    root: Provision,
}

/// How much of a patient's record consents can hide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// All of it.
    Whole,
    /// What a provision is about by its class, code, label or time: what everybody's work depends on is
    /// not hidden by a general word.
    Particular,
}

/// Whether a row may be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict<'a> {
    /// Whether it may.
    pub permitted: bool,
    /// Why, in words.
    pub reason: &'a str,
    /// The consent that decided, if one did.
    pub consent: Option<&'a str>,
    /// What has to go out with the row.
    pub notice: Option<&'a str>,
}

impl Access {
    /// Makes ready those consents that are about access and in force. `related` is what instances that
    /// provisions call related refer to.
    pub(crate) fn of(consents: &[Resource], related: &Related) -> Self {
        let of_access = |consent: &&Resource| {
            is_about_access(consent) && consent.text_at(&["status"]) == Some("active")
        };
        let consents = consents
            .iter()
            .filter(of_access)
            .map(|consent| {
                let denies = match consent.get("provision").and_then(type_of) {
                    Some(kind) => kind != "permit",
                    None => opted_out(consent),
                };
                let root = Provision::root(consent, denies, is_unverified(consent), related);
                let (refused_ms, refused_by_ms) = refused_at(consent);
                Ready {
                    id: consent.id().map(str::to_owned),
                    agreed: names_keeper(consent),
                    given_ms: given_ms(consent),
                    refused_ms,
                    refused_by_ms,
                    root,
                }
            })
            .collect();
        Self { consents }
    }

    /// Whether it matters what a row without security labels says, beside whose it is.
    pub(crate) fn looks_into_rows(&self) -> bool {
        self.consents
            .iter()
            .any(|ready| ready.root.looks_into_rows())
    }

    /// Whether who asks is shown nothing of what consents reach whole, whatever a row says: no word is about a part
    /// of the record, and none says yes, nor of rows with labels, which bind more.
    pub(crate) fn denies_all(&self, rules: &Rules, asked: &Asked) -> bool {
        if self.looks_into_rows() {
            return false;
        }
        let any = Resource::new(ResourceType::Observation);
        let row = Row::new(&rules.tables, &any);
        let labelled = self.newest(Some(Binding::Always), asked, &row, Reach::Whole);
        !self.judge(rules, asked, &row, Reach::Whole).permitted
            && !labelled.is_some_and(|(_, said)| said.permits)
    }

    /// Calls with `Type/id` of each actor that a consent names.
    pub(crate) fn each_actor(&self, mut visit: impl FnMut(&str)) {
        for ready in &self.consents {
            ready.root.each_actor(&mut visit);
        }
    }

    /// Whether it matters who asks.
    pub(crate) fn names_actors(&self) -> bool {
        self.consents.iter().any(|ready| ready.root.names_actors())
    }

    /// Whether something may be hidden from who asks: all of it by a general word, or a part.
    pub(crate) fn may_deny(&self, rules: &Rules, asked: &Asked) -> bool {
        let binding = rules.binding(asked.role, asked.purpose);
        let any = Resource::new(ResourceType::Observation);
        let row = Row::new(&rules.tables, &any);
        binding.is_some()
            && (!self.decide(rules, asked, &row, Reach::Whole).permitted
                || self
                    .consents
                    .iter()
                    .any(|ready| ready.binds(binding) && ready.root.may_deny_part(asked)))
    }

    /// For each label whose rows need a consent that there is not: why.
    pub(crate) fn labels_denied(&self, rules: &Rules, asked: &Asked) -> Vec<String> {
        let mut denied: Vec<String> = Vec::new();
        for special in &rules.labelled {
            if !special.is_for(asked.role, asked.purpose) {
                continue;
            }
            let mut any = Resource::new(ResourceType::Observation);
            any.set(
                "meta",
                json!({"security": [{"system": super::ACT_CODE, "code": special.label}]}),
            );
            let row = Row::new(&rules.tables, &any);
            let said = self.decide(rules, asked, &row, Reach::Whole);
            if !said.permitted && !denied.contains(&special.denied) {
                denied.push(special.denied.clone());
            }
        }
        denied
    }

    /// Decides about a row.
    pub(crate) fn decide<'a>(
        &'a self,
        rules: &'a Rules,
        asked: &Asked,
        row: &Row<'_>,
        reach: Reach,
    ) -> Verdict<'a> {
        let mut verdict = self.judge(rules, asked, row, reach);
        // In an emergency, too.
        let mut noticed = rules.labelled.iter().filter(|special| {
            special.notice.is_some()
                && special.is_about(asked.role)
                && row.is_labelled(&special.label)
        });
        verdict.notice = noticed.find_map(|special| special.notice.as_deref());
        verdict
    }

    fn judge<'a>(
        &'a self,
        rules: &'a Rules,
        asked: &Asked,
        row: &Row<'_>,
        reach: Reach,
    ) -> Verdict<'a> {
        // A row can have several of them (counselling notes of a part 2 programme), and has to satisfy each.
        let mut specials = rules.labelled.iter().filter(|special| {
            special.is_for(asked.role, asked.purpose) && row.is_labelled(&special.label)
        });
        let named = specials.clone().filter(|one| one.needs == Needs::Named);
        let special = specials.next();
        let binding = rules.binding(asked.role, asked.purpose);
        if binding.is_none() && special.is_none() {
            return Verdict {
                permitted: true,
                reason: "consents do not bind this role",
                consent: None,
                notice: None,
            };
        }
        // What needs a consent is shown by any that says so.
        let binding = special.map_or(binding, |_| Some(Binding::Always));
        let found = self.newest(binding, asked, row, reach);
        if let Some((_, said)) = found
            && said.permits
            && let Some(unnamed) = { named }.find(|special| !said.names_label(&special.label))
        {
            return refused(&unnamed.denied);
        }
        match (found, special) {
            (Some((ready, said)), _) => Verdict {
                permitted: said.permits,
                reason: reason(said),
                consent: ready.id.as_deref(),
                notice: None,
            },
            (None, Some(special)) => refused(&special.denied),
            (None, None) if reach == Reach::Particular => Verdict {
                permitted: true,
                reason: "no consent hides it in particular",
                consent: None,
                notice: None,
            },
            (None, None) => {
                let (permitted, reason) = rules.without_consent(asked.purpose);
                Verdict {
                    permitted,
                    reason,
                    consent: None,
                    notice: None,
                }
            }
        }
    }

    /// The word that counts.
    fn newest(
        &self,
        binding: Option<Binding>,
        asked: &Asked,
        row: &Row<'_>,
        reach: Reach,
    ) -> Option<(&Ready, Said<'_>)> {
        let mut newest: Option<(i64, &Ready, Said<'_>)> = None;
        let mut particular: Option<(i64, &Ready, Said<'_>)> = None;
        for ready in self.consents.iter().filter(|ready| ready.binds(binding)) {
            let Some(said) = ready.root.says(asked, row) else {
                continue;
            };
            if reach == Reach::Particular && !said.permits && !said.of_this {
                continue;
            }
            let at_ms = ready.said_ms(said.permits, asked.now_ms);
            let is_newer = |other: &Option<(i64, &Ready, Said<'_>)>| {
                other.is_none_or(|(other_ms, _, other)| {
                    (at_ms, !said.permits) > (other_ms, !other.permits)
                })
            };
            if is_newer(&newest) {
                newest = Some((at_ms, ready, said));
            }
            if said.particular && is_newer(&particular) {
                particular = Some((at_ms, ready, said));
            }
        }
        let counts = match (newest, particular) {
            (Some((_, _, general)), Some(no))
                if general.permits && !general.particular && !no.2.permits =>
            {
                Some(no)
            }
            (newest, _) => newest,
        };
        counts.map(|(_, ready, said)| (ready, said))
    }
}

impl Ready {
    fn binds(&self, binding: Option<Binding>) -> bool {
        match binding {
            Some(Binding::Always) => true,
            Some(Binding::Agreed) => self.agreed,
            None => false,
        }
    }

    /// When it was said; see [`given_ms`] and [`refused_at`].
    fn said_ms(&self, permits: bool, now_ms: i64) -> i64 {
        if permits {
            return self.given_ms;
        }
        self.refused_ms
            .unwrap_or_else(|| self.refused_by_ms.min(now_ms))
    }
}

fn names_keeper(consent: &Resource) -> bool {
    super::list(consent.get("organization")).any(|organization| {
        organization
            .get("reference")
            .is_some_and(serde_json::Value::is_string)
    })
}

fn refused(reason: &str) -> Verdict<'_> {
    Verdict {
        permitted: false,
        reason,
        consent: None,
        notice: None,
    }
}

fn reason(said: Said<'_>) -> &'static str {
    match (said.permits, said.particular) {
        (true, _) => "the patient's consent permits it",
        (false, true) => "an exception in the patient's consent denies it",
        (false, false) => "the patient's consent denies it",
    }
}

#[cfg(test)]
mod tests;

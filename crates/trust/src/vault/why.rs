//! Why somebody may see a row, or not: what its patients' consents say of it, without its content.
use fhir::ResourceType;

use super::consents::{Hidden, reach};
use super::{Sight, Vault, missed, open_live};
use crate::audit::{Event, Outcome, Record};
use crate::consent::Row;
use crate::{Permit, TrustError, tokens};

/// What one patient's consents say of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsentWhy {
    /// The patient; none where the row names nobody who could have agreed.
    pub patient: Option<String>,
    /// Whether the row may be shown.
    pub permitted: bool,
    /// Why, in words. Of a row with a label that needs a consent, they tell that.
    pub reason: String,
    /// The consent that decided, if one did.
    pub consent: Option<String>,
}

/// Why a row is shown to somebody, or isn't, as far as it is for consents to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowWhy {
    /// Whether it is.
    pub permitted: bool,
    /// One for each patient that it names. Any of them can hide it.
    pub consents: Vec<ConsentWhy>,
    /// Where no consent is asked: why not.
    pub unasked: Option<&'static str>,
}

impl Vault {
    /// Why a row is shown to whom `asked` is for, or isn't. `by` is who wants to know; that they asked is in
    /// the audit of the row's patients before they are told. `None`: there is no such row.
    pub(crate) async fn why_row(
        &self,
        by: &Permit,
        asked: &Permit,
        kind: ResourceType,
        id: &str,
        note: &str,
    ) -> Result<Option<RowWhy>, TrustError> {
        let mut record = Record::under(by, Event::EXPLAINED);
        record.note = Some(note);
        record.resources.push(missed(kind, id));
        let view = Sight::now(self.ledger().view()?);
        let stored = view.get(by.tenant(), tokens::kind(kind), id).await?;
        let Some(stored) = stored else {
            record.outcome = Outcome::Missed;
            self.record(by, record).await?;
            return Ok(None);
        };
        let (row, before) = open_live(&view, by.tenant(), stored).await?;
        let live = before.as_ref().unwrap_or(&row.resource);
        let patients = live.patients();
        record
            .patients
            .extend(patients.iter().map(|patient| (*patient).to_owned()));
        let rules = self.rules();
        let mut hidden = Hidden::default();
        let unrelated = self
            .lacks_relation(view.rules(), asked, live, &mut hidden)
            .await?;
        let mut why = RowWhy {
            permitted: true,
            consents: Vec::new(),
            unasked: None,
        };
        match reach(asked, kind) {
            None => why.unasked = Some("consents hide no row of this type"),
            Some(_) if unrelated => {
                why.permitted = false;
                for patient in &patients {
                    let found = (self.relation(view.rules(), asked, patient, &mut hidden)).await?;
                    why.consents.push(ConsentWhy {
                        patient: Some((*patient).to_owned()),
                        permitted: found.is_some(),
                        reason: found.unwrap_or_else(|| rules.relationships().denied().to_owned()),
                        consent: None,
                    });
                }
            }
            Some(_) if !rules.reaches(asked.agent.role, asked.purpose) => {
                why.unasked = Some("consents do not bind this role for this purpose");
            }
            Some(reach) => {
                let mut of_patients = Vec::new();
                for patient in &patients {
                    let access = self
                        .access(view.rules(), asked, patient, &mut hidden)
                        .await?;
                    of_patients.push((Some((*patient).to_owned()), access));
                }
                if of_patients.is_empty()
                    && rules.labels_any(asked.agent.role, &Row::new(&rules.tables, live))
                {
                    of_patients.push((None, std::sync::Arc::default()));
                }
                let every: Vec<_> = of_patients.iter().map(|(_, one)| one.clone()).collect();
                let who = self.asked(asked, &every, &mut hidden).await?;
                let facts = Row::new(&rules.tables, live);
                for (patient, access) in &of_patients {
                    let verdict = access.decide(rules, &who, &facts, reach);
                    why.permitted &= verdict.permitted;
                    why.consents.push(ConsentWhy {
                        patient: patient.clone(),
                        permitted: verdict.permitted,
                        reason: verdict.reason.to_owned(),
                        consent: verdict.consent.map(str::to_owned),
                    });
                }
                if why.consents.is_empty() {
                    why.unasked = Some("the row names no patient");
                }
            }
        }
        self.record(by, record).await?;
        Ok(Some(why))
    }
}

//! Why somebody may see a row, or not: what is asked of each row that an answer holds, told without its content.
use fhir::{Resource, ResourceType};

use super::consents::Hidden;
use super::{Sight, Vault, missed, open_live};
use crate::audit::{Event, Outcome, Record};
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

/// Which relationship somebody has with one of those whose a row is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelationWhy {
    /// The patient.
    pub patient: String,
    /// What makes it, and the resource that says so; `None` where there is none.
    pub by: Option<String>,
    /// Whether a rule hides rows where there is none.
    pub needed: bool,
}

/// Why a row is shown to somebody, or isn't, beside what policies say of its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowWhy {
    /// Whether it is.
    pub permitted: bool,
    /// Why it isn't, whatever consents say: whose record it is, the scopes of a token, what minors keep.
    pub barred: Option<String>,
    /// With each patient that it names, where the rule pack asks who has one.
    pub relations: Vec<RelationWhy>,
    /// One for each patient that it names. Any of them can hide it.
    pub consents: Vec<ConsentWhy>,
    /// Where no consent is asked: why not.
    pub unasked: Option<&'static str>,
}

impl RowWhy {
    pub(super) fn new() -> Self {
        Self {
            permitted: true,
            barred: None,
            relations: Vec::new(),
            consents: Vec::new(),
            unasked: None,
        }
    }

    pub(crate) fn barred(reason: String) -> Self {
        Self {
            permitted: false,
            barred: Some(reason),
            ..Self::new()
        }
    }
}

/// A row that somebody asks about, and the moment that it is of.
pub(crate) struct AskedRow {
    view: Sight,
    pub(crate) row: Resource,
}

impl Vault {
    /// The row that somebody asks about; `None` when there is none. Nobody is told of it before
    /// [`Vault::record_explained`].
    pub(crate) async fn asked_row(
        &self,
        by: &Permit,
        kind: ResourceType,
        id: &str,
    ) -> Result<Option<AskedRow>, TrustError> {
        let view = Sight::now(self.ledger().view()?);
        let stored = view.get(by.tenant(), tokens::kind(kind), id).await?;
        let Some(stored) = stored else {
            return Ok(None);
        };
        let (row, before) = open_live(&view, by.tenant(), stored).await?;
        let row = before.unwrap_or(row.resource);
        Ok(Some(AskedRow { view, row }))
    }

    /// Why a row is shown under a permit, or isn't: what [`Vault::read`] asks of it.
    pub(crate) async fn why_row(
        &self,
        permit: &Permit,
        asked: &AskedRow,
    ) -> Result<RowWhy, TrustError> {
        let AskedRow { view, row } = asked;
        let mut why = RowWhy::new();
        let mut hidden = Hidden::default();
        let is_hidden = self
            .weighs(view, permit, row, &mut hidden, Some(&mut why))
            .await?;
        why.permitted = !is_hidden;
        let interaction = permit.action;
        if !permit.covers(interaction, row) {
            let words = if permit.only_patient().is_some() {
                "the row is not of the record that is let be seen, or the scopes of the access token leave it out"
            } else {
                "the scopes of the access token leave the row out"
            };
            why.permitted = false;
            why.barred = Some(words.to_owned());
        }
        Ok(why)
    }

    /// Records that somebody asked why, before they are told.
    pub(crate) async fn record_explained(
        &self,
        by: &Permit,
        (kind, id): (ResourceType, &str),
        asked: Option<&AskedRow>,
        note: &str,
    ) -> Result<(), TrustError> {
        let mut record = Record::under(by, Event::EXPLAINED);
        record.note = Some(note);
        record.resources.push(missed(kind, id));
        match asked {
            None => record.outcome = Outcome::Missed,
            Some(asked) => {
                let patients = asked.row.patients();
                record
                    .patients
                    .extend(patients.iter().map(|patient| (*patient).to_owned()));
            }
        }
        self.record(by, record).await?;
        Ok(())
    }
}

//! Writing: everything of one cause in one commit, with its audit record.
use std::collections::BTreeSet;

use fhir::{Resource, ResourceType};
use ledger::{Commit, Draft, Expected, LedgerError, Owner, TenantId};
use serde_json::Value;

use super::own::Definitions;
use super::{Change, Unit, UnitReceipt, Vault, doers, named, open_live};
use crate::audit::{Event, Record, Touched};
use crate::{Action, Permit, Role, TrustError, conventions, tokens};

/// A change, checked.
struct Checked {
    draft: Draft,
    touched: Touched,
    /// All patients that the new or the old content names.
    patients: Vec<String>,
    event: Event,
}

/// Whether what is there is the order of a call to a partner, and who would change it the patient or who acts for them.
/// What becomes of it moves a journey as the partner's answer, which is not theirs to give.
fn is_for_partners(permit: &Permit, before: &Resource) -> bool {
    let codings = before.at(&["code", "coding"]).and_then(Value::as_array);
    matches!(permit.agent.role, Role::Patient | Role::Proxy)
        && before.kind() == ResourceType::Task
        && codings.into_iter().flatten().any(|coding| {
            coding["system"] == conventions::TASK_SYSTEM
                && coding["code"] == conventions::CALL_ORDER
        })
}

impl Vault {
    /// Commits a unit of work with its audit record; returns when durable.
    ///
    /// # Errors
    /// `Refused` when a change is outside the permit; `Invalid` when a resource would move to another
    /// patient, or names another owner than it has; `Ledger(Conflict)` and other store errors.
    pub async fn commit(&self, permit: &Permit, unit: Unit) -> Result<UnitReceipt, TrustError> {
        // Boxed, so that what is needed for a commit lies in nobody's future who makes one: several in one
        // function took more than a thread's stack.
        Box::pin(self.commit_whole(permit, unit)).await
    }

    async fn commit_whole(&self, permit: &Permit, unit: Unit) -> Result<UnitReceipt, TrustError> {
        let asked = unit.asked.clone();
        let asker = asked.as_ref().unwrap_or(permit);
        if asker.tenant() != permit.tenant() {
            return Err(TrustError::Invalid(
                "who asked is of another tenant".to_owned(),
            ));
        }
        let mut record = Record::under(asker, Event::TRANSACTION);
        if !permit.action.writes() {
            return Err(self
                .refuse(permit, Action::Update, None, Some(record))
                .await);
        }
        let mut commit = Commit::new(permit.tenant());
        let changes = unit.changes.len();
        let mut events = Vec::with_capacity(changes);
        let mut defines = false;
        let mut definitions = Definitions::new();
        for change in unit.changes {
            let kind = match &change {
                Change::Put { resource, .. } => resource.kind(),
                Change::Delete { kind, .. } => *kind,
            };
            defines |= kind == ResourceType::SearchParameter;
            self.check_subscription(permit.tenant(), &change, &unit.internals)
                .await?;
            let checked = self.check(permit, change, &mut definitions).await?;
            record.touch(checked.touched);
            record.patients.extend(checked.patients);
            commit.documents.push(checked.draft);
            events.push(checked.event);
        }
        self.check_definitions(permit.tenant(), &definitions)
            .await?;
        if let [event] = events.as_slice() {
            record.event = *event;
            record
                .resources
                .iter_mut()
                .for_each(|touched| touched.interaction = None);
        } else if events.is_empty() {
            record.event = Event::of(permit.action);
        }
        let mut patients: BTreeSet<String> = unit.patient.into_iter().collect();
        for internal in unit.internals {
            if !Self::internal_allowed(permit, &internal) {
                return Err(self
                    .refuse(permit, Action::Update, None, Some(record))
                    .await);
            }
            patients.extend(patient_of(&internal.owner));
            commit
                .documents
                .push(self.internal_draft(permit.tenant(), internal));
        }
        if let Some(kept) = unit.kept {
            commit.documents.extend(self.once_drafts(permit, &kept));
        }
        patients.extend(
            unit.outbox_add
                .iter()
                .filter_map(|entry| patient_of(&entry.owner)),
        );
        let outside = |patient: &String| permit.only_patient().is_some_and(|only| only != patient);
        // Timers, messages and positions are the business of what acts for journeys.
        let mechanism = !(unit.timers_set.is_empty()
            && unit.timers_clear.is_empty()
            && unit.outbox_add.is_empty()
            && unit.outbox_remove.is_empty()
            && unit.cursor.is_none());
        let mechanic = matches!(
            permit.action,
            Action::Orchestrate | Action::Send | Action::Work
        );
        if patients.iter().any(outside) || (mechanism && !mechanic) {
            return Err(self
                .refuse(permit, Action::Update, None, Some(record))
                .await);
        }
        record.patients.extend(patients);
        record.note = unit.note.as_deref();
        let disclosed = (unit.disclosed.as_ref()).filter(|_| permit.action == Action::Send);
        if let (Some(disclosed), Some(patient)) = (disclosed, record.patients.first().cloned()) {
            record.event = Event::DISCLOSED;
            record.purpose = Some(disclosed.purpose);
            record.recipient = Some(&disclosed.to);
            record.touch(Touched {
                kind: disclosed.kind,
                id: disclosed.id.clone(),
                version: Some(disclosed.version),
                patient: Some(patient),
                interaction: None,
            });
        }
        let worth_recording = !commit.documents.is_empty()
            || !unit.outbox_add.is_empty()
            || !unit.outbox_remove.is_empty()
            || unit.note.is_some();
        let named = record.patients.clone();
        if worth_recording {
            Self::tell_registrations(&mut record);
            self.tell_relations(asker, &mut record).await?;
            commit.audit = Some(self.inner.auditor.draft(&record));
        }
        commit.timers_set = unit.timers_set;
        commit.timers_clear = unit.timers_clear;
        commit.outbox_add = unit.outbox_add;
        commit.outbox_remove = unit.outbox_remove;
        commit.cursor = unit.cursor;
        commit.cause = unit.cause;
        commit.held = unit.held;
        // What care that is under way writes is never refused for want of room, nor is a patient's "no"; what comes
        // with that needs room.
        commit.bounded = permit.action.is_bounded();
        commit.always = vec![tokens::kind(ResourceType::Consent)];
        let mut receipt = match self.ledger().commit(commit).await {
            Err(LedgerError::Conflict) if self.is_repeated(permit).await? => {
                return Err(TrustError::Repeated);
            }
            receipt => receipt?,
        };
        asker
            .freshness
            .note(receipt.audit.map(|at| at.number), true);
        asker.name_patients(&named);
        if defines {
            // It is written, whatever becomes of this; every server looks again in a second, and says so if
            // it can't.
            let _ = self.refresh_owns(permit.tenant()).await;
        }
        let internals = receipt.documents.split_off(changes);
        Ok(UnitReceipt {
            internals,
            changes: receipt.documents,
            audit: receipt.audit,
        })
    }

    /// Checks one change against the permit and against what is there.
    async fn check(
        &self,
        permit: &Permit,
        change: Change,
        definitions: &mut Definitions,
    ) -> Result<Checked, TrustError> {
        let (kind, id, expected) = match &change {
            Change::Put { resource, expected } => {
                let id = resource.id().ok_or_else(|| {
                    TrustError::Invalid("a resource to be written needs an id".to_owned())
                })?;
                (resource.kind(), id.to_owned(), *expected)
            }
            Change::Delete {
                kind, id, expected, ..
            } => (*kind, id.clone(), *expected),
        };
        let (interaction, event, word) = match (&change, expected) {
            (Change::Delete { .. }, _) => (Action::Delete, Event::DELETE, "delete"),
            (_, Expected::Absent) => (Action::Create, Event::CREATE, "create"),
            (_, Expected::Version(_)) => (Action::Update, Event::UPDATE, "update"),
        };
        let owner = match &change {
            Change::Put { resource, .. } => Self::owner(resource),
            Change::Delete { owner, .. } => owner.clone(),
        };
        let touched = Touched {
            kind,
            id: id.clone(),
            version: Some(expected.next()),
            patient: patient_of(&owner),
            interaction: Some(word),
        };
        let mut patients = match &change {
            Change::Put { resource, .. } => named(resource),
            Change::Delete { .. } => Vec::new(),
        };
        let mut attempt = Record::under(permit, event);
        attempt.touch(touched.clone());
        attempt.patients.extend(patients.clone());
        let within = permit
            .only_patient()
            .is_none_or(|only| owner == Owner::Patient(only.to_owned()));
        let covered = match &change {
            Change::Put { resource, .. } => permit.covers(interaction, resource),
            // What is deleted is looked at below.
            Change::Delete { .. } => true,
        };
        // Of what has no type of its own, patients and who acts for them write which messages are wanted, and nothing else.
        let others = kind == ResourceType::Basic
            && matches!(permit.agent.role, Role::Patient | Role::Proxy)
            && (permit.only_patient())
                .is_none_or(|patient| self.wishes_id(permit.tenant(), patient) != id);
        if !permit.allows(interaction, kind) || !within || !covered || others {
            let refused = self
                .refuse(permit, interaction, Some(kind), Some(attempt))
                .await;
            return Err(refused);
        }
        let mut replaced = None;
        if let Expected::Version(version) = expected {
            let before = self.before(permit, kind, &id, version).await?;
            if !permit.covers(interaction, &before)
                || is_for_partners(permit, &before)
                || self.keeps_from_proxy(permit, &before).await?
            {
                let refused = self
                    .refuse(permit, interaction, Some(kind), Some(attempt))
                    .await;
                return Err(refused);
            }
            patients.extend(named(&before));
            // Its key, shard and trail are the patient's; moving them is more than a write.
            if Self::owner(&before) != owner {
                return Err(TrustError::Invalid(format!(
                    "{kind}/{id} belongs to another patient's record, or to none; a resource can't be moved"
                )));
            }
            replaced = Some(before);
        } else if matches!(change, Change::Delete { .. }) {
            return Err(TrustError::Invalid(
                "what is absent can't be deleted".to_owned(),
            ));
        }
        if kind == ResourceType::SearchParameter {
            let put = match &change {
                Change::Put { resource, .. } => Some(resource),
                Change::Delete { .. } => None,
            };
            let defined = self
                .check_definition(permit, replaced.as_ref(), put)
                .await?;
            if let Some(owns) = defined {
                definitions.push((id.clone(), owns));
            }
        }
        if let Change::Put { resource, .. } = &change {
            self.check_seal(permit, resource).await?;
        }
        let draft = match change {
            Change::Put { mut resource, .. } => {
                doers::note(&permit.agent, &mut resource, replaced.as_ref());
                self.resource_draft(permit.tenant(), resource, owner, expected)
            }
            Change::Delete { .. } => Draft {
                kind: tokens::kind(kind),
                id,
                owner,
                expected,
                body: Vec::new(),
                deleted: true,
                tokens: Vec::new(),
            },
        };
        Ok(Checked {
            draft,
            touched,
            patients,
            event,
        })
    }

    /// A resource with its id, to be written, with what it is found by.
    pub(crate) fn resource_draft(
        &self,
        tenant: TenantId,
        mut resource: Resource,
        owner: Owner,
        expected: Expected,
    ) -> Draft {
        resource.strip_meta();
        self.take_labels_back(&mut resource);
        let ledger = self.ledger();
        let mut tokens = tokens::of(ledger, tenant, &resource);
        let room = ledger::DOCUMENT_TOKENS_MAX.saturating_sub(tokens.len());
        let owns = self.owns(tenant);
        tokens.extend(tokens::of_owns(ledger, tenant, &resource, &owns, room));
        Draft {
            kind: tokens::kind(resource.kind()),
            id: resource.id().unwrap_or_default().to_owned(),
            owner,
            expected,
            body: resource.to_json(),
            deleted: false,
            tokens,
        }
    }

    /// The content that a change replaces; of a deleted resource, the content before.
    async fn before(
        &self,
        permit: &Permit,
        kind: ResourceType,
        id: &str,
        version: u32,
    ) -> Result<Resource, TrustError> {
        let tenant = permit.tenant();
        let view = self.ledger().view()?;
        let stored = view.get(tenant, tokens::kind(kind), id).await?;
        let stored = stored
            .filter(|stored| stored.version == version)
            .ok_or(LedgerError::Conflict)?;
        let (row, before) = open_live(&view, tenant, stored).await?;
        Ok(before.unwrap_or(row.resource))
    }
}

fn patient_of(owner: &Owner) -> Option<String> {
    match owner {
        Owner::Patient(patient) => Some(patient.clone()),
        Owner::Tenant => None,
    }
}

//! Whether somebody may do what they ask for, as far as an address tells: asked before a body is read, so
//! that nobody has the server read and understand what they have no right to send. Whatever does the work
//! asks again, with all that is known then.
use fhir::ResourceType;
use fhir::search::Scope;
use trust::{Action, Target};

use crate::searched::{Searched, target};
use crate::write::{check_kept, check_writable, wrap};
use crate::{Caller, Record, RecordError};

/// What a request is for, as its method and address say it.
#[derive(Debug, Clone, Copy)]
pub enum Interaction<'a> {
    /// A batch or a transaction; which of them its body says.
    Bundle,
    /// `create`, conditional or not.
    Create(ResourceType),
    /// `update`, conditional or not; or a change of tags.
    Update(ResourceType),
    /// `patch`, conditional or not.
    Patch(ResourceType),
    /// `delete`, conditional or not.
    Delete(ResourceType),
    /// A search of a type, or what is asked like one.
    Search(ResourceType),
    /// A search of several types, or of a compartment.
    Within(&'a Scope),
    /// `$validate`, or what the server takes of a type: of who may do anything to it.
    Validate(ResourceType),
    /// `$apply` of a definition.
    Apply(ResourceType),
    /// `$everything` of a patient, by id.
    Everything(&'a str),
    /// `$export`.
    Export,
}

impl Record {
    /// Whether the caller may do it to anything at all. A "no" is audited.
    ///
    /// # Errors
    /// 403; 404 and 405 for types that nobody can do it to; 500.
    pub async fn may(
        &self,
        caller: &Caller,
        interaction: Interaction<'_>,
    ) -> Result<(), RecordError> {
        let (actions, kind): (&[Action], ResourceType) = match interaction {
            // A batch needs no right of its own; each of its entries does.
            Interaction::Bundle => {
                let actions = [
                    Action::Transaction,
                    Action::Create,
                    Action::Update,
                    Action::Delete,
                    Action::Read,
                    Action::Search,
                    Action::History,
                ];
                return self.any(caller, &actions, Target::default()).await;
            }
            Interaction::Export => {
                return self.any(caller, &[Action::Export], Target::default()).await;
            }
            Interaction::Everything(id) => {
                let patient = self.own_patient(ResourceType::Patient, id);
                let target = Target {
                    kind: None,
                    patient,
                };
                return self.any(caller, &[Action::Search], target).await;
            }
            Interaction::Within(scope) => {
                let kind = Searched::of(scope)?.kind;
                let (_, patient) = target(scope);
                let target = Target { kind, patient };
                return self.any(caller, &[Action::Search], target).await;
            }
            // What is valid is no secret, but who has nothing to do with a type has nothing to check either.
            Interaction::Validate(kind) => {
                let actions = &[
                    Action::Create,
                    Action::Update,
                    Action::Delete,
                    Action::Read,
                    Action::Search,
                ];
                (actions, kind)
            }
            Interaction::Search(kind) => (&[Action::Search], kind),
            Interaction::Apply(kind) => (&[Action::Read], kind),
            Interaction::Create(kind) => (&[Action::Create], kind),
            Interaction::Update(kind) | Interaction::Patch(kind) => (&[Action::Update], kind),
            Interaction::Delete(kind) => (&[Action::Delete], kind),
        };
        match interaction {
            Interaction::Validate(_) | Interaction::Search(_) | Interaction::Apply(_) => {
                check_kept(kind)?;
            }
            _ => check_writable(kind)?,
        }
        let target = Target {
            kind: Some(kind),
            patient: None,
        };
        self.any(caller, actions, target.clone()).await?;
        if matches!(interaction, Interaction::Patch(_)) {
            // A patch asks questions of what is there.
            self.any(caller, &[Action::Read], target).await?;
        }
        Ok(())
    }

    async fn any(
        &self,
        caller: &Caller,
        actions: &[Action],
        mut target: Target,
    ) -> Result<(), RecordError> {
        if target.patient.is_none() {
            target.patient = self.anybodys(caller).await?;
        }
        let (agent, purpose) = (&caller.agent, caller.purpose);
        let decided = self
            .trust
            .decide_any(agent, purpose, actions, target, &caller.request_id);
        decided.await.map(drop).map_err(wrap(caller))
    }
}

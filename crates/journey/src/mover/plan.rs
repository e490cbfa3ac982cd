//! The `CarePlan` by which others see a patient's journey, in the commit of what changes it.

use super::{MoveError, Mover, PatientIds};
use crate::care_plan;
use crate::definition::Definition;
use crate::engine::{Ids, Manual};
use crate::state::State;
use fhir::{Resource, ResourceType};
use ledger::Expected;
use serde_json::json;
use trust::conventions::INSTANCE_SYSTEM;

impl Mover<'_> {
    /// Writes the plan where the journey has begun, is held, goes on, has ended or goes on by another version, and has
    /// what it makes refer to it.
    pub(super) async fn show(
        &mut self,
        (from, definition): (&Definition, &Definition),
        instance: &str,
        before: Option<&State>,
        after: &State,
        ids: &PatientIds<'_>,
    ) -> Result<(), MoveError> {
        let moves = from.version != definition.version;
        let id = ids.id(&care_plan::name(instance));
        if !definition.care_plan {
            if moves && from.care_plan {
                self.put_away(&id, definition, after).await?;
            }
            return Ok(());
        }
        let made = self.refer_to(instance, &id);
        let status = care_plan::status(definition, after);
        let Some(before) = before else {
            let plan = care_plan::begun(definition, instance, &id, after, &made);
            self.create(plan);
            return Ok(());
        };
        if !moves && care_plan::status(definition, before) == status {
            return Ok(());
        }
        // What a version without a plan has put away is taken out again; nobody could do anything by it meanwhile.
        let again = moves && !from.care_plan;
        let Some(draft) = self.draft(ResourceType::CarePlan, &id).await? else {
            // Begun by a program or a version that made none.
            let kind = ResourceType::CarePlan;
            if self.vault.load(self.permit, kind, &id).await?.is_none() {
                let plan = care_plan::begun(definition, instance, &id, after, &made);
                self.create(plan);
            }
            return Ok(());
        };
        let plan = &mut draft.resource;
        if care_plan::is_over(plan) && !(again && care_plan::is_revoked(plan)) {
            return Ok(());
        }
        if moves {
            care_plan::follow(plan, from, definition);
        }
        if again {
            care_plan::take_out(plan);
        }
        care_plan::bring(plan, definition, after, &made);
        draft.changed = true;
        Ok(())
    }

    /// Ends the plan of a journey that goes on by a version which shows none.
    async fn put_away(
        &mut self,
        id: &str,
        definition: &Definition,
        after: &State,
    ) -> Result<(), MoveError> {
        let now_ms = self.now_ms;
        if let Some(draft) = self.draft(ResourceType::CarePlan, id).await?
            && !care_plan::is_over(&draft.resource)
        {
            care_plan::put_away(&mut draft.resource, definition, after, now_ms);
            draft.changed = true;
        }
        Ok(())
    }

    /// What somebody asks of a journey by having written to its plan. `written` is what they wrote; what counts is
    /// what the plan says now.
    pub(crate) async fn asked_by_plan(
        &mut self,
        instance: &str,
        definition: &Definition,
        state: &State,
        written: &Resource,
    ) -> Result<Option<Manual>, MoveError> {
        let id = self.ids(definition).id(&care_plan::name(instance));
        if written.id() != Some(id.as_str()) {
            return Ok(None);
        }
        let plan = self.draft(ResourceType::CarePlan, &id).await?;
        let asked = plan.and_then(|plan| care_plan::asked(&plan.resource, state));
        Ok(asked.map(|(asked, deed)| {
            self.deed = Some(deed);
            asked
        }))
    }

    /// Has the resources that an instance makes in this unit refer to its plan, where they can. Which those are.
    fn refer_to(&mut self, instance: &str, plan: &str) -> Vec<String> {
        let mut made = Vec::new();
        for draft in self.drafts.values_mut() {
            let resource = &mut draft.resource;
            let kind = resource.kind();
            let of_step = matches!(
                kind,
                ResourceType::Task
                    | ResourceType::Communication
                    | ResourceType::CommunicationRequest
                    | ResourceType::Appointment
            );
            let is_new = draft.changed && draft.expected == Expected::Absent;
            let identifiers = resource.get("identifier").and_then(|list| list.as_array());
            let is_ours = identifiers.into_iter().flatten().any(|identifier| {
                identifier["system"] == INSTANCE_SYSTEM && identifier["value"] == instance
            });
            if !(of_step && is_new && is_ours) {
                continue;
            }
            made.push(format!("{kind}/{}", resource.id().unwrap_or_default()));
            // An Appointment is based on a ServiceRequest alone in R4.
            if kind != ResourceType::Appointment && resource.get("basedOn").is_none() {
                let plan = json!([{"reference": format!("CarePlan/{plan}")}]);
                resource.set("basedOn", plan);
            }
        }
        made
    }
}

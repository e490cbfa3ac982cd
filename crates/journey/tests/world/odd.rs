//! What goes wrong: clocks, and what the store holds.

use super::{TENANT, World};
use fhir::ResourceType;
use ledger::{Clock, Expected, LookUps, ManualClock, Owner};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use trust::{Action, Internal, Purpose, Role, Unit, kinds};

/// A clock that can do what clocks do in bad hours.
pub(crate) struct Odd {
    pub(super) manual: ManualClock,
    /// Sleeps are as long as the clock says when they begin, though it may be set meanwhile.
    pub(crate) long_sleeps: AtomicBool,
    /// The next task that asks for the time panics, with a patient's name in its words.
    pub(crate) panics: AtomicBool,
    /// What the store is asked for.
    pub(crate) asked: LookUps,
}

impl Odd {
    pub(super) fn new(manual: ManualClock) -> Self {
        Self {
            manual,
            long_sleeps: AtomicBool::default(),
            panics: AtomicBool::default(),
            asked: LookUps::default(),
        }
    }
}

/// What a panic's words say of a patient.
pub(crate) const CANARY: &str = "Quibblewick";

impl Clock for Odd {
    fn now_ms(&self) -> u64 {
        if tokio::task::try_id().is_some() && self.panics.swap(false, Ordering::SeqCst) {
            panic!("no such slice in \"{CANARY}, Ottilie\"");
        }
        self.manual.now_ms()
    }
    fn real_wait(&self, until_ms: u64) -> Duration {
        if self.long_sleeps.load(Ordering::SeqCst) {
            return Duration::from_millis(until_ms.saturating_sub(self.manual.now_ms()));
        }
        self.manual.real_wait(until_ms)
    }
}

impl World {
    /// Changes the stored text of the heart-failure journey, as a program with another language finds it.
    pub(crate) async fn rewrite_definition(&self, edit: impl FnOnce(&str) -> String) {
        let permit = self.staff(Role::Squad, Action::Publish).await;
        let vault = self.trust.vault();
        let id = vault.ledger().derive_id(
            TENANT,
            &Owner::Tenant,
            "definition/heart-failure-discharge/1",
        );
        let found = vault
            .internal(&permit, kinds::JOURNEY_DEFINITION, &id)
            .await
            .expect("read")
            .expect("there");
        let mut stored: Value = serde_json::from_slice(&found.body).expect("JSON");
        stored["source"] = json!(edit(stored["source"].as_str().expect("a source")));
        let internal = Internal {
            kind: kinds::JOURNEY_DEFINITION,
            id,
            owner: Owner::Tenant,
            expected: Expected::Version(found.version),
            body: serde_json::to_vec(&stored).expect("JSON"),
            deleted: false,
            tokens: vec![("name".to_owned(), "heart-failure-discharge".to_owned())],
        };
        let unit = Unit {
            internals: vec![internal],
            ..Unit::default()
        };
        vault.commit(&permit, unit).await.expect("written");
    }

    pub(crate) async fn letters(&self) -> Vec<journey::DeadLetter> {
        let permit = self.staff(Role::Coordinator, Action::Search).await;
        self.journeys
            .dead_letters(&permit, 100)
            .await
            .expect("letters")
    }

    /// Has an instance's state say that it was moved by an event as late as this.
    pub(crate) async fn moved_on(&self, patient: &str, instance: &str, last: u64) {
        let as_it_is = self.write_instance(patient, instance, b"{}".to_vec()).await;
        let mut state: Value = serde_json::from_slice(&as_it_is).expect("JSON");
        state["l"] = json!(last);
        let state = serde_json::to_vec(&state).expect("JSON");
        self.write_instance(patient, instance, state).await;
    }

    pub(crate) async fn write_instance(
        &self,
        patient: &str,
        instance: &str,
        body: Vec<u8>,
    ) -> Vec<u8> {
        let permit = self
            .part(
                "journey-engine",
                Purpose::CareManagement,
                Action::Orchestrate,
            )
            .await;
        let found = self
            .trust
            .vault()
            .internal(&permit, kinds::JOURNEY_INSTANCE, instance)
            .await
            .expect("read")
            .expect("there");
        let internal = Internal {
            kind: kinds::JOURNEY_INSTANCE,
            id: instance.to_owned(),
            owner: Owner::Patient(patient.to_owned()),
            expected: Expected::Version(found.version),
            body,
            deleted: false,
            tokens: [("patient", patient), ("state", "running")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .to_vec(),
        };
        self.trust
            .vault()
            .commit(
                &permit,
                Unit {
                    internals: vec![internal],
                    ..Unit::default()
                },
            )
            .await
            .expect("written");
        found.body
    }

    /// Makes a patient's place in a journey unreadable; returns what was there.
    pub(crate) async fn damage(&self, patient: &str, instance: &str) -> Vec<u8> {
        self.write_instance(patient, instance, b"{\"f\":1,\"rubbish\":true}".to_vec())
            .await
    }

    pub(crate) async fn repair(&self, patient: &str, instance: &str, good: Vec<u8>) {
        self.write_instance(patient, instance, good).await;
    }

    /// Writes something that can't be read over a resource of a patient.
    pub(crate) async fn damage_resource(&self, patient: &str, of: ResourceType, id: &str) {
        let ledger = self.trust.vault().ledger();
        let owner = Owner::Patient(patient.to_owned());
        let kind = ledger::Kind(of.code());
        let found = ledger.get(TENANT, kind, id).await.unwrap().unwrap();
        let audit = ledger::AuditDraft {
            kind: ledger::Kind(ResourceType::AuditEvent.code()),
            id: ledger.mint_own_id(TENANT),
            shard: ledger.shard_of(TENANT, &owner, id),
            body: b"{}".to_vec(),
            parts: Vec::new(),
            tokens: Vec::new(),
        };
        let draft = ledger::Draft {
            kind,
            id: id.to_owned(),
            owner,
            expected: Expected::Version(found.version),
            body: b"{".to_vec(),
            deleted: false,
            tokens: Vec::new(),
        };
        let commit = ledger::Commit {
            documents: vec![draft],
            audit: Some(audit),
            ..ledger::Commit::new(TENANT)
        };
        ledger.commit(commit).await.unwrap();
    }
}

//! Whether this process has heard of all that was published: asked of the store before facts decide anything.
//!
//! What another server publishes is on the feed of one shard, and what is written about a patient on that of another.
//! Nothing orders the two, so a fact could be read before the version that begins by it, and would begin nothing until
//! it is written again. Whoever has read facts therefore asks, after that, for the places of the newest versions: what
//! was published before those facts were written is among them, and is read before anything comes of the facts.

use crate::Journeys;
use crate::books::{Books, Position};
use crate::definition::Definition;
use crate::mover::MoveError;
use crate::state::State;
use fhir::ResourceType;
use ledger::{Event, Hit, Number, Query, Shard};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Mutex;
use trust::{Permit, TrustError, kinds};

/// So many of the newest places are compared. One would do if numbers came in their order; of commits that are under
/// way at once the later number may be seen first. More than so many versions are not published in one moment.
const NEWEST: usize = 64;

/// What was heard last.
#[derive(Default)]
pub(crate) struct Heard {
    /// How often the store was asked, what is under way with it.
    asked: AtomicU64,
    answer: Mutex<Answer>,
}

#[derive(Default)]
struct Answer {
    /// The how-manieth time it was asked then.
    of: u64,
    /// The places of the newest versions that are in the books.
    newest: Option<Vec<Hit>>,
}

impl Journeys {
    /// Reads what has been published and isn't known here. What was committed before this was called is known after
    /// it. Those who call at once ask once.
    pub(crate) async fn hear(&self, books: &Books, permit: &Permit) -> Result<(), MoveError> {
        let heard = &books.known;
        let before = heard.asked.load(Ordering::SeqCst);
        let mut answer = heard.answer.lock().await;
        if answer.of > before {
            // Somebody has asked since.
            return Ok(());
        }
        let of = heard.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let (ledger, tenant) = (self.vault().ledger(), permit.tenant());
        let versions = [kinds::JOURNEY_DEFINITION, kinds::JOURNEY_STAGE];
        let versions = versions.map(|kind| Query::Token(ledger.kind_token(tenant, kind)));
        let query = Query::Or(versions.to_vec());
        let newest = ledger.search(tenant, &query, None, None, NEWEST).await;
        let newest = newest.map_err(TrustError::from)?;
        if answer.newest.as_ref() != Some(&newest) {
            books.read_definitions(self.vault(), permit).await?;
            answer.newest = Some(newest);
            books.scans.notify_one();
        }
        answer.of = of;
        Ok(())
    }

    /// The same, where there is something among these events that may begin a journey or lead one on.
    pub(crate) async fn hear_before(
        &self,
        books: &Books,
        permit: &Permit,
        events: &[Event],
    ) -> Result<(), MoveError> {
        let fact = |event: &Event| {
            event.tenant == books.tenant && ResourceType::from_code(event.kind.0).is_some()
        };
        if events.iter().any(fact) {
            self.hear(books, permit).await?;
        }
        Ok(())
    }

    /// The version that somebody is on, heard of if it isn't known yet: they may have come to it at another server a
    /// moment ago.
    ///
    /// # Errors
    /// `NoDefinition` for one that this program can't read.
    pub(crate) async fn known_version(
        &self,
        books: &Books,
        permit: &Permit,
        state: &State,
    ) -> Result<Arc<Definition>, MoveError> {
        let (name, version) = (&state.journey, state.version);
        let mut known = books.version(name, version);
        if known.is_none() {
            self.hear(books, permit).await?;
            known = books.version(name, version);
        }
        known
            .map(|published| published.definition.clone())
            .ok_or_else(|| MoveError::NoDefinition(format!("{name}/{version}")))
    }

    /// Up to where the feed of a shard is known to whoever begins now and looks at the record after this. Where another
    /// server follows it, what that one has still to read is in the record already.
    pub(crate) async fn known_to(
        &self,
        shard: Shard,
        position: &Position,
    ) -> Result<Number, MoveError> {
        let ledger = self.vault().ledger();
        if position.known && ledger.holds(shard) {
            return Ok(position.read);
        }
        let head = ledger.shard_head_now(shard).await;
        Ok(head.map_err(TrustError::from)?)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use ledger::{
        Expected, Ledger, Location, LookUps, ManualClock, OpenOptions, RootKey, SystemEntropy,
        TenantId,
    };
    use serde_json::{Value, json};
    use trust::{
        Action, Agent, Change, Purpose, Role, SignedIn, Target, Trust, TrustOptions, Unit,
    };

    const TENANT: TenantId = TenantId(1);
    /// 2026-11-02T14:00:00Z.
    const START: u64 = 1_793_628_000_000;
    const HOUR: u64 = 3_600_000;
    const BEFORE_A_VISIT: &str = "  date: {of: Appointment, where: status = 'booked', begins: visit - 1d, past_due: skip}\n  anchors: {visit: start}\n  per: event\n";

    /// A store on which two followers work: the first publishes, and what the second hears is led by hand.
    pub(in crate::runner) struct Two {
        _folder: tempfile::TempDir,
        looks: LookUps,
        pub(in crate::runner) clock: ManualClock,
        trust: Trust,
        pub(in crate::runner) first: Journeys,
        pub(in crate::runner) second: Journeys,
    }

    pub(in crate::runner) fn file(entry: &str) -> String {
        format!(
            "name: heard
title: Heard
owner: Team
purpose: TREAT
at_most: 5d
entry:
{entry}exits:
  death: {{title: Died, event: Patient, where: deceased.exists()}}
  consent: {{title: Consent withdrawn, consent: withdrawn}}
start: tell
steps:
  tell:
    title: Tell
    task: {{title: Tell, reason: It is time., role: coordinator, due: 1d}}
    next: end
    overdue: end
"
        )
    }

    impl Two {
        pub(in crate::runner) async fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let clock = ManualClock::new(START);
            let looks = LookUps::default();
            let options = OpenOptions {
                location: Location::Folder(folder.path().join("data")),
                root_key: RootKey::from_bytes([7; 32]),
                clock: Arc::new(clock.clone()),
                entropy: Arc::new(SystemEntropy),
                dictionary: Vec::new(),
                cache_bytes: 1 << 20,
            };
            let ledger = Ledger::open_counted(options, &looks);
            let trust = Trust::new(TrustOptions {
                ledger: ledger.unwrap(),
                wall_clock: Arc::new(clock.clone()),
                policy_folder: None,
                session_idle_s: 900,
                session_absolute_s: 43_200,
            });
            let trust = trust.unwrap();
            trust.vault().ledger().create_tenant(TENANT).await.unwrap();
            let two = Self {
                _folder: folder,
                looks,
                clock,
                first: Journeys::new(trust.clone()),
                second: Journeys::new(trust.clone()),
                trust,
            };
            // The books of both are open before anything is published.
            two.first.drain(TENANT).await.unwrap();
            two.second.drain(TENANT).await.unwrap();
            two
        }

        async fn squad(&self) -> Permit {
            let agent = Agent {
                tenant: TENANT,
                id: "squad".to_owned(),
                name: "A Squad".to_owned(),
                role: Role::Squad,
                patient: None,
                access: None,
                signed_in: SignedIn::default(),
            };
            let (purpose, action) = (Purpose::Operations, Action::Publish);
            let permit = self
                .trust
                .decide(&agent, purpose, action, Target::default(), "test");
            permit.await.unwrap()
        }

        pub(in crate::runner) async fn publish(&self, entry: &str) {
            let (permit, file) = (self.squad().await, file(entry));
            self.first.publish(&permit, &file).await.unwrap();
        }

        pub(in crate::runner) async fn put(&self, resource: Value) {
            self.write(resource, Expected::Absent).await;
        }

        async fn write(&self, resource: Value, expected: Expected) {
            let agent = Agent::system(TENANT, "importer");
            let (purpose, action) = (Purpose::Operations, Action::Import);
            let permit = self
                .trust
                .decide(&agent, purpose, action, Target::default(), "test");
            let change = Change::Put {
                resource: fhir::Resource::from_value(resource).unwrap(),
                expected,
            };
            let unit = Unit {
                changes: vec![change],
                ..Unit::default()
            };
            let vault = self.trust.vault();
            vault.commit(&permit.await.unwrap(), unit).await.unwrap();
        }

        /// A patient, and where their record lies.
        pub(in crate::runner) async fn patient(&self) -> (String, Shard) {
            let ledger = self.trust.vault().ledger();
            let id = ledger.mint_own_id(TENANT);
            let owner = ledger::Owner::Patient(id.clone());
            let shard = ledger.shard_of(TENANT, &owner, &id);
            self.put(json!({"resourceType": "Patient", "id": id, "birthDate": "1941-03-07"}))
                .await;
            let mut consent = trust::consent::care_messages(&id, true, START);
            consent.set_id(&ledger.mint_id(TENANT, &owner));
            self.put(consent.into_value()).await;
            (id, shard)
        }

        pub(in crate::runner) fn tenant(&self) -> TenantId {
            TENANT
        }

        /// The patient's own resource is written a second time.
        pub(in crate::runner) async fn write_again(&self, patient: &str) {
            let person =
                json!({"resourceType": "Patient", "id": patient, "birthDate": "1941-03-07"});
            self.write(person, Expected::Version(1)).await;
        }

        pub(in crate::runner) async fn visit(&self, patient: &str, name: &str) {
            let id = format!("{patient}-{name}");
            let start = fhir::date::instant(START + 25 * HOUR);
            self.put(json!({
                "resourceType": "Appointment", "id": id, "status": "booked", "start": start, "end": start,
                "participant": [{"actor": {"reference": format!("Patient/{patient}")}, "status": "accepted"}]
            }))
            .await;
        }

        /// How many journeys of a patient run, as the first sees them.
        pub(in crate::runner) async fn running(&self, patient: &str) -> usize {
            let permit = self.first.engine_permit(TENANT).await.unwrap();
            self.first.under_way(&permit, patient).await.unwrap().len()
        }
    }

    #[tokio::test]
    async fn a_fact_is_read_after_the_version_that_begins_by_it() {
        let two = Two::new().await;
        let (patient, shard) = two.patient().await;
        two.first.drain(TENANT).await.unwrap();
        two.second.drain(TENANT).await.unwrap();
        let entry = "  event: Procedure\n  where: status = 'completed'\n  anchors: {done: performedDateTime}\n  within: 3d\n  per: event\n";
        two.publish(entry).await;
        two.put(json!({
            "resourceType": "Procedure", "id": "done", "status": "completed",
            "subject": {"reference": format!("Patient/{patient}")},
            "performedDateTime": fhir::date::instant(START)
        }))
        .await;
        // The second reads the patient's shard alone, as when nothing of the others has reached it yet.
        let books = two.second.books(TENANT).await.unwrap();
        let permit = two.second.engine_permit(TENANT).await.unwrap();
        let mut position = books.positions[usize::from(shard.0)].lock().await;
        let moves = two
            .second
            .shard(&books, &permit, shard, &mut position)
            .await
            .unwrap();
        assert_eq!((moves, two.running(&patient).await), (1, 1));
    }

    #[tokio::test]
    async fn a_version_that_cannot_be_decoded_stops_no_other_journey() {
        let two = Two::new().await;
        let permit = two.squad().await;
        let vault = two.trust.vault();
        let unit = Unit {
            internals: vec![trust::Internal {
                kind: kinds::JOURNEY_DEFINITION,
                id: vault.ledger().mint_own_id(TENANT),
                owner: ledger::Owner::Tenant,
                expected: Expected::Absent,
                body: b"news".to_vec(),
                deleted: false,
                tokens: Vec::new(),
            }],
            ..Unit::default()
        };
        vault.commit(&permit, unit).await.unwrap();
        let (patient, _) = two.patient().await;
        two.publish(BEFORE_A_VISIT).await;
        two.visit(&patient, "visit").await;
        two.second.drain(TENANT).await.unwrap();
        two.clock.advance(2 * HOUR);
        two.second.drain(TENANT).await.unwrap();
        assert_eq!(two.running(&patient).await, 1);
        // Nor does it at the next start.
        let third = Journeys::new(two.trust.clone());
        third.drain(TENANT).await.unwrap();
        assert_eq!(third.books(TENANT).await.unwrap().all().len(), 1);
    }

    #[tokio::test]
    async fn a_date_is_not_called_off_by_who_has_not_heard_of_its_journey() {
        let two = Two::new().await;
        let (patient, _) = two.patient().await;
        two.publish(BEFORE_A_VISIT).await;
        two.visit(&patient, "visit").await;
        two.first.drain(TENANT).await.unwrap();
        two.clock.advance(2 * HOUR);
        // The second comes to the timer first, and has not read the feed of the shard where the version lies.
        let books = two.second.books(TENANT).await.unwrap();
        let permit = Arc::new(two.second.engine_permit(TENANT).await.unwrap());
        two.second.timers(&books, &permit).await.unwrap();
        assert_eq!(two.running(&patient).await, 1);
    }

    /// What is looked up for somebody with so many visits whose own resource says this besides.
    async fn looked_up(two: &Two, visits: usize, more: (&str, Value)) -> u64 {
        let (patient, _) = two.patient().await;
        for visit in 0..visits {
            two.visit(&patient, &visit.to_string()).await;
        }
        two.first.drain(TENANT).await.unwrap();
        let mut person =
            json!({"resourceType": "Patient", "id": patient, "birthDate": "1941-03-07"});
        person[more.0] = more.1;
        two.write(person, Expected::Version(1)).await;
        let before: u64 = two.looks.so_far().values().sum();
        two.first.drain(TENANT).await.unwrap();
        two.looks.so_far().values().sum::<u64>() - before
    }

    #[tokio::test]
    async fn a_death_reads_no_date_and_a_change_of_zone_reads_each_once() {
        let two = Two::new().await;
        two.publish(BEFORE_A_VISIT).await;
        two.first.drain(TENANT).await.unwrap();
        let died = || ("deceasedBoolean", json!(true));
        let few = looked_up(&two, 1, died()).await;
        let many = looked_up(&two, 41, died()).await;
        assert!(many < few + 40, "{few} for one visit, {many} for 41");
        let url = "http://hl7.org/fhir/StructureDefinition/tz-code";
        let moved = || {
            let zone = json!([{"url": url, "valueCode": "Pacific/Auckland"}]);
            ("extension", zone)
        };
        let few = looked_up(&two, 1, moved()).await;
        let many = looked_up(&two, 41, moved()).await;
        // A visit is two look-ups, once.
        assert!(many < few + 3 * 40, "{few} for one visit, {many} for 41");
    }

    #[tokio::test]
    async fn whoever_asks_at_once_asks_once_and_later_again() {
        let two = Two::new().await;
        let books = two.second.books(TENANT).await.unwrap();
        let permit = two.second.engine_permit(TENANT).await.unwrap();
        let before = books.known.asked.load(Ordering::SeqCst);
        two.second.hear(&books, &permit).await.unwrap();
        two.second.hear(&books, &permit).await.unwrap();
        assert_eq!(books.known.asked.load(Ordering::SeqCst), before + 2);
        // While one asks, all who come meanwhile wait for one more answer.
        let answer = books.known.answer.lock().await;
        let asks = (0..5).map(|_| two.second.hear(&books, &permit));
        let all = async {
            let mut asks: Vec<_> = asks.map(Box::pin).collect();
            for ask in &mut asks {
                // Each has come before the first is answered.
                assert!(
                    tokio::time::timeout(std::time::Duration::ZERO, ask)
                        .await
                        .is_err()
                );
            }
            drop(answer);
            for ask in asks {
                ask.await.unwrap();
            }
        };
        all.await;
        assert_eq!(books.known.asked.load(Ordering::SeqCst), before + 3);
    }
}

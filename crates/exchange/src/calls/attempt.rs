//! One attempt at one call, and what becomes of it.
//!
//! What is told is written down before it is sent, in one commit with an outbox entry that says that the partner may
//! have it, so that both stand whatever becomes of this process. The outcome (the `Task`'s new state, and the outbox
//! entry's end or its next time) is another commit. A crash between a partner's answer and that commit calls again under
//! the same key: at least once, and recognisably so. Where no connection was made nothing was told, which only the
//! outcome says: the disclosure stands, and the entry says no longer that the partner may have it.

use fhir::search::SearchQuery;
use fhir::{Resource, ResourceType};
use ledger::{Expected, LedgerError, OutboxDraft, OutboxEntry, OutboxKey, Owner};
use serde_json::{Value, json};
use trust::conventions::{CALL_STATUS, MAY_BE_DONE, NOT_DONE_SYSTEM, ROLE_SYSTEM, TASK_SYSTEM};
use trust::outgoing::{Call, CallStanding};
use trust::partners::Partner;
use trust::{
    Action, Agent, Change, Disclosed, Permit, Purpose, Target, TrustError, Unit, Versioned,
};

use super::answer::output;
use super::lawful::{Known, Refused, lawful, reason};
use super::request::{self, Asked, Failed};
use super::{Inner, PART};
use crate::deliverer::{DeliverError, hex, persist};

/// The longest pause between two attempts.
const PAUSE_MAX_MS: u64 = 4 * 3_600_000;
/// How often a commit is tried again when somebody else changed the `Task` meanwhile.
const CONFLICTS_MAX: u32 = 8;
/// How long what is taken back waits for what is taken back before it, each time and in all, care clock: a partner that
/// is down must not keep another from hearing.
const BEHIND_MS: u64 = 2_000;
const BEHIND_MAX_MS: u64 = 60_000;
/// Consents are read this many at a time (the most that a search gives).
const CONSENTS_PAGE: &str = "1000";

/// What became of an attempt.
#[derive(Debug)]
enum Outcome {
    Answered {
        status: u16,
        learnt: Vec<(String, Value)>,
    },
    NotDone(Refused),
    PutOff {
        due_ms: u64,
        attempt: u32,
        words: String,
        may_have_it: bool,
    },
    /// It waits for another that is taken back first. Nothing was tried.
    Behind {
        due_ms: u64,
    },
    /// Nobody waits for it any more.
    Cancelled,
}

impl Outcome {
    fn name(&self) -> &'static str {
        match self {
            Self::Answered { .. } => "answered",
            Self::NotDone(_) => "failed",
            Self::PutOff { .. } => "put-off",
            Self::Behind { .. } => "behind",
            Self::Cancelled => "called-off",
        }
    }
}

struct Attempt<'a> {
    inner: &'a Inner,
    permit: Permit,
    entry: &'a OutboxEntry,
    call: Call,
}

/// Whether the `Task` still waits for the call.
fn is_waiting(task: &Resource) -> bool {
    task.text_at(&["status"]) == Some("in-progress")
}

/// Whether this is the entry that is to be made. One from before its journey was held and let go on stands beside
/// another, which goes on in its place. One that an older program has put off doesn't say: it is made, and if there is
/// another, under the same key.
fn is_of_this_turn(task: &Resource, call: &Call) -> bool {
    let now = CallStanding::of(task).turn;
    call.turn.is_none_or(|turn| turn == now)
}

/// Whether what is taken back may still wait for what is taken back before it.
fn may_wait(task: &Resource, call: &Call, now_ms: u64) -> bool {
    let written = task.text_at(&["authoredOn"]).and_then(fhir::date::parse);
    let written_ms = written.and_then(|date| u64::try_from(date.start_ms).ok());
    let until_ms = written_ms.map_or(0, |written_ms| written_ms.saturating_add(BEHIND_MAX_MS));
    now_ms < until_ms.min(call.until_ms)
}

impl Inner {
    /// One attempt at one entry. An error leaves the entry where it is.
    pub(super) async fn run(&self, entry: &OutboxEntry, call: Call) -> Result<(), DeliverError> {
        let agent = Agent::system(entry.tenant, PART);
        let request_id = format!("call-{}-{}", hex(entry.key.id), entry.attempt + 1);
        let purpose: Option<Purpose> = serde_json::from_value(call.purpose.as_str().into()).ok();
        let target = Target {
            kind: Some(ResourceType::Task),
            patient: Some(call.patient.clone()),
        };
        let purpose = purpose.unwrap_or(Purpose::Operations);
        let permit = self
            .trust
            .decide(&agent, purpose, Action::Send, target, &request_id)
            .await?;
        let attempt = Attempt {
            inner: self,
            permit,
            entry,
            call,
        };
        let outcome = attempt.make(purpose).await?;
        persist(|| attempt.commit(&outcome)).await
    }
}

impl Attempt<'_> {
    async fn load(&self, kind: ResourceType, id: &str) -> Result<Option<Versioned>, TrustError> {
        let vault = self.inner.trust.vault();
        let found = vault.load(&self.permit, kind, id).await?;
        Ok(found.filter(|found| !found.deleted))
    }

    async fn consents(&self) -> Result<Vec<Resource>, DeliverError> {
        let parameters = [
            (
                "patient".to_owned(),
                format!("Patient/{}", self.call.patient),
            ),
            ("_count".to_owned(), CONSENTS_PAGE.to_owned()),
        ];
        let query = SearchQuery::parse(ResourceType::Consent, &parameters, false)
            .map_err(|outcome| DeliverError::Query(outcome.summary()))?;
        // All of one moment, or a withdrawal that is written meanwhile could be passed over.
        let vault = self.inner.trust.vault();
        let rows = vault.load_all(&self.permit, &query).await?;
        Ok(rows.into_iter().map(|row| row.resource).collect())
    }

    fn now_ms(&self) -> u64 {
        self.inner.trust.vault().ledger().clock().now_ms()
    }

    /// Asks whether it may be made, and makes it.
    async fn make(&self, purpose: Purpose) -> Result<Outcome, DeliverError> {
        let call = &self.call;
        let task = self.load(ResourceType::Task, &call.task).await?;
        let is_to_be_made =
            |task: &Versioned| is_waiting(&task.resource) && is_of_this_turn(&task.resource, call);
        let Some(task) = task.filter(is_to_be_made) else {
            return Ok(Outcome::Cancelled);
        };
        let now_ms = self.now_ms();
        if may_wait(&task.resource, call, now_ms) && self.is_behind().await? {
            let due_ms = now_ms.saturating_add(BEHIND_MS);
            return Ok(Outcome::Behind { due_ms });
        }
        let patient = self.load(ResourceType::Patient, &call.patient).await?;
        let consents = self.consents().await?;
        let vault = self.inner.trust.vault();
        let known_as = vault.programmes_known_as(self.entry.tenant).await?;
        let known = Known {
            patient: patient.as_ref().map(|found| &found.resource),
            rules: vault.rules(),
            consents: &consents,
            known_as: &known_as,
        };
        let partner = self.inner.trust.partner(&call.partner);
        let why = match lawful(call, partner.as_ref(), &known, self.now_ms()) {
            Ok(why) => why,
            Err(refused) => return Ok(Outcome::NotDone(refused)),
        };
        // It was said above that there is one.
        let Some(partner) = partner else {
            return Ok(Outcome::Cancelled);
        };
        let real_s = self.inner.trust.wall_clock().now_ms() / 1_000;
        let asked = match request::ready(&self.inner.clients, &partner, call, real_s) {
            Ok(ready) => {
                persist(|| self.disclose((&partner, purpose), &task, &why)).await?;
                // Another process may have taken over meanwhile.
                let shard = self.entry.key.shard;
                if !vault.ledger().holds(shard) {
                    return Err(TrustError::Ledger(LedgerError::Fenced(shard)).into());
                }
                let real = self.inner.trust.wall_clock();
                ready.send(call, self.now_ms(), real.as_ref()).await
            }
            Err(failed) => Asked::Failed(failed),
        };
        let was_there = match &asked {
            Asked::Answered(..) | Asked::Refused { .. } => true,
            Asked::Failed(failed) => failed.was_there,
        };
        self.inner.saw(&call.partner, was_there);
        Ok(match asked {
            Asked::Answered(status, learnt) => Outcome::Answered { status, learnt },
            Asked::Refused { words, done } => Outcome::NotDone(Refused::new(
                if done {
                    "bad-answer"
                } else {
                    "permanent-failure"
                },
                format!("{}: {words}.", call.partner),
            )),
            Asked::Failed(failed) => self.again(failed),
        })
    }

    /// Whether what is to be taken back before it wasn't asked yet.
    async fn is_behind(&self) -> Result<bool, TrustError> {
        let Some(before) = &self.call.after else {
            return Ok(false);
        };
        let before = self.load(ResourceType::Task, before).await?;
        Ok(before.is_some_and(|before| {
            is_waiting(&before.resource) && before.resource.get("businessStatus").is_none()
        }))
    }

    /// When it is tried again, or that it isn't.
    fn again(&self, failed: Failed) -> Outcome {
        let call = &self.call;
        let made = self.entry.attempt.saturating_add(1);
        let may_have_it = call.may_have_it || failed.may_have_it;
        let words = failed.words;
        tracing::info!(
            outbox = %hex(self.entry.key.id),
            partner = call.partner,
            attempt = made,
            why = words,
            "a call was not answered"
        );
        let mut dice = [0; 8];
        let ledger = self.inner.trust.vault().ledger();
        ledger.entropy().fill(&mut dice);
        let pause_ms = pause_ms(call.backoff_ms, made, u64::from_be_bytes(dice));
        let pause_ms = pause_ms.max(failed.after_ms.unwrap_or(0));
        let due_ms = self.now_ms().saturating_add(pause_ms);
        let given_up = |code: &'static str| {
            // Who was never reached has done nothing.
            let code = if may_have_it { code } else { "not-reached" };
            let tries = if made == 1 { "attempt" } else { "attempts" };
            let words = format!("Given up after {made} {tries}: {}: {words}.", call.partner);
            Outcome::NotDone(Refused::new(code, words))
        };
        if made > call.retries {
            return given_up("retries-exhausted");
        }
        // The next attempt would only find out that it is too late, so the journey hears of it now.
        if due_ms > call.until_ms {
            return given_up("expired");
        }
        Outcome::PutOff {
            due_ms,
            attempt: made,
            words,
            may_have_it,
        }
    }

    /// Writes down who is told what, and why that is lawful, and that the partner may have it from here on.
    async fn disclose(
        &self,
        (partner, purpose): (&Partner, Purpose),
        task: &Versioned,
        why: &str,
    ) -> Result<(), DeliverError> {
        let call = &self.call;
        let classes = match call.classes.as_slice() {
            [] => "nothing of the record".to_owned(),
            classes => classes.join(", "),
        };
        let mut unit = Unit {
            // Nobody is told by who lost the shard.
            held: Some(self.entry.key.shard),
            patient: Some(call.patient.clone()),
            note: Some(format!(
                "{}: {} is told {classes} ({why})",
                call.journey, partner.name
            )),
            disclosed: Some(Disclosed {
                kind: ResourceType::Task,
                id: call.task.clone(),
                version: task.version,
                to: origin(&partner.base),
                purpose,
            }),
            ..Unit::default()
        };
        if !call.may_have_it {
            unit.outbox_remove.push(self.entry.key);
            unit.outbox_add
                .push(self.again_at(self.entry.key.due_ms, self.entry.attempt, true));
        }
        let vault = self.inner.trust.vault();
        vault.commit(&self.permit, unit).await?;
        Ok(())
    }

    async fn commit(&self, outcome: &Outcome) -> Result<(), DeliverError> {
        for _ in 0..CONFLICTS_MAX {
            let task = self.load(ResourceType::Task, &self.call.task).await?;
            // Whoever called it off, or holds it, meanwhile has said what it is. An answer counts while it is held.
            // If it was let go on since, too; all else is for the entry of that turn to say.
            let is_open = |task: &Versioned| {
                let held = task.resource.text_at(&["status"]) == Some("on-hold");
                let answered = matches!(outcome, Outcome::Answered { .. });
                let is_over = answered || matches!(outcome, Outcome::NotDone(_));
                (is_waiting(&task.resource) || held && is_over)
                    && (answered || is_of_this_turn(&task.resource, &self.call))
            };
            let unit = match task.filter(is_open) {
                Some(task) => self.unit(outcome, Some(task)),
                None => self.unit(&Outcome::Cancelled, None),
            };
            match self.inner.trust.vault().commit(&self.permit, unit).await {
                Ok(_) => {
                    metrics::counter!("partner_calls_total", "outcome" => outcome.name())
                        .increment(1);
                    return Ok(());
                }
                Err(TrustError::Ledger(LedgerError::Conflict)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(DeliverError::Contended)
    }

    fn unit(&self, outcome: &Outcome, task: Option<Versioned>) -> Unit {
        let call = &self.call;
        let answered = matches!(outcome, Outcome::Answered { .. });
        let mut unit = Unit {
            outbox_remove: vec![self.entry.key],
            // What was answered is written down whoever holds the shard by now, so that nobody calls again.
            held: (!answered).then_some(self.entry.key.shard),
            patient: Some(call.patient.clone()),
            note: Some(format!("{}: {}", call.journey, self.note(outcome))),
            ..Unit::default()
        };
        if let Some(task) = task
            && !matches!(outcome, Outcome::Behind { .. } | Outcome::Cancelled)
        {
            let mut resource = task.resource;
            resource.strip_meta();
            mark(&mut resource, call, outcome, self.now_ms());
            unit.changes.push(Change::Put {
                resource,
                expected: Expected::Version(task.version),
            });
        }
        let (due_ms, attempt, may_have_it) = match outcome {
            Outcome::PutOff {
                due_ms,
                attempt,
                may_have_it,
                ..
            } => (*due_ms, *attempt, *may_have_it),
            Outcome::Behind { due_ms } => (*due_ms, self.entry.attempt, call.may_have_it),
            _ => return unit,
        };
        unit.outbox_add
            .push(self.again_at(due_ms, attempt, may_have_it));
        unit
    }

    /// The entry for another time.
    fn again_at(&self, due_ms: u64, attempt: u32, may_have_it: bool) -> OutboxDraft {
        let again = Call {
            may_have_it,
            ..self.call.clone()
        };
        OutboxDraft {
            key: OutboxKey {
                due_ms,
                ..self.entry.key
            },
            owner: Owner::Patient(self.call.patient.clone()),
            channel: self.entry.channel,
            attempt,
            // One of strings and JSON can't fail to serialise.
            body: serde_json::to_vec(&again).unwrap_or_default(),
        }
    }

    /// For the audit record.
    fn note(&self, outcome: &Outcome) -> String {
        let partner = &self.call.partner;
        match outcome {
            Outcome::Answered { status, .. } => format!("{partner} answered {status}"),
            Outcome::NotDone(refused) => format!(
                "the call to {partner} came to nothing ({}): {}",
                refused.code, refused.words
            ),
            Outcome::PutOff { attempt, words, .. } => {
                format!("the call to {partner} was put off after attempt {attempt}: {words}")
            }
            Outcome::Behind { .. } => format!("the call to {partner} waits for another"),
            Outcome::Cancelled => format!("the call to {partner} is no longer wanted"),
        }
    }
}

/// Writes what became of a call into its `Task`.
fn mark(task: &mut Resource, call: &Call, outcome: &Outcome, now_ms: u64) {
    task.set("lastModified", json!(fhir::date::instant(now_ms)));
    match outcome {
        Outcome::Answered { status, learnt } => {
            let outputs = learnt.iter().map(|(name, value)| output(name, value));
            let status = output(CALL_STATUS, &json!(status));
            task.set("status", json!("completed"));
            task.set("output", outputs.chain([status]).collect());
            task.remove("statusReason");
            task.remove("businessStatus");
        }
        Outcome::NotDone(refused) if call.compensates.is_some() => {
            // Nobody waits for it, and somebody has to tell the partner: it is work of staff from here on.
            task.set("status", json!("requested"));
            task.set("statusReason", reason(refused));
            task.set(
                "code",
                json!({"coding": [{"system": TASK_SYSTEM, "code": "staff-task"}], "text": format!("Tell {} by other means", call.partner)}),
            );
            task.set("priority", json!("urgent"));
            task.set(
                "reasonCode",
                json!({"text": format!("What it was called for is to be taken back, and it could not be told. {}", refused.words)}),
            );
            let role = json!([{"coding": [{"system": ROLE_SYSTEM, "code": "coordinator"}]}]);
            task.set("performerType", role);
            task.remove("owner");
            task.remove("businessStatus");
        }
        Outcome::NotDone(refused) => {
            let mut why = reason(refused);
            // Who may have heard an attempt before may have done it, whatever is said to this one.
            if call.may_have_it
                && let Some(codings) = why.get_mut("coding").and_then(Value::as_array_mut)
            {
                codings.push(json!({"system": NOT_DONE_SYSTEM, "code": MAY_BE_DONE}));
            }
            task.set("status", json!("failed"));
            task.set("statusReason", why);
            task.remove("businessStatus");
        }
        Outcome::PutOff {
            due_ms,
            attempt,
            words,
            ..
        } => {
            let text = format!(
                "Attempt {attempt} put off: {words}. Next at {}.",
                fhir::date::instant(*due_ms)
            );
            let standing = CallStanding {
                turn: call.turn.unwrap_or(CallStanding::of(task).turn),
                attempts: *attempt,
            };
            task.set("businessStatus", standing.status(&text));
        }
        Outcome::Behind { .. } | Outcome::Cancelled => {}
    }
}

/// The pause after so many attempts (at least one); `dice` is a random number. Twice as long each time, give or take a
/// fifth, so that those put off together don't come back together.
fn pause_ms(first_ms: u64, made: u32, dice: u64) -> u64 {
    let doublings = made.saturating_sub(1).min(32);
    let plain_ms = first_ms.saturating_mul(1 << doublings).min(PAUSE_MAX_MS);
    let spread_ms = plain_ms / 5;
    plain_ms - spread_ms + dice % (2 * spread_ms + 1)
}

/// Of an address, what the audit names: the rest of it is the partner's.
fn origin(base: &str) -> String {
    let (scheme, rest) = base.split_once("://").unwrap_or(("https", base));
    let authority = rest.split('/').next().unwrap_or_default();
    format!("{scheme}://{authority}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_that_says_no_turn_is_of_any() {
        let call = |turn: Option<u32>| {
            let mut call = json!({
                "patient": "p", "task": "t", "partner": "rides", "path": "/", "fhir": false, "values": {},
                "classes": [], "purpose": "TREAT", "about": [], "timeout_ms": 1, "retries": 1, "backoff_ms": 1,
                "until_ms": 1, "learns": [], "journey": "j/1", "step": "s"
            });
            if let Some(turn) = turn {
                call["turn"] = json!(turn);
            }
            let call: Call = serde_json::from_value(call).expect("a call");
            assert_eq!(
                serde_json::to_value(&call)
                    .expect("JSON")
                    .get("turn")
                    .is_some(),
                turn.is_some()
            );
            call
        };
        for on in [0, 1] {
            let standing = CallStanding {
                turn: on,
                attempts: 2,
            };
            let task = Resource::from_value(json!({
                "resourceType": "Task", "status": "in-progress", "businessStatus": standing.status("Put off.")
            }));
            let task = task.expect("a task");
            for (turn, expected) in [(None, true), (Some(0), on == 0), (Some(1), on == 1)] {
                assert_eq!(
                    is_of_this_turn(&task, &call(turn)),
                    expected,
                    "{on} {turn:?}"
                );
            }
        }
    }

    #[test]
    fn pauses_double_to_their_bound() {
        for (first_ms, made, plain_ms) in [
            (60_000, 1, 60_000),
            (60_000, 2, 120_000),
            (60_000, 8, 7_680_000),
            (60_000, 9, PAUSE_MAX_MS),
            (1_000, 1, 1_000),
            (1_000, u32::MAX, PAUSE_MAX_MS),
        ] {
            for dice in [0, 77, u64::MAX] {
                let within = plain_ms * 4 / 5..=plain_ms * 6 / 5;
                let pause_ms = pause_ms(first_ms, made, dice);
                assert!(within.contains(&pause_ms), "{first_ms} {made}: {pause_ms}");
            }
        }
    }

    fn call(more: &Value) -> Call {
        let mut call = json!({
            "patient": "p", "task": "t", "partner": "rides", "path": "/bookings", "fhir": false, "values": {},
            "classes": [], "purpose": "TREAT", "about": [], "timeout_ms": 1000, "retries": 1, "backoff_ms": 1000,
            "until_ms": 1, "learns": [], "journey": "j/1", "step": "s"
        });
        for (name, value) in more.as_object().into_iter().flatten() {
            call[name] = value.clone();
        }
        serde_json::from_value(call).expect("a call")
    }

    #[test]
    fn what_is_taken_back_waits_a_minute_at_most() {
        const AT_MS: u64 = 1_700_000_000_000;
        let task =
            json!({"resourceType": "Task", "id": "t", "authoredOn": fhir::date::instant(AT_MS)});
        let task = Resource::from_value(task).expect("a task");
        let undated = json!({"resourceType": "Task", "id": "t"});
        let undated = Resource::from_value(undated).expect("a task");
        for (task, until_ms, now_ms, expected) in [
            (&task, AT_MS + 600_000, AT_MS, true),
            (&task, AT_MS + 600_000, AT_MS + 59_999, true),
            (&task, AT_MS + 600_000, AT_MS + 60_000, false),
            // What is over is not put off.
            (&task, AT_MS + 5_000, AT_MS + 5_000, false),
            (&undated, AT_MS + 600_000, AT_MS, false),
        ] {
            let call = call(&json!({"until_ms": until_ms}));
            assert_eq!(may_wait(task, &call, now_ms), expected, "{now_ms}");
        }
    }

    #[test]
    fn what_may_be_done_is_said_beside_why_it_came_to_nothing() {
        let refused = Refused::new("deceased", "The patient has died.");
        for (may_have_it, expected) in [
            (false, vec!["deceased"]),
            (true, vec!["deceased", MAY_BE_DONE]),
        ] {
            let call = call(&json!({"may_have_it": may_have_it}));
            let task = json!({"resourceType": "Task", "id": "t", "status": "in-progress"});
            let mut task = Resource::from_value(task).expect("a task");
            mark(&mut task, &call, &Outcome::NotDone(refused.clone()), 0);
            let codings = task.at(&["statusReason", "coding"]);
            let codings = codings.and_then(Value::as_array).expect("codings");
            let codes: Vec<&str> = codings
                .iter()
                .filter_map(|one| one["code"].as_str())
                .collect();
            assert_eq!(codes, expected);
        }
    }

    #[test]
    fn the_audit_names_an_origin() {
        for (base, expected) in [
            ("https://rides.example.org/api", "https://rides.example.org"),
            (
                "https://rides.example.org:8443",
                "https://rides.example.org:8443",
            ),
            ("http://127.0.0.1:80/x/y", "http://127.0.0.1:80"),
        ] {
            assert_eq!(origin(base), expected);
        }
    }
}

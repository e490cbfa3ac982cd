//! Plays hospital and patients as the care clock goes on.
//!
//! What is already done is kept in `driver.json` after each round; acts of a round that a crash cut
//! short are done again, which changes nothing (see [`super::acts`]).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures_util::StreamExt;
use ledger::Clock;
use serde_json::{Value, json};
use synthetic::{Act, CohortOptions, What};
use tokio::sync::watch;

use super::acts::{Actors, Outcome};
use super::clock::{DAY_MS, HOUR_MS};
use super::setup::{self, HEART_FAILURE_SHARE};
use super::state::{Case, DemoState, DriverState, Login, Source, load, save};
use super::team;
use crate::commands::Bar;
use crate::server::Server;

/// How often the driver looks what is due, in real time.
const ROUND: Duration = Duration::from_millis(100);

/// This many patients leave the hospital on the first morning, so that something moves at once.
const FIRST_MORNING: u64 = 12;

/// Then one patient leaves in this time.
const DISCHARGE_EVERY_MS: u64 = 8 * HOUR_MS;

/// How long a patient tries to answer or book before they forget about it.
const PATIENCE_MS: u64 = 36 * HOUR_MS;

/// How often they look again until then. Each look is in the audit, so it is no more than a person's.
const LOOK_EVERY_MS: u64 = 4 * HOUR_MS;

/// What failed for the whole hospital is tried again after so long.
const AGAIN_MS: u64 = HOUR_MS;

/// A patient who comes back stays this long.
const SECOND_STAY_MS: u64 = 6 * DAY_MS;

/// Of imported adults, this many are taken in with heart failure.
const IMPORTED_CASES: usize = 60;

/// The staff work off tasks that have lain this long, so that the worklist stays one that a visitor
/// can oversee while leaving enough for them to do.
const TASKS_LEFT_MS: u64 = 3 * DAY_MS;

/// Patients acting at the same time.
const PARALLEL: usize = 8;

/// The driver.
pub(super) struct Driver {
    actors: Actors,
    clock: Arc<dyn Clock>,
    importer: Importer,
    path: PathBuf,
    state: DriverState,
    /// Seed of the cohort; of imported patients, what decides what they do.
    seed: u64,
    admits: bool,
    /// Acts up to here may have been done before the last end.
    resumed_ms: u64,
    /// Nobody is taken in before this, because the last one could not be.
    admits_again_ms: u64,
}

/// What is needed to bring another patient in.
struct Importer {
    trust: trust::Trust,
    rejects: PathBuf,
    logins: Vec<Login>,
}

impl Driver {
    /// Goes on from the state in `data`, or lays out who leaves the hospital when.
    pub(super) async fn new(
        server: &Server,
        data: &Path,
        demo: &DemoState,
    ) -> anyhow::Result<Self> {
        let path = super::driver_state_path(data);
        let base = format!("{}/fhir/r4", server.base_url());
        let actors = Actors::new(server.record().clone(), server.ledger().clone(), base);
        let state = match load(&path)? {
            Some(state) => state,
            None => {
                let state = lay_out(&actors, demo).await?;
                save(&path, &state)?;
                state
            }
        };
        let (seed, admits) = match demo.source {
            Source::Synthetic { seed, .. } => (seed, true),
            Source::Import { .. } => (1, false),
        };
        Ok(Self {
            actors,
            clock: server.ledger().clock(),
            importer: Importer {
                trust: server.trust().clone(),
                rejects: data.join("rejects.ndjson"),
                logins: demo.logins.clone(),
            },
            path,
            state,
            seed,
            admits,
            resumed_ms: server.ledger().last_number().unix_ms(),
            admits_again_ms: 0,
        })
    }

    /// The patients that leave first.
    pub(super) fn first_patients(&self, count: usize) -> Vec<String> {
        self.state
            .cases
            .iter()
            .take(count)
            .map(|case| case.patient.clone())
            .collect()
    }

    /// Plays until `stopped` turns true.
    pub(super) async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        loop {
            if let Err(error) = self.round().await {
                tracing::warn!(error = format!("{error:#}"), "the demo's driver stumbled");
            }
            tokio::select! {
                // An error means that the demo is gone.
                _ = stopped.wait_for(|stopped| *stopped) => return,
                () = tokio::time::sleep(ROUND) => {}
            }
        }
    }

    async fn round(&mut self) -> anyhow::Result<()> {
        let now_ms = self.clock.now_ms();
        let mut changed = false;
        // What fails here must not keep the patients from acting.
        if self.admits && self.state.next_admission_ms.max(self.admits_again_ms) <= now_ms {
            match self.admit_next(now_ms).await {
                Ok(()) => changed = true,
                Err(error) => {
                    self.admits_again_ms = now_ms + AGAIN_MS;
                    warn("nobody could be taken in", &error);
                }
            }
        }
        if self.state.next_round_ms <= now_ms {
            let left_ms = now_ms.saturating_sub(TASKS_LEFT_MS);
            self.state.next_round_ms = now_ms + 6 * HOUR_MS;
            if let Err(error) = self.actors.work_off_tasks(left_ms, 50).await {
                self.state.next_round_ms = now_ms + AGAIN_MS;
                warn("the night shift could not work", &error);
            }
            changed = true;
        }
        let player = Player {
            actors: &self.actors,
            seed: self.seed,
            resumed_ms: self.resumed_ms,
        };
        let mut due = Vec::new();
        for case in &mut self.state.cases {
            if is_due(case, self.seed, now_ms) {
                due.push(case);
            }
        }
        changed |= !due.is_empty();
        futures_util::stream::iter(due)
            .for_each_concurrent(PARALLEL, |case| player.play(case, now_ms))
            .await;
        if changed {
            save(&self.path, &self.state)?;
        }
        Ok(())
    }

    /// One more synthetic patient comes to hospital with heart failure and leaves three days later.
    async fn admit_next(&mut self, now_ms: u64) -> anyhow::Result<()> {
        let index = self.state.next_index;
        // The time is part of what the patient is made from, so it is the planned one: made again
        // after a crash, it is the same patient.
        let made_ms = self.state.next_admission_ms;
        let options = CohortOptions {
            seed: self.seed,
            now_ms: made_ms,
            heart_failure_share: 1.0,
        };
        let bundle = synthetic::patient_bundle(&options, index);
        let (system, value) =
            identifier(&bundle).context("a synthetic patient has an identifier")?;
        let bundle = team::with_team(bundle, &self.importer.logins);
        let bar = Bar::silent();
        setup::import_values(
            &self.importer.trust,
            std::iter::once(bundle),
            &self.importer.rejects,
            &bar,
        )
        .await?;
        let patient = self
            .actors
            .find_patient(&system, &value)
            .await?
            .context("a patient that was brought in can be found")?;
        self.state
            .cases
            .push(new_case(patient, index, made_ms, 1.0, now_ms + 3 * DAY_MS));
        self.state.next_index += 1;
        self.state.next_admission_ms =
            made_ms.max(now_ms.saturating_sub(DAY_MS)) + DISCHARGE_EVERY_MS;
        Ok(())
    }
}

fn new_case(
    patient: String,
    index: u64,
    made_ms: u64,
    heart_failure_share: f64,
    discharge_due_ms: u64,
) -> Case {
    Case {
        patient,
        index,
        made_ms,
        heart_failure_share,
        discharge_due_ms,
        discharged_ms: None,
        done: 0,
        waiting: Vec::new(),
        looked_ms: 0,
        stay: 1,
        over: false,
    }
}

/// Who leaves the hospital when.
async fn lay_out(actors: &Actors, demo: &DemoState) -> anyhow::Result<DriverState> {
    let mut cases = Vec::new();
    let mut next_index = 0;
    match &demo.source {
        Source::Synthetic { seed, patients } => {
            next_index = *patients;
            let options = CohortOptions {
                seed: *seed,
                now_ms: demo.started_ms,
                heart_failure_share: HEART_FAILURE_SHARE,
            };
            for index in 0..*patients {
                let bundle = synthetic::patient_bundle(&options, index);
                if !lies_in_hospital(&bundle) {
                    continue;
                }
                let (system, value) =
                    identifier(&bundle).context("a synthetic patient has an identifier")?;
                if let Some(patient) = actors.find_patient(&system, &value).await? {
                    let due_ms = discharge_time(demo.started_ms, cases.len() as u64);
                    cases.push(new_case(
                        patient,
                        index,
                        demo.started_ms,
                        HEART_FAILURE_SHARE,
                        due_ms,
                    ));
                }
            }
        }
        Source::Import { .. } => {
            for patient in actors.adults(demo.started_ms, IMPORTED_CASES).await? {
                actors
                    .admit(
                        &patient,
                        "stay/1",
                        demo.started_ms.saturating_sub(4 * DAY_MS),
                    )
                    .await?;
                let number = cases.len() as u64;
                let due_ms = discharge_time(demo.started_ms, number);
                cases.push(new_case(patient, number, demo.started_ms, 1.0, due_ms));
            }
        }
    }
    // When the last of the first patients is about to leave, others come.
    let last_ms = cases
        .last()
        .map_or(demo.started_ms, |case| case.discharge_due_ms);
    Ok(DriverState {
        cases,
        next_index,
        next_admission_ms: last_ms
            .saturating_sub(3 * DAY_MS)
            .max(demo.started_ms + DISCHARGE_EVERY_MS),
        next_round_ms: demo.started_ms + TASKS_LEFT_MS,
    })
}

fn discharge_time(started_ms: u64, number: u64) -> u64 {
    if number < FIRST_MORNING {
        started_ms + HOUR_MS + number * HOUR_MS / 2
    } else {
        started_ms + HOUR_MS + (number - FIRST_MORNING + 1) * DISCHARGE_EVERY_MS
    }
}

fn resources(bundle: &Value) -> impl Iterator<Item = &Value> {
    bundle["entry"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|entry| &entry["resource"])
}

/// Whether a synthetic patient lies in hospital (the generator does that for heart failure only).
fn lies_in_hospital(bundle: &Value) -> bool {
    resources(bundle).any(|resource| {
        resource["resourceType"] == "Encounter"
            && resource["status"] == "in-progress"
            && resource["class"]["code"] == "IMP"
    })
}

fn identifier(bundle: &Value) -> Option<(String, String)> {
    let patient = resources(bundle).find(|resource| resource["resourceType"] == "Patient")?;
    let identifier = &patient["identifier"][0];
    Some((
        identifier["system"].as_str()?.to_owned(),
        identifier["value"].as_str()?.to_owned(),
    ))
}

/// What a patient does after a discharge. Whoever came back once does not come back again: the demo
/// shows a readmission, not a spiral.
fn acts_of(case: &Case, seed: u64, discharged_ms: u64) -> Vec<Act> {
    let options = CohortOptions {
        seed,
        now_ms: case.made_ms,
        heart_failure_share: case.heart_failure_share,
    };
    let mut acts = synthetic::behaviour(&options, case.index, discharged_ms);
    if case.stay > 1 {
        acts.retain(|act| !matches!(act.what, What::Readmission | What::Death));
    }
    acts
}

fn is_due(case: &Case, seed: u64, now_ms: u64) -> bool {
    if case.over {
        return false;
    }
    let Some(discharged_ms) = case.discharged_ms else {
        return case.discharge_due_ms <= now_ms;
    };
    looks_again(case, now_ms)
        || acts_of(case, seed, discharged_ms)
            .get(case.done)
            .map_or(case.waiting.is_empty(), |act| act.at_ms <= now_ms)
}

fn looks_again(case: &Case, now_ms: u64) -> bool {
    !case.waiting.is_empty() && case.looked_ms + LOOK_EVERY_MS <= now_ms
}

/// Does one act of a patient.
trait Perform {
    /// Does the act with this number; `again` says whether it was tried before.
    fn perform(
        &mut self,
        case: &mut Case,
        number: usize,
        again: bool,
    ) -> impl Future<Output = anyhow::Result<Outcome>> + Send;
}

/// Does the acts of one patient that are due: first those that wait for their counterpart, or that
/// failed, then those whose time has come. An act that fails holds up no other; it is tried again for
/// as long as a patient is patient.
async fn play(case: &mut Case, acts: &[Act], now_ms: u64, perform: &mut impl Perform) {
    let stay = case.stay;
    let again = if looks_again(case, now_ms) {
        case.looked_ms = now_ms;
        std::mem::take(&mut case.waiting)
    } else {
        Vec::new()
    };
    let tried = again.len();
    let mut numbers = again;
    while acts.get(case.done).is_some_and(|act| act.at_ms <= now_ms) {
        // Moved on before it is done: an act that the record refuses must not hold up the rest.
        numbers.push(case.done);
        case.done += 1;
    }
    for (place, number) in numbers.into_iter().enumerate() {
        let Some(act) = acts.get(number) else {
            continue;
        };
        let outcome = perform.perform(case, number, place < tried).await;
        if case.over || case.stay != stay {
            // Dead, or back in hospital; what they would have done at home does not happen.
            return;
        }
        let is_forgotten = act.at_ms + PATIENCE_MS < now_ms;
        match outcome {
            Ok(Outcome::Done) => continue,
            Ok(Outcome::NotYet) => {}
            Err(error) => warn("a demo patient's act failed", &error),
        }
        if !is_forgotten {
            case.looked_ms = now_ms;
            case.waiting.push(number);
        }
    }
    case.over |= case.done >= acts.len() && case.waiting.is_empty();
}

fn warn(what: &str, error: &anyhow::Error) {
    tracing::warn!(error = format!("{error:#}"), "{what}");
}

/// One round's view of the world.
struct Player<'a> {
    actors: &'a Actors,
    seed: u64,
    resumed_ms: u64,
}

impl Player<'_> {
    /// Does what is due for one patient.
    async fn play(&self, case: &mut Case, now_ms: u64) {
        let Some(discharged_ms) = case.discharged_ms else {
            match self.actors.discharge(&case.patient, now_ms).await {
                Ok(discharged_ms) => case.discharged_ms = Some(discharged_ms),
                Err(error) => {
                    case.discharge_due_ms = now_ms + AGAIN_MS;
                    warn("a demo patient could not be discharged", &error);
                }
            }
            return;
        };
        let acts = acts_of(case, self.seed, discharged_ms);
        let mut at_home = AtHome {
            player: self,
            acts: &acts,
            now_ms,
        };
        play(case, &acts, now_ms, &mut at_home).await;
    }

    async fn act(
        &self,
        case: &mut Case,
        number: usize,
        act: &Act,
        now_ms: u64,
        again: bool,
    ) -> anyhow::Result<Outcome> {
        let actors = self.actors;
        let patient = case.patient.clone();
        let name = format!("stay/{}/act/{number}", case.stay);
        match &act.what {
            What::Weight { kg } => {
                let may_be_there = again || act.at_ms <= self.resumed_ms;
                actors
                    .weight(&patient, &name, act.at_ms, *kg, may_be_there)
                    .await
                    .context("weight")?;
            }
            What::AnswerQuestionnaire {
                breathless,
                swelling,
                dizzy,
            } => {
                let answer = |item: &Value| symptom_answer(item, *breathless, *swelling, *dizzy);
                return actors
                    .answer(&patient, now_ms, |form| !is_survey(form), &answer)
                    .await
                    .context("answer");
            }
            What::AnswerSurvey { score } => {
                let answer = |item: &Value| survey_answer(item, *score);
                return actors
                    .answer(&patient, now_ms, is_survey, &answer)
                    .await
                    .context("survey");
            }
            What::BookVisit => return actors.book(&patient).await.context("booking"),
            What::WithdrawConsent => actors
                .withdraw_consent(&patient)
                .await
                .context("withdrawal")?,
            What::Death => {
                actors.death(&patient, act.at_ms).await.context("death")?;
                case.over = true;
            }
            What::Readmission => {
                actors
                    .admit(&patient, &format!("stay/{}", case.stay + 1), act.at_ms)
                    .await
                    .context("readmission")?;
                case.stay += 1;
                case.discharged_ms = None;
                case.discharge_due_ms = act.at_ms + SECOND_STAY_MS;
                case.done = 0;
                case.waiting.clear();
            }
        }
        Ok(Outcome::Done)
    }
}

/// What a patient does at home, in the record.
struct AtHome<'a> {
    player: &'a Player<'a>,
    acts: &'a [Act],
    now_ms: u64,
}

impl Perform for AtHome<'_> {
    async fn perform(
        &mut self,
        case: &mut Case,
        number: usize,
        again: bool,
    ) -> anyhow::Result<Outcome> {
        let act = self.acts.get(number).context("an act has a number")?;
        self.player.act(case, number, act, self.now_ms, again).await
    }
}

/// Whether a form is the experience survey rather than the one about symptoms.
fn is_survey(form: &Value) -> bool {
    form["name"] == "survey"
}

fn symptom_answer(item: &Value, breathless: bool, swelling: bool, dizzy: bool) -> Option<Value> {
    let link_id = item["linkId"].as_str().unwrap_or_default();
    match item["type"].as_str()? {
        "boolean" => {
            let yes = (link_id.contains("breath") && breathless)
                || (link_id.contains("swell") && swelling)
                || (link_id.contains("dizz") && dizzy);
            Some(json!({ "valueBoolean": yes }))
        }
        "choice" => first_option(item),
        "integer" => Some(json!({ "valueInteger": 0 })),
        _ => None,
    }
}

fn survey_answer(item: &Value, score: u8) -> Option<Value> {
    match item["type"].as_str()? {
        "integer" => Some(json!({ "valueInteger": score })),
        "boolean" => Some(json!({ "valueBoolean": score >= 6 })),
        "choice" => first_option(item),
        _ => None,
    }
}

fn first_option(item: &Value) -> Option<Value> {
    let option = &item["answerOption"][0];
    option.is_object().then(|| option.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dozen_leaves_on_the_first_morning_and_then_one_each_eight_hours() {
        let times: Vec<u64> = (0..15)
            .map(|number| discharge_time(0, number) / (HOUR_MS / 2))
            .collect();
        assert_eq!(times, [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 18, 34, 50]);
    }

    fn case() -> Case {
        let mut case = new_case("p".to_owned(), 0, 0, 1.0, 0);
        case.discharged_ms = Some(0);
        case
    }

    fn act(at_ms: u64, what: What) -> Act {
        Act { at_ms, what }
    }

    /// Notes what is tried, and answers by a table: act and time.
    struct Script<F> {
        tries: Vec<(usize, bool)>,
        answer: F,
    }

    impl<F: FnMut(&mut Case, usize) -> anyhow::Result<Outcome> + Send> Perform for Script<F> {
        async fn perform(
            &mut self,
            case: &mut Case,
            number: usize,
            again: bool,
        ) -> anyhow::Result<Outcome> {
            self.tries.push((number, again));
            (self.answer)(case, number)
        }
    }

    fn script<F: FnMut(&mut Case, usize) -> anyhow::Result<Outcome> + Send>(
        answer: F,
    ) -> Script<F> {
        Script {
            tries: Vec::new(),
            answer,
        }
    }

    #[tokio::test]
    async fn an_act_that_fails_holds_up_no_other_and_is_tried_again() {
        let acts = [
            act(HOUR_MS, What::BookVisit),
            act(2 * HOUR_MS, What::Weight { kg: 80.0 }),
            act(3 * HOUR_MS, What::AnswerSurvey { score: 9 }),
            act(3 * HOUR_MS, What::WithdrawConsent),
        ];
        let mut case = case();
        let mut tries = Vec::new();
        for hours in [3, 4, 8, 12, 16] {
            // Two fail at first, and the third finds nothing to answer for longer.
            let mut record = script(|_: &mut Case, number| match number {
                0 | 1 if hours < 8 => anyhow::bail!("refused"),
                2 if hours < 12 => Ok(Outcome::NotYet),
                _ => Ok(Outcome::Done),
            });
            play(&mut case, &acts, hours * HOUR_MS, &mut record).await;
            tries.push(record.tries);
        }
        assert_eq!(
            tries,
            [
                vec![(0, false), (1, false), (2, false), (3, false)],
                vec![],
                vec![(0, true), (1, true), (2, true)],
                vec![(2, true)],
                vec![]
            ]
        );
        assert!(case.over && case.waiting.is_empty());
    }

    #[tokio::test]
    async fn what_fails_for_too_long_is_given_up() {
        let acts = [act(HOUR_MS, What::BookVisit)];
        let mut case = case();
        let mut record = script(|_: &mut Case, _| anyhow::bail!("refused"));
        for hours in 1..100 {
            play(&mut case, &acts, hours * HOUR_MS, &mut record).await;
        }
        assert_eq!(record.tries.len(), 11, "at once, then each four hours");
        assert!(case.over);
    }

    #[tokio::test]
    async fn whoever_is_back_in_hospital_does_nothing_at_home() {
        let acts = [
            act(HOUR_MS, What::Readmission),
            act(HOUR_MS, What::BookVisit),
        ];
        let mut case = case();
        let mut record = script(|case: &mut Case, _| {
            case.stay += 1;
            case.discharged_ms = None;
            case.done = 0;
            Ok(Outcome::Done)
        });
        play(&mut case, &acts, HOUR_MS, &mut record).await;
        assert_eq!(record.tries, [(0, false)]);
        assert_eq!((case.done, case.over), (0, false));
    }

    #[test]
    fn answers_by_question() {
        let table = [
            ("breathless", true),
            ("swelling", false),
            ("dizziness", true),
            ("other", false),
        ];
        for (link_id, expected) in table {
            let item = json!({ "linkId": link_id, "type": "boolean" });
            let answer = symptom_answer(&item, true, false, true);
            assert_eq!(
                answer,
                Some(json!({ "valueBoolean": expected })),
                "{link_id}"
            );
        }
    }
}

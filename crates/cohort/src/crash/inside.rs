//! The same from inside, in the store that the last server has closed: who is stuck, what still waits to go out, and
//! whether the histories and the passages of journeys say what their FHIR resources say.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use cairn::store::{self, TENANT};
use journey::{Journeys, Passed};
use ledger::{Location, SystemClock};
use trust::outgoing::{CHANNEL_CALL, CHANNEL_EMAIL, CHANNEL_FORM};
use trust::{Action, Agent, Permit, Purpose, Role, Target, Trust, TrustOptions};

use super::people;
use super::proof::{ARMS, Face, Faults, JOURNEYS, LEFT};

/// For the store's cache, bytes.
const CACHE_BYTES: u64 = 64 << 20;
/// Later than anything that was put off.
const FAR_MS: u64 = 4_102_444_800_000;
/// The step that calls a partner.
const CALL: &str = "storm/ride";
/// Rows that are read at once.
const ROWS: usize = 1000;

async fn permit(trust: &Trust, role: Role, purpose: Purpose, action: Action) -> Result<Permit> {
    let agent = Agent {
        role,
        ..Agent::system(TENANT, "crash-proof")
    };
    let target = Target::default();
    Ok(trust
        .decide(&agent, purpose, action, target, "crash-proof")
        .await?)
}

/// Looks into the store.
///
/// # Errors
/// When it can't be read.
pub async fn look(
    location: Location,
    root_key: &Path,
    faces: &BTreeMap<usize, Vec<Face>>,
    faults: &mut Faults,
) -> Result<()> {
    let ledger = store::open(location, root_key, Arc::new(SystemClock), CACHE_BYTES).await?;
    let trust = Trust::new(TrustOptions {
        ledger: ledger.clone(),
        wall_clock: Arc::new(SystemClock),
        policy_folder: None,
        session_idle_s: 900,
        session_absolute_s: 43_200,
    })?;
    let journeys = Journeys::new(trust.clone());
    let staff = permit(
        &trust,
        Role::Coordinator,
        Purpose::Treatment,
        Action::Search,
    )
    .await?;
    for (channel, what) in [
        (CHANNEL_EMAIL, "an e-mail"),
        (CHANNEL_CALL, "a call"),
        (CHANNEL_FORM, "a form"),
    ] {
        let waiting = ledger.outbox_due(channel, FAR_MS, ROWS).await?;
        let words = waiting
            .iter()
            .map(|_| format!("{what} waits in the outbox"));
        faults.wrong.extend(words);
    }
    let (stuck, _) = journeys.stuck(&staff).await?;
    let words = stuck.iter().map(|row| format!("stuck: {row:?}"));
    faults.wrong.extend(words);
    for (number, faces) in faces {
        history(&journeys, &staff, *number, faces, faults).await?;
    }
    passages(&journeys, &trust, &staff, faces, faults).await?;
    ledger.close().await?;
    Ok(())
}

/// What each journey of a patient says it has done, against the resources that name it.
async fn history(
    journeys: &Journeys,
    staff: &Permit,
    number: usize,
    faces: &[Face],
    faults: &mut Faults,
) -> Result<()> {
    let who = people::id(number);
    let views = journeys.of_patient(staff, &who).await?;
    let names: BTreeSet<&str> = views.iter().map(|view| view.journey.as_str()).collect();
    if views.len() != JOURNEYS.len() || !JOURNEYS.iter().all(|name| names.contains(name)) {
        let words = format!("{who}: {} journeys: {names:?}", views.len());
        faults.wrong.push(words);
    }
    for view in views {
        let wanted = if view.journey == JOURNEYS[0] {
            "Finished"
        } else {
            "Completed"
        };
        let ended = view.ended.as_ref().map(|(_, title)| title.as_str());
        if ended != Some(wanted) {
            let words = format!("{who}: {} has come to {ended:?}", view.journey);
            faults.wrong.push(words);
        }
        let theirs = faces.iter().filter(|face| face.instance == view.id);
        let (plans, theirs): (Vec<&Face>, Vec<&Face>) =
            theirs.partition(|face| face.reference.starts_with("CarePlan/"));
        let plan = plans.first().map(|plan| plan.status.as_str());
        if plan != ended.map(|_| "completed") {
            let words = format!("{who}: {} ended {ended:?}, its plan {plan:?}", view.id);
            faults.wrong.push(words);
        }
        // Of a call the history says what came of it, and names nothing.
        let theirs = theirs.iter().filter(|face| face.step != CALL);
        let shown: BTreeSet<&str> = theirs.map(|face| face.reference.as_str()).collect();
        let told = view
            .trail
            .iter()
            .filter_map(|entry| entry.reference.as_deref());
        let ours = |reference: &&str| !reference.starts_with("CarePlan/");
        let told: BTreeSet<&str> = told.filter(ours).collect();
        for only in shown.difference(&told) {
            let words = format!("{who}: {only} is in no history");
            faults.wrong.push(words);
        }
        // What began it may be named, too: the visit, and the order of the journey that began this one.
        let own = format!("Appointment/crash-{number}-visit");
        let left = ["Task/", "Communication/", "Appointment/"];
        for only in told.difference(&shown) {
            if *only != own && left.iter().any(|kind| only.starts_with(kind)) {
                let words = format!("{who}: {only} is in the history of {} alone", view.journey);
                faults.wrong.push(words);
            }
        }
    }
    Ok(())
}

/// How many came to each step, by the counts of the journey's page and by the list behind them, against the resources
/// that the step has left.
async fn passages(
    journeys: &Journeys,
    trust: &Trust,
    staff: &Permit,
    faces: &BTreeMap<usize, Vec<Face>>,
    faults: &mut Faults,
) -> Result<()> {
    let squad = permit(trust, Role::Squad, Purpose::Operations, Action::Observe).await?;
    let mut steps: Vec<(&str, &str)> = LEFT.iter().map(|(step, kind, ..)| (*step, *kind)).collect();
    steps.extend(ARMS.map(|arm| (arm, "Communication")));
    for name in JOURNEYS {
        let graph = journeys.graph(&squad, name, None).await?;
        let version = graph.version;
        if version.running != 0 || version.ended != faces.len() as u64 {
            let words = format!("{name}: {} run, {} ended", version.running, version.ended);
            faults.wrong.push(words);
        }
        for (step, kind) in &steps {
            let Some(id) = step
                .strip_prefix(name)
                .and_then(|rest| rest.strip_prefix('/'))
            else {
                continue;
            };
            let prefix = format!("{kind}/");
            let left = faces.values().flatten();
            let left =
                left.filter(|face| face.step == *step && face.reference.starts_with(&prefix));
            let left = left.count() as u64;
            let node = graph.nodes.iter().find(|node| node.id == id);
            let entered = node.map_or(0, |node| node.entered);
            let (mut listed, mut before) = (0, None);
            let list = Passed::Came {
                step: id.to_owned(),
            };
            loop {
                let page = journeys.passed(staff, name, version.version, &list, before, ROWS);
                let page = page.await?;
                listed += page.rows.len() as u64;
                before = page.next;
                if before.is_none() {
                    break;
                }
            }
            if left != entered || left != listed {
                let words = format!("{step}: {left} {kind}, {entered} came, {listed} in the list");
                faults.wrong.push(words);
            }
        }
    }
    Ok(())
}

//! What has to be there in the end, looked at from outside: over FHIR, at the mail server and at the partner.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use serde_json::Value;
use trust::conventions::{INSTANCE_SYSTEM, STEP_SYSTEM};

use super::door::Door;
use super::people;
use super::story::Fact;
use crate::peers::{Asked, Smtp};

/// What is looked at of a patient's record.
const TYPES: &str = "Patient,Encounter,Observation,Procedure,Appointment,QuestionnaireResponse,CarePlan,Task,Communication,CommunicationRequest";
/// The journeys that each patient goes through.
pub const JOURNEYS: [&str; 3] = ["storm", "storm-letter", "storm-visit"];
/// What each step leaves of each patient: its type, how many, and in which status.
pub const LEFT: [(&str, &str, usize, &str); 13] = [
    ("storm/welcome", "Communication", 1, "completed"),
    ("storm/ride", "Task", 1, "completed"),
    ("storm/booked", "Task", 1, "completed"),
    ("storm/timed", "Communication", 1, "completed"),
    ("storm/acted", "Task", 1, "completed"),
    ("storm/form", "Task", 1, "completed"),
    ("storm/review", "Task", 1, "completed"),
    ("storm/visit", "Appointment", 1, "fulfilled"),
    ("storm/letter", "Task", 1, "completed"),
    ("storm/hello", "Communication", 2, "completed"),
    ("storm/weighed", "Task", 1, "completed"),
    ("storm-letter/letter", "Communication", 1, "completed"),
    ("storm-visit/call", "Task", 1, "completed"),
];
/// The step whose e-mail is called off where the form was answered before it left.
const INVITES: &str = "storm/form";
/// The arms of the experiment: of each patient one leaves a message.
pub const ARMS: [&str; 2] = ["storm/one", "storm/other"];
/// What is written of each patient.
const WRITTEN: [(&str, usize); 6] = [
    ("Patient", 1),
    ("Encounter", 1),
    ("Observation", 3),
    ("Procedure", 1),
    ("Appointment", 1),
    ("QuestionnaireResponse", 1),
];

/// What is not as it has to be.
#[derive(Debug, Default)]
pub struct Faults {
    /// Acknowledged or due, and not there.
    pub lost: Vec<String>,
    /// There more often than it may be, under another name, so that nobody can tell.
    pub doubled: Vec<String>,
    /// Anything else.
    pub wrong: Vec<String>,
}

impl Faults {
    /// Whether there is none.
    #[must_use]
    pub fn none(&self) -> bool {
        self.lost.is_empty() && self.doubled.is_empty() && self.wrong.is_empty()
    }

    fn count(&mut self, found: usize, wanted: usize, what: &dyn Fn() -> String) {
        if found < wanted {
            let missing = wanted - found;
            self.lost.extend((0..missing).map(|_| what()));
        } else if found > wanted {
            let more = found - wanted;
            self.doubled.extend((0..more).map(|_| what()));
        }
    }
}

/// What was counted.
#[derive(Debug, Default)]
pub struct Counts {
    /// Facts that were acknowledged.
    pub facts: usize,
    /// Journeys that came to their end.
    pub journeys: usize,
    /// Tasks, forms, visits and messages that journeys left.
    pub left: usize,
    /// E-mails by their Message-ID, and deliveries.
    pub mails: usize,
    /// E-mails that were called off before they left, because the form was answered.
    pub called_off: usize,
    /// Deliveries to the mail server.
    pub deliveries: usize,
    /// Calls by their key.
    pub calls: usize,
    /// Requests to the partner.
    pub requests: usize,
    /// Of these, those that it had answered before.
    pub asked_again: usize,
}

/// A resource as others see a journey by it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Face {
    /// `Task/ID`.
    pub reference: String,
    /// `journey/step`; empty for a `CarePlan`.
    pub step: String,
    /// The journey's instance.
    pub instance: String,
    /// Its status.
    pub status: String,
}

fn identifier<'a>(resource: &'a Value, system: &str) -> Option<&'a str> {
    let all = resource["identifier"].as_array()?;
    all.iter()
        .find(|one| one["system"] == system)
        .and_then(|one| one["value"].as_str())
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

/// Which of these patients have come to the end of all their journeys.
///
/// # Errors
/// When the server turns a search down.
pub async fn settled(door: &Door, patients: &[usize]) -> Result<BTreeSet<usize>> {
    let mut settled = BTreeSet::new();
    for number in patients {
        let query = format!(
            "CarePlan?patient={}&status=completed&_summary=count",
            people::id(*number)
        );
        let total = door.get(&query).await?["total"].as_u64();
        if total.is_some_and(|total| total >= JOURNEYS.len() as u64) {
            settled.insert(*number);
        }
    }
    Ok(settled)
}

/// Where a patient is, for the words of a fault.
///
/// # Errors
/// When the server turns a search down.
pub async fn whereabouts(door: &Door, number: usize) -> Result<String> {
    let (_, faces, _) = of_patient(door, number).await?;
    let words = faces.iter().map(|face| {
        let kind = face.reference.split('/').next().unwrap_or_default();
        format!("{} {kind} {}", face.step, face.status)
    });
    let words: Vec<String> = words.collect();
    Ok(format!("{}: {}", people::id(number), words.join(", ")))
}

/// What others wrote, what journeys left, and everything in between, of one patient.
async fn of_patient(door: &Door, number: usize) -> Result<(Vec<Value>, Vec<Face>, Vec<Value>)> {
    let path = format!(
        "Patient/{}/$everything?_type={TYPES}&_count=1000",
        people::id(number)
    );
    let (mut written, mut faces, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    for resource in door.all(&path).await? {
        let Some(instance) = identifier(&resource, INSTANCE_SYSTEM) else {
            written.push(resource);
            continue;
        };
        let step = identifier(&resource, STEP_SYSTEM).unwrap_or_default();
        // JOURNEY/VERSION/STEP
        let parts: Vec<&str> = step.split('/').collect();
        let step = match parts[..] {
            [journey, _, step] => format!("{journey}/{step}"),
            _ => String::new(),
        };
        faces.push(Face {
            reference: format!(
                "{}/{}",
                text(&resource, "resourceType"),
                text(&resource, "id")
            ),
            step,
            instance: instance.to_owned(),
            status: text(&resource, "status").to_owned(),
        });
        theirs.push(resource);
    }
    Ok((written, faces, theirs))
}

/// Looks at everything. The faces of all journeys, by patient.
///
/// # Errors
/// When the server turns something down.
pub async fn look(
    door: &Door,
    patients: &[usize],
    acknowledged: &[Fact],
    smtp: &Smtp,
    partner: &Asked,
    faults: &mut Faults,
) -> Result<(Counts, BTreeMap<usize, Vec<Face>>)> {
    let mut counts = Counts {
        facts: acknowledged.len(),
        requests: partner.count,
        asked_again: partner.again,
        ..Counts::default()
    };
    let (mails, deliveries) = smtp.by_recipient();
    counts.deliveries = deliveries;
    let (mut there, mut all) = (BTreeSet::new(), BTreeMap::new());
    for number in patients.iter().copied() {
        let (written, faces, theirs) = of_patient(door, number).await?;
        let who = people::id(number);
        for resource in written.iter().chain(&theirs) {
            let (kind, id) = (text(resource, "resourceType"), text(resource, "id"));
            there.insert(format!("{kind}/{id}"));
        }
        for (kind, wanted) in WRITTEN {
            let found = written.iter().filter(|one| one["resourceType"] == kind);
            faults.count(found.count(), wanted, &|| format!("{who}: {kind}"));
        }
        counts.journeys += judge(&who, &faces, faults);
        counts.left += faces.iter().filter(|face| !face.step.is_empty()).count();
        // Each message under one Message-ID, however often it was handed over.
        let none = BTreeSet::new();
        let came = mails.get(&people::address(number)).unwrap_or(&none);
        counts.mails += came.len();
        counts.called_off += mailed(&who, came, &theirs, faults);
        // One call under one key, and the answer to that key is the one that is learnt.
        let keys = partner.keys.get(&people::family(number));
        let of_them = keys.map_or(0, BTreeSet::len);
        counts.calls += of_them;
        faults.count(of_them, 1, &|| format!("{who}: a call"));
        let key = keys.and_then(BTreeSet::first).map_or("", String::as_str);
        learnt(&who, key, &faces, &theirs, faults);
        all.insert(number, faces);
    }
    for fact in acknowledged {
        if !there.contains(&fact.place) {
            let key = fact.key.as_deref().unwrap_or("no key");
            let words = format!("{}, acknowledged ({key})", fact.place);
            faults.lost.push(words);
        }
    }
    Ok((counts, all))
}

/// Whether each e-mail that says it was sent has come, by its Message-ID, and no other: but one that was called off may
/// have been under way already. How many were called off.
fn mailed(who: &str, came: &BTreeSet<String>, theirs: &[Value], faults: &mut Faults) -> usize {
    let by_mail = theirs
        .iter()
        .filter(|one| one["medium"][0]["coding"][0]["code"] == "EMAILWRIT");
    // A message leaves under the id of its Communication.
    let name = |id: &str| id.replace('-', "");
    let came: BTreeSet<String> = (came.iter())
        .map(|id| id.trim_start_matches('<'))
        .map(|id| name(id.split('@').next().unwrap_or(id)))
        .collect();
    let (mut known, mut called_off) = (BTreeSet::new(), 0);
    for one in by_mail {
        let (id, status) = (text(one, "id"), text(one, "status"));
        match status {
            "completed" if !came.contains(&name(id)) => {
                let words = format!("{who}: the e-mail of Communication/{id}");
                faults.lost.push(words);
            }
            "stopped" => called_off += 1,
            _ => {}
        }
        if ["completed", "stopped"].contains(&status) {
            known.insert(name(id));
        }
    }
    for other in came.difference(&known) {
        let words = format!("{who}: an e-mail under {other}");
        faults.doubled.push(words);
    }
    called_off
}

/// Whether the call has the key under which the partner was asked, and staff were told what it answered.
fn learnt(who: &str, key: &str, faces: &[Face], theirs: &[Value], faults: &mut Faults) {
    let of = |step: &str| {
        let mut found = faces.iter().zip(theirs);
        found.find(|(face, _)| face.step == step)
    };
    if let Some((face, _)) = of("storm/ride")
        && face.reference != format!("Task/{key}")
    {
        let words = format!("{who}: {} was called for under {key}", face.reference);
        faults.wrong.push(words);
    }
    let told = format!("Booked as B-{}.", key.get(..8).unwrap_or(key));
    if let Some((_, task)) = of("storm/booked")
        && task["reasonCode"]["text"] != told.as_str()
        && task["reasonCode"][0]["text"] != told.as_str()
    {
        let words = format!("{who}: {} instead of {told}", task["reasonCode"]);
        faults.wrong.push(words);
    }
}

/// What journeys have left of a patient, against what they have to leave. How many came to their end.
fn judge(who: &str, faces: &[Face], faults: &mut Faults) -> usize {
    let kind = |face: &Face| face.reference.split('/').next().unwrap_or("").to_owned();
    let mut open: BTreeMap<(&str, String), Vec<&Face>> = BTreeMap::new();
    for face in faces {
        let key = (face.step.as_str(), kind(face));
        open.entry(key).or_default().push(face);
    }
    let mut take = |step: &'static str, kind: &str, wanted: usize, status: &str| {
        let found = open.remove(&(step, kind.to_owned())).unwrap_or_default();
        faults.count(found.len(), wanted, &|| format!("{who}: {kind} of {step}"));
        for face in &found {
            if face.status != status {
                let words = format!("{who}: {} of {step} is {}", face.reference, face.status);
                faults.wrong.push(words);
            }
        }
        found.iter().filter(|face| face.status == status).count()
    };
    let ended = take("", "CarePlan", JOURNEYS.len(), "completed");
    for (step, kind, wanted, status) in LEFT {
        take(step, kind, wanted, status);
    }
    // The invitation: sent, or called off.
    let invitations = open.remove(&(INVITES, "Communication".to_owned()));
    let invitations = invitations.unwrap_or_default();
    faults.count(invitations.len(), 1, &|| format!("{who}: an invitation"));
    for face in invitations {
        if !["completed", "stopped"].contains(&face.status.as_str()) {
            let words = format!("{who}: {} of {INVITES} is {}", face.reference, face.status);
            faults.wrong.push(words);
        }
    }
    let arms = faces
        .iter()
        .filter(|face| ARMS.contains(&face.step.as_str()));
    let arms: Vec<&Face> = arms.collect();
    for step in ARMS {
        open.remove(&(step, "Communication".to_owned()));
    }
    faults.count(arms.len(), 1, &|| format!("{who}: a message of an arm"));
    for ((step, _), found) in open {
        for face in found {
            let words = format!("{who}: {} of {step}, where nothing led", face.reference);
            faults.wrong.push(words);
        }
    }
    ended
}

#[cfg(test)]
mod tests {
    use super::*;

    fn face(step: &str, kind: &str, number: usize, status: &str) -> Face {
        Face {
            reference: format!("{kind}/{}-{number}", step.replace('/', "-")),
            step: step.to_owned(),
            instance: "i".to_owned(),
            status: status.to_owned(),
        }
    }

    /// All that a patient's journeys leave.
    fn whole() -> Vec<Face> {
        let plans = (0..JOURNEYS.len()).map(|number| face("", "CarePlan", number, "completed"));
        let mut faces: Vec<Face> = plans.collect();
        for (step, kind, count, status) in LEFT {
            faces.extend((0..count).map(|number| face(step, kind, number, status)));
        }
        faces.push(face(INVITES, "Communication", 0, "stopped"));
        faces.push(face(ARMS[1], "Communication", 0, "completed"));
        faces
    }

    fn judged(change: impl FnOnce(&mut Vec<Face>)) -> (usize, [usize; 3]) {
        let (mut faces, mut faults) = (whole(), Faults::default());
        change(&mut faces);
        let ended = judge("p", &faces, &mut faults);
        let found = [&faults.lost, &faults.doubled, &faults.wrong].map(Vec::len);
        (ended, found)
    }

    #[test]
    fn what_is_missing_double_or_astray_is_seen() {
        assert_eq!(judged(|_| {}), (3, [0, 0, 0]));
        // Each thing that there is, taken away and doubled.
        for place in 0..whole().len() {
            let plan = usize::from(place < JOURNEYS.len());
            let gone = judged(|faces| {
                faces.remove(place);
            });
            assert_eq!(gone, (3 - plan, [1, 0, 0]), "{place}");
            let twice = judged(|faces| {
                let again = faces[place].clone();
                faces.push(again);
            });
            assert_eq!(twice, (3 + plan, [0, 1, 0]), "{place}");
        }
        let open = judged(|faces| faces[0].status = "active".to_owned());
        assert_eq!(open, (2, [0, 0, 1]));
        let open = judged(|faces| faces[4].status = "in-progress".to_owned());
        assert_eq!(open, (3, [0, 0, 1]));
        let astray = judged(|faces| faces.push(face("storm/lost", "Task", 0, "completed")));
        assert_eq!(astray, (3, [0, 0, 1]));
        let arms = judged(|faces| faces.push(face(ARMS[0], "Communication", 0, "completed")));
        assert_eq!(arms, (3, [0, 1, 0]));
    }

    #[test]
    fn an_email_that_was_called_off_hides_no_lost_one() {
        let mail = |id: &str, status: &str| {
            let medium = serde_json::json!([{"coding": [{"code": "EMAILWRIT"}]}]);
            serde_json::json!({"id": id, "status": status, "medium": medium})
        };
        let theirs = [
            mail("aa-01", "completed"),
            mail("aa-02", "completed"),
            mail("aa-03", "stopped"),
            serde_json::json!({"id": "aa-04", "status": "completed"}),
        ];
        for (came, lost, doubled) in [
            (&["aa01", "aa02"][..], 0, 0),
            (&["aa01", "aa02", "aa03"], 0, 0),
            (&["aa01", "aa03"], 1, 0),
            (&["aa01", "aa02", "aa05"], 0, 1),
            (&["aa01", "aa02", "aa04"], 0, 1),
            (&[], 2, 0),
        ] {
            let mut faults = Faults::default();
            let named = |id: &&str| format!("<{id}@example.com>");
            let ids: BTreeSet<String> = came.iter().map(named).collect();
            assert_eq!(mailed("p", &ids, &theirs, &mut faults), 1);
            let found = (faults.lost.len(), faults.doubled.len());
            assert_eq!(found, (lost, doubled), "{came:?}");
            assert!(faults.wrong.is_empty());
        }
    }
}

//! Decisions by themselves: may this person, for this purpose, see this row? That is what a read asks
//! beside finding the row and recording the look: the policies, then the consents of the row's patients
//! with the labels of the row. In this process, without HTTP and without audit records.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fhir::{Resource, ResourceType};
use ledger::{
    Expected, Ledger, Location, OpenOptions, RootKey, SystemClock, SystemEntropy, TenantId,
};
use serde_json::{Value, json};
use tokio::time::Instant;
use trust::consent::Rules;
use trust::{Action, Agent, Change, Purpose, Role, Target, Trust, TrustOptions, Unit};

use super::{Figure, report};

const TENANT: TenantId = TenantId(1);
/// A sample of each of these many decisions that are made for the first time in a process.
const STARTS: usize = 40;

/// What to measure.
#[derive(Debug, Clone, clap::Args)]
pub struct DecisionOptions {
    /// Patients, each with two consents and four observations. Consents of 4,096 are kept ready.
    #[arg(long, default_value_t = 1000)]
    pub patients: usize,
    /// Seconds for each kind of decision.
    #[arg(long, default_value_t = 4)]
    pub seconds: u64,
    /// The rule pack that decides: a name of one that is built in, or a file.
    #[arg(long, default_value = "us-hipaa")]
    pub rules: String,
    /// Decisions at once, for the rate.
    #[arg(long, default_value_t = 2)]
    pub at_once: usize,
    /// Also write the figures to this file as JSON.
    #[arg(long)]
    pub json: Option<PathBuf>,
}

/// What who coordinates is known as, the patients' general practitioner: the relationship that is looked for first.
const FIRST: &str = "Practitioner/first";
/// What who treats is known as, by tasks for the patients: what is looked for last, after all others.
const LAST: &str = "Practitioner/last";

/// Who asks, for what, and whether consents bind them.
async fn askers(trust: &Trust) -> Result<[(Agent, Purpose); 3]> {
    let operator = Agent::system(TENANT, "command-line");
    let identity = trust.identity();
    let administer = (Purpose::Administration, Action::Administer);
    let permit = trust
        .decide(&operator, administer.0, administer.1, Target::default(), "")
        .await?;
    let mut asked = Vec::new();
    for (role, purpose, known_as) in [
        (Role::Client, Purpose::Treatment, None),
        (Role::Coordinator, Purpose::CareManagement, Some(FIRST)),
        (Role::Clinician, Purpose::Treatment, Some(LAST)),
    ] {
        let token = identity.create_client(&operator, role.name(), role).await?;
        let agent = identity.bearer(&token).await?;
        if let Some(known_as) = known_as {
            let known_as = [known_as.to_owned()];
            identity.set_known_as(&permit, &agent.id, &known_as).await?;
        }
        asked.push((agent, purpose));
    }
    asked
        .try_into()
        .map_err(|_| anyhow::anyhow!("there are three who ask"))
}

/// A patient's rows: consents that say yes but for a code and a label, and observations of which the
/// second has the code and the third the label.
fn rows(patient: usize) -> (Vec<Value>, Vec<Value>) {
    let reference = json!({"reference": format!("Patient/p{patient}")});
    let consent = |id: &str, provision: Value| {
        json!({"resourceType": "Consent", "id": format!("{id}{patient}"), "status": "active",
            "scope": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]},
            "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
            "policyRule": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "OPTIN"}]},
            "patient": reference, "dateTime": "2026-01-01", "provision": provision})
    };
    let code = |code: &str| json!([{"coding": [{"system": "http://loinc.org", "code": code}]}]);
    let label = |code: &str| json!({"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": code});
    let kept = vec![
        json!({"resourceType": "Patient", "id": format!("p{patient}"), "birthDate": "1950-02-03",
            "generalPractitioner": [{"reference": FIRST}]}),
        json!({"resourceType": "Task", "id": format!("t{patient}"), "status": "requested", "intent": "order",
            "for": reference, "owner": {"reference": LAST}, "executionPeriod": {"start": "2026-01-01", "end": "2099-01-01"}}),
        consent("general", json!({"type": "permit"})),
        consent(
            "but",
            json!({"type": "permit", "provision": [
                {"type": "deny", "code": code("75622-1")},
                {"type": "deny", "securityLabel": [label("PSY")]},
            ]}),
        ),
    ];
    let observation = |number: usize, of: &str| {
        let mut row = json!({"resourceType": "Observation", "id": format!("o{patient}-{number}"), "status": "final",
            "code": code(of)[0], "subject": reference, "effectiveDateTime": "2026-02-01"});
        if number == 2 {
            row["meta"] = json!({"security": [label("PSY")]});
        }
        row
    };
    let codes = ["29463-7", "75622-1", "8480-6", "8462-4"];
    let observations = codes
        .iter()
        .enumerate()
        .map(|(number, code)| observation(number, code));
    (kept, observations.collect())
}

struct Scene {
    rules: String,
    ledger: Ledger,
    trust: Trust,
    rows: Vec<Resource>,
    _folder: tempfile::TempDir,
}

fn trust_over(ledger: &Ledger, rules: &str) -> Result<Trust> {
    let options = TrustOptions {
        ledger: ledger.clone(),
        wall_clock: Arc::new(SystemClock),
        policy_folder: None,
        session_idle_s: 900,
        session_absolute_s: 43_200,
    };
    Ok(Trust::under(options, Rules::load(rules)?)?)
}

impl Scene {
    async fn new(patients: usize, rules: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let ledger = Ledger::open(OpenOptions {
            location: Location::Folder(folder.path().join("store")),
            root_key: RootKey::from_bytes([7; 32]),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
            dictionary: cairn::dictionaries::dictionaries(),
            cache_bytes: 256 << 20,
        })?;
        ledger.create_tenant(TENANT).await?;
        let trust = trust_over(&ledger, rules)?;
        let importer = Agent::system(TENANT, "importer");
        let import = (Purpose::Operations, Action::Import);
        let permit = trust
            .decide(&importer, import.0, import.1, Target::default(), "")
            .await?;
        let mut all = Vec::new();
        for patient in 0..patients {
            let (kept, observations) = rows(patient);
            let mut changes = Vec::new();
            for value in kept {
                changes.push(Change::Put {
                    resource: Resource::from_value(value)?,
                    expected: Expected::Absent,
                });
            }
            let unit = Unit {
                changes,
                ..Unit::default()
            };
            trust.vault().commit(&permit, unit).await?;
            for row in observations {
                all.push(Resource::from_value(row)?);
            }
        }
        Ok(Self {
            rules: rules.to_owned(),
            ledger,
            trust,
            rows: all,
            _folder: folder,
        })
    }
}

/// One decision, as a read asks it.
async fn decide(trust: &Trust, asker: &(Agent, Purpose), row: &Resource) -> Result<bool> {
    let target = Target {
        kind: Some(ResourceType::Observation),
        patient: None,
    };
    let permit = trust
        .decide(&asker.0, asker.1, Action::Read, target, "request")
        .await?;
    Ok(trust.vault().would_show(&permit, row).await?)
}

/// Times, to be put in order.
#[derive(Default)]
struct Times(Vec<Duration>);

impl Times {
    fn at(&mut self, share: f64) -> Result<f64> {
        self.0.sort_unstable();
        let last = self
            .0
            .len()
            .checked_sub(1)
            .context("nothing was measured")?;
        let place = (last as f64 * share).round() as usize;
        Ok(self.0[place].as_secs_f64() * 1e6)
    }
}

/// Measures, and prints a table.
///
/// # Errors
/// When a decision comes out otherwise than it has to, or the store fails.
pub async fn run_all(options: &DecisionOptions) -> Result<()> {
    ensure!(
        options.patients > 0 && options.at_once > 0,
        "there is nothing to decide"
    );
    let scene = Scene::new(options.patients, &options.rules).await?;
    let asked = askers(&scene.trust).await?;
    let mut shown = Vec::new();
    for row in &scene.rows[..4] {
        shown.push(decide(&scene.trust, &asked[0], row).await?);
    }
    ensure!(
        shown == [true, false, false, true],
        "consents decide otherwise than they say: {shown:?}"
    );
    for asker in &asked[1..] {
        ensure!(
            decide(&scene.trust, asker, &scene.rows[0]).await?,
            "a {} sees nothing of a patient whom they treat",
            asker.0.role.name()
        );
    }
    let mut figures = Vec::new();
    let mut add = |what: &str, value: f64, unit: &'static str| {
        figures.push(Figure {
            what: what.to_owned(),
            value,
            unit,
        });
    };

    // What nobody has decided in this process: policies are read, consents are found, opened, made ready.
    let mut times = Times::default();
    for start in 0..STARTS {
        let trust = trust_over(&scene.ledger, &scene.rules)?;
        let row = &scene.rows[start * 4 % scene.rows.len()];
        let began = Instant::now();
        decide(&trust, &asked[0], row).await?;
        times.0.push(began.elapsed());
    }
    add("first decision of a process: p50", times.at(0.5)?, "µs");
    add("first decision of a process: p99", times.at(0.99)?, "µs");

    // A patient whose consents nobody has asked yet.
    let trust = trust_over(&scene.ledger, &scene.rules)?;
    decide(&trust, &asked[0], &scene.rows[0]).await?;
    let mut times = Times::default();
    for row in scene.rows.iter().skip(4).step_by(4) {
        let began = Instant::now();
        decide(&trust, &asked[0], row).await?;
        times.0.push(began.elapsed());
    }
    if !times.0.is_empty() {
        add("a patient's first decision: p50", times.at(0.5)?, "µs");
        add("a patient's first decision: p99", times.at(0.99)?, "µs");
    }

    // All patients are known by now, if they are not more than are kept.
    for asker in &asked {
        let name = asker.0.role.name();
        let mut times = Times::default();
        let until = Instant::now() + Duration::from_secs(options.seconds);
        let mut rows = scene.rows.iter().cycle();
        while Instant::now() < until {
            let row = rows.next().context("there are rows")?;
            let began = Instant::now();
            decide(&trust, asker, row).await?;
            times.0.push(began.elapsed());
        }
        add(&format!("{name}: p50"), times.at(0.5)?, "µs");
        add(&format!("{name}: p99"), times.at(0.99)?, "µs");
    }

    let (trust, rows) = (Arc::new(trust), Arc::new(scene.rows));
    let next = Arc::new(AtomicUsize::new(0));
    let began = Instant::now();
    let until = began + Duration::from_secs(options.seconds);
    let mut tasks = Vec::new();
    for _ in 0..options.at_once {
        let (trust, rows, next) = (trust.clone(), rows.clone(), next.clone());
        let asker = asked[0].clone();
        tasks.push(tokio::spawn(async move {
            let mut count = 0_u64;
            while Instant::now() < until {
                let row = &rows[next.fetch_add(1, Ordering::Relaxed) % rows.len()];
                decide(&trust, &asker, row).await?;
                count += 1;
                // What is decided from memory never waits, and would keep others from their turn.
                tokio::task::yield_now().await;
            }
            anyhow::Ok(count)
        }));
    }
    let mut count = 0;
    for task in tasks {
        count += task.await??;
    }
    add(
        "client: rate",
        count as f64 / began.elapsed().as_secs_f64(),
        "/s",
    );
    report(
        &format!(
            "{}, {} patients, {} at once for the rate",
            options.rules, options.patients, options.at_once
        ),
        options.json.as_deref(),
        &json!({"rules": options.rules, "patients": options.patients, "at_once": options.at_once}),
        &figures,
    )
}

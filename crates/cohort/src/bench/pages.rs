//! The pages of the console and the portal over a store with many patients, and how soon open ones show what has
//! changed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::Method;
use ledger::{Clock as _, SystemClock};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::load::{self, Call, Load};
use super::wire::{Door, Wire};
use super::{Figure, report, write_cohort_at};
use crate::peers::{Smtp, python};
use crate::random::Random;
use crate::server::{Fhir, ServerProcess, run};
use crate::visitor::{Page, Visitor, encoded};

const PASSWORD: &str = "correct-horse-battery-7";
const JOURNEY: &str = include_str!("../../../../journeys/heart-failure-discharge.yaml");
const MINUTE_MS: u64 = 60_000;
/// Patients who have left hospital and whose weight rises: each is a task for somebody.
const ALARMS: usize = 200;
/// Patients who are signed in.
const PATIENTS_IN: usize = 8;
/// How long the journeys may take until everybody has their messages and tasks, and a stream until it is open.
const SETTLED_WITHIN: Duration = Duration::from_secs(900);
/// How long an open page may take to show a change before that is a failure.
const SHOWN_WITHIN: Duration = Duration::from_secs(60);
/// Coordinators whose lists are open at once, each some of them.
const COLLEAGUES: usize = 10;
/// Changes that open pages are to show.
const CHANGES: usize = 5;
/// Pauses between these, longer than a page waits before it is drawn again.
const BETWEEN: Duration = Duration::from_secs(3);

/// What to measure.
#[derive(Debug, Clone, clap::Args)]
pub struct PageOptions {
    /// Synthetic patients in the store.
    #[arg(long, default_value_t = 100_000)]
    pub patients: u64,
    /// How many of them have left hospital an hour ago and are on the journey for heart failure.
    #[arg(long, default_value_t = 2_000)]
    pub under_way: usize,
    /// Seed of the cohort and of the order of requests.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Pages asked for at once.
    #[arg(long, default_value_t = 4)]
    pub clients: usize,
    /// Seconds for each page.
    #[arg(long, default_value_t = 10)]
    pub seconds: u64,
    /// Lists of work that are open at once.
    #[arg(long, default_value_t = 500)]
    pub open: usize,
    /// Python with `aiosmtpd`, which takes the messages; that of `scripts/test` if not given.
    #[arg(long)]
    pub python: Option<PathBuf>,
    /// Also write the figures to this file as JSON.
    #[arg(long)]
    pub json: Option<PathBuf>,
}

/// Measures and prints a table.
///
/// # Errors
/// When the server can't be run or answers wrongly.
pub async fn run_all(options: &PageOptions) -> Result<()> {
    let space = tempfile::tempdir()?;
    let data = space.path().join("data");
    let now_ms = SystemClock.now_ms();
    let token = set_up(&data, space.path(), options, now_ms)?;
    let smtp = Smtp::start_with(
        &options.python.clone().unwrap_or_else(python),
        space.path(),
        None,
    )?;
    let port = format!("smtp.port={}", smtp.port());
    let settings = [
        "smtp.host=127.0.0.1",
        port.as_str(),
        "smtp.tls=none",
        "smtp.from=care@hospital.example",
        // All clients here have one address.
        "http.shared_addresses=127.0.0.1",
    ];
    let flags: Vec<&str> = settings.iter().flat_map(|one| ["--set", one]).collect();
    let server = ServerProcess::start(&data, &space.path().join("log"), &flags).await?;
    let fhir = Fhir::new(&server.base, &token);
    let under_way = discharge(&fhir, options.under_way, now_ms).await?;
    ensure!(!under_way.is_empty(), "nobody has left hospital");
    let mut staff = Visitor::staff(&server.base, "carla", PASSWORD).await?;
    let work = settled(&mut staff, smtp.log(), &under_way).await?;
    let officer = Visitor::staff(&server.base, "priya", PASSWORD).await?;
    let portal = patients_in(&server.base, &fhir, smtp.log()).await?;

    let mut figures = Vec::new();
    let all = everybody(&fhir, options.patients).await?;
    let csrf = staff.get("/console/patients").await?.field("csrf")?;
    let door = |visitor: &Visitor| Door::to_pages(&server, visitor.cookie());
    let (staff_door, officer_door) = (door(&staff), door(&officer));
    let portal: Vec<Door> = portal.iter().map(door).collect();
    let time = Duration::from_secs(options.seconds);
    for page in pages(all, under_way, &csrf) {
        let doors = match page.who {
            Who::Coordinator => std::slice::from_ref(&staff_door),
            Who::PrivacyOfficer => std::slice::from_ref(&officer_door),
            Who::Patient => portal.as_slice(),
        };
        let cpu = server.cpu_ms()?;
        let load = load::run_by(doors, page.call, options.clients, time, options.seed).await;
        let load = load.with_context(|| format!("the page {}", page.name))?;
        let cpu_ms = server.cpu_ms()?.saturating_sub(cpu) as f64 / load.count as f64;
        add_page(&mut figures, page.name, &load, cpu_ms);
    }
    live(&server, &mut staff, options, &mut figures).await?;
    let (_, peak) = server.memory_kib()?;
    add(&mut figures, "memory, peak", peak as f64 / 1024.0, "MiB");
    ensure!(server.terminate()?, "the server drains cleanly");
    let machine = format!(
        "{} patients, {} on a journey, {work} tasks; {} pages asked for at once, client on the same machine",
        options.patients, options.under_way, options.clients
    );
    report(
        &machine,
        options.json.as_deref(),
        &json!({"patients": options.patients, "clients": options.clients, "open": options.open, "seed": options.seed}),
        &figures,
    )
}

fn add(figures: &mut Vec<Figure>, what: impl Into<String>, value: f64, unit: &'static str) {
    figures.push(Figure {
        what: what.into(),
        value,
        unit,
    });
}

fn add_page(figures: &mut Vec<Figure>, name: &str, load: &Load, cpu_ms: f64) {
    for (what, value, unit) in [
        ("p50", load.p50_ms, "ms"),
        ("p99", load.p99_ms, "ms"),
        ("server CPU", cpu_ms, "ms/page"),
        ("largest", load.bytes_max as f64 / 1000.0, "kB"),
    ] {
        add(figures, format!("{name}: {what}"), value, unit);
    }
}

/// Makes the store with its people, journey and patients; gives the token of the hospital's system.
fn set_up(data: &Path, space: &Path, options: &PageOptions, now_ms: u64) -> Result<String> {
    let data = data.to_str().context("a path in UTF-8")?;
    let on = |arguments: &[&str], input: &str| {
        run(&[arguments, &["--data", data]].concat(), input).map_err(anyhow::Error::from)
    };
    on(&["key", "create"], "")?;
    let colleagues = (0..COLLEAGUES).map(|number| (colleague(number), "coordinator"));
    let people = [("carla", "coordinator"), ("priya", "privacy-officer")];
    let people = people.map(|(user, role)| (user.to_owned(), role));
    for (user, role) in people.into_iter().chain(colleagues) {
        let user = user.as_str();
        let who = ["account", "create", "--role", role, "--user-name", user];
        on(
            &[&who[..], &["--name", user]].concat(),
            &format!("{PASSWORD}\n"),
        )?;
    }
    let journey = space.join("heart-failure-discharge.yaml");
    fs::write(&journey, JOURNEY)?;
    let journey = journey.to_str().context("a path in UTF-8")?;
    on(&["journey", "publish", journey], "")?;
    let input = write_cohort_at(space, options.seed, options.patients, now_ms)?;
    on(&["import", input.to_str().context("a path in UTF-8")?], "")?;
    fs::remove_file(input)?;
    let token = on(&["client", "create", "--name", "ehr"], "")?;
    Ok(token.trim().lines().last().unwrap_or_default().to_owned())
}

/// The user name of a coordinator.
fn colleague(number: usize) -> String {
    format!("colleague-{number}")
}

/// All rows of a search up to so many, page by page.
async fn rows(fhir: &Fhir, search: &str, up_to: usize) -> Result<Vec<Value>> {
    let mut found = Vec::new();
    let mut next = Some(search.to_owned());
    while let Some(path) = next.filter(|_| found.len() < up_to) {
        let (status, mut bundle) = fhir.get(&path).await?;
        ensure!(status == 200, "{search}: status {status}");
        let links = bundle["link"].as_array().into_iter().flatten();
        let url = links
            .filter(|link| link["relation"] == "next")
            .find_map(|link| link["url"].as_str()?.split_once("/fhir/r4/"));
        next = url.map(|(_, path)| path.to_owned());
        let entries = bundle["entry"].as_array_mut().into_iter().flatten();
        found.extend(entries.map(|entry| entry["resource"].take()));
    }
    found.truncate(up_to);
    Ok(found)
}

/// Lets patients leave hospital an hour ago; gives their ids. The weight of the first of them rises.
async fn discharge(fhir: &Fhir, count: usize, now_ms: u64) -> Result<Vec<String>> {
    let before = |minutes: u64| fhir::date::instant(now_ms - minutes * MINUTE_MS);
    let stays = "Encounter?status=in-progress&class=IMP&_count=500";
    let mut ids = Vec::new();
    for mut stay in rows(fhir, stays, count).await? {
        let subject = stay["subject"].clone();
        let patient = subject["reference"].as_str().context("a patient")?;
        let patient = patient.trim_start_matches("Patient/").to_owned();
        if ids.len() < ALARMS {
            for (minutes, kg) in [(50, 80.0), (10, 84.5)] {
                let weight = json!({
                    "resourceType": "Observation", "status": "final", "subject": subject,
                    "effectiveDateTime": before(minutes),
                    "code": {"coding": [{"system": "http://loinc.org", "code": "29463-7"}]},
                    "valueQuantity": {"value": kg, "unit": "kg", "system": "http://unitsofmeasure.org", "code": "kg"},
                });
                let (status, _) = fhir.post("Observation", &weight).await?;
                ensure!(status == 201, "a weight: status {status}");
            }
        }
        stay["status"] = json!("finished");
        stay["period"]["end"] = json!(before(60));
        let path = format!("Encounter/{}", stay["id"].as_str().context("an id")?);
        let (status, said) = fhir.put(&path, &stay).await?;
        ensure!(status == 200, "leaving hospital: status {status}: {said}");
        ids.push(patient);
    }
    Ok(ids)
}

/// Waits until the journeys have sent their messages and asked for their tasks; gives how many tasks there are.
async fn settled(staff: &mut Visitor, log: &Path, under_way: &[String]) -> Result<usize> {
    let began = Instant::now();
    let mut last = (0, 0);
    loop {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let mails = fs::read_to_string(log).unwrap_or_default().lines().count();
        let page = staff.get("/console/worklist").await?;
        let tasks = tasks(&page);
        if mails > 0 && tasks > 0 && (mails, tasks) == last {
            return Ok(tasks);
        }
        last = (mails, tasks);
        if began.elapsed() > SETTLED_WITHIN {
            bail!(
                "{mails} messages and {tasks} tasks of {} who left hospital, and still not settled",
                under_way.len()
            );
        }
    }
}

/// How many tasks are to be done, as the page says.
fn tasks(page: &Page) -> usize {
    let ids = page.body.split("/console/tasks/").skip(1);
    let ids: BTreeSet<&str> = ids
        .filter_map(|rest| rest.split(['/', '"']).next())
        .collect();
    ids.len()
}

/// The first outcome that may be chosen for a task.
fn outcome(page: &Page, task: &str) -> Option<String> {
    let (_, form) = page.body.split_once(&format!("{task}/done"))?;
    let (_, choices) = form.split_once("name=\"outcome\"")?;
    let values = choices.split("value=\"").skip(1);
    let mut values = values.filter_map(|rest| rest.split('"').next());
    values.find(|value| !value.is_empty()).map(str::to_owned)
}

/// Signs patients in by the links of their messages.
async fn patients_in(base: &str, fhir: &Fhir, log: &Path) -> Result<Vec<Visitor>> {
    let text = fs::read(log.with_extension("log.text"))?;
    let text = String::from_utf8_lossy(&text);
    let mut visitors = Vec::new();
    for mail in text.split("To: ").skip(1) {
        let address = mail.split(['\r', '\n']).next().unwrap_or_default();
        let Some(at) = mail.find("/sign-in/link/") else {
            continue;
        };
        let link = mail[at..].split_whitespace().next().unwrap_or_default();
        let found = rows(fhir, &format!("Patient?email={address}"), 2).await?;
        // Several people of a household have one address.
        let [person] = found.as_slice() else {
            continue;
        };
        let born = person["birthDate"].as_str().context("a birth date")?;
        visitors.push(Visitor::patient(base, link, born).await?);
        if visitors.len() == PATIENTS_IN {
            break;
        }
    }
    ensure!(!visitors.is_empty(), "no patient could sign in");
    Ok(visitors)
}

/// Somebody to look for.
struct Known {
    id: String,
    family: String,
    born: String,
}

/// Patients of all of the store, a few thousand at most.
async fn everybody(fhir: &Fhir, patients: u64) -> Result<Vec<Known>> {
    let up_to = patients.min(5_000) as usize;
    let found = rows(fhir, "Patient?_count=500&_elements=name,birthDate", up_to).await?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let known = found.iter().map(|person| Known {
        id: text(&person["id"]),
        family: text(&person["name"][0]["family"]),
        born: text(&person["birthDate"]),
    });
    Ok(known.collect())
}

/// Who looks at a page.
#[derive(Clone, Copy)]
enum Who {
    Coordinator,
    PrivacyOfficer,
    Patient,
}

struct Measured {
    name: &'static str,
    who: Who,
    call: load::Request,
}

/// The pages that are measured.
fn pages(all: Vec<Known>, under_way: Vec<String>, csrf: &str) -> Vec<Measured> {
    let (all, under_way) = (Arc::new(all), Arc::new(under_way));
    let page = |name, who, call| Measured { name, who, call };
    let fixed = |name, who, path: &'static str| {
        page(
            name,
            who,
            Box::new(move |_: &mut Random| Call::Get(path.to_owned())),
        )
    };
    let of = |name, ids: &Arc<Vec<String>>, more: &'static str| {
        let ids = Arc::clone(ids);
        let call = move |random: &mut Random| {
            let id = &ids[random.below(ids.len() as u64) as usize];
            Call::Get(format!("console/patients/{id}{more}"))
        };
        page(name, Who::Coordinator, Box::new(call))
    };
    let anybody = Arc::new(all.iter().map(|one| one.id.clone()).collect());
    let csrf = csrf.to_owned();
    let search = move |random: &mut Random| {
        let one = &all[random.below(all.len() as u64) as usize];
        let fields = [
            ("csrf", csrf.as_str()),
            ("name", &one.family),
            ("birth_date", &one.born),
        ];
        Call::Post("console/patients".to_owned(), Bytes::from(encoded(&fields)))
    };
    let journey = "console/journeys/heart-failure-discharge";
    vec![
        fixed("list of work", Who::Coordinator, "console/worklist"),
        page("search for a patient", Who::Coordinator, Box::new(search)),
        of("any patient", &anybody, ""),
        of("patient on a journey", &under_way, ""),
        of(
            "what is next for them, and why",
            &under_way,
            "?show=journey",
        ),
        fixed("journeys", Who::Coordinator, "console/journeys"),
        fixed("a journey with its graph", Who::Coordinator, journey),
        fixed("audit", Who::PrivacyOfficer, "console/audit"),
        fixed("a patient's own journey", Who::Patient, "portal"),
        fixed("a patient's messages", Who::Patient, "portal/inbox"),
        fixed("a patient's record", Who::Patient, "portal/record"),
    ]
}

/// Has many lists of work of several people open, changes a task, and measures until each shows it.
async fn live(
    server: &ServerProcess,
    staff: &mut Visitor,
    options: &PageOptions,
    figures: &mut Vec<Figure>,
) -> Result<()> {
    let mut colleagues = Vec::with_capacity(COLLEAGUES);
    for number in 0..COLLEAGUES {
        let mut visitor = Visitor::staff(&server.base, &colleague(number), PASSWORD).await?;
        let page = visitor.get("/console/worklist").await?;
        let from = page.live().context("a page with live parts")?;
        colleagues.push((Door::to_pages(server, visitor.cookie()), from));
    }
    let (told, mut news) = mpsc::unbounded_channel();
    let opened = Arc::new(Semaphore::new(0));
    let mut open = JoinSet::new();
    for number in 0..options.open {
        let (door, from) = &colleagues[number % COLLEAGUES];
        let mut wire = Wire::open(door).await?;
        let (path, told) = (from.trim_start_matches('/').to_owned(), told.clone());
        let opened = Arc::clone(&opened);
        open.spawn(async move {
            let (status, mut body) = wire.begin(Method::GET, &path, Bytes::new()).await?;
            ensure!(status == 200, "a live page: status {status}");
            opened.add_permits(1);
            while let Some(frame) = body.frame().await {
                let bytes = frame?.into_data().unwrap_or_default();
                // Others are comments, by which a connection is kept.
                if bytes.starts_with(b"event: part") || bytes.starts_with(b"id:") {
                    told.send((number, Instant::now()))?;
                }
            }
            anyhow::Ok(())
        });
    }
    let all = u32::try_from(options.open)?;
    tokio::time::timeout(SETTLED_WITHIN, opened.acquire_many(all))
        .await??
        .forget();
    let (mut times_ms, mut cpu_ms) = (Vec::new(), 0);
    for _ in 0..CHANGES {
        tokio::time::sleep(BETWEEN).await;
        while news.try_recv().is_ok() {}
        let page = staff.get("/console/worklist").await?;
        let task = page.link("/console/tasks/").context("a task")?;
        let task = task.rsplit_once('/').context("a deed")?.0.to_owned();
        let outcome = outcome(&page, &task).context("an outcome")?;
        let csrf = page.field("csrf")?;
        let cpu = server.cpu_ms()?;
        let fields = [
            ("csrf", csrf.as_str()),
            ("outcome", &outcome),
            ("note", "Seen."),
        ];
        let done = staff.ask(&format!("{task}/done"), Some(&fields)).await?;
        ensure!(done.status == 303, "a task: status {}", done.status);
        let changed = Instant::now();
        let mut showing = BTreeSet::new();
        while showing.len() < options.open {
            let at = tokio::time::timeout(SHOWN_WITHIN, news.recv()).await;
            let at = at.context("a page that does not show what has changed")?;
            let (number, at) = at.context("pages that are closed")?;
            // A page may have several parts that change.
            if !showing.insert(number) {
                continue;
            }
            times_ms.push(at.saturating_duration_since(changed).as_secs_f64() * 1000.0);
        }
        cpu_ms += server.cpu_ms()?.saturating_sub(cpu);
    }
    open.abort_all();
    times_ms.sort_by(f64::total_cmp);
    let at = |share: f64| times_ms[((times_ms.len() - 1) as f64 * share) as usize];
    let what = format!("{} open lists of work show a change", options.open);
    add(figures, format!("{what}: p50"), at(0.5), "ms");
    add(figures, format!("{what}: p99"), at(0.99), "ms");
    add(figures, format!("{what}: last"), at(1.0), "ms");
    let shown = (options.open * CHANGES) as f64;
    let cpu_ms = cpu_ms as f64 / shown;
    add(figures, format!("{what}: server CPU"), cpu_ms, "ms/page");
    Ok(())
}

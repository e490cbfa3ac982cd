//! Reports and logs of a journey, held against what `pm4py` finds in them.

use crate::world::World;
use journey::{DAYS, Exported, LogOf, LogSink, Ocel, Pseudonyms, Report, Times, Xes};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::Path;
use std::process::Command;
use trust::{Action, Permit, Purpose, Role};

pub(crate) async fn observes(world: &World) -> Permit {
    world.staff(Role::Squad, Action::Observe).await
}

pub(crate) async fn exports(world: &World, purpose: Purpose) -> Permit {
    let part = "journey-log-exporter";
    world.part(part, purpose, Action::Export).await
}

pub(crate) async fn analysed(world: &World, name: &str) -> Report {
    let permit = observes(world).await;
    world
        .journeys
        .analyse(&permit, name, None, DAYS)
        .await
        .unwrap()
}

pub(crate) async fn log(
    world: &World,
    permit: &Permit,
    name: &str,
    times: Times,
    key: u8,
) -> (Exported, String) {
    let mut text = Vec::new();
    let pseudonyms = Pseudonyms::new(&[key; 32]);
    let of = LogOf {
        journey: name,
        version: None,
        pseudonyms: &pseudonyms,
    };
    let mut xes = Xes::new(&mut text, name, times).unwrap();
    let exported = world.journeys.export_log(permit, &of, &mut xes).await;
    (exported.unwrap(), String::from_utf8(text).unwrap())
}

pub(crate) async fn object_log(world: &World, permit: &Permit, name: &str, key: u8) -> String {
    let mut text = Vec::new();
    let pseudonyms = Pseudonyms::new(&[key; 32]);
    let of = LogOf {
        journey: name,
        version: None,
        pseudonyms: &pseudonyms,
    };
    let mut ocel = Ocel::new(&mut text, Cursor::new(Vec::new()), Times::SinceStart).unwrap();
    let sink: &mut (dyn LogSink + Send) = &mut ocel;
    world.journeys.export_log(permit, &of, sink).await.unwrap();
    String::from_utf8(text).unwrap()
}

fn python() -> std::path::PathBuf {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/peers/pm4py/bin/python");
    assert!(
        python.exists(),
        "the tests need pm4py: run scripts/test once, which installs it into {}",
        python.display()
    );
    python
}

/// The weights that the report tells; endings have one.
fn weights(report: &Report) -> BTreeMap<String, u64> {
    let mut weights: BTreeMap<String, u64> = (report.steps.iter())
        .flat_map(|step| {
            let late = format!("{}:late", step.id);
            [(step.id.clone(), step.weight), (late, step.weight)]
        })
        .collect();
    let codes = report.steps.iter().map(|step| step.id.clone());
    let codes: Vec<String> = codes
        .chain(
            [
                "completed",
                "stopped",
                "time_over",
                "started_in_error",
                "death",
                "consent",
                "readmission",
            ]
            .map(str::to_owned),
        )
        .collect();
    weights.extend(codes.into_iter().map(|code| (format!("end:{code}"), 1)));
    weights
}

fn counts(of: &Value) -> BTreeMap<String, u64> {
    let of = of.as_object().unwrap().iter();
    of.map(|(name, count)| (name.clone(), count.as_u64().unwrap()))
        .collect()
}

fn near(one: f64, other: &Value) -> bool {
    (one - other.as_f64().unwrap()).abs() < 1e-9
}

/// What a report says, and where the logs that it is held against lie.
pub(crate) struct Written {
    pub(crate) report: Report,
    folder: tempfile::TempDir,
    /// Whether the other tool is asked for the fitness, too.
    fitness: bool,
}

/// Writes the logs and the net of a journey.
pub(crate) async fn written(world: &World, name: &str, fitness: bool) -> Written {
    let report = analysed(world, name).await;
    assert!(
        report.paths_known as usize == report.paths.len(),
        "all of them are told"
    );
    let permit = exports(world, Purpose::Operations).await;
    let (exported, xes) = log(world, &permit, name, Times::SinceStart, 1).await;
    assert_eq!(exported.cases, report.cases);
    let ocel = object_log(world, &permit, name, 1).await;
    let observes = observes(world).await;
    let (net, _) = world.journeys.net(&observes, name, None).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let weights = serde_json::to_string(&weights(&report)).unwrap();
    for (file, text) in [
        ("log.xes", xes),
        ("log.json", ocel),
        ("net.pnml", net.pnml(name)),
        ("weights.json", weights),
    ] {
        std::fs::write(folder.path().join(file), text).unwrap();
    }
    Written {
        report,
        folder,
        fitness,
    }
}

/// The same variants, the same that follows what, the same fitness as a tool that nobody here wrote finds, which is started
/// once.
pub(crate) fn are_as_pm4py_finds(all: &[Written]) {
    let mut command = Command::new(python());
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/analysing/with_pm4py.py"));
    for one in all {
        let asked = if one.fitness { "fitness" } else { "paths" };
        command.arg(one.folder.path()).arg(asked);
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let answers = String::from_utf8(output.stdout).unwrap();
    let answers = answers.lines().filter(|line| line.starts_with('{'));
    let answers: Vec<Value> = answers
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(answers.len(), all.len());
    for (one, answer) in all.iter().zip(&answers) {
        is_as_found(&one.report, one.fitness, answer);
    }
}

fn is_as_found(report: &Report, fitness: bool, answer: &Value) {
    assert_eq!(answer["traces"], report.cases);
    let mut variants = BTreeMap::new();
    for path in report.paths.iter().filter(|path| !path.path.is_empty()) {
        *variants.entry(path.path.join(" > ")).or_default() += path.count;
    }
    let follows: BTreeMap<String, u64> = (report.follows.iter())
        .map(|(from, to, count)| (format!("{from} > {to}"), *count))
        .collect();
    let first: BTreeMap<String, u64> = report.first.iter().cloned().collect();
    let last: BTreeMap<String, u64> = report.last.iter().cloned().collect();
    for log in ["xes", "ocel"] {
        let found = &answer[log];
        assert_eq!(counts(&found["variants"]), variants, "{log}");
        assert_eq!(counts(&found["follows"]), follows, "{log}");
        assert_eq!(counts(&found["first"]), first, "{log}");
        assert_eq!(counts(&found["last"]), last, "{log}");
    }
    assert_eq!(answer["objects"]["journey"], report.cases);

    if !fitness {
        return;
    }
    let fitness = &report.fitness;
    assert_eq!((fitness.measured, fitness.not_measured), (report.ended, 0));
    let mut costs: Vec<u64> = Vec::new();
    for path in &report.paths {
        let cost = path.deviations.unwrap_or_default();
        costs.extend(std::iter::repeat_n(cost, path.ended as usize));
    }
    costs.sort_unstable();
    assert_eq!(answer["costs"], json!(costs));
    let found = &answer["fitness"];
    assert!(
        near(fitness.mean.unwrap(), &found["averageFitness"])
            && near(fitness.of_log.unwrap(), &answer["of_log"]),
        "{fitness:?} {answer}"
    );
    // Its own figure for all together has a ten-thousandth more for each silent transition.
    let of_log = found["log_fitness"].as_f64().unwrap();
    assert!(
        (0.0..0.002).contains(&(fitness.of_log.unwrap() - of_log)),
        "{fitness:?} {found}"
    );
    // Weighted: the same sums, of costs that another algorithm of the same tool finds.
    let weighted = answer["weighted"].as_array().unwrap();
    let sum = |place: usize| -> u64 {
        let costs = weighted.iter().map(|one| one[place].as_u64().unwrap());
        costs.sum()
    };
    // The journey may be broken off at once, which is one ending.
    let most = sum(1) + weighted.len() as u64;
    let of_log = 1.0 - sum(0) as f64 / most as f64;
    assert!(
        (fitness.weighted.unwrap() - of_log).abs() < 1e-9,
        "{fitness:?} {of_log}"
    );
}

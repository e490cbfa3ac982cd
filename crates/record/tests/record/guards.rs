//! What keeps an import from doing harm: who is who, what was refused, what is too long.
use std::path::PathBuf;
use std::time::Duration;

use fhir::ResourceType as T;
use record::import::{ImportError, ImportOptions, ImportProgress, run, run_marking};
use serde_json::{Value, json};

use crate::house::{House, client, observation};

/// One import into a house.
struct Run<'a> {
    house: &'a House,
    paths: Vec<PathBuf>,
    rejects: PathBuf,
}

impl<'a> Run<'a> {
    fn new(house: &'a House, paths: &[PathBuf]) -> Self {
        Self {
            house,
            paths: paths.to_vec(),
            rejects: house.folder.path().join("rejects.ndjson"),
        }
    }
    fn options(&self) -> ImportOptions {
        ImportOptions {
            paths: self.paths.clone(),
            rejects: self.rejects.clone(),
            parallel: 2,
        }
    }
    async fn try_run(&self) -> Result<ImportProgress, ImportError> {
        let agent = House::importer();
        run(&self.house.trust, &agent, &self.options(), &|_| {}).await
    }
    /// Written, unchanged, rejected.
    async fn counts(&self) -> (u64, u64, u64) {
        let done = self.try_run().await.unwrap();
        (done.written, done.unchanged, done.rejected)
    }
    /// Runs until `stop` says so, then drops it in the middle.
    async fn stop_when(&self, stop: impl Fn(ImportProgress) -> bool + Send + Sync) {
        let stopped = tokio::sync::Notify::new();
        let progress = |progress: ImportProgress| {
            if stop(progress) {
                stopped.notify_one();
            }
        };
        let (agent, options) = (House::importer(), self.options());
        let every = Duration::from_millis(1);
        tokio::select! {
            done = run_marking(&self.house.trust, &agent, &options, every, &progress) => panic!("was not stopped: {done:?}"),
            () = stopped.notified() => {}
        }
    }
    fn rows(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.rejects).unwrap_or_default();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
    fn reasons(&self) -> Vec<String> {
        let reason = |row: &Value| row["reason"].as_str().unwrap().to_owned();
        self.rows().iter().map(reason).collect()
    }
}

fn urn(number: usize) -> String {
    format!("urn:uuid:7d9f0a10-0000-4000-8000-{number:012}")
}

fn collection(entries: &[(&str, Value)]) -> Value {
    let entries: Vec<Value> = entries
        .iter()
        .map(|(full_url, resource)| json!({"fullUrl": full_url, "resource": resource}))
        .collect();
    json!({"resourceType": "Bundle", "type": "collection", "entry": entries})
}

fn lines(values: &[Value]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| format!("{value}\n").into_bytes())
        .collect()
}

fn person(family: &str, born: &str) -> Value {
    json!({"resourceType": "Patient", "name": [{"family": family}], "birthDate": born})
}

fn with_id(mut resource: Value, id: &str) -> Value {
    resource["id"] = json!(id);
    resource
}

/// An observation that points at its patient by any reference.
fn of(reference: &str, code: &str) -> Value {
    let mut observation = observation("x", code);
    observation["subject"]["reference"] = json!(reference);
    observation
}

#[tokio::test]
async fn a_rejects_file_is_no_input_and_is_never_removed() {
    let house = House::new().await;
    let import = Run::new(&house, &[house.file("in/bad.ndjson", b"broken\n")]);
    assert_eq!(import.counts().await, (0, 0, 1));
    let before = std::fs::read(&import.rejects).unwrap();
    // Named as an input, by any way to write its path: an error, and it stays.
    let other = house.folder.path().join("in/../rejects.ndjson");
    for path in [import.rejects.clone(), other] {
        let named = Run::new(&house, &[path]);
        match named.try_run().await {
            Err(ImportError::Input { reason, .. }) => {
                assert!(reason.contains("--rejects"), "{reason}");
            }
            done => panic!("{done:?}"),
        }
    }
    assert_eq!(std::fs::read(&import.rejects).unwrap(), before);
    // Whatever else lies there is put aside, not removed, and not before something is refused.
    let precious = house.file("precious", b"the only copy");
    let good = house.file("good.ndjson", &lines(&[person("Berg", "1950-01-01")]));
    let mut run = Run::new(&house, &[good]);
    run.rejects.clone_from(&precious);
    assert_eq!(run.counts().await, (1, 0, 0));
    assert_eq!(std::fs::read(&precious).unwrap(), b"the only copy");
    run.paths = import.paths.clone();
    assert_eq!(run.counts().await, (0, 0, 1));
    assert_eq!(run.rows().len(), 1);
    let aside = house.folder.path().join("precious.1");
    assert_eq!(std::fs::read(aside).unwrap(), b"the only copy");
    // In a folder that is walked they are passed over.
    let walked = Run::new(&house, &[house.folder.path().join("in")]);
    let rejects = house.folder.path().join("in/rejects.ndjson");
    let walked = Run { rejects, ..walked };
    for _ in 0..3 {
        assert_eq!(walked.counts().await, (0, 0, 1));
    }
    assert!(house.folder.path().join("in/rejects.ndjson.2").exists());
}

#[tokio::test]
async fn mended_rejects_go_in() {
    let house = House::new().await;
    let mut wrong = person("Berg", "1950-01-01");
    wrong["gender"] = json!("x");
    let alone = with_id(wrong.clone(), "alone");
    let values = [collection(&[(urn(0).as_str(), wrong)]), alone];
    let first = Run::new(&house, &[house.file("in.ndjson", &lines(&values))]);
    assert_eq!(first.counts().await, (0, 0, 2));
    let text = std::fs::read_to_string(&first.rejects).unwrap();
    let mended = text.replace(r#""gender":"x""#, r#""gender":"female""#);
    let second = Run::new(&house, &[house.file("mended.ndjson", mended.as_bytes())]);
    assert_eq!(second.counts().await, (2, 0, 0), "{:?}", second.reasons());
    assert_eq!(house.read(T::Patient, "alone").await["gender"], "female");
    // Not mended, it is refused again, for the same reason.
    let third = Run::new(&house, &[house.file("again.ndjson", text.as_bytes())]);
    assert_eq!(third.counts().await, (0, 0, 2));
    assert!(
        third
            .reasons()
            .iter()
            .all(|reason| reason.contains("gender"))
    );
}

#[tokio::test]
async fn originals_are_kept_as_they_were() {
    let house = House::new().await;
    let twice =
        r#"{"resourceType": "Patient", "birthDate": "1950", "birthDate": "1951", "n": 1.10}"#;
    let import = Run::new(
        &house,
        &[house.file("in.ndjson", format!("{twice}\n").as_bytes())],
    );
    assert_eq!(import.counts().await, (0, 0, 1));
    let text = std::fs::read_to_string(&import.rejects).unwrap();
    assert!(text.contains(&format!(r#""original":{twice}"#)), "{text}");
}

#[tokio::test]
async fn a_urn_that_is_good_in_its_bundle_only_makes_nobody_somebody_else() {
    let house = House::new().await;
    let template = |person: Value, code: &str| {
        collection(&[
            ("urn:uuid:patient", person),
            ("urn:uuid:o", of("urn:uuid:patient", code)),
        ])
    };
    let nameless = json!({"resourceType": "Patient", "gender": "female"});
    for (name, value) in [
        ("a.json", template(person("Smith", "1950-01-01"), "29463-7")),
        ("b.json", template(person("Jones", "1961-01-01"), "29463-7")),
        ("c.json", template(nameless.clone(), "29463-7")),
        ("d.json", template(nameless, "8867-4")),
    ] {
        house.file(&format!("in/{name}"), value.to_string().as_bytes());
    }
    let import = Run::new(&house, &[house.folder.path().join("in")]);
    assert_eq!(import.counts().await, (8, 0, 0), "{:?}", import.reasons());
    assert_eq!(house.count(T::Patient).await, 4);
    let observations = house.find(T::Observation, "_count=10").await;
    let subjects: std::collections::HashSet<String> = observations["entry"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["resource"]["subject"]["reference"].to_string())
        .collect();
    assert_eq!(subjects.len(), 4);
    // The same again adds nothing.
    assert_eq!(import.counts().await, (0, 8, 0));
}

// Proves: 45 CFR 164.312(c)(1)
#[tokio::test]
async fn a_patient_is_not_overwritten_by_another_with_the_same_id() {
    let house = House::new().await;
    let export = |name: &str, family: &str, born: &str, code: &str| {
        house.file(
            &format!("{name}/1-observations.ndjson"),
            &lines(&[with_id(of("Patient/1", code), &format!("{name}-o"))]),
        );
        house.file(
            &format!("{name}/2-patients.ndjson"),
            &lines(&[with_id(person(family, born), "1")]),
        );
        house.folder.path().join(name)
    };
    let first = Run::new(&house, &[export("a", "Smith", "1950-01-01", "29463-7")]);
    assert_eq!(first.counts().await, (2, 0, 0));
    // Patients are read first, so what comes before them in the order of names is refused as well.
    let second = Run::new(&house, &[export("b", "Jones", "1961-01-01", "8867-4")]);
    assert_eq!(second.counts().await, (0, 0, 2));
    let reasons = second.reasons();
    assert!(
        reasons
            .iter()
            .any(|reason| reason.contains("is there already as another person")),
        "{reasons:?}"
    );
    assert!(
        reasons
            .iter()
            .any(|reason| reason.contains("belongs to a patient")),
        "{reasons:?}"
    );
    let stored = house.read(T::Patient, "1").await;
    assert_eq!(
        (&stored["name"][0]["family"], &stored["meta"]["versionId"]),
        (&json!("Smith"), &json!("1"))
    );
    assert_eq!(house.count(T::Observation).await, 1);
    // One bundle with the patient in it, under a real UUID: all of it is refused, and another's goes in.
    let bundle = |family: &str, number: usize| {
        collection(&[
            (urn(number).as_str(), of(&urn(0), "29463-7")),
            (urn(0).as_str(), person(family, "1950-01-01")),
        ])
    };
    let path = house.file(
        "both.ndjson",
        &lines(&[bundle("Berg", 1), bundle("Dahl", 2), bundle("Berg", 3)]),
    );
    let mut both = Run::new(&house, &[path]);
    both.rejects = house.folder.path().join("both-rejects.ndjson");
    assert_eq!(both.counts().await, (3, 1, 2), "{:?}", both.reasons());
    let patient = house.find(T::Patient, "family=Berg").await;
    assert_eq!(
        (
            &patient["total"],
            &patient["entry"][0]["resource"]["meta"]["versionId"]
        ),
        (&json!(1), &json!("1"))
    );
}

#[tokio::test]
async fn a_urn_of_another_bundle_is_a_patient_who_is_there_or_refused() {
    let house = House::new().await;
    // The observation comes first, in a file of its own, and waits for the patient.
    house.file(
        "in/a.json",
        collection(&[(urn(1).as_str(), of(&urn(0), "29463-7"))])
            .to_string()
            .as_bytes(),
    );
    house.file(
        "in/b.json",
        collection(&[(urn(0).as_str(), person("Berg", "1950-01-01"))])
            .to_string()
            .as_bytes(),
    );
    let mut nowhere = of(&urn(0), "8867-4");
    nowhere["encounter"] = json!({"reference": urn(7)});
    house.file(
        "in/c.json",
        collection(&[
            (urn(2).as_str(), nowhere),
            (urn(3).as_str(), of(&urn(8), "8867-4")),
            (urn(4).as_str(), of(&urn(5), "8867-4")),
            (urn(5).as_str(), json!({"resourceType": "Pet"})),
        ])
        .to_string()
        .as_bytes(),
    );
    let import = Run::new(&house, &[house.folder.path().join("in")]);
    assert_eq!(import.counts().await, (2, 0, 4), "{:?}", import.reasons());
    let patient = house.find(T::Patient, "family=Berg").await;
    let id = patient["entry"][0]["resource"]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let found = house
        .find(T::Observation, &format!("subject=Patient/{id}"))
        .await;
    assert_eq!(found["total"], 1);
    let reasons = import.reasons();
    let of = |words: &str| {
        reasons
            .iter()
            .filter(|reason| reason.contains(words))
            .count()
    };
    assert_eq!(of("means an entry that is refused"), 1, "{reasons:?}");
    assert_eq!(of("is a URN that neither"), 2, "{reasons:?}");
    assert_eq!(import.counts().await, (0, 2, 4));
}

#[tokio::test]
async fn a_corrected_patient_does_not_leave_a_second_copy_behind() {
    let house = House::new().await;
    let bundle = |patient: usize| {
        collection(&[
            (urn(0).as_str(), person("Berg", "1950-01-01")),
            (urn(1).as_str(), person("Dahl", "1961-01-01")),
            (urn(2).as_str(), of(&urn(patient), "29463-7")),
        ])
    };
    let path = house.file("in.ndjson", &lines(&[bundle(0)]));
    let import = Run::new(&house, &[path]);
    assert_eq!(import.counts().await, (3, 0, 0));
    house.file("in.ndjson", &lines(&[bundle(1)]));
    assert_eq!(import.counts().await, (0, 2, 1), "{:?}", import.reasons());
    assert!(import.reasons()[0].contains("another patient's record"));
    let found = house.find(T::Observation, "code=29463-7").await;
    assert_eq!(found["total"], 1);
    // Once somebody has deleted it there, it goes in here.
    let id = found["entry"][0]["resource"]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let deleted = house
        .record
        .delete(&client(), T::Observation, &id, None)
        .await;
    assert_eq!(deleted.unwrap().status, 204);
    assert_eq!(import.counts().await, (1, 2, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_import_finds_its_rejects_or_starts_over() {
    let house = House::new().await;
    let many = |bad: bool| {
        let mut values: Vec<Value> = (0..400)
            .map(|number| with_id(person("Berg", "1950-01-01"), &format!("p{number}")))
            .collect();
        if bad {
            values[0]["gender"] = json!("x");
        }
        // Long lines, so that many units are on the way.
        for value in &mut values {
            let long = "x".repeat(60_000);
            let div = format!("<div xmlns=\"http://www.w3.org/1999/xhtml\">{long}</div>");
            value["text"] = json!({"status": "generated", "div": div});
        }
        lines(&values)
    };
    let first = Run::new(&house, &[house.file("a.ndjson", &many(true))]);
    first
        .stop_when(|progress| progress.written >= 120 && progress.rejected == 1)
        .await;
    // Another import puts the rejects aside.
    let second = Run::new(&house, &[house.file("b.ndjson", b"broken\n")]);
    assert_eq!(second.counts().await, (0, 0, 1));
    let done = first.try_run().await.unwrap();
    assert_eq!((done.written + done.unchanged, done.rejected), (399, 1));
    assert_eq!(first.rows().len(), 1, "{:?}", first.reasons());
    assert_eq!(first.rows()[0]["line"], 1);
    // Resumed with its rejects where they were, it goes on.
    let third = Run::new(&house, &[house.file("a.ndjson", &many(true))]);
    third
        .stop_when(|progress| progress.unchanged >= 120 && progress.rejected == 1)
        .await;
    let done = third.try_run().await.unwrap();
    assert_eq!((done.written, done.rejected), (0, 1));
    assert_eq!(third.rows().len(), 1);
    // Resumed with another rejects file, it starts over.
    third
        .stop_when(|progress| progress.unchanged >= 120 && progress.rejected == 1)
        .await;
    let mut moved = Run::new(&house, &third.paths);
    moved.rejects = house.folder.path().join("elsewhere.ndjson");
    let done = moved.try_run().await.unwrap();
    assert_eq!((done.written, done.rejected), (0, 1));
    assert_eq!(moved.rows().len(), 1);
}

#[tokio::test]
async fn one_cut_line_is_one_reject() {
    let house = House::new().await;
    let rest = lines(&[person("Berg", "1950-01-01"), person("Dahl", "1961-01-01")]);
    let mut text = b"\n{\"resourceType\":\"Patient\"\n".to_vec();
    text.extend(&rest);
    let import = Run::new(&house, &[house.file("cut.ndjson", &text)]);
    assert_eq!(import.counts().await, (2, 0, 1), "{:?}", import.reasons());
    assert_eq!(import.rows()[0]["line"], 2);
    // A document over several lines whose second line is a resource is a document all the same.
    let document = "{\"resourceType\": \"Patient\", \"contained\": [\n{\"resourceType\": \"Organization\", \"id\": \"o\"}\n], \"managingOrganization\": {\"reference\": \"#o\"}}\n";
    let import = Run::new(&house, &[house.file("document.json", document.as_bytes())]);
    assert_eq!(import.counts().await, (1, 0, 0), "{:?}", import.reasons());
}

#[tokio::test]
async fn patients_data_without_a_patient_is_refused() {
    let house = House::new().await;
    let document = json!({"resourceType": "Bundle", "type": "document", "entry": [{"resource": person("Berg", "1950-01-01")}]});
    let values = [
        collection(&[(urn(0).as_str(), document)]),
        json!({"resourceType": "Binary", "id": "b", "contentType": "text/plain", "data": "eA=="}),
        with_id(of("http://elsewhere.org/fhir/Patient/1", "29463-7"), "o"),
    ];
    let import = Run::new(&house, &[house.file("in.ndjson", &lines(&values))]);
    assert_eq!(import.counts().await, (0, 0, 3), "{:?}", import.reasons());
}

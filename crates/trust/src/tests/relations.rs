//! Relationships: who has one with a patient sees the record, and the audit tells which.
use super::*;
use crate::consent::Rules;

/// A clinician, known as Dr D, under a rule pack.
async fn under(house: &House, pack: &str) -> (Trust, Agent) {
    let trust = Trust::under(
        TrustOptions {
            ledger: house.ledger().clone(),
            wall_clock: Arc::new(house.wall.clone()),
            policy_folder: None,
            session_idle_s: 900,
            session_absolute_s: 12 * 3600,
        },
        Rules::load(pack).unwrap(),
    )
    .unwrap();
    let operator = Agent::system(TENANT, "command-line");
    let identity = trust.identity();
    let token = identity
        .create_client(&operator, "Dr D", Role::Clinician)
        .await
        .unwrap();
    let agent = identity.bearer(&token).await.unwrap();
    let administers = trust
        .decide(
            &operator,
            Purpose::Administration,
            Action::Administer,
            Target::default(),
            "r",
        )
        .await
        .unwrap();
    let known_as = [
        "Practitioner/d".to_owned(),
        "PractitionerRole/ward".to_owned(),
    ];
    identity
        .set_known_as(&administers, &agent.id, &known_as)
        .await
        .unwrap();
    (trust, agent)
}

fn team(end: &Value) -> Value {
    json!({"resourceType": "CareTeam", "id": "t", "status": "active", "subject": {"reference": "Patient/p"},
        "participant": [{"member": {"reference": "Practitioner/d"}}], "period": {"start": "2026-01-01", "end": end}})
}

/// What the last answer's audit says explains it, of a patient.
async fn explained(house: &House, patient: &str) -> Option<String> {
    let events = house.audit_events(TENANT).await;
    let entities = events[0].get("entity").and_then(Value::as_array).unwrap();
    let of = entities
        .iter()
        .find(|entity| entity["what"]["reference"] == format!("Patient/{patient}"))?;
    let details = of["detail"].as_array()?;
    let told = details.iter().find(|one| one["type"] == "relationship")?;
    told["valueString"].as_str().map(str::to_owned)
}

// Proves: 45 CFR 164.308(a)(4)(ii)(C)
#[tokio::test]
async fn without_a_relationship_nothing_clinical_is_seen_where_one_is_needed() {
    let house = House::new().await;
    house
        .put([
            a_patient("p", "Berg"),
            a_weight("o", "p", "2026-06-01"),
            json!({"resourceType": "Appointment", "id": "a", "status": "booked", "start": "2026-06-20T10:00:00Z",
                "participant": [{"actor": {"reference": "Patient/p"}, "status": "accepted"}]}),
            a_patient("q", "Dahl"),
            a_weight("other", "q", "2026-06-01"),
        ])
        .await;
    let (trust, agent) = under(&house, "england").await;
    let of = async |action| {
        trust
            .decide(&agent, Purpose::Treatment, action, Target::default(), "r")
            .await
            .unwrap()
    };
    let vault = trust.vault();
    let weights = query(ResourceType::Observation, &[("_total", "accurate")]);
    let seen = async || {
        let (read, search) = (of(Action::Read).await, of(Action::Search).await);
        let mut seen = Vec::new();
        for (kind, id) in [
            (ResourceType::Patient, "p"),
            (ResourceType::Appointment, "a"),
            (ResourceType::Observation, "o"),
        ] {
            let row = vault.read_text(&read, kind, id).await.unwrap();
            seen.extend(row.map(|row| row.resource.id().unwrap().to_owned()));
        }
        let page = vault.search(&search, &weights, None).await.unwrap();
        assert_eq!(page.total, Some(page.rows.len()));
        texts_are_the_rows(vault, (&search, &weights), None, &page).await;
        let history = of(Action::History).await;
        let versions = vault
            .history(&history, ResourceType::Observation, "o", None, 9)
            .await
            .unwrap();
        let listed = |id| (page.rows.iter()).any(|row| row.resource.id() == Some(id));
        assert_eq!(versions.len(), usize::from(listed("o")));
        seen.extend(
            page.rows
                .iter()
                .map(|row| row.resource.id().unwrap().to_owned()),
        );
        seen.join(" ")
    };
    assert_eq!(seen().await, "p a");
    assert!(vault.may_hide(&of(Action::Read).await, "p").await.unwrap());

    house.put([team(&json!("2026-12-31"))]).await;
    assert_eq!(seen().await, "p a o o");
    assert!(!vault.may_hide(&of(Action::Read).await, "p").await.unwrap());
    // It ends by its date, without anybody's act, and by its status.
    house.put([team(&json!("2026-06-14"))]).await;
    assert_eq!(seen().await, "p a");
    let mut left = team(&Value::Null);
    left["status"] = json!("inactive");
    house.put([left]).await;
    assert_eq!(seen().await, "p a");
    // A team of somebody else's patient, and one that somebody else is in, say nothing.
    let mut others = team(&json!("2026-12-31"));
    others["subject"] = json!({"reference": "Patient/q"});
    others["id"] = json!("t2");
    let mut another = team(&json!("2026-12-31"));
    another["participant"] = json!([{"member": {"reference": "Practitioner/e"}}]);
    house.put([others, another]).await;
    assert_eq!(seen().await, "p a other");
    // An appointment with a role that the clinician is known as does.
    house
        .put([json!({"resourceType": "Appointment", "id": "b", "status": "booked", "start": "2026-06-20T10:00:00Z",
            "participant": [{"actor": {"reference": "Patient/p"}, "status": "accepted"},
                {"actor": {"reference": "PractitionerRole/ward"}, "status": "accepted"}]})])
        .await;
    assert_eq!(seen().await, "p a o other o");
    assert_eq!(
        explained(&house, "p").await.as_deref(),
        Some("appointment Appointment/b")
    );

    // A row of two patients needs a relationship with each.
    let mut both = a_weight("both", "p", "2026-06-02");
    both["performer"] = json!([{"reference": "Patient/r"}]);
    house.put([a_patient("r", "Ek"), both]).await;
    let asked = query(ResourceType::Observation, &[("subject", "Patient/p")]);
    let page = vault
        .search(&of(Action::Search).await, &asked, None)
        .await
        .unwrap();
    assert_eq!(page.rows.len(), 1, "{:?}", page.rows);
}

/// Somebody's list over more patients than are looked at one by one.
#[tokio::test]
async fn a_list_of_many_patients_shows_those_with_a_relationship() {
    let house = House::new().await;
    for patient in 0..25 {
        let id = format!("p{patient}");
        let weight = a_weight(&format!("o{patient}"), &id, "2026-06-01");
        house.put([a_patient(&id, "Berg"), weight]).await;
    }
    let mut of_three = team(&json!("2026-12-31"));
    for patient in ["p3", "p17"] {
        of_three["subject"] = json!({"reference": format!("Patient/{patient}")});
        of_three["id"] = json!(format!("t-{patient}"));
        house.put([of_three.clone()]).await;
    }
    let (trust, agent) = under(&house, "england").await;
    let permit = trust
        .decide(
            &agent,
            Purpose::Treatment,
            Action::Search,
            Target::default(),
            "r",
        )
        .await
        .unwrap();
    let asked = query(ResourceType::Observation, &[("_total", "accurate")]);
    let list = async || trust.vault().search(&permit, &asked, None).await;
    let page = list().await.unwrap();
    let ids: Vec<_> = (page.rows.iter())
        .filter_map(|row| row.resource.id())
        .collect();
    assert_eq!((ids, page.total), (vec!["o17", "o3"], Some(2)));
    let teams = ["CareTeam/t-p17", "CareTeam/t-p3"].map(|team| Some(format!("care team {team}")));
    let told = [
        explained(&house, "p17").await,
        explained(&house, "p3").await,
    ];
    assert_eq!(told, teams);

    // Somebody with more appointments than are looked at is told of so many patients, and no more.
    for number in 0..70 {
        house
            .put([json!({"resourceType": "Appointment", "id": format!("a{number}"), "status": "booked",
                "start": "2026-06-20T10:00:00Z", "participant": [
                    {"actor": {"reference": "Patient/p3"}, "status": "accepted"},
                    {"actor": {"reference": "Practitioner/d"}, "status": "accepted"}]})])
            .await;
    }
    let refused = list().await;
    assert!(
        matches!(&refused, Err(TrustError::TooCostly(_))),
        "{refused:?}"
    );
}

// Proves: 45 CFR 164.308(a)(1)(ii)(D)
#[tokio::test]
async fn the_audit_tells_which_relationship_explains_an_access() {
    let house = House::new().await;
    house
        .put([a_patient("p", "Berg"), a_weight("o", "p", "2026-06-01")])
        .await;
    let (trust, agent) = under(&house, Rules::DEFAULT).await;
    let read = trust
        .decide(
            &agent,
            Purpose::Treatment,
            Action::Read,
            Target::default(),
            "r",
        )
        .await
        .unwrap();
    let look = async || {
        let found = trust
            .vault()
            .read(&read, ResourceType::Observation, "o")
            .await;
        assert!(found.unwrap().is_some());
    };
    look().await;
    assert_eq!(explained(&house, "p").await.as_deref(), Some("none"));
    house.put([team(&json!("2026-12-31"))]).await;
    look().await;
    assert_eq!(
        explained(&house, "p").await.as_deref(),
        Some("care team CareTeam/t")
    );
    // Of systems and of patients nothing is told.
    let own = own(&house, "p", Action::Read).await;
    trust
        .vault()
        .read(&own, ResourceType::Observation, "o")
        .await
        .unwrap();
    assert_eq!(explained(&house, "p").await, None);
}

/// Once it is known whose rows somebody may be shown, no others are looked at; what is nobody's still is.
#[tokio::test]
async fn a_search_is_narrowed_to_those_with_whom_there_is_a_relationship() {
    let house = House::new().await;
    let nobodys = json!({"resourceType": "Observation", "id": "nobodys", "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "29463-7"}]}});
    house
        .put([
            a_patient("p", "Berg"),
            a_weight("o", "p", "2026-06-01"),
            nobodys,
            team(&json!("2026-12-31")),
        ])
        .await;
    for other in 0..60 {
        let (patient, weight) = (format!("q{other}"), format!("o{other}"));
        house
            .put([
                a_patient(&patient, "Dahl"),
                a_weight(&weight, &patient, "2026-06-01"),
            ])
            .await;
    }
    let (trust, agent) = under(&house, "england").await;
    let permit = trust
        .decide(
            &agent,
            Purpose::Treatment,
            Action::Search,
            Target::default(),
            "r",
        )
        .await
        .unwrap();
    let vault = trust.vault();
    for of in [None, Some(("code", "29463-7")), Some(("code:not", "1-8"))] {
        let asked: Vec<_> = of.into_iter().chain([("_count", "10")]).collect();
        let page = vault
            .search(&permit, &query(ResourceType::Observation, &asked), None)
            .await
            .unwrap();
        let ids: Vec<_> = page.rows.iter().map(|row| row.resource.id()).collect();
        assert_eq!(ids, [Some("nobodys"), Some("o")], "{of:?}");
        assert!(page.candidates < 30, "{of:?}: {}", page.candidates);
    }
    // In another order all are gone through, page by page: the first alone has rows of others.
    let sorted = query(ResourceType::Observation, &[("_sort", "code")]);
    let page = vault.search_sorted(&permit, &sorted, None).await.unwrap();
    assert_eq!(page.rows.len(), 2);
    assert!(page.candidates < 30, "sorted: {}", page.candidates);
}

#[tokio::test]
async fn a_task_opens_nothing_where_a_relationship_is_needed() {
    let house = House::new().await;
    house
        .put([a_patient("p", "Berg"), a_weight("o", "p", "2026-06-01")])
        .await;
    let (trust, agent) = under(&house, "england").await;
    let task = |id: &str, status: &str, owner: &str| {
        json!({"resourceType": "Task", "id": id, "status": status, "intent": "order",
            "for": {"reference": "Patient/p"},
            "performerType": [{"coding": [{"system": "urn:cairn:role", "code": "clinician"}]}],
            "owner": {"identifier": {"system": "urn:cairn:account", "value": owner}}})
    };
    let read = trust
        .decide(
            &agent,
            Purpose::Treatment,
            Action::Read,
            Target::default(),
            "r",
        )
        .await
        .unwrap();
    let look = async |kind, id| {
        let found = trust.vault().read(&read, kind, id).await;
        (found.unwrap().is_some(), explained(&house, "p").await)
    };
    let told = |words: &str| Some(words.to_owned());
    house
        .put([task("queue", "requested", "somebody-else")])
        .await;
    let seen = look(ResourceType::Observation, "o").await;
    assert_eq!(seen, (false, told("none")));
    // The list that it is on is seen by everybody anyway, and explained.
    let seen = look(ResourceType::Task, "queue").await;
    assert_eq!(seen, (true, told("work list Task/queue")));
    let seen = look(ResourceType::Patient, "p").await;
    assert_eq!(seen, (true, told("work list Task/queue")));
    // What they were handed and have not claimed is a row of a list, too.
    house.put([task("handed", "requested", &agent.id)]).await;
    let seen = look(ResourceType::Observation, "o").await;
    assert_eq!(seen, (false, told("none")));
    house.put([task("own", "accepted", &agent.id)]).await;
    let seen = look(ResourceType::Observation, "o").await;
    assert_eq!(seen, (false, told("task of theirs Task/own")));
}

/// A journey is no row that could be asked about: who acts for a patient sees none while a row is sealed from them.
#[tokio::test]
async fn what_is_sealed_may_be_missing_for_who_does_not_see_it() {
    let house = House::new().await;
    let marked = |level: &str, by: &str| {
        let mut row = a_weight("o", "p", "2026-06-01");
        row["meta"] = json!({"security": [
            {"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": level}]});
        row["performer"] = json!([{"reference": by}]);
        row
    };
    let of_p = json!({"reference": "Patient/p"});
    house
        .put([
            a_patient("p", "Berg"),
            marked("N", "Practitioner/e"),
            json!({"resourceType": "Appointment", "id": "a", "status": "booked", "start": "2026-06-20T10:00:00Z",
                "participant": [{"actor": of_p, "status": "accepted"},
                    {"actor": {"reference": "Practitioner/d"}, "status": "accepted"}]}),
        ])
        .await;
    let (trust, agent) = under(&house, "england").await;
    let read = trust
        .decide(
            &agent,
            Purpose::Treatment,
            Action::Read,
            Target::default(),
            "r",
        )
        .await
        .unwrap();
    let vault = trust.vault();
    let hidden = async || {
        let from_them = vault.may_hide(&read, "p").await.unwrap();
        let from_proxy = vault.may_hide_from_proxy(TENANT, "p", "x").await.unwrap();
        (from_them, from_proxy)
    };
    assert_eq!(hidden().await, (false, false));
    house.put([marked("R", "Practitioner/e")]).await;
    assert_eq!(hidden().await, (true, true));
    house.put([marked("R", "Practitioner/d")]).await;
    assert_eq!(hidden().await, (false, true));
    house
        .put([
            marked("N", "Practitioner/e"),
            json!({"resourceType": "Composition", "id": "c", "status": "final", "type": {"text": "x"},
                "subject": of_p, "date": "2026-06-01", "title": "x", "confidentiality": "V",
                "author": [{"reference": "Practitioner/e"}]}),
        ])
        .await;
    assert_eq!(hidden().await, (true, true));
}

/// Who puts themselves into a team that is only planned has a relationship by it, and no seal opened.
#[tokio::test]
async fn a_planned_team_opens_no_seal() {
    let house = House::new().await;
    let mut sealed = a_weight("o", "p", "2026-06-01");
    sealed["meta"] = json!({"security": [
        {"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R"}]});
    house
        .put([
            a_patient("p", "Berg"),
            sealed,
            a_weight("plain", "p", "2026-06-01"),
        ])
        .await;
    let (trust, agent) = under(&house, "england").await;
    let read = trust
        .decide(
            &agent,
            Purpose::Treatment,
            Action::Read,
            Target::default(),
            "r",
        )
        .await
        .unwrap();
    let seen = async |row: Value| {
        house.put([row]).await;
        let mut seen = Vec::new();
        for id in ["plain", "o"] {
            let found = trust
                .vault()
                .read(&read, ResourceType::Observation, id)
                .await;
            seen.extend(found.unwrap().map(|_| id));
        }
        seen
    };
    let of_p = json!({"reference": "Patient/p"});
    let episode = |status: &str| {
        json!({"resourceType": "EpisodeOfCare", "id": "e", "status": status, "patient": of_p,
            "careManager": {"reference": "Practitioner/d"}, "period": {"start": "2026-01-01"}})
    };
    for (status, opened) in [
        ("planned", false),
        ("waitlist", false),
        ("active", true),
        ("onhold", true),
        ("finished", false),
    ] {
        let seen = seen(episode(status)).await;
        let expected: &[&str] = match (status, opened) {
            ("finished", _) => &[],
            (_, true) => &["plain", "o"],
            (_, false) => &["plain"],
        };
        assert_eq!(seen, expected, "{status}");
    }
    for (status, expected) in [
        ("proposed", &["plain"][..]),
        ("suspended", &["plain"]),
        ("active", &["plain", "o"]),
        ("inactive", &[]),
    ] {
        let mut team = team(&json!("2026-12-31"));
        team["status"] = json!(status);
        assert_eq!(seen(team).await, expected, "{status}");
    }
}

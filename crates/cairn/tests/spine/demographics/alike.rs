//! Fuzzy traces, and duplicates of new persons who are written another way.

use reqwest::Method;
use serde_json::{Value, json};

use super::{Answer, Spine, marked, patient};

const BORN: &str = "birthdate=eq2010-10-22";

fn person(family: &str, given: &[&str], more: &Value) -> Value {
    let mut changes = json!({"name": [{"use": "usual", "family": family, "given": given}]});
    for (name, value) in more.as_object().into_iter().flatten() {
        changes[name] = value.clone();
    }
    changes
}

async fn furnished() -> Spine {
    let spine = Spine::new().await;
    let elsewhere = json!({"address": [{"use": "home", "line": ["2 Mill Road"], "postalCode": "EX4 4QJ"}], "telecom": [], "generalPractitioner": []});
    let mut later = elsewhere.clone();
    later["birthDate"] = json!("2010-10-23");
    let maiden = json!([
        {"use": "usual", "family": "Garton", "given": ["Joseph"]},
        {"use": "maiden", "family": "Blogs", "given": ["Joseph"]},
    ]);
    for (id, number, changes) in [
        (
            "r1",
            "9000000009",
            person("Abernathy", &["Catherine", "Rose"], &json!({})),
        ),
        (
            "r2",
            "9000000017",
            person("Abernethie", &["Katherine"], &elsewhere),
        ),
        (
            "r3",
            "9000000025",
            person("Abernathy", &["Margaret"], &json!({})),
        ),
        (
            "r4",
            "9000000033",
            person("Abernathy", &["Catherine"], &later),
        ),
        (
            "r5",
            "9111231130",
            json!({"name": maiden, "meta": marked("R")}),
        ),
    ] {
        let mut kept = patient(id, number, &changes);
        for list in ["telecom", "generalPractitioner"] {
            if kept[list] == json!([]) {
                kept.as_object_mut().expect("an object").remove(list);
            }
        }
        spine.keep(&kept).await;
    }
    spine
}

fn scores(answer: &Answer) -> Vec<f64> {
    let entries = answer.body["entry"].as_array().into_iter().flatten();
    entries
        .map(|entry| entry["search"]["score"].as_f64().expect("a score"))
        .collect()
}

#[tokio::test]
async fn who_is_found_in_spite_of_how_they_are_written() {
    let spine = furnished().await;
    for (query, expected) in [
        (
            "family=Abernathy&given=Catherine",
            &["9000000009", "9000000017"][..],
        ),
        ("family=Abernethy&given=Kate", &["9000000009", "9000000017"]),
        (
            "family=ABERN%C3%84THY&given=C%C3%A1therine",
            &["9000000009", "9000000017"],
        ),
        // Changed places, with a middle name too.
        ("family=Catherine&given=Abernathy", &["9000000009"]),
        // What somebody is called of before, always.
        ("family=Blogs&given=Joe", &["9111231130"]),
        ("family=Bloggs&given=Joseph&_history=false", &["9111231130"]),
        // Restricted: by nothing of where they are.
        ("family=Blogs&given=Joe&address-postalcode=LS1+6AE", &[]),
        ("family=Blogs&given=Joe&general-practitioner=Y12345", &[]),
        ("family=Okonkwo&given=Emma", &[]),
        (
            "family=Abernathy&given=Catherine&email=jane.smith@example.com",
            &["9000000009"],
        ),
        (
            "family=Abernathy&given=Catherine&email=jane.smyth@example.com",
            &[],
        ),
        (
            "family=Abernathy&given=Catherine&phone=%2B44+1632+960587",
            &["9000000009"],
        ),
        ("family=Abernathy&given=Catherine&phone=01632960588", &[]),
        // Gender, postcode and practice say how closely, and nothing more.
        (
            "family=Abernathy&given=Catherine&gender=male",
            &["9000000009", "9000000017"],
        ),
        (
            "family=Abernathy&given=Catherine&general-practitioner=A1",
            &["9000000009", "9000000017"],
        ),
        // One name, with gender and postcode.
        (
            "family=Abernethy&gender=female&address-postalcode=EX4+4QJ",
            &["9000000017"],
        ),
        (
            "given=Margret&gender=female&address-postalcode=LS1+6AF",
            &["9000000025"],
        ),
        // Just so.
        (
            "family=Abernathy&given=Catherine&_exact-match=true",
            &["9000000009"],
        ),
        ("family=Abernethy&given=Catherine&_exact-match=true", &[]),
    ] {
        let answer = spine
            .get(&format!("/Patient?_fuzzy-match=true&{query}&{BORN}"))
            .await;
        assert_eq!(answer.numbers(), expected, "{query}");
        let scores = scores(&answer);
        assert!(
            scores.is_sorted_by(|one, other| one >= other),
            "{query}: {scores:?}"
        );
        assert!(
            scores.iter().all(|score| *score > 0.0 && *score <= 1.0),
            "{query}: {scores:?}"
        );
    }
    let path =
        "/Patient?_fuzzy-match=true&family=Abernathy&given=Catherine&address-postalcode=EX4+4QJ";
    let mut moved = spine.get(&format!("{path}&{BORN}")).await.numbers();
    moved.sort_unstable();
    assert_eq!(moved, ["9000000009", "9000000017"]);
    let one = spine
        .get(&format!(
            "/Patient?_fuzzy-match=true&family=Abernathy&given=Catherine&{BORN}"
        ))
        .await;
    let scores = scores(&one);
    assert!(scores[0] >= 1.0 && scores[1] < 1.0, "{scores:?}");
    for (birth, expected) in [
        ("birthdate=eq2010-10-23", 1),
        ("birthdate=ge2010-10-22&birthdate=le2010-10-23", 3),
        ("birthdate=ge2010-01-01", 3),
        ("birthdate=eq2010-10-24", 0),
    ] {
        let path = format!("/Patient?_fuzzy-match=true&family=Abernathy&given=Catherine&{birth}");
        assert_eq!(spine.get(&path).await.numbers().len(), expected, "{birth}");
    }
    let restricted = spine
        .get(&format!(
            "/Patient?_fuzzy-match=true&family=Blogs&given=Joe&{BORN}"
        ))
        .await;
    let resource = &restricted.body["entry"][0]["resource"];
    assert_eq!(resource["name"][0]["family"], "Garton", "as they are now");
    assert!(resource.get("address").is_none() && resource.get("telecom").is_none());
    spine.house.end().await;
}

#[tokio::test]
async fn more_are_alike_than_are_answered() {
    let spine = furnished().await;
    let path = format!("/Patient?_fuzzy-match=true&family=Abernathy&given=Catherine&{BORN}");
    spine
        .get(&format!("{path}&_max-results=1"))
        .await
        .refused(200, "TOO_MANY_MATCHES");
    let app = spine.house.token.clone();
    spine
        .get_as(&app, &path)
        .await
        .refused(200, "TOO_MANY_MATCHES");
    let one = spine
        .get_as(&app, &format!("{path}&_exact-match=true"))
        .await;
    assert_eq!(one.numbers(), ["9000000009"]);
    let request = spine.ask(Method::GET, &format!("{path}&_max-results=1"));
    let answer = Answer::of(request.header("prefer", "multiple-matches=bundle")).await;
    assert_eq!(answer.fine()["total"], 2);
    assert_eq!(answer.numbers()[0], "9000000009");
    // The rules of what a fuzzy search needs are those that are published.
    for (query, code) in [
        (
            "family=Abernathy&birthdate=eq2010-10-22",
            "INVALID_SEARCH_DATA",
        ),
        (
            "family=Ab%2A&given=Catherine&birthdate=eq2010-10-22",
            "INVALID_SEARCH_DATA",
        ),
        ("family=Abernathy&given=Catherine", "MISSING_VALUE"),
    ] {
        let answer = spine
            .get(&format!("/Patient?_fuzzy-match=true&{query}"))
            .await;
        answer.refused(400, code);
    }
    spine.house.end().await;
}

#[tokio::test]
async fn a_new_person_who_is_written_another_way_is_known() {
    let spine = furnished().await;
    let newcomer = |family: &str, given: &[&str], birth: &str, code: &str| {
        json!({
            "resourceType": "Patient",
            "name": [{"use": "usual", "given": given, "family": family, "period": {"start": "2010-10-22"}}],
            "address": [{"use": "home", "line": ["1 Boar Lane", "Leeds"], "postalCode": code, "period": {"start": "2020-01-01"}}],
            "gender": "female", "birthDate": birth,
            "extension": [{"url": "https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-RegisteringAuthority", "extension": [{"url": "organisationIdentifier", "valueString": "RGS"}]}],
        })
    };
    let before = spine.versions().await;
    for (family, given, birth) in [
        ("Abernethy", &["Catherine"][..], "2010-10-22"),
        ("Catherine", &["Abernathy", "Rose"], "2010-10-22"),
    ] {
        let answer = Answer::of(spine.post(&newcomer(family, given, birth, "LS1 6AE"))).await;
        answer.refused(200, "SINGLE_MATCH");
        let words = answer.body["issue"][0]["diagnostics"]
            .as_str()
            .expect("words");
        assert!(words.contains("9000000009"), "{family} {given:?}: {words}");
    }
    assert_eq!(spine.versions().await, before);
    // A sister at the same place, a twin who is called alike, and somebody elsewhere, are others.
    for (family, given, code) in [
        ("Abernathy", "Kate", "LS1 6AE"),
        ("Abernathy", "Catrina", "LS1 6AE"),
        ("Abernathy", "Emily", "LS1 6AE"),
        ("Abernethy", "Catherine", "G1 1AA"),
    ] {
        let answer = Answer::of(spine.post(&newcomer(family, &[given], "2010-10-22", code))).await;
        assert_eq!(answer.status.as_u16(), 201, "{given}: {answer:?}");
    }
    spine.house.end().await;
}

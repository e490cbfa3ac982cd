use serde_json::{Value, json};

use super::super::refusal::Code;
use super::super::rules::Rules;
use super::super::view::whole;
use super::*;

const TODAY: &str = "2026-03-01";
const PHARMACY: &str =
    "https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-NominatedPharmacy";
const DEATH: &str =
    "https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-DeathNotificationStatus";

fn death(code: &str) -> Value {
    json!({"url": DEATH, "extension": [{"url": "deathNotificationStatus",
        "valueCodeableConcept": {"coding": [{"code": code}]}}]})
}

fn told(extensions: &[Value]) -> Value {
    let rules = Rules::named("england").expect("rules");
    let patient = Resource::from_value(json!({
        "resourceType": "Patient", "id": "r",
        "identifier": [{"system": rules.identifier_system, "value": "9000000009"}],
        "name": [
            {"id": "n0", "use": "usual", "family": "Smith", "given": ["Jane"], "period": {"start": "2020-01-01"}},
            {"id": "n1", "use": "nickname", "family": "Smith", "given": ["Jo"], "period": {"start": "2020-01-01"}},
        ],
        "gender": "female", "birthDate": "2010-10-22",
        "address": [{"id": "a0", "use": "home", "line": ["1 Boar Lane", "Leeds"], "postalCode": "LS1 6AE", "period": {"start": "2020-01-01"}}],
        "telecom": [
            {"id": "t0", "system": "phone", "use": "home", "value": "01632960587", "period": {"start": "2020-01-01"}},
            {"id": "t1", "system": "email", "use": "home", "value": "jane@example.com", "period": {"start": "2020-01-01"}},
        ],
        "generalPractitioner": [{"id": "g0", "type": "Organization", "identifier": {"system": rules.organization_system, "value": "Y12345"}}],
        "extension": extensions,
    }))
    .expect("a patient");
    whole(&rules, &patient, 2).expect("told")
}

fn apply_to(told: &Value, patches: &Value) -> Result<Map<String, Value>, Refusal> {
    let rules = Rules::named("england").expect("rules");
    let body = json!({"patches": patches}).to_string();
    Change::parse(body.as_bytes())?.apply(&rules, told, TODAY)
}

fn apply(patches: &Value) -> Result<Map<String, Value>, Refusal> {
    let pharmacy = json!({"url": PHARMACY, "valueReference": {"identifier": {"value": "Y1"}}});
    apply_to(&told(&[pharmacy]), patches)
}

fn name(what: &Value) -> Value {
    let mut name = json!({"use": "temp", "family": "Bloggs", "given": ["Joe"], "period": {"start": "2020-01-01"}});
    for (member, value) in what.as_object().into_iter().flatten() {
        if value.is_null() {
            name.as_object_mut().expect("an object").remove(member);
        } else {
            name[member] = value.clone();
        }
    }
    json!([{"op": "add", "path": "/name/-", "value": name}])
}

#[test]
fn bodies_of_requests() {
    for (body, expected) in [
        ("{}", Code::InvalidUpdate),
        ("{\"patches\":[]}", Code::InvalidUpdate),
        ("{\"patches\":{}}", Code::InvalidUpdate),
        ("[]", Code::InvalidUpdate),
        ("x", Code::InvalidUpdate),
        (
            "{\"patches\":[{\"op\":\"bad_value\",\"path\":\"/gender\"}]}",
            Code::InvalidValue,
        ),
        (
            "{\"patches\":[{\"op\":\"move\",\"from\":\"/a\",\"path\":\"/gender\"}]}",
            Code::InvalidValue,
        ),
        (
            "{\"patches\":[{\"op\":\"add\",\"path\":\"gender\",\"value\":1}]}",
            Code::InvalidValue,
        ),
        (
            "{\"patches\":[{\"op\":\"add\",\"path\":\"/gender\"}]}",
            Code::MissingValue,
        ),
        ("{\"patches\":[{\"path\":\"/gender\"}]}", Code::MissingValue),
    ] {
        let code = Change::parse(body.as_bytes())
            .err()
            .map(|refusal| refusal.code);
        assert_eq!(code, Some(expected), "{body}");
    }
    let many = vec![json!({"op": "test", "path": "/gender", "value": "x"}); OPERATIONS_MAX + 1];
    let code = apply(&json!(many)).err().map(|refusal| refusal.code);
    assert_eq!(code, Some(Code::TooManyValues));
}

#[test]
fn what_is_let_be_changed() {
    for (patches, path, expected) in [
        (
            json!([{"op": "replace", "path": "/gender", "value": "male"}]),
            "/gender",
            json!("male"),
        ),
        (name(&json!({})), "/name/2/family", json!("Bloggs")),
        // A title's full stop goes, an id that is sent is not taken, and a period begins today.
        (
            name(&json!({"prefix": ["Mrs."]})),
            "/name/2/prefix/0",
            json!("Mrs"),
        ),
        (
            name(&json!({"period": null})),
            "/name/2/period/start",
            json!(TODAY),
        ),
        (
            json!([
                {"op": "replace", "path": "/name/0/id", "value": "n0"},
                {"op": "replace", "path": "/name/0/family", "value": "Jones"},
            ]),
            "/name/0/family",
            json!("Jones"),
        ),
        (
            json!([
                {"op": "add", "path": "/name/0/id", "value": "n0"},
                {"op": "add", "path": "/name/0/given/0", "value": "Rose"},
            ]),
            "/name/0/given",
            json!(["Rose", "Jane"]),
        ),
        // By a test as well.
        (
            json!([
                {"op": "test", "path": "/name/0/id", "value": "n0"},
                {"op": "replace", "path": "/name/0/family", "value": "Jones"},
            ]),
            "/name/0/family",
            json!("Jones"),
        ),
        (
            json!([{"op": "replace", "path": "/address/0", "value": {"id": "a0", "use": "home", "line": ["", "2 Boar Lane", "", "Leeds", ""], "postalCode": "LS1 4BU"}}]),
            "/address/0/line",
            json!(["2 Boar Lane", "Leeds"]),
        ),
        (
            json!([
                {"op": "test", "path": "/name/1/id", "value": "n1"},
                {"op": "remove", "path": "/name/1"},
            ]),
            "/name/1",
            Value::Null,
        ),
        (
            json!([
                {"op": "test", "path": "/extension/0/url", "value": PHARMACY},
                {"op": "remove", "path": "/extension/0"},
            ]),
            "/extension",
            Value::Null,
        ),
        (
            json!([
                {"op": "add", "path": "/deceasedDateTime", "value": "2020-01-01"},
                {"op": "add", "path": "/extension/-", "value": death("1")},
            ]),
            "/deceasedDateTime",
            json!("2020-01-01"),
        ),
        (
            json!([{"op": "add", "path": "/deceasedDateTime", "value": "2020-01-01T10:00:00+00:00"},
                {"op": "add", "path": "/extension/-", "value": death("1")}]),
            "/deceasedDateTime",
            json!("2020-01-01T10:00:00+00:00"),
        ),
        (
            json!([{"op": "add", "path": "/multipleBirthInteger", "value": 2}]),
            "/multipleBirthInteger",
            json!(2),
        ),
        (
            json!([{"op": "add", "path": "/contact/-", "value": {"relationship": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0131", "code": "C"}]}], "telecom": [{"system": "phone", "value": "999"}]}}]),
            "/contact/0/telecom/0/value",
            json!("999"),
        ),
        (
            json!([{"op": "add", "path": "/address/-", "value": {"use": "temp", "text": "Second Home", "line": ["1", "Leeds"], "period": {"start": "2026-02-01", "end": "2026-05-01"}}}]),
            "/address/1/text",
            json!("Second Home"),
        ),
    ] {
        let after = apply(&patches).unwrap_or_else(|refusal| panic!("{patches}: {refusal:?}"));
        let after = Value::Object(after);
        let found = after.pointer(path).cloned().unwrap_or_default();
        assert_eq!(found, expected, "{patches}");
    }
    let after = apply(&name(&json!({"id": "mine"}))).expect("a name");
    assert!(after["name"][2]["id"].is_string() && after["name"][2]["id"] != "mine");
}

#[test]
fn what_is_not_let_be_changed() {
    use Code::{
        AdditionalProperties as Additional, ForbiddenUpdate as Forbidden, InvalidUpdate as Update,
        InvalidValue as Invalid, MissingValue as Missing, TooFewValues as Few,
        TooManyValues as Many, UnsupportedCharacters as Characters,
        UnsupportedValue as Unsupported,
    };
    let one =
        |op: &str, path: &str, value: Value| json!([{"op": op, "path": path, "value": value}]);
    let gone = |path: &str| json!([{"op": "remove", "path": path}]);
    let tested = |list: &str, id: &str| json!([{"op": "test", "path": format!("{list}/id"), "value": id}, {"op": "remove", "path": list}]);
    for (patches, expected) in [
        // What there isn't.
        (one("add", "/pets/-", json!("cat")), Update),
        (one("add", "/link/-", json!({})), Update),
        (name(&json!({"pets": 1})), Additional),
        (one("replace", "/id", json!("9000000017")), Forbidden),
        (
            one("replace", "/meta/security/0/code", json!("R")),
            Forbidden,
        ),
        (
            one("replace", "/identifier/0/value", json!("9000000017")),
            Forbidden,
        ),
        // What stays.
        (gone("/gender"), Forbidden),
        (gone("/birthDate"), Forbidden),
        (gone("/name"), Update),
        (tested("/name/0", "n0"), Forbidden),
        (tested("/generalPractitioner/0", "g0"), Forbidden),
        // Also where they are not removed: lists as a whole, and items without what they are named by.
        (one("replace", "/name", json!([])), Update),
        (one("add", "/name", json!([])), Update),
        (one("replace", "/generalPractitioner", json!([])), Update),
        (one("replace", "/extension", json!([])), Update),
        (
            one(
                "add",
                "/address",
                json!([{"use": "home", "line": ["1", "2"]}]),
            ),
            Update,
        ),
        (
            json!([
                {"op": "test", "path": "/name/0/id", "value": "n0"},
                {"op": "remove", "path": "/name/0/id"},
                {"op": "replace", "path": "/name/0/use", "value": "old"},
            ]),
            Update,
        ),
        (
            json!([
                {"op": "test", "path": "/extension/0/url", "value": PHARMACY},
                {"op": "remove", "path": "/extension/0/url"},
            ]),
            Update,
        ),
        // Tests before removals, and names beside places.
        (gone("/name/1"), Update),
        (
            json!([{"op": "test", "path": "/name/0/id", "value": "n0"}, {"op": "remove", "path": "/name/1"}]),
            Update,
        ),
        (
            json!([{"op": "test", "path": "/name/1/id", "value": "n1"}, {"op": "replace", "path": "/gender", "value": "male"}, {"op": "remove", "path": "/name/1"}]),
            Update,
        ),
        (tested("/name/1", "n0"), Update),
        (tested("/name/7", "n1"), Update),
        (
            json!([{"op": "test", "path": "/name/0/id", "value": "n0"}, {"op": "remove", "path": "/name/0/suffix/0"}]),
            Update,
        ),
        (one("replace", "/address/0/line/0", json!("2")), Update),
        (
            json!([{"op": "replace", "path": "/address/0/id", "value": "x"}, {"op": "replace", "path": "/address/0/line/0", "value": "2"}]),
            Update,
        ),
        (
            json!([{"op": "replace", "path": "/address/1/id", "value": "a0"}, {"op": "replace", "path": "/address/1/line/0", "value": "2"}]),
            Update,
        ),
        (one("replace", "/address/0/id", json!("x")), Update),
        (
            json!([{"op": "replace", "path": "/name/0/id", "value": "n1"}, {"op": "replace", "path": "/name/0/family", "value": "X"}]),
            Update,
        ),
        (
            json!([{"op": "add", "path": "/name/0/given/-", "value": "Rose"}]),
            Update,
        ),
        (
            one("add", "/name/0", json!({"use": "temp", "family": "x"})),
            Update,
        ),
        (one("replace", "/multipleBirthInteger", json!(1)), Update),
        // Names.
        (name(&json!({"use": "usual"})), Forbidden),
        (name(&json!({"use": "nickname"})), Forbidden),
        (name(&json!({"use": null})), Missing),
        (name(&json!({"use": "official"})), Invalid),
        (
            json!([{"op": "replace", "path": "/name/1/id", "value": "n1"}, {"op": "replace", "path": "/name/1/use", "value": "temp"}]),
            Forbidden,
        ),
        (
            name(&json!({"given": ["1", "2", "3", "4", "5", "6"]})),
            Many,
        ),
        (name(&json!({"given": []})), Few),
        (name(&json!({"family": "O`Brien"})), Characters),
        (name(&json!({"family": "x".repeat(36)})), Invalid),
        (name(&json!({"suffix": ["phD"]})), Invalid),
        (name(&json!({"prefix": ["MRS"]})), Invalid),
        (name(&json!({"family": null, "given": null})), Missing),
        (name(&json!({"period": {"end": "2020-01-01"}})), Missing),
        (name(&json!({"period": {"start": "2026-03-02"}})), Update),
        (
            name(&json!({"period": {"start": "2020-01-02", "end": "2020-01-01"}})),
            Update,
        ),
        (name(&json!({"period": {"start": "2020"}})), Invalid),
        // Addresses.
        (
            one(
                "add",
                "/address/-",
                json!({"use": "home", "line": ["1", "2"]}),
            ),
            Forbidden,
        ),
        (
            one(
                "add",
                "/address/-",
                json!({"use": "work", "line": ["1", "2"]}),
            ),
            Unsupported,
        ),
        (
            one(
                "add",
                "/address/-",
                json!({"use": "temp", "text": "Second Home", "line": ["1", "2"]}),
            ),
            Update,
        ),
        (
            one(
                "add",
                "/address/-",
                json!({"use": "temp", "line": ["1", "2"], "period": {"start": "2026-02-01", "end": "2026-05-01"}}),
            ),
            Missing,
        ),
        (
            one(
                "add",
                "/address/-",
                json!({"use": "billing", "line": ["1"], "period": {"start": "2026-02-01", "end": "2026-05-01"}}),
            ),
            Update,
        ),
        // Telecoms.
        (
            one(
                "add",
                "/telecom/-",
                json!({"system": "phone", "use": "home", "value": "1"}),
            ),
            Update,
        ),
        (
            one(
                "add",
                "/telecom/-",
                json!({"system": "email", "use": "work", "value": "a@b"}),
            ),
            Update,
        ),
        (
            one(
                "add",
                "/telecom/-",
                json!({"system": "pager", "use": "work", "value": "1"}),
            ),
            Invalid,
        ),
        (
            one(
                "replace",
                "/telecom/0",
                json!({"id": "t0", "system": "phone", "use": "work", "value": "1"}),
            ),
            Forbidden,
        ),
        // Emergency contacts.
        (
            one(
                "add",
                "/contact/-",
                json!({"relationship": [{"coding": [{"code": "N"}]}], "telecom": [{"system": "phone", "value": "1"}]}),
            ),
            Invalid,
        ),
        (
            one(
                "add",
                "/contact/-",
                json!({"relationship": [{"coding": [{"code": "C"}]}], "telecom": [{"system": "fax", "value": "1"}]}),
            ),
            Invalid,
        ),
        (
            one(
                "add",
                "/contact/-",
                json!({"relationship": [{"coding": [{"code": "C"}]}], "telecom": [{"system": "phone", "use": "home", "value": "1"}]}),
            ),
            Additional,
        ),
        // Practice.
        (
            one(
                "add",
                "/generalPractitioner/-",
                json!({"identifier": {"value": "A1"}}),
            ),
            Many,
        ),
        (
            one(
                "replace",
                "/generalPractitioner/0",
                json!({"id": "g0", "identifier": {"value": "a1"}}),
            ),
            Invalid,
        ),
        (
            one(
                "replace",
                "/generalPractitioner/0",
                json!({"id": "g0", "identifier": {"value": "A1", "period": {"start": "2020-01-01", "end": "2021-01-01"}}}),
            ),
            Update,
        ),
        // Dates, gender, order of birth.
        (one("replace", "/birthDate", json!("2026-03-02")), Update),
        (one("replace", "/birthDate", json!("22/10/2010")), Invalid),
        (one("replace", "/gender", json!("other")), Unsupported),
        (one("replace", "/gender", json!("x")), Invalid),
        (one("add", "/multipleBirthInteger", json!(10)), Invalid),
        (one("add", "/deceasedDateTime", json!("2020-01-01")), Update),
        (one("add", "/extension/-", death("1")), Update),
        (
            json!([{"op": "add", "path": "/deceasedDateTime", "value": "2020-01-01T00:00:00+01:00"}, {"op": "add", "path": "/extension/-", "value": death("1")}]),
            Invalid,
        ),
        (
            json!([{"op": "add", "path": "/deceasedDateTime", "value": "2026-03-02"}, {"op": "add", "path": "/extension/-", "value": death("1")}]),
            Update,
        ),
        (
            json!([{"op": "add", "path": "/deceasedDateTime", "value": "2010-10-21"}, {"op": "add", "path": "/extension/-", "value": death("1")}]),
            Update,
        ),
        (
            json!([{"op": "add", "path": "/deceasedDateTime", "value": "2020-01-01"}, {"op": "add", "path": "/extension/-", "value": death("2")}]),
            Forbidden,
        ),
        (
            json!([{"op": "add", "path": "/deceasedDateTime", "value": "2020-01-01"}, {"op": "add", "path": "/extension/-", "value": death("U")}]),
            Unsupported,
        ),
        // Extensions.
        (
            one(
                "add",
                "/extension/-",
                json!({"url": "urn:other", "valueString": "x"}),
            ),
            Unsupported,
        ),
        (one("add", "/extension/-", json!({"url": PHARMACY})), Many),
    ] {
        match apply(&patches) {
            Ok(_) => panic!("{patches}"),
            Err(refusal) => assert_eq!(refusal.code, expected, "{patches}: {refusal:?}"),
        }
    }
}

#[test]
fn a_death_that_is_formal_stays() {
    let mut dead = told(&[death("2")]);
    dead["deceasedDateTime"] = json!("2020-01-01");
    for patches in [
        json!([{"op": "replace", "path": "/deceasedDateTime", "value": "2020-01-02"}]),
        json!([{"op": "replace", "path": "/extension/0", "value": death("1")}]),
        json!([{"op": "test", "path": "/extension/0/url", "value": DEATH}, {"op": "remove", "path": "/extension/0"}]),
        json!([{"op": "remove", "path": "/deceasedDateTime"}]),
    ] {
        let code = apply_to(&dead, &patches).err().map(|refusal| refusal.code);
        assert_eq!(code, Some(Code::ForbiddenUpdate), "{patches}");
    }
    let patches = json!([{"op": "replace", "path": "/gender", "value": "male"}]);
    assert!(apply_to(&dead, &patches).is_ok());
}

#[test]
fn what_was_there_is_there_still() {
    let rules = Rules::named("england").expect("rules");
    let before = told(&[death("1")]);
    let before = before.as_object().cloned().expect("members");
    assert!(check_still_there(&rules, &before, &before).is_ok());
    for (list, item) in [
        ("name", json!({"use": "old", "family": "Smith"})),
        ("generalPractitioner", Value::Null),
        ("extension", json!({"url": PHARMACY})),
    ] {
        let mut after = before.clone();
        match item.is_null() {
            true => drop(after.remove(list)),
            false => drop(after.insert(list.to_owned(), json!([item]))),
        }
        let code = check_still_there(&rules, &before, &after)
            .err()
            .map(|refusal| refusal.code);
        assert_eq!(code, Some(Code::ForbiddenUpdate), "{list}");
    }
}

#[test]
fn a_patch_that_fails_at_its_end_changes_nothing() {
    let told = told(&[]);
    let before = told.clone();
    let patches = json!([
        {"op": "replace", "path": "/gender", "value": "male"},
        {"op": "remove", "path": "/birthDate"},
    ]);
    assert!(apply_to(&told, &patches).is_err());
    assert_eq!(told, before);
}

//! `docs/fhir.md`: what of FHIR R4 is here, as the running server answers it.
//!
//! `WRITE_DOCS=1 cargo nextest run -p cairn conformance` writes the page anew; without the
//! variable the test fails where the page isn't what the server does.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use reqwest::Method;
use serde_json::Value;

use crate::house::{House, house};

/// R4's interactions (section 3.1.0), with their scope.
const INTERACTIONS: [(&str, &str); 13] = [
    ("instance", "read"),
    ("instance", "vread"),
    ("instance", "update"),
    ("instance", "patch"),
    ("instance", "delete"),
    ("instance", "history-instance"),
    ("type", "create"),
    ("type", "search-type"),
    ("type", "history-type"),
    ("system", "batch"),
    ("system", "transaction"),
    ("system", "search-system"),
    ("system", "history-system"),
];

/// R4's operations and those of Bulk Data Access; `Resource` is every type.
const OPERATIONS: [(&str, &[&str]); 24] = [
    (
        "Resource",
        &[
            "convert",
            "graph",
            "graphql",
            "meta",
            "meta-add",
            "meta-delete",
            "validate",
        ],
    ),
    ("ActivityDefinition", &["apply", "data-requirements"]),
    (
        "CapabilityStatement",
        &["conforms", "implements", "subset", "versions"],
    ),
    ("ChargeItemDefinition", &["apply"]),
    ("Claim", &["submit"]),
    (
        "CodeSystem",
        &["find-matches", "lookup", "subsumes", "validate-code"],
    ),
    ("Composition", &["document"]),
    ("ConceptMap", &["closure", "translate"]),
    ("CoverageEligibilityRequest", &["submit"]),
    ("Encounter", &["everything"]),
    ("Group", &["everything", "export"]),
    ("Library", &["data-requirements"]),
    ("List", &["find"]),
    (
        "Measure",
        &[
            "care-gaps",
            "collect-data",
            "data-requirements",
            "evaluate-measure",
            "submit-data",
        ],
    ),
    ("MedicinalProduct", &["everything"]),
    ("MessageHeader", &["process-message"]),
    ("NamingSystem", &["preferred-id"]),
    ("Observation", &["lastn", "stats"]),
    ("Patient", &["everything", "export", "match"]),
    ("PlanDefinition", &["apply", "data-requirements"]),
    ("StructureDefinition", &["questionnaire", "snapshot"]),
    ("StructureMap", &["transform"]),
    ("System", &["export", "import"]),
    ("ValueSet", &["expand", "validate-code"]),
];

/// Operations that R4 doesn't have.
const OWN_OPERATIONS: [(&str, &str); 6] = [
    (
        "start-journey",
        "`POST Patient/[id]/$start-journey` with `Parameters`: `journey`, `key`, `reason`, and the times that the journey asks for, by name. It starts a journey for a patient where its entry takes requests of who asks; the same key again starts nothing more (`decisions/0093-journeys-started-by-request.md`). A `Task` of the code `start-journey` that is created `requested` asks the same (`decisions/0128-what-is-sent-along-in-cds-hooks.md`)",
    ),
    (
        "explain",
        "`GET [type]/$explain?…`, or `POST` with `Parameters`: makes the search that these parameters ask for and tells how: how each was understood and is answered, which lists are read together, what was opened, turned down and found, the bounds and the time (`decisions/0041-explain.md`)",
    ),
    (
        "status",
        "`GET SearchParameter/[id]/$status`: whether a search parameter of one's own is in force, and how many documents it is to be found by, are indexed and aren't (`decisions/0040-own-search-parameters.md`). `GET Subscription/[id]/$status`: how one's own stands, what it missed and what is sent again (`subscriptions.md`)",
    ),
    (
        "events",
        "`GET Subscription/[id]/$events`, or `POST` with `Parameters`: what became of the newest notifications of one's own (`subscriptions.md`)",
    ),
    (
        "replay",
        "`POST Subscription/[id]/$replay` with `Parameters`: has notifications of one's own sent again (`subscriptions.md`)",
    ),
    (
        "rotate-secret",
        "`POST Subscription/[id]/$rotate-secret` with `Parameters`: makes a new secret that notifications of one's own are signed with, and tells it this once (`subscriptions.md`)",
    ),
];

/// A parameter of each type, with a value that it takes.
const PARAMETERS: [(&str, &str, &str, &str); 9] = [
    ("string", "Patient", "family", "x"),
    ("token", "Observation", "code", "http://loinc.org|1-8"),
    ("date", "Patient", "birthdate", "1950-02"),
    ("reference", "Observation", "subject", "Patient/x"),
    ("quantity", "Observation", "value-quantity", "5.4"),
    ("number", "RiskAssessment", "probability", "0.5"),
    ("uri", "ValueSet", "url", "http://example.org/x"),
    ("composite", "Observation", "code-value-quantity", "x$5.4"),
    ("special", "Location", "near", "47.4|8.5|5|km"),
];

/// R4's modifiers (section 3.1.1.4.1), with a value where the parameter's own won't do.
const MODIFIERS: [(&str, &str); 12] = [
    ("missing", "true"),
    ("exact", ""),
    ("contains", ""),
    ("text", "x"),
    ("not", ""),
    ("in", "http://example.org/ValueSet/x"),
    ("not-in", "http://example.org/ValueSet/x"),
    ("above", ""),
    ("below", ""),
    ("of-type", "http://example.org/type|code|x"),
    ("identifier", "http://example.org/ids|x"),
    ("Patient", "x"),
];

const PREFIXES: [&str; 9] = ["eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap"];

/// What says how a search works and what its answer shows: what it does, and an example.
const CONTROLS: [(&str, &str); 32] = [
    ("several types", "?_type=Patient,Observation&_tag=x"),
    ("all types", "?_tag=x"),
    ("of a compartment", "Patient/x/Observation?code=x"),
    ("all of a compartment", "Patient/x/*"),
    ("rows a page", "Patient?_count=10"),
    ("exact total", "Patient?_total=accurate"),
    ("estimated total", "Patient?_total=estimate"),
    ("no total", "Patient?_total=none"),
    ("newest first", "Patient?_sort=-_lastUpdated"),
    ("oldest first", "Patient?_sort=_lastUpdated"),
    ("sorted by a parameter", "Patient?_sort=birthdate"),
    (
        "referenced resources",
        "Observation?_include=Observation:subject",
    ),
    (
        "what they refer to",
        "Observation?_include=Observation:subject&_include:iterate=Patient:organization",
    ),
    (
        "referring resources",
        "Patient?_revinclude=Observation:subject",
    ),
    (
        "by what is referred to",
        "Observation?subject:Patient.family=x",
    ),
    (
        "by what refers to it",
        "Patient?_has:Observation:subject:code=x",
    ),
    ("part: summary", "Patient?_summary=true"),
    ("part: narrative", "Patient?_summary=text"),
    ("part: without narrative", "Patient?_summary=data"),
    ("count alone", "Patient?_summary=count"),
    ("part: elements", "Patient?_elements=name"),
    ("by id", "Patient?_id=x"),
    ("by time of change", "Patient?_lastUpdated=gt2020"),
    ("by tag", "Patient?_tag=x"),
    ("by label", "Patient?_security=x"),
    ("by profile", "Patient?_profile=http://example.org/x"),
    (
        "by source, without an index",
        "Patient?_source=http://example.org/x",
    ),
    ("by expression", "Patient?_filter=family%20eq%20x"),
    ("in a list", "Patient?_list=x"),
    ("words of the narrative", "Patient?_text=x"),
    ("words of everything", "Patient?_content=x"),
    ("a named query (none is defined)", "Patient?_query=x"),
];

/// R4's parameters that aren't of a simple type (composite, special), for each resource type. Those
/// of `useContext` are on all types that have one.
const COMPOSED: [(&str, &[&str]); 5] = [
    ("DocumentReference", &["relationship"]),
    ("Group", &["characteristic-value"]),
    ("Location", &["near"]),
    (
        "MolecularSequence",
        &[
            "chromosome-variant-coordinate",
            "chromosome-window-coordinate",
            "referenceseqid-variant-coordinate",
            "referenceseqid-window-coordinate",
        ],
    ),
    (
        "Observation",
        &[
            "code-value-concept",
            "code-value-date",
            "code-value-quantity",
            "code-value-string",
            "combo-code-value-concept",
            "combo-code-value-quantity",
            "component-code-value-concept",
            "component-code-value-quantity",
        ],
    ),
];
const USE_CONTEXT: [&str; 2] = ["context-type-quantity", "context-type-value"];

async fn takes(house: &House, search: &str) -> bool {
    let path = format!("/fhir/r4/{search}");
    let answer = house.asked(Method::GET, &path).send().await;
    let status = answer.expect("an answer").status().as_u16();
    assert!(matches!(status, 200 | 400 | 404), "{search}: {status}");
    status == 200
}

fn mark(yes: bool) -> &'static str {
    if yes { "yes" } else { "–" }
}

fn names<'a>(list: &'a Value, member: &str) -> BTreeSet<&'a str> {
    let list = list.as_array().into_iter().flatten();
    list.filter_map(|one| one[member].as_str()).collect()
}

/// What modifiers of codes are about.
async fn keep_codes(house: &House) {
    let set = serde_json::json!({"resourceType": "ValueSet", "status": "active", "url": "http://example.org/ValueSet/x",
        "compose": {"include": [{"system": "http://loinc.org"}]}});
    let system = serde_json::json!({"resourceType": "CodeSystem", "status": "active", "content": "complete",
        "url": "http://loinc.org", "concept": [{"code": "1-8"}]});
    for (kind, value) in [("ValueSet", set), ("CodeSystem", system)] {
        let path = format!("/fhir/r4/{kind}");
        let kept = house.sent(Method::POST, &path, &value).send().await;
        assert_eq!(kept.expect("an answer").status(), 201, "{kind}");
    }
}

async fn page(house: &House) -> String {
    keep_codes(house).await;
    let statement = house.bare(Method::GET, "/fhir/r4/metadata").send().await;
    let statement: Value = statement.expect("an answer").json().await.expect("JSON");
    let rest = &statement["rest"][0];
    let types = rest["resource"].as_array().expect("types");
    let mut out = String::from(INTRODUCTION);
    interactions(rest, types, &mut out);
    retries(house, &mut out).await;
    operations(rest, types, &mut out);
    searches(house, &mut out).await;
    parameters(house, types, &mut out).await;
    out
}

fn interactions(rest: &Value, types: &[Value], out: &mut String) {
    out.push_str("\n## Interactions\n\n| scope | interaction | here | types without it |\n|---|---|---|---|\n");
    let system = names(&rest["interaction"], "code");
    for (scope, name) in INTERACTIONS {
        let lacks: Vec<&str> = types
            .iter()
            .filter(|one| !names(&one["interaction"], "code").contains(name))
            .filter_map(|one| one["type"].as_str())
            .collect();
        let here = system.contains(name) || lacks.len() < types.len();
        let without = if here && scope != "system" {
            lacks.join(", ")
        } else {
            String::new()
        };
        writeln!(out, "| {scope} | {name} | {} | {without} |", mark(here)).expect("text");
    }
    let patient = types
        .iter()
        .find(|one| one["type"] == "Patient")
        .expect("Patient");
    out.push_str("\n| condition | here |\n|---|---|\n");
    for (words, name) in [
        (
            "update creates (`PUT` of an id that isn't there)",
            "updateCreate",
        ),
        ("conditional create (`If-None-Exist`)", "conditionalCreate"),
        (
            "conditional update (`PUT` with criteria)",
            "conditionalUpdate",
        ),
        (
            "conditional delete (`DELETE` with criteria)",
            "conditionalDelete",
        ),
        (
            "conditional read (`If-None-Match`, `If-Modified-Since`)",
            "conditionalRead",
        ),
    ] {
        let value = &patient[name];
        let here = match value {
            Value::Bool(yes) => mark(*yes).to_owned(),
            Value::String(text) if text == "not-supported" => mark(false).to_owned(),
            Value::String(text) => text.clone(),
            _ => mark(false).to_owned(),
        };
        writeln!(out, "| {words} | {here} |").expect("text");
    }
}

/// Whether a request that comes again under its key is carried out once.
async fn retries(house: &House, out: &mut String) {
    let mut places = std::collections::BTreeSet::new();
    for _ in 0..2 {
        let body = serde_json::json!({"resourceType": "Patient", "active": true});
        let request = house.sent(Method::POST, "/fhir/r4/Patient", &body);
        let answer = request.header("idempotency-key", "retries").send().await;
        let answer = answer.expect("an answer");
        places.insert(crate::house::header(&answer, "location").to_owned());
    }
    let here = mark(places.len() == 1);
    let words = "a create, update, patch, delete, batch or transaction that comes again (`Idempotency-Key`) is answered as before";
    writeln!(out, "| {words} | {here} |").expect("text");
}

fn operations(rest: &Value, types: &[Value], out: &mut String) {
    out.push_str("\n## Operations\n\n| type | here | not here |\n|---|---|---|\n");
    let of = |kind: &str| -> BTreeSet<&str> {
        let one = types.iter().find(|one| one["type"] == kind);
        let here = match (kind, one) {
            ("Resource", _) => types.first().map(|one| &one["operation"]),
            ("System", _) => Some(&rest["operation"]),
            (_, one) => one.map(|one| &one["operation"]),
        };
        here.map(|list| names(list, "name")).unwrap_or_default()
    };
    for (kind, list) in OPERATIONS {
        let here = of(kind);
        let shown = |wanted: bool| {
            let list = list.iter().filter(|name| here.contains(*name) == wanted);
            list.map(|name| format!("`${name}`"))
                .collect::<Vec<_>>()
                .join(" ")
        };
        let kind = if kind == "Resource" {
            "every type"
        } else {
            kind
        };
        writeln!(out, "| {kind} | {} | {} |", shown(true), shown(false)).expect("text");
    }
    let r4: BTreeSet<&str> = (OPERATIONS.iter())
        .flat_map(|(_, list)| list.iter().copied())
        .collect();
    let of_types = types.iter().map(|one| &one["operation"]);
    let own: BTreeSet<&str> = (of_types.chain([&rest["operation"]]))
        .flat_map(|list| names(list, "name"))
        .filter(|name| !r4.contains(name))
        .collect();
    out.push_str("\nOf Cairn's own:\n\n| operation | what it does |\n|---|---|\n");
    for name in own {
        let words = OWN_OPERATIONS.iter().find(|(own, _)| *own == name);
        let (_, words) = words.unwrap_or_else(|| panic!("the page says nothing of ${name}"));
        writeln!(out, "| `${name}` | {words} |").expect("text");
    }
}

/// How much a search may ask for; tests of `fhir`, `trust` and `record` hold it to that.
const BOUNDS: &str = "A search has at most 50 parameters, of 200 alternatives each and of 1 MiB in all. One of several types has at most 16 KiB in all, and 20,000 alternatives, counted for each type; chained parameters and `_has` together as much, counted for each type that they can lead to. `_text` and `_content` have 20 words together, and are looked for in 10,000 resources at most, however long these are. Value sets and code systems mean 100,000 codes together at most. What is more is refused as `too-long` or `too-costly`.";

async fn searches(house: &House, out: &mut String) {
    out.push_str("\n## Searches\n\n");
    out.push_str(BOUNDS);
    out.push_str(
        "\n\n| type of parameter | modifiers | not here | prefixes |\n|---|---|---|---|\n",
    );
    for (kind, resource, name, value) in PARAMETERS {
        assert!(
            takes(house, &format!("{resource}?{name}={value}")).await,
            "{name}"
        );
        let (mut here, mut not) = (Vec::new(), Vec::new());
        for (modifier, other) in MODIFIERS {
            let value = if other.is_empty() { value } else { other };
            // A type as modifier is for references.
            if !applies(kind, modifier) {
                continue;
            }
            // Types are of identifiers.
            let name = if modifier == "of-type" {
                "identifier"
            } else {
                name
            };
            let search = format!("{resource}?{name}:{modifier}={value}");
            let shown = if modifier == "Patient" {
                "`:[type]`".to_owned()
            } else {
                format!("`:{modifier}`")
            };
            if takes(house, &search).await {
                here.push(shown);
            } else {
                not.push(shown);
            }
        }
        let mut prefixes = Vec::new();
        if matches!(kind, "date" | "number" | "quantity") {
            for prefix in PREFIXES {
                if takes(house, &format!("{resource}?{name}={prefix}{value}")).await {
                    prefixes.push(prefix);
                }
            }
        }
        writeln!(
            out,
            "| {kind} | {} | {} | {} |",
            here.join(" "),
            not.join(" "),
            prefixes.join(" ")
        )
        .expect("text");
    }
    out.push_str("\n| asked for | example | here |\n|---|---|---|\n");
    for (words, example) in CONTROLS {
        let here = takes(house, example).await;
        writeln!(out, "| {words} | `{example}` | {} |", mark(here)).expect("text");
    }
}

/// Which modifiers R4 has for which type of parameter.
fn applies(kind: &str, modifier: &str) -> bool {
    match modifier {
        "missing" => true,
        "exact" | "contains" => kind == "string",
        "text" => matches!(kind, "token" | "reference"),
        "not" | "in" | "not-in" | "of-type" => kind == "token",
        "above" | "below" => matches!(kind, "token" | "uri" | "reference"),
        _ => kind == "reference",
    }
}

async fn parameters(house: &House, types: &[Value], out: &mut String) {
    out.push_str("\n## Search parameters of each type\n\nEvery type also has ");
    let mut common: Option<BTreeSet<&str>> = None;
    for one in types {
        let own = names(&one["searchParam"], "name");
        common = Some(match common {
            None => own,
            Some(common) => common.intersection(&own).copied().collect(),
        });
    }
    let common = common.unwrap_or_default();
    let listed: Vec<String> = common.iter().map(|name| format!("`{name}`")).collect();
    writeln!(
        out,
        "{}.\n\n| type | parameters | not here |\n|---|---|---|",
        listed.join(", ")
    )
    .expect("text");
    for one in types {
        let kind = one["type"].as_str().expect("a type");
        let own = names(&one["searchParam"], "name");
        let mut composed: Vec<&str> = COMPOSED
            .iter()
            .filter(|(of, _)| *of == kind)
            .flat_map(|(_, names)| names.iter().copied())
            .collect();
        if own.contains("context-type") {
            composed.extend(USE_CONTEXT);
        }
        let mut missing = Vec::new();
        for name in composed {
            let has = own.contains(name) || takes(house, &format!("{kind}?{name}=1$2")).await;
            if !has {
                missing.push(name);
            }
        }
        let own: Vec<&str> = own.difference(&common).copied().collect();
        writeln!(
            out,
            "| {kind} | {} | {} |",
            own.join(", "),
            missing.join(", ")
        )
        .expect("text");
    }
}

const INTRODUCTION: &str = "# FHIR R4 here\n
What the server does of FHIR R4, as it answers itself: a test asks a running server for everything on this page and fails where the page says something else. `WRITE_DOCS=1 cargo nextest run -p cairn conformance` writes it anew. `–` is what is not here; asking for it is an error that says so, never an answer as if it hadn't been asked.

JSON and XML, both ways, by `Accept`, `Content-Type` or `_format`; `_pretty=true` lays either out for people. Parts of a resource by `_summary` and `_elements` on reads, searches, histories, `$everything` and `$lastn`; each says `SUBSETTED`, and is refused when it comes back as a write.

| `Prefer` | where |
|---|---|
| `return=minimal`, `return=representation`, `return=OperationOutcome` | create, update, patch, delete, conditional create; entries of batches and transactions |
| `handling=strict` (the default), `handling=lenient` | searches, histories, `$everything`, `$lastn`: whether a parameter that isn't known is refused, or passed over and, in a search, named in the answer |

An `active` `SearchParameter` is searched by from the moment it is written, and stands in the `CapabilityStatement`: types token, string, date, reference, uri, number and quantity, with an expression of paths (`decisions/0040-own-search-parameters.md`). It takes the action `index`, and other systems ask for it for operations (`X-Purpose-Of-Use: HOPERAT`). An active one that can't be searched by is refused with what is wrong; keep it as `draft`. One that repeats a parameter that R4 has for the type (as implementation guides do) is taken, and R4's answers; one that means something else by R4's code is refused (`decisions/0042-own-parameters-everywhere.md`). It can stand wherever R4's can, save in composite parameters; chains from a reference need its `target`, or a type (`mine:Patient.name`). Not on Citus.

`_list` takes the id of a `List`, or with one patient (`patient=ID`, or in the patient's compartment) `$current-problems`, `$current-medications` or `$current-allergies`: what stands in the patient's `List`s of that code that are `current` and `working`. Where there is no such list that may be seen, that is said instead of an empty answer. `_filter` takes chains, also within `or` and `not`, and filters within a path (`subject[active eq true].name co \"x\"`).

Each request but `metadata`, `.well-known/smart-configuration` and `.well-known/openid-configuration` carries an access token: one of `cairn client create`, or one that a registered system gets at `/oauth/token` (SMART Backend Services: `client_credentials`, `private_key_jwt` with RS384 or ES384, or the certificate of the connection, `decisions/0072-mutual-tls-and-keys-that-change.md`), or one of an application that a person let in at `/oauth/authorize` (SMART App Launch: `authorization_code` with PKCE S256, standalone and from a patient's page, `refresh_token`, revocation, introspection; OpenID Connect with `openid`, `fhirUser` and `profile`; answers to pages of the origins of its redirect addresses, CORS; `decisions/0048-apps-that-people-launch.md`, `decisions/0066-who-a-person-is-for-apps.md`). Such a token acts as the person, for the purpose of use of the person's role. A system asks with `X-Purpose-Of-Use` (`TREAT` if it doesn't) for what it is registered for, and is refused otherwise with words that say what that is; no system can ask for `ETREAT` (`decisions/0071-registered-purposes.md`). Scopes of SMART App Launch 2.2, version 2 with search parameters and version 1, narrow what such a token lets be done, on every row and whichever way it is asked for (`decisions/0044-smart-scopes-and-systems.md`). `r` reads, also versions and the history of a resource; `s` finds; both include, export, and look at the history of a type or of everything; `u` and `d` take `r` as well, and criteria take `s`. Parameters of a scope are the type's own, without chains, value sets and words, and `_id`, `_profile`, `_security`, `_tag`. `_security`, there and in searches, goes by the labels that are stored. What a row is by its codes is told beside these in `meta.security` of every answer, marked by DS4P's extension `extension-sec-label-classifier`; it is found by no search, is stored by no write that brings it back, and a patch doesn't see it. A bundle has in `Bundle.meta.security` how confidential the most confidential of its entries is, if that is more than `N` (`decisions/0074-labels-and-reasons-that-are-told.md`).

A `Subscription` notifies by rest-hook of what is written and matches, to places that the configuration names (`subscriptions.md`). It is written by requests of its own alone: not in a transaction, by a patch, by criteria or in an import.

What is written is checked against R4's tables of elements as a whole (`decisions/0031-validation.md`); `fhir.validation` says whether that refuses or warns.
";

#[tokio::test]
#[allow(
    clippy::disallowed_methods,
    reason = "whoever develops this says so that the page is to be written"
)]
async fn conformance_is_as_the_page_says() {
    let house = house().await;
    let page = page(&house).await;
    house.end().await;
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/fhir.md");
    if std::env::var_os("WRITE_DOCS").is_some() {
        std::fs::write(&file, &page).expect("the page can be written");
    }
    let there = std::fs::read_to_string(&file).unwrap_or_default();
    for (place, (there, here)) in there.lines().zip(page.lines()).enumerate() {
        assert_eq!(there, here, "docs/fhir.md, line {}", place + 1);
    }
    assert_eq!(
        there, page,
        "docs/fhir.md is another length than what the server does"
    );
}

//! Lists never lie: a search gives exactly what a row-by-row check of everything would give.
use std::collections::BTreeMap;

use ledger::{Number, Query};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};

use super::playing::{Plays, play_all};
use super::*;
use crate::consent::{Access, Asked, Reach, Related, Row, Rules, care_messages};
use crate::tokens;

/// One write: which resource, in which variant, or its deletion; and how long after the last one.
#[derive(Debug, Clone)]
pub(super) struct Write {
    kind: ResourceType,
    /// Which of a few resources of the kind.
    which: u8,
    patient: u8,
    variant: u8,
    delete: bool,
    after_ms: u64,
}

#[derive(Debug, Clone)]
struct Ask {
    kind: ResourceType,
    clauses: Vec<(&'static str, String)>,
    count: usize,
    total: bool,
    who: u8,
    only: Option<u8>,
}

pub(super) const KINDS: [ResourceType; 8] = [
    ResourceType::Patient,
    ResourceType::Observation,
    ResourceType::Condition,
    ResourceType::Encounter,
    ResourceType::Task,
    ResourceType::Consent,
    ResourceType::Organization,
    ResourceType::Claim,
];
const DATES: [&str; 9] = [
    "2026-06-01",
    "2026-06-01T10:00:00Z",
    "2026-06-01T23:30:00-05:00",
    "2026-06",
    "2026",
    "2025-12-31T23:59:59.999Z",
    "2026-01-01",
    "1650-01-01",
    "2300",
];
const BIRTH_DATES: [&str; 3] = ["1950-02-03", "1950", "1990-06"];
const NAMES: [&str; 6] = [
    "Berg",
    "Bergström-Andersson",
    "Ōe",
    "O'Neil",
    "van der Berg",
    "B",
];
/// Categories of observations; scopes are narrowed by them.
pub(super) const CATEGORIES: [&str; 3] = ["laboratory", "vital-signs", "survey"];
const CODES: [&str; 4] = ["29463-7", "8480-6", "29463", "A|B"];

fn date(variant: u8) -> &'static str {
    DATES[usize::from(variant) % DATES.len()]
}

fn name(variant: u8) -> &'static str {
    NAMES[usize::from(variant) % NAMES.len()]
}

fn quantity(value: u8, unit: &str) -> Value {
    json!({"value": value, "system": "http://unitsofmeasure.org", "code": unit})
}

fn coding(variant: u8) -> Value {
    let code = CODES[usize::from(variant) % CODES.len()];
    match variant % 3 {
        0 => json!({"coding": [{"system": "http://loinc.org", "code": code}]}),
        1 => json!({"coding": [{"code": code}, {"system": "urn:x", "code": "y"}]}),
        _ => json!({"coding": [{"system": "http://loinc.org"}], "text": "some words"}),
    }
}

/// A resource of a write. Most of what is a patient's is marked as ordinary.
fn resource(write: &Write) -> Value {
    let mut value = unmarked(write);
    let is_marked = !matches!(
        write.kind,
        ResourceType::Patient | ResourceType::Organization | ResourceType::Consent
    );
    if is_marked && write.variant % 4 < 3 {
        let ordinary = json!({"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "N"});
        let security = &mut value["meta"]["security"];
        match security.as_array_mut() {
            Some(others) => others.push(ordinary),
            None => *security = json!([ordinary]),
        }
    }
    value
}

/// The same without that mark; `patient` decides whose it is, except of an organisation.
fn unmarked(write: &Write) -> Value {
    let Write {
        which,
        patient,
        variant,
        ..
    } = write;
    let subject = json!({"reference": format!("Patient/p{patient}")});
    let id = id_of(write);
    match write.kind {
        ResourceType::Patient => json!({
            "resourceType": "Patient", "id": id,
            "name": [{"family": name(*variant), "given": [name(variant / 2)]}],
            "birthDate": BIRTH_DATES[usize::from(variant % 3)],
            "identifier": [{"system": "urn:mrn", "value": format!("m{variant}"),
                "type": {"coding": [{"system": "urn:t", "code": if variant % 4 == 1 { "SB" } else { "MR" }}]}}],
            "meta": {"profile": [format!("http://acme.org/fhir/p/{}", variant % 3)]},
            "gender": "female",
            "managingOrganization": {"reference": format!("Organization/org{}", variant % 3)},
        }),
        ResourceType::Observation => {
            let mut value = json!({
                "resourceType": "Observation", "id": id,
                "status": if variant % 2 == 0 { "final" } else { "preliminary" },
                "code": coding(*variant), "subject": subject,
                "encounter": {"reference": format!("Encounter/encounter-{patient}-{}", variant % 3)},
            });
            if variant % 5 != 0 {
                value["effectiveDateTime"] = date(*variant).into();
            }
            if variant % 4 != 1 {
                let code = CATEGORIES[usize::from(variant % 3)];
                value["category"] = json!([{"coding": [{"code": code}]}]);
            }
            if variant % 7 == 3 {
                value["meta"] = json!({"security": security(*variant)});
            }
            if variant % 3 != 0 {
                value["valueQuantity"] = quantity(*variant, "kg");
            }
            if variant % 4 != 0 {
                let component = |variant: u8| json!({"code": coding(variant), "valueQuantity": quantity(variant % 5, "g")});
                value["component"] = json!([component(*variant), component(variant + 1)]);
            }
            value
        }
        ResourceType::Condition => json!({
            "resourceType": "Condition", "id": id, "subject": subject, "code": coding(*variant),
            "onsetPeriod": {"start": date(*variant), "end": date(*variant)},
        }),
        ResourceType::Encounter => {
            let mut period = json!({});
            if variant % 3 != 0 {
                period["start"] = "2026-05-30T08:00:00Z".into();
            }
            if variant % 4 != 0 {
                period["end"] = "2026-06-02".into();
            }
            let mut stay = json!({
                "resourceType": "Encounter", "id": id, "subject": subject,
                "status": "finished", "class": {"code": "IMP"},
                "serviceProvider": {"reference": format!("Organization/org{}", variant % 3)},
            });
            // FHIR has no empty objects.
            if period != json!({}) {
                stay["period"] = period;
            }
            stay
        }
        ResourceType::Task => json!({
            "resourceType": "Task", "id": id, "for": subject, "intent": "order",
            "status": if variant % 2 == 0 { "requested" } else { "completed" },
            "authoredOn": date(*variant),
        }),
        ResourceType::Consent => {
            if variant % 3 == 0 {
                let mut consent = care_messages(&format!("p{patient}"), variant % 2 == 0, NOW_MS);
                consent.set_id(&id);
                return consent.into_value();
            }
            json!({
                "resourceType": "Consent", "id": id, "patient": subject,
                "status": if variant % 4 == 0 { "inactive" } else { "active" },
                "dateTime": date(variant / 2),
                "scope": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]},
                "provision": provision(*patient, *variant),
            })
        }
        ResourceType::Claim => json!({
            "resourceType": "Claim", "id": id, "patient": subject, "status": "active", "use": "claim",
        }),
        _ => json!({"resourceType": "Organization", "id": id, "name": name(which + variant),
            "partOf": {"reference": format!("Organization/org{}", variant % 3)}}),
    }
}

/// Labels of records of a part 2 programme, of counselling notes, or both; or a mark that some packs seal.
fn security(variant: u8) -> Value {
    let label = |code: &str| json!({"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": code});
    let mark = |code: &str| json!({"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": code});
    match variant % 5 {
        0 => json!([label("42CFRPart2")]),
        1 => json!([label("PSYTHPN")]),
        2 => json!([label("42CFRPart2"), label("PSYTHPN")]),
        3 => json!([mark("R")]),
        _ => json!([mark("V")]),
    }
}

/// What a consent says: of everything, or of parts that these resources have or haven't.
fn provision(patient: u8, variant: u8) -> Value {
    let (kind, other) = match variant % 2 {
        0 => ("permit", "deny"),
        _ => ("deny", "permit"),
    };
    let code = json!([{"coding": [{"system": "http://loinc.org", "code": CODES[usize::from(variant) % CODES.len()]}]}]);
    let about = match variant % 11 {
        0 => json!({"class": [{"code": "Observation"}, {"code": "Task"}]}),
        1 => json!({"code": code}),
        2 => json!({"dataPeriod": {"start": "2026-06", "end": "2026-06-15"}}),
        3 => {
            let encounter = format!("Encounter/encounter-{patient}-{}", variant % 3);
            json!({"data": [{"meaning": "related", "reference": {"reference": encounter}}]})
        }
        4 => json!({"actor": [{"reference": {"reference": "Practitioner/x"}}]}),
        5 if (variant / 11).is_multiple_of(2) => json!({"purpose": [Purpose::Operations.coding()]}),
        5 => json!({"purpose": [foo_bar().coding()]}),
        6 => json!({"code": code, "class": [{"code": "Condition"}]}),
        7 => json!({"securityLabel": security(variant)}),
        _ => json!({}),
    };
    let with = |kind: &str, about: &Value| {
        let mut provision = about.clone();
        provision["type"] = kind.into();
        provision
    };
    match variant / 3 % 3 {
        // In parts.
        0 => with(kind, &about),
        1 => json!({"type": kind, "provision": [with(other, &about)]}),
        _ => json!({"type": kind}),
    }
}

/// Resources stay with their patient: the id says whose it is.
fn id_of(write: &Write) -> String {
    match write.kind {
        ResourceType::Patient => format!("p{}", write.patient),
        ResourceType::Organization => format!("org{}", write.which % 3),
        kind => format!(
            "{}-{}-{}",
            kind.name().to_lowercase(),
            write.patient,
            write.which % 3
        ),
    }
}

pub(super) fn writes() -> impl Strategy<Value = Vec<Write>> {
    let write = (
        proptest::sample::select(KINDS.to_vec()),
        0..3u8,
        0..3u8,
        0..40u8,
        proptest::bool::weighted(0.12),
        0..3u64,
    )
        .prop_map(|(kind, which, patient, variant, delete, after)| Write {
            kind,
            which,
            patient,
            variant,
            delete,
            after_ms: after * 500,
        });
    proptest::collection::vec(write, 1..40)
}

/// What is written after others: consents above all, and no deletions.
pub(super) fn more_writes() -> impl Strategy<Value = Vec<Write>> {
    let kind = prop_oneof![
        2 => Just(ResourceType::Consent),
        1 => proptest::sample::select(KINDS.to_vec()),
    ];
    let write = (kind, 0..3u8, 0..3u8, 0..40u8).prop_map(|(kind, which, patient, variant)| Write {
        kind,
        which,
        patient,
        variant,
        delete: false,
        after_ms: 500,
    });
    proptest::collection::vec(write, 0..8)
}

fn dates() -> impl Strategy<Value = String> {
    let prefix = proptest::sample::select(vec![
        "", "eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap",
    ]);
    (prefix, proptest::sample::select(DATES.to_vec()))
        .prop_map(|(prefix, date)| format!("{prefix}{date}"))
}

fn instants() -> impl Strategy<Value = String> {
    let prefix = proptest::sample::select(vec!["", "eq", "ne", "gt", "lt", "ge", "le", "sa", "eb"]);
    (prefix, 0..20_000u64).prop_map(|(prefix, after_ms)| {
        format!(
            "{prefix}{}",
            fhir::date::instant(NOW_MS + after_ms / 500 * 500)
        )
    })
}

fn one_of(values: &[&str]) -> BoxedStrategy<String> {
    proptest::sample::select(
        values
            .iter()
            .map(|value| (*value).to_owned())
            .collect::<Vec<_>>(),
    )
    .boxed()
}

pub(super) fn clause(kind: ResourceType) -> BoxedStrategy<(&'static str, String)> {
    let codes = || {
        one_of(&[
            "29463-7",
            "http://loinc.org|29463-7",
            "|29463-7",
            "http://loinc.org|",
            "y",
            "A\\|B",
            "http://loinc.org|A\\|B",
            "8480-6,29463",
            "|y,urn:x|y",
            "nothing",
        ])
    };
    let whose = || one_of(&["p0", "Patient/p1", "p0,p2", "p9"]);
    let on = |name: &'static str, values: BoxedStrategy<String>| {
        values.prop_map(move |value| (name, value)).boxed()
    };
    let statuses = || {
        one_of(&[
            "final",
            "preliminary",
            "requested",
            "completed",
            "final,requested",
        ])
    };
    let truth = || one_of(&["true", "false"]);
    let names = || {
        one_of(&[
            "b",
            "berg",
            "BERGSTRÖM",
            "bergstrom-and",
            "bergstrom-andersson",
            "oe",
            "x",
            "o,van",
        ])
    };
    let specific = match kind {
        ResourceType::Patient => vec![
            on("name", names()),
            on(
                "family:exact",
                one_of(&["Berg", "berg", "Bergström-Andersson", "van der Berg"]),
            ),
            on("name:contains", one_of(&["er", "strom", "z"])),
            on("birthdate", dates().boxed()),
            on(
                "birthdate",
                one_of(&["1950-02-03", "ge1950", "lt1950-02", "eb1960"]),
            ),
            on(
                "identifier",
                one_of(&["urn:mrn|m1", "m2", "urn:mrn|", "urn:mrn|m1,urn:mrn|m4"]),
            ),
            on("gender:not", one_of(&["male", "female"])),
            on(
                "identifier:of-type",
                one_of(&["urn:t|MR|m1", "urn:t|MR|m2", "urn:t|SB|m1"]),
            ),
            on(
                "_profile:above",
                one_of(&["http://acme.org/fhir/p/0", "http://acme.org/fhir/p/1/x"]),
            ),
            on(
                "_profile:below",
                one_of(&["http://acme.org/fhir", "http://acme.org/fhir/p/1/"]),
            ),
            on(
                "_filter",
                one_of(&[
                    "family eq \"van der berg\" or name sw oe",
                    "name co er and not(birthdate gt 1960)",
                    "birthdate po 1950-02 or identifier eq urn:mrn|m1",
                    "name ew berg and gender eq female and _lastUpdated ge 2026",
                    "given ne b or _profile sb http://acme.org/fhir/p/1",
                ]),
            ),
            on("_content", one_of(&["berg", "van der", "m1,m2", "nothing"])),
        ],
        ResourceType::Observation => vec![
            on("code", codes()),
            on("code:not", codes()),
            on("code:text", one_of(&["some", "words", "SOME WORDS"])),
            on("code:missing", truth()),
            on("date", dates().boxed()),
            on("date:missing", truth()),
            on("status", statuses()),
            on("status:not", statuses()),
            on("patient", whose()),
            on("subject", whose()),
            on(
                "code-value-quantity",
                one_of(&[
                    "29463-7$gt20",
                    "http://loinc.org|29463-7$lt20",
                    "y$ap20||kg,8480-6$12",
                ]),
            ),
            on(
                "component-code-value-quantity",
                one_of(&["29463-7$gt2", "8480-6$lt3,29463-7$1", "A\\|B$ge0"]),
            ),
            on(
                "combo-code-value-quantity",
                one_of(&["29463-7$gt2", "8480-6$12000||g", "y$le20"]),
            ),
            on("combo-code-value-quantity:missing", truth()),
            on(
                "_filter",
                one_of(&[
                    "code eq 29463-7 and (status eq final or date lt 2026)",
                    "not(code eq y) and patient re Patient/p1",
                    "code eq y or code eq 8480-6 or date ap 2026-06",
                    "(patient eq p0 or patient eq p2) and status ne final",
                    "code pr true and value-quantity gt 15",
                    "date po 2026-06-01 or subject eq Patient/p0",
                ]),
            ),
        ],
        ResourceType::Condition => vec![
            on("code", codes()),
            on("onset-date", dates().boxed()),
            on("patient", whose()),
        ],
        ResourceType::Encounter => vec![
            on("date", dates().boxed()),
            on("class", one_of(&["IMP", "AMB"])),
            on("service-provider", one_of(&["org0", "Organization/org1"])),
            on("patient", whose()),
        ],
        ResourceType::Task => vec![
            on("status", statuses()),
            on("authored-on", dates().boxed()),
            on("patient", whose()),
        ],
        ResourceType::Consent => vec![
            on("status:not", one_of(&["active", "inactive"])),
            on(
                "category",
                one_of(&["urn:cairn:consent-category|care-messages", "care-messages"]),
            ),
            on("patient", whose()),
        ],
        ResourceType::Organization => vec![on("name", names()), on("name:missing", truth())],
        _ => vec![on("patient", whose())],
    };
    let common = vec![
        on(
            "_id",
            one_of(&[
                "p0",
                "p1,p2",
                "observation-0-1",
                "org1",
                "task-1-1",
                "nothing",
            ]),
        ),
        on("_lastUpdated", instants().boxed()),
    ];
    proptest::strategy::Union::new(specific.into_iter().chain(common)).boxed()
}

fn asks() -> impl Strategy<Value = Vec<Ask>> {
    let ask = proptest::sample::select(KINDS.to_vec()).prop_flat_map(|kind| {
        (
            proptest::collection::vec(clause(kind), 0..3),
            1..6usize,
            any::<bool>(),
            0..6u8,
            proptest::option::weighted(0.3, 0..3u8),
        )
            .prop_map(move |(clauses, count, total, who, only)| Ask {
                kind,
                clauses,
                count,
                total,
                who,
                only,
            })
    });
    proptest::collection::vec(ask, 1..40)
}

/// What is live, by type and id: number and content.
pub(super) type Model = BTreeMap<(ResourceType, String), (Number, Resource)>;

/// Writes more of a world that has been played.
pub(super) async fn play_more(
    house: &House,
    tenant: TenantId,
    model: &mut Model,
    writes: &[Write],
) {
    for write in writes {
        house.care.advance(write.after_ms);
        let value = resource(write);
        let at = house.put_for(tenant, [value.clone()]).await;
        let row = Resource::from_value(value).unwrap();
        model.insert((write.kind, id_of(write)), (at[0].number, row));
    }
}

pub(super) async fn play(house: &House, tenant: TenantId, writes: &[Write]) -> Model {
    let permit = house.importer(tenant).await;
    let mut model = Model::new();
    let mut versions: BTreeMap<(ResourceType, String), u32> = BTreeMap::new();
    for write in writes {
        house.care.advance(write.after_ms);
        let key = (write.kind, id_of(write));
        let resource = Resource::from_value(resource(write)).unwrap();
        let version = versions.get(&key).copied();
        let change = match (version, write.delete) {
            (Some(_), true) if !model.contains_key(&key) => continue,
            (None, true) => continue,
            (Some(version), true) => Change::Delete {
                kind: write.kind,
                id: key.1.clone(),
                expected: Expected::Version(version),
                owner: Vault::owner(&resource),
            },
            (version, false) => Change::Put {
                resource: resource.clone(),
                expected: version.map_or(Expected::Absent, Expected::Version),
            },
        };
        let permit = if write.delete {
            // Only clients delete.
            let client = Agent {
                tenant,
                ..staff(Role::Client)
            };
            house
                .permit(&client, Purpose::Treatment, Action::Delete)
                .await
                .unwrap()
        } else {
            permit.clone()
        };
        let unit = Unit {
            changes: vec![change],
            ..Unit::default()
        };
        let receipt = house.vault().commit(&permit, unit).await.unwrap();
        versions.insert(key.clone(), receipt.changes[0].version);
        if write.delete {
            model.remove(&key);
        } else {
            model.insert(key, (receipt.changes[0].at.number, resource));
        }
    }
    model
}

pub(super) async fn permit_of(
    house: &House,
    tenant: TenantId,
    who: u8,
    only: Option<u8>,
) -> Permit {
    let (agent, purpose) = match who {
        0 => (staff(Role::Clinician), Purpose::Treatment),
        1 => (staff(Role::Coordinator), Purpose::CareManagement),
        2 => (staff(Role::Client), Purpose::Treatment),
        3 => (staff(Role::PrivacyOfficer), Purpose::Operations),
        4 => (patient("p0"), Purpose::PatientRequest),
        _ => (patient("p1"), Purpose::PatientRequest),
    };
    let agent = Agent { tenant, ..agent };
    let only = only
        .filter(|_| agent.patient.is_none())
        .map(|only| format!("p{only}"));
    let target = Target {
        kind: None,
        patient: only,
    };
    house
        .trust
        .decide(&agent, purpose, Action::Search, target, "r")
        .await
        .unwrap()
}

/// The rows that a check of every row gives.
fn naive(model: &Model, permit: &Permit, query: &SearchQuery, now_ms: i64) -> Vec<String> {
    let mut rows: Vec<(Number, String)> = visible(model, permit, query.kind, now_ms)
        .filter(|(number, one)| query.matches(one) && tokens::last_updated_matches(query, *number))
        .map(|(number, one)| (number, one.id().unwrap().to_owned()))
        .collect();
    rows.sort_unstable();
    rows.reverse();
    rows.into_iter().map(|(_, id)| id).collect()
}

/// The rows of a type that a permit lets see, one by one.
pub(super) fn visible<'a>(
    model: &'a Model,
    permit: &'a Permit,
    kind: ResourceType,
    now_ms: i64,
) -> impl Iterator<Item = (Number, &'a Resource)> + 'a {
    let reach = match kind {
        ResourceType::Observation
        | ResourceType::Condition
        | ResourceType::Encounter
        | ResourceType::Claim => Some(Reach::Whole),
        ResourceType::Task => Some(Reach::Particular),
        _ => None,
    };
    let rules = Rules::load(Rules::DEFAULT).unwrap();
    let asked = Asked {
        role: permit.agent().role,
        purpose: permit.purpose(),
        now_ms,
        known_as: Vec::new(),
    };
    let of_patient = |patient: &str| -> Vec<Resource> {
        let of_patient =
            |one: &Resource| one.kind() == ResourceType::Consent && one.patient() == Some(patient);
        let mut consents = Vec::new();
        for (number, one) in model.values().filter(|(_, one)| of_patient(one)) {
            let mut one = one.clone();
            // As the store tells it; no version of these is withdrawn by a change.
            one.set_meta(1, number.unix_ms());
            consents.push(one);
        }
        consents
    };
    let access: BTreeMap<&str, Access> = ["p0", "p1", "p2"]
        .into_iter()
        .map(|patient| {
            let consents = of_patient(patient);
            let related = related(model, &consents);
            (patient, Access::of(&consents, &related))
        })
        .collect();
    let hides = move |number: Number, one: &Resource| {
        let Some((reach, patient)) = reach.zip(one.patient()) else {
            return false;
        };
        let mut one = one.clone();
        one.set_meta(1, number.unix_ms());
        let row = Row::new(&rules.tables, &one);
        !access[patient]
            .decide(&rules, &asked, &row, reach)
            .permitted
    };
    let of_kind = model.values().filter(move |(_, one)| one.kind() == kind);
    of_kind
        .filter(move |(number, one)| {
            let own = match (permit.only_patient(), one.patient()) {
                (None, _) => true,
                (Some(only), Some(patient)) => only == patient,
                (Some(_), None) => one.kind() == ResourceType::Organization,
            };
            own && !hides(*number, one)
        })
        .map(|(number, one)| (*number, one))
}

/// What the instances that consents call related refer to.
fn related(model: &Model, consents: &[Resource]) -> Related {
    let mut related = Related::new();
    for reference in consents.iter().flat_map(crate::consent::related_of) {
        let found = model.values().find(|(_, one)| {
            one.reference()
                .is_some_and(|own| own.to_string() == reference)
        });
        if let Some((_, one)) = found {
            let mut refers_to = Vec::new();
            one.each_reference(&mut |text| refers_to.push(text.to_owned()));
            related.insert(reference, refers_to.into());
        }
    }
    related
}

async fn check(
    house: &House,
    tenant: TenantId,
    model: &Model,
    ask: &Ask,
) -> Result<(), TestCaseError> {
    let mut parameters: Vec<(String, String)> = ask
        .clauses
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()))
        .collect();
    parameters.push(("_count".to_owned(), ask.count.to_string()));
    if ask.total {
        parameters.push(("_total".to_owned(), "accurate".to_owned()));
    }
    let mut query = SearchQuery::parse(ask.kind, &parameters, false).unwrap();
    query.at(i64::try_from(NOW_MS).unwrap());
    let permit = permit_of(house, tenant, ask.who, ask.only).await;
    let vault = house.vault();
    if !permit.allows(Action::Search, ask.kind) {
        let refused = vault.search(&permit, &query, None).await;
        prop_assert!(matches!(refused, Err(TrustError::Refused(_))));
        return Ok(());
    }
    let now_ms = i64::try_from(house.now_ms()).unwrap();
    let expected = naive(model, &permit, &query, now_ms);
    let mut found = Vec::new();
    let mut before = None;
    loop {
        let page = vault.search(&permit, &query, before).await.unwrap();
        texts_are_the_rows(vault, (&permit, &query), before, &page).await;
        prop_assert!(page.rows.len() <= ask.count);
        prop_assert_eq!(page.total, ask.total.then_some(expected.len()));
        found.extend(
            page.rows
                .iter()
                .map(|row| row.resource.id().unwrap().to_owned()),
        );
        prop_assert!(page.next.is_none() || page.rows.len() == ask.count);
        prop_assert_eq!(page.next.is_none(), found.len() == expected.len());
        match page.next {
            Some(next) => before = Some(next),
            None => break,
        }
    }
    prop_assert_eq!(&found, &expected);
    // Reading by id shows a row if and only if an unfiltered list does.
    for ((kind, id), _) in model.iter().filter(|((kind, _), _)| *kind == ask.kind) {
        let open =
            SearchQuery::parse(*kind, &[("_count".to_owned(), "1000".to_owned())], false).unwrap();
        let listed = naive(model, &permit, &open, now_ms).contains(id);
        let read = vault.read(&permit, *kind, id).await.unwrap().is_some();
        prop_assert_eq!(read, listed, "{}/{}", kind, id);
    }
    Ok(())
}

// Proves: 45 CFR 164.312(a)(1)
#[test]
fn a_search_equals_a_row_by_row_check() {
    let plays = Plays {
        first_tenant: 100,
        cases: 48,
        seed: 20_260_615,
    };
    play_all(
        &plays,
        asks(),
        &async |house: &House, tenant, model: &Model, ask: &Ask| {
            check(house, tenant, model, ask).await.map(|()| 0)
        },
    );
}

fn write() -> impl Strategy<Value = Write> {
    (
        proptest::sample::select(KINDS.to_vec()),
        0..3u8,
        0..3u8,
        0..90u8,
    )
        .prop_map(|(kind, which, patient, variant)| Write {
            kind,
            which,
            patient,
            variant,
            delete: false,
            after_ms: 0,
        })
}

/// Whether a blind query holds for a resource with these tokens.
pub(super) fn holds(query: &Query, resource: &Resource, found_by: &[ledger::Token]) -> bool {
    let holds = |query: &Query| holds(query, resource, found_by);
    match query {
        Query::Token(token) => found_by.contains(token),
        Query::Document(kind, id) => {
            *kind == tokens::kind(resource.kind()) && Some(id.as_str()) == resource.id()
        }
        Query::And(parts) => parts.iter().all(holds),
        Query::Or(parts) => parts.iter().any(holds),
        Query::Without(with, without) => holds(with) && !holds(without),
        Query::Below(..) => panic!("all documents have all tokens"),
        Query::Maybe(query) => holds(query),
    }
}

/// A match that tokens don't find would be lost; so this is tried far more often than whole searches.
#[test]
fn tokens_hold_for_every_match() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let house = runtime.block_on(House::new());
    let ledger = house.ledger();
    let cases = write().prop_flat_map(|write| {
        let clauses = proptest::collection::vec(clause(write.kind), 1..3);
        (Just(write), clauses)
    });
    let matched = std::cell::Cell::new(0);
    let mut runner = TestRunner::new(Config {
        cases: 8000,
        rng_seed: RngSeed::Fixed(20_260_615),
        failure_persistence: None,
        ..Config::default()
    });
    let result = runner.run(&cases, |(write, clauses)| {
        let resource = Resource::from_value(resource(&write)).unwrap();
        let clauses: Vec<(&str, &str)> = clauses
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let query = query(write.kind, &clauses);
        let mut found_by = tokens::of(ledger, TENANT, &resource);
        found_by.push(ledger.kind_token(TENANT, tokens::kind(write.kind)));
        if query.matches(&resource) {
            matched.set(matched.get() + 1);
            let plan = tokens::plan(ledger, TENANT, &query, resource.patient());
            prop_assert!(holds(&plan.query, &resource, &found_by), "{:?}", clauses);
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    assert!(matched.get() > 2000, "too few matches: {}", matched.get());
}

//! Random data and random searches, against a check of every resource by other code: the same rows in the
//! same order, the same total, the same inclusions. In a folder and in PostgreSQL, while others write.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use fhir::ResourceType as T;
use fhir::search::{Compartment, Scope};
use ledger::{
    Ledger, Location, ManualClock, OpenOptions, Postgres, RootKey, SystemEntropy, TenantId,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use record::{Caller, Preconditions, Record};
use serde_json::{Value, json};
use trust::{Action, Agent, IndexStep, Purpose, Target, Trust, TrustOptions};

use crate::cluster::Cluster;
use crate::house::{NOW_MS, client, json_of, kind_of, link, pairs};
use crate::random_data::{CODES, STATUSES, Write, body, coding, definitions, id_of, pick, writes};

/// A comparison of a filter.
#[derive(Debug, Clone)]
enum Tree {
    Code(&'static str),
    OtherCode(&'static str),
    HasCode(bool),
    Status(&'static str),
    Of(u8),
    Begins(&'static str),
    Ends(&'static str),
    In(&'static str),
    Called(&'static str),
    About(u8),
    Stage(&'static str),
    AboutCalled(&'static str),
    /// Of one patient: their name, and the organisation that keeps them.
    Within(&'static str, u8),
    All(Vec<Tree>),
    Any(Vec<Tree>),
    Not(Box<Tree>),
}

/// Something that is asked for.
#[derive(Debug, Clone)]
enum Atom {
    Code(&'static str),
    NotCode(&'static str),
    Missing(bool),
    Status(&'static str),
    Component(&'static str, i64),
    Combo(&'static str, i64),
    Of(u8),
    Name(&'static str),
    ChainName(&'static str),
    ChainOrganization(&'static str),
    Observed(&'static str),
    Called(&'static str),
    NotStage(&'static str),
    AboutCalled(&'static str),
    ObservedAbout(&'static str),
    InList(u8),
    Ids(Vec<u8>),
    Word(&'static str),
    InSet(bool),
    Filter(Tree),
}

#[derive(Debug, Clone)]
struct Ask {
    kinds: Vec<T>,
    scope: u8,
    patient: u8,
    atoms: Vec<Atom>,
    sort: Option<(&'static str, bool)>,
    include: bool,
    count: usize,
    post: bool,
}

fn one_of(list: &'static [&'static str]) -> impl Strategy<Value = &'static str> + Clone {
    proptest::sample::select(list)
}

const BEGINNINGS: [&str; 4] = ["b", "berg", "van", "dahl"];

/// Leaves of filters for all of some types.
fn leaves(kinds: &[T]) -> Vec<BoxedStrategy<Tree>> {
    let all = |wanted: &[T]| kinds.iter().all(|kind| wanted.contains(kind));
    let mut found: Vec<BoxedStrategy<Tree>> = Vec::new();
    if all(&[T::Observation, T::Condition]) {
        found.push(one_of(&CODES).prop_map(Tree::Code).boxed());
        found.push(one_of(&CODES).prop_map(Tree::OtherCode).boxed());
        found.push(any::<bool>().prop_map(Tree::HasCode).boxed());
        found.push((0..3u8).prop_map(Tree::Of).boxed());
        found.push(one_of(&["blood", "none"]).prop_map(Tree::In).boxed());
        found.push((0..3u8).prop_map(Tree::About).boxed());
        found.push(one_of(&BEGINNINGS).prop_map(Tree::AboutCalled).boxed());
        let within = (one_of(&BEGINNINGS), 0..3u8);
        found.push(within.prop_map(|(name, g)| Tree::Within(name, g)).boxed());
    }
    if all(&[T::Observation]) {
        found.push(one_of(&STATUSES).prop_map(Tree::Status).boxed());
        found.push(one_of(&STATUSES).prop_map(Tree::Stage).boxed());
    }
    if all(&[T::Patient, T::Organization]) {
        found.push(one_of(&BEGINNINGS).prop_map(Tree::Begins).boxed());
        found.push(one_of(&BEGINNINGS).prop_map(Tree::Called).boxed());
        found.push(one_of(&["dahl", "g", "en"]).prop_map(Tree::Ends).boxed());
    }
    found
}

fn atoms(kinds: &[T]) -> BoxedStrategy<Atom> {
    let all = |wanted: &[T]| kinds.iter().all(|kind| wanted.contains(kind));
    let mut found: Vec<BoxedStrategy<Atom>> = vec![
        one_of(&["dose", "morning", "even", "x"])
            .prop_map(Atom::Word)
            .boxed(),
        proptest::collection::vec(0..3u8, 1..3)
            .prop_map(Atom::Ids)
            .boxed(),
        (0..2u8).prop_map(Atom::InList).boxed(),
    ];
    if all(&[T::Observation, T::Condition]) {
        found.push(one_of(&CODES).prop_map(Atom::Code).boxed());
        found.push(one_of(&CODES).prop_map(Atom::NotCode).boxed());
        found.push(any::<bool>().prop_map(Atom::Missing).boxed());
        found.push((0..3u8).prop_map(Atom::Of).boxed());
        found.push(one_of(&BEGINNINGS).prop_map(Atom::ChainName).boxed());
        found.push(
            one_of(&BEGINNINGS)
                .prop_map(Atom::ChainOrganization)
                .boxed(),
        );
        found.push(any::<bool>().prop_map(Atom::InSet).boxed());
        found.push(one_of(&BEGINNINGS).prop_map(Atom::AboutCalled).boxed());
    }
    if all(&[T::Observation]) {
        found.push(one_of(&STATUSES).prop_map(Atom::Status).boxed());
        found.push(one_of(&STATUSES).prop_map(Atom::NotStage).boxed());
        found.push(
            (one_of(&CODES), 0..7i64)
                .prop_map(|(code, n)| Atom::Component(code, n))
                .boxed(),
        );
        found.push(
            (one_of(&CODES), 0..7i64)
                .prop_map(|(code, n)| Atom::Combo(code, n))
                .boxed(),
        );
    }
    if all(&[T::Patient, T::Organization]) {
        found.push(one_of(&BEGINNINGS).prop_map(Atom::Name).boxed());
        found.push(one_of(&BEGINNINGS).prop_map(Atom::Called).boxed());
    }
    if all(&[T::Patient]) {
        found.push(one_of(&CODES).prop_map(Atom::Observed).boxed());
        found.push(one_of(&CODES).prop_map(Atom::ObservedAbout).boxed());
    }
    let leaves = leaves(kinds);
    if !leaves.is_empty() {
        let leaf = proptest::strategy::Union::new(leaves);
        let tree = leaf.prop_recursive(3, 8, 3, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 2..4).prop_map(Tree::All),
                proptest::collection::vec(inner.clone(), 2..4).prop_map(Tree::Any),
                inner.prop_map(|part| Tree::Not(Box::new(part))),
            ]
        });
        found.push(tree.clone().prop_map(Atom::Filter).boxed());
        found.push(tree.prop_map(Atom::Filter).boxed());
    }
    proptest::strategy::Union::new(found).boxed()
}

fn asks() -> impl Strategy<Value = Vec<Ask>> {
    let kinds = proptest::sample::select(vec![
        vec![T::Patient],
        vec![T::Observation],
        vec![T::Observation],
        vec![T::Condition],
        vec![T::Organization],
        vec![T::Observation, T::Condition],
        vec![T::Patient, T::Organization],
        vec![T::Patient, T::Observation, T::Condition],
    ]);
    let ask = kinds.prop_flat_map(|kinds| {
        let mut sorts = vec!["_id", "_lastUpdated"];
        if kinds
            .iter()
            .all(|kind| matches!(*kind, T::Patient | T::Organization))
        {
            sorts.extend(["called", "called"]);
        }
        let sorts = proptest::sample::select(sorts);
        (
            Just(kinds.clone()),
            0..3u8,
            0..3u8,
            proptest::collection::vec(atoms(&kinds), 0..3),
            proptest::option::weighted(0.4, (sorts, any::<bool>())),
            any::<bool>(),
            1..6usize,
            any::<bool>(),
        )
    });
    let ask = ask.prop_map(
        |(kinds, scope, patient, atoms, sort, include, count, post)| Ask {
            kinds,
            scope,
            patient,
            atoms,
            sort,
            include,
            count,
            post,
        },
    );
    proptest::collection::vec(ask, 1..14)
}

// What is asked, in words.

fn filter(tree: &Tree) -> String {
    let joined = |parts: &[Tree], word: &str| {
        let parts: Vec<String> = parts.iter().map(filter).collect();
        format!("({})", parts.join(word))
    };
    match tree {
        Tree::Code(code) => format!("code eq {code}"),
        Tree::OtherCode(code) => format!("code ne \"http://loinc.org|{code}\""),
        Tree::HasCode(has) => format!("code pr {has}"),
        Tree::Status(status) => format!("status eq {status}"),
        Tree::Of(patient) => format!("patient re Patient/p{patient}"),
        Tree::Begins(text) => format!("name sw \"{text}\""),
        Tree::Ends(text) => format!("name ew {text}"),
        Tree::In(name) => format!("code in http://sets/{name}"),
        Tree::Called(text) => format!("called sw {text}"),
        Tree::About(patient) => format!("about re Patient/p{patient}"),
        Tree::Stage(status) => format!("stage eq {status}"),
        Tree::AboutCalled(text) => format!("about.called sw \"{text}\""),
        Tree::Within(text, which) => {
            format!("about[called sw {text}].organization eq Organization/g{which}")
        }
        Tree::All(parts) => joined(parts, " and "),
        Tree::Any(parts) => joined(parts, " or "),
        Tree::Not(part) => format!("not({})", filter(part)),
    }
}

fn parameter(atom: &Atom) -> (String, String) {
    let (name, value) = match atom {
        Atom::Code(code) => ("code", (*code).to_owned()),
        Atom::NotCode(code) => ("code:not", format!("http://loinc.org|{code}")),
        Atom::Missing(missing) => ("code:missing", missing.to_string()),
        Atom::Status(status) => ("status", (*status).to_owned()),
        Atom::Component(code, n) => ("component-code-value-quantity", format!("{code}$gt{n}")),
        Atom::Combo(code, n) => (
            "combo-code-value-quantity",
            format!("http://loinc.org|{code}${n}"),
        ),
        Atom::Of(patient) => ("patient", format!("Patient/p{patient}")),
        Atom::Name(text) => ("name", (*text).to_owned()),
        Atom::ChainName(text) => ("patient.name", (*text).to_owned()),
        Atom::ChainOrganization(text) => ("patient.organization.name", (*text).to_owned()),
        Atom::Observed(code) => ("_has:Observation:patient:code", (*code).to_owned()),
        Atom::Called(text) => ("called", (*text).to_owned()),
        Atom::NotStage(status) => ("stage:not", (*status).to_owned()),
        Atom::AboutCalled(text) => ("about.called", (*text).to_owned()),
        Atom::ObservedAbout(code) => ("_has:Observation:about:code", (*code).to_owned()),
        Atom::InList(which) => ("_list", format!("l{which}")),
        Atom::Ids(which) => {
            let ids = which.iter().flat_map(|which| {
                [
                    format!("p{which}"),
                    format!("o{which}{which}"),
                    format!("c0{which}"),
                    format!("g{which}"),
                ]
            });
            ("_id", ids.collect::<Vec<_>>().join(","))
        }
        Atom::Word(word) => ("_text", (*word).to_owned()),
        Atom::InSet(is) => (
            if *is { "code:in" } else { "code:not-in" },
            "http://sets/blood".to_owned(),
        ),
        Atom::Filter(tree) => ("_filter", filter(tree)),
    };
    (name.to_owned(), value)
}

// What is right, by other code.

type Model = BTreeMap<(T, String), (u64, Value)>;

fn codes(value: &Value) -> Vec<&str> {
    let codings = value["code"]["coding"].as_array().into_iter().flatten();
    codings
        .filter_map(|coding| coding["code"].as_str())
        .collect()
}

fn name(value: &Value) -> String {
    let name = value["name"][0]["family"]
        .as_str()
        .or(value["name"].as_str());
    name.unwrap_or_default().to_lowercase()
}

fn is_of(value: &Value, patient: u8) -> bool {
    value["subject"]["reference"] == format!("Patient/p{patient}")
}

fn is_blood(code: &str) -> bool {
    matches!(code, "8480-6" | "8462-4")
}

fn holds(tree: &Tree, value: &Value, model: &Model) -> bool {
    let subject = || referred(model, &value["subject"]);
    match tree {
        Tree::Code(code) => codes(value).contains(code),
        Tree::OtherCode(code) => codes(value).iter().any(|one| one != code),
        Tree::HasCode(has) => value.get("code").is_some() == *has,
        Tree::Status(status) | Tree::Stage(status) => value["status"] == *status,
        Tree::Of(patient) | Tree::About(patient) => is_of(value, *patient),
        Tree::Begins(text) | Tree::Called(text) => name(value).starts_with(text),
        Tree::Ends(text) => name(value).ends_with(text),
        Tree::In(set) => *set == "blood" && codes(value).into_iter().any(is_blood),
        Tree::AboutCalled(text) => subject().is_some_and(|one| name(one).starts_with(text)),
        Tree::Within(text, which) => subject().is_some_and(|one| {
            let kept = format!("Organization/g{which}");
            name(one).starts_with(text) && one["managingOrganization"]["reference"] == kept
        }),
        Tree::All(parts) => parts.iter().all(|part| holds(part, value, model)),
        Tree::Any(parts) => parts.iter().any(|part| holds(part, value, model)),
        Tree::Not(part) => !holds(part, value, model),
    }
}

fn referred<'a>(model: &'a Model, reference: &Value) -> Option<&'a Value> {
    let (kind, id) = reference["reference"].as_str()?.split_once('/')?;
    let key = (T::parse(kind)?, id.to_owned());
    model.get(&key).map(|(_, value)| value)
}

fn fits(atom: &Atom, value: &Value, model: &Model) -> bool {
    let components = |test: &dyn Fn(i64) -> bool, code: &str| {
        let mut components = value["component"].as_array().into_iter().flatten();
        components.any(|one| {
            codes(one).contains(&code) && test(one["valueQuantity"]["value"].as_i64().unwrap())
        })
    };
    match atom {
        Atom::Code(code) => codes(value).contains(code),
        Atom::NotCode(code) => !codes(value).contains(code),
        Atom::Missing(missing) => value.get("code").is_none() == *missing,
        Atom::Status(status) => value["status"] == *status,
        Atom::Component(code, n) => components(&|found| found > *n, code),
        Atom::Combo(code, n) => components(&|found| found == *n, code),
        Atom::Of(patient) => is_of(value, *patient),
        Atom::NotStage(status) => value["status"] != *status,
        Atom::Name(text) | Atom::Called(text) => name(value).starts_with(text),
        Atom::ChainName(text) | Atom::AboutCalled(text) => {
            let patient = referred(model, &value["subject"]);
            patient.is_some_and(|patient| name(patient).starts_with(text))
        }
        Atom::ChainOrganization(text) => {
            let patient = referred(model, &value["subject"]);
            let organization =
                patient.and_then(|one| referred(model, &one["managingOrganization"]));
            organization.is_some_and(|one| name(one).starts_with(text))
        }
        Atom::Observed(code) | Atom::ObservedAbout(code) => model.values().any(|(_, one)| {
            let own = format!("Patient/{}", value["id"].as_str().unwrap());
            one["resourceType"] == "Observation"
                && one["subject"]["reference"] == own
                && codes(one).contains(code)
        }),
        Atom::InList(which) => {
            let list = model.get(&(T::List, format!("l{which}")));
            let entries = list.and_then(|(_, list)| list["entry"].as_array());
            let own = format!("{}/{}", kind_of(value), value["id"].as_str().unwrap());
            entries
                .into_iter()
                .flatten()
                .any(|entry| entry["item"]["reference"] == own)
        }
        Atom::Ids(_) => {
            let (_, ids) = parameter(atom);
            ids.split(',').any(|id| value["id"] == id)
        }
        Atom::Word(word) => {
            let narrative = value["text"]["div"].as_str().unwrap();
            let (_, words) = narrative.split_once("<b>").unwrap();
            let (words, _) = words.split_once("</b>").unwrap();
            words.split(' ').any(|one| one.starts_with(word))
        }
        Atom::InSet(is) => codes(value).into_iter().any(is_blood) == *is,
        Atom::Filter(tree) => holds(tree, value, model),
    }
}

fn in_compartment(value: &Value, patient: u8) -> bool {
    let own = format!("Patient/p{patient}");
    let of = |reference: &Value| reference["reference"] == own;
    match kind_of(value) {
        T::Patient => value["id"] == format!("p{patient}"),
        T::Observation => of(&value["subject"]) || of(&value["performer"][0]),
        T::Condition => of(&value["subject"]),
        _ => false,
    }
}

// Playing it.

struct Stage {
    record: Record,
    trust: Trust,
    clock: ManualClock,
    ledger: Ledger,
}

impl Stage {
    fn new(location: Location) -> Self {
        let clock = ManualClock::new(NOW_MS);
        let ledger = Ledger::open(OpenOptions {
            location,
            root_key: RootKey::from_bytes([7; 32]),
            clock: Arc::new(clock.clone()),
            entropy: Arc::new(SystemEntropy),
            dictionary: Vec::new(),
            cache_bytes: 16 << 20,
        });
        let ledger = ledger.unwrap();
        let trust = Trust::new(TrustOptions {
            ledger: ledger.clone(),
            wall_clock: Arc::new(clock.clone()),
            policy_folder: None,
            session_idle_s: 900,
            session_absolute_s: 43_200,
        });
        let trust = trust.unwrap();
        Self {
            record: Record::new(trust.clone()),
            trust,
            clock,
            ledger,
        }
    }
}

fn of_tenant(tenant: TenantId) -> Caller {
    let caller = client();
    Caller {
        agent: Agent {
            tenant,
            ..caller.agent
        },
        ..caller
    }
}

async fn put(record: &Record, caller: &Caller, value: &Value) {
    let id = value["id"].as_str().unwrap();
    let body = value.to_string();
    let answer = record
        .update_if(
            caller,
            kind_of(value),
            id,
            Preconditions::default(),
            body.as_bytes(),
        )
        .await;
    answer.unwrap();
}

/// Puts the search parameters of one's own in force.
async fn define(stage: &Stage, caller: &Caller) {
    let operator = Caller {
        purpose: Purpose::Operations,
        ..caller.clone()
    };
    for definition in definitions() {
        put(&stage.record, &operator, &definition).await;
    }
}

/// Goes over what was there before them, to the end.
async fn index(stage: &Stage, tenant: TenantId) {
    let vault = stage.trust.vault();
    let agent = Agent::system(tenant, "indexer");
    let (purpose, target) = (Purpose::Administration, Target::default());
    let decided = stage
        .trust
        .decide(&agent, purpose, Action::Index, target, "r");
    let permit = decided.await.unwrap();
    for own in vault.owns(tenant).iter() {
        while vault.index_own(&permit, own).await.unwrap() != IndexStep::Complete {}
    }
}

/// What is defined when, and whether all is indexed when it is searched: `case` says.
async fn play(stage: &Stage, caller: &Caller, writes: &[Write], case: u32) -> Model {
    if case.is_multiple_of(4) {
        define(stage, caller).await;
    }
    let set = json!({"resourceType": "ValueSet", "id": "blood", "status": "active", "url": "http://sets/blood",
        "compose": {"include": [{"system": "http://loinc.org", "concept": [{"code": "8480-6"}]}, {"valueSet": ["http://sets/more"]}]}});
    let more = json!({"resourceType": "ValueSet", "id": "more", "status": "active", "url": "http://sets/more",
        "expansion": {"timestamp": "2026-01-01", "contains": [{"system": "http://loinc.org", "code": "8462-4"}]}});
    let none = json!({"resourceType": "ValueSet", "id": "none", "status": "active", "url": "http://sets/none",
        "compose": {"include": [{"system": "http://loinc.org", "concept": [{"code": "0-0"}]}]}});
    for value in [&set, &more, &none] {
        put(&stage.record, caller, value).await;
    }
    let mut model = Model::new();
    for (number, write) in (0..).zip(writes) {
        stage.clock.advance(7);
        if case % 4 == 1 && number == 4 {
            define(stage, caller).await;
        }
        let key = (write.kind, id_of(write));
        if write.delete {
            if model.remove(&key).is_some() {
                let preconditions = Preconditions::default();
                let deleted = stage.record.delete_if(caller, key.0, &key.1, preconditions);
                deleted.await.unwrap();
            }
            continue;
        }
        let value = body(write);
        put(&stage.record, caller, &value).await;
        model.insert(key, (number, value));
    }
    if case % 4 > 1 {
        define(stage, caller).await;
    }
    if case.is_multiple_of(3) {
        index(stage, caller.agent.tenant).await;
    }
    model
}

fn name_of(resource: &Value) -> String {
    format!("{}/{}", kind_of(resource), resource["id"].as_str().unwrap())
}

/// Searches page by page, and compares.
async fn check(
    stage: &Stage,
    caller: &Caller,
    model: &Model,
    ask: &Ask,
) -> Result<usize, TestCaseError> {
    let (scope, within) = match (ask.scope, ask.kinds.as_slice()) {
        (0, [_]) => (Scope::Type, None),
        (2, [T::Observation | T::Condition | T::Patient]) => {
            let id = format!("p{}", ask.patient);
            let compartment = Compartment::of(T::Patient, &id).unwrap();
            (
                Scope::Compartment(compartment, Some(ask.kinds[0])),
                Some(ask.patient),
            )
        }
        (2, kinds) if !kinds.contains(&T::Organization) => {
            let id = format!("p{}", ask.patient);
            let compartment = Compartment::of(T::Patient, &id).unwrap();
            (Scope::Compartment(compartment, None), Some(ask.patient))
        }
        _ => (Scope::System, None),
    };
    let mut parameters = pairs("_tag=set&_total=accurate");
    parameters.push(("_count".to_owned(), ask.count.to_string()));
    if scope.is_of_several() {
        let names: Vec<&str> = ask.kinds.iter().map(|kind| kind.name()).collect();
        parameters.push(("_type".to_owned(), names.join(",")));
    }
    parameters.extend(ask.atoms.iter().map(parameter));
    if let Some((name, descending)) = ask.sort {
        let mark = if descending { "-" } else { "" };
        parameters.push(("_sort".to_owned(), format!("{mark}{name}")));
    }
    let observes = ask.kinds.contains(&T::Observation);
    let own = ask.count.is_multiple_of(2);
    if ask.include && observes {
        let by = if own { "about" } else { "patient" };
        parameters.push(("_include".to_owned(), format!("Observation:{by}")));
    } else if ask.include && ask.kinds.contains(&T::Patient) {
        let by = if own { "about" } else { "subject" };
        parameters.push(("_revinclude".to_owned(), format!("Observation:{by}")));
    }

    let mut wanted: Vec<(u64, &Value)> = model
        .iter()
        .filter(|((kind, _), (_, value))| {
            ask.kinds.contains(kind)
                && ask.atoms.iter().all(|atom| fits(atom, value, model))
                && within.is_none_or(|patient| in_compartment(value, patient))
        })
        .map(|(_, (number, value))| (*number, value))
        .collect();
    wanted.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
    match ask.sort {
        Some(("_id", descending)) => wanted.sort_by(|one, other| {
            let order = one.1["id"].as_str().cmp(&other.1["id"].as_str());
            if descending { order.reverse() } else { order }
        }),
        Some(("called", descending)) => wanted.sort_by(|one, other| {
            let order = name(one.1).cmp(&name(other.1));
            if descending { order.reverse() } else { order }
        }),
        Some((_, false)) => wanted.reverse(),
        _ => {}
    }
    let wanted: Vec<String> = wanted.iter().map(|(_, value)| name_of(value)).collect();

    let chained = ask.atoms.iter().any(|atom| {
        matches!(
            atom,
            Atom::ChainName(_)
                | Atom::ChainOrganization(_)
                | Atom::Observed(_)
                | Atom::AboutCalled(_)
                | Atom::ObservedAbout(_)
                | Atom::Filter(_)
        )
    });
    let mut found: Vec<String> = Vec::new();
    loop {
        let answer = match (&scope, ask.post) {
            (Scope::Type, false) => stage.record.search(caller, ask.kinds[0], &parameters).await,
            (Scope::Type, true) => {
                let first = parameters.iter().all(|(name, _)| name != "_cursor");
                if first {
                    stage
                        .record
                        .search_by_post(caller, ask.kinds[0], &parameters)
                        .await
                } else {
                    stage.record.search(caller, ask.kinds[0], &parameters).await
                }
            }
            (scope, _) => stage.record.search_within(caller, scope, &parameters).await,
        };
        let page = json_of(&answer.unwrap_or_else(|error| panic!("{parameters:?}: {error}")));
        prop_assert_eq!(&page["total"], wanted.len(), "{:?}", &parameters);
        let entries = page["entry"].as_array().cloned().unwrap_or_default();
        let of_mode = |mode: &str| {
            let entries = entries
                .iter()
                .filter(|entry| entry["search"]["mode"] == mode);
            entries
                .map(|entry| entry["resource"].clone())
                .collect::<Vec<_>>()
        };
        let matches = of_mode("match");
        let names: BTreeSet<String> = matches.iter().map(name_of).collect();
        prop_assert!(matches.len() <= ask.count);
        // What the others write may lie on the way of a chain, and then a page says that it may.
        prop_assert!(of_mode("outcome").is_empty() || chained, "{}", page);
        let mut around: BTreeSet<String> = BTreeSet::new();
        if ask.include && observes {
            let patients = matches
                .iter()
                .filter(|one| one["resourceType"] == "Observation")
                .filter_map(|one| referred(model, &one["subject"]));
            around.extend(patients.map(name_of));
        } else if ask.include {
            let about = |one: &&Value| {
                one["resourceType"] == "Observation"
                    && one["subject"]["reference"]
                        .as_str()
                        .is_some_and(|subject| names.contains(subject))
            };
            let all = model.values().map(|(_, value)| value);
            if ask.kinds.contains(&T::Patient) {
                around.extend(all.filter(about).map(name_of));
            }
        }
        let around: BTreeSet<String> = around.difference(&names).cloned().collect();
        let included: BTreeSet<String> = of_mode("include").iter().map(name_of).collect();
        prop_assert_eq!(&included, &around, "{:?}", &parameters);
        found.extend(matches.iter().map(name_of));
        match link(&page, "next") {
            Some(next) => {
                parameters = next;
                for (_, value) in &mut parameters {
                    *value = decoded(value);
                }
            }
            None => break,
        }
    }
    prop_assert_eq!(&found, &wanted, "{:?}", &ask);
    Ok(found.len())
}

/// Percent-encoding undone.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digit = |byte: Option<u8>| char::from(byte.unwrap()).to_digit(16).unwrap();
            let (high, low) = (digit(rest.next()), digit(rest.next()));
            bytes.push(u8::try_from(high * 16 + low).unwrap());
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// Writes what no search asks for, as fast as it goes, until it is told to stop: others' observations of
/// the same codes, made, changed and deleted.
async fn noise(record: Record, caller: Caller, stop: Arc<AtomicBool>, done: Arc<AtomicU64>) {
    let patient = json!({"resourceType": "Patient", "id": "n", "name": [{"family": "Berg"}]});
    put(&record, &caller, &patient).await;
    let mut number = 0_u8;
    while !stop.load(Ordering::Relaxed) {
        number = number.wrapping_add(1);
        let id = format!("n{}", number % 16);
        let observation = json!({"resourceType": "Observation", "id": id, "status": pick(&STATUSES, number),
            "code": coding(pick(&CODES, number)), "subject": {"reference": "Patient/n"}});
        put(&record, &caller, &observation).await;
        if number.is_multiple_of(5) {
            let preconditions = Preconditions::default();
            let deleted = record.delete_if(&caller, T::Observation, &id, preconditions);
            deleted.await.unwrap();
        }
        done.fetch_add(1, Ordering::Relaxed);
        tokio::task::yield_now().await;
    }
}

fn run(location: Location, cases: u32, seed: u64) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let stage = runtime.block_on(async { Stage::new(location) });
    let tenants = std::cell::Cell::new(1);
    let rows = std::cell::Cell::new(0);
    let beside = Arc::new(AtomicU64::new(0));
    let mut runner = TestRunner::new(Config {
        cases,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        max_shrink_iters: 200,
        ..Config::default()
    });
    let result = runner.run(&(writes(), asks()), |(writes, asks)| {
        let tenant = TenantId(tenants.get());
        tenants.set(tenants.get() + 1);
        runtime.block_on(async {
            stage.ledger.create_tenant(tenant).await.unwrap();
            let caller = of_tenant(tenant);
            let model = play(&stage, &caller, &writes, tenant.0).await;
            let stop = Arc::new(AtomicBool::new(false));
            let writer = noise(
                stage.record.clone(),
                caller.clone(),
                stop.clone(),
                beside.clone(),
            );
            let writer = tokio::spawn(writer);
            let mut outcome = Ok(());
            for ask in &asks {
                match check(&stage, &caller, &model, ask).await {
                    Ok(found) => rows.set(rows.get() + found),
                    Err(error) => {
                        outcome = Err(error);
                        break;
                    }
                }
            }
            stop.store(true, Ordering::Relaxed);
            writer.await.unwrap();
            outcome
        })
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    assert!(
        rows.get() > 5 * usize::try_from(cases).unwrap(),
        "too few: {}",
        rows.get()
    );
    assert!(
        beside.load(Ordering::Relaxed) > u64::from(cases),
        "nobody wrote"
    );
    println!(
        "{} rows, {} writes beside them",
        rows.get(),
        beside.load(Ordering::Relaxed)
    );
}

#[test]
fn searches_of_all_kinds_are_right_in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    run(
        Location::Folder(folder.path().join("store")),
        48,
        20_261_128,
    );
}

#[test]
fn searches_of_all_kinds_are_right_in_postgresql() {
    let cluster = Cluster::new();
    let location = Postgres {
        url: cluster.url("cairn"),
        password: None,
        ca_file: None,
        schema: "cairn".to_owned(),
        replicas: Vec::new(),
    };
    run(Location::Postgres(location), 24, 20_261_129);
}

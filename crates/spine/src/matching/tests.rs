use serde_json::{Value, json};

use super::fields::{birth, family, given, identifier, postcode, street};
use super::*;

fn patient(changes: &Value) -> Value {
    let mut patient = json!({
        "resourceType": "Patient",
        "name": [{ "family": "Abernathy", "given": ["Catherine", "Rose"] }],
        "birthDate": "1974-03-12",
        "gender": "female",
        "address": [{ "line": ["14 Orchard Street"], "city": "Leeds", "state": "Yorkshire", "postalCode": "LS1 4AP" }],
        "telecom": [{ "system": "phone", "value": "0113 496 0123" }],
        "identifier": [{ "system": "https://fhir.nhs.uk/Id/nhs-number", "value": "9000000009" }]
    });
    for (name, value) in changes.as_object().expect("changes") {
        patient[name] = value.clone();
    }
    patient
}

fn person(changes: &Value) -> Person {
    Person::of(&patient(changes))
}

fn named(family: &str, given: &[&str]) -> Person {
    Person {
        names: vec![Name::new(family, given.iter().copied())],
        ..Person::default()
    }
}

fn level(one: &Person, other: &Person, field: Field) -> Option<usize> {
    let there = compare(one, other).of(field);
    assert_eq!(there, compare(other, one).of(field), "either way round");
    there
}

fn matcher() -> Matcher<'static> {
    Matcher::new(Weights::shipped(), Frequencies::shipped(), 1_000_000)
}

#[test]
fn names_are_alike_in_many_ways() {
    let cases = [
        (
            ("Smith", vec!["John"]),
            ("smith", vec!["JOHN"]),
            Some(given::EXACT),
            Some(family::EXACT),
        ),
        (
            ("Smith", vec!["John"]),
            ("Smyth", vec!["Jon"]),
            Some(given::NICKNAME),
            Some(family::CLOSE),
        ),
        (
            ("Smith", vec!["William"]),
            ("Smith", vec!["Bill"]),
            Some(given::NICKNAME),
            Some(family::EXACT),
        ),
        (
            ("Smith", vec!["Katherine"]),
            ("Smith", vec!["Kathrine"]),
            Some(given::CLOSE),
            Some(family::EXACT),
        ),
        (
            ("Smith", vec!["J"]),
            ("Smith", vec!["John"]),
            Some(given::INITIAL),
            Some(family::EXACT),
        ),
        (
            ("Smith", vec!["J"]),
            ("Smith", vec!["J."]),
            Some(given::EXACT),
            Some(family::EXACT),
        ),
        (
            ("Smith", vec!["John", "Paul"]),
            ("Smith", vec!["Paul"]),
            Some(given::MIDDLE),
            Some(family::EXACT),
        ),
        (
            ("Smith-Jones", vec!["Ann"]),
            ("Jones", vec!["Ann"]),
            Some(given::EXACT),
            Some(family::PART),
        ),
        (
            ("Martin", vec!["Oliver"]),
            ("Oliver", vec!["Martin"]),
            Some(given::SWAPPED),
            None,
        ),
        (
            ("Martin", vec!["Oliver"]),
            ("Olivier", vec!["Martin"]),
            Some(given::SWAPPED),
            None,
        ),
        // A middle name stays where it was.
        (
            ("Martin", vec!["Oliver", "Paul"]),
            ("Oliver", vec!["Martin"]),
            Some(given::SWAPPED),
            None,
        ),
        (
            ("Martin", vec!["Oliver", "Paul"]),
            ("Oliver", vec!["Martin", "Paul"]),
            Some(given::SWAPPED),
            None,
        ),
        (
            ("Martin", vec!["Oliver", "Paul"]),
            ("Oliver", vec!["Emma", "Martin"]),
            Some(given::DIFFERENT),
            Some(family::DIFFERENT),
        ),
        (
            ("Smith", vec!["John"]),
            ("Jones", vec!["Emma"]),
            Some(given::DIFFERENT),
            Some(family::DIFFERENT),
        ),
        (
            ("Smith", vec![]),
            ("Smith", vec!["Emma"]),
            None,
            Some(family::EXACT),
        ),
        (
            ("王", vec!["小明"]),
            ("王", vec!["小明"]),
            Some(given::EXACT),
            Some(family::EXACT),
        ),
    ];
    for ((family, given), (other_family, other_given), expected_given, expected_family) in cases {
        let (one, other) = (named(family, &given), named(other_family, &other_given));
        let said = format!("{family} {given:?}, {other_family} {other_given:?}");
        assert_eq!(
            level(&one, &other, Field::Given),
            expected_given.map(usize::from),
            "{said}"
        );
        assert_eq!(
            level(&one, &other, Field::Family),
            expected_family.map(usize::from),
            "{said}"
        );
    }
}

#[test]
fn the_names_that_are_most_alike_are_compared() {
    let mut one = named("Abernathy", &["Rose"]);
    one.names.push(Name::new("Miller", ["Rose"]));
    let other = named("Miller", &["Rose"]);
    assert_eq!(
        level(&one, &other, Field::Family),
        Some(usize::from(family::EXACT))
    );
}

#[test]
fn days_of_birth_are_alike_in_many_ways() {
    for (one, other, expected) in [
        ("1974-03-12", "1974-03-12", birth::EXACT),
        ("1974-03-12", "1974-12-03", birth::SWAPPED),
        ("1974-03-12", "1974-03-13", birth::SLIP),
        ("1974-03-12", "1947-03-12", birth::SLIP),
        ("1974-03-12", "1984-03-12", birth::SLIP),
        ("1999-03-12", "2000-03-12", birth::YEAR_OFF),
        ("1974-03-12", "1974", birth::PARTIAL),
        ("1974-03", "1974-03", birth::PARTIAL),
        ("1974-03-12", "1975", birth::DIFFERENT),
        ("1974-03-12", "1974-03-30", birth::TWO_PARTS),
        ("1974-03-12", "1974-02-02", birth::TWO_SLIPS),
        ("1974-03-12", "1974-01-01", birth::DIFFERENT),
        ("1974-03-12", "1958-11-30", birth::DIFFERENT),
    ] {
        let (one, other) = (
            person(&json!({ "birthDate": one })),
            person(&json!({ "birthDate": other })),
        );
        let said = format!("{:?} {:?}", one.birth_date, other.birth_date);
        assert_eq!(
            level(&one, &other, Field::BirthDate),
            Some(usize::from(expected)),
            "{said}"
        );
    }
}

#[test]
fn places_and_numbers_are_alike_in_many_ways() {
    let at = |line: &str, code: &str| {
        person(&json!({ "address": [{ "line": [line], "postalCode": code }] }))
    };
    let home = at("14 Orchard Street", "LS1 4AP");
    for (line, code, expected_street, expected_code) in [
        ("14 orchard st", "ls14ap", street::EXACT, postcode::EXACT),
        (
            "14 Orcherd Street",
            "LS1 4AQ",
            street::CLOSE,
            postcode::SLIP,
        ),
        ("14 Orchard Lane", "LS1 9ZZ", street::PART, postcode::AREA),
        (
            "14 Mill Road",
            "EX4 4QJ",
            street::DIFFERENT,
            postcode::DIFFERENT,
        ),
    ] {
        let other = at(line, code);
        assert_eq!(
            level(&home, &other, Field::Street),
            Some(usize::from(expected_street)),
            "{line}"
        );
        assert_eq!(
            level(&home, &other, Field::Postcode),
            Some(usize::from(expected_code)),
            "{code}"
        );
    }
    let with = |system: &str, value: &str| {
        person(&json!({ "identifier": [{ "system": system, "value": value }] }))
    };
    let national = "https://fhir.nhs.uk/Id/nhs-number";
    for (system, value, expected) in [
        (national, "900 000 0009", Some(identifier::EXACT)),
        (national, "9000000090", Some(identifier::SLIP)),
        (national, "9000001109", Some(identifier::TWO_SLIPS)),
        (national, "9434765919", Some(identifier::DIFFERENT)),
        ("urn:hospital", "9000000009", None),
    ] {
        let other = with(system, value);
        let found = level(&with(national, "9000000009"), &other, Field::Identifier);
        assert_eq!(found, expected.map(usize::from), "{system} {value}");
    }
    // Who was taken in twice has two numbers of one hospital.
    assert_eq!(
        level(
            &with("urn:hospital", "100001"),
            &with("urn:hospital", "100002"),
            Field::Identifier
        ),
        None
    );
}

/// Grades of pairs that somebody who keeps records knows.
#[test]
fn people_are_told_apart_and_found_again() {
    let matcher = matcher();
    let one = person(&json!({}));
    for (said, changes, expected) in [
        ("the same", json!({}), Grade::Certain),
        (
            "moved, with another telephone",
            json!({ "address": [{ "line": ["2 Mill Road"], "city": "Exeter", "postalCode": "EX4 4QJ" }],
                    "telecom": [{ "system": "phone", "value": "01392 496 0456" }] }),
            Grade::Certain,
        ),
        (
            "married and moved, number not known",
            json!({ "name": [{ "family": "Okonkwo", "given": ["Catherine"] }], "identifier": [],
                    "address": [{ "line": ["2 Mill Road"], "city": "Exeter", "postalCode": "EX4 4QJ" }], "telecom": [] }),
            Grade::Possible,
        ),
        (
            "married, number not known",
            json!({ "name": [{ "family": "Okonkwo", "given": ["Catherine"] }], "identifier": [] }),
            Grade::Certain,
        ),
        (
            "nickname, a slip in the name and in the date",
            json!({ "name": [{ "family": "Abernethy", "given": ["Kate"] }], "birthDate": "1974-12-03" }),
            Grade::Certain,
        ),
        (
            "a twin",
            json!({ "name": [{ "family": "Abernathy", "given": ["Margaret"] }],
                    "identifier": [{ "system": "https://fhir.nhs.uk/Id/nhs-number", "value": "9434765919" }] }),
            Grade::Possible,
        ),
        (
            "a mother of the same name",
            json!({ "birthDate": "1946-08-30",
                    "identifier": [{ "system": "https://fhir.nhs.uk/Id/nhs-number", "value": "9434765919" }] }),
            Grade::CertainlyNot,
        ),
        (
            "a stranger",
            json!({ "name": [{ "family": "Okonkwo", "given": ["Emma"] }], "birthDate": "1990-01-02", "identifier": [],
                    "address": [], "telecom": [] }),
            Grade::CertainlyNot,
        ),
    ] {
        let other = person(&changes);
        let score = matcher.score(&one, &other);
        let reasons = matcher.explain(&one, &other);
        assert_eq!(
            Grade::of(score.probability),
            expected,
            "{said}: {score:?} {reasons:#?}"
        );
    }
}

#[test]
fn reasons_add_up() {
    let matcher = matcher();
    for changes in [
        json!({}),
        json!({ "birthDate": "1946-08-30", "identifier": [] }),
        json!({ "name": [{ "family": "Smith", "given": ["John"] }], "gender": "male" }),
        json!({ "address": [{ "line": ["2 Mill Road"], "city": "Exeter", "postalCode": "EX4 4QJ" }] }),
    ] {
        let (one, other) = (person(&json!({})), person(&changes));
        let reasons = matcher.explain(&one, &other);
        let sum: f64 = reasons.iter().skip(1).map(|reason| reason.bits).sum();
        let score = matcher.score(&one, &other);
        // Summands under a twentieth of a bit that are of no field are left out.
        assert!(
            (sum - score.bits).abs() < 0.11,
            "{sum} {score:?} {reasons:#?}"
        );
        assert!(
            reasons.iter().all(|reason| reason.why.ends_with('.')),
            "{reasons:#?}"
        );
    }
}

#[test]
fn rare_names_say_more() {
    let matcher = matcher();
    let bits = |family: &str| {
        let person = named(family, &["James"]);
        matcher.score(&person, &person).bits
    };
    assert!(bits("Zbrzezny") > bits("Smith") + 5.0);
}

#[test]
fn what_both_do_not_have_is_not_rare() {
    let matcher = matcher();
    let one = named("Smith", &["John"]);
    let two = |families: [&str; 2], given: [&[&str]; 2]| Person {
        names: vec![
            Name::new(families[0], given[0].iter().copied()),
            Name::new(families[1], given[1].iter().copied()),
        ],
        ..Person::default()
    };
    let expected = matcher.score(&one, &one).bits;
    for other in [
        two(["Smith", "Smith"], [&[], &["John"]]),
        two(["", "Smith"], [&["John"], &["John"]]),
    ] {
        let bits = matcher.score(&other, &other).bits;
        assert!((bits - expected).abs() < 0.01, "{bits} {expected}");
    }
}

/// Names that beside others of their kind once ended the coder of sounds.
const REAL_NAMES: [&str; 12] = [
    "Cəfərov",
    "Gʻulomov",
    "Toʻxtayev",
    "Hawaiʻi",
    "Sjɔgren",
    "сmith",
    "王c王",
    "Nguyễn",
    "İbrahim",
    "Ŋgũgĩ",
    "ßcz",
    "Ǝcə",
];

#[test]
fn names_of_all_alphabets_are_compared() {
    for name in REAL_NAMES {
        let person = person(&json!({ "name": [{ "family": name, "given": [name] }] }));
        assert!(!blocking::keys(&person).is_empty(), "{name}");
        let found = compare(&person, &person).of(Field::Family);
        assert_eq!(found, Some(usize::from(family::EXACT)), "{name}");
    }
    // Three letters of the alphabet in all ways: what the coder looks at around each of them.
    let letters = "abcdefghijklmnopqrstuvwxyz";
    for first in letters.chars() {
        for second in letters.chars() {
            for third in letters.chars() {
                let word: String = [first, second, third].into_iter().collect();
                assert!(person::sound(&word).is_ascii(), "{word}");
            }
        }
    }
}

mod whatever_is_written {
    use proptest::prelude::*;

    use super::*;

    fn text() -> impl Strategy<Value = String> {
        prop_oneof![
            "\\PC{0,20}",
            "[a-z]{0,12}",
            "[a-eʻʼəɔŋс王 ’.-]{0,12}",
            proptest::sample::select(REAL_NAMES.as_slice()).prop_map(str::to_owned),
        ]
    }

    fn anybody() -> impl Strategy<Value = Value> {
        let name = (text(), prop::collection::vec(text(), 0..3));
        let place = (text(), text(), text());
        let few = (
            prop::collection::vec(name, 0..4),
            prop::collection::vec(place, 0..4),
            prop::collection::vec((text(), text()), 0..3),
            prop_oneof![text(), "19[0-9]{2}-[01][0-9]-[0-3][0-9]"],
            prop::collection::vec(prop_oneof![text(), "[0-9]{5,12}"], 0..3),
        );
        few.prop_map(|(names, places, numbers, birth, contacts)| {
            json!({
                "name": names.iter().map(|(family, given)| json!({"family": family, "given": given})).collect::<Vec<_>>(),
                "address": places.iter().map(|(line, city, code)| json!({"line": [line], "city": city, "postalCode": code})).collect::<Vec<_>>(),
                "identifier": numbers.iter().map(|(system, value)| json!({"system": system, "value": value})).collect::<Vec<_>>(),
                "telecom": contacts.iter().flat_map(|value| [json!({"system": "phone", "value": value}), json!({"system": "email", "value": value})]).collect::<Vec<_>>(),
                "birthDate": birth,
            })
        })
    }

    proptest! {
        #[test]
        fn it_is_compared_and_either_may_stand_first(one in anybody(), other in anybody()) {
            let (one, other) = (Person::of(&one), Person::of(&other));
            prop_assert!(blocking::keys(&one).len() <= blocking::KEYS_MAX);
            prop_assert_eq!(compare(&one, &other), compare(&other, &one));
            let matcher = matcher();
            let score = matcher.score(&one, &other);
            prop_assert!((0.0..=1.0).contains(&score.probability));
            prop_assert_eq!(matcher.explain(&one, &one).is_empty(), false);
        }
    }
}

#[test]
fn the_larger_a_population_the_less_is_certain() {
    let (one, other) = (named("Smith", &["John"]), named("Smith", &["John"]));
    let probability = |population| {
        Matcher::new(Weights::shipped(), Frequencies::shipped(), population)
            .score(&one, &other)
            .probability
    };
    assert!(probability(100) > probability(1_000_000));
    assert!(probability(0) <= 1.0);
}

#[test]
fn keys_survive_one_slip() {
    let one = blocking::keys(&person(&json!({})));
    for changes in [
        json!({ "birthDate": "1974-12-03", "identifier": [], "telecom": [], "address": [] }),
        json!({ "name": [{ "family": "Rose", "given": ["Kate"] }], "identifier": [], "telecom": [], "address": [] }),
        json!({ "name": [{ "family": "Catherine", "given": ["Abernathy"] }], "birthDate": "1975-03-12", "identifier": [], "telecom": [], "address": [] }),
        json!({ "name": [], "birthDate": "1950", "identifier": [], "telecom": [] }),
        json!({ "name": [], "birthDate": "1950", "identifier": [{ "system": "https://fhir.nhs.uk/Id/nhs-number", "value": "9000000010" }], "telecom": [], "address": [] }),
    ] {
        let other = blocking::keys(&person(&changes));
        assert!(
            one.iter().any(|key| other.contains(key)),
            "{changes}: {one:#?} {other:#?}"
        );
    }
    assert!(one.iter().all(|key| blocking::NAMES.contains(&key.name)));
    assert!(blocking::keys(&Person::default()).is_empty());
}

#[test]
fn keys_are_bounded() {
    let names: Vec<Value> = (0..40)
        .map(|number| json!({ "family": format!("Family{number}"), "given": [format!("Given{number}")] }))
        .collect();
    let keys = blocking::keys(&person(&json!({ "name": names })));
    assert!(keys.len() <= blocking::KEYS_MAX, "{}", keys.len());
    assert_eq!(keys[0].name, "identifier");
}

/// Thirty families of three, each person twice, the second time with a slip.
fn town() -> Vec<Person> {
    let mut people = Vec::new();
    for number in 0..90_u32 {
        let home = number / 3;
        let given = ["Ann", "Bertram", "Cedric"][number as usize % 3];
        let family = format!(
            "{}{}",
            ["Abra", "Beck", "Corn", "Dun", "Elm", "Foss"][home as usize % 6],
            ["worth", "ley", "mann", "gate", "ikov"][home as usize / 6]
        );
        // The other record of each has a letter less.
        let mut slip = family.clone();
        slip.remove(2);
        for family in [family, slip] {
            people.push(person(&json!({
                "name": [{ "family": family, "given": [given] }],
                "birthDate": format!("{}-{:02}-{:02}", 1930 + number % 70, 1 + number % 12, 1 + number % 28),
                "gender": "unknown",
                "address": [{ "line": [format!("{home} High Street")], "postalCode": format!("LS{home} 4AP") }],
                "telecom": [],
                "identifier": []
            })));
        }
    }
    people
}

#[test]
fn duplicates_are_the_same_however_little_memory_there_is() {
    let people = town();
    let frequencies = Frequencies::counted(&people);
    let matcher = Matcher::new(Weights::shipped(), &frequencies, people.len() as u64);
    let run = |memory_bytes| {
        let mut pairs = Vec::new();
        let found = batch::duplicates(
            people.as_slice(),
            &matcher,
            PROBABLE,
            memory_bytes,
            |one, other, _| {
                pairs.push((one, other));
            },
        );
        pairs.sort_unstable();
        (pairs, found)
    };
    let (pairs, whole) = run(1 << 20);
    assert_eq!(
        pairs,
        (0..90)
            .map(|number| (2 * number, 2 * number + 1))
            .collect::<Vec<_>>()
    );
    let (again, passes) = run(1 << 12);
    assert_eq!(again, pairs);
    assert_eq!(whole.passes, 1);
    assert!(passes.passes > 3, "{passes:?}");
    assert_eq!(
        (whole.pairs, whole.left_out),
        (passes.pairs, passes.left_out)
    );
}

#[test]
fn a_key_that_too_many_share_is_left_out_and_others_bring_them_together() {
    // All of one birthday and one town, each twice.
    let people: Vec<Person> = (0..2 * batch::BLOCK_MAX as u32)
        .map(|number| {
            let number = number / 2;
            let family = format!(
                "{}{number}son",
                ["Ab", "Bek", "Dor", "Fil"][number as usize % 4]
            );
            person(&json!({
                "name": [{ "family": family, "given": ["Ann"] }],
                "address": [], "identifier": [],
                "telecom": [{ "system": "phone", "value": format!("0113 4{number:05}") }]
            }))
        })
        .collect();
    let mut met = 0;
    let found = batch::candidates(people.as_slice(), 1 << 20, |one, _, other, _| {
        met += usize::from(one / 2 == other / 2);
    });
    assert!(found.left_out > 0, "{found:?}");
    assert_eq!(met, batch::BLOCK_MAX);
}

#[test]
fn weights_are_learnt_without_labels() {
    let people = town();
    let mut candidates = Vec::new();
    batch::candidates(people.as_slice(), 1 << 20, |_, one, _, other| {
        candidates.push(compare(one, other));
    });
    let random = batch::random_pairs(people.as_slice(), 100_000, 1);
    assert_eq!(
        random.len(),
        180 * 179 / 2,
        "all pairs, where there are fewer"
    );
    let weights = train::estimated(Weights::shipped(), "town", &candidates, &random, 180);
    // Each name is followed by its slip, and each day by itself.
    assert!(weights.bits(Field::Family, usize::from(family::CLOSE)) > 3.0);
    assert!(weights.bits(Field::BirthDate, usize::from(birth::EXACT)) > 5.0);
    assert!((weights.expected - 1.0).abs() < 0.2, "{}", weights.expected);
    assert_eq!(
        weights,
        train::estimated(Weights::shipped(), "town", &candidates, &random, 180)
    );
}

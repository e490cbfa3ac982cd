//! Numbers and quantities: tables of what is asked and what is said, and a check against plain decimals.
use super::*;
use proptest::prelude::*;
use rust_decimal::Decimal;
use serde_json::{Value, json};

fn quantity(value: &str, unit: &str, system: &str, code: &str, comparator: &str) -> Value {
    let mut quantity = json!({ "value": value.parse::<serde_json::Number>().unwrap() });
    for (name, text) in [
        ("unit", unit),
        ("system", system),
        ("code", code),
        ("comparator", comparator),
    ] {
        if !text.is_empty() {
            quantity[name] = json!(text);
        }
    }
    quantity
}

#[allow(
    clippy::needless_pass_by_value,
    reason = "so that `json!` can stand in the call"
)]
fn observation(member: &str, value: Value) -> Resource {
    Resource::from_value(json!({
        "resourceType": "Observation", "id": "o", "status": "final", "code": {"text": "x"}, member: value,
    }))
    .unwrap()
}

fn matches(resource: &Resource, name: &str, value: &str) -> bool {
    let pair = [(name.to_owned(), value.to_owned())];
    let query = SearchQuery::parse(resource.kind(), &pair, false);
    query
        .unwrap_or_else(|error| panic!("{name}={value}: {error}"))
        .matches(resource)
}

const UCUM: &str = "http://unitsofmeasure.org";

/// `5.4 mg` in UCUM; `<5 mg` with a comparator.
fn ucum(text: &str) -> Resource {
    let (value, code) = text.split_once(' ').unwrap();
    let number = value.trim_start_matches(['<', '>', '=']);
    let comparator = &value[..value.len() - number.len()];
    observation(
        "valueQuantity",
        quantity(number, code, UCUM, code, comparator),
    )
}

#[test]
fn digits_say_how_precise_a_number_is() {
    for (asked, found, expected) in [
        ("100", "99.5", true),
        ("100", "100.4999999999", true),
        ("100", "100.5", false),
        ("100", "99.4999999999", false),
        ("100.00", "99.995", true),
        ("100.00", "100.00499", true),
        ("100.00", "100.005", false),
        ("100.00", "99.99499", false),
        ("1e2", "95", true),
        ("1e2", "104.999", true),
        ("1e2", "105", false),
        ("1e2", "94.999", false),
        ("1.0e2", "95", true),
        ("1.0e2", "105", false),
        ("1.00e2", "99.5", true),
        ("1.00e2", "99.4", false),
        ("1.00E+2", "100.4", true),
        ("12e1", "125", false),
        ("12e1", "115", true),
        ("-100", "-100.5", true),
        ("-100", "-99.5", false),
        ("0", "0.49", true),
        ("0", "-0.5", true),
        ("0", "0.5", false),
        ("0.0", "0.049", true),
        ("0.0", "0.05", false),
        // The digits of the resource say nothing.
        ("5.40", "5.4", true),
        ("5.4", "5.4000", true),
        ("5.4", "54e-1", true),
        // No binary fractions.
        ("ge0.3", "0.3", true),
        ("gt0.3", "0.3", false),
        ("gt0.3", "0.30000000000000000001", true),
        ("lt0.3", "0.29999999999999999999", true),
        ("1e-30", "0.000000000000000000000000000001", true),
        ("gt9007199254740992", "9007199254740993", true),
        ("lt1e300", "123456789e200", true),
        ("eq100", "100", true),
        ("ne100", "100.2", false),
        ("ne100", "101", true),
        // A comparator asks for the number itself, not for what its digits stand for.
        ("gt100", "100.2", true),
        ("gt100", "100", false),
        ("ge100", "99.9", false),
        ("ge100", "100", true),
        ("lt100", "99.9", true),
        ("le100", "100", true),
        ("le100", "100.1", false),
        ("sa100", "100.1", true),
        ("sa100", "100", false),
        ("eb100", "99.9", true),
        ("eb100", "100", false),
        ("ap100", "90", true),
        ("ap100", "110", true),
        ("ap100", "89.9", false),
        ("ap100", "110.1", false),
        ("ap-100", "-95", true),
        ("ap0", "0.4", true),
        (" 5", "5", true),
        ("+5", "5", true),
        ("101,100", "100", true),
    ] {
        let resource = observation("valueQuantity", quantity(found, "", "", "", ""));
        assert_eq!(
            matches(&resource, "value-quantity", asked),
            expected,
            "{asked} {found}"
        );
        let risk = json!({"resourceType": "RiskAssessment", "id": "r", "status": "final",
            "prediction": [{"probabilityDecimal": found.parse::<serde_json::Number>().unwrap()}]});
        let risk = Resource::from_value(risk).unwrap();
        assert_eq!(
            matches(&risk, "probability", asked),
            expected,
            "number {asked} {found}"
        );
    }
}

#[test]
fn quantities_compare_across_units() {
    for (asked, found, expected) in [
        // UCUM's own unit, or one that can be said in it.
        ("5.4|http://unitsofmeasure.org|g", "5400 mg", true),
        ("5.4|http://unitsofmeasure.org|g", "5.4 g", true),
        ("5400|http://unitsofmeasure.org|mg", "5.4 g", true),
        ("5400|http://unitsofmeasure.org|mg", "5.401 g", false),
        ("5.4|http://unitsofmeasure.org|g", "5.4 mg", false),
        ("gt5.4||mg", "6 mg", true),
        ("gt5.4||mg", "0.006 g", true),
        ("gt5.4||mg", "5.4 mg", false),
        ("gt5.4||mg", "5 mg", false),
        ("ge16||kPa", "120 mm[Hg]", false),
        ("ge15.998||kPa", "120 mm[Hg]", true),
        ("lt120||mm[Hg]", "15.9 kPa", true),
        ("lt120||mm[Hg]", "16 kPa", false),
        ("60||/min", "1 Hz", true),
        ("60||/min", "1.02 Hz", false),
        ("60||{beats}/min", "1 /s", true),
        // Temperatures have another zero.
        ("37||Cel", "310.15 K", true),
        ("37.0||Cel", "98.6 [degF]", true),
        ("ge37||Cel", "98.6 [degF]", true),
        ("gt37||Cel", "98.6 [degF]", false),
        ("le37||Cel", "98.6 [degF]", true),
        ("lt0||Cel", "30 [degF]", true),
        ("gt0||K", "-40 Cel", true),
        ("-40||Cel", "-40 [degF]", true),
        ("5||umol/L", "0.005 mmol/L", true),
        ("50||%", "0.5 1", true),
        ("5||[IU]/L", "0.005 [IU]/mL", true),
        // Incomparable ones never match.
        ("5.4||mg", "5.4 mL", false),
        ("ne5.4||mg", "7 mL", false),
        ("lt1000000||mg", "5 s", false),
        ("5||[IU]/L", "5 [arb'U]/L", false),
        // Scales without a factor compare with themselves only.
        ("7.4||[pH]", "7.4 [pH]", true),
        ("gt7||[pH]", "7.4 [pH]", true),
        ("gt7||[pH]", "8 1", false),
        // What is no UCUM compares with itself only.
        ("5||tablets", "5 tablets", true),
        ("5||tablets", "5 drops", false),
        ("5|http://unitsofmeasure.org|tablets", "5 tablets", true),
        // Whatever the unit.
        ("5.4", "5.4 mg", true),
        ("5.4", "5.4 kg", true),
        ("gt5", "0.006 kg", false),
        // Near, in the unit that was asked for.
        ("ap10||mg", "0.0105 g", true),
        ("ap10||mg", "0.012 g", false),
        // A bound is a range without an end.
        ("gt5||mg", ">5 mg", true),
        ("gt100||mg", ">5 mg", true),
        ("lt5||mg", ">5 mg", false),
        ("le5||mg", ">5 mg", false),
        ("le5||mg", ">=5 mg", true),
        ("lt1||mg", "<5 mg", true),
        ("ge5||mg", "<5 mg", false),
        ("ge5||mg", "<=5 mg", true),
        ("eq3||mg", "<5 mg", false),
        ("ne3||mg", "<5 mg", true),
        ("sa5||mg", ">5 mg", true),
        ("sa5||mg", ">=5 mg", false),
        ("eb5||mg", "<5 mg", true),
        ("eb5||mg", "<=5 mg", false),
        ("ap5||mg", "<5 mg", true),
        ("ap5||mg", "<4 mg", false),
        ("lt0.0049||g", "<5 mg", true),
    ] {
        assert_eq!(
            matches(&ucum(found), "value-quantity", asked),
            expected,
            "{asked} {found}"
        );
    }
}

#[test]
fn units_are_words_systems_and_codes() {
    let drops = quantity("3", "drops", "http://units.org", "gtt", "");
    let words = quantity("3", "mg", "", "", "");
    let said = quantity("3", "milligram", UCUM, "mg", "");
    for (asked, found, expected) in [
        ("3||gtt", &drops, true),
        ("3||drops", &drops, true),
        ("3|http://units.org|gtt", &drops, true),
        ("3|http://units.org|drops", &drops, false),
        ("3|http://other.org|gtt", &drops, false),
        ("4||gtt", &drops, false),
        ("3||mg", &words, true),
        ("0.003||g", &words, false),
        ("3|http://unitsofmeasure.org|mg", &words, false),
        ("3||milligram", &said, true),
        ("3||mg", &said, true),
        ("0.003||g", &said, true),
    ] {
        let resource = observation("valueQuantity", found.clone());
        assert_eq!(
            matches(&resource, "value-quantity", asked),
            expected,
            "{asked} {found}"
        );
    }
}

#[test]
fn every_form_of_a_quantity_is_read() {
    let g = |value: &str| quantity(value, "g", UCUM, "g", "");
    let condition = |onset: Value| json!({"resourceType": "Condition", "id": "c", "subject": {"reference": "Patient/p"}, "onsetRange": onset});
    let range = |low: Value, high: Value| condition(json!({"low": low, "high": high}));
    let year = |value: &str| quantity(value, "a", UCUM, "a", "");
    let sampled = |data: &str| {
        json!({"resourceType": "Observation", "id": "o", "status": "final", "code": {}, "valueSampledData":
        {"origin": g("10"), "period": 1, "dimensions": 1, "factor": 0.5, "data": data}})
    };
    let components = json!({"resourceType": "Observation", "id": "o", "status": "final", "code": {},
        "component": [{"code": {}, "valueQuantity": g("1")}, {"code": {}, "valueQuantity": g("9")}]});
    for (resource, name, asked, expected) in [
        (range(year("40"), year("50")), "onset-age", "gt45||a", true),
        (range(year("40"), year("50")), "onset-age", "lt45||a", true),
        (range(year("40"), year("50")), "onset-age", "45||a", false),
        (range(year("40"), year("50")), "onset-age", "sa39||a", true),
        (range(year("40"), year("50")), "onset-age", "sa40||a", false),
        (range(year("40"), year("50")), "onset-age", "eb51||a", true),
        (range(year("40"), year("50")), "onset-age", "gt50||a", false),
        (
            range(year("40"), year("50")),
            "onset-age",
            "ge600||mo",
            true,
        ),
        (
            range(year("40.1"), year("40.2")),
            "onset-age",
            "40||a",
            true,
        ),
        (
            condition(json!({"low": year("40")})),
            "onset-age",
            "gt99||a",
            true,
        ),
        (
            condition(json!({"low": year("40")})),
            "onset-age",
            "lt40||a",
            false,
        ),
        (
            condition(json!({"high": year("40")})),
            "onset-age",
            "le1||a",
            true,
        ),
        // What contradicts itself says nothing.
        (range(year("50"), year("40")), "onset-age", "gt1||a", false),
        (range(year("40"), g("50")), "onset-age", "gt1||a", false),
        (condition(json!({})), "onset-age", "gt1||a", false),
        (sampled("0 4 E -2"), "value-quantity", "gt11||g", true),
        (sampled("0 4 E -2"), "value-quantity", "gt12||g", false),
        (sampled("0 4 E -2"), "value-quantity", "le9||g", true),
        (sampled("0 4 E -2"), "value-quantity", "lt9||g", false),
        (sampled("0 U"), "value-quantity", "gt1||kg", true),
        (sampled("0 L"), "value-quantity", "lt0||g", true),
        (sampled("E"), "value-quantity", "gt0", false),
        (sampled("0 x"), "value-quantity", "gt0", false),
        (components.clone(), "component-value-quantity", "1||g", true),
        (
            components.clone(),
            "component-value-quantity",
            "9000||mg",
            true,
        ),
        (
            components.clone(),
            "component-value-quantity",
            "5||g",
            false,
        ),
        (components.clone(), "combo-value-quantity", "gt8||g", true),
        (components, "value-quantity", "gt8||g", false),
        (
            json!({"resourceType": "Invoice", "id": "i", "status": "issued", "totalNet": {"value": 12.50, "currency": "EUR"}}),
            "totalnet",
            "12.50|urn:iso:std:iso:4217|EUR",
            true,
        ),
        (
            json!({"resourceType": "Invoice", "id": "i", "status": "issued", "totalNet": {"value": 12.50, "currency": "EUR"}}),
            "totalnet",
            "gt12||EUR",
            true,
        ),
        (
            json!({"resourceType": "Invoice", "id": "i", "status": "issued", "totalNet": {"value": 12.50, "currency": "EUR"}}),
            "totalnet",
            "gt12||USD",
            false,
        ),
        (
            json!({"resourceType": "Encounter", "id": "e", "status": "finished", "class": {}, "length": quantity("90", "min", UCUM, "min", "")}),
            "length",
            "1.5||h",
            true,
        ),
        (
            json!({"resourceType": "ChargeItem", "id": "c", "status": "billed", "code": {}, "subject": {}, "factorOverride": 0.8}),
            "factor-override",
            "lt1",
            true,
        ),
        (
            json!({"resourceType": "RiskAssessment", "id": "r", "status": "final",
                "prediction": [{"probabilityRange": {"low": quantity("0.2", "", "", "", ""), "high": quantity("0.4", "", "", "", "")}}]}),
            "probability",
            "gt0.3",
            true,
        ),
        (
            json!({"resourceType": "MolecularSequence", "id": "m", "coordinateSystem": 0, "referenceSeq": {"windowStart": 128, "windowEnd": 200}}),
            "window-start",
            "128",
            true,
        ),
    ] {
        let resource = Resource::from_value(resource).unwrap();
        assert_eq!(
            matches(&resource, name, asked),
            expected,
            "{name}={asked} {resource:?}"
        );
    }
}

#[test]
fn what_is_missing_is_told() {
    let some = ucum("5 mg");
    let none = observation("valueString", json!("five"));
    for (resource, missing) in [(&some, false), (&none, true)] {
        assert_eq!(matches(resource, "value-quantity:missing", "true"), missing);
        assert_eq!(
            matches(resource, "value-quantity:missing", "false"),
            !missing
        );
    }
}

#[test]
fn what_is_no_number_is_refused() {
    for value in [
        "",
        "x",
        "5.4mg",
        "5|mg",
        "5||",
        "5|http://unitsofmeasure.org|",
        "5|a|b|c",
        "||mg",
        "xx5",
        "gt",
        "5e",
        "e5",
        "1.2.3",
        "5e99999999999",
        "NaN",
        "inf",
        "0x10",
    ] {
        let pair = [("value-quantity".to_owned(), value.to_owned())];
        let outcome = SearchQuery::parse(ResourceType::Observation, &pair, false);
        assert!(outcome.is_err(), "{value}");
    }
    let not = [("value-quantity:not".to_owned(), "5".to_owned())];
    assert!(SearchQuery::parse(ResourceType::Observation, &not, false).is_err());
}

#[test]
fn positions_at_the_edges() {
    let position = |text: &str| Amount::parse(text).unwrap().position();
    assert_eq!(position("0"), 0);
    assert_eq!(position("1e-50"), 1);
    assert_eq!(position("1e-49"), 1);
    assert_eq!(position("9.99e49"), POSITION_MAX);
    assert_eq!(position("1e50"), POSITION_MAX);
    assert_eq!(position("-1e300"), -POSITION_MAX);
    assert_eq!(position("1.00") + 1, position("1.01"));
    assert_eq!(position("9.99") + 1, position("10"));
    assert_eq!(position("5.40"), position("5.4099"));
}

/// A decimal of few digits, as text.
fn decimals() -> impl Strategy<Value = String> {
    (-99_999i64..99_999, 0u32..6)
        .prop_map(|(digits, places)| Decimal::new(digits, places).to_string())
}

proptest! {
    /// Against rust_decimal, which is exact for so few digits.
    #[test]
    fn comparing_is_what_plain_decimals_say(asked in decimals(), found in decimals(), prefix in 0usize..9) {
        let (a, f): (Decimal, Decimal) = (asked.parse().unwrap(), found.parse().unwrap());
        let half = Decimal::new(5, a.scale() + 1);
        let within = a - half <= f && f < a + half;
        let tenth = a.abs() / Decimal::TEN;
        let near = (a - tenth).min(a - half) <= f && f <= (a + tenth).max(a + half);
        let (name, expected) = [
            ("eq", within), ("ne", !within), ("gt", f > a), ("lt", f < a), ("ge", f >= a), ("le", f <= a),
            ("sa", f > a), ("eb", f < a), ("ap", near),
        ][prefix];
        let resource = observation("valueQuantity", quantity(&found, "g", UCUM, "g", ""));
        prop_assert_eq!(matches(&resource, "value-quantity", &format!("{name}{asked}")), expected);
        prop_assert_eq!(matches(&resource, "value-quantity", &format!("{name}{asked}||g")), expected);
        // The same value in another unit.
        let milli = (f * Decimal::ONE_THOUSAND).to_string();
        let resource = observation("valueQuantity", quantity(&milli, "mg", UCUM, "mg", ""));
        prop_assert_eq!(matches(&resource, "value-quantity", &format!("{name}{asked}||g")), expected);
    }

    #[test]
    fn positions_never_turn_the_order_around(a in decimals(), b in decimals(), scale in -60i32..60) {
        let amount = |text: &str| Amount::parse(&format!("{text}e{scale}")).unwrap();
        let plain = |text: &str| text.parse::<Decimal>().unwrap();
        let (one, two) = (amount(&a), amount(&b));
        prop_assert_eq!(one.cmp(&two), plain(&a).cmp(&plain(&b)));
        if one <= two {
            prop_assert!(one.position() <= two.position());
        }
        prop_assert!(one.position().abs() <= POSITION_MAX);
    }
}

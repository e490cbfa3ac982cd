use super::*;
use serde_json::json;

fn patient() -> Value {
    serde_json::from_str(
        r##"{"resourceType": "Patient", "id": "p1", "active": true, "birthDate": "1950-02-03", "_birthDate": {"extension": [{"url": "http://x.org/time", "valueDateTime": "1950-02-03T04:05:06Z"}]},
        "name": [{"use": "official", "family": "Berg", "given": ["Ida", "Maria"]}, {"use": "usual", "given": ["Idi"]}],
        "telecom": [{"system": "phone", "value": "555"}, {"system": "email", "value": "a@b.org"}],
        "multipleBirthInteger": 2, "_gender": {"extension": [{"url": "http://x.org/absent", "valueCode": "unknown"}]},
        "extension": [{"url": "http://x.org/a", "valueString": "A"}, {"url": "http://x.org/b", "valueQuantity": {"value": 1.50, "unit": "kg", "code": "kg"}}],
        "generalPractitioner": [{"reference": "Practitioner/d1"}, {"reference": "#c1"}, {"reference": "https://other.org/Organization/o1"}, {"display": "x"}],
        "contained": [{"resourceType": "Practitioner", "id": "c1", "active": false}]}"##,
    )
    .unwrap()
}

fn weight() -> Value {
    serde_json::from_str(
        r#"{"resourceType": "Observation", "id": "w1", "status": "final", "code": {"coding": [{"system": "http://loinc.org", "code": "29463-7"}]},
        "effectiveDateTime": "2026-11-26T10:00:00+01:00", "valueQuantity": {"value": 72.50, "unit": "kg", "code": "kg"},
        "component": [{"code": {"text": "a"}, "valueInteger": 1}, {"code": {"text": "b"}, "valueString": "s"}, {"code": {"text": "c"}}]}"#,
    )
    .unwrap()
}

fn run(text: &str, focus: &Value) -> Result<Value, PathError> {
    let expression = Expression::compile(text)?;
    let limit = json!({"value": 2, "code": "kg"});
    let list = json!(["a", "b"]);
    let environment = Environment {
        variables: vec![("limit", &limit), ("list", &list)],
        // 2026-11-26T19:23:32.123Z
        now_ms: Some(1_795_721_012_123),
    };
    Ok(expression
        .evaluate(focus, &environment)?
        .iter()
        .map(|item| item.value().clone())
        .collect())
}

fn check(focus: &Value, cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        let expected: Value = serde_json::from_str(expected).unwrap();
        match run(text, focus) {
            Ok(seen) => assert_eq!(seen, expected, "{text}"),
            Err(error) => panic!("{text}: {error}"),
        }
    }
}

#[test]
fn paths() {
    check(
        &patient(),
        &[
            ("id", r#"["p1"]"#),
            ("Patient.id", r#"["p1"]"#),
            ("Resource.id", r#"["p1"]"#),
            ("DomainResource.id", r#"["p1"]"#),
            ("Observation.id", "[]"),
            ("name.given", r#"["Ida", "Maria", "Idi"]"#),
            ("name[0].given[1]", r#"["Maria"]"#),
            ("name[7].given", "[]"),
            ("name.`given`", r#"["Ida", "Maria", "Idi"]"#),
            ("nothing.at.all", "[]"),
            ("multipleBirth", "[2]"),
            ("multipleBirthInteger", "[2]"),
            ("deceased", "[]"),
            ("$this.id", r#"["p1"]"#),
            ("%resource.id", r#"["p1"]"#),
            ("%context.name.count()", "[2]"),
            ("%limit.value", "[2]"),
            ("%list", r#"["a", "b"]"#),
            ("%list.count()", "[2]"),
            ("%ucum", r#"["http://unitsofmeasure.org"]"#),
            ("name.where(use = 'official').family", r#"["Berg"]"#),
            ("name.where(given.count() > 1).use", r#"["official"]"#),
            ("name.where($index = 1).use", r#"["usual"]"#),
            ("name.select(given.first())", r#"["Ida", "Idi"]"#),
            (
                "name.given.select($this + '!')",
                r#"["Ida!", "Maria!", "Idi!"]"#,
            ),
            ("name.exists(family.exists())", "[true]"),
            ("name.all(given.exists())", "[true]"),
            ("name.all(family.exists())", "[false]"),
            (
                "name.family | name.given | name.given",
                r#"["Berg", "Ida", "Maria", "Idi"]"#,
            ),
            ("extension('http://x.org/a').value", r#"["A"]"#),
            ("extension('http://x.org/b').value.value", "[1.50]"),
            (
                "extension.where(url = 'http://x.org/a').valueString",
                r#"["A"]"#,
            ),
            (
                "birthDate.extension('http://x.org/time').value",
                r#"["1950-02-03T04:05:06Z"]"#,
            ),
            ("birthDate.extension.url", r#"["http://x.org/time"]"#),
            ("gender.extension.value", r#"["unknown"]"#),
            ("gender.exists()", "[true]"),
            ("gender.hasValue()", "[false]"),
            ("gender.getValue()", "[]"),
            ("birthDate.hasValue()", "[true]"),
            ("telecom.where(system='email').value", r#"["a@b.org"]"#),
            ("descendants().where($this is Quantity).value", "[1.50]"),
            ("children().count() > 10", "[true]"),
            ("generalPractitioner.resolve().id", r#"["d1", "c1", "o1"]"#),
            (
                "generalPractitioner.where(resolve() is Practitioner).reference",
                r##"["Practitioner/d1", "#c1"]"##,
            ),
            (
                "generalPractitioner.where(resolve() is Organization).count()",
                "[1]",
            ),
            ("generalPractitioner.resolve().active", "[false]"),
            ("contained.ofType(Practitioner).id", r#"["c1"]"#),
            ("name // a comment\n.count() /* and\n another */", "[2]"),
        ],
    );
    check(
        &weight(),
        &[
            ("value", r#"[{"value": 72.50, "unit": "kg", "code": "kg"}]"#),
            ("Observation.value.value", "[72.50]"),
            ("(Observation.value as Quantity).unit", r#"["kg"]"#),
            ("Observation.value.as(CodeableConcept)", "[]"),
            ("value.ofType(Quantity).value", "[72.50]"),
            ("component.value", r#"[1, "s"]"#),
            ("component.value.ofType(integer)", "[1]"),
            ("component.where(value.exists()).code.text", r#"["a", "b"]"#),
            ("component.where(value is string).code.text", r#"["b"]"#),
            ("effective", r#"["2026-11-26T10:00:00+01:00"]"#),
            (
                "code.coding.where(system = 'http://loinc.org' and code = '29463-7').exists()",
                "[true]",
            ),
            ("repeat(component).count()", "[3]"),
            ("repeat(component | code).count()", "[7]"),
        ],
    );
    // Without a resource type, members that look like a choice are found all the same.
    check(
        &json!({"valueDateTime": "2020", "valueSet": 1, "other": {"valueQuantity": {"value": 1}}}),
        &[("value", r#"["2020"]"#), ("other.value.value", "[1]")],
    );
}

#[test]
fn types() {
    check(
        &patient(),
        &[
            ("active is boolean", "[true]"),
            ("active.is(System.Boolean)", "[false]"),
            ("true is Boolean", "[true]"),
            ("1 is Integer", "[true]"),
            ("1.0 is Decimal", "[true]"),
            ("'x' is System.String", "[true]"),
            ("@2020 is Date", "[true]"),
            ("@2020T is DateTime", "[true]"),
            ("@T10 is Time", "[true]"),
            ("1 'kg' is Quantity", "[true]"),
            ("birthDate is date", "[true]"),
            ("birthDate is FHIR.date", "[true]"),
            ("birthDate is dateTime", "[false]"),
            ("name[0] is HumanName", "[true]"),
            ("name[0] is Element", "[true]"),
            ("name[0].use is code", "[true]"),
            ("name[0].use is string", "[true]"),
            ("name[0].family is code", "[false]"),
            ("$this is Patient", "[true]"),
            ("$this is DomainResource", "[true]"),
            ("$this is Observation", "[false]"),
            ("telecom[0] is ContactPoint", "[true]"),
            ("nothing is string", "[]"),
            ("name.ofType(HumanName).count()", "[2]"),
            ("name as Address", "[]"),
        ],
    );
}

#[test]
fn equality_and_order() {
    check(
        &weight(),
        &[
            ("1 = 1.0", "[true]"),
            ("1.10 = 1.1", "[true]"),
            ("0.1 + 0.2 = 0.3", "[true]"),
            ("1.0000000000000000001 = 1.0", "[false]"),
            ("value.value = 72.5", "[true]"),
            ("1 != 2", "[true]"),
            ("'a' = 'A'", "[false]"),
            ("'a' ~ 'A'", "[true]"),
            ("'a  b' ~ 'A b'", "[true]"),
            ("1.11 ~ 1.1", "[true]"),
            ("1 = '1'", "[false]"),
            ("{} = 1", "[]"),
            ("{} ~ {}", "[true]"),
            ("1 ~ {}", "[false]"),
            ("1 !~ 2", "[true]"),
            ("(1 | 2) = (1 | 2)", "[true]"),
            ("(1 | 2) = (2 | 1)", "[false]"),
            ("(1 | 2) ~ (2 | 1)", "[true]"),
            ("(1 | 2) = 1", "[false]"),
            ("code = code", "[true]"),
            ("code = value", "[false]"),
            ("1 < 2", "[true]"),
            ("1 < 0.5", "[false]"),
            ("'a' < 'b'", "[true]"),
            ("1 > {}", "[]"),
            ("value > 2 'kg'", "[true]"),
            ("value > 72.5 'kg'", "[false]"),
            ("value >= 72.5 'kg'", "[true]"),
            ("value = 72.50 'kg'", "[true]"),
            ("value > %limit", "[true]"),
            ("value > 2 'lb'", "[]"),
            ("2 days > 1 'd'", "[true]"),
            ("7 'd' = 7 days", "[true]"),
            ("@2020 = @2020", "[true]"),
            ("@2020 = @2021", "[false]"),
            ("@2020 = @2020-01", "[]"),
            ("@2020-01 < @2021", "[true]"),
            ("@2020-01 < @2020", "[]"),
            (
                "@2020-01-01T10:00:00.000Z = @2020-01-01T10:00:00Z",
                "[true]",
            ),
            ("@2020-01-01T10:00:00.5Z > @2020-01-01T10:00:00Z", "[true]"),
            (
                "@2020-01-01T10:00:00+02:00 = @2020-01-01T08:00:00Z",
                "[true]",
            ),
            (
                "@2020-01-01T23:00:00-05:00 > @2020-01-02T00:00:00Z",
                "[true]",
            ),
            ("@2020-01-01T10 = @2020-01-01T10:30", "[]"),
            ("@2020-01-01 < @2020-01-02T00:00:00Z", "[true]"),
            ("@2020 ~ @2020-01", "[false]"),
            ("@T10:30 < @T10:31", "[true]"),
            ("@T10 = @T10:30", "[]"),
            ("effective > @2026-11-25", "[true]"),
            ("effective = @2026-11-26T09:00:00Z", "[true]"),
            ("effective <= now()", "[true]"),
            ("effective > now() - 1 day", "[true]"),
            ("effective > now() - 5 hours", "[false]"),
            ("'2020-01-02' > @2020-01-01", "[true]"),
            ("1 in (1 | 2)", "[true]"),
            ("3 in (1 | 2)", "[false]"),
            ("{} in (1 | 2)", "[]"),
            ("(1 | 2) contains 2", "[true]"),
            ("status in ('final' | 'amended')", "[true]"),
        ],
    );
}

#[test]
fn logic() {
    let values = ["true", "false", "{}"];
    let tables = [
        (
            "and",
            [
                "[true]", "[false]", "[]", "[false]", "[false]", "[false]", "[]", "[false]", "[]",
            ],
        ),
        (
            "or",
            [
                "[true]", "[true]", "[true]", "[true]", "[false]", "[]", "[true]", "[]", "[]",
            ],
        ),
        (
            "xor",
            [
                "[false]", "[true]", "[]", "[true]", "[false]", "[]", "[]", "[]", "[]",
            ],
        ),
        (
            "implies",
            [
                "[true]", "[false]", "[]", "[true]", "[true]", "[true]", "[true]", "[]", "[]",
            ],
        ),
    ];
    for (operator, expected) in tables {
        let mut expected = expected.iter();
        for a in values {
            for b in values {
                check(
                    &json!({}),
                    &[(&format!("{a} {operator} {b}"), expected.next().unwrap())],
                );
            }
        }
    }
    check(
        &patient(),
        &[
            ("active.not()", "[false]"),
            ("{}.not()", "[]"),
            ("name.family and true", "[true]"),
            ("true or false and false", "[true]"),
            ("(true or false) and false", "[false]"),
            ("false and nothing.first().toInteger() > 'x'", "[false]"),
            ("iif(active, 'yes', 'no')", r#"["yes"]"#),
            ("iif(active.not(), 'yes')", "[]"),
            ("iif({}, 'yes', 'no')", r#"["no"]"#),
            ("name[0].iif(use = 'official', family, 'x')", r#"["Berg"]"#),
            ("(true | false).allTrue()", "[false]"),
            ("(true | false).anyTrue()", "[true]"),
            ("(true | false).anyFalse()", "[true]"),
            ("{}.allTrue()", "[true]"),
            ("{}.allFalse()", "[true]"),
        ],
    );
}

#[test]
fn arithmetic() {
    check(
        &weight(),
        &[
            ("1 + 2 * 3", "[7]"),
            ("(1 + 2) * 3", "[9]"),
            ("-3 + 1", "[-2]"),
            ("7 / 2", "[3.5]"),
            ("7 div 2", "[3]"),
            ("7 mod 2", "[1]"),
            ("-7 div 2", "[-3]"),
            ("1 / 0", "[]"),
            ("1 div 0", "[]"),
            ("1.5 + 1", "[2.5]"),
            ("1.10 + 1.10", "[2.20]"),
            ("1 + {}", "[]"),
            ("'a' + 'b'", r#"["ab"]"#),
            ("'a' & {} & 'b'", r#"["ab"]"#),
            ("'a' + {}", "[]"),
            ("value - 70 'kg'", r#"[{"value": 2.50, "unit": "kg"}]"#),
            ("(value - 70 'kg') > %limit", "[true]"),
            ("value.value - 70 > 2", "[true]"),
            ("value * 2", r#"[{"value": 145.00, "unit": "kg"}]"#),
            ("@2024-01-31 + 1 month", r#"["2024-02-29"]"#),
            ("@2024-02-29 + 1 year", r#"["2025-02-28"]"#),
            ("@2024-02-28 + 2 days", r#"["2024-03-01"]"#),
            ("@2024-01-01 - 1 week", r#"["2023-12-25"]"#),
            ("@2024 + 24 months", r#"["2026"]"#),
            ("@2024-01 + 40 days", r#"["2024-02"]"#),
            ("@2024-01-01 + 36 hours", r#"["2024-01-02"]"#),
            (
                "@2024-01-01T10:00:00Z + 36 hours",
                r#"["2024-01-02T22:00:00Z"]"#,
            ),
            (
                "@2024-01-01T10:00:00+02:00 - 90 minutes",
                r#"["2024-01-01T08:30:00+02:00"]"#,
            ),
            (
                "@2024-01-01T10:00:00Z + 0.5 's'",
                r#"["2024-01-01T10:00:00.500Z"]"#,
            ),
            ("@T23:00 + 2 hours", r#"["01:00"]"#),
            ("@9999-12-31 + 1 day", "[]"),
            ("@0001-01-01 - 1 day", "[]"),
            ("today()", r#"["2026-11-26"]"#),
            ("today() - 2 days", r#"["2026-11-24"]"#),
            ("now()", r#"["2026-11-26T19:23:32.123Z"]"#),
            ("timeOfDay()", r#"["19:23:32.123"]"#),
            ("effective + 48 hours", r#"["2026-11-28T10:00:00+01:00"]"#),
            ("(-5).abs()", "[5]"),
            ("(-5.5).abs()", "[5.5]"),
            ("1.2.ceiling()", "[2]"),
            ("(-1.2).floor()", "[-2]"),
            ("1.55.round(1)", "[1.6]"),
            ("1.5.truncate()", "[1]"),
            ("2.5.round()", "[3]"),
        ],
    );
}

#[test]
fn functions() {
    check(
        &patient(),
        &[
            ("name.empty()", "[false]"),
            ("nothing.empty()", "[true]"),
            ("nothing.exists()", "[false]"),
            ("name.given.first()", r#"["Ida"]"#),
            ("name.given.last()", r#"["Idi"]"#),
            ("name.given.tail()", r#"["Maria", "Idi"]"#),
            ("name.given.skip(2)", r#"["Idi"]"#),
            ("name.given.take(1)", r#"["Ida"]"#),
            ("name.given.take(-1)", "[]"),
            ("nothing.first()", "[]"),
            ("name.first().single().family", r#"["Berg"]"#),
            ("(1 | 1 | 2).count()", "[2]"),
            ("1.combine(1)", "[1, 1]"),
            ("1.combine(1).distinct()", "[1]"),
            ("1.combine(1.0).isDistinct()", "[false]"),
            ("name.given.isDistinct()", "[true]"),
            ("(1 | 2 | 3).intersect(2 | 3 | 4)", "[2, 3]"),
            ("(1 | 2 | 3).exclude(2)", "[1, 3]"),
            ("(1 | 2).subsetOf(1 | 2 | 3)", "[true]"),
            ("(1 | 2).supersetOf(1 | 2 | 3)", "[false]"),
            ("1.union(2 | 1)", "[1, 2]"),
            ("name.given.join(', ')", r#"["Ida, Maria, Idi"]"#),
            ("'a-b'.split('-')", r#"["a", "b"]"#),
            ("'Größe'.length()", "[5]"),
            ("'Größe'.upper()", r#"["GRÖSSE"]"#),
            ("'ABC'.lower()", r#"["abc"]"#),
            ("' a '.trim()", r#"["a"]"#),
            ("'ab'.toChars()", r#"["a", "b"]"#),
            ("'Größe'.substring(3)", r#"["ße"]"#),
            ("'Größe'.substring(1, 2)", r#"["rö"]"#),
            ("'abc'.substring(3)", "[]"),
            ("'abc'.substring(-1)", "[]"),
            ("'Größe'.indexOf('ße')", "[3]"),
            ("'abc'.indexOf('x')", "[-1]"),
            ("'abc'.startsWith('ab')", "[true]"),
            ("'abc'.endsWith('ab')", "[false]"),
            ("'abc'.contains('b')", "[true]"),
            ("'abc'.replace('b', 'x')", r#"["axc"]"#),
            ("'abc'.matches('^a.c$')", "[true]"),
            ("'abc'.matches('b')", "[true]"),
            ("'abc'.matches('B')", "[false]"),
            ("'abc'.matches('a' & 'b')", "[true]"),
            (
                "'2026-11-26'.replaceMatches('(\\\\d+)-(\\\\d+)-(\\\\d+)', '$3.$2.$1')",
                r#"["26.11.2026"]"#,
            ),
            ("'abc'.replaceMatches('[a' & 'b]', '-')", r#"["--c"]"#),
            ("birthDate.startsWith('1950')", "[true]"),
            ("nothing.startsWith('x')", "[]"),
            ("'5'.toInteger()", "[5]"),
            ("'x'.toInteger()", "[]"),
            ("'5.50'.toDecimal()", "[5.50]"),
            ("true.toInteger()", "[1]"),
            ("'x'.convertsToInteger()", "[false]"),
            ("'yes'.toBoolean()", "[true]"),
            ("2.toBoolean()", "[]"),
            ("5.50.toString()", r#"["5.50"]"#),
            ("multipleBirth.toString()", r#"["2"]"#),
            ("birthDate.toString()", r#"["1950-02-03"]"#),
            ("@2020-01-01T10:00:00Z.toDate()", r#"["2020-01-01"]"#),
            ("'2020-01-01'.toDate() = @2020-01-01", "[true]"),
            ("'2020-13'.toDate()", "[]"),
            ("'2020-01-01'.toDateTime() is DateTime", "[true]"),
            ("'10:30'.toTime() = @T10:30", "[true]"),
            ("'2 days'.toQuantity() = 2 days", "[true]"),
            (
                "'2.5 \\'kg\\''.toQuantity()",
                r#"[{"value": 2.5, "unit": "kg"}]"#,
            ),
            ("(2.5 'kg').toString()", r#"["2.5 'kg'"]"#),
            ("'\\u00e9\\n\\t'", r#"["é\n\t"]"#),
            ("nothing.toInteger()", "[]"),
            ("name.count() = 2 and name.given.count() = 3", "[true]"),
        ],
    );
}

#[test]
fn what_the_next_version_adds() {
    check(
        &patient(),
        &[
            ("(1 | 2 | 3).aggregate($this + $total, 0)", "[6]"),
            (
                "(1 | 2).aggregate($total + (3 | 4).aggregate($this + $total, 0), 0)",
                "[14]",
            ),
            ("{}.aggregate($this + $total, 5)", "[5]"),
            ("name.given.sort()", r#"["Ida", "Idi", "Maria"]"#),
            ("name.given.sort(-$this)", r#"["Maria", "Idi", "Ida"]"#),
            ("name.sort(family).use", r#"["usual", "official"]"#),
            ("(2 | 1.5 | 10).sort()", "[1.5, 2, 10]"),
            ("1.587.lowBoundary()", "[1.58650000]"),
            ("1.587.highBoundary(2)", "[1.59]"),
            ("1.lowBoundary(40)", "[]"),
            ("1.lowBoundary({})", "[]"),
            ("@2014-02.highBoundary()", r#"["2014-02-28"]"#),
            (
                "@2014T.lowBoundary(17)",
                r#"["2014-01-01T00:00:00.000+14:00"]"#,
            ),
            ("@T10.highBoundary(4)", r#"["10:59"]"#),
            ("@2014.lowBoundary(17)", "[]"),
            (
                "extension('http://x.org/b').value.highBoundary(2).value",
                "[1.51]",
            ),
            ("'a'.lowBoundary()", "[]"),
            (
                "(1.50 | @2014-02 | @T10:30).select(precision())",
                "[2, 6, 4]",
            ),
            (
                "'<a href=\"x\">'.escape('html').unescape('html')",
                r#"["<a href=\"x\">"]"#,
            ),
            (r"'\\u00e4\\n'.unescape('json')", r#"["ä\n"]"#),
            ("'é'.encode('hex')", r#"["c3a9"]"#),
            ("'c3a'.decode('hex')", "[]"),
            ("'ff'.decode('hex')", "[]"),
            ("'a'.encode('rot13')", "[]"),
            ("name.type().name.distinct()", r#"["HumanName"]"#),
            (
                "1.type()",
                r#"[{"namespace": "System", "name": "Integer"}]"#,
            ),
            ("gender.type() = active.type()", "[false]"),
            ("'abc'.matchesFull('b')", "[false]"),
            ("'abc'.matchesFull('a|abc')", "[true]"),
            ("name.trace('x', given).count()", "[2]"),
            (
                "conformsTo('http://hl7.org/fhir/StructureDefinition/Patient')",
                "[true]",
            ),
            (
                "conformsTo('http://hl7.org/fhir/StructureDefinition/Person')",
                "[false]",
            ),
            (
                "2.power(10) | 2.5.power(2) | 4.power(-1)",
                "[1024, 6.25, 0.25]",
            ),
            (
                "(-1).power(0.5) | (-1).sqrt() | 0.ln() | 0.power(-1) | 5.log(1)",
                "[]",
            ),
            ("81.sqrt() | 1.ln() | 0.exp()", "[9, 0, 1]"),
            ("16.log(2)", "[4]"),
            ("%sct", r#"["http://snomed.info/sct"]"#),
            ("%`vs-x`", r#"["http://hl7.org/fhir/ValueSet/x"]"#),
            ("active.is(System.Foo)", "[false]"),
            ("contains | in", "[]"),
            ("'abc'.replaceMatches('', 'x')", r#"["abc"]"#),
            ("1 'g' = 1000 'mg'", "[true]"),
            ("1 'g' > 999 'mg'", "[true]"),
            ("1 'g' = 1 'cm'", "[]"),
            ("1 'g' < 1 'foo'", "[]"),
            ("4 'g' ~ 4040 'mg'", "[true]"),
            ("4040 'mg' ~ 4 'g'", "[true]"),
            ("4.01 'g' ~ 4040 'mg'", "[false]"),
            ("4 'g' ~ 4 's'", "[false]"),
            ("37 'Cel' = 98.6 '[degF]'", "[true]"),
            ("1 year = 12 months", "[true]"),
            ("1 year = 365 days", "[]"),
            ("1 week = 7 'd'", "[true]"),
            ("(1 'kg' | 1000 'g' | 2 'g').count()", "[2]"),
            ("2 'cm' * 2 'm'", r#"[{"value": 4, "unit": "cm.m"}]"#),
            ("6 'kg' / 2 'm2' = 3 'kg/m2'", "[true]"),
            ("1 'kg' + 1 'g'", "[]"),
            (
                "1 'cm'.comparable(1 '[in_i]') and (1 'cm'.comparable(1 's')).not()",
                "[true]",
            ),
            ("@2012-04-15T15:00:00Z = @2012-04-15T10:00:00", "[]"),
        ],
    );
    for text in [
        "conformsTo('http://x.org/profile')",
        "iif('text', 1, 2)",
        "@1973-12-25 + 1 'mo'",
        "('a' | 1).sort()",
        "200000.exp()",
        "10.power(30)",
        "'a'.sqrt()",
    ] {
        assert!(run(text, &patient()).is_err(), "{text}");
    }
}

#[test]
fn mistakes_are_found_when_compiling() {
    for (text, position, words) in [
        ("", 0, "unexpected end"),
        ("name.foo()", 5, "unknown function `foo`"),
        ("Patient.name.frist()", 13, "unknown function `frist`"),
        ("memberOf('x')", 0, "unknown function"),
        ("memberOf('x')", 0, "unknown function"),
        ("name.where()", 5, "takes 1 arguments, not 0"),
        ("name.first(1)", 5, "takes 0 arguments, not 1"),
        ("name.substring(1,2,3)", 5, "takes 1 to 2 arguments, not 3"),
        ("name.", 5, "a name is missing before end"),
        ("name..given", 5, "a name is missing before `.`"),
        ("name[0", 6, "`]` is missing before end"),
        ("(1 + 2", 6, "`)` is missing"),
        ("1 +", 3, "unexpected end"),
        ("and true", 0, "something is missing before `and`"),
        ("a b", 2, "unexpected `b`"),
        ("x is Foo", 5, "unknown type `Foo`"),
        ("x.ofType(Foo)", 9, "unknown type `Foo`"),
        ("x as System.Foo", 12, "unknown type `Foo`"),
        ("'abc", 0, "doesn't end"),
        (r"'a\q'", 3, "unknown escape"),
        (r"'\u12'", 3, "four hexadecimal digits"),
        ("/* x", 0, "comment doesn't end"),
        ("#", 0, "unexpected character '#'"),
        ("a = $x", 4, "unexpected character '$'"),
        ("$total", 0, "unexpected `$total`"),
        ("@2020-13", 0, "no date or time"),
        ("@T25", 0, "no date or time"),
        ("%", 0, "a variable's name is missing"),
        ("12ab", 2, "a number ends in a letter"),
        ("'x'.matches('(')", 12, "regular expression"),
        ("'x'.matches('(?=a)')", 12, "regular expression"),
        ("größe", 2, "unexpected character 'ö'"),
    ] {
        let error = Expression::compile(text).unwrap_err();
        assert!(error.message.contains(words), "{text}: {error}");
        assert_eq!(error.position, position, "{text}: {error}");
    }
}

#[test]
fn limits() {
    let nested = |levels: usize| format!("{}1{}", "(".repeat(levels), ")".repeat(levels));
    assert!(Expression::compile(&nested(60)).is_ok());
    for text in [
        nested(70),
        nested(4000),
        format!("{}1", "-".repeat(5000)),
        format!("1{}", " + 1".repeat(2000)),
        "a[".repeat(3000),
        " ".repeat(20_000),
    ] {
        let error = Expression::compile(&text).unwrap_err();
        assert!(
            error.message.contains("nesting") || error.message.contains("longer than"),
            "{error}"
        );
    }
    let long = format!("a{}", ".a".repeat(3000));
    check(&json!({"a": 1}), &[(&long, "[]")]);
}

#[test]
fn mistakes_that_only_data_shows() {
    for (text, position, words) in [
        ("name.given + 'x'", 11, "one item is wanted here, not 3"),
        ("name.given.length()", 11, "one item is wanted"),
        ("1 < 'a'", 2, "can't be compared"),
        ("1 + 'a'", 2, "can't be calculated"),
        ("@2020 + 1", 6, "an amount of time"),
        ("@2020 + 1 'kg'", 6, "an amount of time"),
        ("'abc' - 'b'", 6, "can't be added or subtracted"),
        ("%nothing", 0, "unknown variable `%nothing`"),
        ("active.length()", 7, "a text is wanted"),
        ("name.single()", 5, "one item"),
        ("9223372036854775807 + 1", 20, "too big"),
        ("-'a'", 0, "`-` wants a number"),
        ("name['a']", 4, "whole number"),
        ("'x'.matches('(' & '')", 16, "regular expression"),
    ] {
        let error = run(text, &patient()).unwrap_err();
        assert!(error.message.contains(words), "{text}: {error}");
        assert_eq!(error.position, position, "{text}: {error}");
    }
    let now = Expression::compile("now()").unwrap();
    assert!(
        now.evaluate(&json!({}), &Environment::default())
            .unwrap_err()
            .message
            .contains("no time")
    );
}

#[test]
fn tests_of_conditions() {
    let test = |text: &str| {
        Expression::compile(text)
            .unwrap()
            .test(&patient(), &Environment::default())
    };
    assert_eq!(test("active"), Ok(Some(true)));
    assert_eq!(test("name.count() = 3"), Ok(Some(false)));
    assert_eq!(test("nothing = 1"), Ok(None));
    assert!(
        test("name.family")
            .unwrap_err()
            .message
            .contains("not a boolean")
    );
    assert!(test("name").unwrap_err().message.contains("2 items"));
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "(name|given|'a'|1|2\\.5|@2020|true|\\(|\\)|\\.|\\[|\\]|where|first\\(\\)|=|<|\\+|-| is | as |string| and |\\||,|%x|\\$this| ){0,14}") {
        if let Ok(expression) = Expression::compile(&text) {
            let _ = expression.evaluate(&patient(), &Environment::default());
        }
    }
    #[test]
    fn no_characters_make_it_panic(text in "\\PC{0,30}") {
        let _ = Expression::compile(&text);
    }
}

/// Rows, as an input of a plan has.
fn rows(count: usize) -> Value {
    let row = |number: usize| json!({"resourceType": "Observation", "id": number.to_string(), "status": "final"});
    (0..count).map(row).collect()
}

fn on_rows(text: &str, rows: &Value) -> Result<Value, PathError> {
    let environment = Environment {
        variables: vec![("rows", rows)],
        now_ms: None,
    };
    let focus = patient();
    let expression = Expression::compile(text)?;
    let items = expression.evaluate(&focus, &environment)?;
    Ok(items.iter().map(|item| item.value().clone()).collect())
}

#[test]
fn what_costs_too_much_ends() {
    let rows = rows(200);
    let nested = |depth: usize| {
        let open = "%rows.where(".repeat(depth);
        format!(
            "{open}status = 'none'{}.exists()",
            ").exists()".repeat(depth - 1) + ")"
        )
    };
    let long = "a".repeat(100);
    let letters = format!(
        "'a'{}.length()",
        format!(".replace('a', '{long}')").repeat(8)
    );
    let between = format!(
        "'a'{}.length()",
        format!(".replace('', '{long}')").repeat(8)
    );
    let patterns = format!(
        "'a'{}.length()",
        format!(".replaceMatches('a', '{long}')").repeat(8)
    );
    let groups = format!(
        "'a'{}.length()",
        format!(".replaceMatches('.*', '{}')", "$0".repeat(50)).repeat(8)
    );
    let children = format!(
        "%rows{}.count()",
        ".combine(%rows)".repeat(20) + &".children()".repeat(2)
    );
    for text in [
        "(1).repeat($this + 1).exists()",
        "'a'.repeat($this & 'a').exists()",
        &letters,
        &between,
        &patterns,
        &groups,
        &nested(4),
        "%rows.aggregate($total & $total, 'a').length()",
        "%rows.aggregate($total + $total, 'a').length()",
        "%rows.aggregate($total.combine($total), 1).count()",
        "%rows.aggregate(iif($total.length() < 1000000, $total & $total, $total), 'a').toChars().select($this & $this).count() + %rows.aggregate(iif($total.length() < 10000000, $total & $total, $total), 'a').toChars().count()",
        "%rows.aggregate(iif($total.length() < 1000000, $total & $total, $total), 'a').select(%rows.select('a' & %rows.id.join('')).join($this)).exists() and %rows.id.join(%rows.aggregate(iif($total.length() < 1000000, $total & $total, $total), 'a')).exists()",
        "%rows.select(%rows.select(%rows.distinct().count()))",
        "%rows.select(%rows.select(%rows ~ %rows)).count()",
        "%rows.select(%rows.select(id.matchesFull('[0-9]+'))).count()",
    ] {
        match on_rows(text, &rows) {
            Err(error) => assert!(error.is_too_costly, "{text}: {error}"),
            Ok(seen) => panic!("{text}: {seen}"),
        }
    }
    // What is a lot, and done.
    assert_eq!(on_rows(&nested(2), &rows), Ok(json!([false])));
    assert_eq!(
        on_rows("%rows.repeat(id | status).count()", &rows),
        Ok(json!([201]))
    );
    assert!(on_rows(&children, &rows).is_ok());
}

#[test]
fn a_budget_is_of_all_that_is_evaluated_with_it() {
    let expression = Expression::compile("name.given.where($this = 'Ida').exists()").unwrap();
    let (focus, environment) = (patient(), Environment::default());
    let budget = Budget::new(500, 1000);
    let mut times = 0;
    let error = loop {
        match expression.evaluate_within(&focus, &environment, &budget) {
            Ok(_) => times += 1,
            Err(error) => break error,
        }
    };
    assert!(error.is_too_costly);
    assert!((1..50).contains(&times), "{times}");
    let small = Budget::new(1_000_000, 100);
    let text = Expression::compile("'0123456789' & '0123456789'").unwrap();
    let error = text.evaluate_within(&focus, &environment, &small);
    assert!(error.unwrap_err().is_too_costly);
}

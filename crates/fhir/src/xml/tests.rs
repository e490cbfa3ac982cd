use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

fn json_of(xml: &str) -> Value {
    parse(xml.as_bytes()).unwrap_or_else(|outcome| panic!("{xml}: {outcome:?}"))
}

#[test]
fn both_forms_say_the_same() {
    let table = [
        (
            json!({"resourceType": "Patient", "id": "a", "active": true,
                   "name": [{"id": "n1", "family": "Berg & <Tal>", "given": ["Ada", "\"E\"\n\t"]}],
                   "deceasedDateTime": "2026-11-26T10:00:00+01:00", "multipleBirthInteger": 2}),
            r#"<Patient xmlns="http://hl7.org/fhir"><id value="a"/><active value="true"/><name id="n1"><family value="Berg &amp; &lt;Tal&gt;"/><given value="Ada"/><given value="&quot;E&quot;&#10;&#9;"/></name><deceasedDateTime value="2026-11-26T10:00:00+01:00"/><multipleBirthInteger value="2"/></Patient>"#,
        ),
        // Ids and extensions of primitive elements, with and without a value, alone and in a row.
        (
            json!({"resourceType": "Patient",
                   "_birthDate": {"id": "b", "extension": [{"url": "http://x.org/unknown", "valueBoolean": true}]},
                   "name": [{"given": ["A", null, "C"], "_given": [null, {"extension": [{"url": "u", "valueCode": "x"}]}, {"id": "c"}]}]}),
            r#"<Patient xmlns="http://hl7.org/fhir"><name><given value="A"/><given><extension url="u"><valueCode value="x"/></extension></given><given id="c" value="C"/></name><birthDate id="b"><extension url="http://x.org/unknown"><valueBoolean value="true"/></extension></birthDate></Patient>"#,
        ),
        // Digits stay; a resource in a resource; a narrative byte for byte.
        (
            serde_json::from_str(
                r#"{"resourceType": "Bundle", "type": "collection", "entry": [{"fullUrl": "urn:x", "resource":
                   {"resourceType": "Observation",
                    "text": {"status": "generated", "div": "<div xmlns=\"http://www.w3.org/1999/xhtml\"><p class='a'>&lt; 3 <br/>&#160;</p></div>"},
                    "contained": [{"resourceType": "Device", "id": "d"}],
                    "status": "final", "code": {"text": "x"}, "valueQuantity": {"value": 1.2300e+2}}}]}"#,
            )
            .unwrap(),
            r#"<Bundle xmlns="http://hl7.org/fhir"><type value="collection"/><entry><fullUrl value="urn:x"/><resource><Observation><text><status value="generated"/><div xmlns="http://www.w3.org/1999/xhtml"><p class='a'>&lt; 3 <br/>&#160;</p></div></text><contained><Device><id value="d"/></Device></contained><status value="final"/><code><text value="x"/></code><valueQuantity><value value="1.2300e+2"/></valueQuantity></Observation></resource></entry></Bundle>"#,
        ),
    ];
    for (json, xml) in table {
        let written = write(&json).unwrap();
        assert_eq!(written.split_once('\n').unwrap().1, xml);
        assert_eq!(json_of(xml), json);
        assert_eq!(json_of(&written), json);
        assert_eq!(json_of(&write_pretty(&json).unwrap()), json);
    }
    let pretty =
        write_pretty(&json!({"resourceType": "Patient", "active": true, "name": [{"text": "A"}]}));
    let lines = "\
<?xml version=\"1.0\" encoding=\"UTF-8\"?>
<Patient xmlns=\"http://hl7.org/fhir\">
  <active value=\"true\"/>
  <name>
    <text value=\"A\"/>
  </name>
</Patient>";
    assert_eq!(pretty.unwrap(), lines);
}

#[test]
fn other_spellings_of_the_same_are_read() {
    let wanted = json!({"resourceType": "Patient", "gender": "female"});
    for xml in [
        "\u{feff}<?xml version=\"1.0\"?><!-- c --><Patient xmlns='http://hl7.org/fhir' xmlns:xsi='http://www.w3.org/2001/XMLSchema-instance' xsi:schemaLocation='a b'>\n  <gender value='female'></gender>\n</Patient>\n<!-- d -->\n",
        "<f:Patient xmlns:f='http://hl7.org/fhir'><?pi x?><f:gender value='fe&#109;ale'/></f:Patient>",
    ] {
        assert_eq!(json_of(xml), wanted);
    }
}

#[test]
fn what_fhir_does_not_know_is_refused() {
    let patient = |inner: &str| format!("<Patient xmlns=\"http://hl7.org/fhir\">{inner}</Patient>");
    for (xml, words) in [
        (String::new(), "there is no element"),
        ("<Patient/>".to_owned(), "name space"),
        (
            "<Nothing xmlns=\"http://hl7.org/fhir\"/>".to_owned(),
            "no resource of FHIR R4",
        ),
        (
            patient("<gendre value=\"x\"/>"),
            "`gendre` is no element of Patient",
        ),
        (patient("<gender code=\"x\"/>"), "attribute"),
        (patient("<gender/>"), "neither value nor extension"),
        (
            patient("<gender value=\"a\"/><gender value=\"b\"/>"),
            "more than once",
        ),
        (patient("\n\n<active value=\"yes\"/>"), "(line 3)"),
        (
            patient("<multipleBirthInteger value=\"+1\"/>"),
            "a number is none",
        ),
        (patient("Jane"), "text between elements"),
        (patient("<![CDATA[x]]>"), "text between elements"),
        (patient("<contained/>"), "no resource in it"),
        (
            patient("<text><status value=\"generated\"/><div>x</div></text>"),
            "name space",
        ),
        (
            patient(
                "<text><status value=\"generated\"/><div xmlns=\"http://www.w3.org/1999/xhtml\"><p></div></text>",
            ),
            "well-formed",
        ),
        (
            patient("<name><family value=\"&secret;\"/></name>"),
            "entity",
        ),
        (patient("") + &patient(""), "after the resource"),
        (patient("").replace("</Patient>", ""), "ends too early"),
        (
            "<!DOCTYPE p [<!ENTITY a SYSTEM \"file:///etc/passwd\">]>".to_owned() + &patient(""),
            "document types are refused",
        ),
        (
            patient(&("<extension url=\"u\">".repeat(80) + &"</extension>".repeat(80))),
            "levels of nesting",
        ),
    ] {
        let outcome = parse(xml.as_bytes()).expect_err(&xml);
        let found = format!("{outcome:?}");
        assert!(found.contains(words), "{xml}: {found}");
        assert!(!found.contains("secret"), "no content in words: {found}");
    }
}

#[test]
fn what_xml_has_no_place_for_is_not_left_out() {
    for (json, path) in [
        (json!({"resourceType": "Patient", "nme": 1}), "Patient.nme"),
        (
            json!({"resourceType": "Patient", "name": [{"famly": "x"}]}),
            "Patient.name.famly",
        ),
        (
            json!({"resourceType": "Patient", "name": ["x"]}),
            "Patient.name",
        ),
        (
            json!({"resourceType": "Patient", "active": "true"}),
            "Patient.active",
        ),
        (
            json!({"resourceType": "Patient", "gender": null}),
            "Patient.gender",
        ),
        (
            json!({"resourceType": "Patient", "name": []}),
            "Patient.name",
        ),
        (
            json!({"resourceType": "Patient", "_gender": {"value": "x"}}),
            "Patient.gender",
        ),
        (
            json!({"resourceType": "Patient", "language": "a\u{1}"}),
            "Patient.language",
        ),
        (
            json!({"resourceType": "Patient", "text": {"status": "generated", "div": "x"}}),
            "Patient.text.div",
        ),
        (
            json!({"resourceType": "Patient", "text": {"status": "generated", "div": "<div xmlns=\"http://www.w3.org/1999/xhtml\"/></text>"}}),
            "Patient.text.div",
        ),
        (json!({"resourceType": "Nothing"}), ""),
    ] {
        let outcome = format!("{:?}", write(&json).expect_err(&json.to_string()));
        assert!(
            outcome.contains(&format!("{path} can't be written")),
            "{json}: {outcome}"
        );
    }
}

proptest! {
    /// Any text that XML can hold comes back as it was.
    #[test]
    fn texts_survive(text in "[^\u{0}-\u{8}\u{b}\u{c}\u{e}-\u{1f}\u{fffe}\u{ffff}]{1,40}") {
        let resource = json!({"resourceType": "Patient", "name": [{"text": text, "_text": {"id": text}}]});
        prop_assert_eq!(json_of(&write(&resource).unwrap()), resource);
    }

    /// Whatever the bytes are, there is an answer.
    #[test]
    fn noise_is_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(parse(&bytes).is_err());
    }
}

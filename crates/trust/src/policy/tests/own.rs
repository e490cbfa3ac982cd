//! Purposes of use of one's own.
use super::*;
use crate::identity::{Contract, Registered};
use crate::scopes::Scopes;
use crate::tests::{House, TENANT};
use crate::{Access, Purposes};

const FOO_BAR: &str = "
[[purpose]]
system = 'urn:purposes'
code = 'FooBar'
display = 'the FooBar study'
is = 'HRESCH'
";
const POLICY: &str = r#"@id("a") permit (principal in Role::"client", action in Action::"look", resource)
    when { context.purpose == "HRESCH" };"#;

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [("a.cedar", POLICY)].iter().chain(files) {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn set(files: &[(&str, &str)]) -> Result<PolicySet, Vec<PolicyFault>> {
    PolicySet::load(Some(folder(files).path()))
}

fn question(set: &PolicySet, purpose: &str, kind: ResourceType) -> Question {
    Question {
        role: Role::Client,
        part: None,
        purpose: set.purposes().parse(purpose).unwrap(),
        action: Action::Read,
        kind: Some(kind),
        own: false,
        around: Around::default(),
    }
}

#[test]
fn what_is_wrong_with_a_purpose_is_said_where_it_stands() {
    let with = |system: &str, code: &str, display: &str, is: &str| {
        format!(
            "{FOO_BAR}[[purpose]]\nsystem = {system:?}\ncode = {code:?}\ndisplay = {display:?}\nis = {is:?}\n"
        )
    };
    let (urn, words) = ("urn:x", "a study");
    for (text, line, expected) in [
        (
            with(urn, "B", words, "HRESCHX"),
            11,
            "`HRESCHX` is no purpose that one can be a kind of; there are TREAT, CAREMGT",
        ),
        (
            with(urn, "B", words, "FooBar"),
            11,
            "`FooBar` is no purpose that",
        ),
        (with(urn, "B", words, "ETREAT"), 11, "ETREAT has no kinds"),
        (with(urn, "B", words, "PATRQT"), 11, "PATRQT has no kinds"),
        (
            with(urn, "FooBar", words, "TREAT"),
            9,
            "the code `FooBar` is taken by `FooBar`",
        ),
        (
            with(urn, "foobar", words, "TREAT"),
            9,
            "the code `foobar` is taken by `FooBar`",
        ),
        (
            with(urn, "TREAT", words, "TREAT"),
            9,
            "`TREAT` is HL7's `TREAT`",
        ),
        (
            with(urn, "clintrch", words, "HRESCH"),
            9,
            "is HL7's `CLINTRCH`",
        ),
        (with(urn, "", words, "TREAT"), 9, "has to be of letters"),
        (with(urn, "a b", words, "TREAT"), 9, "has to be of letters"),
        (with(urn, "a|b", words, "TREAT"), 9, "has to be of letters"),
        (with(urn, "a,b", words, "TREAT"), 9, "has to be of letters"),
        (
            with(urn, "\u{e9}", words, "TREAT"),
            9,
            "has to be of letters",
        ),
        (
            with(urn, &"a".repeat(65), words, "TREAT"),
            9,
            "has to be of letters",
        ),
        (
            with("purposes", "B", words, "TREAT"),
            8,
            "has to be an address with a scheme",
        ),
        (
            with("urn:a|b", "B", words, "TREAT"),
            8,
            "has to be an address",
        ),
        (
            with("urn:a b", "B", words, "TREAT"),
            8,
            "has to be an address",
        ),
        (
            with(Purpose::SYSTEM, "B", words, "TREAT"),
            8,
            "is HL7's code system",
        ),
        (with(urn, "B", " ", "TREAT"), 10, "`display` has to say"),
        (with(urn, "B", "a\nb", "TREAT"), 10, "`display` has to say"),
        (
            format!("{FOO_BAR}colour = 'red'\n"),
            7,
            "unknown field `colour`",
        ),
        (
            "[[purpose]]\ncode = 'x'\n".to_owned(),
            1,
            "missing field `system`",
        ),
    ] {
        let faults = set(&[("purposes.toml", &text)]).err().expect(expected);
        let [fault] = faults.as_slice() else {
            panic!("{faults:?}")
        };
        assert_eq!(fault.file, "purposes.toml");
        assert_eq!(fault.line, Some(line), "{fault}");
        assert!(fault.words.contains(expected), "{fault}");
    }
    let many: String = (0..101)
        .map(|place| FOO_BAR.replace("FooBar'", &format!("P{place}'")))
        .collect();
    let faults = set(&[("purposes.toml", &many)]).err().unwrap();
    assert!(faults[0].words.contains("more than 100"), "{}", faults[0]);
}

// Proves: 45 CFR 164.312(a)(1)
#[test]
fn an_own_purpose_is_what_it_is_a_kind_of_and_can_be_named_itself() {
    let own = r#"
        @id("own") permit (principal in Role::"client", action in Action::"look", resource == Kind::"Claim")
        when { context.own_purpose == "FooBar" };
        @id("not") forbid (principal in Role::"client", action in Action::"look", resource == Kind::"Task")
        when { ["FooBar"].contains(context.own_purpose) };
        @id("plain") permit (principal in Role::"biller", action in Action::"look", resource)
        when { context.purpose == "HRESCH" && context.own_purpose == "" };"#;
    let cases = r#"
        [[case]]
        name = "a study"
        role = "client"
        purpose = ["HRESCH", "FooBar", "urn:purposes|FooBar"]
        action = "read"
        type = "Observation"
        expect = "permit"
        by = ["a"]"#;
    let files = [
        ("purposes.toml", FOO_BAR),
        ("own.cedar", own),
        ("c.test.toml", cases),
    ];
    let set = set(&files).map_err(|faults| faults[0].to_string()).unwrap();
    assert_eq!(set.test().failures, []);
    for (purpose, kind, expected) in [
        ("HRESCH", ResourceType::Observation, vec!["a"]),
        ("FooBar", ResourceType::Observation, vec!["a"]),
        ("FooBar", ResourceType::Claim, vec!["a", "own"]),
        ("HRESCH", ResourceType::Task, vec!["a"]),
        ("FooBar", ResourceType::Task, vec!["not"]),
        ("TREAT", ResourceType::Observation, vec![]),
    ] {
        let why = set.why(&question(&set, purpose, kind));
        let by: Vec<&str> = why.policies.iter().map(|one| one.id.as_str()).collect();
        assert_eq!(by, expected, "{purpose} {kind}");
        let may = expected.first().is_some_and(|first| *first != "not");
        assert_eq!(why.permitted, may, "{purpose} {kind}: {}", why.answer);
        assert!(
            why.answer.contains(&format!("for {purpose}: ")),
            "{}",
            why.answer
        );
    }
    let why = set.why(&question(&set, "HRESCH", ResourceType::Task));
    assert_eq!(why.purposes, [Purpose::Research], "nor for its kind");
    let lines = set.matrix();
    for line in [
        "client | read | demographics, clinical, coordination, consent, financial, directory, audit | HRESCH",
        "biller | read | no | TREAT HPAYMT HOPERAT ETREAT PATRQT CAREMGT HSYSADMIN FooBar",
    ] {
        assert!(lines.iter().any(|one| one == line), "{line}: {lines:#?}");
    }
    // One of another set's, or what it was before, is nothing here.
    let other = set_with(
        "[[purpose]]\nsystem = 'urn:purposes'\ncode = 'FooBar'\ndisplay = 'x'\nis = 'TREAT'\n",
    );
    let foreign = Question {
        purpose: other.purposes().parse("FooBar").unwrap(),
        ..question(&set, "FooBar", ResourceType::Observation)
    };
    assert!(!set.why(&foreign).permitted);
    let asker = foreign.asker();
    assert!(
        !set.decide_all(&asker)
            .interaction(Action::Read, ResourceType::Observation)
    );
}

fn set_with(purposes: &str) -> PolicySet {
    set(&[("purposes.toml", purposes)])
        .map_err(|faults| faults[0].to_string())
        .unwrap()
}

/// What is said of a use that nobody can look through.
const OTHERWISE: &str = "any other use is refused";

/// A comparison that never holds would make nothing of a policy that forbids.
#[test]
fn a_policy_names_only_purposes_that_there_are() {
    for (when, expected) in [
        (
            "context.own_purpose == \"FooBaz\"",
            "`FooBaz` is no purpose in purposes.toml",
        ),
        (
            "!(\"FooBaz\" != context.own_purpose)",
            "`FooBaz` is no purpose",
        ),
        (
            "[\"FooBar\", \"FooBaz\"].contains(context.own_purpose)",
            "`FooBaz` is no purpose",
        ),
        (
            "context.own_purpose == \"HRESCH\"",
            "`HRESCH` is no purpose",
        ),
        (
            "context.purpose == \"FooBar\"",
            "compare `context.own_purpose` with it",
        ),
        (
            "[\"TREAT\", \"FooBar\"].contains(context.purpose)",
            "compare `context.own_purpose`",
        ),
        (
            "[\"FooBar\"].containsAny([context.purpose])",
            "compare `context.own_purpose` with it",
        ),
        ("[\"FooBaz\"].containsAny([context.own_purpose])", OTHERWISE),
        ("[\"FooBar\"].containsAll([context.own_purpose])", OTHERWISE),
        ("[context.own_purpose].contains(\"FooBar\")", OTHERWISE),
        ("context.own_purpose like \"FooBaz*\"", OTHERWISE),
        ("context[\"own_purpose\"] like \"Foo*\"", OTHERWISE),
        ("context.own_purpose == context.purpose", OTHERWISE),
        (
            "[\"FooBar\", context.tenant].contains(context.own_purpose)",
            OTHERWISE,
        ),
        ("context.networks.contains(context.own_purpose)", OTHERWISE),
        (
            "context.own_purpose == (if context.own then \"FooBar\" else \"FooBaz\")",
            OTHERWISE,
        ),
        (
            "context has own_purpose && context.own_purpose == \"FooBar\"",
            OTHERWISE,
        ),
        ("{a: context}.a.own_purpose == \"FooBaz\"", OTHERWISE),
    ] {
        let own = format!(
            "@id(\"b\")\n@says(\"x\")\nforbid (principal, action, resource)\nwhen {{ {when} }};"
        );
        let faults = set(&[("purposes.toml", FOO_BAR), ("own.cedar", &own)])
            .err()
            .expect(when);
        for fault in &faults {
            let place = (fault.file.as_str(), fault.line);
            assert_eq!(place, ("own.cedar", Some(1)), "{when}: {fault}");
        }
        let is_said = faults.iter().any(|fault| fault.words.contains(expected));
        assert!(is_said, "{when}: {faults:?}");
    }
    let unread = super::super::own::faults_of(Err("no"), &Purposes::default());
    assert_eq!(
        unread,
        ["can't be looked through for the purposes that it compares with: no"]
    );
    let case = "[[case]]\nname = \"x\"\nrole = \"client\"\npurpose = \"FooBar\"\naction = \"read\"\ntype = \"Patient\"\nexpect = \"permit\"\n";
    let faults = set(&[("c.test.toml", case)]).err().unwrap();
    assert!(
        faults[0]
            .words
            .contains("`FooBar` is no purpose; there are TREAT"),
        "{}",
        faults[0]
    );
}

// Proves: 45 CFR 164.514(d)(3), 164.502(b)(2)
#[test]
fn elements_are_those_of_the_parent_where_no_rule_names_the_purpose_itself() {
    let rules = |more: &str| {
        let common = "
[[rule]]
id = 'parent'
says = 'x'
role = 'client'
purpose = 'HRESCH'
type = ['Observation', 'Patient']
hides = ['identifier']
";
        let text = format!("{common}{more}");
        let files = [
            ("purposes.toml", FOO_BAR),
            ("necessary.elements.toml", &text),
        ];
        set(&files).map_err(|faults| faults[0].to_string())
    };
    let rule = |set: &PolicySet, purpose: &str, kind: ResourceType| {
        let why = set.why(&question(set, purpose, kind));
        why.elements.map(|elements| elements.rule.id)
    };
    let named = |id: &str| Some(id.to_owned());
    let set = rules("").unwrap();
    for kind in [ResourceType::Observation, ResourceType::Patient] {
        assert_eq!(rule(&set, "FooBar", kind), named("parent"));
    }
    let own = "[[rule]]\nid = 'own'\nsays = 'x'\nrole = 'client'\npurpose = 'FooBar'\ntype = 'Patient'\nhides = ['name']\n";
    let set = rules(own).unwrap();
    for (purpose, kind, expected) in [
        ("FooBar", ResourceType::Patient, "own"),
        ("FooBar", ResourceType::Observation, "parent"),
        ("HRESCH", ResourceType::Patient, "parent"),
    ] {
        assert_eq!(
            rule(&set, purpose, kind),
            named(expected),
            "{purpose} {kind}"
        );
    }
    // What the parent says of a type goes before what is said of a group; what it says of a group doesn't.
    let of_groups = "[[rule]]\nid = 'own'\nsays = 'x'\nrole = 'client'\npurpose = 'FooBar'\ngroup = ['clinical', 'financial']\nhides_data_types = ['Annotation']\n[[rule]]\nid = 'group'\nsays = 'x'\nrole = 'client'\npurpose = 'HRESCH'\ngroup = 'clinical'\nhides = ['note']\n";
    let set = rules(of_groups).unwrap();
    for (purpose, kind, expected) in [
        ("FooBar", ResourceType::Observation, "parent"),
        ("FooBar", ResourceType::Patient, "parent"),
        ("FooBar", ResourceType::Condition, "own"),
        ("FooBar", ResourceType::Claim, "own"),
        ("HRESCH", ResourceType::Observation, "parent"),
        ("HRESCH", ResourceType::Condition, "group"),
    ] {
        let is = rule(&set, purpose, kind);
        assert_eq!(is, named(expected), "{purpose} {kind}");
    }
    let exempt = "[[exempt]]\nsays = 'x'\nunder = 'x'\nrole = 'client'\npurpose = 'FooBar'\n";
    let set = rules(exempt).unwrap();
    assert_eq!(rule(&set, "FooBar", ResourceType::Patient), None);
    assert_eq!(rule(&set, "HRESCH", ResourceType::Patient), named("parent"));
    let words = rules(&format!("{own}{exempt}")).err().unwrap();
    assert!(words.contains("is exempt for FooBar"), "{words}");
    let of_parent = exempt
        .replace("client", "squad")
        .replace("FooBar", "HRESCH");
    let set = rules(&of_parent).unwrap();
    let squad = |purpose| set.elements.exemption(Role::Squad, purpose).is_some();
    assert!(squad(set.purposes().parse("FooBar").unwrap()));
    assert!(!squad(Purpose::Treatment));
}

/// A token whose role can't be registered has no registration for an own purpose; people decide for themselves.
// Proves: 45 CFR 164.312(a)(1), 164.508(a)(1)
#[tokio::test]
async fn who_comes_by_a_token_asks_for_an_own_purpose_with_a_registration_alone() {
    let house = House::new().await;
    let of_treatment = FOO_BAR.replace("HRESCH", "TREAT");
    let by_role = r#"@id("t") permit (principal, action in Action::"look", resource)
        when { context.purpose == "TREAT" };"#;
    let files = [
        ("purposes.toml", of_treatment.as_str()),
        ("b.cedar", by_role),
    ];
    let folder = folder(&files);
    let trust = Trust::new(TrustOptions {
        ledger: house.ledger().clone(),
        wall_clock: Arc::new(house.wall.clone()),
        policy_folder: Some(folder.path().to_owned()),
        session_idle_s: 900,
        session_absolute_s: 12 * 3600,
    });
    let trust = trust.unwrap();
    let own = trust.policy_set().purposes().parse("FooBar").unwrap();
    let operator = Agent::system(TENANT, "command-line");
    let identity = house.trust.identity();
    let registered = Registered::new(&[own], Contract::Signed).unwrap();
    let person = Agent {
        tenant: TENANT,
        ..agent(Role::Clinician)
    };
    let app = Access {
        client: "app".to_owned(),
        client_name: "App".to_owned(),
        scopes: Scopes::parse("user/*.rs").unwrap(),
        patient: None,
        round: 0,
        grant: None,
    };
    let by_app = Agent {
        access: Some(Arc::new(app)),
        ..person.clone()
    };
    let mut asked = vec![
        (person, [None, None]),
        (by_app, [None, Some("an application asks for the purpose")]),
    ];
    for (role, registered, expected) in [
        (
            Role::Clinician,
            None,
            [
                None,
                Some("the role clinician, and no registration for FooBar"),
            ],
        ),
        (
            Role::Biller,
            None,
            [
                Some("registered for HPAYMT"),
                Some("not registered for FooBar"),
            ],
        ),
        (
            Role::Client,
            None,
            [None, Some("not registered for FooBar")],
        ),
        (
            Role::Client,
            Some(&registered),
            [Some("registered for FooBar"), None],
        ),
    ] {
        let token = identity
            .create_client_for(&operator, "x", role, registered)
            .await;
        asked.push((identity.bearer(&token.unwrap()).await.unwrap(), expected));
    }
    for (agent, expected) in asked {
        for (purpose, expected) in [Purpose::Treatment, own].into_iter().zip(expected) {
            let decided = trust.decide(&agent, purpose, Action::Read, Target::default(), "r");
            let said = decided.await.err().map(|error| error.to_string());
            let of = (agent.role, purpose, &said);
            assert_eq!(said.is_some(), expected.is_some(), "{of:?}");
            let words = said.as_deref().unwrap_or_default();
            assert!(words.contains(expected.unwrap_or_default()), "{of:?}");
        }
    }
}

/// A schema of before knows no purposes of one's own: they are what they are kinds of.
#[test]
fn a_schema_of_before_keeps_working() {
    let (_, built_in) = PolicySet::built_in_files()
        .find(|(name, _)| *name == "cairn.cedarschema")
        .unwrap();
    let of_before = built_in.replace("own_purpose: String,", "");
    let files = [
        ("cairn.cedarschema", of_before.as_str()),
        ("purposes.toml", FOO_BAR),
    ];
    let set = set(&files).map_err(|faults| faults[0].to_string()).unwrap();
    assert!(
        set.why(&question(&set, "FooBar", ResourceType::Observation))
            .permitted
    );
    let by_device = r#"@id("d") forbid (principal, action, resource) when { context.device.kind == "unknown" };"#;
    let files = [
        ("cairn.cedarschema", of_before.as_str()),
        ("own.cedar", by_device),
    ];
    let set = self::set(&files)
        .map_err(|faults| faults[0].to_string())
        .unwrap();
    assert!(
        !set.why(&question(&set, "HRESCH", ResourceType::Observation))
            .permitted
    );
    assert_eq!(Purposes::default(), *set.purposes());
}

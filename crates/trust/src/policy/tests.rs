use super::*;
use ledger::TenantId;

impl Policies {
    /// The same of somebody who is known as nobody.
    fn judge(
        &self,
        agent: &Agent,
        purpose: Purpose,
        action: Action,
        target: &Target,
        request_id: &str,
    ) -> Result<Permit, Refusal> {
        let judged = self.judge_of((agent, Some(&[])), purpose, action, target, request_id);
        judged.expect("an answer")
    }
}

fn policies() -> Policies {
    Policies::load(None, 0).unwrap()
}

fn agent(role: Role) -> Agent {
    Agent {
        tenant: TenantId(1),
        id: "a".to_owned(),
        name: "A".to_owned(),
        role,
        patient: role.has_one_record().then(|| "p".to_owned()),
        access: None,
        signed_in: crate::SignedIn::default(),
    }
}

fn target(kind: Option<ResourceType>, patient: Option<&str>) -> Target {
    Target {
        kind,
        patient: patient.map(str::to_owned),
    }
}

// Proves: 45 CFR 164.312(a)(1), 164.308(a)(4)(i), 164.514(d)(2)
#[test]
fn the_matrix_is_as_agreed() {
    insta::assert_snapshot!(policies().set().matrix().join("\n"));
}

/// The table says of each question what the question itself is answered, and by which policies.
#[test]
fn the_table_says_what_each_question_is_answered() {
    let set = policies().set();
    let groups = set.groups();
    let mut known = why::Entitled::new();
    let mut permitted = 0;
    // To each role of people, something is permitted for one of these.
    for purpose in [Purpose::Treatment, Purpose::Payment, Purpose::Operations] {
        for row in set.table(purpose, &Around::default()) {
            let ask = |action, kind| Question {
                role: row.role,
                part: row.part.clone(),
                purpose,
                action,
                kind,
                own: row.own,
                around: Around::default(),
            };
            let mut check = |action: Action, kind, cells: Vec<&PolicyCell>| {
                let question = ask(action, kind);
                let (is_permitted, by) = set.ask(&question, &mut known);
                let mut by: Vec<String> = by.into_iter().map(|policy| policy.id).collect();
                by.sort();
                let rule = set.rule(&question).filter(|_| is_permitted);
                let rule = rule.map(|rule| rule.words.id.clone());
                let said: Vec<&&PolicyCell> = (cells.iter())
                    .filter(|cell| cell.actions.contains(&action))
                    .collect();
                assert_eq!(said.len(), usize::from(is_permitted), "{question:?}");
                if let Some(cell) = said.first() {
                    assert_eq!(cell.policies, by, "{question:?}");
                    assert_eq!(cell.in_part, rule, "{question:?}");
                    permitted += 1;
                }
            };
            for ((_, kinds), cells) in groups.iter().zip(&row.of_groups) {
                // One of each class, and the audit, of which more is asked.
                let members = (kinds.iter()).filter(|kind| {
                    set.classes.members.contains(kind) || **kind == ResourceType::AuditEvent
                });
                for kind in members {
                    let fits =
                        |cell: &&PolicyCell| cell.kinds.is_empty() || cell.kinds.contains(kind);
                    for action in Action::INTERACTIONS {
                        check(action, Some(*kind), cells.iter().filter(fits).collect());
                    }
                }
            }
            for action in Action::ALL.into_iter().filter(|one| !one.is_interaction()) {
                check(action, None, row.others.iter().collect());
            }
        }
    }
    assert!(permitted > 100, "{permitted}");
}

// Proves: 45 CFR 164.312(a)(1)
#[test]
fn permits_are_limited_to_the_target_and_patients_to_themselves() {
    let policies = policies();
    let treat = Purpose::Treatment;
    let judge = |role, purpose, action, target: Target| {
        policies.judge(&agent(role), purpose, action, &target, "r")
    };
    let observation = Some(ResourceType::Observation);
    let permit = judge(
        Role::Clinician,
        treat,
        Action::Read,
        target(observation, Some("q")),
    )
    .unwrap();
    assert_eq!(permit.only_patient(), Some("q"));
    assert_eq!(permit.because(), ["clinician-looks-at-records"]);
    assert!(permit.allows(Action::Search, ResourceType::Condition));
    assert!(!permit.allows(Action::Update, ResourceType::Condition));
    assert!(!permit.allows(Action::Read, ResourceType::AuditEvent));
    assert!(!permit.allows(Action::Read, ResourceType::Claim));

    let own = judge(
        Role::Patient,
        Purpose::PatientRequest,
        Action::Search,
        Target::default(),
    )
    .unwrap();
    assert_eq!(own.only_patient(), Some("p"));
    assert!(own.allows(Action::Read, ResourceType::AuditEvent));

    let refused = judge(
        Role::Patient,
        Purpose::PatientRequest,
        Action::Read,
        target(observation, Some("q")),
    )
    .unwrap_err();
    assert_eq!(refused.because, ["patient-own-record-only"]);
    let refused = judge(
        Role::Patient,
        treat,
        Action::Read,
        target(observation, None),
    )
    .unwrap_err();
    assert_eq!(
        refused.reason,
        "no policy lets the role patient read Observation for TREAT"
    );

    let nobody = Agent {
        patient: None,
        ..agent(Role::Patient)
    };
    let purpose = Purpose::PatientRequest;
    let none = Target::default();
    assert!(
        policies
            .judge(&nobody, purpose, Action::Read, &none, "r")
            .is_err()
    );
}

// Proves: 45 CFR 164.312(a)(1)
#[test]
fn a_frame_allows_no_more_than_its_kind_of_work() {
    let policies = policies();
    let judge = |role, purpose, action| {
        policies
            .judge(&agent(role), purpose, action, &Target::default(), "r")
            .unwrap()
    };
    let work = judge(Role::Clinician, Purpose::Treatment, Action::Work);
    assert!(work.allows(Action::Update, ResourceType::Task));
    assert!(!work.allows(Action::Delete, ResourceType::Task));
    assert!(work.shows_patients());
    let transaction = judge(Role::Client, Purpose::Treatment, Action::Transaction);
    assert!(transaction.allows(Action::Delete, ResourceType::Task));
    assert!(!transaction.allows(Action::Create, ResourceType::AuditEvent));
    for action in [Action::Observe, Action::Publish] {
        let observe = judge(Role::Squad, Purpose::Operations, action);
        assert!(!observe.allows(Action::Read, ResourceType::Organization));
        assert!(!observe.shows_patients());
    }
    let audit = judge(Role::PrivacyOfficer, Purpose::Operations, Action::Audit);
    assert!(audit.allows(Action::Search, ResourceType::AuditEvent));
    assert!(audit.allows(Action::Read, ResourceType::Patient));
    assert!(!audit.allows(Action::Read, ResourceType::Observation));
}

#[test]
fn a_policy_can_name_a_single_type() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("one.cedar"),
        r#"@id("weights") permit (principal in Role::"squad", action == Action::"read", resource == Kind::"Observation");"#,
    )
    .unwrap();
    let policies = Policies::load(Some(folder.path()), 0).unwrap();
    let read = |kind| {
        let target = target(Some(kind), None);
        policies
            .judge(
                &agent(Role::Squad),
                Purpose::Research,
                Action::Read,
                &target,
                "r",
            )
            .is_ok()
    };
    assert!(read(ResourceType::Observation));
    assert!(!read(ResourceType::Condition));
}

// Proves: 45 CFR 164.308(a)(4)(i)
#[test]
fn what_does_not_validate_is_refused_with_its_place() {
    for (file, text, words) in [
        (
            "a.cedar",
            "permit (principal, action, resource);",
            "needs an `@id",
        ),
        (
            "a.cedar",
            "@id(\"a\")\npermit (principal in Rolle::\"x\", action, resource);",
            "Rolle",
        ),
        (
            "a.cedar",
            "@id(\"a\")\npermit (principal, action, resource)\nwhen { context.purpos == \"x\" };",
            "a.cedar:3:8: ",
        ),
        (
            "a.cedar",
            "@id(\"a\")\npermit (principal, action;",
            "a.cedar:2:26: ",
        ),
        (
            "a.cedar",
            "@id(\"a\") permit (principal, action, resource); @id(\"a\") forbid (principal, action, resource);",
            "a.cedar:1:48: the id `a` is taken by a policy in a.cedar",
        ),
        (
            "b.test.toml",
            "[[case]]\nname = \"x\"\nrole = \"clinician\"\npurpose = \"TREAT\"\naction = \"look\"\nexpect = \"deny\"",
            "b.test.toml:1:1: `look` is no action; there are read, search, ",
        ),
        (
            "b.test.toml",
            "[[case]]\nname = \"x\"\nrole = \"clinician\"\npurpose = \"TREAT\"\naction = \"read\"\nexpect = \"deny\"",
            "to read is done to resource types",
        ),
        (
            "b.test.toml",
            "\n[[case]]\nname = \"x\"\nrole = \"squad\"\npurpose = \"TREAT\"\naction = \"read\"\ntype = \"Task\"\nexpect = \"deny\"",
            "b.test.toml:2: x: expects deny, but the role squad may read Task for TREAT: permitted by fine",
        ),
        (
            "b.test.toml",
            "[[case]]\nname = \"x\"\nroles = \"squad\"",
            "b.test.toml:3:1: unknown field `roles`",
        ),
        ("b.test.toml", "", "b.test.toml: has no [[case]]"),
        (
            "cairn.cedarschema",
            "entity Role\nentity",
            "cairn.cedarschema:2:",
        ),
        (
            "groups.json",
            "{\"clinical\": [\"Rock\"]}",
            "`Rock` is no resource type",
        ),
        ("groups.json", "{\"rocks\": []}", "no group `rocks`"),
        (
            "groups.json",
            "{\"audit\": [\"Task\", \"Task\"]}",
            "Task is there twice",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(
            folder.path().join("fine.cedar"),
            "@id(\"fine\") permit (principal, action, resource);",
        )
        .unwrap();
        std::fs::write(folder.path().join(file), text).unwrap();
        let said = Policies::load(Some(folder.path()), 0)
            .err()
            .unwrap()
            .to_string();
        assert!(said.contains(words), "{text}: {said}");
    }
    let empty = tempfile::tempdir().unwrap();
    assert!(Policies::load(Some(empty.path()), 0).is_err());
    assert!(Policies::load(Some(&empty.path().join("missing")), 0).is_err());
}

// Proves: 45 CFR 164.308(a)(4)(i)
// Proves: proposed 45 CFR 164.312(a)(2)(ii)
#[test]
fn the_built_in_set_passes_its_tests_and_says_what_it_means() {
    let set = PolicySet::load(None).unwrap();
    let tested = set.test();
    assert_eq!(tested.failures, []);
    assert!(tested.cases > 30 && tested.questions > 300, "{tested:?}");
    let named = set.cases().filter_map(|case| case.by.as_ref()).flatten();
    let ids: BTreeSet<&str> = named.map(String::as_str).collect();
    for policy in set.policies() {
        assert!(policy.says.ends_with('.'), "{policy:?}");
        assert!(
            !policy.forbids || ids.contains(policy.id.as_str()),
            "{policy:?}"
        );
    }
}

#[test]
fn a_no_says_for_whom_and_what_it_would_be_a_yes() {
    let set = PolicySet::load(None).unwrap();
    let asked = Question {
        role: Role::Coordinator,
        part: None,
        purpose: Purpose::Emergency,
        action: Action::Read,
        kind: Some(ResourceType::Observation),
        own: false,
        around: Around::default(),
    };
    let why = set.why(&asked);
    assert!(!why.permitted);
    assert_eq!(
        why.answer,
        "the role coordinator may not read Observation for ETREAT: no policy permits it"
    );
    assert_eq!(why.purposes, [Purpose::Treatment, Purpose::CareManagement]);
    // Systems declare no emergency.
    assert_eq!(why.roles, [Role::Clinician]);
    let why = set.why(&Question {
        action: Action::Create,
        kind: Some(ResourceType::AuditEvent),
        ..asked
    });
    assert_eq!(why.policies[0].id, "nobody-writes-audit");
    assert!(why.policies[0].forbids && why.roles.is_empty());
    assert_eq!(why.policies[0].file, "everybody.cedar");
}

/// The set's own account of a decision is the decision.
#[test]
fn why_says_what_is_decided() {
    let policies = policies();
    let set = policies.set();
    let mut known = HashMap::new();
    let kinds = [
        ResourceType::Task,
        ResourceType::AuditEvent,
        ResourceType::Claim,
    ];
    for role in Role::ALL.into_iter().filter(|role| *role != Role::System) {
        for purpose in Purpose::ALL {
            for action in Action::ALL {
                let of_kind = action.is_interaction();
                let asked = kinds.iter().copied().map(Some).filter(|_| of_kind);
                for kind in asked.chain((!of_kind).then_some(None)) {
                    let decided =
                        policies.judge(&agent(role), purpose, action, &target(kind, None), "r");
                    let question = Question {
                        role,
                        part: None,
                        purpose,
                        action,
                        kind,
                        own: role.has_one_record(),
                        around: Around::default(),
                    };
                    let (permitted, by) = set.ask(&question, &mut known);
                    assert_eq!(permitted, decided.is_ok(), "{question:?}");
                    let ids: Vec<_> = by.iter().map(|one| one.id.clone()).collect();
                    let because = decided.map_or_else(|no| no.because, |yes| yes.because);
                    let (rules, because): (Vec<_>, Vec<_>) =
                        (because.into_iter()).partition(|one| one.starts_with(elements::BECAUSE));
                    if !permitted && !rules.is_empty() {
                        // Policies permit what a rule about elements refuses.
                        assert!(by.iter().all(|one| !one.forbids) && because.is_empty());
                        continue;
                    }
                    assert_eq!(ids, because, "{question:?}");
                }
            }
        }
    }
}

#[test]
fn every_type_is_in_a_group_and_decisions_are_kept() {
    let policies = policies();
    let asker = Asker {
        role: Role::Coordinator,
        part: None,
        purpose: Purpose::Treatment,
        own: false,
        around: None,
    };
    let first = policies.grants(&asker);
    assert!(Arc::ptr_eq(&first, &policies.grants(&asker)));
    assert_eq!(first.group(ResourceType::Observation), Group::Clinical);
    assert_eq!(first.group(ResourceType::Claim), Group::Financial);
    assert_eq!(first.group(ResourceType::Questionnaire), Group::Directory);
}

/// Whoever may look at patients' rows is either exempt or has a rule: nobody is forgotten.
// Proves: 45 CFR 164.502(b)(1), 164.502(b)(2), 164.514(d)(1)
#[test]
fn everybody_who_looks_has_a_rule_or_an_exemption() {
    let policies = policies();
    let set = policies.set();
    for role in Role::ALL.into_iter().filter(|role| *role != Role::System) {
        for purpose in Purpose::ALL {
            let asker = Asker {
                role,
                part: None,
                purpose,
                own: role.has_one_record(),
                around: None,
            };
            let grants = policies.grants(&asker);
            let looks = ResourceType::all().any(|kind| {
                grants.group(kind) != Group::Directory && grants.interaction(Action::Read, kind)
            });
            let exempt = set.elements.exemption(role, purpose).is_some();
            let ruled = set.elements.of(role, purpose).is_some();
            let words = format!("{} {}", role.name(), purpose.code());
            assert!(!looks || exempt || ruled, "{words}");
        }
    }
}

// Proves: 45 CFR 164.514(d)(1)
#[test]
fn what_is_wrong_with_a_rule_about_elements_is_said() {
    let head = "[[rule]]\nid = \"a\"\nsays = \"x\"\nrole = \"client\"\npurpose = \"HPAYMT\"\n";
    for (text, expected) in [
        (
            format!("{head}type = \"Observation\"\nhides = [\"valu\"]"),
            "e.elements.toml:1:1: a: `valu` is no element of Observation",
        ),
        (
            format!("\n{head}type = \"Observatio\""),
            "e.elements.toml:2:1: a: `Observatio` is no resource type",
        ),
        (
            format!("{head}type = \"Observation\"\nhides = [\"subject\"]"),
            "e.elements.toml:1:1: a: `subject` says whose",
        ),
        (
            format!("{head}type = \"Observation\"\nshows = [\"code.text\"]"),
            "e.elements.toml:1:1: a: `code.text`: what is shown is listed by elements at the top",
        ),
        (
            format!("{head}type = \"Observation\"\nhides_data_types = [\"Note\"]"),
            "e.elements.toml:1:1: a: `Note` is no data type",
        ),
        (
            format!("{head}group = \"audit\"\nhides = [\"entity\"]"),
            "e.elements.toml:1:1: a: an AuditEvent is shown whole",
        ),
        (
            format!("{head}type = \"Patient\"\ngroup = \"clinical\""),
            "e.elements.toml:1:1: a: needs either `type` or `group`",
        ),
        (
            format!("{head}type = \"Patient\"\nshow = [\"name\"]"),
            "e.elements.toml:7:1: unknown field `show`",
        ),
        (
            format!(
                "{head}type = \"Patient\"\n{}",
                format!("{head}type = \"Patient\"").replace("id = \"a\"", "id = \"b\"")
            ),
            "e.elements.toml:7:1: b: the rule `a` is about Patient",
        ),
        (
            format!("{head}type = \"Patient\"\n{head}type = \"Group\""),
            "e.elements.toml:7:1: the id `a` is taken",
        ),
        (
            format!(
                "{head}type = \"Patient\"\n[[exempt]]\nsays = \"x\"\nunder = \"y\"\nrole = \"client\"\npurpose = \"HPAYMT\""
            ),
            "e.elements.toml:1: the role client is exempt for HPAYMT",
        ),
        (
            format!("{head}type = \"Patient\"").replace("client", "patient"),
            "e.elements.toml:1:1: a: the role patient sees its own record whole",
        ),
        (
            format!("{head}type = \"Patient\"").replace("client", "system"),
            "e.elements.toml:1:1: a: parts of Cairn see",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        for (name, words) in PolicySet::built_in_files() {
            if !name.ends_with(".elements.toml") && !name.starts_with("necessary") {
                std::fs::write(folder.path().join(name), words).unwrap();
            }
        }
        std::fs::write(folder.path().join("e.elements.toml"), &text).unwrap();
        // The built-in rules are there as well, unless a file takes their place.
        std::fs::write(folder.path().join("necessary.elements.toml"), "").unwrap();
        let faults = PolicySet::load(Some(folder.path())).err().unwrap();
        let words: Vec<String> = faults.iter().map(ToString::to_string).collect();
        assert!(
            words.iter().any(|one| one.starts_with(expected)),
            "{text}\n{words:?}"
        );
    }
}

// Proves: 45 CFR 164.514(d)(1)
#[test]
fn what_is_hidden_is_explained() {
    let policies = policies();
    let set = policies.set();
    let asked = Question {
        role: Role::Client,
        part: None,
        purpose: Purpose::Payment,
        action: Action::Read,
        kind: Some(ResourceType::Observation),
        own: false,
        around: Around::default(),
    };
    let why = set.why(&asked);
    let elements = why.elements.unwrap();
    assert_eq!(elements.rule.id, "payment-clinical");
    assert!(elements.hidden.iter().any(|name| name == "value"));
    assert!(!elements.hidden.iter().any(|name| name == "subject"));
    assert!(elements.data_types.iter().any(|name| name == "Annotation"));
    assert_eq!(why.exempt, None);
    let why = set.why(&Question {
        action: Action::Update,
        ..asked.clone()
    });
    assert!(!why.permitted && why.elements.is_none());
    assert_eq!(why.purposes, [Purpose::Treatment, Purpose::CareManagement]);
    assert!(
        why.answer
            .ends_with("is not changed (rule payment-clinical)"),
        "{}",
        why.answer
    );
    let why = set.why(&Question {
        purpose: Purpose::Treatment,
        ..asked
    });
    assert_eq!(why.elements, None);
    assert_eq!(why.exempt.unwrap().under, "45 CFR 164.502(b)(2)(i)");
}

mod account;
mod around;
mod own;
mod partners;

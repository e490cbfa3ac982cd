//! What is asked of tokens, what is left to the check, and what neither gets wrong.
use ledger::{Number, Query};

use super::search::holds;
use super::*;
use crate::tokens;

#[tokio::test]
async fn what_tokens_can_answer_is_asked_of_tokens() {
    let house = House::new().await;
    let ledger = house.ledger();
    let kind = ResourceType::Observation;
    let everything = Query::Token(ledger.kind_token(TENANT, tokens::kind(kind)));
    for (parameters, blind) in [
        (vec![], true),
        (vec![("code", "x")], false),
        (vec![("code", "s|x")], false),
        (vec![("code", "s|")], true),
        (vec![("code:not", "x")], false),
        (vec![("code:not", "|x")], true),
        (vec![("code:not", "s|x")], true),
        (vec![("combo-code", "x")], false),
        (vec![("combo-code:not", "x")], false),
        (vec![("date", "ge2026-01-01")], false),
        (vec![("date", "2026")], false),
        (vec![("date", "ne2026")], true),
        (vec![("date:missing", "true")], true),
        (vec![("patient", "p")], false),
        (vec![("_id", "x")], false),
        (vec![("_lastUpdated", "ge2026")], true),
        (vec![("value-quantity", "5")], false),
        (vec![("value-quantity", "gt5||mg")], false),
        (
            vec![("value-quantity", "ap5|http://unitsofmeasure.org|mg")],
            false,
        ),
        (vec![("value-quantity", "ne5")], true),
        (vec![("value-quantity:missing", "true")], true),
    ] {
        let plan = tokens::plan(ledger, TENANT, &query(kind, &parameters), None);
        assert_eq!(plan.query == everything, blind, "{parameters:?}");
    }
    let plan = tokens::plan(
        ledger,
        TENANT,
        &query(kind, &[("date", "ne2026")]),
        Some("p"),
    );
    assert_ne!(plan.query, everything);
    let bounds = |value: &str| {
        let plan = tokens::plan(
            ledger,
            TENANT,
            &query(kind, &[("_lastUpdated", value)]),
            None,
        );
        let ms = |number: Option<Number>| number.map(Number::unix_ms);
        (ms(plan.since), ms(plan.before))
    };
    let day = 1_767_225_600_000;
    assert_eq!(bounds("2026-01-01"), (Some(day), Some(day + 86_400_000)));
    assert_eq!(bounds("ge2026-01-01"), (Some(day), None));
    assert_eq!(bounds("gt2026-01-01"), (Some(day + 86_400_000), None));
    assert_eq!(bounds("lt2026-01-01"), (None, Some(day)));
    assert_eq!(bounds("le2026-01-01"), (None, Some(day + 86_400_000)));
    assert_eq!(bounds("ne2026-01-01"), (None, None));
    assert_eq!(bounds("ge2026-01-01,lt2025-01-01"), (None, None));
    assert_eq!(
        bounds("2026-01-01,2026-01-03"),
        (Some(day), Some(day + 3 * 86_400_000))
    );
}

#[tokio::test]
async fn many_alternatives_are_no_error() {
    let house = House::new().await;
    house
        .put([a_patient("p", "Berg"), a_weight("o", "p", "2026-06-01")])
        .await;
    let permit = house
        .permit(&staff(Role::Clinician), Purpose::Treatment, Action::Search)
        .await
        .unwrap();
    let days: Vec<String> = (0..199)
        .map(|day| format!("ge{}-03-07", 2026 - day))
        .collect();
    let days = days.join(",");
    let clauses: Vec<(&str, &str)> = std::iter::repeat_n(("date", days.as_str()), 20).collect();
    let found = house
        .vault()
        .search(&permit, &query(ResourceType::Observation, &clauses), None)
        .await
        .unwrap();
    assert_eq!(found.rows.len(), 1);
}

/// Two values with one token can't be made, but what they would do can: an index that names a document
/// for a value that it does not have. (What a negation leaves out nobody can look at: that is why tokens
/// have 64 bits.)
#[tokio::test]
async fn a_token_that_stands_for_two_values_shows_no_wrong_document() {
    let house = House::new().await;
    house
        .put([a_patient("p", "Berg"), a_weight("o", "p", "2026-06-01")])
        .await;
    let (ledger, kind) = (house.ledger(), tokens::kind(ResourceType::Observation));
    let stored = ledger.get(TENANT, kind, "o").await.unwrap().unwrap();
    let mut other = a_weight("o", "p", "2019-01-01");
    other["code"] = json!({"coding": [{"system": "s", "code": "another"}]});
    let mut found_by = Vec::new();
    for value in [a_weight("o", "p", "2026-06-01"), other] {
        found_by.extend(tokens::of(
            ledger,
            TENANT,
            &Resource::from_value(value).unwrap(),
        ));
    }
    let commit = ledger::Commit {
        documents: vec![ledger::Draft {
            kind,
            id: "o".to_owned(),
            owner: ledger::Owner::Patient("p".to_owned()),
            expected: Expected::Version(stored.version),
            body: stored.body,
            deleted: false,
            tokens: found_by,
        }],
        audit: Some(ledger::AuditDraft {
            kind: tokens::kind(ResourceType::AuditEvent),
            id: ledger.mint_own_id(TENANT),
            shard: stored.at.shard,
            body: b"{\"resourceType\":\"AuditEvent\"}".to_vec(),
            parts: Vec::new(),
            tokens: Vec::new(),
        }),
        ..ledger::Commit::new(TENANT)
    };
    ledger.commit(commit).await.unwrap();
    let permit = house
        .permit(&staff(Role::Clinician), Purpose::Treatment, Action::Search)
        .await
        .unwrap();
    for (parameters, shown) in [
        (vec![("code", "another")], false),
        (vec![("code", "s|another")], false),
        (vec![("date", "2019-01-01")], false),
        (vec![("date", "lt2020"), ("patient", "p")], false),
        (vec![("date", "2026-06-01")], true),
    ] {
        let mut asked = parameters.clone();
        asked.push(("_total", "accurate"));
        let query = query(ResourceType::Observation, &asked);
        let plan = tokens::plan(ledger, TENANT, &query, None);
        let named = ledger.search(TENANT, &plan.query, None, None, 9).await;
        if !shown {
            assert_eq!(named.unwrap().len(), 1, "{parameters:?}");
        }
        let page = house.vault().search(&permit, &query, None).await.unwrap();
        assert_eq!(page.rows.len(), usize::from(shown), "{parameters:?}");
        assert_eq!(page.total, Some(usize::from(shown)), "{parameters:?}");
    }
}

/// Events have no tokens for what nearly all of them say, and are found all the same.
#[tokio::test]
async fn audit_events_are_found_by_what_is_asked_of_them() {
    let house = House::new().await;
    let ledger = house.ledger();
    let kind = ResourceType::AuditEvent;
    let asked = [
        (("outcome", "0"), true),
        (("outcome", "8"), false),
        (("outcome:not", "0"), false),
        (("outcome:not", "8"), false),
        (("outcome", "0,8"), true),
        (("action", "R"), true),
        (("action", "D"), false),
        (("action:not", "R"), true),
        (("agent-name", "an"), true),
        (("agent-name", "anna"), false),
        (("agent-name", "anna karenina"), false),
        (("patient", "p1"), false),
        (("entity", "Patient/p1"), false),
        (("entity", "Observation/o1"), false),
        (("date", "2026-06-15"), false),
        (("_id", "e1"), false),
    ];
    let everything = Query::Token(ledger.kind_token(TENANT, tokens::kind(kind)));
    let (mut matched, mut left_out) = (0, 0);
    for (outcome, action, name) in [
        ("0", "R", "Anna Karenina"),
        ("4", "R", "Anna"),
        ("8", "D", "An"),
        ("12", "C", "Bert"),
    ] {
        let event = Resource::from_value(json!({
            "resourceType": "AuditEvent", "id": "e1", "outcome": outcome, "action": action,
            "recorded": "2026-06-15T13:00:00Z",
            "type": {"system": "t", "code": "rest"},
            "agent": [{"requestor": true, "name": name}],
            "source": {"observer": {"display": "cairn"}},
            "entity": [
                {"what": {"reference": "Patient/p1"}},
                {"what": {"reference": "Observation/o1"}},
            ],
        }))
        .unwrap();
        let mut found_by = tokens::of(ledger, TENANT, &event);
        found_by.push(ledger.kind_token(TENANT, tokens::kind(kind)));
        for (clause, left_to_check) in asked {
            let query = query(kind, &[clause]);
            let plan = tokens::plan(ledger, TENANT, &query, None);
            assert_eq!(plan.query == everything, left_to_check, "{clause:?}");
            let is_hit = holds(&plan.query, &event, &found_by);
            if query.matches(&event) {
                matched += 1;
                assert!(is_hit, "{clause:?} {outcome} {action} {name}");
            } else {
                left_out += usize::from(!is_hit);
            }
        }
    }
    // outcome 8, its opposites, action D, and the names.
    assert!(matched > 30 && left_out >= 12, "{matched} {left_out}");
}

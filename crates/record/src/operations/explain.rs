//! `[type]/$explain`: how a search is understood, what it reads and what it costs. An operation of
//! Cairn's own; R4 has none for it.
//!
//! The answer is a `Parameters` with
//!
//! | name | value | what it is |
//! |---|---|---|
//! | `type` | code | the type that is searched |
//! | `clause` | parts | a parameter as it was understood: `parameter`, `type`, `modifier`, how many `values`; how it is answered before the check: `way` (`lists`, `lists-taken-away`, `place`, `check`, `too-many-lists`), how many `lists` are read and merged for it, and the same in `words`; `indexing` where it is a parameter of one's own and rows that its lists don't have yet are checked one by one |
//! | `condition` | parts | what a `_filter` is made of, where its parts aren't all joined by "and": how they are `joined` (`all`, `any`, `not`), and the `clause`s, `link`s and `condition`s in it. Each is answered by the `clause` `_filter` |
//! | `link` | parts | a chained parameter or `_has`: `parameter`, `reverse`, the `type`s at its other end, and the `clause`s and `link`s there |
//! | `plan` | string | which clauses are read together, and in which order |
//! | `ignored` | string | a parameter that was passed over, under `Prefer: handling=lenient` |
//! | `result` | parts | of the first page: `rows`, `more` (whether there is a next one), `total` (exact; where it was asked for or all were seen), `included` |
//! | `opened` | parts | rows that were opened and may be seen: those that `matched`, and those `turned-down` by the check. Not where there are links, nor what they lead to: it depends on the end that they are followed from, which hidden rows have a part in |
//! | `bound` | parts | a bound of the work: `name`, `value` |
//! | `time` | quantity | milliseconds from the permit to the durable audit record |
//! | `outcome` | resource | why the search has no answer: it is too costly |
//!
//! No value of a parameter is in it.
use fhir::search::{Clause, Condition, Link, Modifier, SearchQuery};
use fhir::{IssueCode, OperationOutcome, ResourceType};
use serde_json::{Value, json};
use tokio::time::Instant;
use trust::{Action, Explained, LookedAt, Step, Steps, Way};

use super::{answer, refuse};
use crate::part::Part;
use crate::write::{check_kept, wrap};
use crate::{Answer, Caller, Record, RecordError};

/// A parameter with parts.
fn parts(name: &str, parts: Vec<Value>) -> Value {
    json!({"name": name, "part": Value::Array(parts)})
}

/// A parameter with a value; `member` is `valueCode` and the like.
fn one(name: &str, member: &str, value: impl Into<Value>) -> Value {
    json!({"name": name, member: value.into()})
}

fn modifier(modifier: Modifier) -> &'static str {
    match modifier {
        Modifier::Exact => "exact",
        Modifier::Contains => "contains",
        Modifier::Missing => "missing",
        Modifier::Not => "not",
        Modifier::Text => "text",
        Modifier::OfType => "of-type",
        Modifier::Identifier => "identifier",
        Modifier::Above => "above",
        Modifier::Below => "below",
        Modifier::In => "in",
        Modifier::NotIn => "not-in",
        // As the operators of `_filter` are called.
        Modifier::Equals => "eq",
        Modifier::EndsWith => "ew",
        Modifier::Differs => "ne",
    }
}

fn understood(parameter: &str, kind: &str, with: Option<Modifier>, values: usize) -> Vec<Value> {
    let mut found = vec![
        one("parameter", "valueString", parameter),
        one("type", "valueCode", kind),
    ];
    found.extend(with.map(|with| one("modifier", "valueCode", modifier(with))));
    found.push(one("values", "valueInteger", values));
    found
}

/// Code, number of lists, and words of a way.
fn way(way: Way) -> (&'static str, Option<usize>, String) {
    let lists = |count: usize| match count {
        1 => "one list".to_owned(),
        count => format!("{count} lists, merged"),
    };
    match way {
        Way::Place => (
            "place",
            None,
            "rows lie in the order of time, so only that stretch is read".to_owned(),
        ),
        Way::Lists(count) => ("lists", Some(count), format!("by {}", lists(count))),
        Way::ListsTakenAway(count) => (
            "lists-taken-away",
            Some(count),
            format!("what {} has is left out", lists(count)),
        ),
        Way::Check => (
            "check",
            None,
            "by the check of each opened row alone; no list holds it".to_owned(),
        ),
        Way::TooManyLists(count) => (
            "too-many-lists",
            Some(count),
            "by the check of each opened row alone; a search may not read that many lists"
                .to_owned(),
        ),
    }
}

fn step(step: &Step) -> Value {
    let (kind, with) = (step.kind.code(), step.modifier);
    let mut found = understood(&step.parameter, kind, with, step.values);
    let (code, lists, words) = way(step.way);
    found.push(one("way", "valueCode", code));
    found.extend(lists.map(|lists| one("lists", "valueInteger", lists)));
    if step.is_indexing {
        let words = format!("{words}; rows that these don't have yet are checked one by one");
        found.push(one("words", "valueString", words));
        found.push(one("indexing", "valueBoolean", true));
    } else {
        found.push(one("words", "valueString", words));
    }
    parts("clause", found)
}

/// What a condition is made of.
fn condition(given: &Condition) -> Value {
    let joined = |way: &str, inside: Vec<Value>| {
        let mut found = vec![one("joined", "valueCode", way)];
        found.extend(inside);
        parts("condition", found)
    };
    let each = |all: &[Condition]| all.iter().map(condition).collect();
    match given {
        Condition::Clause(clause) => inner(clause),
        Condition::Link(given) => link(given),
        Condition::All(all) => joined("all", each(all)),
        Condition::Any(all) => joined("any", each(all)),
        Condition::Not(part) => joined("not", vec![condition(part)]),
    }
}

fn inner(clause: &Clause) -> Value {
    let (kind, with) = (clause.kind.code(), clause.modifier);
    let found = understood(&clause.parameter, kind, with, clause.operands.len());
    parts("clause", found)
}

fn link(given: &Link) -> Value {
    let mut found = vec![
        one("parameter", "valueString", given.parameter.name()),
        one("reverse", "valueBoolean", given.reverse),
    ];
    for query in &given.queries {
        found.push(one("type", "valueCode", query.kind.name()));
    }
    // The same is asked of each type.
    if let Some(query) = given.queries.first() {
        found.extend(query.clauses.iter().map(inner));
        found.extend(query.conditions.iter().map(condition));
        found.extend(query.links.iter().map(link));
    }
    parts("link", found)
}

/// What is read together, and in which order.
fn plan(query: &SearchQuery, steps: &Steps) -> String {
    let mut read: Vec<String> = Vec::new();
    if steps.within_patient {
        read.push("the list of the patient whom the permit is for".to_owned());
    }
    let of = |way: fn(&Way) -> bool| {
        let chosen = steps.clauses.iter().filter(move |step| way(&step.way));
        chosen.map(|step| format!("`{}`", step.parameter))
    };
    read.extend(of(|way| matches!(way, Way::Lists(_))).map(|name| format!("the lists of {name}")));
    let mut words = match read.as_slice() {
        [] => format!("All rows of {} are candidates", query.kind),
        [only] => format!("Candidates are the rows in {only}"),
        [first, rest @ ..] => format!(
            "Candidates are the rows in {first} that are in {} too: each list leaps to where the one before stands",
            rest.join(" and ")
        ),
    };
    let without: Vec<String> = of(|way| matches!(way, Way::ListsTakenAway(_))).collect();
    if !without.is_empty() {
        words.push_str(", without those in the lists of ");
        words.push_str(&without.join(" and "));
    }
    let ranges: Vec<String> = of(|way| matches!(way, Way::Place)).collect();
    if !ranges.is_empty() {
        words.push_str(", within the time of ");
        words.push_str(&ranges.join(" and "));
    }
    if query.has_links() {
        words.push_str(", linked as the links ask, which are followed first");
    }
    words.push_str(if query.sort.is_empty() {
        ". They are read newest first, opened and checked one by one"
    } else {
        ". All of them are opened, checked and put in the order of `_sort`"
    });
    words.push_str(if !query.sort.is_empty() || query.total {
        "; none is left out, so the total is exact."
    } else {
        ", until the page is full and one more is found."
    });
    if let Some(rows) = steps.at_first {
        words.push_str(" Before the lists of wide ranges are read, the newest ");
        words.push_str(&rows.to_string());
        words.push_str(" rows in the other lists are looked at.");
    }
    if steps.may_leave_out {
        words.push_str(
            " Where the newest rows are looked at, a list that holds much of what the others leave is left to the check, if opening its rows costs less than leaping through it; the counts here are without that.",
        );
    }
    words
}

fn opened(name: &str, looked_at: LookedAt) -> Value {
    parts(
        name,
        vec![
            one("matched", "valueInteger", looked_at.matched),
            one("turned-down", "valueInteger", looked_at.turned_down),
        ],
    )
}

fn told(query: &SearchQuery, told: &Explained, micros: u64) -> Value {
    let mut all = vec![one("type", "valueCode", query.kind.name())];
    all.extend(told.steps.clauses.iter().map(step));
    all.extend(query.conditions.iter().map(condition));
    all.extend(query.links.iter().map(link));
    all.push(one("plan", "valueString", plan(query, &told.steps)));
    let shown = |name: &String| -> String {
        let plain = name.chars().filter(char::is_ascii_graphic);
        plain.take(64).collect()
    };
    all.extend((query.ignored.iter()).map(|name| one("ignored", "valueString", shown(name))));
    if told.too_costly.is_none() {
        let mut found = vec![
            one("rows", "valueInteger", told.rows),
            one("more", "valueBoolean", told.more),
        ];
        found.extend(told.total.map(|total| one("total", "valueInteger", total)));
        found.push(one("included", "valueInteger", told.included));
        all.push(parts("result", found));
    }
    all.extend(told.looked_at.map(|looked_at| opened("opened", looked_at)));
    for (name, value) in Explained::BOUNDS {
        let bound = vec![
            one("name", "valueCode", name),
            one("value", "valueInteger", value),
        ];
        all.push(parts("bound", bound));
    }
    #[allow(clippy::cast_precision_loss, reason = "a time in microseconds")]
    let ms = micros as f64 / 1000.0;
    all.push(json!({"name": "time", "valueQuantity":
        {"value": ms, "unit": "ms", "system": "http://unitsofmeasure.org", "code": "ms"}}));
    if let Some(words) = &told.too_costly {
        let outcome = OperationOutcome::error(IssueCode::TooCostly, words.clone());
        all.push(json!({"name": "outcome", "resource": outcome.to_resource().as_value()}));
    }
    json!({"resourceType": "Parameters", "parameter": all})
}

impl Record {
    /// `$explain` of a type: makes the search that the parameters ask for and tells of it, instead of
    /// giving its rows. It needs the same permit and is audited as that search.
    ///
    /// # Errors
    /// As [`Record::search`], but a search that is too costly is told of in the answer; 400 for `_cursor`,
    /// since the first page is explained.
    pub async fn explain(
        &self,
        caller: &Caller,
        kind: ResourceType,
        parameters: &[(String, String)],
    ) -> Result<Answer, RecordError> {
        check_kept(kind)?;
        if parameters.iter().any(|(name, _)| name == "_cursor") {
            let words = "does not go with $explain, which is of the first page";
            return Err(refuse(IssueCode::NotSupported, "_cursor", words));
        }
        let permit = self
            .permit(
                caller,
                Action::Search,
                Some(kind),
                crate::emergency::named_in(caller, Some(kind), parameters),
            )
            .await?;
        let part = Part::of(Some(kind), parameters)?;
        let owns = self.vault().owns(permit.tenant());
        let mut query = SearchQuery::parse_with(kind, &part.others, caller.lenient, &owns)
            .map_err(|outcome| RecordError::with(400, outcome))?;
        part.ask(&mut query);
        query.of_server(&caller.base);
        query.at(self.now_ms());
        let began = Instant::now();
        let explained = self
            .vault()
            .explain(&permit, &query)
            .await
            .map_err(wrap(caller))?;
        let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        Ok(answer(
            told(&query, &explained, micros).to_string().into_bytes(),
        ))
    }
}

//! `Patient/$match` (FHIR R4, `OperationDefinition/Patient-match`): who of those in the record somebody may be, with
//! how sure that is and why.
//!
//! What is opened to be compared is what a search of the caller would show, row by row; what is shown is in the
//! audit.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use fhir::{IssueCode, OperationOutcome, ResourceType};
use record::{Among, Answer, Caller, Record, RecordError};
use serde_json::{Value, json};
use trust::Versioned;

use crate::matching::{Grade, Person, doors, shipped};

/// Rows that are answered unless fewer are asked for.
pub const COUNT_DEFAULT: usize = 20;
/// The most rows that can be asked for: whoever has to look at more has not been told anything.
pub const COUNT_MAX: usize = 100;
/// Patients who are compared with one who is asked for. Where more may be that one, more has to be said of them: a
/// match among some of the candidates would be called one among all.
pub const COMPARED_MAX: usize = 2_000;
/// The longest that comparing them takes, in milliseconds: names and addresses as long as they may be, as many as are
/// looked at, of as many patients, would take longer.
const TIME_MAX_MS: u64 = 2_000;

/// Where R4 defines how sure a match is.
const MATCH_GRADE: &str = "http://hl7.org/fhir/StructureDefinition/match-grade";
/// An extension of Cairn's own: a summand of the score, with field, level, bits and a sentence.
const MATCH_REASON: &str = "urn:cairn:match-reason";

/// What is asked.
struct Asked {
    patient: Value,
    only_certain: bool,
    count: usize,
}

fn refuse(code: IssueCode, place: &str, words: impl Into<String>) -> RecordError {
    RecordError {
        status: 400,
        outcome: OperationOutcome::at(code, words, place),
        inside: None,
    }
}

fn asked(body: &[u8]) -> Result<Asked, RecordError> {
    let parameters = record::parameters_resource(body)?;
    let mut asked = Asked {
        patient: Value::Null,
        only_certain: false,
        count: COUNT_DEFAULT,
    };
    let list = parameters.get("parameter").and_then(Value::as_array);
    for parameter in list.into_iter().flatten() {
        match parameter["name"].as_str().unwrap_or_default() {
            "resource" => asked.patient = parameter["resource"].clone(),
            "onlyCertainMatches" => {
                asked.only_certain = parameter["valueBoolean"].as_bool().ok_or_else(|| {
                    refuse(IssueCode::Value, "onlyCertainMatches", "is a valueBoolean")
                })?;
            }
            "count" => {
                let count = parameter["valueInteger"]
                    .as_u64()
                    .and_then(|count| usize::try_from(count).ok());
                asked.count = count
                    .filter(|count| (1..=COUNT_MAX).contains(count))
                    .ok_or_else(|| {
                        refuse(
                            IssueCode::Value,
                            "count",
                            format!("is a whole number from 1 to {COUNT_MAX}"),
                        )
                    })?;
            }
            _ => {
                let words = "has a parameter that $match doesn't know; there are resource, onlyCertainMatches and count";
                return Err(refuse(
                    IssueCode::NotSupported,
                    "Parameters.parameter",
                    words,
                ));
            }
        }
    }
    if asked.patient["resourceType"] != "Patient" {
        return Err(refuse(
            IssueCode::Required,
            "resource",
            "is the Patient who is looked for",
        ));
    }
    Ok(asked)
}

/// Answers `$match`: a searchset, the likeliest first, each with `search.score` (the probability), the grade, and
/// reasons. With `onlyCertainMatches` the answer is the one that is certain, or empty: also where several are.
///
/// # Errors
/// 400 for a body that is something else, or a patient with nothing to find anybody by; 403; 422 (too costly) where
/// more than [`COMPARED_MAX`] would have to be compared, or it takes too long; 500.
pub async fn matches(record: &Record, caller: &Caller, body: &[u8]) -> Result<Answer, RecordError> {
    let asked = asked(body)?;
    let one = Person::of(&asked.patient);
    let mut refused = None;
    for filter in doors::filters(&asked.patient) {
        match choose(record, caller, &asked, &one, filter).await {
            // Where too many are born on one day, those of them whose names begin so.
            Err(error) if error.status == 422 => refused = Some(error),
            found => {
                let (rows, total) = found?;
                return Ok(told(caller, &one, &rows, total));
            }
        }
    }
    Err(refused.unwrap_or_else(|| {
        let words = "has nothing to find anybody by: an identifier, a telephone number, an e-mail address, a whole day of birth, or a name with the year of birth or a postcode";
        refuse(IssueCode::Required, "resource", words)
    }))
}

/// Whom one look finds, the likeliest first, as many as are asked for; and how many there are.
async fn choose(
    record: &Record,
    caller: &Caller,
    asked: &Asked,
    one: &Person,
    filter: String,
) -> Result<(Vec<Versioned>, usize), RecordError> {
    let total = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&total);
    let (only_certain, count, one) = (asked.only_certain, asked.count, one.clone());
    let least = if only_certain {
        Grade::Certain
    } else {
        Grade::Possible
    };
    let choose = move |rows: Vec<Versioned>, is_late: &dyn Fn() -> bool| {
        let matcher = shipped();
        let mut found = Vec::new();
        for row in rows {
            if is_late() {
                return None;
            }
            let other = Person::of(row.resource.as_value());
            let probability = matcher.score(&one, &other).probability;
            if Grade::of(probability) >= least {
                found.push((probability, row));
            }
        }
        found.sort_by(|(one, _), (other, _)| other.total_cmp(one));
        if only_certain && found.len() > 1 {
            found.clear();
        }
        counted.store(found.len(), Ordering::Relaxed);
        found.truncate(count);
        Some(found.into_iter().map(|(_, row)| row).collect())
    };
    let among = Among {
        rows_max: COMPARED_MAX,
        time_max_ms: TIME_MAX_MS,
    };
    let parameters = [("_filter".to_owned(), filter)];
    let rows = record
        .choose(caller, ResourceType::Patient, &parameters, among, choose)
        .await?;
    Ok((rows, total.load(Ordering::Relaxed)))
}

/// The answer.
fn told(caller: &Caller, one: &Person, rows: &[Versioned], total: usize) -> Answer {
    let matcher = shipped();
    let mut entries: Vec<Value> = rows
        .iter()
        .map(|row| {
            let resource = row.resource.as_value();
            let other = Person::of(resource);
            let probability = matcher.score(one, &other).probability;
            let mut extensions = vec![json!({ "url": MATCH_GRADE, "valueCode": Grade::of(probability).code() })];
            extensions.extend(matcher.explain(one, &other).into_iter().map(|reason| {
                json!({ "url": MATCH_REASON, "extension": [
                    { "url": "field", "valueCode": reason.field },
                    { "url": "level", "valueCode": if reason.level.is_empty() { "-" } else { reason.level } },
                    { "url": "bits", "valueDecimal": rounded(reason.bits, 10.0) },
                    { "url": "why", "valueString": reason.why },
                ] })
            }));
            json!({
                "fullUrl": format!("{}/Patient/{}", caller.base, row.resource.id().unwrap_or_default()),
                "resource": resource,
                "search": { "extension": extensions, "mode": "match", "score": rounded(probability, 10_000.0) },
            })
        })
        .collect();
    if total > rows.len() {
        let words = format!(
            "{total} are alike, and the {} likeliest of them are here: ask with a greater `count`, or with more of the person",
            rows.len()
        );
        let outcome = OperationOutcome::error(IssueCode::Incomplete, words);
        entries.push(json!({ "resource": outcome.to_resource().into_value(), "search": { "mode": "outcome" } }));
    }
    let mut bundle = json!({ "resourceType": "Bundle", "type": "searchset", "total": total,
        "link": [{ "relation": "self", "url": format!("{}/Patient/$match", caller.base) }] });
    // An empty list is none in FHIR's JSON.
    if !entries.is_empty() {
        bundle["entry"] = Value::from(entries);
    }
    Answer {
        status: 200,
        version: None,
        last_modified_ms: None,
        location: None,
        body: bundle.to_string().into_bytes(),
    }
}

/// Probabilities just below 1 stay below it.
fn rounded(value: f64, parts: f64) -> f64 {
    let rounded = (value * parts).round() / parts;
    if value < 1.0 && rounded >= 1.0 {
        (parts - 1.0) / parts
    } else {
        rounded
    }
}

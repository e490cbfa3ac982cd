//! What is taken from an answer. Nothing else of it is kept, and nothing of it comes into a log.

use fhir::path::{Environment, Expression};
use serde_json::{Value, json};

/// Longest text that is taken; a journey keeps no longer answers of patients either.
const TEXT_CHARS_MAX: usize = 500;

/// Names and values that an answer gives: one text, number, or yes or no each. What gives another thing, or several, is
/// left out.
pub(super) fn learn(
    body: &Value,
    learns: &[(String, String)],
    now_ms: u64,
) -> Vec<(String, Value)> {
    let learnt = learns.iter().filter_map(|(name, path)| {
        let value = one(body, path, now_ms)?;
        Some((name.clone(), value))
    });
    learnt.collect()
}

fn one(body: &Value, path: &str, now_ms: u64) -> Option<Value> {
    let environment = Environment {
        now_ms: i64::try_from(now_ms).ok(),
        ..Environment::default()
    };
    let expression = Expression::compile(path).ok()?;
    let found = expression.evaluate(body, &environment).ok()?;
    let [item] = found.as_slice() else {
        return None;
    };
    match item.value() {
        Value::String(text) => Some(json!(text.chars().take(TEXT_CHARS_MAX).collect::<String>())),
        value @ (Value::Number(_) | Value::Bool(_)) => Some(value.clone()),
        _ => None,
    }
}

/// One of a `Task`'s outputs.
pub(super) fn output(name: &str, value: &Value) -> Value {
    let mut output = json!({"type": {"text": name}});
    let kind = match value {
        Value::Bool(_) => "valueBoolean",
        Value::Number(number) if number.is_f64() => "valueDecimal",
        Value::Number(number) if number.as_i64().is_some_and(|n| i32::try_from(n).is_ok()) => {
            "valueInteger"
        }
        Value::Number(_) => "valueDecimal",
        _ => "valueString",
    };
    output[kind] = value.clone();
    output
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_plain_value_is_taken_each() {
        let body = json!({
            "booking": {"id": "B7", "seats": 2, "cost": 4.5, "paid": false, "stops": ["a", "b"], "none": null},
            "parameter": [{"name": "score", "valueDecimal": 0.5}],
            "long": "x".repeat(600)
        });
        for (path, expected) in [
            ("booking.id", Some(json!("B7"))),
            ("booking.seats", Some(json!(2))),
            ("booking.seats + 1", Some(json!(3))),
            ("booking.cost", Some(json!(4.5))),
            ("booking.paid", Some(json!(false))),
            ("booking.stops", None),
            ("booking.stops.first()", Some(json!("a"))),
            ("booking.none", None),
            ("booking", None),
            ("nothing.there", None),
            (
                "parameter.where(name = 'score').valueDecimal",
                Some(json!(0.5)),
            ),
            ("long", Some(json!("x".repeat(500)))),
            ("is this FHIRPath", None),
        ] {
            let learns = [("it".to_owned(), path.to_owned())];
            let learnt = learn(&body, &learns, 0);
            let expected: Vec<_> = expected
                .map(|value| ("it".to_owned(), value))
                .into_iter()
                .collect();
            assert_eq!(learnt, expected, "{path}");
        }
    }
}

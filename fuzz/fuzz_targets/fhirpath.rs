//! A FHIRPath expression: it compiles or says where it doesn't, and evaluating it ends.
#![no_main]

use std::sync::LazyLock;

use fhir::path::{Environment, Expression};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

static SAMPLE: LazyLock<Value> = LazyLock::new(|| {
    serde_json::from_str(
        r#"{"resourceType":"Patient","id":"a","active":true,"name":[{"use":"official","family":"Ada","given":["B","C"]},{"text":"D"}],"birthDate":"1950-04-01","telecom":[{"system":"phone","value":"1"}],"multipleBirthInteger":2,"extension":[{"url":"u","valueQuantity":{"value":1.50,"code":"kg","system":"http://unitsofmeasure.org"}}]}"#,
    )
    .expect("a sample")
});

fuzz_target!(|text: &str| {
    match Expression::compile(text) {
        Ok(expression) => {
            let environment = Environment {
                now_ms: Some(1_764_547_200_000),
                ..Environment::default()
            };
            let _ = expression.evaluate(&SAMPLE, &environment);
        }
        Err(error) => assert!(error.position <= text.len(), "a place in the text"),
    }
});

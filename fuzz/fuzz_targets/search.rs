//! A search, its first byte the resource type: it is understood or refused, and checking a resource by
//! it ends.
#![no_main]

use std::sync::LazyLock;

use fhir::search::SearchQuery;
use fhir::{Resource, ResourceType};
use libfuzzer_sys::fuzz_target;

static KINDS: LazyLock<Vec<ResourceType>> = LazyLock::new(|| ResourceType::all().collect());
static SAMPLES: LazyLock<Vec<Resource>> = LazyLock::new(|| {
    ["Patient", "Observation", "Encounter"]
        .map(|kind| {
            let text = format!(
                r#"{{"resourceType":"{kind}","id":"a","status":"final","name":[{{"family":"Ada"}}],"birthDate":"1950-04","code":{{"coding":[{{"system":"s","code":"c"}}],"text":"t"}},"subject":{{"reference":"Patient/a"}},"effectiveDateTime":"2020-01-01T00:00:00Z","valueQuantity":{{"value":1.50,"unit":"kg","system":"http://unitsofmeasure.org","code":"kg"}}}}"#
            );
            Resource::parse(text.as_bytes()).expect("a sample")
        })
        .into()
});

fuzz_target!(|data: &[u8]| {
    let Some((first, rest)) = data.split_first() else {
        return;
    };
    let Ok(text) = std::str::from_utf8(rest) else {
        return;
    };
    let kind = KINDS[usize::from(*first) % KINDS.len()];
    let parameters: Vec<(String, String)> = (text.split('&'))
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let lenient = SearchQuery::parse(kind, &parameters, true);
    if let Ok(mut query) = SearchQuery::parse(kind, &parameters, false) {
        assert!(lenient.is_ok(), "what the strict takes, the lenient takes");
        query.at(1_764_547_200_000);
        for sample in &*SAMPLES {
            let _ = query.matches(sample);
        }
    }
});

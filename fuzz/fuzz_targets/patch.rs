//! A patch of each of the three forms: it is understood or refused, and what it makes of a resource is
//! a resource.
#![no_main]

use std::sync::LazyLock;

use fhir::Resource;
use fhir::patch::Patch;
use libfuzzer_sys::fuzz_target;

static SAMPLE: LazyLock<Resource> = LazyLock::new(|| {
    Resource::parse(
        br#"{"resourceType":"Patient","id":"a","active":true,"name":[{"family":"Ada","given":["B","C"]},{"text":"D"}],"birthDate":"1950-04-01"}"#,
    )
    .expect("a sample")
});

fuzz_target!(|data: &[u8]| {
    let patches = [
        Patch::parse_json(data),
        Patch::parse_xml(data),
        Resource::parse(data).and_then(|parameters| Patch::from_parameters(&parameters)),
    ];
    for patch in patches.into_iter().flatten() {
        if let Ok(patched) = patch.apply(&SAMPLE) {
            let again = Resource::parse(&patched.to_json()).expect("what was written parses");
            assert_eq!(patched.as_value(), again.as_value());
        }
    }
});

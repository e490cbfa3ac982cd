//! JSON that claims to be a resource or a bundle: whatever is taken is written back as it was, its XML
//! says the same if it is sound, and checking, indexing and showing it end.
#![no_main]

use fhir::{Resource, Severity, search, validate, xml};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(resource) = Resource::parse(data) else {
        return;
    };
    let again = Resource::parse(&resource.to_json()).expect("what was written parses");
    assert_eq!(resource.as_value(), again.as_value());
    let _ = (search::index(&resource), resource.display(), resource.patients());
    let is_sound = !(validate::check(&resource).iter())
        .any(|issue| matches!(issue.severity, Severity::Error | Severity::Fatal));
    let written = xml::write(resource.as_value());
    if is_sound {
        let written = written.expect("a sound resource has a form in XML");
        let read = xml::parse(written.as_bytes()).expect("what was written parses");
        let read = Resource::from_value(read).expect("it is a resource");
        assert_eq!(resource.as_value(), read.as_value());
    }
});

//! XML that claims to be a resource: whatever is taken is written and read back as it was.
#![no_main]

use fhir::{Resource, validate, xml};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(value) = xml::parse(data) else {
        return;
    };
    let Ok(resource) = Resource::from_value(value) else {
        return;
    };
    let _ = validate::check(&resource);
    if let Ok(written) = xml::write(resource.as_value()) {
        let again = xml::parse(written.as_bytes()).expect("what was written parses");
        assert_eq!(*resource.as_value(), again);
    }
});

//! Mail that comes back, as anybody may write it: it is understood or it isn't, and nothing breaks by it.
#![no_main]

use libfuzzer_sys::fuzz_target;

// The one file, which needs nothing else of its crate.
#[allow(dead_code)]
#[path = "../../crates/exchange/src/returns/report.rs"]
mod report;

fuzz_target!(|data: &[u8]| {
    let _ = report::read(data);
    // As a part of a report, so that what reads those is come to at once.
    for kind in ["delivery-status", "feedback-report"] {
        let head = format!(
            "Content-Type: multipart/report; boundary=b\r\n\r\n--b\r\nContent-Type: message/{kind}\r\n\r\n"
        );
        let report = report::read(&[head.as_bytes(), data].concat());
        assert!(report.of.len() <= 2);
    }
});

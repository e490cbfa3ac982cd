//! `segments.yaml`: segments that the journeys of a folder share.

use crate::shared::{Merged, NotMerged, Shared};
use crate::{Finding, check, spec};

static SEGMENTS: Shared = Shared {
    member: "segments",
    one: "segment",
    form: &spec::SHARED,
    sense: check::shared_segments,
    named: check::named_segments,
    code: "J091",
};

/// Checks a file of segments. Pure.
#[must_use]
pub fn check_segments(source: &str) -> Vec<Finding> {
    SEGMENTS.check(source)
}

/// A journey's text with those segments of a shared file that it names and doesn't have itself. Where it has none of
/// its own they stand behind everything else, so that its lines keep their numbers.
///
/// # Errors
/// What is wrong with the shared file, or why the journey can't take of it what it names.
pub fn with_segments(journey: &str, shared: &str) -> Result<Merged, NotMerged> {
    SEGMENTS.merged(journey, shared)
}

//! References between resources (FHIR R4, section 2.3.0).
use crate::ResourceType;
use std::fmt;

/// A literal reference to a resource.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    /// The type referred to.
    pub kind: ResourceType,
    /// Its logical id.
    pub id: String,
    /// The version, for version-specific references.
    pub version: Option<u32>,
}

impl Reference {
    /// Parses `Type/id`, `Type/id/_history/version`, or the same behind an absolute base URL.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (mut head, mut id) = text.rsplit_once('/')?;
        let mut version = None;
        if let Some(instance) = head.strip_suffix("/_history") {
            version = Some(
                id.parse()
                    .ok()
                    .filter(|_| id.bytes().all(|byte| byte.is_ascii_digit()))?,
            );
            (head, id) = instance.rsplit_once('/')?;
        }
        let (base, kind) = head
            .rsplit_once('/')
            .map_or((None, head), |(base, kind)| (Some(base), kind));
        let kind = ResourceType::parse(kind)?;
        (is_id(id) && base.is_none_or(is_http)).then(|| Self {
            kind,
            id: id.to_owned(),
            version,
        })
    }

    /// The type and id of a relative reference `Type/id` or `Type/id/_history/version`, borrowed
    /// from the text. The version may be another server's, which need not be a number.
    #[must_use]
    pub fn relative(text: &str) -> Option<(ResourceType, &str)> {
        let (kind, rest) = text.split_once('/')?;
        let kind = ResourceType::parse(kind)?;
        let (id, rest) = rest
            .split_once('/')
            .map_or((rest, None), |(id, rest)| (id, Some(rest)));
        let versioned = rest.is_none_or(|rest| rest.strip_prefix("_history/").is_some_and(is_id));
        (versioned && is_id(id)).then_some((kind, id))
    }
}
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.id)
    }
}

/// Whether a text has the syntax of a logical id: 1 to 64 of `A-Z a-z 0-9 - .` (R4, data type `id`).
#[must_use]
pub fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.')
}

/// Whether a text is an absolute HTTP address.
pub(crate) fn is_http(text: &str) -> bool {
    text.strip_prefix("http")
        .is_some_and(|rest| rest.strip_prefix('s').unwrap_or(rest).starts_with("://"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literal_references() {
        for (text, expected) in [
            ("Patient/123", Some(("Patient/123", None))),
            ("Patient/a-B.9", Some(("Patient/a-B.9", None))),
            ("Patient/Patient", Some(("Patient/Patient", None))),
            ("Patient/1/_history/2", Some(("Patient/1", Some(2)))),
            (
                "https://example.org/fhir/Observation/x",
                Some(("Observation/x", None)),
            ),
            (
                "http://example.org/Patient/1/_history/12",
                Some(("Patient/1", Some(12))),
            ),
            ("", None),
            ("Patient", None),
            ("Patient/", None),
            ("/Patient/1", None),
            ("patient/1", None),
            ("x/Patient/1", None),
            ("Patient/1/_history/x", None),
            ("Patient/1/_history/+2", None),
            ("Patient/1/2", None),
            ("Patient/a b", None),
            ("Patient/ä", None),
            ("urn:uuid:9f2f3c3e-0000-4000-8000-000000000000", None),
            ("#contained", None),
            ("Patient?identifier=x|1", None),
        ] {
            let parsed = Reference::parse(text);
            let seen = parsed
                .as_ref()
                .map(|reference| (reference.to_string(), reference.version));
            assert_eq!(
                seen,
                expected.map(|(shown, version)| (shown.to_owned(), version)),
                "{text}"
            );
            if let (Some(relative), Some(parsed)) = (Reference::relative(text), &parsed) {
                assert_eq!(relative, (parsed.kind, parsed.id.as_str()), "{text}");
            }
            assert_eq!(
                Reference::relative(text).is_some(),
                text.starts_with("Patient/") && (parsed.is_some() || text.ends_with("/x")),
                "{text}"
            );
        }
        assert_eq!(
            Reference::relative("https://example.org/fhir/Patient/1"),
            None
        );
    }

    #[test]
    fn ids() {
        for (id, fine) in [
            ("a", true),
            ("", false),
            ("a_b", false),
            ("..", true),
            (&"x".repeat(64), true),
            (&"x".repeat(65), false),
        ] {
            assert_eq!(is_id(id), fine, "{id}");
        }
    }
}

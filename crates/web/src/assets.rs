//! Static files: in the binary, under a name with the hash of their content, kept for a year.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

/// A file of the pages.
pub(crate) struct Asset {
    /// Its address.
    pub(crate) url: String,
    kind: &'static str,
    content: &'static str,
}

fn asset(stem: &str, ending: &str, kind: &'static str, content: &'static str) -> Asset {
    let hash = blake3::hash(content.as_bytes()).to_hex();
    Asset {
        url: format!("/static/{stem}.{}.{ending}", &hash[..16]),
        kind,
        content,
    }
}

/// The style sheet.
pub(crate) static STYLE: LazyLock<Asset> = LazyLock::new(|| {
    asset(
        "cairn",
        "css",
        "text/css; charset=utf-8",
        include_str!("../assets/cairn.css"),
    )
});
/// The script.
pub(crate) static SCRIPT: LazyLock<Asset> = LazyLock::new(|| {
    asset(
        "cairn",
        "js",
        "text/javascript; charset=utf-8",
        include_str!("../assets/cairn.js"),
    )
});
/// The script of passkeys, on pages that have a form for them.
pub(crate) static PASSKEY: LazyLock<Asset> = LazyLock::new(|| {
    asset(
        "passkey",
        "js",
        "text/javascript; charset=utf-8",
        include_str!("../assets/passkey.js"),
    )
});
/// The script of notifications, on the page that has a form for them.
pub(crate) static PUSH: LazyLock<Asset> = LazyLock::new(|| {
    asset(
        "push",
        "js",
        "text/javascript; charset=utf-8",
        include_str!("../assets/push.js"),
    )
});
/// The script of the studio, which has a file checked while somebody types.
pub(crate) static STUDIO: LazyLock<Asset> = LazyLock::new(|| {
    asset(
        "studio",
        "js",
        "text/javascript; charset=utf-8",
        include_str!("../assets/studio.js"),
    )
});
/// The mark.
pub(crate) static MARK: LazyLock<Asset> = LazyLock::new(|| {
    asset(
        "mark",
        "svg",
        "image/svg+xml",
        include_str!("../assets/mark.svg"),
    )
});

/// `GET /static/{name}`.
pub(crate) async fn serve(Path(name): Path<String>) -> Response {
    let url = format!("/static/{name}");
    [&STYLE, &SCRIPT, &PASSKEY, &PUSH, &STUDIO, &MARK]
        .into_iter()
        .find(|asset| asset.url == url)
        .map_or_else(
            || (StatusCode::NOT_FOUND, "no such file").into_response(),
            |asset| {
                (
                    [
                        (header::CONTENT_TYPE, asset.kind),
                        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
                    ],
                    asset.content,
                )
                    .into_response()
            },
        )
}

/// `GET /sw.js`: what shows notifications. A browser asks for it under this name at each look for a newer one, and a
/// worker reaches no further than where it lies.
pub(crate) async fn worker() -> Response {
    let head = [
        (header::CONTENT_TYPE, "text/javascript; charset=utf-8"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (head, include_str!("../assets/sw.js")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    /// Custom properties of one block of the style sheet.
    fn tokens(selector: &str) -> HashMap<String, [f64; 3]> {
        let css = STYLE.content;
        let start = css.find(selector).unwrap();
        let block = &css[start..start + css[start..].find('}').unwrap()];
        block
            .lines()
            .filter_map(|line| {
                let (name, value) = line.trim().strip_prefix("--")?.split_once(": #")?;
                let digits = value.strip_suffix(';')?;
                let part = |at: usize| {
                    f64::from(u8::from_str_radix(&digits[at..at + 2], 16).unwrap()) / 255.0
                };
                Some((name.to_owned(), [part(0), part(2), part(4)]))
            })
            .collect()
    }

    /// Relative luminance, WCAG 2.2.
    fn luminance(colour: [f64; 3]) -> f64 {
        let [r, g, b] = colour.map(|part| {
            if part <= 0.04045 {
                part / 12.92
            } else {
                ((part + 0.055) / 1.055).powf(2.4)
            }
        });
        0.2126 * r + 0.7152 * g + 0.0722 * b
    }

    fn contrast(left: [f64; 3], right: [f64; 3]) -> f64 {
        let (a, b) = (luminance(left), luminance(right));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    #[test]
    fn every_pair_that_carries_text_has_enough_contrast() {
        for selector in [
            ":root {",
            ":root:not([data-theme=\"light\"]) {",
            ":root[data-theme=\"dark\"] {",
        ] {
            let tokens = tokens(selector);
            assert_eq!(tokens.len(), 10, "{selector}");
            for text in [
                "ink",
                "quiet",
                "accent",
                "done",
                "needs-you",
                "failed",
                "waiting",
            ] {
                for ground in ["ground", "raised"] {
                    let ratio = contrast(tokens[text], tokens[ground]);
                    assert!(ratio >= 4.5, "{text} on {ground} in {selector}: {ratio:.2}");
                }
            }
            // The word on a primary button, and on a badge.
            assert!(
                contrast(tokens["ground"], tokens["accent"]) >= 4.5,
                "button in {selector}"
            );
        }
    }

    #[test]
    fn both_ways_to_the_dark_say_the_same() {
        assert_eq!(
            tokens(":root:not([data-theme=\"light\"]) {"),
            tokens(":root[data-theme=\"dark\"] {")
        );
    }

    #[test]
    fn names_hold_the_hash() {
        assert!(STYLE.url.starts_with("/static/cairn.") && STYLE.url.ends_with(".css"));
        assert!(
            [&STYLE, &SCRIPT, &PASSKEY, &PUSH, &STUDIO]
                .map(|asset| asset.content.len())
                .iter()
                .sum::<usize>()
                < 64_000,
            "pages stay under 100 KB"
        );
    }
}

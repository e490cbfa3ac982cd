//! What a session was opened with, in plain words, so that people know their own sessions from a stranger's.
//!
//! Of what a browser says of itself (`User-Agent`) nothing is kept but a name and a kind of device out of this
//! list: the rest would tell one browser from others, and a stranger would write it.

tokio::task_local! {
    static BROWSER: Option<String>;
}

/// Does the work of a request that came with this `User-Agent`.
pub async fn in_browser<F: Future>(user_agent: Option<&str>, work: F) -> F::Output {
    BROWSER.scope(user_agent.and_then(words), work).await
}

/// The browser of the request under way, in words, as far as it is known.
pub(super) fn browser() -> Option<String> {
    BROWSER.try_with(Clone::clone).ok().flatten()
}

/// Most name others beside themselves, so the order counts.
const BROWSERS: [(&str, &str); 11] = [
    ("EdgA/", "Edge"),
    ("EdgiOS/", "Edge"),
    ("Edg/", "Edge"),
    ("OPR/", "Opera"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("FxiOS/", "Firefox"),
    ("Firefox/", "Firefox"),
    ("CriOS/", "Chrome"),
    ("Chromium/", "Chrome"),
    ("Chrome/", "Chrome"),
    ("Version/", "Safari"),
];
/// An Android phone says `Mobile`, a tablet doesn't. Safari on an iPad says that it is a Mac.
const DEVICES: [(&str, &str); 8] = [
    ("iPhone", "an iPhone"),
    ("iPad", "an iPad"),
    ("Android", "an Android tablet"),
    ("Windows", "a Windows computer"),
    ("CrOS", "a Chromebook"),
    ("Macintosh", "a Mac"),
    ("Linux", "a Linux computer"),
    ("X11", "a Linux computer"),
];
/// Longer than any that a browser sends by itself.
const USER_AGENT_BYTES_MAX: usize = 1_000;

fn words(user_agent: &str) -> Option<String> {
    if user_agent.len() > USER_AGENT_BYTES_MAX {
        return None;
    }
    let first = |list: &[(&str, &'static str)]| {
        let found = list.iter().find(|(part, _)| user_agent.contains(part));
        found.map(|(_, words)| *words)
    };
    let device = match first(&DEVICES)? {
        "an Android tablet" if user_agent.contains("Mobile") => "an Android phone",
        "a Mac" if user_agent.contains("Version/") => "a Mac or an iPad",
        device => device,
    };
    let browser = first(&BROWSERS).unwrap_or("A browser");
    Some(format!("{browser} on {device}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_are_named_in_plain_words() {
        let kit = "AppleWebKit/537.36 (KHTML, like Gecko)";
        let safari = "AppleWebKit/605.1.15 (KHTML, like Gecko)";
        let cases = [
            (
                format!("Mozilla/5.0 (Windows NT 10.0; Win64; x64) {kit} Chrome/130.0.0.0 Safari/537.36"),
                "Chrome on a Windows computer",
            ),
            (
                format!("Mozilla/5.0 (Windows NT 10.0; Win64; x64) {kit} Chrome/130.0.0.0 Safari/537.36 Edg/130.0.0.0"),
                "Edge on a Windows computer",
            ),
            (
                "Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0".to_owned(),
                "Firefox on a Linux computer",
            ),
            (
                format!("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {safari} Version/18.0 Safari/605.1.15"),
                "Safari on a Mac or an iPad",
            ),
            (
                "Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:132.0) Gecko/20100101 Firefox/132.0".to_owned(),
                "Firefox on a Mac",
            ),
            (
                format!("Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) {safari} Version/18.0 Mobile/15E148 Safari/604.1"),
                "Safari on an iPhone",
            ),
            (
                format!("Mozilla/5.0 (iPad; CPU OS 18_0 like Mac OS X) {safari} CriOS/130.0 Mobile/15E148 Safari/604.1"),
                "Chrome on an iPad",
            ),
            (
                format!("Mozilla/5.0 (Linux; Android 10; K) {kit} Chrome/130.0.0.0 Mobile Safari/537.36"),
                "Chrome on an Android phone",
            ),
            (
                format!("Mozilla/5.0 (Linux; Android 13; SM-X906C) {kit} SamsungBrowser/26.0 Chrome/122.0.0.0 Safari/537.36"),
                "Samsung Internet on an Android tablet",
            ),
            (
                format!("Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) {kit} Chrome/130.0.0.0 Safari/537.36 OPR/115.0"),
                "Opera on a Chromebook",
            ),
            ("Something (Windows)".to_owned(), "A browser on a Windows computer"),
        ];
        for (user_agent, expected) in cases {
            assert_eq!(
                words(&user_agent).as_deref(),
                Some(expected),
                "{user_agent}"
            );
        }
        // What no list has is not told, whatever it says.
        assert_eq!(words("curl/8.5.0"), None);
        assert_eq!(words("<b>Ida Berg</b>"), None);
        assert_eq!(words(&format!("Windows {}", "x".repeat(2_000))), None);
    }

    #[tokio::test]
    async fn what_no_request_asks_for_has_no_browser() {
        assert_eq!(browser(), None);
        let known = in_browser(Some("Firefox/132.0 (X11)"), async { browser() }).await;
        assert_eq!(known.as_deref(), Some("Firefox on a Linux computer"));
        assert_eq!(in_browser(None, async { browser() }).await, None);
    }
}

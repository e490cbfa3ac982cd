//! A message as it leaves: headers, a plain text and the same as simple HTML. No images, nothing
//! that is loaded from elsewhere, nothing that tells who opened it.

use std::time::{Duration, UNIX_EPOCH};

use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart, SinglePart};
use lettre::{Address, Message as Mail};

use crate::calendar::Entry;
use crate::dkim::Dkim;

/// Path before the secret of a link that signs a patient in (`web` serves it).
pub const SIGN_IN_LINK_PATH: &str = "/sign-in/link/";
/// Path of the page where patients say how they want to be reached.
pub const PREFERENCES_PATH: &str = "/portal/preferences";

/// Stands for the link in a message's text.
const LINK: &str = "{link}";

/// What a mail is made from.
pub(crate) struct Letter<'a> {
    pub(crate) from: &'a Mailbox,
    pub(crate) to: &'a Address,
    pub(crate) subject: &'a str,
    /// Text with `{link}`.
    pub(crate) text: &'a str,
    pub(crate) link: &'a str,
    pub(crate) message_id: &'a str,
    /// The portal, where it is written to somebody who says there how they want to be reached.
    pub(crate) preferences: Option<&'a str>,
    /// Wall clock.
    pub(crate) now_ms: u64,
    /// What the mail is signed with.
    pub(crate) dkim: Option<&'a Dkim>,
    /// An entry for the reader's calendar.
    pub(crate) entry: Option<Entry>,
}

/// The `Message-ID` of an outbox entry, the same for each attempt.
pub(crate) fn message_id(outbox_id: [u8; 16], domain: &str) -> String {
    format!("<{:032x}@{domain}>", u128::from_be_bytes(outbox_id))
}

/// Where `{link}` leads: the page itself, or a page that signs the patient in first.
pub(crate) fn link(portal_base: &str, link_path: &str, secret: Option<&str>) -> String {
    match secret {
        None => format!("{portal_base}{link_path}"),
        Some(secret) => {
            format!(
                "{portal_base}{SIGN_IN_LINK_PATH}{}?next={}",
                percent(secret).replace('/', "%2F"),
                percent(link_path)
            )
        }
    }
}

/// The bytes to send, or in words why there are none.
pub(crate) fn compose(letter: &Letter<'_>) -> Result<Vec<u8>, String> {
    let mut text = letter.text.trim().to_owned();
    // A message without a way into the portal would leave its reader standing.
    if !text.contains(LINK) {
        text.push_str("\n\n");
        text.push_str(LINK);
    }
    let plain = text.replace(LINK, letter.link) + "\n";
    let html = html(&text, letter.link);
    let subject = letter
        .subject
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    let to = Mailbox::new(None, letter.to.clone());
    let header = |name: &'static str, value: String| {
        HeaderValue::new(HeaderName::new_from_ascii_str(name), value)
    };
    let mut mail = Mail::builder()
        .from(letter.from.clone())
        .to(to)
        .subject(subject)
        .date(UNIX_EPOCH + Duration::from_millis(letter.now_ms))
        .message_id(Some(letter.message_id.to_owned()))
        // RFC 3834: keeps holiday notes from being sent back.
        .raw_header(header("Auto-Submitted", "auto-generated".to_owned()));
    if let Some(portal) = letter.preferences {
        let page = format!("<{portal}{PREFERENCES_PATH}>");
        mail = mail.raw_header(header("List-Unsubscribe", page));
    }
    let mut parts = MultiPart::alternative_plain_html(plain, html);
    if let Some(entry) = &letter.entry {
        // Last, as what says most of those that say the same (RFC 2046, section 5.1.4): who knows no calendars shows the
        // text.
        let kind = format!("text/calendar; charset=utf-8; method={}", entry.method);
        let kind = ContentType::parse(&kind).map_err(|error| error.to_string())?;
        parts = parts.singlepart(SinglePart::builder().header(kind).body(entry.text.clone()));
    }
    let mail = mail
        .multipart(parts)
        .map_err(|error| error.to_string())?
        .formatted();
    match letter.dkim {
        Some(dkim) => dkim.sign(&mail, letter.now_ms),
        None => Ok(mail),
    }
}

fn html(text: &str, link: &str) -> String {
    let anchor = format!("<a href=\"{0}\">{0}</a>", escape(link));
    let mut html = String::from(
        "<!doctype html>\n<html><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"></head>\n<body>\n",
    );
    for paragraph in text
        .split("\n\n")
        .map(str::trim)
        .filter(|paragraph| !paragraph.is_empty())
    {
        html.push_str("<p>");
        html.push_str(
            &escape(paragraph)
                .replace('\n', "<br>\n")
                .replace(LINK, &anchor),
        );
        html.push_str("</p>\n");
    }
    html.push_str("</body></html>\n");
    html
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// Percent-encodes all but what a path or query may hold unchanged (RFC 3986, `unreserved` and `/`).
fn percent(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'/') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mail(subject: &str, text: &str) -> String {
        let from: Mailbox = "Northmoor Krankenhaus <care@hospital.example>"
            .parse()
            .expect("a mailbox");
        let to: Address = "o.quandt@example.com".parse().expect("an address");
        let letter = Letter {
            from: &from,
            to: &to,
            subject,
            text,
            link: "https://portal.example/portal/inbox/0a1b",
            message_id: &message_id([0xab; 16], "hospital.example"),
            preferences: Some("https://portal.example"),
            now_ms: 1_793_000_000_000,
            dkim: None,
            entry: None,
        };
        String::from_utf8(compose(&letter).expect("a mail")).expect("ASCII")
    }

    fn parsed(bytes: &str) -> mail_parser::Message<'_> {
        mail_parser::MessageParser::default()
            .parse(bytes.as_bytes())
            .expect("a message")
    }

    #[test]
    fn has_the_headers_that_it_needs() {
        let mail = mail("A question from your care team", "Please answer: {link}");
        assert!(mail.is_ascii());
        for line in [
            "Message-ID: <abababababababababababababababab@hospital.example>\r\n",
            "Auto-Submitted: auto-generated\r\n",
            "List-Unsubscribe: <https://portal.example/portal/preferences>\r\n",
            "To: o.quandt@example.com\r\n",
            "Subject: A question from your care team\r\n",
            "Date: Mon, 26 Oct 2026 07:33:20 +0000\r\n",
            "MIME-Version: 1.0\r\n",
        ] {
            assert!(mail.contains(line), "{line:?} is not in {mail}");
        }
        assert!(!mail.contains("<img") && !mail.contains("src="));
    }

    #[test]
    fn both_parts_say_the_same_with_the_link() {
        let mail = mail("Grüße", "Guten Tag,\n\nbitte <hier> & jetzt: {link}\nDanke");
        let parsed = parsed(&mail);
        assert_eq!(parsed.subject(), Some("Grüße"));
        let text = parsed.body_text(0).expect("text").replace("\r\n", "\n");
        assert_eq!(
            text,
            "Guten Tag,\n\nbitte <hier> & jetzt: https://portal.example/portal/inbox/0a1b\nDanke\n"
        );
        let html = parsed.body_html(0).expect("html").replace("\r\n", "\n");
        assert!(html.contains("<p>bitte &lt;hier&gt; &amp; jetzt: <a href=\"https://portal.example/portal/inbox/0a1b\">"), "{html}");
        assert!(html.contains("<br>\nDanke</p>"), "{html}");
    }

    #[test]
    fn a_text_without_its_link_gets_one_and_a_subject_stays_one_line() {
        let mail = mail("Hello\r\nBcc: somebody@example.org", "Nothing to see");
        let parsed = parsed(&mail);
        assert_eq!(parsed.subject(), Some("Hello Bcc: somebody@example.org"));
        assert!(parsed.bcc().is_none());
        assert!(
            parsed
                .body_text(0)
                .expect("text")
                .contains("https://portal.example/portal/inbox/0a1b")
        );
    }

    #[test]
    fn links_lead_to_the_page_or_through_the_sign_in() {
        assert_eq!(
            link("https://p.example", "/portal/inbox/1", None),
            "https://p.example/portal/inbox/1"
        );
        assert_eq!(
            link("https://p.example", "/portal/inbox/1?a=b", Some("s3/+=")),
            "https://p.example/sign-in/link/s3%2F%2B%3D?next=/portal/inbox/1%3Fa%3Db"
        );
    }

    #[test]
    fn message_ids_differ_by_entry_alone() {
        assert_eq!(
            message_id([0; 16], "h.example"),
            "<00000000000000000000000000000000@h.example>"
        );
        assert_ne!(
            message_id([1; 16], "h.example"),
            message_id([2; 16], "h.example")
        );
    }
}

//! What a mail that came back says: a delivery status notification (RFC 3464), or a complaint (RFC 5965). Pure.
//!
//! Anybody may write what comes here, so nothing of its words is kept: codes alone. Nothing that is within something
//! is taken apart or decoded either: the mail's own parts are told from each other by their boundary, and of each no more
//! is read than lines of text. What is nested, however deep, is bytes.

/// The most parts of a mail that are looked at.
const PARTS_MAX: usize = 32;
/// The most bytes of a head, and of a report, that are looked at.
const TEXT_MAX: usize = 64 << 10;
/// The most characters of a boundary (RFC 2046, section 5.1.1).
const BOUNDARY_MAX: usize = 70;
/// The most recipients of a report that are looked at: our mails have one.
const RECIPIENTS_MAX: usize = 16;
/// The most lines of a report's part that are looked at.
const LINES_MAX: usize = 500;

/// An enhanced status code (RFC 3463).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Status {
    class: u8,
    subject: u16,
    detail: u16,
}

impl Status {
    /// The first code in a text.
    fn find(text: &str) -> Option<Self> {
        text.split(|letter: char| !(letter.is_ascii_digit() || letter == '.'))
            .find_map(Self::parse)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let mut next = || {
            let part = parts.next()?;
            (part.len() <= 3)
                .then(|| part.parse::<u16>().ok())
                .flatten()
        };
        let (class, subject, detail) = (next()?, next()?, next()?);
        let class = u8::try_from(class).ok()?;
        (parts.next().is_none() && matches!(class, 2 | 4 | 5)).then_some(Self {
            class,
            subject,
            detail,
        })
    }

    /// Whether it says that there is no such mailbox, now or later: what is written there is written in vain.
    pub(crate) fn is_about_the_address(self) -> bool {
        self.class == 5 && matches!((self.subject, self.detail), (1, 1 | 6 | 10))
    }

    /// Whether it says something like that which passes, too: a domain that can't be found for an hour, a mailbox that is
    /// closed for a while.
    pub(crate) fn may_be_about_the_address(self) -> bool {
        self.class == 5 && matches!((self.subject, self.detail), (1, 2 | 3) | (2, 1))
    }

    /// What it means, for people.
    pub(crate) fn words(self) -> &'static str {
        match (self.subject, self.detail) {
            (1, 1 | 6) => "there is no such mailbox",
            (1, 2 | 10) => "the domain takes no e-mail",
            (1, 3) => "the address is not one",
            (2, 1) => "the mailbox is closed",
            (2, 2) => "the mailbox is full",
            (2, 3) | (3, 4) => "it is too large",
            (4, 1) => "the other mail server does not answer",
            (4, 7) => "the mail servers gave up",
            (7, _) => "the other mail server does not want it",
            _ => "a mail server gave no other reason",
        }
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

/// What it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Says {
    /// It was not delivered and will not be.
    Failed(Option<Status>),
    /// It is still being tried.
    Delayed(Option<Status>),
    /// It is in the mailbox.
    Arrived,
    /// Whoever got it said that it is unwanted.
    Complaint,
    /// Nothing that we understand: an answer of a person, a holiday note, an old form of bounce.
    Other,
}

/// A mail that came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) says: Says,
    /// What may be the return address of the mail that it is about, as a complaint names it; the likeliest first.
    pub(crate) of: Vec<String>,
}

/// Reads one.
#[must_use]
pub(crate) fn read(mail: &[u8]) -> Report {
    let other = Report {
        says: Says::Other,
        of: Vec::new(),
    };
    let (head, body) = split(mail);
    let kind = field(&head, "content-type").unwrap_or_default();
    // The whole of it has to be a report (RFC 6522), and not a mail in which one is quoted.
    if media(kind) != "multipart/report" {
        return other;
    }
    let boundary = parameter(kind, "boundary").unwrap_or_default();
    let boundary = boundary.trim_end();
    if boundary.is_empty() || boundary.len() > BOUNDARY_MAX {
        return other;
    }
    let parts: Vec<(String, &[u8])> = parts(body, boundary)
        .into_iter()
        .map(|part| {
            let (head, body) = split(part);
            let kind = field(&head, "content-type").unwrap_or_default();
            (media(kind), body)
        })
        .collect();
    let find = |wanted: &[&str]| {
        let found = parts
            .iter()
            .find(|(kind, _)| wanted.contains(&kind.as_str()));
        found.map(|(_, body)| *body)
    };
    if let Some(report) = find(&["message/feedback-report"]) {
        let text = text(report);
        let sent = find(&[
            "message/rfc822",
            "message/global",
            "text/rfc822-headers",
            "message/global-headers",
        ]);
        let sent = sent.and_then(|sent| {
            let (head, _) = split(sent);
            field(&head, "return-path").map(str::to_owned)
        });
        return Report {
            says: complaint(&text),
            of: original(&text).into_iter().chain(sent).collect(),
        };
    }
    let found = find(&["message/delivery-status"]);
    let found = found.or_else(|| find(&["message/global-delivery-status"]));
    Report {
        says: found.map_or(Says::Other, |report| delivery(&text(report))),
        of: Vec::new(),
    }
}

/// The beginning of something, as text.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(TEXT_MAX)]).into_owned()
}

/// The fields of a head, and what stands behind the empty line that ends it. What has no such line is all head.
fn split(mail: &[u8]) -> (Vec<(String, String)>, &[u8]) {
    let mut at = 0;
    for line in mail.split_inclusive(|byte| *byte == b'\n') {
        if line.trim_ascii().is_empty() {
            break;
        }
        at += line.len();
    }
    let (head, rest) = mail.split_at(at);
    let behind = rest.iter().position(|byte| *byte == b'\n');
    let body = behind.map_or(&[][..], |end| &rest[end + 1..]);
    let fields = groups(&text(head)).into_iter().next().unwrap_or_default();
    (fields, body)
}

/// The parts between the lines with a boundary (RFC 2046, section 5.1.1). The last may have no end.
fn parts<'a>(body: &'a [u8], boundary: &str) -> Vec<&'a [u8]> {
    let delimiter = format!("--{boundary}");
    let (mut parts, mut from, mut at) = (Vec::new(), None, 0);
    for line in body.split_inclusive(|byte| *byte == b'\n') {
        let start = at;
        at += line.len();
        let Some(rest) = line.strip_prefix(delimiter.as_bytes()) else {
            continue;
        };
        let rest = rest.trim_ascii_end();
        if !matches!(rest, b"" | b"--") {
            continue;
        }
        if let Some(from) = from.replace(at) {
            parts.push(&body[from..start]);
        }
        if rest == b"--" || parts.len() >= PARTS_MAX {
            return parts;
        }
    }
    parts.extend(from.map(|from| &body[from..]));
    parts
}

/// The type in a `Content-Type`, in small letters.
fn media(kind: &str) -> String {
    let media = kind.split(';').next().unwrap_or_default();
    media.trim().to_ascii_lowercase()
}

/// A parameter of a `Content-Type`.
fn parameter(kind: &str, wanted: &str) -> Option<String> {
    let (_, mut rest) = kind.split_once(';')?;
    loop {
        let (name, behind) = rest.split_once('=')?;
        let behind = behind.trim_start();
        let mut value = String::new();
        let mut end = behind.len();
        let mut is_quoted = false;
        let mut letters = behind.char_indices();
        while let Some((at, letter)) = letters.next() {
            match letter {
                '"' if at == 0 => is_quoted = true,
                '"' if is_quoted => {
                    end = at + 1;
                    break;
                }
                '\\' if is_quoted => value.extend(letters.next().map(|(_, letter)| letter)),
                ';' | ' ' | '\t' if !is_quoted => {
                    end = at;
                    break;
                }
                _ => value.push(letter),
            }
        }
        let name = name.trim_matches([' ', '\t', ';']);
        if name.eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        rest = &behind[end..];
    }
}

/// Groups of fields, with empty lines between them; names in small letters, values without folds.
fn groups(text: &str) -> Vec<Vec<(String, String)>> {
    let mut groups: Vec<Vec<(String, String)>> = vec![Vec::new()];
    for line in text.lines().take(LINES_MAX) {
        let Some(group) = groups.last_mut() else {
            break;
        };
        if line.trim().is_empty() {
            if !group.is_empty() {
                groups.push(Vec::new());
            }
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = group.last_mut() {
                value.push_str(line);
            }
        } else if let Some((name, value)) = line.split_once(':') {
            group.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    groups
}

fn field<'a>(group: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let found = group.iter().find(|(known, _)| known == name);
    found.map(|(_, value)| value.as_str())
}

/// What a `message/delivery-status` says. Ours are about one recipient; of several the worst counts.
fn delivery(text: &str) -> Says {
    let mut worst = Says::Other;
    for group in groups(text).iter().take(RECIPIENTS_MAX) {
        let Some(action) = field(group, "action") else {
            continue;
        };
        let status = field(group, "status").and_then(Status::find);
        let diagnosed = || field(group, "diagnostic-code").and_then(Status::find);
        // Some servers write 5.0.0 and what it really was beside it.
        let status = match status {
            Some(Status { subject: 0, .. }) | None => diagnosed().or(status),
            known => known,
        };
        let action = action.split_whitespace().next().unwrap_or_default();
        let says = match action.to_ascii_lowercase().as_str() {
            "failed" => Says::Failed(status),
            "delayed" => Says::Delayed(status),
            "delivered" => Says::Arrived,
            _ => Says::Other,
        };
        let weight = |says| match says {
            Says::Failed(_) => 3,
            Says::Delayed(_) => 2,
            Says::Arrived => 1,
            _ => 0,
        };
        if weight(says) > weight(worst) {
            worst = says;
        }
    }
    worst
}

/// What a `message/feedback-report` says.
fn complaint(text: &str) -> Says {
    let groups = groups(text);
    let kind = groups
        .iter()
        .find_map(|group| field(group, "feedback-type"));
    match kind.map(str::to_ascii_lowercase).as_deref() {
        Some("abuse" | "fraud" | "opt-out" | "opt-out-list" | "other") => Says::Complaint,
        _ => Says::Other,
    }
}

fn original(text: &str) -> Option<String> {
    let groups = groups(text);
    let found = groups
        .iter()
        .find_map(|group| field(group, "original-mail-from"));
    found.map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;

    use super::*;

    fn bounce(report: &str) -> String {
        format!(
            "From: MAILER-DAEMON@mx.example\r\nTo: x@y.example\r\nSubject: Undelivered\r\nMIME-Version: 1.0\r\n\
             Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n\
             --b\r\nContent-Type: text/plain\r\n\r\nI'm sorry. 5.1.1\r\n\
             --b\r\nContent-Type: message/delivery-status\r\n\r\n{report}\r\n\
             --b\r\nContent-Type: text/rfc822-headers\r\n\r\nSubject: hello\r\n\r\n--b--\r\n"
        )
    }

    #[test]
    fn reports_say_what_became_of_it() {
        let status = |text: &str| Status::parse(text);
        for (fields, expected) in [
            (
                "Action: failed\r\nStatus: 5.1.1\r\n",
                Says::Failed(status("5.1.1")),
            ),
            (
                "ACTION: Failed (really)\r\nstatus: 5.1.1 (no such user)\r\n",
                Says::Failed(status("5.1.1")),
            ),
            (
                "Action: failed\r\nStatus: 5.0.0\r\nDiagnostic-Code: smtp; 550\r\n 5.1.10 nobody\r\n",
                Says::Failed(status("5.1.10")),
            ),
            ("Action: failed\r\nStatus: five\r\n", Says::Failed(None)),
            ("Action: failed\r\n", Says::Failed(None)),
            (
                "Action: delayed\r\nStatus: 4.4.1\r\n",
                Says::Delayed(status("4.4.1")),
            ),
            ("Action: delivered\r\nStatus: 2.0.0\r\n", Says::Arrived),
            ("Action: relayed\r\n", Says::Other),
            ("Action: expanded\r\n", Says::Other),
            (
                "Action: delivered\r\n\r\nAction: failed\r\nStatus: 5.2.2\r\n\r\nAction: delayed\r\n",
                Says::Failed(status("5.2.2")),
            ),
            ("Status: 5.1.1\r\n", Says::Other),
        ] {
            let mail = bounce(&format!("Reporting-MTA: dns; mx.example\r\n\r\n{fields}"));
            assert_eq!(read(mail.as_bytes()).says, expected, "{fields}");
        }
    }

    #[test]
    fn complaints_name_the_mail_that_they_are_about() {
        let mail = |fields: &str, sent: &str| {
            format!(
                "From: fbl@mx.example\r\nMIME-Version: 1.0\r\n\
                 Content-Type: multipart/report; report-type=feedback-report; boundary=b\r\n\r\n\
                 --b\r\nContent-Type: text/plain\r\n\r\nA complaint.\r\n\
                 --b\r\nContent-Type: message/feedback-report\r\n\r\n{fields}\r\n\
                 --b\r\n{sent}\r\n\r\n--b--\r\n"
            )
        };
        let whole = "Content-Type: message/rfc822\r\n\r\nReturn-Path: <returns+x@y.example>\r\nSubject: hello\r\n\r\nHello";
        let head = "Content-Type: text/rfc822-headers\r\n\r\nReturn-Path: <returns+x@y.example>\r\nSubject: hello";
        for (fields, sent, says, of) in [
            (
                "Feedback-Type: abuse\r\n",
                whole,
                Says::Complaint,
                Some("returns+x@y.example"),
            ),
            (
                "Feedback-Type: abuse\r\n",
                head,
                Says::Complaint,
                Some("returns+x@y.example"),
            ),
            (
                "Feedback-Type: Abuse\r\nOriginal-Mail-From: <returns+z@y.example>\r\n",
                whole,
                Says::Complaint,
                Some("returns+z@y.example"),
            ),
            (
                "Feedback-Type: not-spam\r\n",
                whole,
                Says::Other,
                Some("returns+x@y.example"),
            ),
            (
                "User-Agent: x\r\n",
                "Content-Type: text/plain\r\n\r\nx",
                Says::Other,
                None,
            ),
        ] {
            let report = read(mail(fields, sent).as_bytes());
            let found = report.of.first();
            let found = found.map(|of| of.trim_matches(['<', '>']));
            assert_eq!((report.says, found), (says, of), "{fields}{sent}");
        }
    }

    #[test]
    fn what_is_no_report_says_nothing() {
        for mail in [
            "",
            "\r\n",
            "hello",
            "Subject: I am on holiday\r\n\r\nStatus: 5.1.1\r\nAction: failed\r\n",
            // A report that is quoted in a mail is none.
            "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; x\r\n\r\nAction: failed\r\nStatus: 5.1.1\r\n--b--\r\n",
            "Content-Type: multipart/report; boundary=b\r\n\r\n--b",
        ] {
            assert_eq!(read(mail.as_bytes()).says, Says::Other, "{mail}");
        }
    }

    #[test]
    fn a_bomb_is_read_in_no_time() {
        let mut bombs = vec![
            vec![b'a'; 1 << 20],
            b"\r\n ".repeat(300_000),
            b"A:\r\n".repeat(250_000),
        ];
        // Multiparts within multiparts, messages within messages, messages in base 64 within those.
        let mut nested = String::from("MIME-Version: 1.0\r\n");
        for depth in 0..8_000 {
            nested +=
                &format!("Content-Type: multipart/report; boundary=b{depth}\r\n\r\n--b{depth}\r\n");
        }
        bombs.push(nested.into_bytes());
        bombs.push(
            "Content-Type: message/rfc822\r\n\r\n"
                .repeat(20_000)
                .into_bytes(),
        );
        let parts =
            "--b\r\nContent-Type: message/delivery-status\r\n\r\nAction: failed\r\n".repeat(12_000);
        bombs.push(
            format!("Content-Type: multipart/report; boundary=b\r\n\r\n{parts}").into_bytes(),
        );
        bombs.push(
            "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\nQ29udGVudC1UeXBlOiBtZXNzYWdlL3JmYzgyMg0K\r\n"
                .repeat(5_000)
                .into_bytes(),
        );
        // The same within a part, and in a part's base 64: letting go of what is decoded layer by layer needs as much stack
        // as there are layers.
        for encoding in ["7bit", "base64"] {
            let layers = "Content-Type:message/rfc822\r\n\r\n".repeat(25_000);
            let within = match encoding {
                "base64" => base64::engine::general_purpose::STANDARD.encode(layers),
                _ => layers,
            };
            bombs.push(
                format!(
                    "Content-Type: multipart/report; boundary=b\r\n\r\n--b\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n{within}\r\n--b--\r\n"
                )
                .into_bytes(),
            );
        }
        for bomb in bombs {
            let began = tokio::time::Instant::now();
            let _ = read(&bomb);
            let took = began.elapsed();
            assert!(took.as_secs() < 5, "{} bytes took {took:?}", bomb.len());
        }
    }

    #[test]
    fn parameters_are_found_as_they_may_be_written() {
        for (kind, expected) in [
            ("multipart/report; boundary=b", Some("b")),
            (
                "multipart/report;boundary = \"a b;c=\\\"d\"; x=y",
                Some("a b;c=\"d"),
            ),
            (
                "multipart/report; x=\"boundary=no; y\"; BOUNDARY=yes",
                Some("yes"),
            ),
            ("multipart/report; boundary=\"open", Some("open")),
            ("multipart/report; boundary", None),
            ("multipart/report", None),
            ("multipart/report; ===;=\"", None),
        ] {
            assert_eq!(parameter(kind, "boundary").as_deref(), expected, "{kind}");
        }
    }

    #[test]
    fn only_a_mails_own_parts_are_its_report() {
        // Within the mail that came back lies a report that its writer made up.
        let mail = "Content-Type: multipart/report; boundary=b\r\n\r\n--b\r\nContent-Type: message/rfc822\r\n\r\n\
                    Content-Type: multipart/report; boundary=c\r\n\r\n--c\r\nContent-Type: message/delivery-status\r\n\r\nAction: failed\r\nStatus: 5.1.1\r\n--c--\r\n--b--\r\n";
        assert_eq!(read(mail.as_bytes()).says, Says::Other);
        // With line feeds alone, and without an end.
        let mail = "Content-Type: multipart/report; boundary=b\n\n--b\nContent-Type: message/delivery-status\n\nAction: failed\nStatus: 5.1.1\n";
        assert!(matches!(read(mail.as_bytes()).says, Says::Failed(Some(_))));
    }

    #[test]
    fn codes_tell_mailboxes_that_are_gone_from_other_troubles() {
        for (code, expected) in [
            ("5.1.1", (true, false)),
            ("5.1.10", (true, false)),
            ("5.1.6", (true, false)),
            ("5.2.1", (false, true)),
            ("5.1.2", (false, true)),
            ("5.1.3", (false, true)),
            ("5.2.2", (false, false)),
            ("5.7.1", (false, false)),
            ("5.4.4", (false, false)),
            ("4.1.1", (false, false)),
            ("5.1.8", (false, false)),
        ] {
            let status = Status::parse(code).expect(code);
            let about = (
                status.is_about_the_address(),
                status.may_be_about_the_address(),
            );
            assert_eq!(about, expected, "{code}");
            assert_eq!(status.to_string(), code);
        }
        for text in ["", "5", "5.1", "5.1.1.1", "3.1.1", "5.1.1234", "550"] {
            assert_eq!(Status::parse(text), None, "{text}");
        }
    }
}

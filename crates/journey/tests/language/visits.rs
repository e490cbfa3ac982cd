//! What the checker says of a visit's reminders.

use crate::{GOOD, TASK};

/// Reminders of a visit fit together, and are said where there are some.
#[test]
fn reminders_of_a_visit_make_sense() {
    let visit = |book_by: &str, more: &str| {
        let book = format!(
            "    book:\n      title: Check-up\n      time: discharge + 10d at 10:00\n      minutes: 30\n      book_by: {book_by}\n{more}    next: end\n    not_booked: end\n"
        );
        GOOD.replacen(TASK, &book, 1)
    };
    let found = |book_by: &str, more: &str| {
        let source = visit(book_by, more);
        let findings = journey::check(&source).into_iter();
        let said = findings.map(|finding| {
            let kind = if finding.error { "error" } else { "warning" };
            let line = source.lines().nth(finding.line - 1).unwrap_or_default();
            assert!(line.len() >= finding.column, "{finding:?}");
            format!("{} {kind} {}", finding.code, finding.message)
        });
        said.collect::<Vec<_>>()
    };
    let two_days = "discharge + 2d at 10:00";
    for (more, expected) in [
        ("", &[][..]),
        ("      remind: [7d, 1d, 2h]\n", &[]),
        (
            "      remind: [1d]\n      reminder: On {visit.day} at {visit.time}.\n      channels: [portal]\n      urgency: important\n",
            &[],
        ),
        (
            "      remind: [1d, 24h]\n",
            &["J059 error the reminder 24 hours before the visit stands twice"],
        ),
        (
            "      remind: [2h, 1d]\n",
            &["J059 warning the reminder 24 hours before the visit comes before"],
        ),
        (
            "      remind: [7d, 6d, 5d, 4d, 3d, 2d, 1d]\n",
            &["J059 error 7 reminders of one visit; there may be 6"],
        ),
        (
            "      remind: [9d, 1d]\n",
            &["J059 warning who books just before `book_by` is not reminded 9 days before"],
        ),
        (
            "      reminder: Come.\n      channels: [email]\n",
            &[
                "J059 error `reminder` is for reminders",
                "J059 error `channels` is for reminders",
            ],
        ),
        (
            "      remind: [1d]\n      reminder: On {due.day}.\n",
            &["J018 error `{due.day}` has no meaning in a reminder"],
        ),
        (
            "      remind: [1d]\n      email: {subject: Your visit, text: 'On {visit.day}: {link}'}\n",
            &["J017 error `{visit.day}` is PHI"],
        ),
        (
            "      remind: [1d]\n      email: {subject: Your visit, text: Please come.}\n",
            &["J034 warning this e-mail has no `{link}`"],
        ),
        (
            "      remind: [1d]\n      channels: [email, email]\n",
            &["J024 error channel `email` stands twice"],
        ),
        (
            "      confirm: {words: 'On {visit.day} at {visit.time}.', called_off: 'Not on {visit.day}.', calendar: true}\n",
            &[],
        ),
        (
            "      confirm: {words: 'By {due.day}.'}\n",
            &["J018 error `{due.day}` has no meaning once the visit is booked"],
        ),
        (
            "      confirm: {words: Booked., called_off: 'Not by {due.day}.'}\n",
            &["J018 error `{due.day}` has no meaning once the visit is booked"],
        ),
        (
            "      confirm: {words: Booked., channels: [portal], calendar: true}\n",
            &["J059 error an entry for a calendar comes by e-mail"],
        ),
        (
            "      confirm: {words: Booked., email: {subject: Your visit, text: 'On {visit.day}: {link}'}}\n",
            &["J017 error `{visit.day}` is PHI"],
        ),
        ("      confirm: {calendar: true}\n", &["J003 error"]),
        ("      remind: [soon]\n", &["J009 error"]),
        ("      remind: []\n", &["J004 error"]),
        (
            "      remind: [1d]\n      urgency: clinical\n      because: The result is bad.\n",
            // A rule leads to it, too.
            &["J080 error", "J081 error"],
        ),
    ] {
        let found = found(two_days, more);
        assert_eq!(found.len(), expected.len(), "{more}: {found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{more}: {found}");
        }
    }
    // Half a day before the visit there is no day before.
    let late = found("discharge + 9d at 22:00", "      remind: [1d, 2h]\n");
    assert_eq!(late.len(), 1, "{late:#?}");
    assert!(late[0].ends_with("it is 12 hours from then"), "{late:#?}");
}

/// What asks the patient to book fits together, and is held to what other messages are held to.
#[test]
fn invitations_to_a_visit_make_sense() {
    let found = |book_by: &str, invite: &str| {
        let book = format!(
            "    book:\n      title: Check-up\n      time: discharge + 10d at 10:00\n      minutes: 30\n      book_by: {book_by}\n      invite: {{words: 'Please book {{visit.day}} until {{due.day}}.'{invite}}}\n    next: end\n    not_booked: end\n"
        );
        let source = GOOD.replacen(TASK, &book, 1);
        let findings = journey::check(&source).into_iter();
        let said = findings.map(|finding| {
            let kind = if finding.error { "error" } else { "warning" };
            let line = source.lines().nth(finding.line - 1).unwrap_or_default();
            assert!(line.len() >= finding.column, "{finding:?}");
            format!("{} {kind} {}", finding.code, finding.message)
        });
        said.collect::<Vec<_>>()
    };
    for (more, expected) in [
        ("", &[][..]),
        (
            ", again: [2d, 5d], reminder: Please book., channels: [portal]",
            &[],
        ),
        (
            ", again: [2d, 48h]",
            &["J064 error the reminder after 2 days stands twice"],
        ),
        (
            ", again: [5d, 2d]",
            &["J064 warning the reminder after 2 days comes before the one above it"],
        ),
        (
            ", again: [1d, 2d, 3d, 4d, 5d, 6d, 7d]",
            &["J064 error 7 reminders of one proposal; there may be 6"],
        ),
        (
            ", again: [9d]",
            &[
                "J064 warning the reminder after 9 days is never sent: the visit has to be booked within 9 days",
            ],
        ),
        (
            ", reminder: Please.",
            &["J064 error `reminder` is for reminders"],
        ),
        (", again: [soon]", &["J009 error"]),
        (", again: []", &["J004 error"]),
        (
            ", channels: [email, email]",
            &["J024 error channel `email` stands twice"],
        ),
        (
            ", email: {subject: Your visit, text: 'On {visit.day}: {link}'}",
            &["J017 error `{visit.day}` is PHI"],
        ),
        (
            ", email: {subject: Your visit, text: Please come.}",
            &["J034 warning this e-mail has no `{link}`"],
        ),
        (
            ", again: [1d], reminder: 'Hello {patient.given}.'",
            &["J019 error"],
        ),
        (
            ", urgency: clinical",
            &["J080 error", "J081 error", "J051 error"],
        ),
        (", because: It is.", &["J051 error `because` says why"]),
        (
            ", translations: {en: {title: Visit, words: Book.}}",
            &["J055 error"],
        ),
        (
            ", translations: {es: {title: Visita, words: 'Hola {patient.given}.'}}",
            &["J057 warning", "J057 warning", "J019 error"],
        ),
        (", ask: me", &["J002 error"]),
    ] {
        let mut found = found("discharge + 8d at 12:00", more);
        found.sort_by_key(|line| expected.iter().position(|start| line.starts_with(start)));
        assert_eq!(found.len(), expected.len(), "{more}: {found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{more}: {found}");
        }
    }
    // From the journey's start it is exact.
    assert_eq!(found("start + 3d", ", again: [3d]").len(), 1);
    assert_eq!(found("start + 3d", ", again: [71h]").len(), 0);
    // What comes before a date that is still ahead: nobody knows how far ahead that is.
    assert_eq!(found("discharge - 3d", ", again: [9d]").len(), 0);
}

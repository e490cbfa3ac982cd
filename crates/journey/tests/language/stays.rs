//! What becomes of messages to who is in hospital, as a file says it.

use crate::GOOD;

/// What waits for the end of a stay can wait, and leaves for somewhere.
#[test]
fn what_becomes_of_messages_to_who_is_in_hospital_can_be() {
    let (message, clinical) = (
        "      channels: [email, portal]\n",
        "      urgency: clinical\n      because: Bleeding.\n",
    );
    let portal = "      channels: [portal]\n";
    for (channels, urgency, said, expected) in [
        (message, "", "hold", &[][..]),
        (message, "", "skip", &[]),
        (message, "", "send", &[]),
        (message, clinical, "send", &[]),
        (message, clinical, "skip", &[]),
        (message, clinical, "hold", &["J094"]),
        (message, "", "ask", &["J004"]),
        (portal, "", "hold", &["J094"]),
    ] {
        let to = format!("{channels}{urgency}      while_admitted: {said}\n");
        let mut source = GOOD.replacen(message, &to, 1);
        if channels == portal {
            let email = "      email:\n        subject: News\n        text: Read it at {link}\n";
            source = source.replacen(email, "", 1);
        }
        let findings = journey::check(&source);
        let codes: Vec<_> = findings.iter().map(|found| found.code.as_str()).collect();
        assert_eq!(codes, expected, "{to}: {findings:#?}");
    }
    // What comes before the message counts of a form and of a visit, too.
    let asked = GOOD.replacen(
        "      remind_after: 24h\n",
        "      remind_after: 24h\n      while_admitted: skip\n",
        1,
    );
    assert_eq!(journey::check(&asked), []);
}

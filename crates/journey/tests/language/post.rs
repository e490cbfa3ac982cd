//! What the checker knows of letters and telephone calls: what each may say, and who may carry it.

use super::{GOOD, partners};
use std::collections::BTreeSet;
use trust::partners::{Carries, DataClass, Partner, Partners};

/// GOOD with a message that goes by these channels, with more members.
fn by(channels: &str, more: &str) -> String {
    let (from, to) = (
        "      channels: [email, portal]\n",
        format!("      channels: [{channels}]\n      expires: 5d\n{more}"),
    );
    assert!(GOOD.contains(from));
    GOOD.replacen(from, &to, 1)
}

fn found(source: &str, partners: &Partners) -> Vec<String> {
    let found = journey::check_with(source, partners, 0).into_iter();
    found
        .map(|one| format!("{} {}", one.code, one.message))
        .collect()
}

fn carrier(carries: &[Carries], data: &[DataClass]) -> Partners {
    let rides = partners().get("rides").cloned().expect("a partner");
    let one = |name: &str, carries: BTreeSet<Carries>, data: BTreeSet<DataClass>| Partner {
        name: name.to_owned(),
        carries,
        data,
        ..rides.clone()
    };
    let classes = data.iter().copied().collect();
    Partners::of([
        one("rides", BTreeSet::new(), [DataClass::Contact].into()),
        one("post", carries.iter().copied().collect(), classes),
    ])
}

/// A letter tells who the patient is, where they live and what it says; a call tells a number.
#[test]
fn who_carries_it_is_cleared_for_what_it_tells() {
    use Carries::{Calls, Letters};
    use DataClass::{Contact, Health, Identity};
    for (channel, carries, data, expected) in [
        (
            "letter",
            &[Letters][..],
            &[Identity, Contact, Health][..],
            "",
        ),
        (
            "letter",
            &[Letters],
            &[Identity, Contact],
            "J088 a message would go by `letter`: post is not cleared for the data class `health`",
        ),
        (
            "letter",
            &[Letters],
            &[Identity, Health],
            "J088 a message would go by `letter`: post is not cleared for the data class `contact`",
        ),
        (
            "letter",
            &[Calls],
            &[Identity, Contact, Health],
            "J088 no partner carries letters",
        ),
        (
            "letter",
            &[],
            &[Identity, Contact, Health],
            "J088 no partner carries letters",
        ),
        ("voice", &[Calls], &[Contact], ""),
        (
            "voice",
            &[Calls],
            &[Identity, Health],
            "J088 a message would go by `voice`: post is not cleared for the data class `contact`",
        ),
        (
            "voice",
            &[Letters],
            &[Contact],
            "J088 no partner carries calls",
        ),
    ] {
        let source = by(&format!("{channel}, portal"), "");
        let all = found(&source, &carrier(carries, data));
        match expected {
            "" => assert_eq!(all, [""; 0], "{channel} {carries:?} {data:?}"),
            expected => {
                let [one] = all.as_slice() else {
                    panic!("{expected}: {all:?}")
                };
                assert!(one.starts_with(expected), "{expected}: {one}");
            }
        }
        // Nobody knows the partners here.
        assert_eq!(journey::check(&source), []);
    }
    let mut ended = carrier(&[Letters], &[Identity, Contact, Health])
        .get("post")
        .cloned()
        .expect("a partner");
    ended.until_ms = 0;
    let all = found(&by("letter, portal", ""), &Partners::of([ended]));
    assert!(
        all.iter().any(|one| one
            .starts_with("J088 a message would go by `letter`: the contract with post ended")),
        "{all:?}"
    );
}

/// What is spoken is heard by whoever answers; what is in an envelope is the patient's.
#[test]
fn words_of_a_call_are_open_and_words_of_a_letter_are_not() {
    for (channels, more, expected) in [
        (
            "voice, portal",
            "      voice: {words: Please call your care team.}\n",
            None,
        ),
        (
            "voice, portal",
            "      voice: {words: Please call your care team., script: '12'}\n",
            None,
        ),
        (
            "voice, portal",
            "      voice: {words: 'Hello {patient.given|there}.'}\n",
            Some("J017"),
        ),
        (
            "voice, portal",
            "      voice: {words: Your chemotherapy begins tomorrow.}\n",
            Some("J017"),
        ),
        (
            "voice, portal",
            "      voice: {words: 'Open {link}.'}\n",
            Some("J089"),
        ),
        (
            "voice, portal",
            "      translations:\n        de: {title: Hallo, words: Hallo., voice: {words: 'Hallo {patient.given|Sie}.'}}\n",
            Some("J017"),
        ),
        // The words of the message name the patient, and are those of the letter.
        ("letter, portal", "", None),
    ] {
        let all = journey::check(&by(channels, more));
        let codes: Vec<&str> = all.iter().map(|one| one.code.as_str()).collect();
        match expected {
            None => assert!(codes.is_empty(), "{more}: {all:?}"),
            Some(code) => assert!(
                all.iter().any(|one| one.code == code && one.error),
                "{more}: {all:?}"
            ),
        }
    }
    // As long as the post takes.
    for (expires, warned) in [("2d", true), ("3d", false)] {
        let source =
            by("letter, portal", "").replacen("expires: 5d", &format!("expires: {expires}"), 1);
        let all = journey::check(&source);
        assert_eq!(
            all.iter().any(|one| one.code == "J089" && !one.error),
            warned,
            "{expires}: {all:?}"
        );
    }
}

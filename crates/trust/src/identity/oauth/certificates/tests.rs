use super::*;

/// Of a laboratory, by an authority of an example: subject `CN=laboratory,O=Example\, Inc.,C=US` and other names,
/// good for all of 2026.
const LABORATORY: &str = include_str!("laboratory.pem");
/// The same in other words: another key, `CN=other`.
const OTHER: &str = include_str!("other.pem");

const NEW_YEAR_2026_MS: u64 = 1_767_225_600_000;
const NEW_YEAR_2027_MS: u64 = 1_798_761_600_000;

fn der(pem: &str) -> Vec<u8> {
    let lines = pem.lines().filter(|line| !line.starts_with('-'));
    let text: String = lines.collect();
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .unwrap()
}

fn read(pem: &str) -> PeerCertificate {
    PeerCertificate::read(&der(pem)).unwrap()
}

#[test]
fn certificates_are_read() {
    let read = read(LABORATORY);
    assert_eq!(
        (read.from_ms, read.ends_ms),
        (NEW_YEAR_2026_MS, NEW_YEAR_2027_MS)
    );
    assert_eq!(read.subject, "CN=laboratory,O=Example\\, Inc.,C=US");
    let names: Vec<_> = [
        "dns:lab.example.org",
        "uri:urn:example:laboratory",
        "ip:192.0.2.7",
        "ip:2001:db8::7",
        "email:lab@example.org",
    ]
    .map(|text| SubjectName::alternative(text).unwrap())
    .into();
    assert_eq!(read.names, names);
    let whole = der(LABORATORY);
    for cut in [0, 1, 100, whole.len() - 1] {
        assert!(PeerCertificate::read(&whole[..cut]).is_none(), "{cut}");
    }
    let long = vec![0x30; CERTIFICATE_BYTES_MAX + 1];
    assert!(PeerCertificate::read(&long).is_none());
}

#[test]
fn names_that_a_system_can_be_known_by() {
    for text in [
        "",
        "laboratory",
        "CN = laboratory, O = Example",
        "/CN=laboratory",
        "dns:lab.example.org",
    ] {
        assert!(SubjectName::subject(text).is_err(), "{text}");
    }
    for text in [
        "",
        "lab.example.org",
        "dns:",
        "dns:*.example.org",
        "dns:lab example",
        "ip:192.0.2",
        "ip:lab",
        "email:lab",
        "other:lab",
        "dn:CN=laboratory",
    ] {
        assert!(SubjectName::alternative(text).is_err(), "{text}");
    }
    let long = format!("dns:{}", "a".repeat(SUBJECT_BYTES_MAX + 1));
    assert!(SubjectName::alternative(&long).is_err());
}

#[test]
fn who_is_known_by_which_certificate() {
    let shown = read(LABORATORY);
    let subject = |text| SubjectName::subject(text).unwrap();
    let other = |text| SubjectName::alternative(text).unwrap();
    let named = [
        (subject("CN=laboratory,O=Example\\, Inc.,C=US"), true),
        (subject("cn=laboratory,o=Example\\, Inc.,c=US"), true),
        // All of it, in this order, and letter by letter.
        (subject("CN=laboratory"), false),
        (subject("C=US,O=Example\\, Inc.,CN=laboratory"), false),
        (subject("CN=Laboratory,O=Example\\, Inc.,C=US"), false),
        (subject("CN=laboratory\\,O=Example\\, Inc.,C=US"), false),
        (other("dns:LAB.example.org"), true),
        (other("dns:example.org"), false),
        (other("dns:lab.example.org.evil.example"), false),
        // A name of one sort is none of another.
        (other("uri:lab.example.org"), false),
        (other("uri:urn:example:laboratory"), true),
        (other("ip:192.0.2.7"), true),
        (other("ip:2001:db8:0::7"), true),
        (other("ip:192.0.2.8"), false),
        (other("email:lab@example.org"), true),
        (other("email:LAB@example.org"), false),
    ];
    let at_ms = NEW_YEAR_2026_MS;
    for (name, is) in named {
        let words = format!("{name:?}");
        let known = Certificates::Named(name);
        assert_eq!(known.prove(&shown, true, at_ms).is_ok(), is, "{words}");
        // Whoever makes certificates themselves can write any name.
        assert!(known.prove(&shown, false, at_ms).is_err(), "{words}");
    }
    let (one, two) = (der(LABORATORY), der(OTHER));
    let pinned = Certificates::pinned([one.as_slice()]).unwrap();
    for is_trusted in [true, false] {
        assert_eq!(pinned.prove(&shown, is_trusted, at_ms), Ok(()));
        let refused = pinned.prove(&read(OTHER), is_trusted, at_ms);
        assert!(refused.unwrap_err().contains("not that of this client"));
    }
    let both = Certificates::pinned([one.as_slice(), &two, &one]).unwrap();
    assert_eq!(both.prove(&read(OTHER), false, at_ms), Ok(()));
    let early = pinned.prove(&shown, true, NEW_YEAR_2026_MS - 1);
    assert!(early.unwrap_err().contains("not valid yet"));
    assert_eq!(pinned.prove(&shown, true, NEW_YEAR_2027_MS - 1), Ok(()));
    let late = pinned.prove(&shown, true, NEW_YEAR_2027_MS);
    assert!(late.unwrap_err().contains("expired"));
    // Nobody registers what is over.
    assert!(pinned.check(NEW_YEAR_2027_MS - 1).is_ok());
    assert!(pinned.check(NEW_YEAR_2027_MS).is_err());
    assert!(Certificates::pinned([]).is_err());
    assert!(Certificates::pinned([&one[..10]]).is_err());
}

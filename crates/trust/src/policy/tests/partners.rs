//! `partners.toml`: what is taken, and what is said of the rest.
use std::collections::BTreeSet;

use super::*;
use crate::partners::{Carries, Contract, DataClass, NotCleared};

const RIDES: &str = "[[partner]]
name = 'rides'
title = 'Rides of the county'
base = 'https://rides.example.org/api/'
contract = 'baa'
until = '2027-12-31'
data = ['identity', 'contact']
purposes = ['TREAT']
token_file = '/run/secrets/rides'
";

fn set(text: &str) -> Result<PolicySet, Vec<PolicyFault>> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in PolicySet::built_in_files() {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    std::fs::write(folder.path().join("partners.toml"), text).unwrap();
    PolicySet::load(Some(folder.path()))
}

#[test]
fn what_a_partner_may_be_told_stands_in_a_file() {
    let set = set(RIDES).map_err(|faults| faults[0].to_string()).unwrap();
    let rides = set.partners().get("rides").unwrap();
    assert_eq!(rides.base, "https://rides.example.org/api");
    assert_eq!(rides.contract, Contract::Baa);
    assert_eq!((rides.timeout_ms, rides.at_once), (30_000, 4));
    assert!(!rides.private_network);
    // The whole of its last day belongs to it.
    let ends_ms = 1_830_297_600_000;
    assert_eq!(rides.until_ms, ends_ms, "2028-01-01T00:00:00Z");
    let who = BTreeSet::from([DataClass::Identity]);
    let treat = Purpose::Treatment;
    assert_eq!(rides.refuses(treat, &who, ends_ms - 1), None);
    assert_eq!(
        rides.refuses(treat, &who, ends_ms),
        Some(NotCleared::Ended("2027-12-31".to_owned()))
    );
    assert_eq!(set.partners().all().count(), 1);
    assert_eq!(policies().set().partners().all().count(), 0);
}

/// One who takes files alone has no address, and is found by what it carries.
#[test]
fn who_carries_letters_or_calls_is_found_by_that() {
    let text = RIDES.replace(
        "base = 'https://rides.example.org/api/'\n",
        "carries = ['letters']\n",
    );
    let set = set(&text).map_err(|faults| faults[0].to_string()).unwrap();
    let carrier = set.partners().carrier(Carries::Letters).unwrap();
    assert_eq!(
        (carrier.name.as_str(), carrier.base.as_str()),
        ("rides", "")
    );
    assert_eq!(set.partners().carrier(Carries::Calls), None);
    let treat = Purpose::Treatment;
    let refused = carrier.refuses(treat, &Carries::Letters.tells(), 0);
    assert_eq!(refused, Some(NotCleared::Data(DataClass::Health)));
    assert_eq!(carrier.refuses(treat, &Carries::Calls.tells(), 0), None);
}

#[test]
fn mistakes_are_told_with_their_line() {
    let with = |from: &str, to: &str| RIDES.replace(from, to);
    for (text, line, expected) in [
        (with("'rides'", "'Rides'"), 2, "lower-case letters"),
        (with("'rides'", "''"), 2, "lower-case letters"),
        (with("'Rides of the county'", "' '"), 3, "say who it is"),
        (
            with("https:", "http:"),
            4,
            "is for an address of this machine",
        ),
        (
            with("rides.example.org/api/", "u:p@rides.example.org"),
            4,
            "without user",
        ),
        (with("/api/", "/api?key=x"), 4, "without user, query"),
        (with("/api/", "/{id}"), 4, "without user, query"),
        (with("/api/", "//x"), 4, "without user, query"),
        (
            with("rides.example.org", "rides.example.org:x"),
            4,
            "has to be like",
        ),
        (
            with("https://rides.example.org", "ftp://127.0.0.1"),
            4,
            "has to be like",
        ),
        (
            with("https://rides.example.org", "http://10.0.0.1"),
            4,
            "is for an address of this machine",
        ),
        (with("'baa'", "'handshake'"), 5, "is no contract"),
        (with("until = '2027-12-31'\n", ""), 5, "needs `until`"),
        (with("2027-12-31", "soon"), 6, "is no day"),
        (with("2027-12-31", "2027-02-30"), 6, "is no day"),
        (
            with("'contact'", "'phi'"),
            7,
            "is no data class; there are identity, contact, health",
        ),
        (with("'TREAT'", "'FUN'"), 8, "is no purpose"),
        (
            with("'/run/secrets/rides'", "'secret.txt'"),
            9,
            "outside this folder",
        ),
        (with("token_file", "token"), 9, "unknown field `token`"),
        (
            format!("{RIDES}timeout_s = 0\n"),
            10,
            "`timeout_s` is 1 to 300",
        ),
        (format!("{RIDES}at_once = 65\n"), 10, "`at_once` is 1 to 64"),
        (format!("{RIDES}{RIDES}"), 11, "stands twice"),
        (
            with("base = 'https://rides.example.org/api/'\n", ""),
            2,
            "needs `base`",
        ),
        (
            format!("{RIDES}carries = ['parcels']\n"),
            10,
            "nothing that a partner carries; there are letters, calls",
        ),
        (
            format!(
                "{RIDES}carries = ['letters']\n{}carries = ['calls', 'letters']\n",
                with("'rides'", "'post'")
            ),
            12,
            "`rides` carries letters already",
        ),
    ] {
        let faults = set(&text).err().expect(expected);
        let [fault] = faults.as_slice() else {
            panic!("{expected}: {faults:?}")
        };
        assert_eq!(fault.file, "partners.toml");
        assert!(fault.words.contains(expected), "{fault}");
        assert_eq!(fault.line, Some(line), "{fault}");
    }
    for here in [
        "http://127.0.0.1:8080",
        "http://[::1]:1/x",
        "https://[2001:db8::1]",
    ] {
        let text = with("https://rides.example.org/api/", here);
        assert!(set(&text).is_ok(), "{here}");
    }
    let none = with("'baa'", "'none'").replace("until = '2027-12-31'\n", "");
    assert!(set(&none).is_ok(), "nobody is told anything then");
}

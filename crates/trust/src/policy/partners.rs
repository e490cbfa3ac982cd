//! The partners that journeys call: `partners.toml` beside the policies.
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::Deserialize;
use toml::Spanned;

use super::files::{PARTNERS, PolicyFault, PolicyTexts};
use crate::partners::{Carries, Contract, DataClass, Partner, Partners};
use crate::{Purpose, Purposes};

/// The most partners of a tenant.
const PARTNERS_MAX: usize = 200;
/// The most characters of a name: journeys have it, and audit records.
const NAME_MAX: usize = 64;
/// The most characters of a title and of an address.
const TEXT_MAX: usize = 200;
/// How long one attempt may take where the file doesn't say, and the most that it may say, seconds.
const TIMEOUT_S: u64 = 30;
const TIMEOUT_MAX_S: u64 = 300;
/// Calls at once where the file doesn't say, and the most that it may say.
const AT_ONCE: usize = 4;
const AT_ONCE_MAX: usize = 64;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    partner: Vec<PartnerText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PartnerText {
    name: Spanned<String>,
    title: Spanned<String>,
    base: Option<Spanned<String>>,
    #[serde(default)]
    carries: Vec<Spanned<String>>,
    contract: Spanned<String>,
    until: Option<Spanned<String>>,
    #[serde(default)]
    data: Vec<Spanned<String>>,
    #[serde(default)]
    purposes: Vec<Spanned<String>>,
    token_file: Option<Spanned<PathBuf>>,
    signing_key_file: Option<Spanned<PathBuf>>,
    timeout_s: Option<Spanned<u64>>,
    at_once: Option<Spanned<usize>>,
    #[serde(default)]
    private_network: bool,
}

/// Reads the partners of a set; none where there is no file.
pub(super) fn read(files: &PolicyTexts, purposes: &Purposes) -> Result<Partners, Vec<PolicyFault>> {
    let text = files.text(PARTNERS);
    let fault = |start: Option<usize>, words: String| PolicyFault::at(PARTNERS, text, start, words);
    let file: File = toml::from_str(text).map_err(|error| {
        let start = error.span().map(|span| span.start);
        // A secret that somebody has written into the file must not come into a log, so the line isn't shown.
        vec![fault(start, error.message().to_owned())]
    })?;
    if file.partner.len() > PARTNERS_MAX {
        let words = format!("has more than {PARTNERS_MAX} partners");
        return Err(vec![fault(None, words)]);
    }
    let (mut partners, mut faults): (Vec<Partner>, Vec<PolicyFault>) = (Vec::new(), Vec::new());
    for one in &file.partner {
        let mut wrong = |start: usize, words: String| faults.push(fault(Some(start), words));
        let partner = partner(one, purposes, &mut wrong);
        if partners.iter().any(|other| other.name == partner.name) {
            let words = format!("the name `{}` stands twice", partner.name);
            wrong(one.name.span().start, words);
        }
        for what in &partner.carries {
            if let Some(other) = partners.iter().find(|other| other.carries.contains(what)) {
                let words = format!("`{}` carries {} already", other.name, what.name());
                wrong(one.name.span().start, words);
            }
        }
        partners.push(partner);
    }
    if faults.is_empty() {
        Ok(Partners::of(partners))
    } else {
        Err(faults)
    }
}

/// What one entry says; what is wrong with it is told by place.
fn partner(
    one: &PartnerText,
    purposes: &Purposes,
    wrong: &mut impl FnMut(usize, String),
) -> Partner {
    if let Err(words) = check_name(one.name.get_ref()) {
        wrong(one.name.span().start, words);
    }
    if let Err(words) = check_title(one.title.get_ref()) {
        wrong(one.title.span().start, words);
    }
    let mut carries = BTreeSet::new();
    for what in &one.carries {
        match Carries::parse(what.get_ref()) {
            Some(known) => {
                carries.insert(known);
            }
            None => {
                let known = Carries::ALL.map(|(_, name)| name).join(", ");
                let words = format!(
                    "`{}` is nothing that a partner carries; there are {known}",
                    what.get_ref().escape_debug()
                );
                wrong(what.span().start, words);
            }
        }
    }
    let base = match &one.base {
        // Who takes files alone is called nowhere.
        None if !carries.is_empty() => String::new(),
        None => {
            let words = "a partner needs `base`, the address at which it is called, or `carries`";
            wrong(one.name.span().start, words.to_owned());
            String::new()
        }
        Some(text) => match base(text.get_ref()) {
            Ok(base) => base,
            Err(words) => {
                wrong(text.span().start, words);
                String::new()
            }
        },
    };
    let contract = Contract::parse(one.contract.get_ref()).unwrap_or_else(|| {
        let words = format!(
            "`{}` is no contract; it is `baa` (business associate agreement), `dua` (data use agreement) or `none`",
            one.contract.get_ref().escape_debug()
        );
        wrong(one.contract.span().start, words);
        Contract::None
    });
    let mut until_ms = 0;
    match (&one.until, contract) {
        (Some(until), _) => match ends(until.get_ref()) {
            Some(ends_ms) => until_ms = ends_ms,
            None => wrong(
                until.span().start,
                format!(
                    "`{}` is no day like 2027-12-31",
                    until.get_ref().escape_debug()
                ),
            ),
        },
        (None, Contract::None) => {}
        (None, _) => wrong(
            one.contract.span().start,
            "a contract needs `until`, its last day".to_owned(),
        ),
    }
    let mut data = BTreeSet::new();
    for class in &one.data {
        match DataClass::parse(class.get_ref()) {
            Some(known) => {
                data.insert(known);
            }
            None => {
                let known = DataClass::ALL.map(|(class, _)| class.name()).join(", ");
                let words = format!(
                    "`{}` is no data class; there are {known}",
                    class.get_ref().escape_debug()
                );
                wrong(class.span().start, words);
            }
        }
    }
    let mut whatfor: Vec<Purpose> = Vec::new();
    for purpose in &one.purposes {
        match purposes.parse(purpose.get_ref()) {
            Some(known) => whatfor.push(known),
            None => {
                let words = format!(
                    "`{}` is no purpose; there are {}",
                    purpose.get_ref().escape_debug(),
                    purposes.codes()
                );
                wrong(purpose.span().start, words);
            }
        }
    }
    let mut secret = |file: &Option<Spanned<PathBuf>>| {
        let file = file.as_ref()?;
        if !file.get_ref().is_absolute() {
            let words =
                "a secret lies in a file outside this folder, named by its whole path".to_owned();
            wrong(file.span().start, words);
        }
        Some(file.get_ref().clone())
    };
    let token_file = secret(&one.token_file);
    let signing_key_file = secret(&one.signing_key_file);
    let timeout_s = one.timeout_s.as_ref().map_or(TIMEOUT_S, |given| {
        if !(1..=TIMEOUT_MAX_S).contains(given.get_ref()) {
            let words = format!("`timeout_s` is 1 to {TIMEOUT_MAX_S} seconds");
            wrong(given.span().start, words);
        }
        *given.get_ref()
    });
    let at_once = one.at_once.as_ref().map_or(AT_ONCE, |given| {
        if !(1..=AT_ONCE_MAX).contains(given.get_ref()) {
            let words = format!("`at_once` is 1 to {AT_ONCE_MAX} calls");
            wrong(given.span().start, words);
        }
        *given.get_ref()
    });
    Partner {
        name: one.name.get_ref().clone(),
        title: one.title.get_ref().clone(),
        base,
        carries,
        contract,
        until: (one.until.as_ref()).map_or_else(String::new, |until| until.get_ref().clone()),
        until_ms,
        data,
        purposes: whatfor,
        token_file,
        signing_key_file,
        timeout_ms: timeout_s.saturating_mul(1_000),
        at_once,
        private_network: one.private_network,
    }
}

fn check_name(name: &str) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let begins = name.starts_with(|c: char| c.is_ascii_lowercase());
    if begins && name.chars().all(fits) && name.len() <= NAME_MAX {
        return Ok(());
    }
    Err(format!(
        "the name `{}` has to be of lower-case letters, digits and hyphens, begin with a letter, and have {NAME_MAX} at most",
        name.escape_debug()
    ))
}

fn check_title(title: &str) -> Result<(), String> {
    let fits = !title.trim().is_empty()
        && title.trim() == title
        && title.chars().count() <= TEXT_MAX
        && !title.chars().any(char::is_control);
    if fits {
        return Ok(());
    }
    Err(format!(
        "`title` has to say who it is, in one line of {TEXT_MAX} characters at most"
    ))
}

/// The end of a day in UTC.
fn ends(day: &str) -> Option<u64> {
    let day: Date = day.parse().ok().filter(|_| day.len() == 10)?;
    let next = day
        .tomorrow()
        .ok()?
        .at(0, 0, 0, 0)
        .to_zoned_datetime(TimeZone::UTC)
        .ok()?;
    u64::try_from(next.timestamp().as_millisecond()).ok()
}

/// An address over TLS, or of this machine, as paths begin at it.
fn base(text: &str) -> Result<String, String> {
    let refused = || {
        format!(
            "the address `{}` has to be like https://partner.example.org/api, without user, query and spaces; http:// is for an address of this machine (http://127.0.0.1:8080)",
            text.escape_debug()
        )
    };
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"?#\\@%\"<>{}|^`".contains(&byte);
    let base = text.strip_suffix('/').unwrap_or(text);
    if text.len() > TEXT_MAX || !base.bytes().all(plain) || base.contains("/../") {
        return Err(refused());
    }
    let (scheme, rest) = base.split_once("://").ok_or_else(refused)?;
    let authority = rest.split('/').next().unwrap_or_default();
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or_else(refused)?;
            (host, port.strip_prefix(':').unwrap_or(port))
        }
        None => authority.split_once(':').unwrap_or((authority, "")),
    };
    let here = host.parse::<IpAddr>().is_ok_and(|host| host.is_loopback());
    let named = !host.is_empty()
        && (host.parse::<IpAddr>().is_ok()
            || host
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.'));
    let ported = port.is_empty() || port.parse::<u16>().is_ok();
    let safe = scheme == "https" || (scheme == "http" && here);
    if named && ported && safe && !authority.ends_with(':') && !rest.contains("//") {
        return Ok(base.to_owned());
    }
    Err(refused())
}

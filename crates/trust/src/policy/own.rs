//! Purposes of use that an organisation has of its own: `purposes.toml` beside the policies, and what policies say
//! of them.
use std::fmt::Display;

use cedar_policy::Policy;
use serde::Deserialize;
use serde_json::Value;
use toml::Spanned;

use super::files::{OWN_PURPOSES, PolicyFault, PolicyTexts};
use crate::purposes::OwnPurpose;
use crate::{Purpose, Purposes};

/// The most own purposes of a tenant: people choose from all of them.
const OWN_MAX: usize = 100;
/// The most characters of a code: it stands in headers, addresses and lists.
const CODE_MAX: usize = 64;
/// The most characters of a code system and of words.
const TEXT_MAX: usize = 200;
/// HL7's code system by its number.
const SYSTEM_BY_NUMBER: &str = "urn:oid:2.16.840.1.113883.5.8";

/// The codes of HL7 v3 `PurposeOfUse` besides those that requests can have: consents name them, so they mean what
/// HL7 says.
const OF_HL7: [&str; 52] = [
    "BIORCH",
    "BTG",
    "CLINTRCH",
    "CLINTRCHNPC",
    "CLINTRCHPC",
    "CLINTRL",
    "CLMATTCH",
    "COC",
    "COVAUTH",
    "COVERAGE",
    "DISASTER",
    "DONAT",
    "DSRCH",
    "ELIGDTRM",
    "ELIGVER",
    "ENROLLM",
    "ERTREAT",
    "FAMRQT",
    "FRAUD",
    "GOV",
    "HACCRED",
    "HCOMPL",
    "HDECD",
    "HDIRECT",
    "HDM",
    "HLEGAL",
    "HMARKT",
    "HOUTCOMS",
    "HPRGRP",
    "HQUALIMP",
    "HTEST",
    "LABELING",
    "MEMADMIN",
    "METAMGT",
    "MILCDM",
    "MILDCRG",
    "PATADMIN",
    "PATSFTY",
    "PERFMSR",
    "POARCH",
    "POPHLTH",
    "PRECLINTRCH",
    "PUBHLTH",
    "PWATRNY",
    "RECORDMGT",
    "REMITADV",
    "SUPNWK",
    "SYSADMIN",
    "SYSDEV",
    "THREAT",
    "TRAIN",
    "TRANSRCH",
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    purpose: Vec<PurposeText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PurposeText {
    system: Spanned<String>,
    code: Spanned<String>,
    display: Spanned<String>,
    is: Spanned<String>,
}

/// Reads the own purposes of a set; none where there is no file.
pub(super) fn read(files: &PolicyTexts) -> Result<Purposes, Vec<PolicyFault>> {
    let text = files.text(OWN_PURPOSES);
    let fault =
        |start: Option<usize>, words: String| PolicyFault::at(OWN_PURPOSES, text, start, words);
    let file: File = toml::from_str(text).map_err(|error| {
        let start = error.span().map(|span| span.start);
        vec![fault(start, error.message().to_owned())]
    })?;
    if file.purpose.len() > OWN_MAX {
        let words = format!("has more than {OWN_MAX} purposes");
        return Err(vec![fault(None, words)]);
    }
    let (mut own, mut faults): (Vec<Purpose>, Vec<PolicyFault>) = (Vec::new(), Vec::new());
    for one in &file.purpose {
        let mut wrong = |of: &Spanned<String>, words: String| {
            faults.push(fault(Some(of.span().start), words));
        };
        let same = |other: &&Purpose| other.code().eq_ignore_ascii_case(one.code.get_ref());
        let (system, code, display) = (&one.system, &one.code, &one.display);
        let parent = Purpose::parse(one.is.get_ref());
        match (check_code(code.get_ref()), own.iter().find(same)) {
            (Err(words), _) => wrong(code, words),
            (Ok(()), Some(other)) => wrong(
                code,
                format!(
                    "the code `{}` is taken by `{}`; codes have to differ by more than small and capital letters",
                    code.get_ref(),
                    other.code()
                ),
            ),
            (Ok(()), None) => match (
                check_system(system.get_ref()),
                check_display(display.get_ref()),
                parent.filter(|parent| Purposes::PARENTS.contains(parent)),
            ) {
                (Err(words), ..) => wrong(system, words),
                (_, Err(words), _) => wrong(display, words),
                (.., None) => wrong(&one.is, no_parent(one.is.get_ref(), parent)),
                (Ok(()), Ok(()), Some(parent)) => {
                    match OwnPurpose::of(
                        system.get_ref(),
                        code.get_ref(),
                        display.get_ref(),
                        parent,
                    ) {
                        Ok(made) => own.push(Purpose::Own(made)),
                        Err(words) => wrong(code, words),
                    }
                }
            },
        }
    }
    if faults.is_empty() {
        Ok(Purposes::with(own))
    } else {
        Err(faults)
    }
}

fn no_parent(name: &str, known: Option<Purpose>) -> String {
    let codes = Purposes::PARENTS.map(Purpose::code).join(", ");
    match known {
        None => format!("`{name}` is no purpose that one can be a kind of; there are {codes}"),
        Some(_) => format!(
            "{name} has no kinds: emergencies, patients' own requests and administration are bound to people; there are {codes}"
        ),
    }
}

fn check_code(code: &str) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    let begins = code.starts_with(|c: char| c.is_ascii_alphanumeric());
    if !begins || !code.chars().all(fits) || code.len() > CODE_MAX {
        return Err(format!(
            "the code `{}` has to be of letters, digits, - . and _, begin with a letter or digit, and have {CODE_MAX} at most",
            code.escape_debug()
        ));
    }
    let mut of_hl7 = Purpose::ALL.into_iter().map(Purpose::code).chain(OF_HL7);
    match of_hl7.find(|known| known.eq_ignore_ascii_case(code)) {
        Some(known) => Err(format!(
            "`{code}` is HL7's `{known}`; give your own another code"
        )),
        None => Ok(()),
    }
}

fn check_system(system: &str) -> Result<(), String> {
    if [Purpose::SYSTEM, SYSTEM_BY_NUMBER].contains(&system) {
        return Err(format!(
            "`{system}` is HL7's code system, which has no purposes of one's own"
        ));
    }
    let scheme = system.split_once(':').map_or("", |(scheme, _)| scheme);
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && (scheme.bytes()).all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"|,\"\\<>".contains(&byte);
    if is_scheme && system.bytes().all(plain) && system.len() <= TEXT_MAX {
        return Ok(());
    }
    Err(format!(
        "the system `{}` has to be an address with a scheme (`https://…`, `urn:…`) without spaces, commas and |, of {TEXT_MAX} characters at most",
        system.escape_debug()
    ))
}

fn check_display(display: &str) -> Result<(), String> {
    let fits = !display.trim().is_empty()
        && display.trim() == display
        && display.chars().count() <= TEXT_MAX
        && !display.chars().any(char::is_control);
    if fits {
        return Ok(());
    }
    Err(format!(
        "`display` has to say in plain words what it is, in one line of {TEXT_MAX} characters at most"
    ))
}

/// What is wrong with the purposes that a policy compares with: one that there is not would never hold, and so a
/// policy that forbids would not.
pub(super) fn faults(policy: &Policy, purposes: &Purposes) -> Vec<String> {
    faults_of(policy.to_json(), purposes)
}

/// The same of Cedar's JSON; what can't be looked through may compare with anything.
pub(super) fn faults_of(json: Result<Value, impl Display>, purposes: &Purposes) -> Vec<String> {
    let json = match json {
        Ok(json) => json,
        Err(error) => {
            return vec![format!(
                "can't be looked through for the purposes that it compares with: {error}"
            )];
        }
    };
    let is_own = |code: &str| purposes.own().any(|own| own.code() == code);
    let (own, standard) = (Uses::of("own_purpose", &json), Uses::of("purpose", &json));
    let unknown = own.compared.iter();
    let unknown = unknown.filter(|code| !code.is_empty() && !is_own(code));
    let mut wrong: Vec<String> = unknown
        .map(|code| {
            format!(
                "`{code}` is no purpose in {OWN_PURPOSES}, so `context.own_purpose` is never that"
            )
        })
        .collect();
    if own.is_used_otherwise {
        wrong.push(
            "`context.own_purpose` is compared with codes that are written out, by `==`, `!=` or `[\"…\"].contains(…)`; any other use is refused, as it might never hold"
                .to_owned(),
        );
    }
    let standard = standard.compared.iter().filter(|code| is_own(code));
    wrong.extend(standard.map(|code| {
        format!(
            "`{code}` is an own purpose, so `context.purpose` is never that; compare `context.own_purpose` with it"
        )
    }));
    wrong
}

/// How a policy uses a member of the context.
struct Uses {
    member: &'static str,
    /// The texts that it is compared with.
    compared: Vec<String>,
    /// Whether it is used in any other way.
    is_used_otherwise: bool,
}

impl Uses {
    fn of(member: &'static str, json: &Value) -> Self {
        let mut uses = Self {
            member,
            compared: Vec::new(),
            is_used_otherwise: false,
        };
        uses.look(json);
        uses
    }

    fn look(&mut self, json: &Value) {
        match json {
            Value::Object(parts) => {
                for (name, part) in parts {
                    if self.compares(name, part) {
                        continue;
                    }
                    // Of whatever it is taken, or put into a record to compare the context as a whole with.
                    let is_named = [".", "has"].contains(&name.as_str())
                        && part["attr"] == self.member
                        || name == self.member && part.is_object();
                    self.is_used_otherwise |= is_named;
                    self.look(part);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.look(item)),
            _ => {}
        }
    }

    fn is_member(&self, side: &Value) -> bool {
        let access = &side["."];
        access["left"]["Var"] == "context" && access["attr"] == self.member
    }

    /// Whether it is compared here, and with written texts alone. Those that there are, are noted anyway.
    fn compares(&mut self, operator: &str, part: &Value) -> bool {
        let (left, right) = (&part["left"], &part["right"]);
        let among = |side: &Value| {
            let items = side["Set"].as_array();
            items.is_some_and(|items| items.iter().any(|item| self.is_member(item)))
        };
        let (other, is_plain) = match operator {
            "==" | "!=" if self.is_member(left) => (right, true),
            "==" | "!=" | "contains" if self.is_member(right) => (left, true),
            "containsAny" | "containsAll" if among(left) => (right, false),
            "containsAny" | "containsAll" if among(right) => (left, false),
            _ => return false,
        };
        let are_all_texts = match other["Set"].as_array() {
            Some(items) => {
                let noted = items.iter().filter(|item| self.note(item)).count();
                noted == items.len()
            }
            None => self.note(other),
        };
        is_plain && are_all_texts
    }

    fn note(&mut self, literal: &Value) -> bool {
        let text = literal["Value"].as_str().map(str::to_owned);
        let is_text = text.is_some();
        self.compared.extend(text);
        is_text
    }
}

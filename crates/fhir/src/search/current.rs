//! Lists by name (R4, "Current Resource Lists" on its page about life cycles): `_list=$current-problems`
//! asks for what stands in a patient's current list of problems.
//!
//! Here that is each `List` of the patient whose `status` is `current`, whose `mode` is `working` and whose
//! `code` is one of those that R4 names for it. Where there is none, nobody has said what is current, and
//! an empty answer would say that there is nothing; so that is told instead.
use super::query::bad;
use super::{Clause, Compartment, Link, Named, Operand, ParameterKind, SearchQuery};
use crate::{IssueCode, OperationOutcome, Reference, Resource, ResourceType};
use serde_json::Value;

const LOINC: &str = "http://loinc.org";
/// R4's example codes of what a list is for.
const USES: &str = "http://terminology.hl7.org/CodeSystem/list-example-use-codes";

/// A list by name.
#[derive(Debug, PartialEq, Eq)]
pub struct Current {
    /// Its name.
    pub name: &'static str,
    /// System and code of those that it can have.
    codes: &'static [(&'static str, &'static str)],
}

/// Those that R4 names, except `$current-drug-allergies`, which no code tells from all allergies.
static LISTS: [Current; 3] = [
    Current {
        name: "$current-problems",
        codes: &[(LOINC, "46105-3"), (LOINC, "11450-4"), (USES, "problems")],
    },
    Current {
        name: "$current-medications",
        codes: &[
            (LOINC, "57828-6"),
            (LOINC, "10160-0"),
            (USES, "medications"),
        ],
    },
    Current {
        name: "$current-allergies",
        codes: &[
            (LOINC, "18716-1"),
            (LOINC, "52472-8"),
            (LOINC, "48765-2"),
            (USES, "allergies"),
        ],
    },
];

/// Whether a list is asked for by name.
pub(super) fn is_by_name(value: &str) -> bool {
    value.contains('$')
}

impl SearchQuery {
    /// What is in a list of a name.
    pub(super) fn current(
        &self,
        value: &str,
        compartment: Option<&Compartment>,
    ) -> Result<Link, OperationOutcome> {
        let Some(list) = LISTS.iter().find(|list| list.name == value) else {
            let names: Vec<&str> = LISTS.iter().map(|list| list.name).collect();
            let more = if value == "$current-drug-allergies" {
                "; no code of a List tells allergies to drugs from others, so ask for $current-allergies and category=medication"
            } else {
                ""
            };
            let words = format!(
                "is the id of a List, or one of the names {}{more}",
                names.join(", ")
            );
            return Err(bad(IssueCode::NotSupported, "_list", words));
        };
        let Some(patient) = self.one_patient(compartment) else {
            let words = format!(
                "{value} is the list of one patient, who has to be named: `patient=ID`, or the patient's compartment"
            );
            return Err(bad(IssueCode::Required, "_list", words));
        };
        let clause = |parameter: &str, kind, operands| Clause {
            parameter: parameter.to_owned(),
            own: None,
            kind,
            modifier: None,
            operands,
        };
        let token = |system: Option<&str>, code: &str| Operand::Token {
            system: system.map(str::to_owned),
            code: Some(code.to_owned()),
        };
        let codes = list.codes.iter();
        let codes = codes.map(|(system, code)| token(Some(system), code));
        let subject = Operand::Reference {
            kind: Some(ResourceType::Patient),
            id: patient.to_owned(),
            url: None,
        };
        let mut query = Self::empty(ResourceType::List);
        query.clauses = vec![
            clause("subject", ParameterKind::Reference, vec![subject]),
            clause("code", ParameterKind::Token, codes.collect()),
            clause("status", ParameterKind::Token, vec![token(None, "current")]),
        ];
        Ok(Link {
            reverse: true,
            parameter: Named::Standard("item"),
            queries: vec![query],
            named: true,
            current: Some(list),
        })
    }

    /// The patient whose resources alone are asked for.
    fn one_patient<'a>(&'a self, compartment: Option<&'a Compartment>) -> Option<&'a str> {
        let of_compartment = compartment.filter(|one| one.kind == ResourceType::Patient);
        let of_clause = |clause: &'a Clause| {
            let is_patient = matches!(clause.parameter.as_str(), "patient" | "subject")
                && clause.own.is_none()
                && clause.modifier.is_none();
            match clause.operands.as_slice() {
                [
                    Operand::Reference {
                        kind: Some(ResourceType::Patient),
                        id,
                        url: None,
                    },
                ] if is_patient => Some(id.as_str()),
                _ => None,
            }
        };
        let named = || self.clauses.iter().find_map(of_clause);
        of_compartment.map(|one| one.id.as_str()).or_else(named)
    }
}

impl Current {
    /// Whether a list is kept up to date, rather than a picture of one moment or what has changed since.
    #[must_use]
    pub fn is_kept(list: &Resource) -> bool {
        list.get("mode").and_then(Value::as_str) == Some("working")
    }

    /// Calls `sink` with what stands in a list.
    pub(super) fn items<'a>(list: &'a Resource, sink: &mut dyn FnMut(ResourceType, &'a str)) {
        let entries = list.get("entry").and_then(Value::as_array);
        for entry in entries.into_iter().flatten() {
            let reference = entry.get("item").and_then(|item| item.get("reference"));
            let literal = reference
                .and_then(Value::as_str)
                .and_then(Reference::relative);
            let is_deleted = entry.get("deleted").and_then(Value::as_bool) == Some(true);
            if let (Some((kind, id)), false) = (literal, is_deleted) {
                sink(kind, id);
            }
        }
    }

    /// What is said where there is no such list.
    #[must_use]
    pub fn none(&self) -> OperationOutcome {
        let words = format!(
            "{}: the patient has no such List here that is current, is kept up to date (`mode` working) and may be seen, so what is current isn't known",
            self.name
        );
        bad(IssueCode::NotFound, "_list", words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(kind: ResourceType, asked: &[(&str, &str)]) -> Result<SearchQuery, OperationOutcome> {
        let asked: Vec<(String, String)> = asked
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        SearchQuery::parse(kind, &asked, false)
    }

    #[test]
    fn a_name_is_a_list_of_one_patient() {
        let kind = ResourceType::Condition;
        let asked = [("_list", "$current-problems"), ("patient", "p")];
        let query = parse(kind, &asked).unwrap();
        let [link] = query.links.as_slice() else {
            panic!("{query:?}");
        };
        let list = |code: &str, status: &str, subject: &str| {
            let list = json!({"resourceType": "List", "id": "l", "status": status, "mode": "working",
                "code": {"coding": [{"system": LOINC, "code": code}]},
                "subject": {"reference": format!("Patient/{subject}")},
                "entry": [{"item": {"reference": "Condition/a"}}, {"item": {"reference": "Condition/b"}, "deleted": true},
                    {"item": {"reference": "Observation/c"}}]});
            Resource::from_value(list).unwrap()
        };
        for (code, status, subject, found) in [
            ("46105-3", "current", "p", true),
            ("46105-3", "retired", "p", false),
            ("46105-3", "current", "q", false),
            ("10160-0", "current", "p", false),
        ] {
            let list = list(code, status, subject);
            assert_eq!(link.queries[0].matches(&list), found, "{code} {status}");
        }
        let problems = list("46105-3", "current", "p");
        let mut items = Vec::new();
        link.ends(kind, &problems, &mut |id| items.push(id));
        assert_eq!(items, ["a"]);
        assert!(Current::is_kept(&problems));
        for mode in ["snapshot", "changes"] {
            let mut value = problems.as_value().clone();
            value["mode"] = json!(mode);
            assert!(!Current::is_kept(&Resource::from_value(value).unwrap()));
        }
    }

    #[test]
    fn what_is_no_name_and_no_patient_is_said() {
        for (asked, words) in [
            (vec![("_list", "$current-problems")], "has to be named"),
            (
                vec![("_list", "$current-problems"), ("patient", "p,q")],
                "has to be named",
            ),
            (
                vec![("_list", "$current-drug-allergies"), ("patient", "p")],
                "category=medication",
            ),
            (
                vec![("_list", "$current-x"), ("patient", "p")],
                "one of the names $current-problems",
            ),
            (
                vec![("_list", "l,$current-problems"), ("patient", "p")],
                "one of the names",
            ),
        ] {
            let refused = parse(ResourceType::Condition, &asked).unwrap_err();
            assert!(refused.to_string().contains(words), "{asked:?}: {refused}");
        }
    }
}

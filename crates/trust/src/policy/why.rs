//! Why a policy set says yes or no, in words.
use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;
use std::sync::Arc;

use cedar_policy::Entities;
use fhir::ResourceType;

use super::around::{Around, Looks};
use super::cases::{self, Case, ElementsCase, Expected};
use super::elements::{ElementRule, ElementRules, ElementWords, Exemption};
use super::files::{BUILT_IN, PolicyFault, PolicyTexts};
use super::set::{PolicyFiles, PolicyWords};
use super::{Asker, Classes};
use crate::{Action, Purpose, Purposes, Role};

/// What policies are asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The role that asks.
    pub role: Role,
    /// For the role `system`: which part of Cairn.
    pub part: Option<String>,
    /// What for.
    pub purpose: Purpose,
    /// To do what.
    pub action: Action,
    /// With which resource type, for the actions that are done to one; none for the others.
    pub kind: Option<ResourceType>,
    /// Whether a patient asks for nothing outside their own record.
    pub own: bool,
    /// What is around the request.
    pub around: Around,
}

impl Question {
    pub(super) fn asker(&self) -> Asker {
        Asker {
            role: self.role,
            part: self.part.clone(),
            purpose: self.purpose,
            own: self.own,
            around: Some(self.around.clone()),
        }
    }
}

/// What policies say to a question, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Why {
    /// Whether it is permitted.
    pub permitted: bool,
    /// The answer as a sentence.
    pub answer: String,
    /// The policies that decided: those that permit it, or those that forbid it. None where no policy
    /// permits it.
    pub policies: Vec<PolicyWords>,
    /// The purposes for which the same is permitted to the same asker.
    pub purposes: Vec<Purpose>,
    /// The roles to which the same is permitted for the same purpose. Patients are meant with their own
    /// record.
    pub roles: Vec<Role>,
    /// The elements that are not shown, of those who may look.
    pub elements: Option<ElementsWhy>,
    /// Why none has to be hidden.
    pub exempt: Option<Exemption>,
}

/// Which elements are not shown, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ElementsWhy {
    /// The rule.
    pub rule: ElementWords,
    /// By their names; narrative, contained resources and extensions are among them.
    pub hidden: Vec<String>,
    /// Data types, and elements of them, that are not shown wherever they lie.
    pub data_types: Vec<String>,
}

/// Entities with each asker among them.
pub(super) type Entitled = HashMap<Asker, Option<Entities>>;

/// A policy set that is valid: its policies, what they decide, and its own tests.
pub struct PolicySet {
    pub(super) files: PolicyFiles,
    pub(super) classes: Arc<Classes>,
    pub(super) elements: ElementRules,
    cases: Vec<Case>,
    elements_cases: Vec<ElementsCase>,
    hash: String,
    pub(super) names: Vec<String>,
}

/// What a policy set's own tests came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tested {
    /// How many cases there are.
    pub cases: usize,
    /// How many questions they ask, all in all.
    pub questions: usize,
    /// Cases that came out otherwise than expected; one for each case.
    pub failures: Vec<PolicyFault>,
}

impl PolicySet {
    /// Reads and validates a folder's set, or the one that is built in. Its tests are read and not run.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(folder: Option<&std::path::Path>) -> Result<Self, Vec<PolicyFault>> {
        Self::of(&PolicyTexts::load(folder)?)
    }

    pub(super) fn of(texts: &PolicyTexts) -> Result<Self, Vec<PolicyFault>> {
        let files = PolicyFiles::parse(texts)?;
        let classes = Arc::new(files.classes());
        let knows = |id: &str| files.known(id).is_some();
        let elements = ElementRules::read(texts, &classes, files.purposes())?;
        let (cases, elements_cases) = cases::read(texts, knows, &classes, files.purposes())?;
        Ok(Self {
            classes,
            elements,
            cases,
            elements_cases,
            hash: texts.hash(),
            names: texts.names().map(str::to_owned).collect(),
            files,
        })
    }

    /// The files of the set that is built in, by their names: to begin one's own from.
    pub fn built_in_files() -> impl Iterator<Item = (&'static str, &'static str)> {
        BUILT_IN.into_iter()
    }

    /// What its policies look at around a request.
    pub(crate) fn looks(&self) -> Looks {
        self.files.looks()
    }

    /// What for somebody can ask: HL7's purposes, and those that it has of its own.
    #[must_use]
    pub fn purposes(&self) -> &Purposes {
        self.files.purposes()
    }

    /// Whom journeys may call.
    #[must_use]
    pub fn partners(&self) -> &crate::partners::Partners {
        self.files.partners()
    }

    /// The hash of its files.
    #[must_use]
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Its policies, by their ids.
    pub fn policies(&self) -> impl Iterator<Item = &PolicyWords> {
        self.files.all_known()
    }

    #[cfg(test)]
    pub(super) fn cases(&self) -> impl Iterator<Item = &Case> {
        self.cases.iter()
    }

    /// Runs its own tests.
    #[must_use]
    pub fn test(&self) -> Tested {
        let mut known = Entitled::new();
        let cases = self.cases.iter();
        let mut failures: Vec<PolicyFault> = cases
            .filter_map(|case| self.failure(case, &mut known))
            .collect();
        let of_elements = self.elements_cases.iter();
        failures.extend(of_elements.filter_map(|case| self.elements_failure(case)));
        let asked = |case: &ElementsCase| case.askers.len() * (case.shows.len() + case.hides.len());
        let of_elements: usize = self.elements_cases.iter().map(asked).sum();
        let of_policies: usize = self.cases.iter().map(|case| case.questions.len()).sum();
        Tested {
            failures,
            cases: self.cases.len() + self.elements_cases.len(),
            questions: of_policies + of_elements,
        }
    }

    fn elements_failure(&self, case: &ElementsCase) -> Option<PolicyFault> {
        let wrong = |(role, purpose, kind): &(Role, Purpose, ResourceType)| {
            let rule = self.elements.of(*role, *purpose);
            let rule = rule.and_then(|elements| elements.of(*kind));
            let shown = |path: &str| rule.is_none_or(|rule| rule.redaction.shows(path));
            let hidden = (case.shows.iter()).find(|path| !shown(path));
            let seen = (case.hides.iter()).find(|path| shown(path));
            let (path, words) = match (hidden, seen) {
                (Some(path), _) => (path, "is not shown"),
                (None, Some(path)) => (path, "is shown"),
                (None, None) => return None,
            };
            let by = rule.map_or_else(String::new, |rule| format!(" (rule {})", rule.words.id));
            let (role, purpose) = (role.name(), purpose.code());
            Some(format!(
                "{kind}.{path} {words} to the role {role} for {purpose}{by}"
            ))
        };
        let words = case.askers.iter().find_map(wrong)?;
        Some(PolicyFault {
            file: case.file.clone(),
            line: Some(case.line),
            column: None,
            words: format!("{}: {words}", case.name),
        })
    }

    fn failure(&self, case: &Case, known: &mut Entitled) -> Option<PolicyFault> {
        let fault = |words: String| PolicyFault {
            file: case.file.clone(),
            line: Some(case.line),
            column: None,
            words: format!("{}: {words}", case.name),
        };
        let wanted = match case.expect {
            Expected::Permit => "permit",
            Expected::Deny => "deny",
        };
        for question in &case.questions {
            let (permitted, policies) = self.ask(question, known);
            let answer = self.answer(question, permitted, &policies);
            if permitted != (case.expect == Expected::Permit) {
                return Some(fault(format!("expects {wanted}, but {answer}")));
            }
            let Some(by) = &case.by else { continue };
            let decided: BTreeSet<&str> = policies.iter().map(|one| one.id.as_str()).collect();
            let expected: BTreeSet<&str> = by.iter().map(String::as_str).collect();
            if decided != expected {
                let expected: Vec<&str> = expected.into_iter().collect();
                let expected = expected.join(", ");
                return Some(fault(format!("expects it by {expected}, but {answer}")));
            }
        }
        None
    }

    /// What it says to a question, and why.
    #[must_use]
    pub fn why(&self, question: &Question) -> Why {
        let mut known = Entitled::new();
        let (permitted, policies) = self.ask(question, &mut known);
        let mut holds = |other: Question| self.ask(&other, &mut known).0;
        let of_purpose = |purpose| Question {
            purpose,
            ..question.clone()
        };
        let of_role = |role| Question {
            role,
            part: None,
            own: role.has_one_record(),
            ..question.clone()
        };
        let mut purposes: Vec<Purpose> = self.purposes().all().collect();
        purposes.retain(|purpose| holds(of_purpose(*purpose)));
        let mut roles = Role::ALL.to_vec();
        roles.retain(|role| *role != Role::System && holds(of_role(*role)));
        let mut words = self.answer(question, permitted, &policies);
        let rule = self.rule(question);
        if let (false, false, Some(rule)) = (permitted, policies.is_empty(), &rule)
            && !policies[0].forbids
        {
            let _ = write!(
                words,
                ", but what is seen in part is not changed (rule {})",
                rule.words.id
            );
        }
        let elements = rule.filter(|_| permitted).map(|rule| ElementsWhy {
            rule: (*rule.words).clone(),
            hidden: rule.redaction.hidden(),
            data_types: (rule.redaction.hidden_types().map(str::to_owned))
                .chain(rule.redaction.hidden_parts())
                .collect(),
        });
        let of_rows = question.kind.is_some() && permitted;
        let exemption = self.elements.exemption(question.role, question.purpose);
        Why {
            permitted,
            answer: words,
            policies,
            purposes,
            roles,
            elements,
            exempt: exemption.filter(|_| of_rows).cloned(),
        }
    }

    /// Whether it says yes to a question.
    #[must_use]
    pub fn allows(&self, question: &Question) -> bool {
        self.ask(question, &mut Entitled::new()).0
    }

    /// What is around a request, in words and as far as some policy looks at it; none where no policy does.
    #[must_use]
    pub fn looked_at(&self, around: &Around) -> Option<String> {
        let looks = self.looks();
        looks.any().then(|| around.words(looks))
    }

    /// The answer as a sentence, with what was around where a policy looks at it.
    fn answer(&self, question: &Question, permitted: bool, policies: &[PolicyWords]) -> String {
        let mut words = answer(question, permitted, policies);
        if let Some(around) = self.looked_at(&question.around) {
            let _ = write!(words, " (asked {around})");
        }
        words
    }

    /// The rule that hides elements of what is asked about.
    pub(super) fn rule(&self, question: &Question) -> Option<&Arc<ElementRule>> {
        let elements = self.elements.of(question.role, question.purpose)?;
        elements.of(question.kind?)
    }

    /// As [`super::Policies::judge`] decides, but for the scopes of a token and whose record it is.
    pub(super) fn ask(
        &self,
        question: &Question,
        known: &mut Entitled,
    ) -> (bool, Vec<PolicyWords>) {
        let asker = question.asker();
        let entities = known
            .entry(asker.clone())
            .or_insert_with(|| self.files.with(&asker));
        let Some(entities) = entities else {
            return (false, Vec::new());
        };
        let (action, kind) = (question.action, question.kind);
        let by = self.files.permits(entities, &asker, action, kind);
        // Whoever reads the audit must be allowed to audit, except patients their own.
        let audits = || {
            let audit = (self.files).permits(entities, &asker, Action::Audit, None);
            asker.role == Role::Patient || audit.is_some()
        };
        let by = by.filter(|_| kind != Some(ResourceType::AuditEvent) || audits());
        // What is seen in part is not changed.
        let changes = kind.is_some_and(|kind| super::needs_the_whole(action, kind));
        let permitted = by.is_some() && !(changes && self.rule(question).is_some());
        let ids = by.unwrap_or_else(|| self.files.forbidding(entities, &asker, action, kind));
        let known = ids.iter().filter_map(|id| self.files.known(id).cloned());
        (permitted, known.collect())
    }
}

fn answer(question: &Question, permitted: bool, policies: &[PolicyWords]) -> String {
    let who = match &question.part {
        Some(part) => format!("the part {part}"),
        None => format!("the role {}", question.role.name()),
    };
    let what = question
        .kind
        .map_or_else(String::new, |kind| format!(" {kind}"));
    let whose = match (question.role, question.own) {
        (Role::Patient, true) => " of their own record",
        (Role::Proxy, true) => " of the record of whom they act for",
        (Role::Patient | Role::Proxy, false) => " of another's record",
        _ => "",
    };
    let asked = format!(
        "{who} {} {}{what}{whose} for {}",
        if permitted { "may" } else { "may not" },
        question.action.name(),
        question.purpose.code()
    );
    let of_audit = question.kind == Some(ResourceType::AuditEvent);
    let reason = match (permitted, policies.is_empty()) {
        (_, false) => {
            let ids: Vec<&str> = policies.iter().map(|policy| policy.id.as_str()).collect();
            let verb = if policies[0].forbids {
                "forbidden"
            } else {
                "permitted"
            };
            format!("{verb} by {}", ids.join(", "))
        }
        (false, true) if of_audit => {
            "no policy permits it, or none permits the role to audit".to_owned()
        }
        (_, true) => "no policy permits it".to_owned(),
    };
    format!("{asked}: {reason}")
}

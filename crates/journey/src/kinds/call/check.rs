//! What is wrong with a call, as far as its file says. Whether its partner may be told is asked beside the partners
//! ([`crate::check::partners`]).

use super::values::{Named, plainly};
use super::{Call, KIND, rules};
use crate::check::{Check, paths_in};
use crate::definition::Step;
use crate::yaml::{Node, Place};
use fhir::path::Wanted;
use fhir::suggestion;
use trust::conventions::CALL_STATUS;

impl Call {
    pub(super) fn check_all(&self, check: &mut Check<'_, '_>, step: &Step) {
        for (way, label, words) in [
            (
                &self.failed,
                "failed",
                "the partner refuses it, can't be reached or may not be told",
            ),
            (&self.timed_out, "timed_out", "there is no answer in time"),
        ] {
            if way.is_none() {
                let words = format!(
                    "`{}` has no `{label}`: say what happens when {words} (a task for staff, or `end`)",
                    step.id
                );
                check.findings.error("J013", step.place, words);
            }
        }
        if let Some(body) = check.node(step, &[KIND.name]) {
            let back = body.get("compensate").and_then(|back| back.get("values"));
            let mut faults = rules::addressed(body);
            faults.extend(rules::sent(body, body.get("values")));
            faults.extend(rules::sent(body, back));
            for (code, place, words) in faults {
                check.findings.error(code, place, words);
            }
        }
        self.times(check, step);
        for (name, ..) in &self.learns {
            if name == CALL_STATUS {
                let place = check.at(step, &[KIND.name, "learns", name]);
                check.findings.error("J024", place, rules::STATUS);
            }
        }
        for value in &self.values {
            let at = [KIND.name, "values", value.name.as_str()];
            Self::named(check, value);
            self.not_its_own(check, step, value, &at);
        }
        for value in self.compensate.iter().flat_map(|back| &back.values) {
            let at = [KIND.name, "compensate", "values", value.name.as_str()];
            Self::named(check, value);
            self.its_own_alone(check, step, value, &at);
        }
        self.earlier(check, step);
    }

    fn times(&self, check: &mut Check<'_, '_>, step: &Step) {
        if self.timeout_ms > self.up_to_ms {
            let place = check.at(step, &[KIND.name, "up_to"]);
            let words = "one attempt may take longer than the answer is waited for; give `up_to` more, or `timeout_s` less";
            check.findings.error("J062", place, words);
        }
    }

    /// Whether what a value names is learnt.
    fn named(check: &mut Check<'_, '_>, value: &Named) {
        let Some(path) = value.learnt() else { return };
        if !check.learnt(path, Wanted::Anything) && paths_in(&path.text).is_empty() {
            let words = format!(
                "`{}` names nothing that the journey learns; fixed words are `is`",
                value.name
            );
            check.findings.error("J016", path.place, words);
        }
    }

    /// Its answer isn't there when it is made.
    fn not_its_own(&self, check: &mut Check<'_, '_>, step: &Step, value: &Named, at: &[&str]) {
        let Some(path) = value.learnt() else { return };
        let own = paths_in(&path.text)
            .iter()
            .any(|names| names.first() == Some(&step.id));
        let or = check.node(step, at).and_then(|node| node.get("or"));
        if own && or.is_none() {
            let words = format!(
                "`{}` is learnt from this call's own answer, so the call would never be made; name another step, or give `or` for the first time round",
                value.name
            );
            check.findings.error("J062", path.place, words);
        }
    }

    /// Consents aren't asked again for what takes a call back, so it tells the partner nothing new.
    fn its_own_alone(&self, check: &mut Check<'_, '_>, step: &Step, value: &Named, at: &[&str]) {
        let place = check.at(step, at);
        let words = match value.learnt() {
            None if value.is_of_patient() => {
                "what takes a call back tells nothing of the patient: consents may say no by then"
            }
            None => return,
            Some(path) => {
                let its_own = |paths: Vec<(&str, &str)>| paths.iter().all(|(of, _)| *of == step.id);
                if plainly(&path.text).is_some_and(its_own) {
                    return;
                }
                "what takes a call back names fixed words and what this call has learnt itself, plainly (`step.member`): the partner has those already"
            }
        };
        check.findings.error("J062", place, words);
    }

    /// The calls that are taken back when it fails.
    fn earlier(&self, check: &mut Check<'_, '_>, step: &Step) {
        let items: Vec<(String, Place)> = check
            .node(step, &[KIND.name, "takes_back"])
            .map(Node::items)
            .unwrap_or_default()
            .iter()
            .filter_map(|item| Some((item.text()?.to_owned(), item.place)))
            .collect();
        for (nth, (name, place)) in items.iter().enumerate() {
            let definition = check.definition;
            let (code, words) = match definition.step(name) {
                None => {
                    let steps = definition.steps.iter().map(|step| step.id.as_str());
                    let near = suggestion(name, steps);
                    ("J006", format!("there is no step `{name}`{near}"))
                }
                Some(_) if *name == step.id => (
                    "J062",
                    "a call that fails was not made, or is taken back by itself".to_owned(),
                ),
                Some(other) if !other.kind.can_be_taken_back() => (
                    "J062",
                    format!("`{name}` is no call with `compensate`, so it can't be taken back"),
                ),
                Some(_) if items[..nth].iter().any(|(earlier, _)| earlier == name) => {
                    ("J024", format!("`{name}` stands twice"))
                }
                Some(_) => continue,
            };
            check.findings.error(code, *place, words);
        }
    }
}

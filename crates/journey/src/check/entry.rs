//! Whether a journey can begin by a date, and again, as its entry says.

use super::Check;
use crate::dates::Past;
use crate::definition::Again;
use crate::yaml::Place;
use fhir::{ResourceType, nearest};

impl Check<'_, '_> {
    pub(super) fn dated_entry(&mut self, entry: Place) {
        let definition = self.definition;
        let rule = &definition.entry;
        let root = self.root;
        let place = |path: &[&str]| {
            let found = path
                .iter()
                .try_fold(root.get("entry"), |node, name| Some(node?.get(name)));
            found.flatten().map_or(entry, |node| node.place)
        };
        let Some(date) = &rule.date else {
            if rule.each_date {
                let words = "`per: date` is about a `date`, and this journey begins by none";
                self.findings.error("J070", place(&["per"]), words);
            }
            return;
        };
        let begins = place(&["date", "begins"]);
        let known: Vec<&str> = rule.anchors.iter().map(|(name, _)| name.as_str()).collect();
        let anchor = date.begins.anchor.as_str();
        if !known.contains(&anchor) {
            let near = nearest(anchor, known.iter().copied())
                .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
            let words = format!(
                "there is no anchor `{anchor}`{near} (known: {})",
                known.join(", ")
            );
            self.findings.error("J025", begins, words);
        }
        if date.yearly && !rule.each_date {
            let words =
                "a date that comes each year begins the journey each year: give `per: date`";
            self.findings.error("J070", place(&["per"]), words);
        }
        let goes_late = matches!(date.past, Past::Escalate(_));
        let is_there = |name: &str| {
            let dated = root.get("entry").and_then(|entry| entry.get("date"));
            dated.is_some_and(|dated| dated.get(name).is_some())
        };
        let past_due = place(&["date", "past_due"]);
        if goes_late && !is_there("late") {
            let words =
                "`past_due: escalate` needs `late`: the task for staff at which it begins then";
            self.findings.error("J070", past_due, words);
        }
        if !goes_late && is_there("late") {
            let words = "`late` is begun at with `past_due: escalate` alone";
            self.findings.error("J070", place(&["date", "late"]), words);
        }
        if let Some(late) = rule.late()
            && is_there("late")
            && !late
                .steps
                .iter()
                .any(|step| definition.steps[*step].kind.is_work())
        {
            let words = "this escalates to nobody: let `late` be a task for staff";
            self.findings.error("J070", place(&["date", "late"]), words);
        }
        if date.past == Past::Skip && rule.within_ms.is_some() {
            let words = "`within` says how long past a date may be to begin the journey all the same, and with `past_due: skip` none does";
            self.findings.error("J070", place(&["within"]), words);
        }
        if date.past != Past::Skip && rule.within_ms.is_none() {
            let words = "say in `within` how long past a date may be: patients who are in the record already would begin the journey by dates of any age";
            if date.yearly {
                self.findings.error("J070", past_due, words);
            } else {
                self.findings.warning("J036", entry, words);
            }
        }
        self.births(anchor);
    }

    /// Moments reach back to 1970, and people are older than that.
    fn births(&mut self, anchor: &str) {
        if self.definition.entry.kind() != Some(ResourceType::Patient) {
            return;
        }
        for step in &self.definition.steps {
            for (moment, place) in step.kind.moments(self, step) {
                if moment.anchor == anchor {
                    let words = format!(
                        "`{anchor}` is a date of the patient's life, which may lie before 1970, where no moment reaches: hang this on `start`"
                    );
                    self.findings.error("J070", place, words);
                }
            }
        }
    }

    pub(super) fn taken_again(&mut self) {
        let rule = &self.definition.entry;
        let node = self.root.get("entry").and_then(|node| node.get("again"));
        let Some(node) = node else {
            return;
        };
        let member = |name: &str| node.get(name).map_or(node.place, |found| found.place);
        let Again {
            after_ms, at_most, ..
        } = rule.again;
        if after_ms.is_none() && at_most.is_none() {
            let words = "`again` says nothing: give `after`, `at_most`, or both";
            self.findings.error("J071", node.place, words);
        }
        if rule.once {
            let words = "a patient takes this journey once (`per: patient`), so never again: remove `again`, or give another `per`";
            self.findings.error("J071", node.place, words);
        }
        if node.get("since").is_some() && after_ms.is_none() {
            let words = "`since` says from when `after` is counted, and there is no `after`";
            self.findings.error("J071", member("since"), words);
        }
    }
}

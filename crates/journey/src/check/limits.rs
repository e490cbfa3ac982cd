//! Limits of messages, and what overrides them.

use super::Check;
use crate::definition::{Message, Step};
use crate::room::Urgency;
use crate::yaml::Place;
use trust::outgoing::WhileAdmitted;

impl Check<'_, '_> {
    /// What overrides quiet hours and limits has to say why, so that somebody has thought of it.
    pub(super) fn urgency(&mut self, step: &Step, path: &[&str], message: &Message) {
        let clinical = message.urgency == Urgency::Clinical;
        if clinical && message.because.is_none() {
            let place = self.at(step, &[path, &["urgency"]].concat());
            let words = format!(
                "`{}` goes out at night and beyond every limit: say why in `because`",
                step.id
            );
            self.findings.error("J051", place, words);
        }
        if !clinical && message.because.is_some() {
            let place = self.at(step, &[path, &["because"]].concat());
            let words = "`because` says why a message can't wait; this one can: give `urgency: clinical` or remove it";
            self.findings.error("J051", place, words);
        }
    }

    /// What waits for the end of a stay can wait, and what lies in the portal waits for nothing.
    pub(super) fn while_admitted(&mut self, step: &Step, path: &[&str], message: &Message) {
        let Some(said) = message.while_admitted else {
            return;
        };
        let place = self.at(step, &[path, &["while_admitted"]].concat());
        if message.urgency == Urgency::Clinical && said == WhileAdmitted::Hold {
            let words = "what is `clinical` goes out at once, so it can't wait for the end of a stay: `send` it, or `skip` it where the ward knows";
            self.findings.error("J094", place, words);
        }
        let mut channels = message.channels.iter();
        if !channels.any(|channel| crate::room::reaches_out(*channel)) {
            let words = "the message goes nowhere but to the portal, where it is for who is in hospital, too; remove `while_admitted`";
            self.findings.warning("J094", place, words);
        }
    }

    /// The journey's own limits.
    pub(super) fn limits(&mut self) {
        let limits = &self.definition.limits;
        let place = |path: &[&str]| {
            let found = path.iter().try_fold(self.root, |node, name| node.get(name));
            found.map_or(Place { line: 1, column: 1 }, |node| node.place)
        };
        if limits.quiet.is_some_and(|quiet| quiet.from == quiet.until) {
            let words = "quiet hours begin when they end; it is never quiet, or always";
            let at = place(&["messages", "quiet"]);
            self.findings.error("J051", at, words);
        }
        if let (Some(day), Some(week)) = (limits.per_day, limits.per_week)
            && week < day
        {
            let words = format!(
                "`per_week` ({week}) is less than `per_day` ({day}), which limits nothing then"
            );
            let at = place(&["messages", "per_week"]);
            self.findings.error("J051", at, words);
        }
    }
}

//! How the actions of a plan relate, and the way through their steps that comes of it.
//!
//! What comes after one other action follows it. What comes after several stands behind a part of the journey in which
//! these are: it has ended when all of them have.

use super::texts::{condition, title, wait};
use super::{Action, After, Importing, Leg, NOTHING, is_choice};

/// A relation that was found: whose it is, what it says, and where it stands.
struct Found {
    of: usize,
    after: After,
    place: String,
}

impl Importing<'_> {
    /// Reads how actions relate.
    pub(super) fn relate(&mut self) {
        let mut accepted: Vec<Vec<Found>> = Vec::new();
        accepted.resize_with(self.actions.len(), Vec::new);
        for one in self.relations() {
            let apart = self.actions[one.of].parent != self.actions[one.after.of].parent;
            if apart {
                self.leave(
                    &one.place,
                    "leads into or out of a group; the order within groups is kept, this is not",
                );
            } else if comes_after(&accepted, one.after.of, one.of) {
                self.leave(&one.place, "goes in a circle");
            } else {
                accepted[one.of].push(one);
            }
        }
        // What has to be joined comes after what is joined for it.
        let mut waiting: Vec<usize> = Vec::new();
        for of in 0..accepted.len() {
            self.lighten(&mut accepted, of);
            match accepted[of].as_slice() {
                [] => {}
                [one] => self.actions[of].after = Some(one.after.clone()),
                _ => waiting.push(of),
            }
        }
        while !waiting.is_empty() {
            let ready = waiting.iter().position(|of| {
                let others = waiting.iter().filter(|other| *other != of);
                others
                    .into_iter()
                    .all(|other| !comes_after(&accepted, *of, *other))
            });
            // Without circles one of them always is.
            let of = waiting.remove(ready.unwrap_or(0));
            let parent = self.actions[of].parent;
            if parent.is_some_and(|parent| is_choice(self.actions[parent].value)) {
                let mut relations = accepted[of].iter();
                self.actions[of].after = relations.next().map(|one| one.after.clone());
                for one in relations {
                    self.leave(&one.place, "is one of several within a choice; a step there waits for the first that is named");
                }
            } else {
                self.join(of, &accepted[of]);
            }
        }
    }

    fn relations(&mut self) -> Vec<Found> {
        let mut found = Vec::new();
        for of in 0..self.actions.len() {
            let (value, place) = (self.actions[of].value, self.actions[of].place.clone());
            let related = value["relatedAction"].as_array();
            for (number, one) in related.into_iter().flatten().enumerate() {
                let place = format!("{place}.relatedAction[{number}]");
                let id = one["actionId"].as_str();
                let other = self
                    .actions
                    .iter()
                    .position(|other| other.value["id"].as_str() == id && id.is_some());
                let Some(other) = other.filter(|other| *other != of) else {
                    self.leave(&place, "names no other action of this plan");
                    continue;
                };
                let offset = one.get("offsetDuration").or_else(|| {
                    let range = one.get("offsetRange")?;
                    range.get("low").or_else(|| range.get("high"))
                });
                if one.get("offsetRange").is_some() {
                    self.leave(&place, "is a range; its beginning is waited for, and how late it may be is not watched");
                }
                let wait = offset.and_then(wait);
                if offset.is_some() && wait.is_none() {
                    self.leave(&place, "has an offset that no duration of a journey is (minutes to weeks, months as 30 days)");
                }
                let how = one["relationship"].as_str().unwrap_or_default();
                let after = |of: usize, end: bool| After { of, end, wait };
                // What comes before another is what that one waits for.
                let (of, after) = match how {
                    "after" | "after-end" | "concurrent-with-end" => (of, after(other, true)),
                    "after-start" | "concurrent" | "concurrent-with-start" => {
                        (of, after(other, false))
                    }
                    "before" | "before-start" => (other, after(of, true)),
                    _ => {
                        self.leave(&place, format!("`{how}` has no counterpart: nobody knows beforehand when a step will end"));
                        continue;
                    }
                };
                found.push(Found { of, after, place });
            }
        }
        found
    }

    /// Leaves out relations that others bring about: what comes after something that comes after it.
    fn lighten(&self, accepted: &mut [Vec<Found>], of: usize) {
        let is_implied = |place: usize| {
            let one = &accepted[of][place].after;
            let others = accepted[of].iter().enumerate();
            one.wait.is_none()
                && others
                    .filter(|(other, _)| *other != place)
                    .any(|(other, found)| {
                        let same = found.after.of == one.of
                            && (found.after.end, found.after.wait.is_some()) >= (one.end, false);
                        let first = (other < place)
                            || found.after.end != one.end
                            || found.after.wait.is_some();
                        (same && first) || ends_after(accepted, found.after.of, one.of)
                    })
        };
        let kept: Vec<bool> = (0..accepted[of].len())
            .map(|place| !is_implied(place))
            .collect();
        let mut kept = kept.into_iter();
        accepted[of].retain(|_| kept.next().unwrap_or(true));
    }

    /// Puts what an action comes after into a part of the journey, and the action behind it.
    fn join(&mut self, of: usize, relations: &[Found]) {
        let parent = self.actions[of].parent;
        let place = self.actions[of].place.clone();
        let own = self.actions.len();
        let id = self.free(format!("before_{}", self.actions[of].id));
        self.actions.push(Action {
            value: &NOTHING,
            place: place.clone(),
            id,
            parent,
            parts: Vec::new(),
            after: None,
            rounds: None,
            joins: true,
        });
        let mut members = Vec::new();
        for (number, one) in relations.iter().enumerate() {
            // Somebody else may have joined it already, and then that has to end.
            let mut other = one.after.of;
            while self.actions[other].parent != parent {
                match self.actions[other].parent {
                    Some(around) => other = around,
                    None => break,
                }
            }
            if other != one.after.of {
                self.leave(&one.place, "is waited for together with what else has to be over by then, as actions in the draft are joined once");
            }
            if !one.after.end {
                self.leave(&one.place, "is one of several; the step waits for the end of that action as well, not for its beginning alone");
            }
            if let Some(wait) = &one.after.wait {
                let id = self.free(format!("{}_after_{}", self.actions[of].id, number + 1));
                self.legs.push(Leg {
                    of: other,
                    end: one.after.end,
                    id,
                    wait: wait.clone(),
                    words: title(self.actions[of].value, &self.actions[of].id),
                });
            }
            members.push(other);
        }
        // With what leads there, and with what begins by it, which a part can't let go.
        let mut asked: Vec<usize> = members.clone();
        while let Some(one) = asked.pop() {
            if let Some(before) = self.actions[one].after.as_ref().map(|after| after.of)
                && !members.contains(&before)
            {
                members.push(before);
                asked.push(before);
            }
        }
        loop {
            let more = (0..own).find(|one| {
                let action = &self.actions[*one];
                let follows = action
                    .after
                    .as_ref()
                    .is_some_and(|after| members.contains(&after.of));
                follows && *one != of && action.parent == parent && !members.contains(one)
            });
            let Some(more) = more else { break };
            members.push(more);
            let words = format!(
                "`{}` waits for the end of this too: what it comes after is left as a whole",
                self.actions[of].id
            );
            let place = self.actions[more].place.clone();
            self.leave(&place, words);
        }
        members.sort_unstable();
        members.dedup();
        for member in &members {
            self.actions[*member].parent = Some(own);
        }
        if let Some(parent) = parent {
            let parts = &mut self.actions[parent].parts;
            parts.retain(|part| !members.contains(part));
            parts.push(own);
        }
        self.actions[own].parts = members;
        self.actions[of].after = Some(After {
            of: own,
            end: true,
            wait: None,
        });
    }

    /// The actions of a group, or of the plan, that wait for none of the others.
    pub(super) fn first(&self, parent: Option<usize>) -> Vec<usize> {
        let all = 0..self.actions.len();
        all.filter(|of| self.actions[*of].parent == parent && self.actions[*of].after.is_none())
            .collect()
    }

    /// What waits for an action: for its end, or for its beginning.
    fn waiting(&self, of: usize, end: bool) -> Vec<usize> {
        let waits = |after: &After| after.of == of && after.end == end;
        let all = 0..self.actions.len();
        all.filter(|other| self.actions[*other].after.as_ref().is_some_and(waits))
            .collect()
    }

    fn legs_of(&self, of: usize, end: bool) -> impl Iterator<Item = String> {
        let legs = self.legs.iter();
        legs.filter(move |leg| leg.of == of && leg.end == end)
            .map(|leg| leg.id.clone())
    }

    /// Where to go for actions, side by side. An action that has to wait is entered by its wait, one with a condition
    /// by that; what waits for the beginning of an action stands behind both.
    pub(super) fn targets(&self, of: &[usize]) -> Vec<String> {
        of.iter().flat_map(|one| self.entries(*one)).collect()
    }

    fn entries(&self, of: usize) -> Vec<String> {
        let action = &self.actions[of];
        let waits = action
            .after
            .as_ref()
            .is_some_and(|after| after.wait.is_some());
        if waits {
            vec![format!("{}_wait", action.id)]
        } else {
            self.decided(of)
        }
    }

    /// Where to go when the wait for an action is over.
    pub(super) fn decided(&self, of: usize) -> Vec<String> {
        if condition(self.actions[of].value).0.is_some() {
            vec![format!("{}_if", self.actions[of].id)]
        } else {
            self.begun(of)
        }
    }

    /// Where to go when an action begins: to its rounds or itself, and to what waits for its beginning.
    pub(super) fn begun(&self, of: usize) -> Vec<String> {
        let own = &self.actions[of].id;
        let mut targets = vec![if self.actions[of].rounds.is_some() {
            format!("{own}_rounds")
        } else {
            own.clone()
        }];
        targets.extend(self.legs_of(of, false));
        targets.extend(self.targets(&self.waiting(of, false)));
        targets
    }

    /// Whether something begins because an action does.
    pub(super) fn is_followed(&self, of: usize) -> bool {
        !self.waiting(of, false).is_empty() || self.legs_of(of, false).next().is_some()
    }

    /// Where to go after an action: to what waits for its end; in a choice to what comes after that.
    pub(super) fn next(&self, of: usize) -> String {
        let waiting = self.waiting(of, true);
        let mut targets: Vec<String> = self.legs_of(of, true).collect();
        match self.actions[of].parent {
            Some(parent)
                if waiting.is_empty()
                    && targets.is_empty()
                    && is_choice(self.actions[parent].value) =>
            {
                self.after_deed(parent)
            }
            _ => {
                targets.splice(0..0, self.targets(&waiting));
                target(&targets)
            }
        }
    }

    /// Where to go when what an action asks for is done: in a round, to the end of that.
    pub(super) fn after_deed(&self, of: usize) -> String {
        if self.actions[of].rounds.is_some() {
            "end".to_owned()
        } else {
            self.next(of)
        }
    }
}

/// Steps to go to, as the language writes them.
pub(super) fn target(steps: &[String]) -> String {
    match steps {
        [] => "end".to_owned(),
        [one] => one.clone(),
        _ => format!("[{}]", steps.join(", ")),
    }
}

/// Whether an action comes after another, by what was accepted.
fn comes_after(accepted: &[Vec<Found>], of: usize, first: usize) -> bool {
    reaches(accepted, of, first, false)
}

/// Whether an action begins only when another has ended.
fn ends_after(accepted: &[Vec<Found>], of: usize, first: usize) -> bool {
    of != first && reaches(accepted, of, first, true)
}

fn reaches(accepted: &[Vec<Found>], of: usize, first: usize, by_ends: bool) -> bool {
    let mut seen = vec![false; accepted.len()];
    let mut ahead = vec![of];
    while let Some(one) = ahead.pop() {
        if one == first {
            return true;
        }
        if std::mem::replace(&mut seen[one], true) {
            continue;
        }
        let before = accepted[one]
            .iter()
            .filter(|found| !by_ends || found.after.end);
        ahead.extend(before.map(|found| found.after.of));
    }
    false
}

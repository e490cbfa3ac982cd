//! The steps that an action becomes: a wait, a look at the patient, rounds, and what is done.

use super::relate::target;
use super::texts::{condition, plain, quoted, role, title, wait};
use super::{Importing, is_choice};
use serde_json::Value;
use std::fmt::Write as _;
use trust::conventions::STEP_SYSTEM;

impl<'a> Importing<'a> {
    fn put(&mut self, id: &str, text: String) {
        self.order.push(id.to_owned());
        self.steps.insert(id.to_owned(), text);
    }

    pub(super) fn step(&mut self, of: usize) {
        let (value, place) = (self.actions[of].value, self.actions[of].place.clone());
        let id = self.actions[of].id.clone();
        let title = if self.actions[of].joins {
            "What has to be over before".to_owned()
        } else {
            title(value, &id)
        };
        let next = self.next(of);
        if let Some(wait) = self.actions[of]
            .after
            .as_ref()
            .and_then(|after| after.wait.clone())
        {
            let then = target(&self.decided(of));
            self.put(
                &format!("{id}_wait"),
                format!(
                    "  {id}_wait:\n    title: {}\n    wait: {{for: {wait}}}\n    next: {then}\n",
                    quoted(&format!("Until {title}"))
                ),
            );
        }
        let (expression, unasked) = condition(value);
        for words in unasked {
            self.leave(&format!("{place}.condition"), words);
        }
        if let Some(expression) = expression {
            if self.is_followed(of) {
                self.leave(
                    &format!("{place}.condition"),
                    "decides as well on what begins with this action: where it isn't done, that isn't begun",
                );
            }
            let then = target(&self.begun(of));
            let text = format!(
                "  {id}_if:\n    title: {}\n    check:\n      has: Patient\n      where: {}\n    yes: {then}\n    no: {next}\n",
                quoted(&format!("{title}?")),
                quoted(&expression)
            );
            self.put(&format!("{id}_if"), text);
        }
        if let Some(rounds) = self.actions[of].rounds.clone() {
            let text = format!(
                "  {id}_rounds:\n    title: {}\n    repeat:\n      body: [{id}, {id}_gap]\n      times: {}\n      pause: 1m\n    next: {next}\n",
                quoted(&format!("{title}, {} times", rounds.times)),
                rounds.times
            );
            self.put(&format!("{id}_rounds"), text);
            let text = format!(
                "  {id}_gap:\n    title: {}\n    wait: {{for: {}}}\n    next: end\n",
                quoted(&format!("Until the next round of {title}")),
                rounds.gap()
            );
            self.put(&format!("{id}_gap"), text);
        }
        let next = self.after_deed(of);
        if self.actions[of].parts.is_empty() {
            self.deed(of, &title, &next);
        } else {
            self.group(of, &title, &next);
        }
    }

    /// The waits at which what comes after several others is still to wait after one of them.
    pub(super) fn waits_of_legs(&mut self) {
        for leg in std::mem::take(&mut self.legs) {
            let text = format!(
                "  {}:\n    title: {}\n    wait: {{for: {}}}\n    next: end\n",
                leg.id,
                quoted(&format!("Until {}", leg.words)),
                leg.wait
            );
            self.put(&leg.id, text);
        }
    }

    /// A group: a part of the journey that has ended when all within it has.
    fn group(&mut self, of: usize, title: &str, next: &str) {
        let (value, place) = (self.actions[of].value, self.actions[of].place.clone());
        let id = self.actions[of].id.clone();
        let first = self.first(Some(of));
        if value.get("definitionCanonical").is_some() {
            self.leave(
                &format!("{place}.definitionCanonical"),
                "stands at a group, whose actions count",
            );
        }
        let behaviour = value["selectionBehavior"].as_str().unwrap_or("all");
        if is_choice(value) {
            let mut text = format!(
                "  {id}:\n    title: {}\n    task:\n      title: {}\n      reason: One of several is to be chosen.\n      role: clinician\n      due: 1d\n      outcomes:\n",
                quoted(title),
                quoted(&format!("Choose: {title}"))
            );
            for one in &first {
                let target = target(&self.targets(&[*one]));
                let _ = writeln!(text, "        {}: {target}", self.actions[*one].id);
            }
            let _ = write!(
                text,
                "    next: {next}\n    overdue: {{role: clinician, priority: urgent}}\n"
            );
            self.put(&id, text);
            return;
        }
        if matches!(behaviour, "any" | "one-or-more" | "all-or-none") {
            self.leave(
                &format!("{place}.selectionBehavior"),
                format!("`{behaviour}` is a choice of people; all of them are begun"),
            );
        }
        // Branches are one step each here; several of a target are branches of their own.
        let branches: Vec<String> = first.iter().flat_map(|one| self.targets(&[*one])).collect();
        let text = format!(
            "  {id}:\n    title: {}\n    parallel:\n      branches: [{}]\n    next: {next}\n",
            quoted(title),
            branches.join(", ")
        );
        self.put(&id, text);
    }

    /// What is done: a pause, a message, a form, or work for staff.
    fn deed(&mut self, of: usize, title: &str, next: &str) {
        let (value, place) = (self.actions[of].value, self.actions[of].place.clone());
        let id = self.actions[of].id.clone();
        let definition = self.defined(of);
        let not_done = definition.is_some_and(|one| one["doNotPerform"] == true);
        let not_to_do = format!("Not to be done: {title}");
        let title = if not_done { not_to_do.as_str() } else { title };
        if not_done {
            self.leave(
                &format!("{place}.definitionCanonical.doNotPerform"),
                "is not to be done; staff are told so by the step's title",
            );
        }
        let kind = definition.map_or("", |one| match one["resourceType"].as_str() {
            Some("ActivityDefinition") => one["kind"].as_str().unwrap_or("Task"),
            Some(other) => other,
            None => "",
        });
        let words = [&value["description"], &value["textEquivalent"]]
            .into_iter()
            .chain(definition.map(|one| &one["description"]))
            .find_map(Value::as_str)
            .unwrap_or(title)
            .to_owned();
        let words = if not_done { title.to_owned() } else { words };
        let lasts = value
            .get("timingDuration")
            .or_else(|| definition?.get("timingDuration"))
            .and_then(wait);
        let step_kind = step_kind(value);
        if let Some(lasts) = lasts.as_ref().filter(|_| step_kind == Some("wait")) {
            let text = format!(
                "  {id}:\n    title: {}\n    wait: {{for: {lasts}}}\n    next: {next}\n",
                quoted(title)
            );
            self.put(&id, text);
            return;
        }
        if kind == "CommunicationRequest" && !not_done {
            let text = format!(
                "  {id}:\n    title: {}\n    send:\n      title: {}\n      words: {}\n      channels: [portal]\n    next: {next}\n    on_failure: {next}\n",
                quoted(title),
                quoted(title),
                quoted(&plain(&words))
            );
            self.leave(
                &place,
                "goes to the portal alone; say which channels, and what happens when none takes it",
            );
            self.put(&id, text);
            return;
        }
        let rounds = self.actions[of].rounds.clone();
        if kind == "Questionnaire"
            && let Some(form) = definition
            && self.ask(of, form, title, &words, lasts.as_deref(), next)
        {
            return;
        }
        if let Some(kind) = step_kind.filter(|kind| !["task", "ask", "book"].contains(kind)) {
            self.leave(
                &place,
                format!("is a step of the kind `{kind}`, of which a plan has the words alone; it is taken for work of staff"),
            );
        }
        let told = match kind {
            "" | "Task" => None,
            "Questionnaire" => {
                Some("is a form that patients aren't asked here; staff are asked to see to it")
            }
            "Appointment" => {
                Some("is a visit; staff are asked to arrange it until a `book` step has its time")
            }
            "PlanDefinition" => {
                Some("is a plan of its own; import it by itself, or its actions here")
            }
            _ => Some("is an order; staff are asked to write it"),
        };
        if let Some(words) = told {
            self.leave(&format!("{place}.definitionCanonical"), words);
        }
        let due = lasts.or_else(|| rounds?.lasts);
        if due.is_none() {
            self.leave(
                &place,
                "doesn't say how soon it is to be done; a day is written",
            );
        }
        let role = role(value.get("participant")).or_else(|| role(definition?.get("participant")));
        if role.is_none() {
            self.leave(
                &place,
                "doesn't say whose work it is; `clinician` is written",
            );
        }
        let priority = match value["priority"]
            .as_str()
            .or_else(|| definition?["priority"].as_str())
        {
            Some("urgent" | "asap" | "stat") => "      priority: urgent\n",
            _ => "",
        };
        let text = format!(
            "  {id}:\n    title: {}\n    task:\n      title: {}\n      reason: {}\n      role: {}\n{priority}      due: {}\n    next: {next}\n    overdue: {{role: clinician, priority: urgent}}\n",
            quoted(title),
            quoted(title),
            quoted(&plain(&words)),
            role.unwrap_or("clinician"),
            due.unwrap_or_else(|| "1d".to_owned()),
        );
        self.put(&id, text);
    }

    /// Whether a form became a step that asks the patient.
    fn ask(
        &mut self,
        of: usize,
        form: &Value,
        title: &str,
        words: &str,
        lasts: Option<&str>,
        next: &str,
    ) -> bool {
        let (value, place) = (self.actions[of].value, self.actions[of].place.clone());
        let id = self.actions[of].id.clone();
        let form_place = format!("{place}.definitionCanonical");
        // What staff fill in, or what is about somebody else, is not asked of the patient.
        let by_staff = value["participant"].as_array().is_some_and(|list| {
            !list.is_empty()
                && list
                    .iter()
                    .all(|one| one["type"] != "patient" && one["type"] != "related-person")
        });
        let subjects = form["subjectType"].as_array();
        let of_others = subjects.is_some_and(|list| list.iter().all(|one| one != "Patient"));
        if by_staff || of_others {
            return false;
        }
        let rounds = self.actions[of].rounds.clone();
        let give_up = match (&rounds, lasts) {
            (Some(rounds), _) => rounds.gap(),
            (None, Some(lasts)) => lasts.to_owned(),
            (None, None) => {
                self.leave(
                    &place,
                    "doesn't say how long an answer is waited for; a week is written",
                );
                "7d".to_owned()
            }
        };
        let Some(body) = self.asked(form, &form_place, title, words, &give_up) else {
            return false;
        };
        self.leave(&place, "goes on where nobody answers; look at `no_answer`");
        let text = format!(
            "  {id}:\n    title: {}\n{body}    answered: {next}\n    no_answer: {next}\n",
            quoted(title)
        );
        self.put(&id, text);
        true
    }

    /// What an action is defined by, where it came along.
    pub(super) fn definition(&self, of: usize) -> Option<&'a Value> {
        let canonical = self.actions[of].value["definitionCanonical"].as_str()?;
        match canonical.strip_prefix('#') {
            Some(id) => {
                let contained = self.plan["contained"].as_array();
                contained
                    .into_iter()
                    .flatten()
                    .find(|one| one["id"].as_str() == Some(id))
            }
            None => {
                let (url, version) = match canonical.split_once('|') {
                    Some((url, version)) => (url, Some(version)),
                    None => (canonical, None),
                };
                let is = |one: &&&Value| {
                    one["url"].as_str() == Some(url)
                        && version.is_none_or(|version| one["version"].as_str() == Some(version))
                };
                self.resources.iter().find(is).copied()
            }
        }
    }

    fn defined(&mut self, of: usize) -> Option<&'a Value> {
        self.actions[of].value["definitionCanonical"].as_str()?;
        let found = self.definition(of);
        if found.is_none() {
            let place = format!("{}.definitionCanonical", self.actions[of].place);
            self.leave(&place, "is not in the file; it is taken for work of staff");
        }
        found
    }
}

/// The kind of step that an action was, in a journey that was exported.
fn step_kind(action: &Value) -> Option<&str> {
    let codes = action["code"].as_array();
    codes
        .into_iter()
        .flatten()
        .flat_map(|code| code["coding"].as_array().into_iter().flatten())
        .find(|coding| coding["system"] == STEP_SYSTEM)?["code"]
        .as_str()
}

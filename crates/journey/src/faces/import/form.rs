//! A `Questionnaire` as an `ask` step.
//!
//! What the language asks is asked: yes or no, numbers, texts, dates, one of several. Whatever a form has besides is
//! told with its item, and what is left out of it isn't asked.

use super::texts::{line, name, plain, quoted};
use super::{Importing, Left};
use serde_json::Value;
use std::fmt::Write as _;

/// Code, words and weight of an answer to choose from.
type Answer = (String, String, Option<f64>);

/// The most questions of a form that is imported.
const QUESTIONS_MAX: usize = 100;
/// How deep groups of questions are looked into.
const DEPTH_MAX: usize = 8;
/// The greatest bound of a number, and the greatest weight, that the language has.
const BOUND_MAX: f64 = 1_000_000.0;
const WEIGHT_MAX: f64 = 1000.0;

/// The extensions that say what an answer counts.
const WEIGHTS: [&str; 3] = [
    "http://hl7.org/fhir/StructureDefinition/ordinalValue",
    "http://hl7.org/fhir/StructureDefinition/itemWeight",
    "http://hl7.org/fhir/StructureDefinition/questionnaire-ordinalValue",
];
/// Those by which an item is worked out from others.
const WORKED_OUT: [&str; 3] = [
    "http://hl7.org/fhir/uv/sdc/StructureDefinition/sdc-questionnaire-calculatedExpression",
    "http://hl7.org/fhir/StructureDefinition/questionnaire-calculatedExpression",
    "http://hl7.org/fhir/StructureDefinition/cqf-calculatedValue",
];

/// A question as the language has it.
struct Question {
    id: String,
    text: String,
    kind: &'static str,
    help: Option<String>,
    required: bool,
    least: Option<i64>,
    most: Option<i64>,
    options: Vec<Choice>,
}

struct Choice {
    code: String,
    words: String,
    weight: Option<i64>,
}

/// A form on its way.
struct Reading<'a> {
    form: &'a Value,
    left: Vec<Left>,
    questions: Vec<Question>,
    /// The items that are worked out: their id, and whether a sum over weights is meant.
    scores: Vec<(String, bool)>,
    renamed: bool,
    recoded: bool,
}

impl Importing<'_> {
    /// The body of an `ask`, without its ways; none where nothing of the form can be asked.
    pub(super) fn asked(
        &mut self,
        form: &Value,
        place: &str,
        title: &str,
        words: &str,
        give_up_after: &str,
    ) -> Option<String> {
        let mut reading = Reading {
            form,
            left: Vec::new(),
            questions: Vec::new(),
            scores: Vec::new(),
            renamed: false,
            recoded: false,
        };
        reading.items(&form["item"], place, true, 0);
        if reading.renamed {
            reading.leave(
                place,
                "`linkId`s are written as names of the language, which answers then go by",
            );
        }
        if reading.recoded {
            reading.leave(
                place,
                "codes of answers are written as names of the language, without their systems",
            );
        }
        let scores = reading.scored(place);
        self.left.append(&mut reading.left);
        if reading.questions.is_empty() {
            return None;
        }
        let mut text = format!(
            "    ask:\n      title: {}\n      words: {}\n      questions:\n",
            quoted(title),
            quoted(&plain(words))
        );
        for question in &reading.questions {
            question.write(&mut text);
        }
        if !scores.is_empty() {
            text.push_str("      scores:\n");
            for (id, questions) in scores {
                let _ = writeln!(text, "        {id}: {{sum: [{}]}}", questions.join(", "));
            }
        }
        let _ = writeln!(text, "      give_up_after: {give_up_after}");
        Some(text)
    }
}

impl Question {
    fn write(&self, text: &mut String) {
        let _ = write!(
            text,
            "        - id: {}\n          text: {}\n          type: {}\n",
            self.id,
            quoted(&self.text),
            self.kind
        );
        if let Some(help) = &self.help {
            let _ = writeln!(text, "          help: {}", quoted(help));
        }
        if !self.required {
            text.push_str("          required: false\n");
        }
        for (name, bound) in [("least", self.least), ("most", self.most)] {
            if let Some(bound) = bound {
                let _ = writeln!(text, "          {name}: {bound}");
            }
        }
        if self.options.is_empty() {
            return;
        }
        text.push_str("          options:\n");
        for option in &self.options {
            let _ = writeln!(
                text,
                "            {}: {}",
                option.code,
                quoted(&option.words)
            );
        }
        let weights: Option<Vec<String>> = self
            .options
            .iter()
            .map(|option| Some(format!("{}: {}", option.code, option.weight?)))
            .collect();
        if let Some(weights) = weights {
            let _ = writeln!(text, "          weights: {{{}}}", weights.join(", "));
        }
    }

    fn counts(&self) -> bool {
        !self.options.is_empty() && self.options.iter().all(|option| option.weight.is_some())
    }
}

fn extension<'a>(of: &'a Value, urls: &[&str]) -> Option<&'a Value> {
    let list = of["extension"].as_array()?;
    list.iter()
        .find(|one| one["url"].as_str().is_some_and(|url| urls.contains(&url)))
}

/// The value of an extension that is a number.
fn number(extension: &Value) -> Option<f64> {
    ["valueInteger", "valueDecimal"]
        .iter()
        .find_map(|name| extension[name].as_f64())
}

/// A whole number within bounds.
fn whole(value: f64, most: f64) -> Option<i64> {
    #[allow(clippy::cast_possible_truncation, reason = "bounded just here")]
    (value.fract() == 0.0 && value.abs() <= most).then_some(value as i64)
}

impl Reading<'_> {
    fn leave(&mut self, place: &str, words: impl Into<String>) {
        self.left.push(Left {
            place: place.to_owned(),
            words: words.into(),
        });
    }

    fn items(&mut self, items: &Value, place: &str, required: bool, depth: usize) {
        for (number, item) in items.as_array().into_iter().flatten().enumerate() {
            let place = format!("{place}.item[{number}]");
            if depth > DEPTH_MAX {
                self.leave(
                    &place,
                    format!("lies more than {DEPTH_MAX} deep, and is not asked"),
                );
                continue;
            }
            self.item(item, &place, required, depth);
        }
    }

    fn item(&mut self, item: &Value, place: &str, required: bool, depth: usize) {
        // What is asked only sometimes may be left unanswered.
        let sometimes = item.get("enableWhen").is_some() || item.get("_enableWhen").is_some();
        if sometimes {
            self.leave(
                place,
                "is asked under a condition; here it is asked always, and may be left out",
            );
        }
        let required = required && !sometimes;
        let kind = item["type"].as_str().unwrap_or_default();
        if kind == "group" {
            if item["repeats"] == true {
                self.leave(
                    place,
                    "is a group that can be filled in several times; it is asked once",
                );
            }
            if item.get("text").is_some() {
                self.leave(place, "is a heading; its questions stand without it");
            }
            self.items(&item["item"], place, required, depth + 1);
            return;
        }
        if kind == "display" {
            self.leave(
                place,
                "is text between questions, which an `ask` has none of; use its `words`",
            );
            return;
        }
        if extension(item, &WORKED_OUT).is_some() || item["readOnly"] == true {
            self.worked_out(item, place);
            return;
        }
        if self.questions.len() >= QUESTIONS_MAX {
            self.leave(
                place,
                format!("is past {QUESTIONS_MAX} questions, and is not asked"),
            );
            return;
        }
        if let Some(question) = self.question(item, place, required) {
            self.questions.push(question);
        }
        // Below a question: what helps with it was taken, other questions follow it.
        let is_asked = |one: &Value| one["type"] != "display";
        let below = item["item"].as_array();
        for (number, one) in below.into_iter().flatten().enumerate() {
            if is_asked(one) {
                self.item(one, &format!("{place}.item[{number}]"), false, depth + 1);
            }
        }
    }

    fn question(&mut self, item: &Value, place: &str, required: bool) -> Option<Question> {
        let kind = match item["type"].as_str().unwrap_or_default() {
            "boolean" => "yes-no",
            "integer" => "whole-number",
            "decimal" => "number",
            "quantity" => {
                self.leave(
                    place,
                    "is an amount; its number is asked, and the question has to say in which unit",
                );
                "number"
            }
            "string" | "text" => "text",
            "url" => {
                self.leave(place, "is an address; it is asked as text");
                "text"
            }
            "choice" => "choice",
            "open-choice" => {
                self.leave(
                    place,
                    "can be answered in own words too; here it is one of those that are given",
                );
                "choice"
            }
            "date" => "date",
            other => {
                self.leave(
                    place,
                    format!("is of the type `{other}`, which no question has; it is not asked"),
                );
                return None;
            }
        };
        let options = if kind == "choice" {
            let options = self.options(item, place);
            if options.len() < 2 {
                self.leave(
                    place,
                    "has no answers to choose from that are in the file; it is not asked",
                );
                return None;
            }
            options
        } else {
            Vec::new()
        };
        for (member, words) in [
            (
                "initial",
                "what is filled in beforehand is not carried over",
            ),
            ("maxLength", "how long an answer may be is not carried over"),
            ("definition", "what it is defined by is not carried over"),
        ] {
            if item.get(member).is_some() {
                self.leave(&format!("{place}.{member}"), words);
            }
        }
        if item["repeats"] == true {
            self.leave(place, "can have several answers; here it has one");
        }
        let numeric = matches!(kind, "number" | "whole-number");
        let bound = |name: &str| {
            let url = format!("http://hl7.org/fhir/StructureDefinition/{name}");
            extension(item, &[url.as_str()]).and_then(number)
        };
        let (least, most) = (bound("minValue"), bound("maxValue"));
        let whole = |value: Option<f64>| value.and_then(|value| whole(value, BOUND_MAX));
        let fits = |value: Option<f64>| value.is_none() || whole(value).is_some();
        if (least.is_some() || most.is_some()) && !(numeric && fits(least) && fits(most)) {
            self.leave(place, "has bounds that are no whole numbers up to a million, or is none itself; they are left out");
        }
        let crossed = matches!((least, most), (Some(least), Some(most)) if least >= most);
        let bounded = |value: Option<f64>| whole(value).filter(|_| numeric && !crossed);
        let text = item["text"].as_str().or_else(|| item["linkId"].as_str());
        let text = text.unwrap_or("A question");
        if text.chars().count() > 300 {
            self.leave(place, "is longer than 300 characters, and is cut");
        }
        let below = item["item"].as_array();
        let help = below
            .into_iter()
            .flatten()
            .find(|one| one["type"] == "display");
        let help = help.and_then(|one| one["text"].as_str());
        let id = self.id(item);
        Some(Question {
            id,
            text: line(text, 300),
            kind,
            help: help.map(|help| line(help, 300)),
            required: required && item["required"] == true,
            least: bounded(least),
            most: bounded(most),
            options,
        })
    }

    /// The name of an item, once.
    fn id(&mut self, item: &Value) -> String {
        let text = item["linkId"].as_str().unwrap_or_default();
        let id = match name(text, '_') {
            id if !id.is_empty() => id,
            _ => name(&format!("q_{text}"), '_'),
        };
        let is_taken = |id: &str| {
            self.questions.iter().any(|one| one.id == id)
                || self.scores.iter().any(|(one, _)| one == id)
        };
        let mut free = id.clone();
        let mut number = 1;
        while is_taken(&free) {
            number += 1;
            free = format!("{id}_{number}");
        }
        self.renamed |= free != text;
        free
    }

    fn options(&mut self, item: &Value, place: &str) -> Vec<Choice> {
        let mut found: Vec<Answer> = Vec::new();
        let list = item["answerOption"].as_array();
        for option in list.into_iter().flatten() {
            let coding = &option["valueCoding"];
            let code = coding["code"].as_str();
            let text = option["valueString"].as_str().map(str::to_owned);
            let text = text.or_else(|| option["valueInteger"].as_i64().map(|one| one.to_string()));
            let words = coding["display"].as_str().map(str::to_owned);
            let words = words
                .or_else(|| text.clone())
                .or_else(|| code.map(str::to_owned));
            let code = code.map(str::to_owned).or(text);
            let (Some(code), Some(words)) = (code, words) else {
                self.leave(
                    place,
                    "has an answer that is neither a code nor a text, and is left out",
                );
                continue;
            };
            let weight = extension(coding, &WEIGHTS).or_else(|| extension(option, &WEIGHTS));
            found.push((code, words, weight.and_then(number)));
        }
        if let Some(set) = item["answerValueSet"].as_str() {
            match self.in_value_set(set) {
                Ok(codes) => found.extend(codes),
                Err(words) => self.leave(&format!("{place}.answerValueSet"), words),
            }
        }
        let mut options: Vec<Choice> = Vec::new();
        for (code, words, weight) in found {
            let known = match name(&code, '_') {
                known if !known.is_empty() => known,
                _ => name(&format!("a_{code}"), '_'),
            };
            let mut free = known.clone();
            let mut number = 1;
            while options.iter().any(|one| one.code == free) {
                number += 1;
                free = format!("{known}_{number}");
            }
            self.recoded |= free != code;
            let whole = weight.and_then(|weight| whole(weight, WEIGHT_MAX));
            if weight.is_some() && whole.is_none() {
                self.leave(place, "has a weight that is no whole number up to a thousand; the question doesn't count");
            }
            options.push(Choice {
                code: free,
                words: line(&words, 300),
                weight: whole,
            });
        }
        let weighed = options.iter().filter(|one| one.weight.is_some()).count();
        if weighed > 0 && weighed < options.len() {
            self.leave(
                place,
                "has answers with weights and answers without; the question doesn't count",
            );
        }
        options
    }

    /// The codes of a value set that the form contains, where they are all listed; in words why not.
    fn in_value_set(&self, set: &str) -> Result<Vec<Answer>, &'static str> {
        let contained = self.form["contained"].as_array();
        let found = set.strip_prefix('#').and_then(|id| {
            let mut all = contained.into_iter().flatten();
            all.find(|one| one["id"].as_str() == Some(id))
        });
        let Some(found) = found else {
            return Err("is not in the form; write its answers as `options`");
        };
        let compose = &found["compose"];
        if compose.get("exclude").is_some() {
            return Err(
                "leaves answers out again (`exclude`), which is not worked out; write its answers as `options`",
            );
        }
        let includes = compose["include"].as_array();
        let mut codes = Vec::new();
        for include in includes.into_iter().flatten() {
            if include.get("valueSet").is_some() || include.get("filter").is_some() {
                return Err(
                    "is made of other value sets or by a filter, which is not worked out; write its answers as `options`",
                );
            }
            let Some(concepts) = include["concept"].as_array() else {
                return Err(
                    "has all of a code system, which is not listed; write its answers as `options`",
                );
            };
            for concept in concepts {
                let Some(code) = concept["code"].as_str() else {
                    return Err("has an answer without a code; write its answers as `options`");
                };
                let words = concept["display"].as_str().unwrap_or(code);
                let weight = extension(concept, &WEIGHTS).and_then(number);
                codes.push((code.to_owned(), words.to_owned(), weight));
            }
        }
        Ok(codes)
    }

    /// An item that nobody fills in.
    fn worked_out(&mut self, item: &Value, place: &str) {
        let expression = extension(item, &WORKED_OUT);
        let expression = expression.and_then(|one| one["valueExpression"]["expression"].as_str());
        let is_sum = expression.is_some_and(|text| {
            text.contains("sum()") && (text.contains("ordinal()") || text.contains("weight()"))
        });
        let id = self.id(item);
        if is_sum {
            self.leave(place, "is worked out; the sum of what the answers count is written, so look whether that is meant");
        } else {
            self.leave(place, "is worked out from other answers, and how is not carried over; write it under `scores`");
        }
        self.scores.push((id, is_sum));
    }

    /// The scores of the form: sums of the questions whose answers have weights.
    fn scored(&mut self, place: &str) -> Vec<(String, Vec<String>)> {
        let counting = self.questions.iter().filter(|question| question.counts());
        let counting: Vec<String> = counting.map(|question| question.id.clone()).collect();
        if counting.is_empty() {
            return Vec::new();
        }
        let sums = self.scores.iter().filter(|(_, is_sum)| *is_sum);
        let sums: Vec<(String, Vec<String>)> =
            sums.map(|(id, _)| (id.clone(), counting.clone())).collect();
        if !sums.is_empty() || counting.len() < 2 {
            return sums;
        }
        let mut id = "total".to_owned();
        while self.questions.iter().any(|question| question.id == id) {
            id.push_str("_score");
        }
        self.leave(place, format!("has answers with weights and doesn't say what becomes of them; their sum is written as `{id}`"));
        vec![(id, counting)]
    }
}

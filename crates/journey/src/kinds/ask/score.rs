//! Numbers that are worked out from the answers to a form.

use super::{Answer, Ask, Question};
use crate::check::{Check, names_in};
use crate::decode::build::{number as number_of, path};
use crate::definition::{Path, Step};
use crate::spec::{Focus, Record, Shape, may};
use crate::watch::{millionths, number};
use crate::yaml::{Node, Place, inside};
use fhir::nearest;
use fhir::path::{Given, PathFinding, Wanted};
use serde_json::{Map, Value, json};

/// Least and greatest weight: scales in use stay far within.
pub(super) const WEIGHTS: Shape = Shape::Integer(-1000, 1000);

pub(super) static SCORE: Record = Record {
    name: "score",
    doc: "A number that is worked out from the answers, and is named `step.score` in conditions and words. Numbers count as they are, choices by their `weights`, yes and no by theirs or as 1 and 0. Where an answer is missing that a score needs, there is no score.",
    one_of: &["sum", "formula"],
    fields: &[
        may(
            "sum",
            Shape::List(&Shape::Line),
            "The questions whose numbers are added.",
        ),
        may(
            "formula",
            Shape::Path(Focus::Facts),
            "FHIRPath over the numbers, each named by its question: `(pain + stiffness) * 2`. It has to give one number.",
        ),
    ],
};

#[derive(Debug)]
pub(super) struct Score {
    pub(super) id: String,
    place: Place,
    rule: Rule,
}

#[derive(Debug)]
enum Rule {
    Sum(Vec<(String, Place)>),
    Formula(Path),
}

pub(super) fn decode(body: &Node) -> Option<Vec<Score>> {
    let scores = body.get("scores").map(Node::members).unwrap_or_default();
    let scores = scores.iter().map(|(key, node)| {
        let rule = match node.get("sum") {
            Some(list) => Rule::Sum(
                list.items()
                    .iter()
                    .map(|item| Some((item.text()?.to_owned(), item.place)))
                    .collect::<Option<_>>()?,
            ),
            None => Rule::Formula(path(node.get("formula")?)?),
        };
        Some(Score {
            id: key.name.clone(),
            place: key.place,
            rule,
        })
    });
    scores.collect()
}

/// What an answer counts, by code.
pub(super) fn weights(question: &Node) -> Vec<(String, f64)> {
    let weights = question.get("weights").map(Node::members);
    let weights = weights.unwrap_or_default().iter();
    weights
        .filter_map(|(key, _)| {
            let weight = number_of(question.get("weights")?, &key.name)?;
            Some((key.name.clone(), weight))
        })
        .collect()
}

impl Question {
    /// Whether an answer to it counts something.
    fn counts(&self) -> bool {
        match self.answer {
            Answer::YesNo | Answer::WholeNumber | Answer::Number => true,
            Answer::Choice => !self.weights.is_empty(),
            Answer::Text | Answer::Date => false,
        }
    }

    pub(super) fn weight(&self, code: &str) -> Option<f64> {
        let found = self.weights.iter().find(|(known, _)| known == code);
        found.map(|(_, weight)| *weight)
    }

    /// What an answer to it counts.
    fn count(&self, answer: &Value) -> Option<f64> {
        match (self.answer, answer) {
            (Answer::YesNo, Value::Bool(yes)) => Some(if *yes {
                self.weight("yes").unwrap_or(1.0)
            } else {
                self.weight("no").unwrap_or(0.0)
            }),
            (Answer::WholeNumber | Answer::Number, Value::Number(number)) => number.as_f64(),
            (Answer::Choice, Value::String(code)) => self.weight(code),
            _ => None,
        }
    }

    /// Weights that don't fit the question's answers.
    pub(super) fn check_weights(&self, check: &mut Check<'_, '_>, place: Place) {
        if self.weights.is_empty() {
            return;
        }
        let id = &self.id;
        let codes: Vec<&str> = match self.answer {
            Answer::YesNo => vec!["yes", "no"],
            Answer::Choice => self.options.iter().map(|(code, _)| code.as_str()).collect(),
            _ => Vec::new(),
        };
        let mut wrong = Vec::new();
        if codes.is_empty() {
            wrong.push(format!("question `{id}` has `weights` but is no choice"));
        } else {
            for code in codes.iter().filter(|code| self.weight(code).is_none()) {
                wrong.push(format!(
                    "question `{id}` has `weights` but none for `{code}`"
                ));
            }
            for (code, _) in &self.weights {
                if !codes.contains(&code.as_str()) {
                    wrong.push(format!(
                        "question `{id}` has a weight for `{code}`, which is no answer to it"
                    ));
                }
            }
        }
        for words in wrong {
            check.findings.error("J033", place, words);
        }
    }
}

/// What a formula does with numbers that can't be done, or comes to that is none.
fn check_formula(formula: &Path, check: &mut Check<'_, '_>, ask: &Ask) {
    let numbers = ask.questions.iter().filter(|question| question.counts());
    let numbers = numbers.map(|question| (question.id.as_str(), Given::Number));
    let given = Given::Members(numbers.collect());
    let faults = formula.expression.faults_of(&given, Wanted::Number);
    let source = check.findings.source;
    // Names that aren't there are told by themselves, but for those within functions and of members.
    let named: Vec<usize> = (names_in(&formula.text).into_iter())
        .map(|(position, _)| position)
        .collect();
    let told = |found: &PathFinding| found.is_name && named.contains(&found.position);
    for found in faults.into_iter().filter(|found| !told(found)) {
        let place = inside(source, formula.place, &formula.text, found.position);
        if found.certain {
            check.findings.error("J042", place, found.message);
        } else {
            check.findings.warning("J042", place, found.message);
        }
    }
}

impl Score {
    /// The score of some numbers.
    fn of(&self, numbers: &Map<String, Value>, now_ms: u64) -> Option<Value> {
        let score = match &self.rule {
            Rule::Sum(questions) => {
                let mut sum = 0.0;
                for (question, _) in questions {
                    sum += numbers.get(question)?.as_f64()?;
                }
                sum
            }
            Rule::Formula(formula) => {
                let environment = fhir::path::Environment {
                    now_ms: i64::try_from(now_ms).ok(),
                    ..fhir::path::Environment::default()
                };
                let focus = Value::Object(numbers.clone());
                let items = formula.expression.evaluate(&focus, &environment).ok()?;
                let [one] = items.as_slice() else { return None };
                one.value().as_f64()?
            }
        };
        score.is_finite().then(|| number(millionths(score)))
    }

    fn check(&self, check: &mut Check<'_, '_>, ask: &Ask) {
        let source = check.findings.source;
        let named: Vec<(String, Place)> = match &self.rule {
            Rule::Sum(questions) => questions.clone(),
            Rule::Formula(formula) => names_in(&formula.text)
                .into_iter()
                .map(|(position, name)| {
                    (name, inside(source, formula.place, &formula.text, position))
                })
                .collect(),
        };
        // What stands within a function is named by its text alone.
        let names = |formula: &Path| {
            let mut questions = ask.questions.iter();
            questions.any(|question| formula.text.contains(&question.id))
        };
        if matches!(&self.rule, Rule::Formula(formula) if !names(formula)) {
            let words = format!("`{}` names no question, so it is always the same", self.id);
            check.findings.error("J042", self.place, words);
        }
        if let Rule::Formula(formula) = &self.rule {
            check_formula(formula, check, ask);
        }
        for (name, place) in named {
            let asked = ask.questions.iter().find(|question| question.id == name);
            match asked {
                None => {
                    let known = ask.questions.iter().map(|question| question.id.as_str());
                    let near = nearest(&name, known)
                        .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
                    let words = format!("`{name}` is no question of this form{near}");
                    check.findings.error("J042", place, words);
                }
                Some(question) if !question.counts() => {
                    let words = format!(
                        "`{name}` is no number; give its options `weights`, or leave it out of `{}`",
                        self.id
                    );
                    check.findings.error("J042", place, words);
                }
                Some(question) if !question.required => {
                    let words = format!(
                        "`{name}` need not be answered, and then there is no `{}`; see that conditions mind that",
                        self.id
                    );
                    check.findings.warning("J042", place, words);
                }
                Some(_) => {}
            }
        }
    }
}

impl Ask {
    /// The scores of answers.
    pub(super) fn scores(&self, answers: &Map<String, Value>, now_ms: u64) -> Vec<(String, Value)> {
        let numbers: Map<String, Value> = self
            .questions
            .iter()
            .filter_map(|question| {
                let count = question.count(answers.get(&question.id)?)?;
                Some((question.id.clone(), number(millionths(count))))
            })
            .collect();
        self.scores
            .iter()
            .filter_map(|score| Some((score.id.clone(), score.of(&numbers, now_ms)?)))
            .collect()
    }

    pub(super) fn check_scores(&self, check: &mut Check<'_, '_>, step: &Step) {
        for score in &self.scores {
            if self
                .questions
                .iter()
                .any(|question| question.id == score.id)
            {
                let words = format!(
                    "a question of `{}` is called `{}` as well; name the score differently",
                    step.id, score.id
                );
                check.findings.error("J024", score.place, words);
            }
            score.check(check, self);
        }
    }
}

/// The extension by which FHIR says what an option counts.
pub(super) fn ordinal(weight: f64) -> Value {
    json!([{"url": "http://hl7.org/fhir/StructureDefinition/ordinalValue", "valueDecimal": number(millionths(weight))}])
}

#[cfg(test)]
mod tests {
    use crate::definition::Definition;

    /// Other programs that show the form can work the score out as well.
    #[test]
    fn weights_are_published_with_the_form() {
        let guide = include_str!("../../../../../docs/journeys/guide.md");
        let start = guide.find("name: knee-replacement").unwrap();
        let source = &guide[start..];
        let (head, _) = source.split_once("start:").unwrap();
        let source = format!(
            "{head}start: mood
steps:
  mood:
    title: Mood
    ask:
      title: Mood
      words: Please tell us.
      questions:
        - {{id: low, text: Low?, type: choice, options: {{never: Never, often: Often}}, weights: {{never: 0, often: 3}}}}
      give_up_after: 2d
    answered: end
    no_answer: end
"
        );
        let definition = Definition::compile(&source, 1).unwrap();
        let step = definition.step("mood").unwrap();
        let form = step.kind.questionnaire(&definition, 1, step, "q", 0);
        let form = form.unwrap().into_value();
        let option = form.pointer("/item/0/answerOption/1/valueCoding").unwrap();
        assert_eq!(option["code"], "often");
        assert_eq!(option["extension"][0]["valueDecimal"], 3);
        assert_eq!(
            option["extension"][0]["url"],
            "http://hl7.org/fhir/StructureDefinition/ordinalValue"
        );
    }
}

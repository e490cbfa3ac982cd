//! Scores of forms: what is worked out from answers, and what branches make of it.

use crate::kinds::{begin, compiled, source};
use crate::run::{DAY, HOUR};
use journey::Act;
use serde_json::{Value, json};

/// Asks, and decides by the score.
fn steps(scores: &str) -> String {
    format!(
        "  first:
    title: Mood
    ask:
      title: The last two weeks
      words: Please tell us.
      questions:
        - {{id: interest, text: Little interest?, type: choice, options: {{never: Never, often: Often}}, weights: {{never: 0, often: 3}}}}
        - {{id: down, text: Feeling down?, type: choice, options: {{never: Never, often: Often}}, weights: {{never: -1, often: 2}}}}
        - {{id: sleep, text: Nights without sleep?, type: number}}
        - {{id: alone, text: Do you live alone?, type: yes-no}}
        - {{id: plans, text: Have you plans?, type: yes-no, weights: {{yes: 0, no: 4}}}}
        - {{id: words, text: Anything else?, type: text, required: false}}
        - {{id: place, text: Where?, type: choice, options: {{home: Home, away: Away}}}}
      scores: {scores}
      give_up_after: 2d
      channels: [portal]
    answered: decide
    no_answer: low
  decide:
    title: High?
    branch:
      cases:
        - {{when: first.total >= 5, next: high}}
        - {{when: first.total.exists(), next: low}}
      otherwise: unknown
  high: {{title: High, wait: {{for: 1d}}, next: end}}
  low: {{title: Low, wait: {{for: 1d}}, next: end}}
  unknown: {{title: Unknown, wait: {{for: 1d}}, next: end}}
"
    )
}

fn answers(interest: &str, down: &str, sleep: f64, alone: bool, plans: bool) -> Value {
    json!({"interest": interest, "down": down, "sleep": sleep, "alone": alone, "plans": plans, "place": "home"})
}

#[test]
fn scores_are_worked_out_and_decide() {
    let sum = "{total: {sum: [interest, down, sleep, alone, plans]}}";
    let formula = "{total: {formula: (interest + down) * 2 - sleep}}";
    let often = || answers("often", "often", 0.5, true, false);
    let without = |question: &str| {
        let mut answers = often();
        answers.as_object_mut().unwrap().remove(question);
        answers
    };
    for (scores, given, total, at) in [
        (sum, often(), json!(10.5), "high"),
        (
            sum,
            answers("often", "never", 2.0, true, true),
            json!(5),
            "high",
        ),
        (
            sum,
            answers("never", "never", 2.5, false, true),
            json!(1.5),
            "low",
        ),
        (sum, without("sleep"), Value::Null, "unknown"),
        (sum, without("place"), json!(10.5), "high"),
        // What is none of its options counts nothing.
        (
            sum,
            answers("sometimes", "often", 0.5, true, false),
            Value::Null,
            "unknown",
        ),
        (formula, often(), json!(9.5), "high"),
        (
            formula,
            answers("never", "never", 0.25, true, false),
            json!(-2.25),
            "low",
        ),
        (formula, without("down"), Value::Null, "unknown"),
        (
            "{total: {formula: 'iif(interest > down, 7, 1)'}}",
            often(),
            json!(7),
            "high",
        ),
        // Neither is one number.
        (
            "{total: {formula: 'iif(interest > 0, interest > down, 7)'}}",
            often(),
            Value::Null,
            "unknown",
        ),
        (
            "{total: {formula: interest | down}}",
            often(),
            Value::Null,
            "unknown",
        ),
    ] {
        let mut run = begin(&compiled(&steps(scores)), "p");
        run.answer("i/1/task", given.clone());
        assert_eq!(run.state.at(), [at], "{scores} {given}");
        let state = serde_json::to_value(&run.state).unwrap();
        assert_eq!(state["x"]["first"]["total"], total, "{scores} {given}");
        assert_eq!(state["f"], 1, "a score is what was learnt, as answers are");
    }
}

#[test]
fn what_is_wrong_with_a_score_is_found() {
    let good = "{total: {sum: [interest, sleep]}}";
    let check = |steps: &str| journey::check(&source("kinds", steps));
    assert_eq!(check(&steps(good)), []);
    for (scores, code, error, words) in [
        (
            "{total: {sum: [interest, slepe]}}",
            "J042",
            true,
            "did you mean `sleep`?",
        ),
        ("{total: {sum: [words]}}", "J042", true, "is no number"),
        (
            "{total: {sum: [place]}}",
            "J042",
            true,
            "give its options `weights`",
        ),
        (
            "{total: {formula: interest + slepe}}",
            "J042",
            true,
            "did you mean `sleep`?",
        ),
        (
            "{total: {formula: 'select(interest + slepe)'}}",
            "J042",
            true,
            "slepe",
        ),
        (
            "{total: {formula: 'select(interest + words)'}}",
            "J042",
            true,
            "words",
        ),
        (
            "{total: {formula: interest + sleep.score}}",
            "J042",
            true,
            "score",
        ),
        ("{total: {formula: '3'}}", "J042", true, "always the same"),
        (
            "{total: {formula: interest > sleep}}",
            "J042",
            true,
            "has to be a number, and is Boolean",
        ),
        (
            "{total: {formula: interest + 'x'}}",
            "J042",
            true,
            "can't be calculated with",
        ),
        (
            "{total: {formula: interest | sleep}}",
            "J042",
            false,
            "several of these",
        ),
        ("{total: {formula: 'interest +'}}", "J015", true, ""),
        (
            "{total: {sum: [interest], formula: interest}}",
            "J003",
            true,
            "exactly one of",
        ),
        (
            "{sleep: {sum: [interest]}, total: {sum: [sleep]}}",
            "J024",
            true,
            "called `sleep` as well",
        ),
        (
            "{sum: {sum: [sleep]}}",
            "J016",
            true,
            "`first` gives no `total`",
        ),
    ] {
        let found = check(&steps(scores));
        assert!(
            found.iter().any(|found| found.code == code
                && found.error == error
                && found.message.contains(words)),
            "{scores}: {found:?}"
        );
    }
    let optional = steps(good).replace("type: number}", "type: number, required: false}");
    let found = check(&optional);
    assert!(
        found
            .iter()
            .any(|found| found.code == "J042" && !found.error),
        "{found:?}"
    );
    for (from, to, words) in [
        (
            "weights: {never: 0, often: 3}",
            "weights: {never: 0}",
            "none for `often`",
        ),
        (
            "weights: {never: 0, often: 3}",
            "weights: {never: 0, often: 3, oft: 2}",
            "no answer to it",
        ),
        (
            "type: number}",
            "type: number, weights: {low: 1}}",
            "is no choice",
        ),
    ] {
        let found = check(&steps(good).replacen(from, to, 1));
        assert!(
            found
                .iter()
                .any(|found| found.code == "J033" && found.message.contains(words)),
            "{to}: {found:?}"
        );
    }
}

#[test]
fn a_form_that_is_asked_anew_knows_no_score_of_before() {
    let steps =
        steps("{total: {sum: [interest, down]}}").replace("no_answer: low", "no_answer: decide");
    let mut run = begin(&compiled(&steps), "p");
    let often = answers("often", "often", 0.5, true, false);
    run.answer("i/1/task", often);
    assert_eq!(run.state.at(), ["high"]);
    let to = "first".to_owned();
    run.hand(Act::Jump { from: None, to }).unwrap();
    run.until(2 * DAY + 12 * HOUR);
    // Nobody has answered this one, so nothing is known.
    assert_eq!(run.state.at(), ["unknown"]);
}

#[test]
fn a_wait_that_begins_later_knows_that_a_form_was_skipped_as_answered() {
    let steps = "  first: {title: Both, parallel: {branches: [form, pause]}, next: end}
  form:
    title: How are you?
    ask:
      title: How are you?
      words: Please answer.
      questions: [{id: well, text: Well?, type: yes-no}]
      give_up_after: 2d
    answered: stay
    no_answer: stay
  pause: {title: Pause, wait: {for: 1d}, next: waits}
  waits: {title: Waits, wait: {answer: form, at_most: 9d}, next: told, not_come: end}
  told: {title: Told, wait: {for: 20d}, next: end}
  stay: {title: Stay, wait: {for: 20d}, next: end}
";
    for (way, at) in [
        (0, ["first", "stay", "told"]),
        (1, ["first", "stay", "waits"]),
    ] {
        let mut run = begin(&compiled(steps), "p");
        run.hand(Act::Skip { n: 2, way }).unwrap();
        run.until(DAY + 2 * HOUR);
        let mut found = run.state.at();
        found.sort_unstable();
        assert_eq!(found, at, "{way}");
    }
}

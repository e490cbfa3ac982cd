//! Measurements and scores that tell of a risk, and to whom they come.

use super::GOOD;

const WATCH: &str = "      code: 29463-7\n      unit: kg\n      rises_more_than: 2\n      within: 3d\n    then: call\n";

#[test]
fn what_tells_of_a_risk_comes_to_a_person() {
    let tell = "  tell: {title: Tell, send: {title: Weight, words: Please rest., channels: [portal]}, next: end, on_failure: end}\n";
    let asks = "  tell: {title: Tell, ask: {title: Weight, words: Please tell us., questions: [{id: ill, text: Are you ill?, type: yes-no}], give_up_after: 1d, channels: [portal]}, answered: seen, no_answer: end}\n  seen: {title: Ill?, branch: {cases: [{when: tell.ill = true, next: call}], otherwise: end}}\n";
    let rule = |rule: &str, more: &str| {
        let source = GOOD.replacen(WATCH, &format!("{rule}    then: tell\n{more}"), 1);
        assert_ne!(source, GOOD);
        codes(&source)
    };
    let weight =
        "      code: 29463-7\n      unit: kg\n      rises_more_than: 2\n      within: 3d\n";
    assert_eq!(rule(weight, tell), ["J083"]);
    let mean = "      code: 8480-6\n      unit: mm[Hg]\n      mean_above: 180\n      within: 3d\n";
    assert_eq!(rule(mean, tell), ["J083"]);
    // Somebody looks in the end.
    assert_eq!(rule(weight, asks), [""; 0]);
    // A reminder to measure is none of it, and neither is height.
    assert_eq!(
        rule("      code: 29463-7\n      none_for: 3d\n", tell),
        [""; 0]
    );
    let height = "      code: 8302-2\n      unit: cm\n      rises_more_than: 2\n      within: 3d\n";
    assert_eq!(rule(height, tell), [""; 0]);
    // Who is called for something else reads it there.
    let source = GOOD
        .replacen(WATCH, &format!("{weight}    then: tell\n{tell}"), 1)
        .replacen(
            "      reason: Not well.\n",
            "      reason: \"Weight: {watch.rise|as before}.\"\n",
            1,
        );
    assert_eq!(codes(&source), [""; 0]);
}

#[test]
fn a_score_that_is_decided_on_comes_to_a_person() {
    let scored = |high: &str, low: &str| {
        let source = GOOD
            .replacen(
                "      remind_after: 24h\n",
                "        - {id: pain, text: How much?, type: whole-number}\n      scores: {total: {sum: [well, pain]}}\n      remind_after: 24h\n",
                1,
            )
            .replacen(
                "        - when: questions.well = false\n          next: call\n      otherwise: end\n",
                &format!("        - when: questions.total > 5\n          next: {high}\n      otherwise: {low}\n"),
                1,
            )
            + "  tell: {title: Tell, send: {title: Rest, words: Please rest., channels: [portal]}, next: end, on_failure: end}\n";
        codes(&source)
    };
    assert_eq!(scored("tell", "end"), ["J083"]);
    // One that is high is seen, and what is low need not be.
    assert_eq!(scored("call", "tell"), [""; 0]);
}

/// What comes after a part that is gone through again is come to as well.
#[test]
fn what_encloses_a_part_goes_on_after_it() {
    let rounds = |next: &str| {
        let source = GOOD
            .replacen(
                "    then: call\n",
                "    then: rounds\n  rounds:\n    title: Rounds\n    repeat: {body: tell, times: 2, pause: 1d}\n    next: NEXT\n  tell: {title: Tell, send: {title: Rest, words: Please rest., channels: [portal]}, next: end, on_failure: end}\n",
                1,
            )
            .replacen("NEXT", next, 1);
        codes(&source)
    };
    assert_eq!(rounds("end"), ["J083"]);
    assert_eq!(rounds("call"), [""; 0]);
}

fn codes(source: &str) -> Vec<String> {
    let found = journey::check(source).into_iter();
    found.map(|found| found.code).collect()
}

//! Patients who are moved to another version: what goes along, what is begun anew, who waits or can't be moved,
//! and the way back.

use crate::kinds::source;
use crate::run::{DAY, HOUR, Names, Run, facts};
use journey::{
    Act, Context, Definition, Fact, Goes, Hand, Map, Migration, Outcome, migrate, take_back, timers,
};
use serde_json::json;
use std::sync::Arc;

fn version(steps: &str, version: u32) -> Arc<Definition> {
    Definition::compile(&source("kinds", steps), version).unwrap()
}

fn begin(steps: &str, email: Option<Outcome>) -> Run {
    Run::start(version(steps, 1), email, facts())
}

fn hand(act: Act) -> Hand {
    Hand {
        act,
        reason: "Shorter".to_owned(),
        by: "Carla".to_owned(),
        batch: Some("b1".to_owned()),
    }
}

fn context(run: &Run) -> Context<'static> {
    Context {
        now_ms: run.now,
        instance: "i",
        ids: &Names,
        limited: false,
    }
}

fn map(pairs: &[(&str, Goes)]) -> Map {
    let pairs = pairs.iter();
    pairs
        .map(|(step, goes)| ((*step).to_owned(), goes.clone()))
        .collect()
}

fn to(step: &str) -> Goes {
    Goes::Step(step.to_owned())
}

impl Run {
    /// What a move comes to; done, if it is one. The log is of it and what comes after.
    fn moves(&mut self, steps: &str, map: &Map) -> String {
        let next = version(steps, 2);
        let hand = hand(Act::Resume);
        let moved = migrate(
            &self.state,
            &self.definition,
            &next,
            map,
            &[],
            &hand,
            &context(self),
        );
        self.log.clear();
        match moved.unwrap() {
            Migration::Moves(decision) => {
                self.definition = next;
                self.state = decision.state;
                let stored = journey::State::from_json(&self.state.to_json());
                assert_eq!(stored.unwrap(), self.state, "the stored form is all of it");
                self.effects(decision.effects);
                "moves".to_owned()
            }
            Migration::Stays(step) => format!("stays at {step}"),
            Migration::Holds(step) => format!("held at {step}"),
            Migration::Waits(what) => format!("waits: {what}"),
            Migration::Cannot(why) => format!("cannot: {why}"),
        }
    }

    fn back(&mut self, steps: &str) -> Result<(), String> {
        let before = version(steps, 1);
        let back = take_back(
            &self.state,
            &self.definition,
            &before,
            &hand(Act::Undo),
            &context(self),
        );
        let decision = back.map_err(|error| error.to_string())?;
        self.log.clear();
        self.definition = before;
        self.state = decision.state;
        self.effects(decision.effects);
        Ok(())
    }
}

const WAIT: &str = "  first: {title: Pause, wait: {for: 3d}, next: call}
  call: {title: Call, task: {title: Call, reason: Because., role: coordinator, due: 1d}, next: end, overdue: {role: clinician, priority: urgent}}
";

fn with(steps: &str, replace: &[(&str, &str)]) -> String {
    let mut steps = steps.to_owned();
    for (was, is) in replace {
        assert!(steps.contains(was), "{was}");
        steps = steps.replace(was, is);
    }
    steps
}

#[test]
fn a_wait_goes_on_by_the_new_version_from_when_it_began() {
    let mut run = begin(WAIT, None);
    run.until(DAY);
    let shorter = with(WAIT, &[("for: 3d", "for: 2d")]);
    assert_eq!(run.moves(&shorter, &Map::new()), "moves");
    assert_eq!(run.log(), [""; 0]);
    run.until(2 * DAY + 2 * HOUR);
    assert_eq!(run.log(), ["2d01h task call"]);
    // One whose time is over by the new version is over at once.
    let mut run = begin(WAIT, None);
    run.until(2 * DAY + 12 * HOUR);
    run.moves(&shorter, &Map::new());
    run.until(2 * DAY + 12 * HOUR);
    assert_eq!(run.log(), ["2d12h task call"]);
}

#[test]
fn a_step_that_is_gone_or_renamed_has_to_be_named() {
    let renamed = with(WAIT, &[("first:", "rest:")]);
    let renamed = format!("  first: {{title: Go, wait: {{for: 1h}}, next: rest}}\n{renamed}");
    let gone = "  first: {title: Call, task: {title: Call, reason: Because., role: coordinator, due: 1d}, next: end, overdue: end}\n";
    for (steps, pairs, at, came, log) in [
        (
            renamed.as_str(),
            vec![("first", to("rest"))],
            1,
            "moves",
            vec!["3d01h task call"],
        ),
        (
            WAIT,
            vec![("first", Goes::Stay)],
            1,
            "stays at first",
            vec!["3d01h task call"],
        ),
        (
            WAIT,
            vec![("first", Goes::Hold)],
            1,
            "held at first",
            vec!["3d01h task call"],
        ),
        // Another kind of step is begun there.
        (gone, vec![], 1, "moves", vec!["1d00h task first"]),
        (gone, vec![("call", to("first"))], 4, "moves", vec![]),
        (
            gone,
            vec![],
            4,
            "cannot: call isn't in version 2: say where those who are there go on",
            vec![],
        ),
        (
            renamed.as_str(),
            vec![("first", to("call"))],
            1,
            "moves",
            vec!["1d00h task call"],
        ),
    ] {
        let mut run = begin(WAIT, None);
        run.until(at * DAY);
        assert_eq!(run.moves(steps, &map(&pairs)), came, "{pairs:?} of {steps}");
        let last = if at == 1 && log.len() == 1 && log[0].starts_with('3') {
            3 * DAY + 2 * HOUR
        } else {
            at * DAY
        };
        run.until(last);
        assert_eq!(run.log(), log, "{pairs:?} of {steps}");
    }
}

const ASK: &str = "  first:
    title: How are you?
    ask:
      title: How are you?
      words: Please answer.
      questions: [{id: well, text: Well?, type: yes-no}]
      remind_after: 1d
      give_up_after: 2d
    answered: call
    no_answer: pause
    late_answer: call
  call: {title: Call, task: {title: Call, reason: Because., role: coordinator, due: 2d}, next: end, overdue: end}
  pause: {title: Pause, wait: {for: 5d}, next: end}
";

#[test]
fn a_form_with_the_same_questions_stays_open_and_its_answer_counts() {
    let later = with(
        ASK,
        &[
            ("give_up_after: 2d", "give_up_after: 4d"),
            ("words: Please", "words: Kindly"),
        ],
    );
    let mut run = begin(ASK, Some(Outcome::Delivered));
    run.until(DAY / 2);
    assert_eq!(run.moves(&later, &Map::new()), "moves");
    run.until(3 * DAY);
    assert_eq!(run.log(), ["1d01h reminder first email"]);
    // The form is the first version's, and says so.
    let fact = |questionnaire: &str| Fact::Answers {
        task: None,
        questionnaire: Some(questionnaire.to_owned()),
        answers: json!({"well": true}).as_object().unwrap().clone(),
    };
    assert!(!run.event(
        "QuestionnaireResponse/r",
        fact("Questionnaire/first"),
        vec![]
    ));
    assert!(run.event(
        "QuestionnaireResponse/r",
        fact("Questionnaire/1/first"),
        vec![]
    ));
    assert_eq!(run.state.at(), ["call"]);
    // Asked again on the new version, its form is that version's own.
    assert!(
        !serde_json::from_slice::<serde_json::Value>(&run.state.to_json())
            .unwrap()
            .as_object()
            .unwrap()
            .contains_key("q")
    );
}

#[test]
fn a_form_with_other_questions_is_called_off_and_asked_anew() {
    let other = with(ASK, &[("text: Well?", "text: Really well?")]);
    let mut run = begin(ASK, None);
    run.until(DAY / 2);
    assert_eq!(run.moves(&other, &Map::new()), "moves");
    assert_eq!(
        run.log(),
        [
            "0d12h called-off i/1/invitation/0",
            "0d12h close i/1/task cancelled",
            "0d12h form first",
            "0d12h invitation first email"
        ]
    );
    run.answer("i/2/task", json!({"well": true}));
    assert_eq!(run.state.at(), ["call"]);
}

#[test]
fn a_form_that_was_given_up_on_counts_only_where_it_still_would() {
    for (change, log) in [
        (
            vec![("for: 5d", "for: 6d")],
            vec!["3d00h close i/1/task done", "3d00h task call"],
        ),
        (vec![("    late_answer: call\n", "")], vec![]),
    ] {
        let other = with(ASK, &change);
        let mut run = begin(ASK, Some(Outcome::Delivered));
        run.until(3 * DAY);
        assert_eq!(run.state.at(), ["pause"]);
        assert_eq!(run.moves(&other, &Map::new()), "moves");
        let closed = run.log() == ["3d00h close i/1/task cancelled"];
        assert_eq!(closed, log.is_empty());
        run.log.clear();
        run.answer("i/1/task", json!({"well": true}));
        assert_eq!(run.log(), log);
    }
}

#[test]
fn a_task_stays_open_where_the_new_version_would_have_opened_the_same() {
    let first = with(
        WAIT,
        &[(
            "first: {title: Pause, wait: {for: 3d}, next: call}",
            "first: {title: Pause, wait: {for: 1h}, next: call}",
        )],
    );
    for (change, log) in [
        (
            vec![("reason: Because.", "reason: Otherwise.")],
            vec!["1d02h hand over i/2/task to clinician urgent"],
        ),
        (
            vec![("overdue: {role: clinician", "overdue: {role: coordinator")],
            vec!["1d02h hand over i/2/task to coordinator urgent"],
        ),
        (
            vec![("role: coordinator", "role: clinician")],
            vec![
                "0d12h close i/2/task cancelled",
                "0d12h task call",
                "1d12h hand over i/3/task to clinician urgent",
            ],
        ),
        (
            vec![("due: 1d", "due: 12h")],
            vec![
                "0d12h close i/2/task cancelled",
                "0d12h task call",
                "1d00h hand over i/3/task to clinician urgent",
            ],
        ),
    ] {
        let mut run = begin(&first, None);
        run.until(DAY / 2);
        assert_eq!(run.state.at(), ["call"]);
        assert_eq!(run.moves(&with(&first, &change), &Map::new()), "moves");
        run.until(2 * DAY);
        assert_eq!(run.log(), log, "{change:?}");
    }
}

const BOOK: &str = "  first:
    title: Visit
    book: {title: Visit, time: discharge + 10d at 10:00, minutes: 30, book_by: discharge + 5d at 12:00}
    next: end
    not_booked: pause
  pause: {title: Pause, wait: {for: 1d}, next: end}
";

#[test]
fn a_visit_that_is_booked_stays_booked_and_one_that_is_proposed_is_proposed_anew() {
    let later = with(BOOK, &[("discharge + 10d", "discharge + 12d")]);
    let mut run = begin(BOOK, None);
    run.until(DAY);
    assert_eq!(run.moves(&later, &Map::new()), "moves");
    assert_eq!(run.log(), ["1d00h cancel i/1/visit", "1d00h propose first"]);
    let mut run = begin(BOOK, None);
    run.until(DAY);
    run.visit("i/1/visit", "booked");
    assert_eq!(run.moves(&later, &Map::new()), "moves");
    assert_eq!(run.log(), [""; 0]);
    run.visit("i/1/visit", "fulfilled");
    assert!(!run.state.running());
}

/// A version with other reminders: those of the past are passed over, those that are due go out, and what was sent is
/// not sent again.
#[test]
fn reminders_of_a_booked_visit_are_those_of_the_version_that_leads_on() {
    let chain = |lengths: &str| {
        with(
            BOOK,
            &[("book_by:", &format!("remind: [{lengths}], book_by:"))],
        )
    };
    let booked = |steps: &str, email| {
        let mut run = begin(steps, email);
        run.until(DAY);
        run.visit("i/1/visit", "booked");
        run
    };
    let delivers = || Some(Outcome::Delivered);
    let other = chain("3d, 1d");

    // The visit is on the seventh day.
    let mut run = booked(BOOK, delivers());
    run.until(5 * DAY);
    assert_eq!(run.moves(&other, &Map::new()), "moves");
    run.until(7 * DAY);
    assert_eq!(run.log(), ["6d00h reminder 1/1440 first email"]);
    let passed = |run: &Run| {
        String::from_utf8(run.state.to_json())
            .unwrap()
            .matches("passed")
            .count()
    };
    assert_eq!(passed(&run), 1);

    // What was sent is not sent again, whatever it is called.
    let mut run = booked(&chain("3d, 2h"), delivers());
    run.until(5 * DAY);
    assert_eq!(run.log().last(), Some(&"4d00h reminder 1/4320 first email"));
    assert_eq!(run.moves(&other, &Map::new()), "moves");
    run.until(7 * DAY);
    assert_eq!(run.log(), ["6d00h reminder 2/1440 first email"]);
    assert_eq!(passed(&run), 0);

    // What is due in the moment of the move goes out.
    let mut run = booked(&chain("3d, 2h"), delivers());
    run.now += 3 * DAY + HOUR;
    assert_eq!(run.moves(&other, &Map::new()), "moves");
    run.until(7 * DAY);
    let expected = [
        "4d01h reminder 2/4320 first email",
        "6d00h reminder 2/1440 first email",
    ];
    assert_eq!(run.log(), expected);

    // One that is on its way is waited for.
    let mut run = booked(&chain("3d, 2h"), None);
    run.until(5 * DAY);
    let waits = "waits: a reminder of a visit is on its way";
    assert_eq!(run.moves(&other, &Map::new()), waits);

    // A version without them reminds of nothing.
    let mut run = booked(&chain("3d, 2h"), delivers());
    run.until(5 * DAY);
    assert_eq!(run.moves(BOOK, &Map::new()), "moves");
    run.until(7 * DAY);
    assert_eq!(run.log(), [""; 0]);
}

#[test]
fn nobody_is_moved_in_the_middle_of_something() {
    let send = "  first:
    title: Hello
    send: {title: Hello, words: Hello., channels: [email], expires: 24h}
    next: pause
    on_failure: end
  pause: {title: Pause, wait: {for: 1d}, next: end}
";
    let other = with(send, &[("for: 1d", "for: 2d")]);
    let mut run = begin(send, None);
    assert_eq!(
        run.moves(&other, &Map::new()),
        "waits: a message is on its way"
    );
    // Whatever the map says of where they go on.
    assert_eq!(
        run.moves(&other, &map(&[("first", to("pause"))])),
        "waits: a message is on its way"
    );
    let outcome = Outcome::Delivered;
    run.event(
        "Communication/c",
        Fact::Message {
            id: "i/1/message/0".into(),
            outcome,
        },
        vec![],
    );
    assert_eq!(run.moves(&other, &Map::new()), "moves");

    let eyes = "  first: {title: Dose, task: {title: Dose, reason: Because., role: clinician, due: 1d, four_eyes: true}, next: end, not_confirmed: end, overdue: {role: clinician, priority: urgent}}\n";
    let mut run = begin(eyes, None);
    run.done_by("i/1/task", "anna", None);
    let other = with(eyes, &[("reason: Because.", "reason: Otherwise.")]);
    assert_eq!(
        run.moves(&other, &Map::new()),
        "waits: a second person is to confirm a task"
    );

    // What was put off while it was held comes first.
    let mut run = begin(WAIT, None);
    run.hand(Act::Pause).unwrap();
    assert_eq!(
        run.moves(&with(WAIT, &[("for: 3d", "for: 2d")]), &Map::new()),
        "moves"
    );
    assert!(
        timers(&run.definition, &run.state).is_empty(),
        "it is held still"
    );
    let mut run = begin(send, None);
    run.hand(Act::Pause).unwrap();
    run.event(
        "Communication/c",
        Fact::Message {
            id: "i/1/message/0".into(),
            outcome: Outcome::Delivered,
        },
        vec![],
    );
    let waits = run.moves(&with(send, &[("for: 1d", "for: 2d")]), &Map::new());
    assert_eq!(
        waits,
        "waits: it is held, and what was put off has to be done first"
    );
}

#[test]
fn what_has_come_of_several_things_counts_for_the_same_things_only() {
    let both = "  first: {title: Both, wait: {all_of: [{event: Encounter}, {until: discharge + 4d}], at_most: 20d}, next: end, not_come: end}\n";
    let mut run = begin(both, None);
    // The exits' condition is the first.
    assert!(run.event("Encounter/e2", Fact::Other, vec![1]));
    let other = with(both, &[("discharge + 4d", "discharge + 6d")]);
    let why = run.moves(&other, &Map::new());
    assert!(
        why.starts_with("cannot: at first: some of what it waits for has come"),
        "{why}"
    );
    let same = format!("{both}  more: {{title: More, wait: {{for: 1d}}, next: end}}\n");
    let same = with(
        &same,
        &[(
            "next: end, not_come: end}\n  more",
            "next: more, not_come: end}\n  more",
        )],
    );
    assert_eq!(run.moves(&same, &Map::new()), "moves");
    run.until(4 * DAY + HOUR);
    assert_eq!(run.state.at(), ["more"]);
}

const PARALLEL: &str = "  first: {title: Both, parallel: {branches: [short, long]}, next: after}
  short: {title: Short, wait: {for: 2d}, next: end}
  long: {title: Long, wait: {for: 3d}, next: end}
  after: {title: After, wait: {for: 1d}, next: end}
";

#[test]
fn branches_go_along_with_what_waits_for_them() {
    let mut run = begin(PARALLEL, None);
    run.until(DAY);
    let other = with(
        PARALLEL,
        &[(
            "title: Long, wait: {for: 3d}",
            "title: Long, wait: {for: 5d}",
        )],
    );
    assert_eq!(run.moves(&other, &Map::new()), "moves");
    run.until(5 * DAY + 2 * HOUR);
    assert_eq!(run.state.at(), ["after"]);

    // Out of the part that is waited for, or into it, nobody is carried.
    for (from, steps, pairs, at) in [
        (PARALLEL, PARALLEL, vec![("short", to("after"))], DAY),
        (PARALLEL, PARALLEL, vec![("after", to("short"))], 4 * DAY),
    ] {
        let mut run = begin(from, None);
        run.until(at);
        let why = run.moves(steps, &map(&pairs));
        assert!(why.contains("lies within another part"), "{why}");
    }
    // The whole part is left with all that is in it.
    let mut run = begin(PARALLEL, None);
    run.until(DAY);
    let whole = "  first: {title: One, wait: {for: 4d}, next: end}\n";
    assert_eq!(
        run.moves(whole, &Map::new()),
        "cannot: short isn't in version 2: say where those who are there go on"
    );
    let all = map(&[("short", to("first")), ("long", to("first"))]);
    assert_eq!(run.moves(whole, &all), "moves");
    assert_eq!(run.state.at(), ["first"]);
    run.until(5 * DAY + HOUR);
    assert!(!run.state.running());
}

#[test]
fn rounds_go_on_where_they_are() {
    let repeat = "  first: {title: Daily, repeat: {body: rest, times: 3, pause: 1d}, next: end}
  rest: {title: Rest, wait: {for: 1d}, next: end}
";
    let more = with(repeat, &[("times: 3", "times: 4")]);
    for at in [DAY / 2, DAY + DAY / 2] {
        let mut run = begin(repeat, None);
        run.until(at);
        assert_eq!(run.moves(&more, &Map::new()), "moves");
        run.until(7 * DAY);
        assert!(run.state.running());
        run.until(7 * DAY + 2 * HOUR);
        assert!(!run.state.running());
    }
}

/// A version that asks otherwise for a visit that isn't booked: what was sent is not sent again, what is past is passed
/// over, and nobody is moved while a message is on its way.
#[test]
fn who_was_asked_to_book_is_reminded_by_the_version_that_leads_on() {
    let asks = |again: &str| {
        let invite = format!("invite: {{words: Please book., again: [{again}]}}, book_by:");
        with(BOOK, &[("book_by:", &invite)])
    };
    let delivers = || Some(Outcome::Delivered);
    let again = |run: &Run| {
        let log = run.log.iter();
        let told = log.filter(|line| line.contains("reminder") || line.contains("invitation"));
        told.cloned().collect::<Vec<_>>()
    };

    // It asked nobody: what is past is passed over, and what is ahead goes out.
    let mut run = begin(BOOK, delivers());
    run.until(2 * DAY);
    assert_eq!(run.moves(&asks("1d, 3d"), &Map::new()), "moves");
    run.until(4 * DAY);
    assert_eq!(again(&run), ["3d01h reminder after/4320 first email"]);
    let state = String::from_utf8(run.state.to_json()).unwrap();
    assert_eq!(state.matches("\"passed\"").count(), 2, "{state}");

    // It asked by other lengths.
    let mut run = begin(&asks("1d"), delivers());
    run.until(2 * DAY);
    assert_eq!(run.moves(&asks("1d, 36h, 3d"), &Map::new()), "moves");
    run.until(4 * DAY);
    assert_eq!(again(&run), ["3d01h reminder after/4320 first email"]);

    // One that is due when somebody is moved goes out, by what the other version says.
    let mut run = begin(&asks("1d"), delivers());
    run.now += DAY + HOUR;
    assert_eq!(run.moves(&asks("1d, 3d"), &Map::new()), "moves");
    run.until(2 * DAY);
    assert_eq!(again(&run), ["1d02h reminder after/1440 first email"]);

    // The other asks nobody any more.
    let mut run = begin(&asks("1d"), delivers());
    run.until(HOUR * 2);
    assert_eq!(run.moves(BOOK, &Map::new()), "moves");
    run.until(4 * DAY);
    assert_eq!(again(&run), [""; 0]);
    let state: serde_json::Value = serde_json::from_slice(&run.state.to_json()).unwrap();
    assert!(state["t"][0]["a"]["booking"]["i"].is_null(), "{state}");

    // Who is asked at another time is asked anew.
    let mut run = begin(&asks("1d"), delivers());
    run.until(HOUR * 2);
    let later = with(&asks("1d"), &[("10d at 10:00", "11d at 10:00")]);
    assert_eq!(run.moves(&later, &Map::new()), "moves");
    assert_eq!(again(&run), ["0d02h invitation first email"]);

    let mut run = begin(&asks("1d"), None);
    let waits = "waits: a message about a visit is on its way";
    assert_eq!(run.moves(&asks("2d"), &Map::new()), waits);

    // A move is taken back, and the lengths are those of before.
    let mut run = begin(&asks("2d"), delivers());
    run.until(DAY);
    assert_eq!(run.moves(&asks("3d"), &Map::new()), "moves");
    run.back(&asks("2d")).unwrap();
    run.until(4 * DAY);
    assert_eq!(again(&run), ["2d01h reminder after/2880 first email"]);
}

#[test]
fn rules_keep_what_they_have_seen_where_they_look_for_the_same() {
    let rules = "  watch: {title: Weight, observe: {code: 29463-7, unit: kg, rises_more_than: 4, within: 3d}, then: weight}
  weight: {title: Weight, task: {title: Weight, reason: Because., role: coordinator, due: 9d}, next: end, overdue: end}
  first: {title: Pause, wait: {for: 30d}, next: end}
";
    for (change, fires) in [
        (("rises_more_than: 4", "rises_more_than: 2"), true),
        (("rises_more_than: 4", "falls_more_than: 2"), false),
        (("29463-7", "8302-2"), false),
    ] {
        let mut run = begin(rules, None);
        run.until(DAY);
        run.weight("o1", 20, 80.0);
        let other = with(rules, &[change]).replace(
            "unit: kg, rises_more_than: 4",
            "unit: cm, rises_more_than: 4",
        );
        assert_eq!(run.moves(&other, &Map::new()), "moves");
        run.until(DAY + 2 * HOUR);
        run.weight("o2", 26, 83.0);
        assert_eq!(
            run.log.iter().any(|line| line.ends_with("task weight")),
            fires,
            "{change:?}"
        );
    }
}

#[test]
fn a_move_is_taken_back_while_nothing_has_happened_since() {
    let other = with(ASK, &[("text: Well?", "text: Really well?")]);
    // What waits goes on as it was, and what goes along stays.
    let mut run = begin(ASK, Some(Outcome::Delivered));
    run.until(3 * DAY);
    let before = run.state.clone();
    run.moves(&other, &Map::new());
    run.until(4 * DAY);
    run.back(ASK).unwrap();
    assert_eq!(run.state.at(), before.at());
    assert_eq!(
        timers(&run.definition, &run.state),
        timers(&run.definition, &before)
    );
    assert_eq!(
        run.back(ASK).unwrap_err(),
        "nothing was skipped, retried or jumped that could be taken back"
    );

    // A task that was called off is begun anew, and the one that was opened is called off.
    let role = with(WAIT, &[("role: coordinator", "role: clinician")]);
    let mut run = begin(WAIT, None);
    run.until(3 * DAY + 2 * HOUR);
    run.moves(&role, &Map::new());
    run.back(WAIT).unwrap();
    assert_eq!(
        run.log(),
        ["3d02h close i/3/task cancelled", "3d02h task call"]
    );
    assert_eq!(run.state.at(), ["call"]);

    // What has happened since is not undone.
    let shorter = with(WAIT, &[("for: 3d", "for: 2d")]);
    let mut run = begin(WAIT, None);
    run.until(DAY);
    run.moves(&shorter, &Map::new());
    run.until(2 * DAY + 2 * HOUR);
    assert_eq!(
        run.back(WAIT).unwrap_err(),
        "the journey has moved on since"
    );
}

#[test]
fn a_measurement_since_a_move_is_something_that_has_happened() {
    let rules = "  watch: {title: Weight, observe: {code: 29463-7, unit: kg, rises_more_than: 4, within: 3d}, then: weight}
  weight: {title: Weight, task: {title: Weight, reason: Because., role: coordinator, due: 9d}, next: end, overdue: end}
  first: {title: Pause, wait: {for: 30d}, next: end}
";
    let other = with(rules, &[("rises_more_than: 4", "rises_more_than: 3")]);
    let mut run = begin(rules, None);
    run.until(DAY);
    run.moves(&other, &Map::new());
    run.weight("o1", 20, 80.0);
    assert_eq!(
        run.back(rules).unwrap_err(),
        "the journey has moved on since"
    );
}

const PART: &str = "  first:
    title: Part
    journey: {begins: wound-care, up_to: 10d}
    next: end
    not_begun: end
    time_over: end
";

#[test]
fn a_part_goes_along_only_where_the_new_version_begins_the_same() {
    for (change, log) in [
        (vec![("up_to: 10d", "up_to: 5d")], vec![]),
        (vec![("title: Part", "title: A part")], vec![]),
        (
            vec![("begins: wound-care", "begins: titration")],
            vec!["0d12h close i/1/journey cancelled", "0d12h task first"],
        ),
    ] {
        let mut run = begin(PART, None);
        run.until(DAY / 2);
        assert_eq!(run.moves(&with(PART, &change), &Map::new()), "moves");
        assert_eq!(run.log(), log, "{change:?}");
    }
}

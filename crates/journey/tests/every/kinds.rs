//! A small journey for each kind of step.

use super::{Act, Part, Play, Said, Wrong, visited};
use crate::world::{DAY, HOUR, Mail};
use std::collections::BTreeSet;
use trust::{Action, Role};

const PARTNERS: &str = "[[partner]]
name = 'rides'
title = 'Rides'
base = 'https://rides.example.org'
contract = 'baa'
until = '2099-12-31'
data = ['identity', 'contact']
purposes = ['TREAT']
";

/// When something is done.
const ROUNDS: &[u64] = &[0, HOUR, DAY, 2 * DAY, 5 * DAY, 20 * DAY];

struct Case {
    /// The kind, with a name behind a hyphen where there are several of it; and the step of it.
    kind: &'static str,
    step: &'static str,
    steps: &'static str,
    part: Part,
}

/// What follows the others: work, which is done when the journey's longest time is over.
const WORK: &str = "  work:
    title: Work
    task: {title: Work, reason: Something was done., role: coordinator, due: 3d}
    next: end
    overdue: {role: clinician, priority: urgent}
";

/// Each begins with its own class of stay, in round 0.
static CASES: &[Case] = &[
    Case {
        kind: "send",
        step: "first",
        steps: "  first:
    title: A message
    send: {title: Hello, words: \"Hello {patient.given|there}.\", channels: [email, portal]}
    next: work
    on_failure: work
",
        part: &[(0, Act::Stay("send")), (2, Act::Work("Work", None))],
    },
    Case {
        kind: "ask",
        step: "first",
        steps: "  first:
    title: A form
    ask:
      title: How are you?
      words: Please answer.
      questions: [{id: well, text: Are you well?, type: yes-no}]
      remind_after: 12h
      give_up_after: 4d
    answered: work
    no_answer: work
",
        part: &[
            (0, Act::Stay("ask")),
            (
                2,
                Act::Answer("How are you?", &[("well", Said::Yes(false))]),
            ),
            (3, Act::Work("Work", None)),
        ],
    },
    Case {
        kind: "ask-reply",
        step: "first",
        steps: "  first:
    title: A question
    ask:
      title: Are you at home?
      words: Please answer.
      questions: [{id: home, text: Are you at home?, type: yes-no}]
      channels: [sms, email, portal]
      sms: {words: 'Are you at home? Reply YES or NO, or use {link}'}
      reply: {again: Please reply YES or NO.}
      give_up_after: 4d
    answered: work
    no_answer: work
    unclear: read
  read:
    title: Read it
    task: {title: Read it, reason: A reply came., role: coordinator, due: 9d}
    next: end
    overdue: {role: clinician, priority: urgent}
",
        part: &[
            (0, Act::Stay("ask-reply")),
            (1, Act::Write("Are you at home?", "Please call me")),
            (
                2,
                Act::Answer("Are you at home?", &[("home", Said::Yes(false))]),
            ),
            (3, Act::Work("Read it", None)),
            (4, Act::Work("Work", None)),
        ],
    },
    Case {
        kind: "wait",
        step: "first",
        steps: "  first:
    title: Both
    wait:
      all_of:
        - for: 3h
        - {event: Procedure, where: status = 'completed'}
      at_most: 4d
    next: until
    not_come: end
  until:
    title: A time
    wait: {until: discharge + 2d at 09:00, past_due: run}
    next: work
",
        part: &[
            (0, Act::Stay("wait")),
            (1, Act::Operate),
            (3, Act::Work("Work", None)),
        ],
    },
    Case {
        kind: "observe",
        step: "watch",
        steps: "  first: {title: A pause, wait: {for: 10d}, next: end}
  watch:
    title: Weight
    observe: {code: 29463-7, unit: kg, rises_more_than: 2, within: 3d, quiet_for: 24h}
    then: work
",
        part: &[
            (0, Act::Stay("observe")),
            (1, Act::Weigh(80.0)),
            (2, Act::Weigh(83.0)),
            (3, Act::Work("Work", None)),
        ],
    },
    Case {
        kind: "goal",
        step: "aim",
        steps: "  first: {title: A pause, wait: {for: 2d}, next: reached}
  aim:
    title: An aim
    goal: {event: Procedure, where: status = 'completed', journey: goes_on}
  reached:
    title: Reached?
    branch:
      cases: [{when: aim.reached = true, label: reached, next: work}]
      otherwise: end
",
        part: &[
            (0, Act::Stay("goal")),
            (2, Act::Operate),
            (4, Act::Work("Work", None)),
        ],
    },
    Case {
        kind: "branch",
        step: "which",
        steps: "  first:
    title: A form
    ask:
      title: How much?
      words: Please answer.
      questions: [{id: level, text: How much?, type: whole-number}]
      give_up_after: 4d
      channels: [portal]
    answered: which
    no_answer: end
  which:
    title: How much?
    branch:
      cases: [{when: first.level > 5, label: much, next: work}]
      otherwise: end
",
        part: &[
            (0, Act::Stay("branch")),
            (1, Act::Answer("How much?", &[("level", Said::Number(7))])),
            (2, Act::Work("Work", None)),
        ],
    },
    Case {
        kind: "check",
        step: "first",
        steps: "  first:
    title: A look
    check: {has: Condition, where: clinicalStatus.coding.exists(code = 'active')}
    yes: work
    no: end
",
        part: &[(0, Act::Stay("check")), (1, Act::Work("Work", None))],
    },
    Case {
        kind: "split",
        step: "first",
        steps: "  first:
    title: An experiment
    split:
      arms:
        - {id: one, weight: 50, next: one}
        - {id: other, weight: 50, next: other}
  one:
    title: One
    send: {title: One, words: One., channels: [email]}
    next: work
    on_failure: work
  other:
    title: Other
    send: {title: Other, words: Other., channels: [email]}
    next: work
    on_failure: work
",
        part: &[(0, Act::Stay("split")), (2, Act::Work("Work", None))],
    },
    Case {
        kind: "task",
        step: "first",
        steps: "  first:
    title: Work for two
    task:
      title: Look at it
      reason: Somebody has to.
      role: coordinator
      due: 4d
      ladder: [{after: 3h, role: clinician, priority: urgent}]
      outcomes: {well: end}
    next: work
    overdue: {role: clinician, priority: stat}
",
        part: &[
            (0, Act::Stay("task")),
            (2, Act::Work("Look at it", Some("other"))),
            (3, Act::Work("Work", None)),
        ],
    },
    Case {
        kind: "book",
        step: "first",
        steps: "  first:
    title: A visit
    book:
      title: A visit
      time: discharge + 5d
      minutes: 30
      book_by: discharge + 3d
      invite: {words: 'Please come on {visit.day}.', again: [12h, 2d]}
      remind: [2d]
    next: work
    not_booked: end
",
        part: &[
            (0, Act::Stay("book")),
            (2, Act::Visit("booked")),
            (4, Act::Visit("fulfilled")),
        ],
    },
    Case {
        kind: "call",
        step: "first",
        steps: "  first:
    title: A call
    call:
      partner: rides
      path: /bookings
      values: {name: {patient: family}}
      learns: {booking: {path: booking.id, class: contact}}
      up_to: 3d
    next: booked
    failed: work
    timed_out: work
  booked:
    title: Booked?
    branch:
      cases: [{when: first.booking = 'B-1', label: booked, next: work}]
      otherwise: end
",
        part: &[
            (0, Act::Stay("call")),
            (1, Act::Partner("B-1")),
            (2, Act::Work("Work", None)),
        ],
    },
    Case {
        kind: "parallel",
        step: "first",
        steps: "  first:
    title: Side by side
    parallel: {branches: [pause, letter]}
    next: work
  pause: {title: A pause, wait: {for: 1d}, next: end}
  letter:
    title: A letter
    send: {title: Hello, words: Hello., channels: [email]}
    next: end
    on_failure: end
",
        part: &[(0, Act::Stay("parallel")), (4, Act::Work("Work", None))],
    },
    Case {
        kind: "repeat",
        step: "first",
        steps: "  first:
    title: Three times
    repeat: {body: letter, times: 3, pause: 12h}
    next: work
  letter:
    title: A letter
    send: {title: Hello, words: Hello., channels: [email]}
    next: end
    on_failure: end
",
        part: &[(0, Act::Stay("repeat")), (3, Act::Work("Work", None))],
    },
    Case {
        kind: "journey",
        step: "first",
        steps: "  first:
    title: Another journey
    journey: {begins: every-part, up_to: 4d, endings: {completed: work}}
    next: end
    not_begun: end
    time_over: end
",
        part: &[
            (0, Act::Stay("journey")),
            (2, Act::Work("Part", None)),
            (3, Act::Work("Work", None)),
        ],
    },
    Case {
        kind: "exit",
        step: "last",
        steps: "  first: {title: A pause, wait: {for: 1d}, next: [work, later]}
  later: {title: A pause, wait: {for: 1d}, next: last}
  last:
    title: The end
    exit: {reason: All is done, open_tasks: close}
",
        part: &[(0, Act::Stay("exit"))],
    },
    Case {
        kind: "send-window",
        step: "first",
        steps: "  first:
    title: A message
    send:
      title: Hello
      words: Hello.
      channels: [email, portal]
      expires: 2d
      window: {from: '08:00', until: '10:00'}
    next: work
    on_failure: end
",
        part: &[(0, Act::Stay("send-window")), (2, Act::Work("Work", None))],
    },
    Case {
        kind: "wait-first",
        step: "first",
        steps: "  first:
    title: One of them
    wait:
      first_of:
        - {for: 4d, next: end}
        - {event: Procedure, where: status = 'completed', next: work}
",
        part: &[
            (0, Act::Stay("wait-first")),
            (2, Act::Operate),
            (3, Act::Work("Work", None)),
        ],
    },
    Case {
        kind: "observe-mean",
        step: "watch",
        steps: "  first: {title: A pause, wait: {for: 10d}, next: end}
  watch:
    title: Heavy on average
    observe: {code: 29463-7, unit: kg, mean_above: 80, within: 3d}
    then: work
",
        part: &[
            (0, Act::Stay("observe-mean")),
            (1, Act::Weigh(79.0)),
            (2, Act::Weigh(83.0)),
            (3, Act::Work("Work", None)),
        ],
    },
    Case {
        kind: "observe-above",
        step: "watch",
        steps: "  first: {title: A pause, wait: {for: 10d}, next: end}
  watch:
    title: Heavy
    observe: {code: 29463-7, unit: kg, above: 82}
    then: work
",
        part: &[
            (0, Act::Stay("observe-above")),
            (1, Act::Weigh(79.0)),
            (2, Act::Weigh(83.0)),
            (3, Act::Work("Work", None)),
        ],
    },
    Case {
        kind: "observe-silent",
        step: "watch",
        steps: "  first: {title: A pause, wait: {for: 10d}, next: end}
  watch:
    title: No weight
    observe: {code: 29463-7, none_for: 3d, until: discharge + 6d}
    then: work
",
        part: &[
            (0, Act::Stay("observe-silent")),
            (1, Act::Weigh(79.0)),
            (4, Act::Work("Work", None)),
        ],
    },
    Case {
        kind: "check-consent",
        step: "first",
        steps: "  first:
    title: May we?
    check: {consent: TREAT}
    yes: work
    no: end
",
        part: &[(0, Act::Stay("check-consent")), (1, Act::Work("Work", None))],
    },
    Case {
        kind: "check-insured",
        step: "first",
        steps: "  first:
    title: Insured?
    check: {coverage: eligible}
    yes: end
    no: work
",
        part: &[(0, Act::Stay("check-insured")), (1, Act::Work("Work", None))],
    },
    Case {
        kind: "book-remind",
        step: "first",
        steps: "  first:
    title: A visit
    book: {title: A visit, remind: [1d, 2h], time: discharge + 5d, minutes: 30, book_by: discharge + 3d}
    next: work
    not_booked: end
",
        part: &[
            (0, Act::Stay("book-remind")),
            (1, Act::Visit("booked")),
            (4, Act::Visit("fulfilled")),
        ],
    },
    Case {
        kind: "wait-segment",
        step: "first",
        steps: "  first:
    title: Until an operation is known
    wait: {segment: {entered: operated}, at_most: 4d}
    next: work
    not_come: end
",
        part: &[
            (0, Act::Stay("wait-segment")),
            (2, Act::Operate),
            (3, Act::Work("Work", None)),
        ],
    },
    Case {
        kind: "task-eyes",
        step: "first",
        steps: "  first:
    title: Work for two persons
    task:
      title: Change the dose
      reason: Two have to look.
      role: clinician
      due: 4d
      four_eyes: true
    next: work
    not_confirmed: end
    overdue: {role: clinician, priority: stat}
",
        part: &[
            (0, Act::Stay("task-eyes")),
            (1, Act::Sign("Change the dose", "anna")),
            (2, Act::Sign("Confirm: Change the dose", "berta")),
            (3, Act::Work("Work", None)),
        ],
    },
    Case {
        kind: "book-confirm",
        step: "first",
        steps: "  first:
    title: A visit
    book:
      title: A visit
      time: discharge + 5d
      minutes: 30
      book_by: discharge + 3d
      confirm:
        words: 'It is on {visit.day}.'
        called_off: 'It is not on {visit.day}.'
        calendar: true
    next: work
    not_booked: work
",
        part: &[
            (0, Act::Stay("book-confirm")),
            (1, Act::Visit("booked")),
            (2, Act::Visit("cancelled")),
            (3, Act::Work("Work", None)),
        ],
    },
    Case {
        kind: "call-back",
        step: "first",
        steps: "  first:
    title: Order a bed
    call:
      partner: rides
      path: /beds
      values: {name: {patient: family}}
      learns: {booking: {path: booking.id, class: contact}}
      up_to: 3d
      compensate: {path: /off, values: {booking: {learnt: first.booking}}}
    next: ride
    failed: end
    timed_out: end
  ride:
    title: Order a ride
    call:
      partner: rides
      path: /bookings
      values: {bed: {learnt: first.booking}}
      up_to: 1d
      takes_back: [first]
    next: end
    failed: work
    timed_out: work
",
        part: &[
            (0, Act::Stay("call-back")),
            (1, Act::Partner("B-2")),
            (4, Act::Work("Work", None)),
        ],
    },
];

impl Case {
    fn of_kind(&self) -> &'static str {
        self.kind.split('-').next().unwrap_or(self.kind)
    }
}

const SEGMENTS: &str = "segments:
  operated:
    title: Was operated
    all: [{has: Procedure, where: status = 'completed'}]
";

const EXITS: &str = "exits:
  death: {title: Died, event: Patient, where: deceased.exists() and deceased != false}
  consent: {title: Consent withdrawn, consent: withdrawn}
";

fn source(case: &Case) -> String {
    let kind = case.kind;
    let segments = if case.kind == "wait-segment" {
        SEGMENTS
    } else {
        ""
    };
    format!(
        "name: every-{kind}
title: A journey for {kind}
owner: Team
purpose: TREAT
at_most: 15d
{segments}entry:
  event: Encounter
  where: status = 'finished' and class.code = '{kind}'
  anchors: {{discharge: period.end}}
  within: 3d
  per: event
{EXITS}start: first
steps:
{}{WORK}",
        case.steps
    )
}

fn part() -> String {
    format!(
        "name: every-part
title: A part
owner: Team
purpose: TREAT
at_most: 15d
entry: {{request: {{by: [system]}}, per: event}}
{EXITS}start: part
steps:
  part:
    title: Part
    task: {{title: Part, reason: Something was done., role: coordinator, due: 3d}}
    next: end
    overdue: {{role: clinician, priority: urgent}}
"
    )
}

fn play() -> Play {
    let journeys = CASES.iter().map(source);
    Play {
        journeys: std::iter::once(part()).chain(journeys).collect(),
        partners: Some(PARTNERS),
        mail: Mail::Delivers,
        parts: CASES.iter().map(|case| case.part).collect(),
        rounds: ROUNDS,
    }
}

/// The kinds of the language, as its schema has them.
fn kinds() -> BTreeSet<String> {
    let schema = journey::schema();
    let kinds = schema["$defs"]["step"]["oneOf"].as_array().unwrap();
    let kinds: BTreeSet<String> = kinds
        .iter()
        .map(|kind| kind["title"].as_str().unwrap().to_owned())
        .collect();
    assert!(kinds.len() >= 15, "{kinds:?}");
    kinds
}

#[tokio::test]
async fn each_kind_has_a_case_that_goes_through_it() {
    let cases: BTreeSet<String> = (CASES.iter())
        .map(|case| case.of_kind().to_owned())
        .collect();
    assert_eq!(
        cases,
        kinds(),
        "a kind of step without a case here, or the other way"
    );
    let play = play();
    let (world, patients) = play.world().await;
    let told = play.go_on(&world, &patients, 0).await;
    let visited = visited(&told);
    let permit = world.staff(Role::Squad, Action::Observe).await;
    for (case, told) in CASES.iter().zip(&told) {
        let name = format!("every-{}", case.kind);
        let graph = world.journeys.graph(&permit, &name, None).await.unwrap();
        let node = graph.nodes.iter().find(|node| node.id == case.step);
        assert_eq!(node.unwrap().kind, case.of_kind());
        let came = visited.contains(&format!("{name}/{}", case.step));
        assert!(came, "{}: {told:#?}", case.kind);
        // Everybody has an end that isn't that their longest time was over.
        let ended = told
            .iter()
            .find(|line| line.contains(&format!(" {name} ends")));
        let wanted = if case.kind == "exit" {
            "All is done"
        } else if case.of_kind() == "book" && case.kind != "book-confirm" {
            // Its work is left until the longest time is over.
            "time"
        } else {
            "Completed"
        };
        assert!(ended.unwrap().contains(wanted), "{}: {told:#?}", case.kind);
    }
    // Comparing says something: what happens to one patient isn't what happens to another.
    let distinct: BTreeSet<&Vec<String>> = told.iter().collect();
    assert_eq!(distinct.len(), CASES.len() + 1);
}

#[tokio::test]
async fn a_process_that_ends_before_the_moves_loses_no_step_of_any_kind() {
    Box::pin(play().with(Wrong::Unread)).await;
}

#[tokio::test]
async fn a_process_that_ends_after_the_moves_repeats_no_step_of_any_kind() {
    Box::pin(play().with(Wrong::Moved)).await;
}

#[tokio::test]
async fn commits_that_fail_lose_no_step_of_any_kind() {
    Box::pin(play().with(Wrong::Cut)).await;
}

#[tokio::test]
async fn moves_that_break_off_lose_no_step_of_any_kind() {
    Box::pin(play().with(Wrong::Broken)).await;
}

#[tokio::test]
async fn what_is_told_twice_leads_no_step_of_any_kind_twice() {
    Box::pin(play().with(Wrong::Again)).await;
}

#[tokio::test]
async fn a_clock_that_jumps_an_hour_ahead_and_back_loses_and_doubles_no_step_of_any_kind() {
    Box::pin(play().with(Wrong::Jump)).await;
}

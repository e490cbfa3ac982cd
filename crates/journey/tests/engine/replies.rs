//! What a patient writes back to a form's text message that is no answer: somebody reads it, and the form stays open.

use crate::kinds::{begin, compiled};
use crate::run::{DAY, HOUR, Run};
use journey::{Act, Fact};
use serde_json::json;

/// The form is the first place.
const FORM: &str = "i/1/task";

fn steps(late: &str) -> String {
    format!(
        "  first:
    title: At home
    ask:
      title: At home?
      words: Please answer.
      questions: [{{id: home, text: Are you at home?, type: yes-no}}]
      channels: [sms, portal]
      sms: {{words: 'Are you at home? Reply YES or NO, or use {{link}}'}}
      reply: {{again: Please reply YES or NO.}}
      give_up_after: 2d
    answered: end
    no_answer: rest
    unclear: read
{late}  rest:
    title: Rest
    wait: {{for: 9d}}
    next: end
  read:
    title: Read it
    task: {{title: Read it, reason: A reply came., role: coordinator, due: 30d}}
    next: end
    overdue: {{role: clinician, priority: urgent}}
"
    )
}

fn reply(run: &mut Run, task: &str) -> bool {
    let task = task.to_owned();
    run.event("Communication/c", Fact::Reply { task }, vec![])
}

fn begun(late: &str) -> Run {
    begin(&compiled(&steps(late)), "p")
}

fn read(run: &Run) -> usize {
    let log = run.log();
    log.iter()
        .filter(|line| line.ends_with("task read"))
        .count()
}

#[test]
fn somebody_reads_it_and_the_answer_still_counts() {
    let mut run = begun("");
    run.until(HOUR);
    assert!(reply(&mut run, FORM));
    assert_eq!(read(&run), 1, "{:?}", run.log());
    assert_eq!(run.state.at(), ["first", "read"]);
    // Each is read.
    assert!(reply(&mut run, FORM));
    assert_eq!(read(&run), 2);
    // Of another form it is nothing.
    assert!(!reply(&mut run, "i/7/task"));
    run.until(3 * HOUR).answer(FORM, json!({"home": true}));
    assert_eq!(run.state.at(), ["read"]);
    // What was written while the form was open, and comes when it is closed, is read all the same.
    assert!(reply(&mut run, FORM));
    assert_eq!(read(&run), 3);
    assert!(!reply(&mut run, "i/7/task"));
    let stored = serde_json::from_slice::<serde_json::Value>(&run.state.to_json()).unwrap();
    assert_eq!(
        stored["f"], 2,
        "programs that don't know it set the patient aside"
    );
}

#[test]
fn what_comes_when_it_was_given_up_on_is_read() {
    for (late, counts) in [("", 0), ("    late_answer: end\n", 1)] {
        let mut run = begun(late);
        run.until(3 * DAY);
        assert_eq!(run.state.at(), ["rest"]);
        reply(&mut run, FORM);
        assert_eq!(read(&run), 1, "{late}");
        // And the late answer still counts after it.
        run.answer(FORM, json!({"home": true}));
        let closed = run
            .log()
            .iter()
            .filter(|line| line.contains("close i/1/task done"))
            .count();
        assert_eq!(closed, counts, "{late}");
    }
}

/// While the journey is held nobody is given work, and afterwards they are.
#[test]
fn it_waits_while_the_journey_is_held() {
    let mut run = begun("");
    run.hand(Act::Pause).unwrap();
    reply(&mut run, FORM);
    assert_eq!(read(&run), 0);
    run.hand(Act::Resume).unwrap();
    assert_eq!(read(&run), 1);
}

use super::*;
use proptest::prelude::*;
use serde_json::json;

/// A state that uses every member, with the form that it says it has.
fn whole(format: u8) -> Value {
    json!({
        "f": format, "j": "heart", "v": 3, "p": "p1", "k": "e1", "s": 1000, "a": {"discharge": 900}, "n": 9, "l": 17,
        "t": [
            {"n": 1, "s": "welcome", "t": 1000, "a": {"sending": {"c": 0, "u": 2000}}},
            {"n": 2, "s": "symptoms", "p": 7, "t": 1000, "a": {"asking": {"i": 1, "r": 0}}},
            {"n": 3, "s": "day_two", "t": 1000, "a": "waiting"},
            {"n": 4, "s": "call", "t": 1000, "a": {"working": {"h": true}}},
            {"n": 5, "s": "visit", "t": 1000, "a": {"booking": {"p": {"s": 1, "e": 2}, "b": {"s": 3, "e": 4}}}},
            {"n": 7, "s": "follow_up", "t": 1000, "a": {"joining": {"l": 2}}},
        ],
        "w": {"weight_watch": {"r": [{"i": "o1", "t": 950, "v": 80_000_000}], "b": 1, "a": 2, "q": 3, "p": true}},
        "x": {"symptoms": {"breathless": true}}, "z": [{"n": 2, "s": "symptoms"}],
        "e": {"t": 5000, "c": "completed", "w": "Completed"}, "c": 6000,
        "h": [{"t": 1000, "s": "welcome", "w": {"left": {"l": "delivered", "f": 1000, "o": ["symptoms"]}}, "y": "timer", "r": "Task/1"}],
        "m": 64,
    })
}

fn read(state: &Value) -> Result<State, StateError> {
    State::from_json(&serde_json::to_vec(state).unwrap())
}

fn written(state: &State) -> Value {
    serde_json::from_slice(&state.to_json()).unwrap()
}

#[test]
fn what_is_known_is_written_in_the_oldest_form_that_has_it() {
    assert_eq!(written(&read(&whole(FIRST)).unwrap()), whole(FIRST));
    assert_eq!(written(&read(&whole(SECOND)).unwrap()), whole(FIRST));
}

/// What later programs added, each where it stands in a state.
fn additions() -> Vec<(&'static str, Value)> {
    let entry = |what: Value| json!([{"t": 1000, "s": "trial", "w": what}]);
    vec![
        ("b", json!({"first-question": "early"})),
        (
            "h",
            entry(json!({"drawn": {"x": "first-question", "a": "early"}})),
        ),
        ("h", entry(json!({"round": {"i": 3, "o": ["pain"]}}))),
        ("g", json!({"walks": 1500})),
        (
            "h",
            entry(json!({"hand": {"a": "paused", "r": "In hospital", "b": "Carla"}})),
        ),
        (
            "d",
            json!({"t": 1500, "q": [{"s": "visit", "p": 7}], "m": [{"n": 2, "k": "reminder", "c": 1}], "e": [[0, 2]]}),
        ),
        (
            "u",
            json!({"b": 1, "a": 3, "t": [{"n": 3, "s": "day_two", "t": 1000, "a": "waiting"}], "x": {"symptoms": {}}, "q": [{"s": "visit"}]}),
        ),
        ("i", json!("batch")),
        ("q", json!({"4": {"v": 2, "s": "symptoms"}})),
        (
            "u",
            json!({"b": 1, "a": 3, "v": {"v": 2, "l": 17, "w": {"weight_watch": {"b": 0, "a": 2, "q": 0, "p": false}}, "z": [{"n": 2, "s": "symptoms"}], "g": {"walks": 1500}, "q": {"2": {"v": 1, "s": "asks"}}}}),
        ),
        (
            "h",
            entry(json!({"moved": {"f": 1, "o": 2, "r": "Shorter", "b": "Carla"}})),
        ),
        (
            "r",
            json!([{"n": 2, "k": "message", "c": 0, "t": 1500, "u": 1900, "y": "quiet"}]),
        ),
        (
            "h",
            entry(json!({"held": {"c": "email", "k": "message", "u": 1500, "y": "capped"}})),
        ),
        ("h", entry(json!("reached"))),
        ("o", json!(2)),
        (
            "t",
            json!([{"n": 1, "s": "daily", "t": 1000, "a": {"repeating": {"l": 1, "i": 3}}}]),
        ),
        (
            "t",
            json!([{"n": 1, "s": "daily", "t": 1000, "a": {"pausing": {"i": 3, "u": 2000}}}]),
        ),
        ("h", entry(json!("firstdone"))),
        ("h", entry(json!("notcounted"))),
        (
            "t",
            json!([{"n": 1, "s": "call", "t": 1000, "a": {"working": {"h": false, "r": 2}}}]),
        ),
        (
            "t",
            json!([{"n": 1, "s": "call", "t": 1000, "a": {"working": {"h": false, "y": {"a": 1, "f": "a1", "o": "reached"}}}}]),
        ),
        (
            "t",
            json!([{"n": 1, "s": "both", "t": 1000, "a": {"gathering": {"c": [0, 2]}}}]),
        ),
        (
            "t",
            json!([{"n": 1, "s": "visit", "t": 1000, "a": {"booking": {"p": {"s": 1, "e": 2}, "b": {"s": 3, "e": 4}, "r": {"t": 1, "d": 900}}}}]),
        ),
        (
            "t",
            json!([{"n": 1, "s": "visit", "t": 1000, "a": {"booking": {"p": {"s": 1, "e": 2}, "b": {"s": 3, "e": 4}, "r": {"t": 2, "d": 900, "w": {"m": 10_080, "c": 1, "u": 950}}}}}]),
        ),
        (
            "t",
            json!([{"n": 1, "s": "visit", "t": 1000, "a": {"booking": {"p": {"s": 1, "e": 2}, "i": {"d": 900}}}}]),
        ),
        (
            "t",
            json!([{"n": 1, "s": "visit", "t": 1000, "a": {"booking": {"p": {"s": 1, "e": 2}, "i": {"d": 900, "w": {"m": 0, "c": 1, "u": 950}}}}}]),
        ),
        (
            "h",
            entry(json!({"sent": {"c": "email", "k": {"again": {"m": 4320}}}})),
        ),
        ("h", entry(json!({"passed": {"k": "invitation"}}))),
        ("h", entry(json!({"sent": {"c": "push", "k": "message"}}))),
        (
            "h",
            entry(json!({"undelivered": {"c": "push", "k": "message", "d": "no-address"}})),
        ),
        ("wy", json!([{"n": 2, "k": "message", "p": [1, 0, 2]}])),
        // A program of before text messages reads none of a patient who was sent one.
        ("h", entry(json!({"sent": {"c": "sms", "k": "message"}}))),
        (
            "h",
            entry(json!({"undelivered": {"c": "sms", "k": "message", "d": "expired"}})),
        ),
        (
            "h",
            entry(json!({"sent": {"c": "email", "k": {"ahead": {"t": 1, "m": 1440}}}})),
        ),
        (
            "h",
            entry(
                json!({"undelivered": {"c": "email", "k": {"ahead": {"t": 1, "m": 1440}}, "d": "expired"}}),
            ),
        ),
        (
            "h",
            entry(json!({"passed": {"k": {"ahead": {"t": 1, "m": 120}}}})),
        ),
    ]
}

/// What a program reads that is older than all additions, and turns down what it doesn't know.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "it is there to be read into")]
struct OlderState {
    f: u8,
    j: String,
    v: u32,
    p: String,
    k: String,
    s: u64,
    a: Value,
    n: u32,
    l: u64,
    t: Vec<OlderToken>,
    w: Value,
    x: Value,
    z: Value,
    e: Value,
    c: u64,
    h: Vec<OlderEntry>,
    m: u32,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "it is there to be read into")]
struct OlderToken {
    n: u32,
    s: String,
    p: Option<u32>,
    t: u64,
    a: OlderStand,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(dead_code, reason = "it is there to be read into")]
enum OlderStand {
    Sending(Value),
    Asking(Value),
    Waiting,
    Working(OlderWorking),
    Booking(OlderBooking),
    Joining(Value),
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "it is there to be read into")]
struct OlderBooking {
    p: Value,
    b: Option<Value>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "it is there to be read into")]
struct OlderWorking {
    h: bool,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "it is there to be read into")]
struct OlderEntry {
    t: u64,
    s: String,
    w: OlderWhat,
    y: Option<String>,
    r: Option<String>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(dead_code, reason = "it is there to be read into")]
enum OlderWhat {
    Started,
    Entered,
    Left(Value),
    Ended(Value),
}

#[test]
fn what_is_new_is_set_aside_by_older_programs() {
    let older = |state: &Value| serde_json::from_value::<OlderState>(state.clone());
    assert!(older(&whole(FIRST)).is_ok());
    for (member, value) in additions() {
        let mut state = whole(SECOND);
        state[member] = value;
        let stored = written(&read(&state).unwrap());
        assert_eq!(stored, state, "{member}");
        // The first programs go by the number, those after them by what they don't know.
        assert_eq!(stored["f"], json!(SECOND), "{member}");
        assert!(older(&stored).is_err(), "{member}");
        // The first form never has it.
        state["f"] = json!(FIRST);
        assert_eq!(read(&state), Err(StateError::Damaged), "{member}");
    }
}

#[test]
fn entries_that_moved_keep_the_form_that_they_need() {
    let mut state = read(&whole(FIRST)).unwrap();
    let drawn = || TrailEntry {
        at_ms: 1,
        step: "trial".into(),
        what: What::Drawn {
            experiment: "x".into(),
            arm: "a".into(),
        },
        why: String::new(),
        reference: None,
    };
    state.trail.insert(0, drawn());
    let old = state.trail[1].clone();
    state.trail.extend(std::iter::repeat_n(old, TRAIL_MAX));
    let (_, moved) = state.take_old_trail().unwrap();
    assert!(moved.contains(&drawn()) && !state.trail.contains(&drawn()));
    assert_eq!(written(&state)["f"], json!(SECOND));
}

#[test]
fn what_the_first_program_wrote_is_read() {
    let first = json!({
        "f": 1, "j": "heart", "v": 1, "p": "p1", "k": "e1", "s": 1000, "n": 1, "l": 0, "m": 0,
        "t": [{"n": 1, "s": "call", "t": 1000, "a": {"working": {"h": false}}}],
    });
    assert_eq!(written(&read(&first).unwrap()), first);
}

#[test]
fn what_is_unknown_is_refused_wherever_it_stands() {
    for object in [
        "",
        "/t/0",
        "/t/0/a/sending",
        "/t/1/a/asking",
        "/t/3/a/working",
        "/t/4/a/booking",
        "/t/4/a/booking/p",
        "/t/5/a/joining",
        "/w/weight_watch",
        "/w/weight_watch/r/0",
        "/z/0",
        "/e",
        "/h/0",
        "/h/0/w/left",
    ] {
        for (format, refused) in [
            (FIRST, StateError::Damaged),
            (SECOND, StateError::Newer(2)),
            (3, StateError::Format(3)),
        ] {
            let mut state = whole(format);
            state.pointer_mut(object).unwrap()["news"] = json!(true);
            assert_eq!(read(&state), Err(refused), "{object} in {format}");
        }
    }
    let mut state = whole(SECOND);
    state["t"][2]["a"] = json!("calling");
    assert_eq!(read(&state), Err(StateError::Newer(2)), "a new stand");
    state = whole(SECOND);
    state["h"][0]["w"] = json!("paused");
    assert_eq!(read(&state), Err(StateError::Newer(2)), "a new entry");
}

fn stand() -> impl Strategy<Value = Stand> {
    let slot =
        || (any::<u64>(), any::<u64>()).prop_map(|(start_ms, end_ms)| Slot { start_ms, end_ms });
    prop_oneof![
        (any::<u8>(), any::<u64>())
            .prop_map(|(channel, until_ms)| Stand::Sending { channel, until_ms }),
        (any::<u8>(), any::<Option<u8>>()).prop_map(|(invited_by, reminded_by)| Stand::Asking {
            invited_by,
            reminded_by
        }),
        Just(Stand::Waiting),
        any::<bool>().prop_map(|handed_over| Stand::Working {
            handed_over,
            rung: 0,
            eyes: None
        }),
        (slot(), prop::option::of(slot())).prop_map(|(proposed, booked)| Stand::Booking {
            proposed,
            booked,
            reminded: None,
            invited: None,
            told: None
        }),
        any::<u32>().prop_map(|left| Stand::Joining { left }),
    ]
}

fn token() -> impl Strategy<Value = Token> {
    (
        any::<u32>(),
        "[a-z_]{1,12}",
        any::<Option<u32>>(),
        any::<u64>(),
        stand(),
    )
        .prop_map(|(n, step, parent, since_ms, stand)| Token {
            n,
            step,
            parent,
            since_ms,
            stand,
        })
}

proptest! {
    #[test]
    fn a_state_comes_back_as_it_went(
        tokens in prop::collection::vec(token(), 0..6),
        anchors in prop::collection::btree_map("[a-z]{1,8}", any::<u64>(), 0..3),
        (next, last, consents_ms) in (any::<u32>(), any::<u64>(), any::<Option<u64>>()),
    ) {
        let state = State { tokens, anchors, next, last, consents_ms, ..read(&whole(FIRST)).unwrap() };
        prop_assert_eq!(written(&state)["f"].as_u64(), Some(u64::from(FIRST)));
        prop_assert_eq!(State::from_json(&state.to_json()), Ok(state));
    }
}

//! What was foreseen for those whom a batch is for, as marks: whoever asks for a batch asks for what they have seen,
//! and what has become another since is done to nobody.
//!
//! A mark is of what happens at once and whose work is called off, not of times: these move by themselves.

use super::{Many, Who};
use crate::books::Books;
use crate::definition::Definition;
use crate::engine::{Act, Context, Decision, EngineError};
use crate::hands::decided;
use crate::state::State;
use crate::{JourneyError, Journeys, words};
use std::collections::HashSet;
use trust::Permit;

/// Bytes of a mark: two of ten thousand are alike once in many thousand batches.
const MARK_BYTES: usize = 8;

/// A mark of these words.
pub(crate) fn mark<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let mut hasher = blake3::Hasher::new();
    for word in words {
        hasher.update(&(word.len() as u64).to_le_bytes());
        hasher.update(word.as_bytes());
    }
    let hash = hasher.finalize().to_hex();
    hash[..2 * MARK_BYTES].to_owned()
}

/// The mark of a decision: what it calls off, and what happens at once on the version that they are on then.
pub(crate) fn decision_mark(
    (from, to): (&Definition, &Definition),
    state: &State,
    decision: Decision,
    context: &Context<'_>,
) -> String {
    let stays = |n: u32| decision.state.tokens.iter().any(|token| token.n == n);
    let left = state.tokens.iter().filter(|token| !stays(token.n));
    let left = left.filter_map(|token| Some(from.step(&token.step)?.id.clone()));
    let mut said: Vec<String> = left.collect();
    let (_, at_once) = words::at_once(to, state, decision, context);
    for item in at_once {
        said.extend([item.step, item.what]);
    }
    mark(said.iter().map(String::as_str))
}

/// Characters of each in the mark of all.
const WORD_CHARS: usize = 7;
/// What they are of: they stand in forms as they are.
const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// The mark of who was foreseen otherwise, or wasn't foreseen: like nothing that may come of it.
const OTHERWISE: &str = "otherwise";

/// What stands for one of them in the mark of all.
fn word(instance: &str, foreseen: &str) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(instance.len() as u64).to_le_bytes());
    hasher.update(instance.as_bytes());
    hasher.update(foreseen.as_bytes());
    let hash = hasher.finalize();
    let letters = hash.as_bytes().iter().take(WORD_CHARS);
    letters
        .map(|byte| char::from(LETTERS[usize::from(byte % 64)]))
        .collect()
}

/// The mark of all: whom it is for, and what is foreseen for each. Two in many million are alike, and one of ten
/// thousand takes no more of a page than seven letters.
pub(crate) fn whole<'a>(each: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    each.into_iter()
        .map(|(instance, mark)| word(instance, mark))
        .collect()
}

/// Takes the marks from those for whom something else is foreseen than was seen, or who weren't there: they are left
/// as they are and listed. Who is on nobody's list any more is no reason to leave the others.
///
/// # Errors
/// `Cannot`, where nobody is left.
pub(crate) fn compare<'a>(
    seen: Option<&str>,
    instances: impl IntoIterator<Item = &'a str>,
    marks: &mut [String],
) -> Result<(), JourneyError> {
    let Some(seen) = seen else {
        return Ok(());
    };
    let seen: HashSet<&[u8]> = seen.as_bytes().chunks(WORD_CHARS).collect();
    let mut some = false;
    for (instance, mark) in instances.into_iter().zip(marks) {
        if seen.contains(word(instance, mark).as_bytes()) {
            some = true;
        } else {
            OTHERWISE.clone_into(mark);
        }
    }
    if some {
        return Ok(());
    }
    let why = "whom it is for, or what would come of it, has changed since you looked; look again";
    Err(JourneyError::Cannot(why.to_owned()))
}

impl Many {
    /// Whether what comes of it depends on more than whose journey it is: to hold, to let go on and to stop are the
    /// same for everybody.
    pub(super) fn has_marks(&self) -> bool {
        matches!(self, Self::Skip(_) | Self::Again | Self::Send(_))
    }
}

impl Journeys {
    /// The mark of what an act would do to one of them.
    pub(super) fn act_mark(
        &self,
        permit: &Permit,
        books: &Books,
        (who, many): (&Who, &Many),
        (instance, state): (&str, &State),
    ) -> Result<String, JourneyError> {
        let published = Self::published(books, &state.journey, Some(state.version))?;
        let definition = &published.definition;
        let ids = self.ids_of(permit, state, definition.version);
        let context = Context {
            now_ms: self.now_ms(),
            instance,
            ids: &ids,
            limited: false,
        };
        let act: Result<Option<Act>, EngineError> = many.act(who, state);
        let decision = act.and_then(|act| {
            let act = act.ok_or_else(|| EngineError::Cannot("no act".to_owned()))?;
            decided(definition, definition, state, &act, &context)
        });
        Ok(match decision {
            Ok(decision) => decision_mark((definition, definition), state, decision, &context),
            Err(error) => mark([error.to_string().as_str()]),
        })
    }

    /// The marks of all whom an act is for, in their order; none where everybody's is the same.
    pub(super) async fn act_marks(
        &self,
        permit: &Permit,
        who: &Who,
        many: &Many,
        states: &[(String, State)],
    ) -> Result<Vec<String>, JourneyError> {
        if !many.has_marks() {
            return Ok(Vec::new());
        }
        let books = self.books(permit.tenant()).await?;
        let mut marks = Vec::with_capacity(states.len());
        for (instance, state) in states {
            marks.push(self.act_mark(permit, &books, (who, many), (instance, state))?);
        }
        Ok(marks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_tell_words_and_their_order_apart() {
        let marks = [
            mark(["a", "b"]),
            mark(["b", "a"]),
            mark(["ab"]),
            mark(["a"]),
            mark([]),
        ];
        let mut all = marks.to_vec();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), marks.len(), "{marks:?}");
    }

    #[test]
    fn who_differs_has_no_mark_and_the_others_keep_theirs() {
        let seen = whole([("one", "x"), ("two", "x"), ("gone", "x")]);
        assert_eq!(seen.len(), 3 * WORD_CHARS);
        let compared = |seen: Option<&str>, each: &[(&str, &str)]| {
            let mut marks: Vec<String> = each.iter().map(|(_, mark)| (*mark).to_owned()).collect();
            let instances = each.iter().map(|(instance, _)| *instance);
            compare(seen, instances, &mut marks).map(|()| marks)
        };
        let each = [("one", "x"), ("two", "y"), ("new", "x")];
        let found = compared(Some(&seen), &each).unwrap();
        assert_eq!(found, ["x", OTHERWISE, OTHERWISE]);
        assert_eq!(compared(None, &each).unwrap(), ["x", "y", "x"]);
        for nobody in ["", "x", "0123456789abcdef"] {
            assert!(compared(Some(nobody), &each).is_err(), "{nobody}");
        }
        assert!(compared(Some(&seen), &each[1..]).is_err());
    }
}

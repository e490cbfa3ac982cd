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

/// The mark of all: whom it is for, and what is foreseen for each.
pub(crate) fn whole<'a>(each: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    mark(
        each.into_iter()
            .flat_map(|(instance, mark)| [instance, mark]),
    )
}

/// Whether what was seen is what there is now.
pub(crate) fn compare(seen: Option<&str>, now: &str) -> Result<(), JourneyError> {
    if seen.is_some_and(|seen| seen != now) {
        let why =
            "whom it is for, or what would come of it, has changed since you looked; look again";
        return Err(JourneyError::Cannot(why.to_owned()));
    }
    Ok(())
}

impl Many {
    /// Whether what comes of it depends on more than whose journey it is: to hold, to let go on and to stop are the
    /// same for everybody.
    fn has_marks(&self) -> bool {
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
            whole([("a", "b")]),
            whole([("a", "")]),
        ];
        assert_eq!(marks[0], marks[5]);
        let mut all = marks.to_vec();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 6, "{marks:?}");
        assert!(compare(None, "x").is_ok() && compare(Some("x"), "x").is_ok());
        assert!(compare(Some("x"), "y").is_err());
    }
}

//! What evaluating may cost. Expressions come from callers too, and a short one can ask for more than any machine has.

use super::PathError;
use super::eval::{Evaluation, Items};
use super::navigate::{children, extensions};
use super::value::{It, Node};
use serde_json::Value;
use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashSet;

/// Steps of an evaluation that nobody gives another budget: some seconds. Two nested filters of 200 rows each take
/// about a tenth of it.
const STEPS: u64 = 10_000_000;
/// Bytes of text that such an evaluation makes.
const BYTES: u64 = 64 << 20;
/// Steps that an item of a result counts for, as it takes memory.
const STEPS_OF_ITEM: u64 = 4;
/// Bytes that a text takes besides what is in it.
const BYTES_OF_TEXT: usize = 32;
/// Bytes of text that are looked through in one step.
const BYTES_OF_STEP: usize = 64;
/// Steps that it takes to make a regular expression of a text, which is up to some milliseconds.
pub(super) const STEPS_OF_PATTERN: usize = 2_000;

/// What is left of what one or several evaluations may cost.
#[derive(Debug, Clone)]
pub struct Budget {
    steps: Cell<u64>,
    bytes: Cell<u64>,
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(STEPS, BYTES)
    }
}

impl Budget {
    /// So many steps, and so many bytes of what is made.
    #[must_use]
    pub fn new(steps: u64, bytes: u64) -> Self {
        Self {
            steps: Cell::new(steps),
            bytes: Cell::new(bytes),
        }
    }

    /// Takes steps.
    ///
    /// # Errors
    /// [`PathError`] that says it is too costly; from then on everything is.
    pub fn take_steps(&self, position: usize, steps: usize) -> Result<(), PathError> {
        take(&self.steps, position, steps)
    }

    /// Takes bytes of what is made.
    ///
    /// # Errors
    /// As [`Budget::take_steps`].
    pub fn take_bytes(&self, position: usize, bytes: usize) -> Result<(), PathError> {
        take(&self.bytes, position, bytes)
    }
}

fn take(left: &Cell<u64>, position: usize, amount: usize) -> Result<(), PathError> {
    let amount = u64::try_from(amount).unwrap_or(u64::MAX);
    if let Some(rest) = left.get().checked_sub(amount) {
        left.set(rest);
        return Ok(());
    }
    left.set(0);
    Err(PathError {
        position,
        message: "evaluating this is too costly".to_owned(),
        is_too_costly: true,
    })
}

/// The bytes of a text that an item holds itself, none where it lies in the resource.
fn own_bytes(item: &It<'_>) -> usize {
    match item {
        It::Str(Cow::Owned(text)) | It::Qty(_, Cow::Owned(text)) => text.len() + BYTES_OF_TEXT,
        _ => 0,
    }
}

/// How many steps it takes to look at all of an item.
fn size(item: &It<'_>) -> usize {
    fn of(value: &Value) -> usize {
        match value {
            Value::String(text) => 1 + text.len() / BYTES_OF_STEP,
            Value::Array(items) => items.iter().map(of).sum::<usize>() + 1,
            Value::Object(members) => members.values().map(of).sum::<usize>() + 1,
            _ => 1,
        }
    }
    match item {
        It::Node(node) => of(node.value),
        It::Str(text) => 1 + text.len() / BYTES_OF_STEP,
        _ => 1,
    }
}

impl<'a> Evaluation<'_, 'a> {
    pub(super) fn steps(&self, position: usize, steps: usize) -> Result<(), PathError> {
        self.budget.take_steps(position, steps)
    }

    pub(super) fn bytes(&self, position: usize, bytes: usize) -> Result<(), PathError> {
        self.budget.take_bytes(position, bytes)
    }

    /// Takes what items cost that came of a step.
    pub(super) fn items(&self, position: usize, items: &[It<'a>]) -> Result<(), PathError> {
        self.steps(
            position,
            1 + items.len() * usize::try_from(STEPS_OF_ITEM).unwrap_or(1),
        )?;
        match items.iter().map(own_bytes).sum() {
            0 => Ok(()),
            bytes => self.bytes(position, bytes),
        }
    }

    /// Takes what it costs to copy an item.
    pub(super) fn copied(&self, position: usize, item: &It<'a>) -> Result<(), PathError> {
        match own_bytes(item) {
            0 => Ok(()),
            bytes => self.bytes(position, bytes),
        }
    }

    /// Takes what it costs to look through the texts among items.
    pub(super) fn looked_through(
        &self,
        position: usize,
        items: &[It<'a>],
    ) -> Result<(), PathError> {
        for item in items {
            let length = match item {
                It::Str(text) => text.len(),
                It::Node(Node {
                    value: Value::String(text),
                    ..
                }) => text.len(),
                _ => 0,
            };
            self.steps(position, length / BYTES_OF_STEP)?;
        }
        Ok(())
    }

    /// Takes what it costs to compare each of some items with each of as many as `others`.
    pub(super) fn compared(
        &self,
        position: usize,
        items: &[It<'a>],
        others: usize,
    ) -> Result<(), PathError> {
        for item in items {
            self.steps(position, size(item).saturating_mul(others))?;
        }
        Ok(())
    }

    /// What an item is known by among others.
    fn key(&self, position: usize, item: &It<'a>) -> Result<String, PathError> {
        self.steps(position, size(item))?;
        Ok(item.key())
    }

    pub(super) fn keys(
        &self,
        position: usize,
        items: &[It<'a>],
    ) -> Result<HashSet<String>, PathError> {
        items.iter().map(|item| self.key(position, item)).collect()
    }

    /// The items of which none with the same key was seen before.
    pub(super) fn unseen(
        &self,
        position: usize,
        items: impl IntoIterator<Item = It<'a>>,
        seen: &mut HashSet<String>,
    ) -> Result<Items<'a>, PathError> {
        let mut kept = Vec::new();
        for item in items {
            if seen.insert(self.key(position, &item)?) {
                kept.push(item);
            }
        }
        Ok(kept)
    }

    pub(super) fn distinct(
        &self,
        position: usize,
        items: impl IntoIterator<Item = It<'a>>,
    ) -> Result<Items<'a>, PathError> {
        self.unseen(position, items, &mut HashSet::new())
    }

    pub(super) fn children(
        &self,
        position: usize,
        items: &[It<'a>],
    ) -> Result<Items<'a>, PathError> {
        self.each(position, items, |item| children(std::slice::from_ref(item)))
    }

    pub(super) fn extensions(
        &self,
        position: usize,
        items: &[It<'a>],
        url: &str,
    ) -> Result<Items<'a>, PathError> {
        self.each(position, items, |item| extensions(item, url))
    }

    fn each(
        &self,
        position: usize,
        items: &[It<'a>],
        below: impl Fn(&It<'a>) -> Items<'a>,
    ) -> Result<Items<'a>, PathError> {
        let mut found = Vec::new();
        for item in items {
            let of_item = below(item);
            self.items(position, &of_item)?;
            found.extend(of_item);
        }
        Ok(found)
    }
}

//! How many looks ahead at many patients are worked on at once: each reads up to ten thousand states, and leads the
//! engine along each of them.

use crate::JourneyError;
use crate::books::Books;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// Looks at once, for one organisation.
pub(crate) const LOOKS_MAX: usize = 2;
/// Looks at once, for all of them.
static OF_ALL: Semaphore = Semaphore::const_new(4);
/// How long to wait before asking again, in seconds: most looks take less.
pub const BUSY_RETRY_S: u64 = 5;

/// A place to look ahead; it is free again when this is dropped, which a reader who goes away does, too.
#[derive(Debug)]
pub(crate) struct Place {
    _own: OwnedSemaphorePermit,
    _of_all: SemaphorePermit<'static>,
}

fn take(own: &Arc<Semaphore>, of_all: &'static Semaphore) -> Result<Place, JourneyError> {
    let busy = |of_all| move |_| JourneyError::Busy { of_all };
    Ok(Place {
        _own: own.clone().try_acquire_owned().map_err(busy(false))?,
        _of_all: of_all.try_acquire().map_err(busy(true))?,
    })
}

impl Books {
    /// A place for one more look, if there is one. Nobody waits for it: who waited would hold a connection, and look at
    /// what has changed by then.
    pub(crate) fn place(&self) -> Result<Place, JourneyError> {
        take(&self.looking, &OF_ALL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_looks_are_worked_on_and_the_next_is_told_to_come_again() {
        static ALL: Semaphore = Semaphore::const_new(3);
        let house = || Arc::new(Semaphore::new(LOOKS_MAX));
        let (ours, theirs) = (house(), house());
        let busy = |own, of_all: bool| match take(own, &ALL) {
            Err(JourneyError::Busy { of_all: told }) => assert_eq!(told, of_all),
            other => panic!("{other:?}"),
        };
        let first = take(&ours, &ALL).unwrap();
        let _second = take(&ours, &ALL).unwrap();
        // Another organisation has places of its own, as long as there are any.
        busy(&ours, false);
        let third = take(&theirs, &ALL).unwrap();
        busy(&theirs, true);
        drop(third);
        drop(first);
        let _again = take(&ours, &ALL).unwrap();
        busy(&ours, false);
        let _theirs = take(&theirs, &ALL).unwrap();
        busy(&theirs, true);
        // Who was refused for want of a place of all has kept none of its own.
        assert_eq!(theirs.available_permits(), LOOKS_MAX - 1);
    }
}

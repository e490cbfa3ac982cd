//! What takes a processor for a while, done beside the threads that answer requests.

use crate::books::Books;
use crate::definition::Definition;
use crate::{Finding, JourneyError, Journeys, check};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Checks that are worked on at once, for one organisation.
pub(crate) const CHECKS_MAX: usize = 1;
/// Checks that are worked on at once, for all of them.
static OF_ALL: Semaphore = Semaphore::const_new(2);

/// Does work beside, when there is a place for it, of the organisation's and then of all. Who waits for one keeps no
/// thread, and what has begun keeps its place until it has ended, whether or not anybody waits for it still.
async fn done<T: Send + 'static>(
    own: Arc<Semaphore>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JourneyError> {
    let over = || JourneyError::Broken("a check has no place any more".to_owned());
    let place = own.acquire_owned().await.map_err(|_| over())?;
    let of_all = OF_ALL.acquire().await.map_err(|_| over())?;
    let work = tokio::task::spawn_blocking(move || {
        let done = work();
        drop((place, of_all));
        done
    });
    let broke_off = |_| JourneyError::Broken("a check broke off".to_owned());
    work.await.map_err(broke_off)
}

impl Journeys {
    /// Has the checker work beside the threads that answer requests.
    pub(crate) async fn beside<T: Send + 'static>(
        &self,
        books: &Arc<Books>,
        work: impl FnOnce(&Self, &Books) -> T + Send + 'static,
    ) -> Result<T, JourneyError> {
        let (journeys, of) = (self.clone(), books.clone());
        done(books.checking.clone(), move || work(&journeys, &of)).await
    }

    /// What the checker makes of a file.
    pub(crate) async fn compiled(
        &self,
        books: &Arc<Books>,
        source: &str,
    ) -> Result<(Option<Definition>, Vec<Finding>), JourneyError> {
        let source = source.to_owned();
        self.beside(books, move |_, _| check::compile(&source))
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// There is one thread that answers requests. Were the work done on it, nobody would ever tell it to end.
    #[tokio::test]
    async fn others_are_answered_while_something_is_checked() {
        let own = || Arc::new(Semaphore::new(CHECKS_MAX));
        let (end, ended) = mpsc::channel::<()>();
        let (say, began) = tokio::sync::oneshot::channel();
        let (first, second) = (own(), own());
        let work = done(first.clone(), move || {
            say.send(()).unwrap();
            ended.recv().unwrap();
            1
        });
        let other = async {
            began.await.unwrap();
            // A second check of the same organisation waits, one of another doesn't.
            assert_eq!(first.available_permits(), 0);
            let theirs = done(second, || 2).await.unwrap();
            end.send(()).unwrap();
            theirs
        };
        let (ours, theirs) = tokio::join!(work, other);
        assert_eq!((ours.unwrap(), theirs), (1, 2));
        assert_eq!(first.available_permits(), CHECKS_MAX);
        // A fault in it is an error, and takes no place for good.
        let of = first.clone();
        let fault = done(first.clone(), move || assert!(of.is_closed(), "a fault"));
        assert!(matches!(fault.await, Err(JourneyError::Broken(_))));
        assert_eq!(first.available_permits(), CHECKS_MAX);
    }
}

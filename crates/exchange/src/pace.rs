//! How much a provider gets in a second. Real time, because it is about a provider and not about care.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Gives out turns, evenly.
#[derive(Debug)]
pub(crate) struct Pace {
    each: Duration,
    next: Mutex<Option<Instant>>,
}

impl Pace {
    pub(crate) fn new(per_second: u32) -> Self {
        Self {
            each: Duration::from_secs(1) / per_second.max(1),
            next: Mutex::new(None),
        }
    }

    /// Waits for a turn. One that is given and not used is lost: what was refused meanwhile costs a moment.
    pub(crate) async fn turn(&self) {
        let at = {
            let now = Instant::now();
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let at = next.map_or(now, |next| next.max(now));
            *next = Some(at + self.each);
            at
        };
        sleep_until(at).await;
    }

    /// Puts those off that follow, because one took so many turns more.
    pub(crate) fn spend(&self, more: u32) {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        *next = next.map(|next| next + self.each * more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn turns_are_given_evenly_and_long_texts_take_several() {
        let pace = Pace::new(10);
        let began = Instant::now();
        let since = || began.elapsed().as_millis();
        pace.turn().await;
        assert_eq!(since(), 0);
        pace.turn().await;
        assert!((100..105).contains(&since()), "{}", since());
        pace.spend(2);
        pace.turn().await;
        assert!((400..405).contains(&since()), "{}", since());
        tokio::time::sleep(Duration::from_secs(5)).await;
        let before = since();
        pace.turn().await;
        assert_eq!(since(), before, "turns that nobody took are not saved up");
    }
}

//! How much a provider gets in a second: messages, or segments of texts. Real time, because it is about a provider and not
//! about care.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
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

/// How many providers have a pace of their own. Browsers have a handful of push services.
const PROVIDERS_MAX: usize = 64;

/// Turns of several providers, each at its own pace.
#[derive(Debug)]
pub(crate) struct Paces {
    per_second: Option<u32>,
    of: Mutex<HashMap<String, Arc<Pace>>>,
}

impl Paces {
    /// As many a second for each; without a limit there are no turns.
    pub(crate) fn new(per_second: Option<u32>) -> Self {
        Self {
            per_second,
            of: Mutex::default(),
        }
    }

    /// The turns of one provider. Beyond so many as nobody has, those that come later share one pace, because somebody
    /// may have made them up.
    pub(crate) fn of(&self, provider: &str) -> Option<Arc<Pace>> {
        let per_second = self.per_second?;
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = of.contains_key(provider) || of.len() < PROVIDERS_MAX;
        let pace = of.entry(if is_known { provider } else { "" }.to_owned());
        Some(Arc::clone(
            pace.or_insert_with(|| Arc::new(Pace::new(per_second))),
        ))
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

    #[tokio::test(start_paused = true)]
    async fn each_provider_has_turns_of_its_own() {
        let paces = Paces::new(Some(10));
        let turn = async |provider: &str| paces.of(provider).expect("a pace").turn().await;
        let began = Instant::now();
        turn("a").await;
        turn("b").await;
        assert_eq!(began.elapsed().as_millis(), 0);
        turn("a").await;
        assert!((100..105).contains(&began.elapsed().as_millis()));
        for made_up in 0..1_000 {
            paces.of(&made_up.to_string());
        }
        let known = paces.of.lock().expect("no panic").len();
        assert_eq!(known, PROVIDERS_MAX + 1, "and one that they share");
        assert!(Paces::new(None).of("a").is_none(), "there is no limit");
    }
}

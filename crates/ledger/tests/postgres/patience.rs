//! Waiting for what has to come soon.

use std::time::Duration;

use tokio::time::{sleep, timeout};

/// For how long there are looks, if each of them takes no time.
const ALL: Duration = Duration::from_secs(60);

/// How long a test goes on looking. Looks are counted, and not the clock: a machine that stands still for half a
/// minute takes one look away.
pub(crate) struct Patience {
    left: u32,
    pause: Duration,
}

impl Patience {
    pub(crate) fn new() -> Self {
        Self::every(Duration::from_millis(20))
    }

    /// With longer pauses, where a look costs much.
    pub(crate) fn every(pause: Duration) -> Self {
        let left = ALL.as_millis() / pause.as_millis();
        let left = u32::try_from(left).expect("pauses of a millisecond or more");
        Self { left, pause }
    }

    /// Waits a little before the next look.
    ///
    /// # Panics
    /// With these words when there were enough looks.
    pub(crate) async fn wait(&mut self, what: &str) {
        self.spend(what);
        sleep(self.pause).await;
    }

    fn spend(&mut self, what: &str) {
        assert!(self.left > 0, "{what}");
        self.left -= 1;
    }
}

/// Looks until it holds.
///
/// # Panics
/// If it does not come to hold.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    found(what, async || holds().await.then_some(())).await;
}

/// Looks until there is something.
///
/// # Panics
/// If nothing comes.
pub(crate) async fn found<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let mut patience = Patience::new();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        patience.wait(&format!("not in time: {what}")).await;
    }
}

/// What something comes to that has to end by itself.
///
/// # Panics
/// If it does not end.
pub(crate) async fn in_time<T>(what: &str, ends: impl Future<Output = T>) -> T {
    let mut ends = std::pin::pin!(ends);
    let mut patience = Patience::new();
    loop {
        match timeout(patience.pause, &mut ends).await {
            Ok(end) => return end,
            Err(_) => patience.spend(what),
        }
    }
}

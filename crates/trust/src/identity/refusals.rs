//! Refused tries: all are counted, and recorded in the audit at a bounded rate. Whoever may try
//! without end, with names that nobody has or into a lock-out, must not fill the store by it.
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Identity;
use super::documents::{AttemptsDocument, OF_NAMES};
use crate::TrustError;
use crate::audit::{Outcome, Record};

/// Records of one sort and subject that may come in a row.
const RECORDS_IN_A_ROW: u64 = 20;
/// Afterwards one comes this often: 2,880 a day, about three megabytes.
const RECORD_EVERY_MS: u64 = 30_000;
/// Sorts and subjects remembered; beyond, subjects of a sort share one.
const SUBJECTS_MAX: usize = 10_000;
/// Names of nobody whose failures are remembered, and as many passkeys, apart from them. At four passwords hashed at once, this is more
/// than an hour of guessing.
const NAMES_MAX: usize = 100_000;

/// What a stranger says to have, where nobody has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stranger {
    Name,
    Passkey,
}

/// Why a try was refused; the label of the metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Why {
    Password,
    Code,
    Passkey,
    BirthDate,
    LockedOut,
    Link,
    Ticket,
    Token,
    Assertion,
    Scope,
    Grant,
    Provider,
}

impl Why {
    fn name(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Code => "code",
            Self::Passkey => "passkey",
            Self::BirthDate => "birth-date",
            Self::LockedOut => "locked-out",
            Self::Link => "link",
            Self::Ticket => "ticket",
            Self::Token => "token",
            Self::Assertion => "assertion",
            Self::Scope => "scope",
            Self::Grant => "grant",
            Self::Provider => "provider",
        }
    }
    /// Counts a refusal.
    pub(super) fn count(self) {
        metrics::counter!("trust_sign_ins_refused_total", "why" => self.name()).increment(1);
    }
}

/// How many more records may come, and what was left out.
#[derive(Debug, Clone, Copy)]
struct Budget {
    left: u64,
    filled_ms: u64,
    unrecorded: u64,
}

impl Budget {
    fn fill(&mut self, now_ms: u64) {
        let more = now_ms.saturating_sub(self.filled_ms) / RECORD_EVERY_MS;
        self.left = self.left.saturating_add(more).min(RECORDS_IN_A_ROW);
        self.filled_ms += more * RECORD_EVERY_MS;
    }
    fn is_forgettable(&mut self, now_ms: u64) -> bool {
        self.fill(now_ms);
        self.left == RECORDS_IN_A_ROW && self.unrecorded == 0
    }
}

/// What memory knows of refused tries.
#[derive(Default)]
pub(super) struct Refusals {
    budgets: Mutex<HashMap<(Why, String), Budget>>,
    /// Failures of user names that nobody has.
    names: Mutex<HashMap<String, AttemptsDocument>>,
    /// Failures of passkeys that nobody has.
    passkeys: Mutex<HashMap<String, AttemptsDocument>>,
    /// How long the last record took to be durable, microseconds.
    recording_us: AtomicU64,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Refusals {
    /// Whether a refusal may be recorded; then, how many before it were not. `subject` is empty for
    /// strangers.
    fn ask(&self, why: Why, subject: &str, now_ms: u64) -> Option<u64> {
        let mut budgets = locked(&self.budgets);
        let mut key = (why, subject.to_owned());
        if budgets.len() >= SUBJECTS_MAX && !budgets.contains_key(&key) {
            budgets.retain(|_, budget| !budget.is_forgettable(now_ms));
            if budgets.len() >= SUBJECTS_MAX {
                key.1.clear();
            }
        }
        let budget = budgets.entry(key).or_insert(Budget {
            left: RECORDS_IN_A_ROW,
            filled_ms: now_ms,
            unrecorded: 0,
        });
        budget.fill(now_ms);
        if budget.left == 0 {
            budget.unrecorded += 1;
            return None;
        }
        budget.left -= 1;
        Some(std::mem::take(&mut budget.unrecorded))
    }

    fn strangers(&self, stranger: Stranger) -> MutexGuard<'_, HashMap<String, AttemptsDocument>> {
        match stranger {
            Stranger::Name => locked(&self.names),
            Stranger::Passkey => locked(&self.passkeys),
        }
    }

    pub(super) fn of_nobody(&self, stranger: Stranger, id: &str) -> AttemptsDocument {
        self.strangers(stranger)
            .get(id)
            .cloned()
            .unwrap_or_default()
    }

    /// Remembers the failures of what nobody has. When there are too many, those that are
    /// over go first, then those that have no wait to lose.
    pub(super) fn keep_of_nobody(
        &self,
        stranger: Stranger,
        id: &str,
        attempts: AttemptsDocument,
        now_ms: u64,
    ) {
        let mut names = self.strangers(stranger);
        if names.len() >= NAMES_MAX && !names.contains_key(id) {
            names.retain(|_, attempts| attempts.current(OF_NAMES, now_ms) > 0);
        }
        if names.len() >= NAMES_MAX && !names.contains_key(id) {
            names.retain(|_, attempts| attempts.wait_ms(OF_NAMES, now_ms) > 0);
        }
        if names.len() < NAMES_MAX || names.contains_key(id) {
            names.insert(id.to_owned(), attempts);
        }
    }

    /// Forgets what is over.
    pub(super) fn sweep(&self, now_ms: u64) {
        for stranger in [Stranger::Name, Stranger::Passkey] {
            let mut kept = self.strangers(stranger);
            kept.retain(|_, attempts| attempts.current(OF_NAMES, now_ms) > 0);
        }
        locked(&self.budgets).retain(|_, budget| !budget.is_forgettable(now_ms));
    }

    /// Notes how long a record of a failure took.
    pub(super) fn took(&self, since: Instant) {
        let us = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.recording_us.store(us, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(super) fn names_of_nobody(&self) -> usize {
        locked(&self.names).len()
    }
}

impl Identity {
    /// Counts a refusal, and records it unless there were too many of its sort. `subject` is what is
    /// known of whom it concerns (account, link, client), empty for strangers.
    ///
    /// A refusal that isn't recorded is answered as late as one that is: the time must not tell
    /// whether there is such an account.
    pub(super) async fn refused(
        &self,
        why: Why,
        subject: &str,
        mut record: Record<'_>,
        words: &str,
    ) -> Result<(), TrustError> {
        why.count();
        let refusals = &self.inner.refusals;
        let Some(unrecorded) = refusals.ask(why, subject, self.now_ms()) else {
            let us = refusals.recording_us.load(Ordering::Relaxed);
            tokio::time::sleep(Duration::from_micros(us)).await;
            return Ok(());
        };
        let note = match unrecorded {
            0 => words.to_owned(),
            more => format!("{words}; {more} more like it were not recorded"),
        };
        record.outcome = Outcome::Refused;
        record.note = Some(&note);
        let began = Instant::now();
        match self.inner.auditor.commit(&record).await {
            // A tenant that isn't here has no audit either.
            Ok(_) | Err(ledger::LedgerError::UnknownTenant(_)) => {}
            Err(error) => return Err(error.into()),
        }
        refusals.took(began);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_one_sort_and_subject_are_bounded_and_say_what_is_missing() {
        let refusals = Refusals::default();
        let recorded = |subject: &str, times: u64, now_ms: u64| {
            (0..times)
                .filter_map(|_| refusals.ask(Why::Password, subject, now_ms))
                .collect::<Vec<_>>()
        };
        assert_eq!(recorded("", 1_000, 0), [0; 20]);
        assert_eq!(recorded("a", 3, 0), [0; 3], "another subject");
        assert_eq!(refusals.ask(Why::Code, "", 0), Some(0), "another sort");
        assert!(recorded("", 1, 29_999).is_empty());
        assert_eq!(recorded("", 10, 30_000), [981]);
        assert_eq!(recorded("", 1, 60_000), [9]);
        // A long quiet fills the budget up, and no further.
        assert_eq!(recorded("", 100, 86_400_000).len(), 20);
    }

    #[test]
    fn memory_is_bounded() {
        let refusals = Refusals::default();
        for subject in 0..SUBJECTS_MAX + 50 {
            assert!(
                refusals
                    .ask(Why::LockedOut, &subject.to_string(), 0)
                    .is_some()
                    || subject >= SUBJECTS_MAX
            );
        }
        assert!(locked(&refusals.budgets).len() <= SUBJECTS_MAX + 1);
        refusals.sweep(86_400_000);
        assert_eq!(
            locked(&refusals.budgets).len(),
            1,
            "what was left out is told yet"
        );

        let failed = |failures| AttemptsDocument {
            failures,
            last_ms: 0,
        };
        refusals.keep_of_nobody(Stranger::Name, "waits", failed(9), 0);
        for name in 0..NAMES_MAX + 50 {
            refusals.keep_of_nobody(Stranger::Name, &name.to_string(), failed(1), 0);
        }
        assert!(refusals.names_of_nobody() <= NAMES_MAX);
        assert_eq!(refusals.of_nobody(Stranger::Name, "waits").failures, 9);
    }

    #[test]
    fn passkeys_that_nobody_has_push_out_no_names() {
        let refusals = Refusals::default();
        let failed = |failures| AttemptsDocument {
            failures,
            last_ms: 0,
        };
        refusals.keep_of_nobody(Stranger::Name, "tried", failed(4), 0);
        for passkey in 0..NAMES_MAX + 50 {
            refusals.keep_of_nobody(Stranger::Passkey, &passkey.to_string(), failed(1), 0);
        }
        assert!(locked(&refusals.passkeys).len() <= NAMES_MAX);
        assert_eq!(refusals.of_nobody(Stranger::Name, "tried").failures, 4);
    }
}

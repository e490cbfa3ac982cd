//! What a rule pack asks of how a server is set up: floors that no configuration goes below.
use serde::Deserialize;

/// The floors of a rule pack, each with the paragraph that it rests on. One that isn't there asks for nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Security {
    /// Sign-in at identity providers.
    pub second_factor: Option<SecondFactorFloor>,
    /// What goes over a network is encrypted.
    pub encrypted: Option<Floor>,
    /// How long sessions last.
    pub sessions: Option<SessionFloor>,
    /// How old the newest backup may be.
    pub backups: Option<BackupFloor>,
    /// The root key doesn't lie with what it opens.
    pub keys_apart: Option<Floor>,
}

/// A floor without a figure.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Floor {
    /// The paragraph that it rests on.
    pub under: String,
}

/// Which ways to sign in at a provider don't stand for two factors, whatever is configured.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecondFactorFloor {
    /// The paragraph that it rests on.
    pub under: String,
    /// Methods (`amr`, RFC 8176) that are one factor or none.
    pub not_alone: Vec<String>,
}

/// How long sessions last at most, seconds.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionFloor {
    /// The paragraph that it rests on.
    pub under: String,
    /// Without a request.
    pub idle_s: u64,
    /// In any case.
    pub absolute_s: u64,
    /// How old a second factor may be for something sensitive.
    pub step_up_s: u64,
}

/// How old the newest backup may be.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupFloor {
    /// The paragraph that it rests on.
    pub under: String,
    /// Hours.
    pub hours: u64,
}

impl Security {
    /// Whether it asks for nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// These floors over those of the pack that is built upon: whichever is stricter holds, figure by figure, so
    /// that no pack can lower what it builds upon.
    pub(super) fn over(self, base: Self) -> Self {
        Self {
            second_factor: stricter(self.second_factor, base.second_factor, |mut own, base| {
                let more = base.not_alone.into_iter();
                let more: Vec<_> = more.filter(|one| !own.not_alone.contains(one)).collect();
                own.not_alone.extend(more);
                own
            }),
            encrypted: self.encrypted.or(base.encrypted),
            sessions: stricter(self.sessions, base.sessions, |own, base| SessionFloor {
                under: own.under,
                idle_s: own.idle_s.min(base.idle_s),
                absolute_s: own.absolute_s.min(base.absolute_s),
                step_up_s: own.step_up_s.min(base.step_up_s),
            }),
            backups: stricter(self.backups, base.backups, |own, base| BackupFloor {
                under: own.under,
                hours: own.hours.min(base.hours),
            }),
            keys_apart: self.keys_apart.or(base.keys_apart),
        }
    }

    /// What is wrong with the figures, in words.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        let sessions = self.sessions.as_ref();
        if sessions.is_some_and(|floor| floor.idle_s == 0 || floor.absolute_s == 0) {
            return Err(
                "[security.sessions] lets no session last: idle_s and absolute_s are at least 1",
            );
        }
        if self.backups.as_ref().is_some_and(|floor| floor.hours == 0) {
            return Err("[security.backups] lets no backup be old enough: hours is at least 1");
        }
        Ok(())
    }
}

fn stricter<T>(own: Option<T>, base: Option<T>, both: impl Fn(T, T) -> T) -> Option<T> {
    match (own, base) {
        (Some(own), Some(base)) => Some(both(own, base)),
        (own, base) => own.or(base),
    }
}

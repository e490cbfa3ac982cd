//! Gauges of what all houses have together. Each house has its own; under one name they would be those of
//! whoever was measured last. So counts are added up, and where one of several is not as it should be the gauge
//! says so.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use exchange::BreakerStanding;

use crate::houses::House;

/// A gauge that has labels.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Labelled {
    /// A policy set, by its hash: whether it is in force anywhere.
    PolicySet(String),
    /// A search parameter of one's own: whether it is complete everywhere.
    Parameter(String),
    /// Patients in a version of a journey.
    Journey(String, u32, &'static str),
    /// How the breaker of a channel and who is on its other side stands: 0 is closed, 1 half open, 2 open. Of several
    /// houses that of the worst.
    Breaker(&'static str, String),
}

impl Labelled {
    #[allow(
        clippy::cast_precision_loss,
        reason = "gauges are floating-point numbers"
    )]
    fn show(&self, value: u64) {
        let gauge = match self {
            Self::PolicySet(set) => metrics::gauge!("cairn_policy_set", "set" => set.clone()),
            Self::Parameter(name) => {
                metrics::gauge!("cairn_search_parameter_complete", "parameter" => name.clone())
            }
            Self::Breaker(channel, provider) => {
                metrics::gauge!("cairn_breaker_state", "channel" => *channel, "provider" => provider.clone())
            }
            Self::Journey(name, version, state) => {
                metrics::gauge!("journey_instances", "journey" => name.clone(), "version" => version.to_string(), "state" => *state)
            }
        };
        gauge.set(value as f64);
    }
}

/// What the houses have together.
#[derive(Debug, Default)]
struct Together {
    labelled: BTreeMap<Labelled, u64>,
    dead_letters: u64,
    late: u64,
    unreadable_mail: u64,
    unreadable_sms: u64,
    unreadable_push: u64,
    unreadable_files: u64,
    sms_sessions_missing: u64,
    is_refused: bool,
}

/// The gauges of all houses, which remember those that they have shown: what is no more is nought.
#[derive(Default)]
pub(crate) struct Gauges(Mutex<BTreeMap<Labelled, u64>>);

impl Gauges {
    /// Shows them as they are now.
    #[allow(
        clippy::cast_precision_loss,
        reason = "gauges are floating-point numbers"
    )]
    pub(super) fn show(&self, houses: &[Arc<House>]) {
        let mut all = Together::default();
        for house in houses {
            all.add(house);
        }
        metrics::gauge!("journey_dead_letters").set(all.dead_letters as f64);
        metrics::gauge!("journey_late_instances").set(all.late as f64);
        metrics::gauge!("mail_unreadable_entries").set(all.unreadable_mail as f64);
        metrics::gauge!("sms_unreadable_entries").set(all.unreadable_sms as f64);
        metrics::gauge!("push_unreadable_entries").set(all.unreadable_push as f64);
        metrics::gauge!("files_unreadable_entries").set(all.unreadable_files as f64);
        metrics::gauge!("sms_sessions_missing").set(all.sms_sessions_missing as f64);
        metrics::gauge!("cairn_policy_refused").set(f64::from(u8::from(all.is_refused)));
        let mut shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for value in shown.values_mut() {
            *value = 0;
        }
        shown.extend(all.labelled);
        for (gauge, value) in shown.iter() {
            gauge.show(*value);
        }
    }
}

impl Together {
    fn add(&mut self, house: &House) {
        let of = &house.contexts;
        let status = of.trust.policy_status();
        self.is_refused |= status.refused.is_some();
        self.labelled.insert(Labelled::PolicySet(status.set), 1);
        let mail = house.unreadable_mail.as_ref();
        self.unreadable_mail += mail.map_or(0, |count| count.load(Ordering::Relaxed));
        let sms = house.unreadable_sms.as_ref();
        self.unreadable_sms += sms.map_or(0, |count| count.load(Ordering::Relaxed));
        let files = house.unreadable_files.iter();
        let files = files.map(|count| count.load(Ordering::Relaxed));
        self.unreadable_files += files.sum::<u64>();
        let push = house.unreadable_push.as_ref();
        self.unreadable_push += push.map_or(0, |count| count.load(Ordering::Relaxed));
        self.sms_sessions_missing += u64::from(house.lacks_sms_session());
        for view in house.breakers.iter().flat_map(exchange::Breakers::now) {
            let all = Labelled::Breaker(view.channel, view.provider);
            let all = self.labelled.entry(all).or_default();
            *all = (*all).max(match view.standing {
                BreakerStanding::Closed => 0,
                BreakerStanding::HalfOpen => 1,
                BreakerStanding::Open => 2,
            });
        }
        for (name, is_complete) in house.indexed.all() {
            let all = self.labelled.entry(Labelled::Parameter(name)).or_insert(1);
            *all = (*all).min(u64::from(is_complete));
        }
        let Some(journeys) = of.journeys.figures(of.tenant) else {
            return;
        };
        self.dead_letters += journeys.dead_letters;
        self.late += journeys.late;
        for (name, version, state, count) in journeys.instances {
            let all = self.labelled.entry(Labelled::Journey(name, version, state));
            *all.or_default() += count;
        }
    }
}

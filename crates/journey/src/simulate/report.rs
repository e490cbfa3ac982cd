//! What a cohort did, for people and as JSON.

use super::Size;
use super::model::Model;
use super::tally::{Tally, hours, percentile};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Columns of a chart.
const COLUMNS: usize = 60;

/// What a simulation found.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Simulated {
    /// The journey's name.
    pub journey: String,
    /// Patients who started.
    pub patients: u32,
    /// Days.
    pub days: u32,
    /// The seed that gives the same again.
    pub seed: u64,
    /// What it rests on, in sentences. None of it is data.
    pub assumptions: Vec<String>,
    /// Starts by day.
    pub starts_by_day: Vec<u64>,
    /// Messages by channel and day.
    pub messages_by_day: BTreeMap<String, Vec<u64>>,
    /// Tasks for staff that were opened, by day.
    pub tasks_by_day: Vec<u64>,
    /// Forms that were opened.
    pub forms: u64,
    /// Visits that were proposed.
    pub visits: u64,
    /// Tasks that were overdue and handed over.
    pub handed_over: u64,
    /// Messages that a patient gets: mean, that of 95 in a hundred, most.
    pub messages_mean: f64,
    /// 95 in a hundred patients get no more messages.
    pub messages_p95: u32,
    /// The most that one patient gets.
    pub messages_max: u32,
    /// How many patients get so many messages.
    pub patients_by_messages: BTreeMap<u32, u64>,
    /// The work of each role.
    pub roles: Vec<RoleLoad>,
    /// How journeys ended, most frequent first.
    pub endings: Vec<Ending>,
    /// The journey's goals.
    pub goals: Vec<GoalReached>,
    /// Patients who are under way when the time is over.
    pub under_way: u64,
    /// What it costs, where unit costs are given.
    pub cost: Option<Cost>,
    /// Patients whom the engine refused to move, and why.
    pub refused: BTreeMap<String, u64>,
}

/// The work of one role.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct RoleLoad {
    /// The role.
    pub role: String,
    /// Hours in all.
    pub hours: f64,
    /// Hours a day on average.
    pub hours_a_day: f64,
    /// Hours on the busiest day.
    pub hours_max: f64,
    /// Hours that it has each day, where that is given.
    pub capacity: Option<f64>,
    /// Days on which that is not enough.
    pub days_over: usize,
}

/// How journeys ended.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Ending {
    /// The ending's code.
    pub code: String,
    /// Journeys.
    pub count: u64,
    /// Half of them ended within so many days.
    pub days_median: f64,
    /// 95 in a hundred ended within so many days.
    pub days_p95: f64,
}

/// How often a goal was reached.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct GoalReached {
    /// The goal's step.
    pub goal: String,
    /// Patients who reached it.
    pub count: u64,
    /// Their share of all who started.
    pub share: f64,
    /// Half of them reached it within so many days of the start.
    pub days_median: f64,
    /// 95 in a hundred reached it within so many days.
    pub days_p95: f64,
}

/// What it costs.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Cost {
    /// In what.
    pub currency: String,
    /// Messages.
    pub messages: f64,
    /// Work.
    pub work: f64,
    /// For each patient.
    pub per_patient: f64,
}

/// A figure of two simulations.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Beside {
    /// What it says.
    pub what: String,
    /// With this definition.
    pub this: f64,
    /// With the other.
    pub against: f64,
}

#[allow(clippy::cast_precision_loss, reason = "counts of a cohort are small")]
fn float(count: u64) -> f64 {
    count as f64
}

fn sum(days: &[u64]) -> u64 {
    days.iter().sum()
}

pub(super) fn report(model: &Model<'_>, tally: &Tally, size: Size) -> Simulated {
    let behaviour = model.behaviour;
    let messages_by_day: BTreeMap<String, Vec<u64>> = tally
        .messages
        .iter()
        .map(|(channel, days)| (channel.name().to_owned(), days.clone()))
        .collect();
    let sent: u64 = messages_by_day.values().map(|days| sum(days)).sum();
    let roles: Vec<RoleLoad> = tally
        .work
        .iter()
        .map(|(role, days)| {
            let role = model.roles.get(*role).cloned().unwrap_or_default();
            let capacity = behaviour.capacity.get(&role).copied();
            let all = hours(sum(days));
            RoleLoad {
                hours: all,
                hours_a_day: all / f64::from(size.days.max(1)),
                hours_max: hours(days.iter().copied().max().unwrap_or(0)),
                days_over: capacity.map_or(0, |capacity| {
                    days.iter().filter(|work| hours(**work) > capacity).count()
                }),
                capacity,
                role,
            }
        })
        .collect();
    let mut endings: Vec<Ending> = tally
        .endings
        .iter()
        .map(|(code, times)| Ending {
            code: code.clone(),
            count: times.values().sum(),
            days_median: percentile(times, 50).map_or(0.0, float) / 24.0,
            days_p95: percentile(times, 95).map_or(0.0, float) / 24.0,
        })
        .collect();
    endings.sort_by_key(|ending| std::cmp::Reverse(ending.count));
    let priced = !behaviour.message_costs.is_empty() || !behaviour.hour_costs.is_empty();
    let price = |of: &BTreeMap<String, f64>, what: &str| of.get(what).copied().unwrap_or(0.0);
    let messages = messages_by_day
        .iter()
        .map(|(channel, days)| price(&behaviour.message_costs, channel) * float(sum(days)))
        .sum::<f64>();
    let work = roles
        .iter()
        .map(|load| price(&behaviour.hour_costs, &load.role) * load.hours)
        .sum::<f64>();
    Simulated {
        journey: model.definition.name.clone(),
        patients: size.patients,
        days: size.days,
        seed: size.seed,
        assumptions: behaviour.assumptions(model.definition),
        starts_by_day: tally.starts.clone(),
        messages_by_day,
        tasks_by_day: tally.tasks.clone(),
        forms: tally.forms,
        visits: tally.visits,
        handed_over: tally.handed_over,
        messages_mean: float(sent) / f64::from(size.patients.max(1)),
        messages_p95: percentile(&tally.per_patient, 95).unwrap_or(0),
        messages_max: tally.per_patient.keys().copied().max().unwrap_or(0),
        patients_by_messages: tally.per_patient.clone(),
        roles,
        endings,
        goals: goals(model, tally, size.patients),
        under_way: tally.under_way,
        cost: priced.then(|| Cost {
            currency: behaviour.currency.clone(),
            messages,
            work,
            per_patient: (messages + work) / f64::from(size.patients.max(1)),
        }),
        refused: tally.refused.clone(),
    }
}

fn goals(model: &Model<'_>, tally: &Tally, patients: u32) -> Vec<GoalReached> {
    let aims = model.aims.iter();
    aims.map(|aim| {
        let times = tally.goals.get(&aim.id).cloned().unwrap_or_default();
        let count = times.values().sum();
        let days = |percent| percentile(&times, percent).map_or(0.0, float) / 24.0;
        GoalReached {
            goal: aim.id.clone(),
            count,
            share: float(count) / f64::from(patients.max(1)),
            days_median: days(50),
            days_p95: days(95),
        }
    })
    .collect()
}

/// Days as one line: the highest column is the highest day, and only a column of nothing is empty.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a place among nine levels"
)]
fn chart(days: &[u64], length: usize) -> String {
    const LEVELS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let wide = length.div_ceil(COLUMNS).max(1);
    let mut padded = days.to_vec();
    padded.resize(length.max(days.len()), 0);
    let mean = |days: &[u64]| float(sum(days)) / float(days.len() as u64);
    let columns: Vec<f64> = padded.chunks(wide).map(mean).collect();
    let most = columns.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let level = |mean: &f64| LEVELS[((mean / most * 8.0).ceil() as usize).min(8)];
    columns.iter().map(level).collect()
}

impl Simulated {
    fn messages(&self) -> u64 {
        self.messages_by_day.values().map(|days| sum(days)).sum()
    }

    /// The report for people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(
            text,
            "{}: {} patients over {} days, seed {}\n\nWhat this rests on:",
            self.journey, self.patients, self.days, self.seed
        );
        for line in &self.assumptions {
            let _ = writeln!(text, "  - {line}");
        }
        let length = usize::try_from(self.days).unwrap_or(0);
        let _ = writeln!(
            text,
            "\nBy day (day 1 to {}; each line to its own height):",
            self.days
        );
        let mut row = |name: &str, days: &[u64]| {
            let most = days.iter().copied().max().unwrap_or(0);
            let mean = float(sum(days)) / f64::from(self.days.max(1));
            let _ = writeln!(
                text,
                "  {name:<10} {:>9}  {mean:>8.1} a day, most {most:<6} {}",
                sum(days),
                chart(days, length)
            );
        };
        row("starts", &self.starts_by_day);
        for (channel, days) in &self.messages_by_day {
            row(channel, days);
        }
        row("tasks", &self.tasks_by_day);
        let _ = writeln!(
            text,
            "\nForms {}, visits proposed {}, tasks handed over {}\nMessages per patient: mean {:.2}, 95 % at most {}, most {}",
            self.forms,
            self.visits,
            self.handed_over,
            self.messages_mean,
            self.messages_p95,
            self.messages_max
        );
        let _ = writeln!(text, "\nWork of staff:");
        for load in &self.roles {
            let enough = load.capacity.map_or_else(
                || "no capacity given".to_owned(),
                |capacity| {
                    format!(
                        "capacity {capacity} h, not enough on {} days",
                        load.days_over
                    )
                },
            );
            let _ = writeln!(
                text,
                "  {:<12} {:>10.1} h, {:>7.2} h a day, busiest day {:>7.2} h; {enough}",
                load.role, load.hours, load.hours_a_day, load.hours_max
            );
        }
        let _ = writeln!(text, "\nHow journeys ended:");
        for ending in &self.endings {
            let _ = writeln!(
                text,
                "  {:<18} {:>9}  half within {:>5.1} d, 95 % within {:>5.1} d",
                ending.code, ending.count, ending.days_median, ending.days_p95
            );
        }
        let _ = writeln!(text, "  {:<18} {:>9}", "under way", self.under_way);
        if !self.goals.is_empty() {
            let _ = writeln!(text, "\nGoals reached:");
        }
        for goal in &self.goals {
            let _ = writeln!(
                text,
                "  {:<18} {:>9}  {:.1} % of patients, half within {:>5.1} d, 95 % within {:>5.1} d",
                goal.goal,
                goal.count,
                goal.share * 100.0,
                goal.days_median,
                goal.days_p95
            );
        }
        if let Some(cost) = &self.cost {
            let _ = writeln!(
                text,
                "\nCost: messages {:.2}, work {:.2}, {:.2} a patient ({})",
                cost.messages, cost.work, cost.per_patient, cost.currency
            );
        }
        for (why, count) in &self.refused {
            let _ = writeln!(text, "\nThe engine refused to move {count} patients: {why}");
        }
        text
    }

    /// What another definition changes for the same patients.
    #[must_use]
    pub fn beside(&self, other: &Self) -> String {
        let mut text = format!(
            "{:<28} {:>14} {:>14} {:>14}\n",
            "", "this", "against", "difference"
        );
        for row in self.against(other) {
            let Beside {
                what,
                this,
                against,
            } = row;
            let _ = writeln!(
                text,
                "{what:<28} {this:>14.2} {against:>14.2} {:>+14.2}",
                this - against
            );
        }
        text
    }

    /// The same as rows.
    #[must_use]
    pub fn against(&self, other: &Self) -> Vec<Beside> {
        let mut rows = vec![
            (
                "messages".to_owned(),
                float(self.messages()),
                float(other.messages()),
            ),
            (
                "tasks".to_owned(),
                float(sum(&self.tasks_by_day)),
                float(sum(&other.tasks_by_day)),
            ),
            ("forms".to_owned(), float(self.forms), float(other.forms)),
            ("visits".to_owned(), float(self.visits), float(other.visits)),
            (
                "handed over".to_owned(),
                float(self.handed_over),
                float(other.handed_over),
            ),
            (
                "messages per patient".to_owned(),
                self.messages_mean,
                other.messages_mean,
            ),
        ];
        let both = |ours: Vec<(String, f64)>, theirs: Vec<(String, f64)>, rows: &mut Vec<_>| {
            let mut table: BTreeMap<String, (f64, f64)> = BTreeMap::new();
            for (name, value) in ours {
                table.entry(name).or_default().0 = value;
            }
            for (name, value) in theirs {
                table.entry(name).or_default().1 = value;
            }
            rows.extend(
                table
                    .into_iter()
                    .map(|(name, (left, right))| (name, left, right)),
            );
        };
        let work = |of: &Self| {
            of.roles
                .iter()
                .map(|load| (format!("hours, {}", load.role), load.hours))
                .collect()
        };
        both(work(self), work(other), &mut rows);
        let ends = |of: &Self| {
            of.endings
                .iter()
                .map(|ending| (format!("ended, {}", ending.code), float(ending.count)))
                .collect()
        };
        both(ends(self), ends(other), &mut rows);
        let aims = |of: &Self| {
            let goals = of.goals.iter();
            goals
                .flat_map(|goal| {
                    [
                        (format!("reached, {}", goal.goal), float(goal.count)),
                        (format!("days to {}, half", goal.goal), goal.days_median),
                    ]
                })
                .collect()
        };
        both(aims(self), aims(other), &mut rows);
        rows.push((
            "under way".to_owned(),
            float(self.under_way),
            float(other.under_way),
        ));
        if let (Some(ours), Some(theirs)) = (&self.cost, &other.cost) {
            rows.push((
                "cost per patient".to_owned(),
                ours.per_patient,
                theirs.per_patient,
            ));
        }
        let rows = rows.into_iter();
        rows.map(|(what, this, against)| Beside {
            what,
            this,
            against,
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charts_keep_what_is_rare_visible() {
        assert_eq!(chart(&[0, 8, 4, 1], 4), " █▄▁");
        assert_eq!(chart(&[], 3), "   ");
        // 120 days are two a column.
        let mut days = vec![0; 120];
        (days[0], days[118], days[119]) = (1, 4, 4);
        let drawn: Vec<char> = chart(&days, 120).chars().collect();
        assert_eq!(
            (drawn.len(), drawn[0], drawn[1], drawn[59]),
            (60, '▁', ' ', '█')
        );
    }
}

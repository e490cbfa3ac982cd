//! Policies of chance, as the test knows them: who may do what with which types, and when.
use std::fmt::Write as _;

use fhir::ResourceType;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::KINDS;
use super::elements::{Hides, rules_of};
use crate::tests::{NOW_MS, foo_bar};
use crate::{Action, Around, Factor, PolicySet, Purpose, Role, SignedIn, Weekday};

pub(super) const STAFF: [Role; 4] = [
    Role::Clinician,
    Role::Coordinator,
    Role::Client,
    Role::Biller,
];
const ROLES: [Role; 6] = [
    Role::Clinician,
    Role::Coordinator,
    Role::Client,
    Role::Biller,
    Role::Patient,
    Role::Proxy,
];
/// What staff and systems ask for, one of the organisation's own among it, and what patients do.
pub(super) fn purposes() -> [Purpose; 6] {
    [
        Purpose::Treatment,
        Purpose::Payment,
        Purpose::Operations,
        Purpose::CareManagement,
        foo_bar(),
        Purpose::PatientRequest,
    ]
}

/// The file of the organisation's own one.
const OWN: &str = "
[[purpose]]
system = 'urn:purposes'
code = 'FooBar'
display = 'the FooBar project'
is = 'HOPERAT'
";

/// A network that has a name.
pub(super) const WARD: (&str, &str) = ("ward", "10.1.0.0/16");

/// What is around a request.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    hour: u8,
    day: Weekday,
    pub(super) in_ward: bool,
    factor: Factor,
    is_lately: bool,
}

pub(super) fn settings() -> impl Strategy<Value = Setting> {
    (
        0..24u8,
        select(Weekday::ALL.to_vec()),
        any::<bool>(),
        select(Factor::ALL.to_vec()),
        any::<bool>(),
    )
        .prop_map(|(hour, day, in_ward, factor, is_lately)| Setting {
            hour,
            day,
            in_ward,
            factor,
            is_lately,
        })
}

impl Setting {
    /// A time of this hour and day, in the week after the one in which everything was written.
    pub(super) fn wall_ms(&self) -> u64 {
        const HOUR_MS: u64 = 3_600_000;
        // A Monday's noon.
        let monday = NOW_MS - 12 * HOUR_MS + 7 * 24 * HOUR_MS;
        let day = Weekday::ALL.iter().position(|day| *day == self.day);
        let day = u64::try_from(day.unwrap()).unwrap();
        monday + (day * 24 + u64::from(self.hour)) * HOUR_MS + HOUR_MS / 2
    }
    pub(super) fn signed_in(&self) -> SignedIn {
        let before_ms = if self.is_lately {
            1000
        } else {
            30 * 86_400_000
        };
        SignedIn {
            factor: self.factor,
            at_ms: self.wall_ms() - before_ms,
            session: true,
        }
    }
    pub(super) fn around(&self) -> Around {
        Around {
            factor: self.factor,
            confirmed: self.is_confirmed(),
            networks: (self.in_ward.then(|| WARD.0.to_owned()))
                .into_iter()
                .collect(),
            hour: self.hour,
            weekday: self.day,
            ..Around::default()
        }
    }
    fn is_confirmed(&self) -> bool {
        self.factor != Factor::None && self.is_lately
    }
}

/// When a policy permits.
#[derive(Debug, Clone)]
enum When {
    Hours(u8, u8),
    Days(Vec<Weekday>),
    InWard(bool),
    Factor(Factor),
    Confirmed,
}

fn conditions() -> impl Strategy<Value = When> {
    prop_oneof![
        (0..24u8, 1..24u8).prop_map(|(from, hours)| When::Hours(from, from + hours)),
        subsequence(Weekday::ALL.to_vec(), 2..=6).prop_map(When::Days),
        any::<bool>().prop_map(When::InWard),
        select(Factor::ALL.to_vec()).prop_map(When::Factor),
        Just(When::Confirmed),
    ]
}

impl When {
    fn holds(&self, setting: &Setting) -> bool {
        match self {
            Self::Hours(from, until) => (*from..*until).contains(&setting.hour),
            Self::Days(days) => days.contains(&setting.day),
            Self::InWard(wanted) => setting.in_ward == *wanted,
            Self::Factor(factor) => setting.factor == *factor,
            Self::Confirmed => setting.is_confirmed(),
        }
    }
    /// In Cedar.
    fn text(&self) -> String {
        match self {
            Self::Hours(from, until) => {
                format!("context.time.hour >= {from} && context.time.hour < {until}")
            }
            Self::Days(days) => {
                let days: Vec<String> =
                    days.iter().map(|day| format!("{:?}", day.name())).collect();
                format!("[{}].contains(context.time.weekday)", days.join(", "))
            }
            Self::InWard(wanted) => {
                let not = if *wanted { "" } else { "!" };
                format!("{not}context.networks.contains({:?})", WARD.0)
            }
            Self::Factor(factor) => format!("context.session.factor == {:?}", factor.name()),
            Self::Confirmed => "context.session.confirmed".to_owned(),
        }
    }
}

/// Who may do what with which types, for which purposes.
#[derive(Debug, Clone)]
pub(super) struct Grant {
    roles: Vec<Role>,
    purposes: Vec<Purpose>,
    /// Reading; then searching, too; then histories, too.
    ways: usize,
    kinds: Vec<ResourceType>,
    when: Option<When>,
}

const WAYS: [Action; 3] = [Action::Read, Action::Search, Action::History];

impl Grant {
    /// Whether it permits something, if it is the time.
    fn is_about(&self, who: (Role, Purpose), action: Action, kind: ResourceType) -> bool {
        self.roles.contains(&who.0)
            && (self.purposes.contains(&who.1) || self.purposes.contains(&who.1.standard()))
            && WAYS[..self.ways].contains(&action)
            && self.kinds.contains(&kind)
    }
    /// Makes it somebody's as well.
    pub(super) fn add(&mut self, (role, purpose): (Role, Purpose)) {
        if !self.roles.contains(&role) {
            self.roles.push(role);
        }
        if !self.purposes.contains(&purpose) {
            self.purposes.push(purpose);
        }
    }
    pub(super) fn gives(
        &self,
        who: (Role, Purpose),
        setting: &Setting,
        action: Action,
        kind: ResourceType,
    ) -> bool {
        self.is_about(who, action, kind)
            && self.when.as_ref().is_none_or(|when| when.holds(setting))
    }
    /// Whether it would permit something at another time or place.
    pub(super) fn waits(&self, who: (Role, Purpose), setting: &Setting) -> bool {
        let mut kinds = KINDS.iter();
        kinds.any(|kind| self.is_about(who, Action::Read, *kind))
            && self.when.as_ref().is_some_and(|when| !when.holds(setting))
    }
}

pub(super) fn grants() -> impl Strategy<Value = Vec<Grant>> {
    let grant = (
        subsequence(ROLES.to_vec(), 1..=6),
        subsequence(purposes().to_vec(), 1..=6),
        select(vec![1, 2, 2, 3, 3, 3]),
        subsequence(KINDS.to_vec(), 2..=8),
        proptest::option::weighted(0.3, conditions()),
    )
        .prop_map(|(roles, purposes, ways, kinds, when)| Grant {
            roles,
            purposes,
            ways,
            kinds,
            when,
        });
    proptest::collection::vec(grant, 2..7)
}

/// The policies and rules about elements of a world, with the built-in policies of those parts of Cairn that act by
/// themselves.
pub(super) fn folder(grants: &[Grant], hides: &[Hides]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let of_role = |name: &str| ROLES.iter().any(|role| name.starts_with(role.name()));
    for (name, text) in PolicySet::built_in_files() {
        if !of_role(name) && !name.ends_with(".test.toml") {
            write(name, text);
        }
    }
    // In the place of the built-in ones.
    write("necessary.elements.toml", &rules_of(hides));
    write("proxies.elements.toml", "");
    write("purposes.toml", OWN);
    let list = |items: &mut dyn Iterator<Item = String>| items.collect::<Vec<_>>().join(", ");
    let mut text = String::new();
    for (place, grant) in grants.iter().enumerate() {
        let (own, of_hl7): (Vec<Purpose>, Vec<Purpose>) =
            (grant.purposes.iter()).partition(|one| one.own().is_some());
        let quoted = |all: &[Purpose]| list(&mut all.iter().map(|one| format!("{:?}", one.code())));
        let mut purposes = Vec::new();
        for (all, member) in [(own, "own_purpose"), (of_hl7, "purpose")] {
            // Cedar has no empty set.
            if !all.is_empty() {
                purposes.push(format!("[{}].contains(context.{member})", quoted(&all)));
            }
        }
        let purposes = purposes.join(" || ");
        let actions = list(
            &mut WAYS[..grant.ways]
                .iter()
                .map(|one| format!("Action::\"{}\"", one.name())),
        );
        let kinds = list(&mut grant.kinds.iter().map(|one| format!("Kind::\"{one}\"")));
        let when =
            (grant.when.as_ref()).map_or_else(String::new, |when| format!(" && {}", when.text()));
        for role in &grant.roles {
            let role = role.name();
            writeln!(
                text,
                "@id(\"{role}-{place}\") @says(\"x\")\npermit (principal in Role::\"{role}\", action in [{actions}], resource)\n\
                 when {{ ({purposes}) && resource in [{kinds}]{when} }};"
            )
            .unwrap();
        }
    }
    for role in STAFF.map(Role::name) {
        writeln!(
            text,
            "@id(\"{role}-exports\") @says(\"x\")\npermit (principal in Role::\"{role}\", action == Action::\"export\", resource);"
        )
        .unwrap();
    }
    write("chance.cedar", &text);
    folder
}

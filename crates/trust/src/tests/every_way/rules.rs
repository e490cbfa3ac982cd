//! Policies of chance, as the test knows them: who may do what with which types, and when.
use std::fmt::Write as _;

use fhir::ResourceType;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::KINDS;
use super::asking::Asker;
use super::elements::{Hides, rules_of};
use crate::tests::{NOW_MS, foo_bar};
use crate::{
    Action, Around, Device, DeviceKind, Factor, PolicySet, Purpose, Role, SignedIn, Weekday,
};

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

/// What staff may be known as.
pub(super) const ORGANIZATIONS: [&str; 2] = ["north", "south"];
/// Kinds of devices that somebody here asks from.
const DEVICES: [DeviceKind; 4] = [
    DeviceKind::Browser,
    DeviceKind::Application,
    DeviceKind::System,
    DeviceKind::Unknown,
];
/// A network that has a name.
pub(super) const WARD: (&str, &str) = ("ward", "10.1.0.0/16");

/// What is around a request.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    hour: u8,
    minute: u8,
    day: Weekday,
    pub(super) in_ward: bool,
    factor: Factor,
    is_lately: bool,
    /// Whether it is asked within a session.
    session: bool,
    organizations: Vec<&'static str>,
    device: DeviceKind,
}

pub(super) fn settings() -> impl Strategy<Value = Setting> {
    (
        (0..24u8, select(vec![0, 30, 59])),
        select(Weekday::ALL.to_vec()),
        any::<bool>(),
        select(Factor::ALL.to_vec()),
        any::<bool>(),
    )
        .prop_map(
            |((hour, minute), day, in_ward, factor, is_lately)| Setting {
                hour,
                minute,
                day,
                in_ward,
                factor,
                is_lately,
                session: true,
                organizations: Vec::new(),
                device: DeviceKind::Unknown,
            },
        )
}

impl Setting {
    /// The same around somebody.
    pub(super) fn of(self, asker: &Asker) -> Self {
        Self {
            organizations: asker.organizations().to_vec(),
            device: asker.device(self.session),
            ..self
        }
    }
    /// The same around what goes on without anybody's request: no session, and no network.
    pub(super) fn by_itself(&self, asker: &Asker) -> Self {
        let alone = Self {
            in_ward: false,
            factor: Factor::None,
            is_lately: false,
            session: false,
            ..self.clone()
        };
        alone.of(asker)
    }
    /// The same at a bound of a policy's hours, or in the minute before it; chosen by a number.
    pub(super) fn at_bound(self, who: (Role, Purpose), grants: &[Grant], choice: usize) -> Self {
        let own = grants.iter().filter(|grant| grant.is_of(who));
        let bounds: Vec<u8> = own.flat_map(Grant::bounds).collect();
        let Some(bound) = bounds.get(choice / 2 % bounds.len().max(1)) else {
            return self;
        };
        let (hour, minute) = match choice % 2 {
            0 => (bound % 24, 0),
            _ => ((bound + 23) % 24, 59),
        };
        Self {
            hour,
            minute,
            ..self
        }
    }
    /// A time of this hour and day, in the week after the one in which everything was written.
    pub(super) fn wall_ms(&self) -> u64 {
        const HOUR_MS: u64 = 3_600_000;
        const MINUTE_MS: u64 = 60_000;
        // A Monday's noon.
        let monday = NOW_MS - 12 * HOUR_MS + 7 * 24 * HOUR_MS;
        let day = Weekday::ALL.iter().position(|day| *day == self.day);
        let day = u64::try_from(day.unwrap()).unwrap();
        let hours = day * 24 + u64::from(self.hour);
        monday + hours * HOUR_MS + u64::from(self.minute) * MINUTE_MS
    }
    pub(super) fn signed_in(&self) -> SignedIn {
        if !self.session {
            return SignedIn::default();
        }
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
            organizations: (self.organizations.iter())
                .map(|id| (*id).to_owned())
                .collect(),
            device: Device {
                kind: self.device,
                client: String::new(),
            },
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
    Organization(&'static str),
    Device(DeviceKind),
}

fn conditions() -> impl Strategy<Value = When> {
    prop_oneof![
        3 => (0..24u8, 1..24u8).prop_map(|(from, hours)| When::Hours(from, (from + hours).min(24))),
        1 => subsequence(Weekday::ALL.to_vec(), 2..=6).prop_map(When::Days),
        1 => any::<bool>().prop_map(When::InWard),
        1 => select(Factor::ALL.to_vec()).prop_map(When::Factor),
        1 => Just(When::Confirmed),
        2 => select(ORGANIZATIONS.to_vec()).prop_map(When::Organization),
        2 => select(DEVICES.to_vec()).prop_map(When::Device),
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
            Self::Organization(id) => setting.organizations.contains(id),
            Self::Device(kind) => setting.device == *kind,
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
            Self::Organization(id) => format!("context.organizations.contains({id:?})"),
            Self::Device(kind) => format!("context.device.kind == {:?}", kind.name()),
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
        self.is_of(who) && WAYS[..self.ways].contains(&action) && self.kinds.contains(&kind)
    }
    fn is_of(&self, (role, purpose): (Role, Purpose)) -> bool {
        let is_named = |purpose| self.purposes.contains(&purpose);
        self.roles.contains(&role) && (is_named(purpose) || is_named(purpose.standard()))
    }
    /// The hours from which on it is another than before.
    fn bounds(&self) -> Vec<u8> {
        match self.when {
            Some(When::Hours(from, until)) => vec![from, until],
            _ => Vec::new(),
        }
    }
    /// Whether what it permits to somebody begins or ends in this minute or with the next.
    pub(super) fn turns(&self, who: (Role, Purpose), setting: &Setting) -> bool {
        let Setting { hour, minute, .. } = setting;
        let at = match minute {
            0 => Some(*hour),
            59 => Some(hour + 1),
            _ => None,
        };
        let is_at = |bound: &u8| at.is_some_and(|at| bound % 24 == at % 24);
        self.is_of(who) && self.bounds().iter().any(is_at)
    }
    /// Whether it looks at who asks or from what, and would permit something.
    pub(super) fn looks_at_origin(&self, who: (Role, Purpose)) -> bool {
        self.is_of(who) && matches!(self.when, Some(When::Organization(_) | When::Device(_)))
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

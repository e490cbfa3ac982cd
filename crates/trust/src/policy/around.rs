//! What is around a request that policies may look at, besides who asks for what: how somebody signed in, from which
//! network, when, and at which tenant.
use std::fmt;
use std::net::IpAddr;

use fhir::ResourceType;
use ipnet::IpNet;
use jiff::tz::TimeZone;

use crate::{Agent, Role};

/// The most networks that can have names. Each decision tells them apart.
pub const NETWORKS_MAX: usize = 16;

/// The second factor that a session's person showed last.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Factor {
    /// None: patients, systems, and parts of Cairn.
    #[default]
    None,
    /// A one-time code.
    Totp,
    /// A passkey.
    Passkey,
    /// What an identity provider says was two factors.
    Provider,
}

impl Factor {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::None, Self::Totp, Self::Passkey, Self::Provider];
    /// The name that policies know it by.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Totp => "totp",
            Self::Passkey => "passkey",
            Self::Provider => "provider",
        }
    }
    /// The factor of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|factor| factor.name() == name)
    }
}

/// What a request comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum DeviceKind {
    /// It isn't known: nobody says, or a token that stands for a person.
    #[default]
    Unknown,
    /// A browser in which a person has a session.
    Browser,
    /// An application that a person has let act for them.
    Application,
    /// A system that asks for itself.
    System,
    /// A part of Cairn.
    Part,
}

impl DeviceKind {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Unknown,
        Self::Browser,
        Self::Application,
        Self::System,
        Self::Part,
    ];
    /// The name that policies know it by.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Browser => "browser",
            Self::Application => "application",
            Self::System => "system",
            Self::Part => "part",
        }
    }
    /// The kind of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// What a request comes from, as far as the server itself knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Device {
    /// Its kind.
    pub kind: DeviceKind,
    /// The id of the application or system; of others empty.
    pub client: String,
}

impl Device {
    fn of(agent: &Agent) -> Self {
        let (kind, client) = match agent.app() {
            Some(app) => (DeviceKind::Application, app.client.as_str()),
            None if agent.role == Role::System => (DeviceKind::Part, ""),
            None if matches!(agent.role, Role::Client | Role::Steerer) => {
                (DeviceKind::System, agent.id.as_str())
            }
            None if agent.signed_in.session => (DeviceKind::Browser, ""),
            None => (DeviceKind::Unknown, ""),
        };
        Self {
            kind,
            client: client.to_owned(),
        }
    }
}

/// The ids of the organizations among what somebody is known as.
pub(crate) fn organizations(known_as: &[String]) -> Vec<String> {
    let found = known_as
        .iter()
        .filter_map(|one| fhir::Reference::relative(one));
    let of_kind = found.filter(|(kind, _)| *kind == ResourceType::Organization);
    let mut ids: Vec<String> = of_kind.map(|(_, id)| id.to_owned()).collect();
    ids.sort();
    ids.dedup();
    ids
}

/// How somebody signed in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SignedIn {
    /// Their second factor.
    pub factor: Factor,
    /// When they showed it, by the wall clock.
    pub at_ms: u64,
    /// Whether they ask within a session of their own, in a browser.
    pub session: bool,
}

/// A day of the week.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Weekday {
    #[default]
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

impl Weekday {
    /// All days.
    pub const ALL: [Self; 7] = [
        Self::Monday,
        Self::Tuesday,
        Self::Wednesday,
        Self::Thursday,
        Self::Friday,
        Self::Saturday,
        Self::Sunday,
    ];
    /// The name that policies know it by.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Monday => "monday",
            Self::Tuesday => "tuesday",
            Self::Wednesday => "wednesday",
            Self::Thursday => "thursday",
            Self::Friday => "friday",
            Self::Saturday => "saturday",
            Self::Sunday => "sunday",
        }
    }
    /// The day of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|day| day.name() == name)
    }
}

/// What is around a request. The default stands for a question that doesn't say: no second factor, no network
/// that has a name, Monday at noon, the tenant `main`, no organization, and nobody knows from what device.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Around {
    /// The second factor that was shown.
    pub factor: Factor,
    /// Whether it was shown lately.
    pub confirmed: bool,
    /// The names of the networks that the client's address is in, in their order.
    pub networks: Vec<String>,
    /// The hour of the day, 0 to 23, in the house's time zone.
    pub hour: u8,
    /// The day there.
    pub weekday: Weekday,
    /// The tenant's name.
    pub tenant: String,
    /// The ids of the organizations that the asker is known as, in their order.
    pub organizations: Vec<String>,
    /// What the request comes from.
    pub device: Device,
}

/// What a store of one tenant calls it.
pub(super) const ONLY_TENANT: &str = "main";

impl Default for Around {
    fn default() -> Self {
        Self {
            factor: Factor::None,
            confirmed: false,
            networks: Vec::new(),
            hour: 12,
            weekday: Weekday::Monday,
            tenant: ONLY_TENANT.to_owned(),
            organizations: Vec::new(),
            device: Device::default(),
        }
    }
}

/// Which of it some policy of a set looks at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Looks {
    pub(super) session: bool,
    pub(super) networks: bool,
    pub(super) time: bool,
    pub(super) tenant: bool,
    pub(super) organizations: bool,
    pub(super) device: bool,
}

impl Looks {
    pub(super) const ALL: Self = Self {
        session: true,
        networks: true,
        time: true,
        tenant: true,
        organizations: true,
        device: true,
    };
    pub(super) fn any(self) -> bool {
        self != Self::default()
    }
    /// Adds what a policy, in Cedar's JSON, looks at in the context.
    pub(super) fn add(&mut self, policy: &serde_json::Value) {
        use serde_json::Value;
        match policy {
            Value::Object(map) => {
                for (name, value) in map {
                    let of_context = (name == "." || name == "has")
                        && value["left"]["Var"].as_str() == Some("context");
                    match value["attr"].as_str().filter(|_| of_context) {
                        Some("session") => self.session = true,
                        Some("networks") => self.networks = true,
                        Some("time") => self.time = true,
                        Some("tenant") => self.tenant = true,
                        Some("organizations") => self.organizations = true,
                        Some("device") => self.device = true,
                        // Who asks, and what for.
                        Some("purpose" | "own_purpose" | "own") => {}
                        // The context as a whole, or what isn't known to be less.
                        _ if name == "Var" && value.as_str() == Some("context") => {
                            *self = Self::ALL;
                        }
                        _ => self.add(value),
                    }
                }
            }
            Value::Array(list) => list.iter().for_each(|value| self.add(value)),
            _ => {}
        }
    }
}

impl Around {
    /// Without what nobody looks at: what is decided is kept by what decides.
    pub(super) fn seen(self, looks: Looks) -> Self {
        let unseen = Self::default();
        Self {
            factor: if looks.session {
                self.factor
            } else {
                unseen.factor
            },
            confirmed: looks.session && self.confirmed,
            networks: if looks.networks {
                self.networks
            } else {
                Vec::new()
            },
            hour: if looks.time { self.hour } else { unseen.hour },
            weekday: if looks.time {
                self.weekday
            } else {
                unseen.weekday
            },
            tenant: if looks.tenant {
                self.tenant
            } else {
                unseen.tenant
            },
            organizations: if looks.organizations {
                self.organizations
            } else {
                Vec::new()
            },
            device: if looks.device {
                self.device
            } else {
                unseen.device
            },
        }
    }
    /// As far as it is looked at, in words: `on monday at 12 h`.
    pub(super) fn words(&self, looks: Looks) -> String {
        let mut words = Vec::new();
        if looks.time {
            words.push(format!("on {} at {} h", self.weekday.name(), self.hour));
        }
        if looks.session {
            let lately = if self.confirmed { ", shown lately" } else { "" };
            words.push(match self.factor {
                Factor::None => "without a second factor".to_owned(),
                factor => format!("with the second factor {}{lately}", factor.name()),
            });
        }
        if looks.networks {
            words.push(match self.networks.as_slice() {
                [] => "from no network that has a name".to_owned(),
                some => format!("from the network {}", some.join(" and ")),
            });
        }
        if looks.tenant {
            words.push(format!("at the tenant {}", self.tenant));
        }
        if looks.organizations {
            words.push(match self.organizations.as_slice() {
                [] => "for no organization".to_owned(),
                some => format!("for the organization {}", some.join(" and ")),
            });
        }
        if looks.device {
            let client = Some(&self.device.client).filter(|id| !id.is_empty());
            let client = client.map_or_else(String::new, |id| format!(" {id}"));
            words.push(match self.device.kind {
                DeviceKind::Unknown => "from an unknown device".to_owned(),
                DeviceKind::Part => "by a part of Cairn".to_owned(),
                kind => format!("by the {}{client}", kind.name()),
            });
        }
        words.join(", ")
    }
}

/// Where a server stands: what it knows of its networks, its time zone and its tenant.
#[derive(Clone)]
pub struct Surroundings {
    tenant: String,
    zone: TimeZone,
    networks: Vec<(String, Vec<IpNet>)>,
    /// Addresses that stand for many clients.
    shared: Vec<IpNet>,
}

impl Default for Surroundings {
    fn default() -> Self {
        Self {
            tenant: ONLY_TENANT.to_owned(),
            zone: TimeZone::UTC,
            networks: Vec::new(),
            shared: Vec::new(),
        }
    }
}

impl fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Surroundings")
            .field("tenant", &self.tenant)
            .field("zone", &self.zone.iana_name())
            .finish_non_exhaustive()
    }
}

impl Surroundings {
    /// A tenant's, with the name of its time zone (`Europe/London`) and its networks: each by its name, with
    /// addresses and prefixes in between spaces.
    ///
    /// # Errors
    /// A sentence about what is wrong.
    pub fn of<'a>(
        tenant: &str,
        zone: &str,
        networks: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, String> {
        let zone = TimeZone::get(zone)
            .map_err(|_| format!("time_zone: {zone} is no time zone like Europe/London"))?;
        let mut all = Vec::new();
        for (name, list) in networks {
            let each = list.split_whitespace().map(|text| {
                let address = text.parse::<IpAddr>();
                let address = address.map(|address| IpNet::from(address.to_canonical()));
                match address.or_else(|_| text.parse()) {
                    // Clients of IPv4 are looked for as such, and would never be found in it.
                    Ok(IpNet::V6(prefix)) if prefix.addr().to_ipv4_mapped().is_some() => Err(
                        format!("network.{name}: {text}: write prefixes of IPv4 as such, like 10.1.0.0/16"),
                    ),
                    Ok(prefix) => Ok(prefix),
                    Err(_) => Err(format!(
                        "network.{name}: {text} is no address and no prefix like 10.1.0.0/16"
                    )),
                }
            });
            let prefixes = each.collect::<Result<Vec<_>, _>>()?;
            if prefixes.is_empty() {
                return Err(format!("network.{name} has no address"));
            }
            all.push((name.to_owned(), prefixes));
        }
        if all.len() > NETWORKS_MAX {
            return Err(format!("at most {NETWORKS_MAX} networks can have names"));
        }
        all.sort_by(|one, other| one.0.cmp(&other.0));
        Ok(Self {
            tenant: tenant.to_owned(),
            zone,
            networks: all,
            shared: Vec::new(),
        })
    }

    /// With addresses that stand for many clients, those of proxies: where one is all that is known of a client, the
    /// client is in none of the networks, whatever network the address itself is in.
    #[must_use]
    pub fn beside(mut self, shared: impl IntoIterator<Item = IpNet>) -> Self {
        self.shared.extend(shared);
        self
    }

    pub(super) fn tenant(&self) -> &str {
        &self.tenant
    }

    /// The hour and the day at a time.
    pub(super) fn slice(&self, now_ms: u64) -> (u8, Weekday) {
        let ms = i64::try_from(now_ms).unwrap_or(i64::MAX);
        let Ok(at) = jiff::Timestamp::from_millisecond(ms) else {
            // Beyond the year 9999: no clock says so.
            return (0, Weekday::Monday);
        };
        let at = self.zone.to_datetime(at);
        let day = usize::try_from(at.weekday().to_monday_zero_offset()).unwrap_or(0);
        let hour = u8::try_from(at.hour()).unwrap_or(0);
        (hour, Weekday::ALL[day % Weekday::ALL.len()])
    }

    /// What is around somebody who asks now, from an address.
    pub(super) fn around(
        &self,
        agent: &Agent,
        organizations: Vec<String>,
        client: Option<IpAddr>,
        now_ms: u64,
        lately_ms: u64,
    ) -> Around {
        let (hour, weekday) = self.slice(now_ms);
        let signed_in = agent.signed_in;
        let is_shared = |client: &IpAddr| self.shared.iter().any(|one| one.contains(client));
        let client = client.filter(|client| !is_shared(client));
        let is_in = |prefixes: &[IpNet]| {
            client.is_some_and(|client| prefixes.iter().any(|one| one.contains(&client)))
        };
        let named = self.networks.iter().filter(|(_, prefixes)| is_in(prefixes));
        Around {
            factor: signed_in.factor,
            confirmed: signed_in.factor != Factor::None
                && now_ms.saturating_sub(signed_in.at_ms) < lately_ms,
            networks: named.map(|(name, _)| name.clone()).collect(),
            hour,
            weekday,
            tenant: self.tenant.clone(),
            organizations,
            device: Device::of(agent),
        }
    }
}

/// What somebody's page is decided under, so what it has to be drawn anew for when it is another: the policy set,
/// and what is around them as far as the set looks at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicySlice {
    pub(super) set: String,
    pub(super) around: String,
}

impl fmt::Display for PolicySlice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.set, self.around)
    }
}

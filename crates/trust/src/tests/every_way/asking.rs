//! Who asks in a world: staff and systems, patients and who acts for them, by themselves or through an application.
use std::sync::Arc;

use fhir::{Resource, ResourceType};
use ledger::TenantId;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::rules::{ORGANIZATIONS, purposes};
use super::{KINDS, STAFF};
use crate::consent::Basis;
use crate::identity::{Contract, NewProxy, NewSystem, Registered, Signer, SystemKeys, let_in};
use crate::scopes::Scopes;
use crate::tests::search::{CATEGORIES, Model};
use crate::tests::{House, a_patient, foo_bar, patient, staff};
use crate::{Access, Action, Agent, DeviceKind, Purpose, Role};

/// A scope as the test knows it, apart from the code that reads it.
#[derive(Debug, Clone)]
struct Scope {
    level: &'static str,
    /// All types, if none.
    kind: Option<ResourceType>,
    letters: &'static str,
    category: Option<&'static str>,
}

/// What an application was granted.
#[derive(Debug, Clone)]
pub(super) struct Token {
    scopes: Vec<Scope>,
    pub(super) patient: Option<String>,
}

fn tokens() -> impl Strategy<Value = Token> {
    let scope = (
        select(vec!["patient", "user", "system"]),
        prop_oneof![
            2 => Just(None),
            2 => Just(Some(ResourceType::Observation)),
            2 => select(KINDS.to_vec()).prop_map(Some),
        ],
        select(vec!["rs", "rs", "rs", "rs", "rs", "r", "s", "cruds"]),
        proptest::option::of(select(CATEGORIES.to_vec())),
    )
        .prop_map(|(level, kind, letters, category)| Scope {
            level,
            kind,
            letters,
            category: category.filter(|_| kind == Some(ResourceType::Observation)),
        });
    (
        proptest::collection::vec(scope, 1..6),
        proptest::option::weighted(0.7, 0..3u8),
    )
        .prop_map(|(scopes, patient)| Token {
            scopes,
            patient: patient.map(|patient| format!("p{patient}")),
        })
}

impl Token {
    pub(super) fn text(&self) -> String {
        let each = self.scopes.iter().map(|scope| {
            let kind = scope.kind.map_or("*", ResourceType::name);
            let filter =
                (scope.category).map_or_else(String::new, |one| format!("?category={one}"));
            format!("{}/{kind}.{}{filter}", scope.level, scope.letters)
        });
        each.collect::<Vec<_>>().join(" ")
    }
    /// The first so many of its scopes.
    pub(super) fn narrowed(&self, count: usize) -> Self {
        Self {
            scopes: self.scopes[..count.clamp(1, self.scopes.len())].to_vec(),
            patient: self.patient.clone(),
        }
    }
    /// Whether an interaction is let be begun.
    pub(super) fn begins(&self, letter: char) -> bool {
        self.scopes
            .iter()
            .any(|scope| scope.letters.contains(letter))
    }
    pub(super) fn exports(&self) -> bool {
        let mut scopes = self.scopes.iter();
        scopes.any(|scope| {
            scope.level == "system" && ['r', 's'].iter().all(|one| scope.letters.contains(*one))
        })
    }
    pub(super) fn lets(&self, letter: char, kind: ResourceType) -> bool {
        let mut scopes = self.scopes.iter();
        scopes.any(|scope| {
            scope.kind.is_none_or(|only| only == kind) && scope.letters.contains(letter)
        })
    }
    /// Whether a category is looked at; one isn't where another scope lets do the same without.
    pub(super) fn has_category(&self) -> bool {
        let is_in = |scope: &Scope, other: &Scope| {
            let mut letters = scope.letters.chars();
            scope.level == other.level
                && other.category.is_none()
                && (other.kind.is_none() || other.kind == scope.kind)
                && letters.all(|letter| other.letters.contains(letter))
        };
        let mut filtered = self.scopes.iter().filter(|scope| scope.category.is_some());
        filtered.any(|scope| !self.scopes.iter().any(|other| is_in(scope, other)))
    }
    /// The patient whose record it is for and no other.
    pub(super) fn only_patient(&self) -> Option<&str> {
        let is_all = self.scopes.iter().all(|scope| scope.level == "patient");
        self.patient.as_deref().filter(|_| is_all)
    }
    /// The check of one row, as it was written.
    pub(super) fn covers(&self, letter: char, row: &Resource) -> bool {
        let is_of_patient = || match (&self.patient, row.patient()) {
            (None, _) => false,
            (Some(_), None) => row.kind() == ResourceType::Organization,
            (Some(patient), Some(of)) => patient == of,
        };
        let is_in = |category: &str| {
            let text = String::from_utf8(row.to_json()).unwrap();
            text.contains(&format!("\"{category}\""))
        };
        self.scopes.iter().any(|scope| {
            scope.kind.is_none_or(|only| only == row.kind())
                && scope.letters.contains(letter)
                && (scope.level != "patient" || is_of_patient())
                && scope.category.is_none_or(is_in)
        })
    }
}

/// Who asks.
#[derive(Debug, Clone)]
pub(super) struct Asker {
    pub(super) who: (Role, Purpose),
    /// Whose record, of who has one.
    pub(super) patient: String,
    /// Whether that patient is a child; who acts for them is a parent then.
    pub(super) is_child: bool,
    /// What staff are known as besides.
    organizations: Vec<&'static str>,
    pub(super) token: Option<Token>,
}

/// Somebody as they are in a store.
pub(super) struct Made {
    /// As they ask.
    pub(super) agent: Agent,
    /// As they would ask if all scopes had been granted.
    pub(super) plain: Agent,
}

pub(super) fn askers() -> impl Strategy<Value = Asker> {
    let who = prop_oneof![
        8 => (select(STAFF.to_vec()), select(purposes()[..5].to_vec())).prop_map(
            |(role, purpose)| match role {
                // What billers are registered for.
                Role::Biller => (role, Purpose::Payment),
                // Staff have tokens here, which can't be registered for what is the organisation's own.
                _ if purpose.own().is_some() => (Role::Client, purpose),
                _ => (role, purpose),
            },
        ),
        2 => Just((Role::Patient, Purpose::PatientRequest)),
        3 => Just((Role::Proxy, Purpose::PatientRequest)),
    ];
    let is_child = proptest::bool::weighted(0.6);
    (
        who,
        0..3u8,
        is_child,
        subsequence(ORGANIZATIONS.to_vec(), 0..=2),
        proptest::option::weighted(0.4, tokens()),
    )
        .prop_map(|(who, patient, is_child, organizations, token)| Asker {
            who,
            patient: format!("p{patient}"),
            is_child,
            organizations,
            // Patients use applications for their own record.
            token: token.map(|token| match who.0 {
                Role::Patient => Token {
                    patient: Some(format!("p{patient}")),
                    ..token
                },
                _ => token,
            }),
        })
}

impl Asker {
    /// The organizations that they are known as: administrators say it of staff and systems.
    pub(super) fn organizations(&self) -> &[&'static str] {
        if STAFF.contains(&self.who.0) {
            &self.organizations
        } else {
            &[]
        }
    }
    /// What they ask from, in a session or without one. No application acts for who acts for a patient.
    pub(super) fn device(&self, session: bool) -> DeviceKind {
        match self.who.0 {
            Role::Client => DeviceKind::System,
            Role::Proxy if session => DeviceKind::Browser,
            Role::Proxy => DeviceKind::Unknown,
            _ if self.token.is_some() => DeviceKind::Application,
            _ if session => DeviceKind::Browser,
            _ => DeviceKind::Unknown,
        }
    }
    /// The same, whose application has another token.
    pub(super) fn with(&self, token: Token) -> Self {
        Self {
            token: Some(token),
            ..self.clone()
        }
    }
    /// The asker, by themselves or through the application that they use. Staff are known as `Practitioner/x`, whom
    /// consents name as well; who acts for a patient is named by staff first.
    pub(super) async fn made(&self, house: &House, tenant: TenantId, model: &mut Model) -> Made {
        let own = match self.who.0 {
            Role::Patient => Agent {
                tenant,
                // As questions about patients name them.
                id: self.patient.clone(),
                ..patient(&self.patient)
            },
            Role::Proxy => self.proxy(house, tenant, model).await,
            _ => self.known(house, tenant).await,
        };
        let Some(token) = &self.token else {
            let plain = own.clone();
            return Made { agent: own, plain };
        };
        let client = match self.who.0 {
            Role::Client => own.id.clone(),
            _ => {
                let patient = token.patient.as_deref();
                let_in(house, (&own, None), &token.text(), patient).await
            }
        };
        let with = |scopes: &str, patient: Option<String>| Agent {
            access: Some(Arc::new(Access {
                client: client.clone(),
                client_name: "App".to_owned(),
                scopes: Scopes::parse(scopes).unwrap(),
                patient,
                round: 0,
                grant: None,
            })),
            ..own.clone()
        };
        let agent = with(&token.text(), token.patient.clone());
        let plain = match self.device(false) {
            DeviceKind::Application => with("user/*.cruds", None),
            _ => own,
        };
        Made { agent, plain }
    }
    async fn proxy(&self, house: &House, tenant: TenantId, model: &mut Model) -> Agent {
        let key = (ResourceType::Patient, self.patient.clone());
        let known = model.get(&key).map(|(_, row)| row.clone());
        let mut row = known
            .unwrap_or_else(|| Resource::from_value(a_patient(&self.patient, "Berg")).unwrap());
        if self.is_child {
            row.set("birthDate", "2012-01-02".into());
        }
        let at = house.put_for(tenant, [row.clone().into_value()]).await;
        model.insert(key, (at[0].number, row));
        let new = NewProxy {
            patient: self.patient.clone(),
            name: "Pat Proxy".to_owned(),
            address: "pat@example.org".to_owned(),
            birth_date: "1970-01-01".to_owned(),
            basis: if self.is_child {
                Basis::Parent
            } else {
                Basis::Authorised
            },
            proof: "a letter was seen".to_owned(),
            from: None,
            until: None,
            messages: false,
        };
        let by = Agent {
            tenant,
            ..staff(Role::Coordinator)
        };
        let made = house.trust.identity().make_proxy(&by, new, "r").await;
        Agent {
            id: made.unwrap(),
            role: Role::Proxy,
            patient: Some(self.patient.clone()),
            ..by
        }
    }
    async fn known(&self, house: &House, tenant: TenantId) -> Agent {
        let operator = Agent::system(tenant, "command-line");
        let identity = house.trust.identity();
        let role = self.who.0;
        let all: Vec<Purpose> = (Registered::OF_BEFORE.into_iter())
            .chain([foo_bar()])
            .collect();
        let registered = Registered::new(&all, Contract::Signed).unwrap();
        let agent = if role == Role::Client && self.token.is_some() {
            let new = NewSystem {
                name: "X".to_owned(),
                keys: SystemKeys::Set(Signer::curve("k").jwks()),
                scopes: "system/*.cruds".to_owned(),
            };
            let by = Agent {
                tenant,
                ..staff(Role::Administrator)
            };
            let made = identity.register_system_for(&by, &new, &registered);
            let id = made.await.unwrap();
            Agent {
                id,
                role,
                name: new.name,
                ..by
            }
        } else {
            let registered = (role == Role::Client).then_some(&registered);
            let made = identity.create_client_for(&operator, "X", role, registered);
            identity.bearer(&made.await.unwrap()).await.unwrap()
        };
        let administers = house
            .permit(&operator, Purpose::Administration, Action::Administer)
            .await
            .unwrap();
        let organizations = self.organizations().iter();
        let organizations = organizations.map(|id| format!("Organization/{id}"));
        let known_as: Vec<String> = organizations.chain(["Practitioner/x".to_owned()]).collect();
        identity
            .set_known_as(&administers, &agent.id, &known_as)
            .await
            .unwrap();
        agent
    }
}

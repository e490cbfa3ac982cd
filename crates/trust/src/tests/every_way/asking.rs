//! Who asks in a world: staff and systems, patients and who acts for them, by themselves or through an application.
use std::sync::Arc;

use fhir::{Resource, ResourceType};
use ledger::TenantId;
use proptest::prelude::*;
use proptest::sample::select;

use super::rules::purposes;
use super::{KINDS, STAFF};
use crate::consent::Basis;
use crate::identity::{Contract, NewProxy, Registered};
use crate::scopes::Scopes;
use crate::tests::search::{CATEGORIES, Model};
use crate::tests::{House, a_patient, foo_bar, patient, staff};
use crate::{Access, Action, Agent, Purpose, Role};

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
    patient: Option<String>,
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
    fn text(&self) -> String {
        let each = self.scopes.iter().map(|scope| {
            let kind = scope.kind.map_or("*", ResourceType::name);
            let filter =
                (scope.category).map_or_else(String::new, |one| format!("?category={one}"));
            format!("{}/{kind}.{}{filter}", scope.level, scope.letters)
        });
        each.collect::<Vec<_>>().join(" ")
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
    pub(super) fn has_category(&self) -> bool {
        self.scopes.iter().any(|scope| scope.category.is_some())
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
    is_child: bool,
    pub(super) token: Option<Token>,
}

pub(super) fn askers() -> impl Strategy<Value = Asker> {
    let who = prop_oneof![
        4 => (select(STAFF.to_vec()), select(purposes()[..5].to_vec())).prop_map(
            |(role, purpose)| match role {
                // What billers are registered for.
                Role::Biller => (role, Purpose::Payment),
                _ => (role, purpose),
            },
        ),
        1 => Just((Role::Patient, Purpose::PatientRequest)),
        1 => Just((Role::Proxy, Purpose::PatientRequest)),
    ];
    let is_child = proptest::bool::weighted(0.3);
    (
        who,
        0..3u8,
        is_child,
        proptest::option::weighted(0.4, tokens()),
    )
        .prop_map(|(who, patient, is_child, token)| Asker {
            who,
            patient: format!("p{patient}"),
            is_child,
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
    /// The asker by themselves. Staff are known as `Practitioner/x`, whom consents name as well; who acts for a
    /// patient is named by staff first.
    pub(super) async fn made(&self, house: &House, tenant: TenantId, model: &mut Model) -> Agent {
        let (role, _) = self.who;
        match role {
            Role::Patient => Agent {
                tenant,
                // As questions about patients name them.
                id: self.patient.clone(),
                ..patient(&self.patient)
            },
            Role::Proxy => self.proxy(house, tenant, model).await,
            _ => known(house, tenant, role).await,
        }
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
    /// The same through the application that they use.
    pub(super) fn through(&self, agent: &Agent) -> Agent {
        let access = self.token.as_ref().map(|token| {
            let is_system = self.who.0 == Role::Client;
            Arc::new(Access {
                client: if is_system {
                    agent.id.clone()
                } else {
                    "app".to_owned()
                },
                client_name: "App".to_owned(),
                scopes: Scopes::parse(&token.text()).unwrap(),
                patient: token.patient.clone(),
                round: 0,
            })
        });
        Agent {
            access,
            ..agent.clone()
        }
    }
}

async fn known(house: &House, tenant: TenantId, role: Role) -> Agent {
    let operator = Agent::system(tenant, "command-line");
    let identity = house.trust.identity();
    let mut registered = None;
    if role == Role::Client {
        let all: Vec<Purpose> = (Registered::OF_BEFORE.into_iter())
            .chain([foo_bar()])
            .collect();
        registered = Some(Registered::new(&all, Contract::Signed).unwrap());
    }
    let made = identity.create_client_for(&operator, "X", role, registered.as_ref());
    let token = made.await.unwrap();
    let agent = identity.bearer(&token).await.unwrap();
    let administers = house
        .permit(&operator, Purpose::Administration, Action::Administer)
        .await
        .unwrap();
    identity
        .set_known_as(&administers, &agent.id, &["Practitioner/x".to_owned()])
        .await
        .unwrap();
    agent
}

//! Lists never lie, whatever the policies, rule pack, relationships and consents are: with all of them made by
//! chance, each way in which rows come out shows what reading one by one would.
//!
//! Who asks are staff, systems, patients and who acts for them, by themselves or through an application with scopes,
//! at some hour, from some network and with some second factor. `rules.rs` makes policies, `elements.rs` rules about
//! elements and `asking.rs` askers; each knows what its own mean apart from the code that reads them. `looking.rs`
//! goes each way; what subscriptions tell, while the world changes, is in `telling.rs`.
mod asking;
mod elements;
mod looking;
mod rules;
mod telling;

use std::cell::RefCell;
use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, RngSeed, TestRunner};

use super::search::{KINDS, Model, Write, clause, more_writes, play, play_more, writes};
use super::*;
use crate::Surroundings;
use crate::consent::Rules;
use asking::{Asker, Made, Token, askers};
use elements::{Hides, hides};
use looking::Look;
use rules::{Grant, STAFF, Setting, WARD, folder, grants, settings};

/// Enough for each sort of asker to meet each way.
const CASES: u32 = 56;
const SEED: u64 = 20_261_128;
/// What the ways give at least, all worlds together.
const LEAST: [(&str, usize); 21] = [
    ("read", 100),
    ("biller", 5),
    ("client", 5),
    ("clinician", 5),
    ("coordinator", 5),
    ("patient", 3),
    ("proxy", 5),
    ("own purpose", 5),
    ("in part", 10),
    ("wait", 4),
    ("at a bound", 2),
    ("by origin", 4),
    ("marked", 1),
    ("by tokens", 4),
    ("searched", 50),
    ("linked", 3),
    ("beside", 3),
    ("of patients", 50),
    ("past", 50),
    ("exported", 50),
    ("live", 300),
];
/// Where nobody's word is implied, and everybody is bound.
const OPT_IN: &str = "
name = 'opt-in'
[default]
permit = []
permitted = 'x'
denied = 'no consent on file'
[bound]
clinician = 'always'
coordinator = 'agreed'
client = 'always'
[[labelled]]
label = 'PSYTHPN'
roles = ['clinician', 'client']
needs = 'named'
denied = 'counselling notes'
[relationship]
needed = ['coordinator']
denied = 'none of theirs'
";

#[derive(Debug, Clone)]
struct World {
    pack: usize,
    grants: Vec<Grant>,
    hides: Vec<Hides>,
    /// Whose team the asker is in, and whether it still is one.
    teams: Vec<(u8, bool)>,
    asker: Asker,
    setting: Setting,
    writes: Vec<Write>,
    asks: Vec<Ask>,
    /// Through other resources.
    linked: Vec<Ask>,
}

#[derive(Debug, Clone)]
struct Ask {
    kind: ResourceType,
    clauses: Vec<(&'static str, String)>,
    count: usize,
}

impl Ask {
    fn query(&self, more: &[(&str, &str)]) -> SearchQuery {
        let count = self.count.to_string();
        let mut parameters: Vec<(&str, &str)> = vec![("_count", &count), ("_total", "accurate")];
        let clauses = self.clauses.iter();
        parameters.extend(clauses.map(|(name, value)| (*name, value.as_str())));
        parameters.extend(more);
        query(self.kind, &parameters)
    }
}

fn asks() -> impl Strategy<Value = Vec<Ask>> {
    let ask = select(KINDS.to_vec()).prop_flat_map(|kind| {
        let clauses = proptest::collection::vec(clause(kind), 0..2);
        (clauses, 1..6usize).prop_map(move |(clauses, count)| Ask {
            kind,
            clauses,
            count,
        })
    });
    proptest::collection::vec(ask, 3..9)
}

/// Chains and `_has`.
fn links() -> impl Strategy<Value = Vec<Ask>> {
    let ask = select(linked::LINKED.to_vec()).prop_flat_map(|kind| {
        let link = select(linked::links(kind)).prop_flat_map(|(name, values)| {
            select(values).prop_map(move |value| (name, (*value).to_owned()))
        });
        let links = proptest::collection::vec(link, 1..3);
        (links, 1..6usize).prop_map(move |(clauses, count)| Ask {
            kind,
            clauses,
            count,
        })
    });
    proptest::collection::vec(ask, 4..8)
}

fn worlds() -> impl Strategy<Value = World> {
    (
        (0..4usize, grants(), hides()),
        proptest::collection::vec((0..3u8, any::<bool>()), 0..3),
        (
            askers(),
            settings(),
            proptest::option::weighted(0.7, any::<usize>()),
            proptest::bool::weighted(0.8),
        ),
        writes(),
        (asks(), links()),
    )
        .prop_map(|(rules, teams, around, writes, asks)| {
            let (pack, mut grants, hides) = rules;
            let (asker, setting, bound, is_meant) = around;
            let mut setting = setting.of(&asker);
            // Many would be let do nothing.
            if is_meant {
                grants[0].add(asker.who);
            }
            if let Some(choice) = bound {
                setting = setting.at_bound(asker.who, &grants, choice);
            }
            World {
                pack,
                grants,
                hides,
                teams,
                asker,
                setting,
                writes,
                asks: asks.0,
                linked: asks.1,
            }
        })
}

/// What the ways gave.
type Sums = BTreeMap<&'static str, usize>;

/// A vault over the same store under the rules of a world.
fn under(house: &House, world: &World) -> Trust {
    let folder = folder(&world.grants, &world.hides);
    let rules = match world.pack {
        0 => Rules::load("us-hipaa"),
        1 | 2 => Rules::load("england"),
        _ => Rules::parse("opt-in", OPT_IN),
    };
    let trust = Trust::under(
        TrustOptions {
            ledger: house.ledger().clone(),
            wall_clock: Arc::new(house.wall.clone()),
            policy_folder: Some(folder.path().to_owned()),
            session_idle_s: 900,
            session_absolute_s: 12 * 3600,
        },
        rules.unwrap(),
    )
    .unwrap();
    trust.situate(Surroundings::of("main", "UTC", [WARD]).unwrap());
    trust
}

/// Says whose teams the asker is in; of a team that is there already, whether they still are.
async fn put_teams(house: &House, tenant: TenantId, teams: &[(u8, bool)]) {
    for (place, (patient, active)) in teams.iter().enumerate() {
        let status = if *active { "active" } else { "inactive" };
        let team = json!({"resourceType": "CareTeam", "id": format!("t{place}-{patient}"), "status": status,
            "subject": {"reference": format!("Patient/p{patient}")},
            "participant": [{"member": {"reference": "Practitioner/x"}}]});
        house.put_for(tenant, [team]).await;
    }
}

async fn look(
    house: &House,
    tenant: TenantId,
    world: &World,
    sums: &RefCell<Sums>,
) -> Result<(), TestCaseError> {
    let mut model = play(house, tenant, &world.writes).await;
    house.wall.set(world.setting.wall_ms());
    let made = world.asker.made(house, tenant, &mut model).await;
    put_teams(house, tenant, &world.teams).await;
    let trust = under(house, world);
    let (role, purpose) = world.asker.who;
    let mut look = Look::new(&trust, world, &made, &model);
    let given = |way, number| *sums.borrow_mut().entry(way).or_default() += number;
    given("live", model.len());
    let read = look.read_all().await?;
    given("read", read);
    given(role.name(), read);
    given("own purpose", purpose.own().map_or(0, |_| read));
    let cut = look
        .seen
        .iter()
        .filter(|row| fhir::subset::is_subsetted(&row.resource));
    given("in part", cut.count());
    let waits = |grant: &Grant| grant.waits(world.asker.who, &world.setting);
    given("wait", usize::from(world.grants.iter().any(waits)));
    let turns = |grant: &Grant| grant.turns(world.asker.who, &world.setting);
    given("at a bound", usize::from(world.grants.iter().any(turns)));
    let looks = |grant: &Grant| grant.looks_at_origin(world.asker.who);
    given("by origin", usize::from(world.grants.iter().any(looks)));
    given("marked", look.marked_for_parents());
    given("by tokens", look.read_through().await?);
    look.explained().await?;
    for ask in &world.asks {
        given("searched", look.search(ask).await?);
    }
    for ask in &world.linked {
        given("linked", look.linked(ask).await?);
    }
    given("beside", look.included().await?);
    given("of patients", look.of_patients().await?);
    given("past", look.past().await?);
    given("exported", look.exported(tenant.0).await?);
    Ok(())
}

// Proves: 45 CFR 164.312(a)(1)
#[test]
fn each_way_out_shows_what_reading_one_by_one_would() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let house = runtime.block_on(House::new());
    let tenants = std::cell::Cell::new(5000);
    let sums = RefCell::new(Sums::new());
    let mut runner = TestRunner::new(Config {
        cases: CASES,
        rng_seed: RngSeed::Fixed(SEED),
        failure_persistence: None,
        ..Config::default()
    });
    let result = runner.run(&worlds(), |world| {
        tenants.set(tenants.get() + 1);
        let tenant = TenantId(tenants.get());
        house.care.set(NOW_MS);
        let client = if world.setting.in_ward {
            "10.1.2.3"
        } else {
            "10.2.2.3"
        };
        runtime.block_on(async {
            house.ledger().create_tenant(tenant).await.unwrap();
            let looking = look(&house, tenant, &world, &sums);
            crate::origin::at(client.parse().unwrap(), looking).await
        })
    });
    if let Err(error) = result {
        panic!("seed {SEED}: {error}");
    }
    // Some of it is hidden, and each way gave something to each who asks.
    let sums = sums.into_inner();
    let of = |way: &str| sums.get(way).copied().unwrap_or_default();
    assert!(of("live") > of("read") + 100, "{sums:?}");
    for (way, least) in LEAST {
        assert!(of(way) > least, "{way}: {sums:?}");
    }
}

//! What subscriptions tell, by the decision that each notification is sent by: of each row what reading it at that
//! moment would show who asked for them, or nothing. Between two rounds the world changes: what is written, consents
//! above all, policies, rules about elements, teams, the hour, and what its owner is let do, if anything.
use std::collections::BTreeSet;

use fhir::search::Owns;

use super::*;
use crate::identity::let_in;
use crate::{OnBehalf, Subscribed, SubscriptionState, Telling};

/// Enough for each sort of owner to lose each sort of right.
const CASES: u32 = 60;
const SEED: u64 = 20_261_129;
/// What the worlds give at least, all together.
const LEAST: [(&str, usize); 9] = [
    ("row", 60),
    ("in part", 10),
    ("nothing", 100),
    ("refused", 30),
    ("nobody", 30),
    ("by scopes", 10),
    ("other than before", 5),
    ("no more", 10),
    ("new", 5),
];

/// What becomes of who asked.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Stays,
    /// So many of the scopes of their application stay.
    Narrowed(usize),
    Ended,
}

/// What is other than before.
#[derive(Debug, Clone)]
struct Later {
    rules: Option<(Vec<Grant>, Vec<Hides>)>,
    setting: Setting,
    teams: Vec<(u8, bool)>,
    writes: Vec<Write>,
    fate: Fate,
}

fn laters() -> impl Strategy<Value = Later> {
    let fates = prop_oneof![
        5 => Just(Fate::Stays),
        2 => (1..3usize).prop_map(Fate::Narrowed),
        1 => Just(Fate::Ended),
    ];
    (
        proptest::option::weighted(0.3, (grants(), hides())),
        settings(),
        proptest::collection::vec((0..3u8, any::<bool>()), 0..3),
        more_writes(),
        fates,
    )
        .prop_map(|(rules, setting, teams, writes, fate)| Later {
            rules,
            setting,
            teams,
            writes,
            fate,
        })
}

/// Whether a search may be a subscription's criteria.
fn may_be_followed(query: &SearchQuery) -> bool {
    !query.has_links()
        && !query.needs_codes()
        && !query.depends_on_now()
        && !query.reads_texts()
        && query.sort.is_empty()
        && query.includes.is_empty()
}

/// Subscriptions of somebody, as they are kept.
fn subscribed(world: &World, owner: &Agent) -> Vec<Subscribed> {
    let kept = world.asks.iter().map(|ask| {
        let criteria = ask.clauses.iter();
        let one = Subscribed {
            owner: OnBehalf::of(owner),
            purpose: world.asker.who.1,
            kind: ask.kind.name().to_owned(),
            criteria: criteria
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect(),
            base: "https://cairn.example/fhir/r4".to_owned(),
            endpoint: "https://there.example/hook".to_owned(),
            with_payload: true,
            headers: Vec::new(),
            end_ms: None,
            state: SubscriptionState::Active,
            since: None,
            failing_since_ms: None,
            error: None,
        };
        serde_json::from_slice(&serde_json::to_vec(&one).unwrap()).unwrap()
    });
    kept.filter(|one: &Subscribed| may_be_followed(&one.query(&Owns::default(), None).unwrap()))
        .collect()
}

/// What was told of each row to each subscription.
type Rows = BTreeMap<(usize, String), String>;

/// One moment of a world.
struct Moment<'a> {
    look: Look<'a>,
    tenant: TenantId,
    /// Whether who asked is let in still.
    is_in: bool,
}

impl Moment<'_> {
    /// What each subscription tells of each row, and whether it is what it is to be.
    async fn tell(&self, all: &[Subscribed], sums: &RefCell<Sums>) -> Result<Rows, TestCaseError> {
        let mut rows = Rows::new();
        for (place, one) in all.iter().enumerate() {
            let query = one.query(&Owns::default(), None).unwrap();
            let kind = query.kind;
            let is_allowed = self.look.begins(Action::Search)
                && self.look.may(Action::Search, kind)
                && !self.look.would_tell(&query);
            let found: BTreeSet<String> = self.look.expected(&query).into_iter().collect();
            let model = self.look.model.iter().filter(|((of, _), _)| *of == kind);
            let ids = model.map(|((_, id), (_, row))| (id.as_str(), Some(row)));
            for (id, whole) in ids.chain([("nothing-there", None)]) {
                let name = format!("{kind}/{id}");
                let expected = match self.look.told.get(&name) {
                    _ if !self.is_in => ("nobody", None),
                    _ if !is_allowed => ("refused", None),
                    Some(row) if found.contains(&name) => {
                        // Who follows what is written puts it on its way.
                        prop_assert!(query.matches(whole.unwrap()), "{} {:?}", name, query.used);
                        ("row", Some(String::from_utf8_lossy(row).into_owned()))
                    }
                    _ => ("nothing", None),
                };
                let telling = self.look.trust.telling(self.tenant, one, id, "r");
                let told = match telling.await.unwrap() {
                    Telling::Row(told) => {
                        let text = String::from_utf8(told.row.json().into_owned()).unwrap();
                        ("row", Some(text))
                    }
                    Telling::Nothing => ("nothing", None),
                    Telling::Refused(_) => ("refused", None),
                    Telling::Nobody => ("nobody", None),
                    Telling::Unclear => panic!("{:?} is not understood", query.used),
                };
                prop_assert_eq!(&told, &expected, "{} {:?}", name, query.used);
                *sums.borrow_mut().entry(told.0).or_default() += 1;
                rows.extend(told.1.map(|text| ((place, name), text)));
            }
        }
        self.count(&rows, sums);
        Ok(rows)
    }
    fn count(&self, rows: &Rows, sums: &RefCell<Sums>) {
        let mut sums = sums.borrow_mut();
        let mut given = |way, number| *sums.entry(way).or_default() += number;
        let cut = rows.values().filter(|text| text.contains("SUBSETTED"));
        given("in part", cut.count());
        let has_scopes = self.look.world.asker.token.is_some();
        given("by scopes", if has_scopes { rows.len() } else { 0 });
    }
}

/// Whether somebody is let in without a request of their own: who has a token, or lets an application act for them.
fn is_in(asker: &Asker) -> bool {
    STAFF.contains(&asker.who.0) || asker.token.is_some()
}

/// Does to who asked what becomes of them; gives who they are now.
async fn befall(house: &House, trust: &Trust, made: &Made, world: &World, fate: Fate) -> Asker {
    let asker = &world.asker;
    let app = made.agent.app();
    match (fate, &asker.token, app) {
        (Fate::Narrowed(count), Some(token), Some(app)) => {
            let token = token.narrowed(count);
            let own = Agent {
                access: None,
                ..made.agent.clone()
            };
            let patient = token.patient.as_deref();
            let of = (&own, Some(app.client.as_str()));
            let_in(house, of, &token.text(), patient).await;
            asker.with(token)
        }
        (Fate::Ended, _, _) if is_in(asker) => {
            let operator = Agent::system(made.agent.tenant, "command-line");
            let client = app.map_or(&made.agent.id, |app| &app.client);
            let by = trust
                .decide(
                    &operator,
                    Purpose::Administration,
                    Action::Administer,
                    Target::default(),
                    "r",
                )
                .await
                .unwrap();
            let identity = trust.identity();
            identity.revoke_client(&by, client, "x").await.unwrap();
            asker.clone()
        }
        _ => asker.clone(),
    }
}

async fn tell_all(
    house: &House,
    tenant: TenantId,
    (world, later): &(World, Later),
    sums: &RefCell<Sums>,
) -> Result<(), TestCaseError> {
    let mut model = play(house, tenant, &world.writes).await;
    let mut world = World {
        setting: world.setting.by_itself(&world.asker),
        ..world.clone()
    };
    house.wall.set(world.setting.wall_ms());
    let made = world.asker.made(house, tenant, &mut model).await;
    put_teams(house, tenant, &world.teams).await;
    let all = subscribed(&world, &made.agent);
    let trust = under(house, &world);
    let mut moment = Moment {
        look: Look::new(&trust, &world, &made, &model),
        tenant,
        is_in: is_in(&world.asker),
    };
    moment.look.read_all().await?;
    let before = moment.tell(&all, sums).await?;

    play_more(house, tenant, &mut model, &later.writes).await;
    put_teams(house, tenant, &later.teams).await;
    let asker = befall(house, &trust, &made, &world, later.fate).await;
    if let Some((grants, hides)) = &later.rules {
        world.grants.clone_from(grants);
        world.hides.clone_from(hides);
    }
    world.setting = later.setting.by_itself(&asker);
    world.asker = asker;
    house.wall.set(world.setting.wall_ms());
    let is_other = later.rules.is_some();
    let trust = if is_other {
        under(house, &world)
    } else {
        trust
    };
    let is_ended = matches!(later.fate, Fate::Ended);
    let mut moment = Moment {
        look: Look::new(&trust, &world, &made, &model),
        tenant,
        is_in: is_in(&world.asker) && !is_ended,
    };
    moment.look.read_all().await?;
    let after = moment.tell(&all, sums).await?;
    let mut sums = sums.borrow_mut();
    for (name, row) in &before {
        let way = match after.get(name) {
            None => "no more",
            Some(now) if now != row => "other than before",
            Some(_) => "the same",
        };
        *sums.entry(way).or_default() += 1;
    }
    let new = after.keys().filter(|name| !before.contains_key(*name));
    *sums.entry("new").or_default() += new.count();
    Ok(())
}

// Proves: 45 CFR 164.312(a)(1)
#[test]
fn what_a_subscription_tells_is_what_reading_at_that_moment_shows() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let house = runtime.block_on(House::new());
    let tenants = std::cell::Cell::new(6000);
    let sums = RefCell::new(Sums::new());
    let mut runner = TestRunner::new(Config {
        cases: CASES,
        rng_seed: RngSeed::Fixed(SEED),
        failure_persistence: None,
        ..Config::default()
    });
    let result = runner.run(&(worlds(), laters()), |world| {
        tenants.set(tenants.get() + 1);
        let tenant = TenantId(tenants.get());
        house.care.set(NOW_MS);
        runtime.block_on(async {
            house.ledger().create_tenant(tenant).await.unwrap();
            tell_all(&house, tenant, &world, &sums).await
        })
    });
    if let Err(error) = result {
        panic!("seed {SEED}: {error}");
    }
    let sums = sums.into_inner();
    let of = |way: &str| sums.get(way).copied().unwrap_or_default();
    for (way, least) in LEAST {
        assert!(of(way) > least, "{way}: {sums:?}");
    }
}

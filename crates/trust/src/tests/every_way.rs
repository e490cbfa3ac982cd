//! Lists never lie, whatever the policies, rule pack, relationships and consents are: with all of them made by
//! chance, each way in which rows come out shows what reading one by one would.
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::atomic::AtomicUsize;

use ledger::Number;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::test_runner::{Config, RngSeed, TestRunner};

use super::search::{KINDS, Write, clause, play, writes};
use super::*;
use crate::consent::Rules;
use crate::{AskedAbout, ExportJob, ExportOf, PastQuery, PolicySet, Question, SortedAt};

const ROLES: [Role; 4] = [
    Role::Clinician,
    Role::Coordinator,
    Role::Client,
    Role::Biller,
];
const PURPOSES: [Purpose; 4] = [
    Purpose::Treatment,
    Purpose::Payment,
    Purpose::Operations,
    Purpose::CareManagement,
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

/// Who may do what with which types, for which purposes.
#[derive(Debug, Clone)]
struct Grant {
    roles: Vec<Role>,
    purposes: Vec<Purpose>,
    /// Reading; then searching, too; then histories, too.
    ways: usize,
    kinds: Vec<ResourceType>,
}

const WAYS: [Action; 3] = [Action::Read, Action::Search, Action::History];

impl Grant {
    fn gives(&self, who: (Role, Purpose), action: Action, kind: ResourceType) -> bool {
        self.roles.contains(&who.0)
            && self.purposes.contains(&who.1)
            && WAYS[..self.ways].contains(&action)
            && self.kinds.contains(&kind)
    }
}

#[derive(Debug, Clone)]
struct World {
    pack: usize,
    grants: Vec<Grant>,
    /// Whose team the asker is in, and whether it still is one.
    teams: Vec<(u8, bool)>,
    who: (Role, Purpose),
    writes: Vec<Write>,
    asks: Vec<Ask>,
}

#[derive(Debug, Clone)]
struct Ask {
    kind: ResourceType,
    clauses: Vec<(&'static str, String)>,
    count: usize,
}

fn worlds() -> impl Strategy<Value = World> {
    let grant = (
        subsequence(ROLES.to_vec(), 1..=4),
        subsequence(PURPOSES.to_vec(), 1..=4),
        1..=3usize,
        subsequence(KINDS.to_vec(), 1..=8),
    )
        .prop_map(|(roles, purposes, ways, kinds)| Grant {
            roles,
            purposes,
            ways,
            kinds,
        });
    let ask = select(KINDS.to_vec()).prop_flat_map(|kind| {
        let clauses = proptest::collection::vec(clause(kind), 0..2);
        (clauses, 1..6usize).prop_map(move |(clauses, count)| Ask {
            kind,
            clauses,
            count,
        })
    });
    (
        0..4usize,
        proptest::collection::vec(grant, 2..7),
        proptest::collection::vec((0..3u8, any::<bool>()), 0..3),
        (select(ROLES.to_vec()), select(PURPOSES.to_vec())).prop_map(
            |(role, purpose)| match role {
                // What billers are registered for.
                Role::Biller => (role, Purpose::Payment),
                _ => (role, purpose),
            },
        ),
        writes(),
        proptest::collection::vec(ask, 4..12),
    )
        .prop_map(|(pack, grants, teams, who, writes, asks)| World {
            pack,
            grants,
            teams,
            who,
            writes,
            asks,
        })
}

/// The policies of a world in Cedar, with the built-in ones of those parts of Cairn that act by themselves.
fn policies(grants: &[Grant]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let of_role = |name: &str| ROLES.iter().any(|role| name.starts_with(role.name()));
    for (name, text) in PolicySet::built_in_files() {
        if !of_role(name) && !name.ends_with(".test.toml") {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
    }
    let list = |items: &mut dyn Iterator<Item = String>| items.collect::<Vec<_>>().join(", ");
    let mut text = String::new();
    for (place, grant) in grants.iter().enumerate() {
        let purposes = list(&mut grant.purposes.iter().map(|one| format!("{:?}", one.code())));
        let actions = list(
            &mut WAYS[..grant.ways]
                .iter()
                .map(|one| format!("Action::\"{}\"", one.name())),
        );
        let kinds = list(&mut grant.kinds.iter().map(|one| format!("Kind::\"{one}\"")));
        for role in &grant.roles {
            let role = role.name();
            writeln!(
                text,
                "@id(\"{role}-{place}\") @says(\"x\")\npermit (principal in Role::\"{role}\", action in [{actions}], resource)\n\
                 when {{ [{purposes}].contains(context.purpose) && resource in [{kinds}] }};"
            )
            .unwrap();
        }
    }
    for role in ROLES.map(Role::name) {
        writeln!(
            text,
            "@id(\"{role}-exports\") @says(\"x\")\npermit (principal in Role::\"{role}\", action == Action::\"export\", resource);"
        )
        .unwrap();
    }
    std::fs::write(folder.path().join("chance.cedar"), text).unwrap();
    folder
}

/// Somebody known as `Practitioner/x`, whom consents name as well.
async fn asker(house: &House, tenant: TenantId, role: Role) -> Agent {
    let operator = Agent::system(tenant, "command-line");
    let identity = house.trust.identity();
    let token = identity.create_client(&operator, "X", role).await.unwrap();
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

/// What one asker is shown in one world, and what they are to be shown.
struct Look<'a> {
    trust: &'a Trust,
    agent: Agent,
    world: &'a World,
    /// What reading one by one shows.
    seen: Vec<Versioned>,
}

type Checked = Result<usize, TestCaseError>;

impl Look<'_> {
    async fn permit(&self, action: Action) -> Result<Permit, TrustError> {
        let (_, purpose) = self.world.who;
        let target = Target::default();
        self.trust
            .decide(&self.agent, purpose, action, target, "r")
            .await
    }
    fn may(&self, action: Action, kind: ResourceType) -> bool {
        let mut grants = self.world.grants.iter();
        grants.any(|grant| grant.gives(self.world.who, action, kind))
    }
    fn seen_of(&self, kind: ResourceType) -> impl Iterator<Item = &Versioned> {
        self.seen
            .iter()
            .filter(move |row| row.resource.kind() == kind)
    }
    /// Each live row by itself, and whether the policies are followed.
    async fn read_all(&mut self, live: &BTreeSet<(ResourceType, String)>) -> Checked {
        let any = KINDS.iter().any(|kind| self.may(Action::Read, *kind));
        let permit = self.permit(Action::Read).await;
        prop_assert_eq!(permit.is_ok(), any);
        let Ok(permit) = permit else { return Ok(0) };
        for (kind, id) in live {
            match self.trust.vault().read(&permit, *kind, id).await {
                Ok(row) => {
                    prop_assert!(self.may(Action::Read, *kind), "{}", kind);
                    self.seen.extend(row);
                }
                Err(TrustError::Refused(_)) => prop_assert!(!self.may(Action::Read, *kind)),
                Err(error) => panic!("{error}"),
            }
        }
        self.seen
            .sort_by_key(|row| std::cmp::Reverse(row.at.number));
        Ok(self.seen.len())
    }
    /// The explanation of each row says what reading it does.
    async fn explained(&self, live: &BTreeSet<(ResourceType, String)>) -> Checked {
        let officer = Agent {
            id: "officer".to_owned(),
            role: Role::PrivacyOfficer,
            ..self.agent.clone()
        };
        let target = Target::default();
        let by = self
            .trust
            .decide(&officer, Purpose::Operations, Action::Audit, target, "r")
            .await
            .unwrap();
        let shown: BTreeSet<String> = self.seen.iter().map(name).collect();
        for (kind, id) in live {
            let (role, purpose) = self.world.who;
            let question = Question {
                role,
                part: None,
                purpose,
                action: Action::Read,
                kind: Some(*kind),
                own: false,
                around: crate::Around::default(),
            };
            let about = AskedAbout {
                person: Some(&self.agent.id),
                row: Some(id),
                scopes: None,
            };
            let told = self.trust.explain(&by, &question, &about).await.unwrap();
            let is_shown = shown.contains(&format!("{kind}/{id}"));
            prop_assert_eq!(told.permitted(), is_shown, "{:?} {:?}", question, told);
            let why = told.row.unwrap();
            let denied = why.consents.iter().any(|one| !one.permitted) || why.barred.is_some();
            prop_assert_eq!(denied, !why.permitted, "{:?}", why);
        }
        Ok(live.len())
    }
    fn expected(&self, query: &SearchQuery) -> Vec<String> {
        self.seen_of(query.kind)
            .filter(|row| {
                query.matches(&row.resource)
                    && crate::tokens::last_updated_matches(query, row.at.number)
            })
            .map(name)
            .collect()
    }
    /// A list page by page, newest first and by id, with totals.
    async fn search(&self, ask: &Ask) -> Checked {
        let Ok(permit) = self.permit(Action::Search).await else {
            prop_assert!(!KINDS.iter().any(|kind| self.may(Action::Search, *kind)));
            return Ok(0);
        };
        let count = ask.count.to_string();
        let mut parameters: Vec<(&str, &str)> = vec![("_count", &count), ("_total", "accurate")];
        parameters.extend(
            ask.clauses
                .iter()
                .map(|(name, value)| (*name, value.as_str())),
        );
        let asked = query(ask.kind, &parameters);
        let expected = self.expected(&asked);
        let vault = self.trust.vault();
        let (mut found, mut before) = (Vec::new(), None);
        loop {
            let page = match vault.search(&permit, &asked, before).await {
                // By policy, or because it looks at what is not shown.
                Err(TrustError::Refused(no)) => {
                    let hidden = no.reason.contains("is not shown to the role");
                    prop_assert!(
                        hidden || !self.may(Action::Search, ask.kind),
                        "{}",
                        no.reason
                    );
                    return Ok(0);
                }
                page => page.unwrap(),
            };
            prop_assert!(self.may(Action::Search, ask.kind));
            prop_assert_eq!(page.total, Some(expected.len()));
            texts_are_the_rows(vault, (&permit, &asked), before, &page).await;
            found.extend(page.rows.iter().map(name));
            before = page.next;
            if before.is_none() {
                break;
            }
        }
        prop_assert_eq!(&found, &expected);
        parameters.push(("_sort", "_id"));
        let sorted = query(ask.kind, &parameters);
        let (mut found, mut at) = (Vec::new(), None);
        loop {
            let page = vault.search_sorted(&permit, &sorted, at).await.unwrap();
            prop_assert_eq!(page.total, Some(expected.len()));
            found.extend(page.rows.iter().map(name));
            let Some(last) = page.rows.last().filter(|_| page.next.is_some()) else {
                break;
            };
            let first = at.map_or(page.as_of, |at: SortedAt| at.first);
            at = Some(SortedAt {
                last: last.at,
                first,
            });
        }
        let mut expected = expected;
        expected.sort_unstable();
        prop_assert_eq!(&found, &expected);
        Ok(found.len())
    }
    /// What comes beside patients, and beside observations.
    async fn included(&self) -> Checked {
        let Ok(permit) = self.permit(Action::Search).await else {
            return Ok(0);
        };
        let mut given = 0;
        for (kind, way, other) in [
            (
                ResourceType::Patient,
                ("_revinclude", "Observation:patient"),
                ResourceType::Observation,
            ),
            (
                ResourceType::Patient,
                ("_revinclude", "Claim:patient"),
                ResourceType::Claim,
            ),
            (
                ResourceType::Observation,
                ("_include", "Observation:encounter"),
                ResourceType::Encounter,
            ),
            (
                ResourceType::Condition,
                ("_include", "Condition:patient"),
                ResourceType::Patient,
            ),
        ] {
            if !self.may(Action::Search, kind) {
                continue;
            }
            let asked = query(kind, &[way, ("_count", "1000")]);
            let page = match self.trust.vault().search(&permit, &asked, None).await {
                Err(TrustError::Refused(no)) => {
                    let hidden = no.reason.contains("is not shown to the role");
                    prop_assert!(hidden || !self.may(Action::Search, other), "{}", no.reason);
                    continue;
                }
                page => page.unwrap(),
            };
            let refers = |from: &Versioned, to: &Versioned| {
                let wanted = name(to);
                let mut refers = false;
                from.resource
                    .each_reference(&mut |text| refers |= text == wanted);
                refers
            };
            let expected: BTreeSet<String> = self
                .seen_of(other)
                // What refers is searched for; what is referred to is read.
                .filter(|_| way.0 == "_include" || self.may(Action::Search, other))
                .filter(|row| {
                    self.seen_of(kind)
                        .any(|one| refers(one, row) || refers(row, one))
                })
                .map(name)
                .collect();
            let found: BTreeSet<String> = page.included.iter().map(name).collect();
            prop_assert_eq!(&found, &expected, "{:?}", way);
            given += found.len();
        }
        Ok(given)
    }
    /// Versions: none that reading that version would not show, and all that are there now.
    async fn past(&self) -> Checked {
        let (Ok(permit), Ok(read)) = (
            self.permit(Action::History).await,
            self.permit(Action::Read).await,
        ) else {
            return Ok(0);
        };
        let asked = PastQuery {
            kind: None,
            since: Number(0),
            during: None,
            count: 1000,
            words: "_history".to_owned(),
        };
        let page = self
            .trust
            .vault()
            .past(&permit, &asked, None)
            .await
            .unwrap();
        let mut newest = BTreeSet::new();
        for row in page
            .rows
            .iter()
            .map(|past| &past.row)
            .filter(|row| !row.deleted)
        {
            let (kind, id) = (row.resource.kind(), row.resource.id().unwrap());
            prop_assert!(self.may(Action::History, kind));
            let shown = self
                .trust
                .vault()
                .read_version(&read, kind, id, row.version)
                .await;
            prop_assert!(shown.unwrap().is_some(), "{} {}", kind, id);
            newest.insert((name(row), row.version));
        }
        let mut now = self.seen.iter();
        let missing = now.find(|row| {
            self.may(Action::History, row.resource.kind())
                && !newest.contains(&(name(row), row.version))
        });
        prop_assert!(missing.is_none(), "{:?}", missing.map(name));
        Ok(newest.len())
    }
    /// All files of an export of everything.
    async fn exported(&self, number: usize) -> Checked {
        let permit = self.permit(Action::Export).await.unwrap();
        let kinds = KINDS.iter().filter(|kind| self.may(Action::Read, **kind));
        let kinds: Vec<String> = kinds.map(|kind| kind.name().to_owned()).collect();
        if kinds.is_empty() {
            return Ok(0);
        }
        let job = ExportJob {
            caller: permit.agent().id.clone(),
            purpose: permit.purpose(),
            request: "x".to_owned(),
            kinds,
            of: ExportOf::System,
            since: None,
            elements: Vec::new(),
            filters: Vec::new(),
            ignored: Vec::new(),
            expires_ms: u64::MAX,
            layout: None,
        };
        let vault = self.trust.vault();
        let id = format!("job{number}");
        vault.keep_export(&permit, &id, &job).await.unwrap();
        let progress = AtomicUsize::new(0);
        let tenant = permit.tenant();
        vault.lay_out_export(tenant, &id, &progress).await.unwrap();
        let found = vault.export_job(&permit, &id, 0).await.unwrap().unwrap();
        let mut rows = BTreeSet::new();
        for file in 0..found.job.layout.as_ref().unwrap().files.len() {
            let reading = vault.export_file(&permit, &found, file, Vec::new(), None);
            let mut reading = reading.await.unwrap();
            while let Some(lines) = reading.next().await.unwrap() {
                for line in lines
                    .split(|byte| *byte == b'\n')
                    .filter(|line| !line.is_empty())
                {
                    let row = Resource::parse(line).unwrap();
                    prop_assert!(rows.insert(row.reference().unwrap().to_string()));
                }
            }
        }
        let expected: BTreeSet<String> = self.seen.iter().map(name).collect();
        prop_assert_eq!(&rows, &expected);
        Ok(rows.len())
    }
}

fn name(row: &Versioned) -> String {
    row.resource.reference().unwrap().to_string()
}

/// Rows that each way gave: by themselves, searched, beside others, past, exported.
async fn look(house: &House, tenant: TenantId, world: &World) -> Result<[usize; 6], TestCaseError> {
    let model = play(house, tenant, &world.writes).await;
    let mut live: BTreeSet<(ResourceType, String)> = model.keys().cloned().collect();
    let agent = asker(house, tenant, world.who.0).await;
    for (place, (patient, active)) in world.teams.iter().enumerate() {
        let status = if *active { "active" } else { "inactive" };
        let team = json!({"resourceType": "CareTeam", "id": format!("t{place}"), "status": status,
            "subject": {"reference": format!("Patient/p{patient}")},
            "participant": [{"member": {"reference": "Practitioner/x"}}]});
        house.put_for(tenant, [team]).await;
    }
    live.retain(|(kind, _)| KINDS.contains(kind));
    let folder = policies(&world.grants);
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
    let mut look = Look {
        trust: &trust,
        agent,
        world,
        seen: Vec::new(),
    };
    let mut given = [live.len(), look.read_all(&live).await?, 0, 0, 0, 0];
    look.explained(&live).await?;
    for ask in &world.asks {
        given[2] += look.search(ask).await?;
    }
    given[3] = look.included().await?;
    given[4] = look.past().await?;
    given[5] = look.exported(usize::try_from(tenant.0).unwrap()).await?;
    Ok(given)
}

// Proves: 45 CFR 164.312(a)(1)
#[test]
fn each_way_out_shows_what_reading_one_by_one_would() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let house = runtime.block_on(House::new());
    let tenants = std::cell::Cell::new(5000);
    let sums = std::cell::Cell::new([0; 6]);
    let mut runner = TestRunner::new(Config {
        cases: 40,
        rng_seed: RngSeed::Fixed(20_261_128),
        failure_persistence: None,
        ..Config::default()
    });
    let result = runner.run(&worlds(), |world| {
        tenants.set(tenants.get() + 1);
        let tenant = TenantId(tenants.get());
        house.care.set(NOW_MS);
        runtime.block_on(async {
            house.ledger().create_tenant(tenant).await.unwrap();
            let given = look(&house, tenant, &world).await?;
            let mut sum = sums.get();
            for (sum, given) in sum.iter_mut().zip(given) {
                *sum += given;
            }
            sums.set(sum);
            Ok(())
        })
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    let [live, read, searched, beside, past, exported] = sums.get();
    // Some of it is hidden, and each way gave something.
    assert!(
        read > 100 && live > read + 100 && exported > 100,
        "{live} {read} {exported}"
    );
    assert!(
        searched > 50 && beside > 20 && past > 50,
        "{searched} {beside} {past}"
    );
}

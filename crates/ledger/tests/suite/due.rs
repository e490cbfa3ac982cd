//! Several tenants' timers and outbox entries in one order: each finds its own, whatever the others have waiting.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use ledger::{Commit, Ledger, OutboxDraft, OutboxKey, Owner, Shard, TenantId, Timer, TimerKey};

use super::{Store, TENANT, ready};

const TENANTS: [TenantId; 3] = [TENANT, TenantId(2), TenantId(3)];
/// Times that are tried; more rows than a page lie in some of them.
const TIMES: u64 = 40;
const STEPS: u32 = 120;

type Due = (u64, Shard, [u8; 16]);
/// Whose, and of which consumer or channel.
type Rows = BTreeMap<Due, (TenantId, u16)>;

/// Numbers that look like chance, the same each time.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % bound
    }
    fn key(&mut self) -> Due {
        let id = [u8::try_from(self.below(200)).unwrap(); 16];
        (
            self.below(TIMES),
            Shard(u16::try_from(self.below(256)).unwrap()),
            id,
        )
    }
}

fn timer_key((due_ms, shard, id): Due) -> TimerKey {
    TimerKey { shard, due_ms, id }
}

fn outbox_key((due_ms, shard, id): Due) -> OutboxKey {
    OutboxKey { shard, due_ms, id }
}

/// The first of somebody's that are due.
fn due(
    rows: &Rows,
    tenant: Option<TenantId>,
    numbers: &[u16],
    until_ms: u64,
    limit: usize,
) -> Vec<Due> {
    let theirs = rows.iter().filter(|(key, (of, number))| {
        key.0 <= until_ms
            && tenant.is_none_or(|tenant| tenant == *of)
            && (numbers.is_empty() || numbers.contains(number))
    });
    theirs.take(limit).map(|(key, _)| *key).collect()
}

async fn compare(ledger: &Ledger, timers: &Rows, outbox: &Rows, chance: &mut Chance) {
    let all = [None].into_iter().chain(TENANTS.map(Some));
    for tenant in all {
        let handle = tenant.map_or_else(|| ledger.clone(), |tenant| ledger.only(tenant));
        let until_ms = chance.below(TIMES + 3);
        let limit = usize::try_from(1 + chance.below(400)).unwrap();
        for number in [1, 2, 3] {
            let found = handle.timers_due(number, until_ms, limit).await.unwrap();
            let found: Vec<Due> = found
                .iter()
                .map(|row| (row.key.due_ms, row.key.shard, row.key.id))
                .collect();
            assert_eq!(found, due(timers, tenant, &[number], until_ms, limit));
        }
        let next = due(timers, tenant, &[], u64::MAX, 1)
            .first()
            .map(|key| key.0);
        assert_eq!(handle.next_timer_ms().await.unwrap(), next);
        for channels in [&[1u16][..], &[1, 2], &[3]] {
            let look = handle.outbox_look(channels, until_ms, limit).await.unwrap();
            let found: Vec<Due> = look
                .entries
                .iter()
                .map(|row| (row.key.due_ms, row.key.shard, row.key.id))
                .collect();
            assert_eq!(found, due(outbox, tenant, channels, until_ms, limit));
        }
        let next = due(outbox, tenant, &[], u64::MAX, 1)
            .first()
            .map(|key| key.0);
        assert_eq!(handle.next_outbox_ms().await.unwrap(), next);
    }
}

pub(crate) async fn each_finds_what_is_due_of_its_own(store: &dyn Store) {
    let ledger = ready(store).await;
    for tenant in &TENANTS[1..] {
        ledger.create_tenant(*tenant).await.unwrap();
    }
    let (mut timers, mut outbox, mut chance) = (Rows::new(), Rows::new(), Chance(11));
    for step in 0..STEPS {
        // The first has most of all, so that others' lie pages apart.
        let tenant = TENANTS[usize::try_from(chance.below(20)).unwrap() / 18
            * (1 + usize::try_from(chance.below(2)).unwrap())];
        let mut commit = Commit::new(tenant);
        let rows = if step % 10 == 0 { 300 } else { chance.below(4) };
        for _ in 0..rows {
            let (key, number) = (chance.key(), u16::try_from(1 + chance.below(2)).unwrap());
            if let Entry::Vacant(place) = timers.entry(key) {
                place.insert((tenant, number));
                commit.timers_set.push(Timer {
                    key: timer_key(key),
                    tenant,
                    consumer: number,
                    payload: vec![1],
                });
            }
            let key = chance.key();
            if rows < 10
                && let Entry::Vacant(place) = outbox.entry(key)
            {
                place.insert((tenant, number));
                commit.outbox_add.push(OutboxDraft {
                    key: outbox_key(key),
                    owner: Owner::Tenant,
                    channel: number,
                    attempt: 0,
                    body: vec![1],
                });
            }
        }
        if commit.timers_set.is_empty() && commit.outbox_add.is_empty() {
            // What is handled goes, the soonest first.
            let gone = due(&timers, Some(tenant), &[], u64::MAX, 100);
            timers.retain(|key, _| !gone.contains(key));
            commit.timers_clear = gone.into_iter().map(timer_key).collect();
            let sent = due(&outbox, Some(tenant), &[], u64::MAX, 2);
            outbox.retain(|key, _| !sent.contains(key));
            let sent = sent.into_iter().map(outbox_key).collect();
            ledger.discard_outbox(sent).await.unwrap();
        }
        ledger.commit(commit).await.unwrap();
        compare(&ledger, &timers, &outbox, &mut chance).await;
    }
    assert!(timers.len() > 500, "{}", timers.len());
    // And after it was opened anew.
    ledger.close().await.unwrap();
    let ledger = store.open();
    compare(&ledger, &timers, &outbox, &mut chance).await;
}

//! What a look for timers costs beside a neighbour who has many waiting.

use ledger::{Commit, Ledger, LookUps, RootKey, TenantId};

use crate::Embedded;
use crate::suite::{TENANT, timer};

const NEIGHBOUR: TenantId = TenantId(2);

#[tokio::test]
async fn a_neighbours_backlog_is_gone_through_once() {
    let store = Embedded::new();
    let counts = LookUps::default();
    let ledger =
        Ledger::open_counted(store.options(RootKey::from_bytes([7; 32])), &counts).unwrap();
    for tenant in [TENANT, NEIGHBOUR] {
        ledger.create_tenant(tenant).await.unwrap();
    }
    // 40 pages of the neighbour's, and one of one's own behind them.
    let mut commit = Commit::new(NEIGHBOUR);
    for number in 0..10_240u16 {
        let mut theirs = timer(number % 256, 10, u8::try_from(number / 256).unwrap(), 1);
        theirs.tenant = NEIGHBOUR;
        commit.timers_set.push(theirs);
    }
    ledger.commit(commit).await.unwrap();
    let set = async |due_ms: u64, id: u8| {
        let mut commit = Commit::new(TENANT);
        commit.timers_set.push(timer(3, due_ms, id, 1));
        ledger.commit(commit).await.unwrap();
    };
    set(20, 200).await;
    let own = ledger.only(TENANT);
    let looks = async || {
        let before = counts.so_far().get("timers").copied().unwrap_or_default();
        let due = own.timers_due(1, 30, 1024).await.unwrap();
        // Others than the journeys themselves wait for timers too.
        assert_eq!(own.timers_due(9, 30, 1024).await.unwrap(), []);
        let next = own.next_timer_ms().await.unwrap();
        let after = counts.so_far().get("timers").copied().unwrap_or_default();
        (due.len(), next, after - before)
    };
    let (due, next, first) = looks().await;
    assert_eq!((due, next), (1, Some(20)));
    assert!(first > 40, "nothing was known yet: {first} pages");
    // A look while something is set remembers nothing, and what was committed is told a moment later.
    let mut again = looks().await;
    for _ in 0..10 {
        if again.2 == 3 {
            break;
        }
        again = looks().await;
    }
    assert_eq!(again, (1, Some(20), 3));
    // What the neighbour sets is nothing to it.
    let mut commit = Commit::new(NEIGHBOUR);
    let mut theirs = timer(5, 1, 250, 1);
    theirs.tenant = NEIGHBOUR;
    commit.timers_set.push(theirs);
    ledger.commit(commit).await.unwrap();
    assert_eq!(looks().await, (1, Some(20), 3));
    // What is its own is found, also before all that was looked at, and after a look for none.
    set(2, 201).await;
    assert_eq!(own.timers_due(1, 30, 0).await.unwrap(), []);
    let (due, next, _) = looks().await;
    assert_eq!((due, next), (2, Some(2)));
}

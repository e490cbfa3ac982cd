//! Feeds, cursors, timers and the outbox.

use ledger::{
    Commit, CursorMove, Expected, LedgerError, Number, OutboxDraft, OutboxKey, Owner, SHARDS,
    Shard, Timer, TimerKey,
};

use super::{OBSERVATION, PATIENT, Store, TENANT, audit, commit_of, draft, of, put, ready, timer};

pub(crate) async fn feeds_and_watchers_see_facts(store: &dyn Store) {
    let ledger = ready(store).await;
    let mut watch = ledger.watch();
    let patient = ledger.mint_own_id(TENANT);
    let shard = ledger.shard_of(TENANT, &of(&patient), &patient);
    assert_eq!(ledger.shard_head(shard), Number(0));
    let first = put(
        &ledger,
        PATIENT,
        &patient,
        &patient,
        Expected::Absent,
        "one",
        &[],
    )
    .await;
    assert_eq!(watch.try_recv().unwrap(), shard);
    assert_eq!(ledger.shard_head(shard), first.number);
    let mut gone = draft(
        &ledger,
        PATIENT,
        &patient,
        of(&patient),
        Expected::Version(1),
        "",
        &[],
    );
    gone.deleted = true;
    let commit = Commit {
        cause: Some(first.number),
        ..commit_of(&ledger, vec![gone])
    };
    let receipt = ledger.commit(commit).await.unwrap();
    let second = receipt.documents[0].at;
    // The record of who did it comes after what was done, and is no event of the feed.
    assert!(receipt.audit.unwrap().number > second.number);
    assert_eq!(ledger.last_number(), receipt.audit.unwrap().number);
    assert_eq!(ledger.shard_head(shard), second.number);

    let events = ledger.events(shard, Number(0), 10).await.unwrap();
    assert_eq!(events.len(), 2);
    assert_eq!(
        (
            events[0].at,
            events[0].kind,
            events[0].version,
            events[0].deleted,
            events[0].cause
        ),
        (first, PATIENT, 1, false, None)
    );
    assert_eq!(
        (
            events[1].at,
            events[1].tenant,
            events[1].version,
            events[1].deleted,
            events[1].cause
        ),
        (second, TENANT, 2, true, Some(first.number))
    );
    assert_eq!(
        ledger.events(shard, first.number, 10).await.unwrap(),
        events[1..]
    );
    assert_eq!(
        ledger.events(shard, Number(0), 1).await.unwrap(),
        events[..1]
    );
    assert_eq!(ledger.events(shard, second.number, 10).await.unwrap(), []);
    assert_eq!(
        ledger
            .events(Shard((shard.0 + 1) % SHARDS), Number(0), 10)
            .await
            .unwrap(),
        []
    );
    assert_eq!(watch.try_recv().unwrap(), shard);

    // A read that is only audited wakes nobody.
    let read = Commit {
        audit: Some(audit(&ledger, shard)),
        ..Commit::new(TENANT)
    };
    let receipt = ledger.commit(read).await.unwrap();
    assert!(receipt.documents.is_empty() && receipt.leaf.is_some());
    assert!(watch.try_recv().is_err());
    assert_eq!(ledger.shard_head(shard), second.number);
}

pub(crate) async fn timers_come_due(store: &dyn Store) {
    let ledger = ready(store).await;
    let set = async |timers: &[Timer], clear: &[TimerKey]| {
        let commit = Commit {
            timers_set: timers.to_vec(),
            timers_clear: clear.to_vec(),
            ..Commit::new(TENANT)
        };
        ledger.commit(commit).await.unwrap();
    };
    assert_eq!(ledger.next_timer_ms().await.unwrap(), None);
    assert_eq!(ledger.timers_due(1, u64::MAX, 9).await.unwrap(), []);
    let timers = [
        timer(9, 10, 1, 1),
        timer(3, 10, 2, 1),
        timer(3, 10, 3, 2),
        timer(200, 20, 4, 1),
        timer(0, 30, 5, 1),
    ];
    set(&timers, &[]).await;
    assert_eq!(ledger.next_timer_ms().await.unwrap(), Some(10));
    assert_eq!(ledger.timers_due(1, 9, 9).await.unwrap(), []);
    assert_eq!(
        ledger.timers_due(1, 10, 9).await.unwrap(),
        [timers[1].clone(), timers[0].clone()]
    );
    assert_eq!(
        ledger.timers_due(2, 99, 9).await.unwrap(),
        [timers[2].clone()]
    );
    assert_eq!(
        ledger.timers_due(1, 29, 9).await.unwrap(),
        [timers[1].clone(), timers[0].clone(), timers[3].clone()]
    );
    assert_eq!(
        ledger.timers_due(1, 29, 1).await.unwrap(),
        [timers[1].clone()]
    );
    // Clearing what is not there is no error; setting again replaces.
    set(
        &[],
        &[
            timers[0].key,
            timers[1].key,
            timers[2].key,
            timer(7, 7, 7, 7).key,
        ],
    )
    .await;
    assert_eq!(ledger.next_timer_ms().await.unwrap(), Some(20));
    assert_eq!(ledger.timers_due(1, 19, 9).await.unwrap(), []);
    let moved = Timer {
        payload: vec![99],
        ..timers[3].clone()
    };
    set(std::slice::from_ref(&moved), &[moved.key]).await;
    assert_eq!(ledger.timers_due(1, 20, 9).await.unwrap(), [moved]);
    // One that is set for earlier than all that was looked at is seen.
    let early = timer(1, 2, 8, 1);
    set(std::slice::from_ref(&early), &[]).await;
    assert_eq!(ledger.next_timer_ms().await.unwrap(), Some(2));
    assert_eq!(ledger.timers_due(1, 5, 9).await.unwrap(), [early]);
    // More than a page, of two consumers.
    let many: Vec<_> = (0u16..700)
        .map(|number| Timer {
            key: TimerKey {
                id: [u8::try_from(number % 250).unwrap(); 16],
                ..timer(number % 256, 1000 + u64::from(number), 0, 0).key
            },
            ..timer(0, 0, 0, 5 + number % 2)
        })
        .collect();
    set(&many, &[]).await;
    let due = ledger.timers_due(5, 5000, 1000).await.unwrap();
    assert_eq!(due.len(), 350);
    assert!(due.is_sorted_by_key(|timer| timer.key.due_ms));
    assert_eq!(ledger.timers_due(6, 5000, 300).await.unwrap().len(), 300);
}

pub(crate) async fn the_outbox_settles_once(store: &dyn Store) {
    let ledger = ready(store).await;
    let patient = ledger.mint_own_id(TENANT);
    let shard = ledger.shard_of(TENANT, &of(&patient), &patient);
    let key = |due_ms, id| OutboxKey {
        shard,
        due_ms,
        id: [id; 16],
    };
    let entry = |key, owner, attempt| OutboxDraft {
        key,
        owner,
        channel: 4,
        attempt,
        body: b"message".to_vec(),
    };
    let change = async |add: Vec<OutboxDraft>, remove: Vec<OutboxKey>| {
        ledger
            .commit(Commit {
                outbox_add: add,
                outbox_remove: remove,
                ..Commit::new(TENANT)
            })
            .await
    };
    assert_eq!(ledger.next_outbox_ms().await.unwrap(), None);
    change(
        vec![
            entry(key(20, 1), of(&patient), 0),
            entry(key(10, 2), Owner::Tenant, 3),
        ],
        vec![],
    )
    .await
    .unwrap();
    assert_eq!(ledger.next_outbox_ms().await.unwrap(), Some(10));
    let due = ledger.outbox_due(4, 15, 9).await.unwrap();
    assert_eq!(due.len(), 1);
    assert_eq!(
        (due[0].key, due[0].tenant, due[0].channel, due[0].attempt),
        (key(10, 2), TENANT, 4, 3)
    );
    assert_eq!(due[0].body, b"message");
    assert!(ledger.outbox_due(5, 99, 9).await.unwrap().is_empty());
    assert_eq!(ledger.outbox_due(4, 99, 9).await.unwrap().len(), 2);
    assert_eq!(ledger.outbox_due(4, 99, 1).await.unwrap().len(), 1);
    // Put off: the same id, later.
    change(vec![entry(key(50, 2), Owner::Tenant, 4)], vec![key(10, 2)])
        .await
        .unwrap();
    assert_eq!(ledger.next_outbox_ms().await.unwrap(), Some(20));
    // Settled, and never twice.
    change(vec![], vec![key(20, 1)]).await.unwrap();
    assert!(matches!(
        change(vec![], vec![key(20, 1)]).await,
        Err(LedgerError::Conflict)
    ));
    assert!(matches!(
        change(vec![], vec![key(10, 2)]).await,
        Err(LedgerError::Conflict)
    ));
    assert!(matches!(
        change(vec![], vec![key(50, 2), key(50, 2)]).await,
        Err(LedgerError::Conflict)
    ));
    let due = ledger.outbox_due(4, 99, 9).await.unwrap();
    assert_eq!((due.len(), due[0].key, due[0].attempt), (1, key(50, 2), 4));
    // Two at once: one wins.
    let both = tokio::join!(
        change(vec![], vec![key(50, 2)]),
        change(vec![], vec![key(50, 2)])
    );
    assert!(both.0.is_ok() != both.1.is_ok(), "{both:?}");
    assert_eq!(ledger.next_outbox_ms().await.unwrap(), None);
}

pub(crate) async fn cursors_move_once(store: &dyn Store) {
    let ledger = ready(store).await;
    let step = async |consumer: &str, shard, from, to| {
        let cursor = Some(CursorMove {
            consumer: consumer.into(),
            shard: Shard(shard),
            from: Number(from),
            to: Number(to),
        });
        ledger
            .commit(Commit {
                cursor,
                ..Commit::new(TENANT)
            })
            .await
    };
    step("a", 1, 0, 5).await.unwrap();
    assert!(matches!(
        step("a", 1, 0, 6).await,
        Err(LedgerError::CursorMoved { .. })
    ));
    step("a", 1, 5, 7).await.unwrap();
    step("a", 2, 0, 1).await.unwrap();
    step("b", 1, 0, 2).await.unwrap();
    for (consumer, shard, at) in [
        ("a", 1, 7),
        ("a", 2, 1),
        ("b", 1, 2),
        ("b", 2, 0),
        ("c", 1, 0),
    ] {
        assert_eq!(
            ledger.cursor(consumer, Shard(shard)).await.unwrap(),
            Number(at),
            "{consumer} {shard}"
        );
    }
}

pub(crate) async fn racing_followers_handle_once(store: &dyn Store) {
    let ledger = ready(store).await;
    let patient = ledger.mint_own_id(TENANT);
    let shard = ledger.shard_of(TENANT, &of(&patient), &patient);
    for number in 0..10 {
        put(
            &ledger,
            OBSERVATION,
            &format!("o{number}"),
            &patient,
            Expected::Absent,
            "x",
            &[],
        )
        .await;
    }
    let end = ledger.shard_head(shard);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let ledger = ledger.clone();
        tasks.spawn(async move {
            let mut handled = Vec::new();
            loop {
                let from = ledger.cursor("follower", shard).await.unwrap();
                let Some(event) = ledger.events(shard, from, 1).await.unwrap().pop() else {
                    break;
                };
                let to = event.at.number;
                if to > end {
                    break;
                }
                let mark = Timer {
                    payload: vec![],
                    ..timer(shard.0, to.0, 1, 3)
                };
                let cursor = Some(CursorMove {
                    consumer: "follower".into(),
                    shard,
                    from,
                    to,
                });
                match ledger
                    .commit(Commit {
                        cursor,
                        timers_set: vec![mark],
                        ..Commit::new(TENANT)
                    })
                    .await
                {
                    Ok(_) => handled.push(to),
                    Err(LedgerError::CursorMoved { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            handled
        });
    }
    let mut handled = Vec::new();
    while let Some(outcome) = tasks.join_next().await {
        handled.extend(outcome.unwrap());
    }
    handled.sort_unstable();
    let events: Vec<_> = ledger
        .events(shard, Number(0), 99)
        .await
        .unwrap()
        .iter()
        .map(|event| event.at.number)
        .collect();
    assert_eq!(handled, events);
    assert_eq!(ledger.timers_due(3, u64::MAX, 99).await.unwrap().len(), 10);
}

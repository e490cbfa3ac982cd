//! Property tests of searches: random writes, then random questions, each checked against the model.
use std::fmt::Debug;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};

use super::search::{Model, play, writes};
use super::*;

/// Which cases are played.
pub(super) struct Plays {
    /// The tenant of the first case; each has one of its own, where nothing of the others is.
    pub(super) first_tenant: u32,
    pub(super) cases: u32,
    pub(super) seed: u64,
}

/// Plays cases and checks each of their questions; sums up what the checks count.
pub(super) fn play_all<A, C>(plays: &Plays, asks: impl Strategy<Value = Vec<A>>, check: &C) -> usize
where
    A: Debug,
    C: AsyncFn(&House, TenantId, &Model, &A) -> Result<usize, TestCaseError>,
{
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let house = runtime.block_on(House::new());
    let tenants = std::cell::Cell::new(plays.first_tenant);
    let given = std::cell::Cell::new(0);
    let mut runner = TestRunner::new(Config {
        cases: plays.cases,
        rng_seed: RngSeed::Fixed(plays.seed),
        failure_persistence: None,
        ..Config::default()
    });
    let result = runner.run(&(writes(), asks), |(writes, asks)| {
        tenants.set(tenants.get() + 1);
        let tenant = TenantId(tenants.get());
        house.care.set(NOW_MS);
        runtime.block_on(async {
            house.ledger().create_tenant(tenant).await.unwrap();
            let model = play(&house, tenant, &writes).await;
            for ask in &asks {
                given.set(given.get() + check(&house, tenant, &model, ask).await?);
            }
            Ok(())
        })
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    given.get()
}

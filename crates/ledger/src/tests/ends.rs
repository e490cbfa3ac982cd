//! Tenants that one process destroys while another rotates their keys.

use std::sync::Arc;

use super::options;
use super::rotation::Faulty;
use super::suite::{PATIENT, TENANT, commit_of, draft, of};
use crate::backend::{Backend, Write};
use crate::bootstrap::{tenant_row, tenant_version_row};
use crate::memory_backend::MemoryBackend;
use crate::{Expected, Ledger, LedgerError, ManualClock, RootKey, SETTLE_MS, TenantState};

const NOW_MS: u64 = 1_700_000_000_000;

fn open(backend: Arc<dyn Backend>) -> Ledger {
    let clock = ManualClock::new(NOW_MS + SETTLE_MS + 1_000);
    Ledger::open_on(backend, &options(RootKey::from_bytes([7; 32]), &clock)).unwrap()
}

/// A store whose tenant has a patient, and is suspended for long enough.
async fn store() -> MemoryBackend {
    let backend = MemoryBackend::default();
    let clock = ManualClock::new(NOW_MS);
    let options = options(RootKey::from_bytes([7; 32]), &clock);
    let ledger = Ledger::open_on(Arc::new(backend.clone()), &options).unwrap();
    ledger.create_tenant(TENANT).await.unwrap();
    let patient = draft(&ledger, PATIENT, "p", of("p"), Expected::Absent, "x", &[]);
    let commit = commit_of(&ledger, vec![patient]);
    ledger.commit(commit).await.unwrap();
    ledger.suspend_tenant(TENANT, true).await.unwrap();
    ledger.close().await.unwrap();
    backend
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Act {
    Rotate,
    Destroy,
}

async fn carry_out(backend: Arc<dyn Backend>, act: Act) -> Result<(), LedgerError> {
    let ledger = open(backend);
    match act {
        Act::Rotate => ledger.rotate_tenant_keys(TENANT, &|_| {}).await.map(drop),
        Act::Destroy => ledger.destroy_tenant(TENANT).await.map(drop),
    }
}

fn secrets(backend: &dyn Backend) -> Vec<String> {
    let rows = backend.snapshot().metas(&tenant_row(TENANT)).unwrap();
    let left = rows.into_iter().filter(|(_, secret)| !secret.is_empty());
    left.map(|(name, _)| name).collect()
}

// Proves: 45 CFR 164.310(d)(2)(i)
#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_destroyed_while_its_keys_rotate_leaves_no_secret() {
    for (one, other) in [(Act::Rotate, Act::Destroy), (Act::Destroy, Act::Rotate)] {
        let mut refused = 0;
        for moment in 0.. {
            let rows = store().await;
            let backend = Faulty::over(rows.clone());
            let theirs = rows.clone();
            let meanwhile = move || {
                let acting = std::thread::spawn(move || {
                    let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
                    // A rotation after the end is refused.
                    let outcome = runtime.block_on(carry_out(Arc::new(theirs), other));
                    assert!(outcome.is_ok() || other == Act::Rotate, "{outcome:?}");
                });
                acting.join().unwrap();
            };
            *backend.meanwhile.lock().unwrap() = Some((moment, Box::new(meanwhile)));
            let outcome = carry_out(backend.clone(), one).await;
            if backend.meanwhile.lock().unwrap().take().is_some() {
                outcome.unwrap();
                assert!(moment > 5, "{one:?} looks at the store {moment} times");
                break;
            }
            let named = format!("{one:?}, and {other:?} before view {moment}: {outcome:?}");
            assert!(outcome.is_ok() || one == Act::Rotate, "{named}");
            refused += usize::from(outcome.is_err());
            assert!(secrets(&rows).is_empty(), "{named}: {:?}", secrets(&rows));
            let after = open(Arc::new(rows.clone()));
            let list = after.tenants().await.unwrap();
            assert_eq!(list[0].state, TenantState::Destroyed, "{named}");
            assert_eq!(after.tenant_remains(TENANT).await.unwrap().secrets, 0);
        }
        assert!(refused > 0 || one == Act::Destroy);
    }
}

/// What a program of before could leave is taken away by ordering the destruction once more.
#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_was_left_goes_when_the_tenant_is_destroyed_again() {
    let rows = store().await;
    let ledger = open(Arc::new(rows.clone()));
    ledger.destroy_tenant(TENANT).await.unwrap();
    let again = ledger.destroy_tenant(TENANT).await;
    assert!(
        matches!(&again, Err(LedgerError::Invalid(words)) if words.contains("destroyed before")),
        "{again:?}"
    );
    let name = tenant_version_row(TENANT, 2);
    let left = Write::Meta {
        name: name.clone(),
        value: vec![1; 72],
    };
    rows.apply(vec![left]).unwrap();
    assert_eq!(secrets(&rows), [name]);
    assert_eq!(ledger.destroy_tenant(TENANT).await.unwrap().secrets, 1);
    assert!(secrets(&rows).is_empty());
}

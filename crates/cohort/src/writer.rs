//! A process that does nothing but write to a ledger and say what was acknowledged, to be killed.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use ledger::{
    AuditDraft, Commit, Draft, Expected, Kind, Ledger, Location, OpenOptions, Owner, RootKey,
    SystemClock, SystemEntropy, TenantId,
};

use crate::random::Random;

/// The tenant that is written to.
pub const TENANT: TenantId = TenantId(1);
/// The kind of the documents.
pub const KIND: Kind = Kind(900);
/// The kind of their audit records.
pub const AUDIT_KIND: Kind = Kind(901);
/// How many writers share the group commits.
const WRITERS: u64 = 8;

/// Opens the ledger that the writer writes to.
///
/// # Errors
/// The ledger's.
pub fn open(folder: &Path) -> Result<Ledger, ledger::LedgerError> {
    Ledger::open(OpenOptions {
        location: Location::Folder(folder.to_owned()),
        root_key: RootKey::from_bytes([7; 32]),
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SystemEntropy),
        dictionary: Vec::new(),
        // Small, so that the few commits of a round are enough for postings to go into their table
        // several times.
        cache_bytes: 64 << 10,
    })
}

/// The body of a version of a document: anybody can say what it must be.
#[must_use]
pub fn body(id: &str, version: u32) -> Vec<u8> {
    let mut random = Random::new(id.bytes().fold(u64::from(version), |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(u64::from(byte))
    }));
    // One in four is longer than the pages and the blocks that a disk writes at once.
    let most = if random.below(4) == 0 { 20_000 } else { 3000 };
    let length = 100 + random.below(most);
    let mut text = format!("{id} {version} ");
    while (text.len() as u64) < length {
        text.push_str(&format!("{:016x}", random.next_u64()));
    }
    text.into_bytes()
}

/// Writes until killed. After each durable commit a line `ID VERSION` goes to standard output.
/// Every other commit makes a new document; the others write the next version of an earlier one.
///
/// # Errors
/// The ledger's.
pub async fn run(folder: &Path, seed: u64) -> Result<(), ledger::LedgerError> {
    let ledger = open(folder)?;
    ledger.create_tenant(TENANT).await?;
    let mut tasks = Vec::new();
    for writer in 0..WRITERS {
        let ledger = ledger.clone();
        tasks.push(tokio::spawn(async move {
            let mut random = Random::new(seed ^ (writer << 32));
            let mut mine: Vec<(String, u32)> = Vec::new();
            loop {
                let again = !mine.is_empty() && random.coin();
                let (id, version) = if again {
                    let at = usize::try_from(random.below(mine.len() as u64)).unwrap_or(0);
                    mine[at].1 += 1;
                    mine[at].clone()
                } else {
                    mine.push((ledger.mint_own_id(TENANT), 1));
                    mine[mine.len() - 1].clone()
                };
                if let Err(error) = write(&ledger, &id, version).await {
                    break Err::<(), _>(error);
                }
                acknowledge(&id, version);
            }
        }));
    }
    for task in tasks {
        match task.await {
            Ok(result) => result?,
            Err(_) => return Err(ledger::LedgerError::Closed),
        }
    }
    Ok(())
}

#[allow(
    clippy::print_stdout,
    reason = "the test that kills this process reads its standard output"
)]
fn acknowledge(id: &str, version: u32) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{id} {version}");
    let _ = out.flush();
}

async fn write(ledger: &Ledger, id: &str, version: u32) -> Result<(), ledger::LedgerError> {
    let owner = Owner::Patient(id.to_owned());
    let expected = if version == 1 {
        Expected::Absent
    } else {
        Expected::Version(version - 1)
    };
    let mut commit = Commit::new(TENANT);
    commit.audit = Some(AuditDraft {
        kind: AUDIT_KIND,
        id: ledger.mint_id(TENANT, &owner),
        shard: ledger.shard_of(TENANT, &owner, id),
        body: format!("wrote {id}").into_bytes(),
        parts: Vec::new(),
        tokens: Vec::new(),
    });
    commit.documents.push(Draft {
        kind: KIND,
        id: id.to_owned(),
        owner,
        expected,
        body: body(id, version),
        deleted: false,
        tokens: (0..10)
            .map(|number| ledger.token(TENANT, KIND, "value", &format!("{id}{number}")))
            .chain([ledger.token(TENANT, KIND, "version", &version.to_string())])
            .collect(),
    });
    ledger.commit(commit).await?;
    Ok(())
}

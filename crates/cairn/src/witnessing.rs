//! Asks witnesses to cosign (C2SP `tlog-witness`, `add-checkpoint`): at intervals, for each log that has
//! grown, every witness gets the same checkpoint, so that their cosignatures meet on it.

use std::collections::BTreeSet;
use std::time::Duration;

use ledger::{Ledger, LedgerError, Shard, Witness};
use reqwest::StatusCode;
use tokio::sync::watch;

/// How long a witness may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// The most of a witness's answer that is read, bytes: a cosignature line has some 150.
const ANSWER_MAX: usize = 16 << 10;

/// Why a witness did not cosign.
#[derive(Debug, thiserror::Error)]
enum Unheard {
    #[error("can't be reached: {0}")]
    Unreachable(String),
    #[error("answered {0}")]
    Answer(StatusCode),
    #[error("answered with something that is no cosignature")]
    Form,
    /// The one answer that is an alarm: somebody has seen more of the log than there is.
    #[error(
        "has cosigned {seen} leaves of log {shard}, and the checkpoint has {size}: this store is an older copy"
    )]
    Older { shard: Shard, seen: u64, size: u64 },
    /// As is this: what it has seen is not what there is.
    #[error(
        "says that log {shard} does not go on from what it has seen: the log was changed or forked"
    )]
    Forked { shard: Shard },
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Asks the witnesses that have a URL, at the start and then at each interval, until `stopped`.
pub(crate) async fn run(ledger: Ledger, every: Duration, mut stopped: watch::Receiver<bool>) {
    if ledger
        .witnesses()
        .list()
        .iter()
        .all(|witness| witness.url().is_none())
    {
        // An error means that the server is gone.
        let _ = stopped.wait_for(|stopped| *stopped).await;
        return;
    }
    let client = reqwest::Client::builder()
        .http1_only()
        .timeout(PATIENCE)
        .build();
    let client = match client {
        Ok(client) => client,
        Err(error) => {
            tracing::error!(%error, "witnesses can't be asked");
            return;
        }
    };
    loop {
        let round = async {
            // Of servers that share a store one asks for all.
            if ledger.holds(ledger::Shard(0))
                && let Err(error) = ask_all(&ledger, &client).await
            {
                tracing::error!(%error, "witnesses could not be asked");
            }
            tokio::time::sleep(every).await;
        };
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => return,
            () = round => {}
        }
    }
}

/// One round.
async fn ask_all(ledger: &Ledger, client: &reqwest::Client) -> Result<(), LedgerError> {
    let witnesses = ledger.witnesses();
    let mut asked: Vec<_> = witnesses
        .list()
        .iter()
        .filter_map(|witness| Some((witness, witness.url()?)))
        .collect();
    if asked.is_empty() {
        return Ok(());
    }
    // A witness that refuses one log may refuse all, and is told of once a round.
    let mut told = BTreeSet::new();
    for (shard, size) in ledger.newest_checkpoint().await?.trees {
        let checkpoint = ledger.log_checkpoint(shard).await?;
        let mut out_of_reach = Vec::new();
        for (witness, url) in &asked {
            if ledger.cosigned_size(witness, shard).await? >= size {
                continue;
            }
            let outcome = ask(ledger, client, (witness, url), shard, &checkpoint).await;
            let Err(error) = outcome else { continue };
            if matches!(error, Unheard::Older { .. } | Unheard::Forked { .. }) {
                tracing::error!(witness = witness.name(), %error, "a witness contradicts this store");
                continue;
            }
            if matches!(error, Unheard::Unreachable(_)) {
                out_of_reach.push(*url);
            }
            let error = error.to_string();
            if told.insert((*url, error.clone())) {
                tracing::warn!(witness = witness.name(), error, "a witness did not cosign");
            }
        }
        // It won't answer for the other logs either; the next round tries again.
        asked.retain(|(_, url)| !out_of_reach.contains(url));
    }
    Ok(())
}

/// Asks one witness for its cosignature on a checkpoint, and keeps it.
async fn ask(
    ledger: &Ledger,
    client: &reqwest::Client,
    (witness, url): (&Witness, &str),
    shard: Shard,
    checkpoint: &str,
) -> Result<(), Unheard> {
    let size = checkpoint.lines().nth(1).and_then(|size| size.parse().ok());
    let size = size.unwrap_or_default();
    let mut old = ledger.cosigned_size(witness, shard).await?;
    // Where it is further than we know, it says where.
    for is_last in [false, true] {
        let body = ledger.witness_request(checkpoint, old).await?;
        let answer = client
            .post(format!("{url}/add-checkpoint"))
            .body(body)
            .send()
            .await
            .map_err(|error| Unheard::Unreachable(error.without_url().to_string()))?;
        let status = answer.status();
        match status {
            StatusCode::OK => {
                let lines = read(answer).await?;
                ledger
                    .add_cosignatures(&format!("{checkpoint}{lines}"))
                    .await?;
                return Ok(());
            }
            StatusCode::CONFLICT if !is_last => {
                let seen = read(answer).await?.trim_end().parse();
                let seen: u64 = seen.map_err(|_| Unheard::Form)?;
                if seen > size {
                    return Err(Unheard::Older { shard, seen, size });
                }
                old = seen;
            }
            StatusCode::UNPROCESSABLE_ENTITY => return Err(Unheard::Forked { shard }),
            _ => return Err(Unheard::Answer(status)),
        }
    }
    Err(Unheard::Answer(StatusCode::CONFLICT))
}

/// A short answer in text.
async fn read(mut answer: reqwest::Response) -> Result<String, Unheard> {
    let mut bytes = Vec::new();
    loop {
        let chunk = answer.chunk().await;
        let chunk = chunk.map_err(|error| Unheard::Unreachable(error.without_url().to_string()))?;
        let Some(chunk) = chunk else { break };
        bytes.extend_from_slice(&chunk);
        if bytes.len() > ANSWER_MAX {
            return Err(Unheard::Form);
        }
    }
    String::from_utf8(bytes).map_err(|_| Unheard::Form)
}

//! `cairn key`: making keys and rotating them.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use ledger::{Ledger, LedgerError, Location, RootKey, SystemClock, SystemEntropy};
use trust::Upkeep;

use super::{Bar, closing, existing, open_existing, open_existing_of, root_key, tenant_of};
use crate::cli::RotateOptions;
use crate::config::StoreSettings;
use crate::control::Order;
use crate::operator::Operator;
use crate::store::{self, RootKeySource};
use crate::terminal::say;

pub(crate) fn create_key(
    data: Option<PathBuf>,
    root_key: Option<RootKeySource>,
) -> anyhow::Result<ExitCode> {
    let source = match (root_key, data) {
        (Some(source), _) => source,
        (None, Some(data)) => RootKeySource::File(store::root_key_path(&data)),
        (None, None) => bail!("give --data DIR or --root-key FILE|URI"),
    };
    match &source {
        RootKeySource::File(path) => {
            store::create_root_key(path)?;
            say(&format!("Made root key {} (mode 0600).", path.display()));
            say(
                "Whoever has this file and the store can read everything; without it nobody can read anything.",
            );
            say("Keep a copy in another place than the store's backups.");
        }
        RootKeySource::Token(uri) => {
            RootKey::create_in_token(uri)?;
            say("Made the root key in its token, which it never leaves.");
            say(
                "Without the token nobody can read the store: copy it with the token's own tools, as its maker says.",
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn rotate_key(options: RotateOptions) -> anyhow::Result<ExitCode> {
    if options.at_once && !options.signing {
        bail!("--at-once goes with --signing alone");
    }
    if options.tenant {
        rotate_tenant(&options).await
    } else if options.tokens {
        rotate_tokens(&options).await
    } else if options.signing {
        rotate_signing(&options).await
    } else if let Some(patient) = &options.patient {
        rotate_patient(&options, patient).await
    } else {
        rotate_root(&options).await
    }
}

async fn rotate_tenant(options: &RotateOptions) -> anyhow::Result<ExitCode> {
    let ledger = open_existing_of(&options.store).await?;
    let tenant = tenant_of(&ledger);
    let bar = Bar::keys();
    let progress = |progress: ledger::RotationProgress| bar.keys_looked_at(progress.keys);
    let result = async {
        // One that was cut short is finished rather than overtaken.
        match ledger.continue_tenant_rotation(tenant, &progress).await? {
            Some(done) => Ok(done),
            None => ledger.rotate_tenant_keys(tenant, &progress).await,
        }
    };
    let result = result.await;
    bar.finish();
    let result = async {
        let done = result?;
        let note = format!(
            "the organisation's keys were rotated to version {}",
            done.version
        );
        let operator = Operator::here();
        operator
            .did(&ledger, Upkeep::TenantKeysRotated, &note)
            .await?;
        anyhow::Ok(done)
    };
    let done = closing(&ledger, result.await).await?;
    say(&format!(
        "New records are sealed under version {} of the organisation's keys, and so are all patients' keys ({} looked at).",
        done.version, done.keys
    ));
    Ok(ExitCode::SUCCESS)
}

async fn rotate_tokens(options: &RotateOptions) -> anyhow::Result<ExitCode> {
    let order = Order::RotateTokens {
        of: options.store.of.clone(),
    };
    let version = super::keep::order(&options.store, order).await?;
    say(&format!(
        "All search tokens of the organisation lie under version {version} of their key, and the one before is destroyed."
    ));
    say("Backups made before keep theirs as they are.");
    Ok(ExitCode::SUCCESS)
}

async fn rotate_signing(options: &RotateOptions) -> anyhow::Result<ExitCode> {
    let order = Order::RotateSigning {
        of: options.store.of.clone(),
        at_once: options.at_once,
    };
    let done = super::keep::order(&options.store, order).await?;
    let done: Signing = serde_json::from_value(done)?;
    say(&if options.at_once {
        format!(
            "Key {} signs identity tokens from now on, and no other is shown any more. Applications that keep the \
             keys for a while take tokens of the one before until they ask again.",
            done.id
        )
    } else {
        format!(
            "Key {} is shown now, and signs identity tokens from {} on.",
            done.id,
            fhir::date::instant(done.from_ms)
        )
    });
    Ok(ExitCode::SUCCESS)
}

/// What came of a rotation of the key of identity tokens.
#[derive(serde::Deserialize)]
struct Signing {
    id: String,
    from_ms: u64,
}

async fn rotate_patient(options: &RotateOptions, patient: &str) -> anyhow::Result<ExitCode> {
    let ledger = open_existing_of(&options.store).await?;
    let rotated = async {
        let rotated = ledger
            .rotate_patient_key(tenant_of(&ledger), patient)
            .await?;
        if rotated {
            let upkeep = Upkeep::PatientKeyRotated(patient.to_owned());
            let note = "the patient's key was rotated";
            Operator::here().did(&ledger, upkeep, note).await?;
        }
        anyhow::Ok(rotated)
    };
    let rotated = rotated.await;
    if !closing(&ledger, rotated).await? {
        bail!("nothing was ever written for a patient with this id, so there is no key to rotate");
    }
    say("What is written for this patient from now on is sealed under a new version of the key.");
    Ok(ExitCode::SUCCESS)
}

async fn rotate_root(options: &RotateOptions) -> anyhow::Result<ExitCode> {
    let old = root_key(&options.store)?;
    match (&options.to, &old) {
        (Some(to), _) if *to != old => rotate_to(options, &old, to).await,
        // The token's key stays; what is derived from it changes.
        (_, RootKeySource::Token(_)) => rotate_to(options, &old, &old).await,
        (_, RootKeySource::File(file)) => rotate_file(options, file).await,
    }
}

async fn rotate_to(
    options: &RotateOptions,
    old: &RootKeySource,
    to: &RootKeySource,
) -> anyhow::Result<ExitCode> {
    let new = match to {
        RootKeySource::File(path) if !path.exists() => store::create_root_key(path)?,
        source => source.read()?,
    };
    let at = existing(&options.store).await?;
    let ledger = match open_under(at.clone(), old).await {
        Err(error @ LedgerError::RootKey(_)) if old != to => {
            // An earlier try may have come as far as the store.
            let Ok(ledger) = open_under(at, to).await else {
                return Err(error.into());
            };
            ledger
        }
        outcome => outcome?,
    };
    let rotated = async {
        ledger.rotate_root_key(&new).await?;
        root_was_rotated(&ledger).await
    };
    let rotated = rotated.await;
    closing(&ledger, rotated).await?;
    if old == to {
        say("What the key in the token gave before opens nothing of the store any more.");
        return Ok(ExitCode::SUCCESS);
    }
    say(&format!(
        "The store opens with {to} now, and with no other key."
    ));
    say(match to {
        RootKeySource::File(_) => {
            "Set root_key_file to it (or give --root-key) before the next start."
        }
        RootKeySource::Token(_) => "Set root_key to it (or give --root-key) before the next start.",
    });
    say("Backups made before open with the old key only: keep it until the last of them is gone.");
    Ok(ExitCode::SUCCESS)
}

/// A new key in the place of the one in a file. At every moment one of the two opens the store, and
/// [`store::open`] finds out which.
async fn rotate_file(options: &RotateOptions, file: &Path) -> anyhow::Result<ExitCode> {
    let ledger = open_existing(&options.store).await?;
    let result = rotate_file_of(&ledger, file).await;
    let kept = closing(&ledger, result).await?;
    say(&format!(
        "The store opens with the new key in {} now.",
        file.display()
    ));
    say(&format!(
        "Backups made before open with the old one only, which is in {}: keep it until the last of them is gone.",
        kept.display()
    ));
    Ok(ExitCode::SUCCESS)
}

async fn rotate_file_of(ledger: &Ledger, file: &Path) -> anyhow::Result<PathBuf> {
    let next = store::next_key_path(file);
    // One that a try before has left behind was never used, or the store would have opened with it. It
    // may be cut short.
    if next.exists() {
        std::fs::remove_file(&next).with_context(|| next.display().to_string())?;
    }
    let new = RootKey::create(&next, &SystemEntropy)?;
    ledger.rotate_root_key(&new).await?;
    let kept = store::promote_next_key(file)?;
    root_was_rotated(ledger).await?;
    Ok(kept)
}

async fn root_was_rotated(ledger: &Ledger) -> anyhow::Result<()> {
    let note = "the root key was rotated";
    let operator = Operator::here();
    operator.did(ledger, Upkeep::RootKeyRotated, note).await
}

async fn open_under(at: Location, source: &RootKeySource) -> Result<Ledger, LedgerError> {
    let cache_bytes = StoreSettings::default().cache_bytes;
    store::open(at, source, Arc::new(SystemClock), cache_bytes).await
}

//! Accounts of people and access tokens of other systems, on a store that no server has open. While
//! one runs, its page `/console/accounts` does the same at once.

use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, anyhow, bail};
use ledger::{Ledger, LedgerError};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use trust::identity::{
    Certificates, ClientState, Contract, Identity, KEYS_BYTES_MAX, KeysOfBefore, NewApp, NewSystem,
    Registered, SubjectName, SystemKeys,
};
use trust::{Action, Permit, PolicySet, Purpose, Role, Target};

use super::{closing, open, operator, tenant_of, trust_over};
use crate::cli::{
    AccountOptions, AtProvider, ClientOptions, ClientRole, LinkOptions, RegisterAppOptions,
    RegisterOptions, RegisteredFor, RekeyOptions, StoreArguments, SystemProof, WhichAccount,
};
use crate::terminal::{ask_secret, say, warn};

pub(crate) async fn create_account(options: AccountOptions) -> anyhow::Result<ExitCode> {
    let ledger = open(&options.store).await?;
    let made = async {
        let trust = trust_over(&ledger)?;
        let password = ask_secret(&format!("Password for {}", options.user_name))
            .context("reading the password")?;
        trust
            .identity()
            .create(
                &operator(&ledger),
                trust::identity::NewAccount {
                    tenant: tenant_of(&ledger),
                    user_name: options.user_name.clone(),
                    name: options.name,
                    role: options.role.into(),
                    password,
                    patient: None,
                },
            )
            .await?;
        Ok(())
    };
    let made = made.await;
    closing(&ledger, made).await?;
    say(&format!(
        "Made account {}. The second factor is set up at the first sign-in.",
        options.user_name
    ));
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn create_client(options: ClientOptions) -> anyhow::Result<ExitCode> {
    let ledger = open(&options.store).await?;
    let role = match options.role {
        ClientRole::Client => trust::Role::Client,
        ClientRole::Squad => trust::Role::Squad,
        ClientRole::PrivacyOfficer => trust::Role::PrivacyOfficer,
        ClientRole::Biller => trust::Role::Biller,
        ClientRole::Steerer => trust::Role::Steerer,
    };
    let made = async {
        Ok(trust_over(&ledger)?
            .identity()
            .create_client_for(
                &operator(&ledger),
                &options.name,
                role,
                registered(&options.registered, role)?.as_ref(),
            )
            .await?)
    };
    let made = made.await;
    let token = closing(&ledger, made).await?;
    say(&token);
    Ok(ExitCode::SUCCESS)
}

/// What a system proves itself by.
fn system_keys(proof: &SystemProof) -> anyhow::Result<SystemKeys> {
    let named = |name| SystemKeys::Certificates(Certificates::Named(name));
    if let Some(path) = &proof.keys {
        return Ok(SystemKeys::Set(read_keys(path)?));
    }
    if let Some(url) = &proof.keys_url {
        return Ok(SystemKeys::At(url.clone()));
    }
    if let Some(subject) = &proof.tls_subject {
        return Ok(named(SubjectName::subject(subject)?));
    }
    if let Some(name) = &proof.tls_name {
        return Ok(named(SubjectName::alternative(name)?));
    }
    let mut all = Vec::new();
    for path in &proof.tls_certificate {
        let words = || format!("reading {}", path.display());
        let read: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path)
            .with_context(words)?
            .collect();
        let read = read.with_context(words)?;
        // The authorities in a chain are nobody's to connect with.
        let [one] = read.as_slice() else {
            bail!(
                "{} holds {} certificates: give the one that the system connects with",
                path.display(),
                read.len()
            );
        };
        all.push(one.clone());
    }
    let all = Certificates::pinned(all.iter().map(AsRef::as_ref))?;
    Ok(SystemKeys::Certificates(all))
}

pub(crate) async fn rekey_client(options: RekeyOptions) -> anyhow::Result<ExitCode> {
    let keys = system_keys(&options.proof)?;
    let before = match options.at_once {
        true => KeysOfBefore::Gone,
        false => KeysOfBefore::GoodFor(options.keep_h.saturating_mul(3_600_000)),
    };
    administer(&options.store, async |identity, permit| {
        Ok(identity
            .rekey_client(permit, &options.id, &keys, before)
            .await?)
    })
    .await?;
    say(&match (options.at_once, &keys) {
        (true, SystemKeys::At(_)) => {
            "Changed. All access tokens have ended, and whatever else the client was known by; what is at the address is fetched anew."
                .to_owned()
        }
        (true, _) => {
            "Changed. All other keys and certificates have ended, and all access tokens.".to_owned()
        }
        (false, _) => format!(
            "Changed. What was before stays good for {} hours.",
            options.keep_h
        ),
    });
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn register_client(options: RegisterOptions) -> anyhow::Result<ExitCode> {
    let keys = system_keys(&options.proof)?;
    let ledger = open(&options.store).await?;
    let made = async {
        let system = NewSystem {
            name: options.name,
            keys,
            scopes: options.scopes,
        };
        Ok(trust_over(&ledger)?
            .identity()
            .register_system_for(
                &operator(&ledger),
                &system,
                &registered(&options.registered, Role::Client)?.unwrap_or_default(),
            )
            .await?)
    };
    let made = made.await;
    let id = closing(&ledger, made).await?;
    say(&id);
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn register_app(options: RegisterAppOptions) -> anyhow::Result<ExitCode> {
    let keys = match (&options.keys, options.keys_url) {
        (Some(path), _) => SystemKeys::Set(read_keys(path)?),
        (None, Some(url)) => SystemKeys::At(url),
        (None, None) => SystemKeys::None,
    };
    let ledger = open(&options.store).await?;
    let made = async {
        let app = NewApp {
            name: options.name,
            redirect_uris: options.redirect_uri,
            launch_uri: options.launch_uri,
            scopes: options.scopes,
            keys,
        };
        Ok(trust_over(&ledger)?
            .identity()
            .register_app(&operator(&ledger), &app)
            .await?)
    };
    let made = made.await;
    let id = closing(&ledger, made).await?;
    say(&id);
    Ok(ExitCode::SUCCESS)
}

/// What was said of what a system is there for, if anything was.
fn registered(said: &RegisteredFor, role: Role) -> anyhow::Result<Option<Registered>> {
    let purposes = match (&said.purposes, said.contract) {
        (None, None) => return Ok(None),
        (Some(purposes), _) => purposes.clone(),
        (None, Some(_)) if role == Role::Biller => Purpose::Payment.code().to_owned(),
        (None, Some(_)) => Registered::default().codes(),
    };
    let contract = said.contract.unwrap_or_default();
    Ok(Some(parsed(said, &purposes, contract)?))
}

/// A registration for purposes that are HL7's, or in the policy folder that is given.
fn parsed(said: &RegisteredFor, purposes: &str, contract: Contract) -> anyhow::Result<Registered> {
    let Some(folder) = &said.policy_folder else {
        return Ok(Registered::parse(purposes, contract)?);
    };
    let set = PolicySet::load(Some(folder)).map_err(|faults| {
        let first = faults.first().map(ToString::to_string).unwrap_or_default();
        anyhow!("{}: {first}", folder.display())
    })?;
    Ok(Registered::parse_among(set.purposes(), purposes, contract)?)
}

pub(crate) async fn set_registered(
    store: &StoreArguments,
    id: &str,
    said: &RegisteredFor,
) -> anyhow::Result<ExitCode> {
    let Some(purposes) = &said.purposes else {
        bail!("give --purposes: what for the system may ask");
    };
    let registered = parsed(said, purposes, said.contract.unwrap_or_default())?;
    administer(store, async |identity, permit| {
        Ok(identity.set_registered(permit, id, &registered).await?)
    })
    .await?;
    say(&format!("Registered for {}.", registered.codes()));
    Ok(ExitCode::SUCCESS)
}

/// A key set, of a size that it can have.
fn read_keys(path: &Path) -> anyhow::Result<String> {
    let most = u64::try_from(KEYS_BYTES_MAX).unwrap_or(u64::MAX);
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin().take(most + 1).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(most + 1).read_to_string(&mut text))
    };
    read.with_context(|| format!("reading {}", path.display()))?;
    Ok(text)
}

/// Opens the store, or says where to go while a server has it open.
async fn open_to_administer(store: &StoreArguments) -> anyhow::Result<Ledger> {
    open(store)
        .await
        .map_err(|error| {
            match error.downcast_ref() {
        Some(LedgerError::Storage(words)) if words.contains("another process") => error.context(
            "while a server has the store open, use its page /console/accounts as an administrator",
        ),
        _ => error,
    }
        })
}

/// Does something as the operator of this machine, with a permit to administer.
async fn administer<T>(
    store: &StoreArguments,
    work: impl AsyncFnOnce(&Identity, &Permit) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let ledger = open_to_administer(store).await?;
    let done = async {
        let trust = trust_over(&ledger)?;
        let (purpose, action) = (Purpose::Administration, Action::Administer);
        let permit = trust
            .decide(&operator(&ledger), purpose, action, Target::default(), "")
            .await?;
        work(trust.identity(), &permit).await
    };
    let done = done.await;
    closing(&ledger, done).await
}

pub(crate) async fn list_accounts(
    store: &StoreArguments,
    role: Option<Role>,
) -> anyhow::Result<ExitCode> {
    let listing = administer(store, async |identity, permit| {
        Ok(identity.accounts(permit).await?)
    })
    .await?;
    for account in &listing.rows {
        if role.is_some_and(|role| account.role != role) {
            continue;
        }
        let state = if account.active { "open" } else { "closed" };
        let factor = if account.second_factor {
            "second factor"
        } else {
            "no second factor"
        };
        let who = match &account.patient {
            Some(patient) => format!("patient {patient}"),
            None => account.name.clone(),
        };
        let user_name = if account.user_name.is_empty() {
            "-"
        } else {
            &account.user_name
        };
        let role = account.role.name();
        say(&format!(
            "{state:6}  {role:15}  {user_name:20}  {factor:16}  {who}"
        ));
    }
    if !listing.complete {
        warn("cairn: there are more accounts than these");
    }
    Ok(ExitCode::SUCCESS)
}

/// The id of the account with a user name.
async fn account_id(
    identity: &Identity,
    permit: &Permit,
    user_name: &str,
) -> anyhow::Result<String> {
    let found = identity.account_named(permit.agent(), user_name).await?;
    found.with_context(|| format!("there is no account with the user name {user_name}"))
}

pub(crate) async fn set_active(which: WhichAccount, active: bool) -> anyhow::Result<ExitCode> {
    administer(&which.store, async |identity, permit| {
        match (&which.user_name, &which.patient) {
            (Some(user_name), _) => {
                let id = account_id(identity, permit, user_name).await?;
                identity.set_active(permit, &id, active).await?;
            }
            (None, Some(patient)) => {
                identity.set_patient_active(permit, patient, active).await?;
            }
            (None, None) => bail!("give --user-name NAME or --patient ID"),
        }
        Ok(())
    })
    .await?;
    say(if active {
        "Open again."
    } else {
        "Closed. Its sessions have ended."
    });
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn reset_second_factor(
    store: &StoreArguments,
    user_name: &str,
    reason: &str,
) -> anyhow::Result<ExitCode> {
    administer(store, async |identity, permit| {
        let id = account_id(identity, permit, user_name).await?;
        Ok(identity.reset_second_factor(permit, &id, reason).await?)
    })
    .await?;
    say("Reset. Whoever signs in next with the password sets a new second factor up.");
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn set_password_sign_in(
    store: &StoreArguments,
    user_name: &str,
    on: bool,
) -> anyhow::Result<ExitCode> {
    administer(store, async |identity, permit| {
        let id = account_id(identity, permit, user_name).await?;
        Ok(identity.set_password_sign_in(permit, &id, on).await?)
    })
    .await?;
    say(if on {
        "The password opens the account again."
    } else {
        "The password opens nothing any more, and the account's sessions have ended."
    });
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn link_account(options: LinkOptions) -> anyhow::Result<ExitCode> {
    let AtProvider { issuer, subject } = &options.who;
    administer(&options.store, async |identity, permit| {
        let id = account_id(identity, permit, &options.user_name).await?;
        Ok(identity.link_account(permit, &id, issuer, subject).await?)
    })
    .await?;
    say("Linked.");
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn unlink_account(
    store: &StoreArguments,
    who: &AtProvider,
) -> anyhow::Result<ExitCode> {
    administer(store, async |identity, permit| {
        Ok(identity
            .unlink_account(permit, &who.issuer, &who.subject)
            .await?)
    })
    .await?;
    say("Unlinked. What it opened has ended.");
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn list_links(store: &StoreArguments) -> anyhow::Result<ExitCode> {
    let (links, accounts) = administer(store, async |identity, permit| {
        let links = identity.links(permit).await?;
        Ok((links, identity.accounts(permit).await?))
    })
    .await?;
    for link in &links.rows {
        let account = accounts.rows.iter().find(|one| one.id == link.account);
        let user_name = account.map_or("-", |account| &account.user_name);
        say(&format!(
            "{user_name:20}  {}  {}",
            link.issuer, link.subject
        ));
    }
    if !links.complete {
        warn("cairn: there are more links than these");
    }
    Ok(ExitCode::SUCCESS)
}

/// The word for whether a client may come in.
pub(crate) fn state_of(state: ClientState) -> &'static str {
    match state {
        ClientState::Waiting => "waiting",
        ClientState::Active => "active",
        ClientState::Revoked => "revoked",
        ClientState::Expired => "expired",
    }
}

pub(crate) async fn list_clients(store: &StoreArguments) -> anyhow::Result<ExitCode> {
    let listing = administer(store, async |identity, permit| {
        Ok(identity.clients(permit).await?)
    })
    .await?;
    for client in &listing.rows {
        let state = state_of(client.state);
        let what = match (client.expires_ms, &client.scopes) {
            (Some(ends_ms), _) => format!("ends {}", fhir::date::instant(ends_ms)),
            (None, scopes) => scopes.clone().unwrap_or_default(),
        };
        let registered = match &client.registered {
            Some(registered) if registered.contract() == Contract::None => {
                format!("  {} (no contract)", registered.codes())
            }
            Some(registered) => format!("  {}", registered.codes()),
            None => String::new(),
        };
        say(&format!(
            "{state:7}  {:15}  {}  {what}{registered}  {}",
            client.role.name(),
            client.id,
            client.name,
        ));
    }
    if !listing.complete {
        warn("cairn: there are more clients than these");
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn approve_client(
    store: &StoreArguments,
    id: &str,
    scopes: &str,
    said: &RegisteredFor,
) -> anyhow::Result<ExitCode> {
    let registered = registered(said, Role::Client)?;
    administer(store, async |identity, permit| {
        Ok(identity
            .approve_system_for(permit, id, scopes, registered.as_ref())
            .await?)
    })
    .await?;
    say("Approved.");
    Ok(ExitCode::SUCCESS)
}

/// Whose actors are said.
pub(crate) enum Known<'a> {
    /// The account with a user name.
    Account(&'a str),
    /// The client with an id.
    Client(&'a str),
}

pub(crate) async fn set_known_as(
    store: &StoreArguments,
    who: Known<'_>,
    references: &[String],
) -> anyhow::Result<ExitCode> {
    administer(store, async |identity, permit| {
        let id = match who {
            Known::Account(user_name) => account_id(identity, permit, user_name).await?,
            Known::Client(id) => id.to_owned(),
        };
        Ok(identity.set_known_as(permit, &id, references).await?)
    })
    .await?;
    say(&match references {
        [] => "Known as nobody.".to_owned(),
        some => format!("Known as {}.", some.join(", ")),
    });
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn revoke_client(
    store: &StoreArguments,
    id: &str,
    reason: &str,
) -> anyhow::Result<ExitCode> {
    administer(store, async |identity, permit| {
        Ok(identity.revoke_client(permit, id, reason).await?)
    })
    .await?;
    say("Revoked.");
    Ok(ExitCode::SUCCESS)
}

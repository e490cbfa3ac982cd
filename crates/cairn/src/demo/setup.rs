//! Setting the demo's hospital up: people, journey, patients. Each part can be done again after a
//! crash and then changes nothing.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, bail};
use fhir::ResourceType;
use ledger::{Clock, Entropy, SystemClock, SystemEntropy};
use record::import::ImportOptions;
use serde_json::Value;
use synthetic::CohortOptions;
use trust::identity::{Identity, NewAccount, SignIn};
use trust::{Action, Agent, Purpose, Role, Target, Trust, TrustError};

use super::clock::DAY_MS;
use super::driver::Driver;
use super::state::{DemoState, Link, Login, Source, save};
use super::team;
use crate::commands::Bar;
use crate::server::Server;
use crate::store::TENANT;
use crate::terminal::say;

/// The journey that the demo runs.
const JOURNEY: &str = include_str!("../../../../journeys/heart-failure-discharge.yaml");

/// A quarter of the patients lie in hospital with heart failure: far more than in any real hospital,
/// so that a newcomer sees them move.
pub(super) const HEART_FAILURE_SHARE: f64 = 0.25;

/// Patients whose portal link is shown.
const LINKS: usize = 3;

/// How long the shown links hold, seconds: a month.
const LINK_LIFE_S: u64 = 30 * 86_400;

const PEOPLE: &[(&str, &str, Role)] = &[
    ("carla", "Carla Coordinator", Role::Coordinator),
    ("devi", "Dr Devi Clinician", Role::Clinician),
    ("priya", "Priya Privacy", Role::PrivacyOfficer),
    ("sam", "Sam Squad", Role::Squad),
    ("ada", "Ada Administrator", Role::Administrator),
];

/// Who sets the demo up.
pub(super) fn setter() -> Agent {
    Agent::system(TENANT, "demo")
}

pub(super) fn new_state(source: Source) -> DemoState {
    // The care clock starts this morning at seven (UTC), so that dates look natural.
    let today_ms = SystemClock.now_ms() / DAY_MS * DAY_MS;
    DemoState {
        source,
        started_ms: today_ms + 7 * super::clock::HOUR_MS,
        imported: false,
        logins: PEOPLE
            .iter()
            .map(|(user_name, name, role)| Login {
                user_name: (*user_name).to_owned(),
                name: (*name).to_owned(),
                role: *role,
                // 20 characters of 5 bits: 100 bits.
                password: random_base32(20).to_lowercase(),
                // 160 bits, as RFC 4226 recommends.
                totp: random_base32(32),
            })
            .collect(),
        squad_token: None,
        links: Vec::new(),
    }
}

fn random_base32(characters: usize) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut bytes = vec![0; characters];
    SystemEntropy.fill(&mut bytes);
    bytes
        .iter()
        .map(|byte| char::from(ALPHABET[usize::from(byte % 32)]))
        .collect()
}

pub(super) fn role_words(role: Role) -> &'static str {
    match role {
        Role::Coordinator => "care coordinator",
        Role::Clinician => "clinician",
        Role::PrivacyOfficer => "privacy officer",
        Role::Squad => "squad (owns journeys)",
        Role::Administrator => "administrator",
        Role::Biller => "biller",
        Role::Patient => "patient",
        Role::Proxy => "acts for a patient",
        Role::System => "part of Cairn",
        Role::Client => "other system",
        Role::Steerer => "steers journeys",
    }
}

pub(super) fn shown_login(login: &Login) -> web::DemoLogin {
    web::DemoLogin {
        user_name: login.user_name.clone(),
        password: login.password.clone(),
        totp: login.totp.clone(),
        role: role_words(login.role).to_owned(),
    }
}

pub(super) fn mail_to_sink(port: u16) -> exchange::MailOptions {
    exchange::MailOptions {
        host: "127.0.0.1".to_owned(),
        port,
        tls: exchange::MailTls::None,
        credentials: None,
        from: "Cairn demo hospital <care@hospital.example>".to_owned(),
        message_id_domain: "hospital.example".to_owned(),
        portal_base: String::new(),
        timeout_ms: 10_000,
        parallel: 4,
        magic_links: true,
        ca_file: None,
        meter: exchange::Meter::default(),
        dkim: None,
        returns: None,
    }
}

/// Makes the accounts, and a token to publish journeys with.
pub(super) async fn people(
    server: &Server,
    state_path: &Path,
    state: &mut DemoState,
) -> anyhow::Result<()> {
    let identity = server.trust().identity();
    if state.squad_token.is_some() {
        return Ok(());
    }
    for login in &state.logins {
        account(identity, login)
            .await
            .with_context(|| format!("account {}", login.user_name))?;
    }
    team::known(server.trust(), &state.logins).await?;
    // Made last, so that its being there says that all are.
    let token = identity
        .create_client(&setter(), "demo squad", Role::Squad)
        .await?;
    state.squad_token = Some(token);
    save(state_path, state)
}

/// Makes an account with its second factor, or makes whole what a start that was cut short has left.
async fn account(identity: &Identity, login: &Login) -> anyhow::Result<()> {
    let account = NewAccount {
        tenant: TENANT,
        user_name: login.user_name.clone(),
        name: login.name.clone(),
        role: login.role,
        password: login.password.clone(),
        patient: None,
    };
    let made = match identity.create(&setter(), account).await {
        Ok(id) => Some(id),
        // There already; ours, if the password is the same.
        Err(TrustError::Invalid(reason)) => {
            match identity
                .password(TENANT, &login.user_name, &login.password)
                .await
            {
                // It has no second factor yet, which would ask its owner for one that no page shows.
                Ok(SignIn::EnrolTotp { .. }) => {
                    identity.account_named(&setter(), &login.user_name).await?
                }
                Ok(_) => None,
                Err(TrustError::SignIn) => bail!("{reason}, and not by this demo"),
                Err(error) => return Err(error.into()),
            }
        }
        Err(error) => return Err(error.into()),
    };
    if let Some(id) = made {
        identity.set_totp(&setter(), &id, Some(&login.totp)).await?;
    }
    Ok(())
}

/// Publishes the journey at the first start only: later versions are the visitor's own.
pub(super) async fn journey(server: &Server) -> anyhow::Result<()> {
    let (trust, journeys) = (server.trust(), server.journeys());
    let decide = |action| {
        trust.decide(
            &SETTER_OF_JOURNEYS,
            Purpose::Operations,
            action,
            Target::default(),
            "demo",
        )
    };
    let observe = decide(Action::Observe).await?;
    if journeys.versions(&observe).await?.is_empty() {
        let publish = decide(Action::Publish).await?;
        let version = journeys.publish(&publish, JOURNEY).await?;
        say(&format!(
            "Published {} version {}.",
            version.name, version.version
        ));
    }
    Ok(())
}

static SETTER_OF_JOURNEYS: std::sync::LazyLock<Agent> = std::sync::LazyLock::new(setter);

/// Brings the patients in.
pub(super) async fn patients(
    server: &Server,
    state_path: &Path,
    state: &mut DemoState,
) -> anyhow::Result<()> {
    if state.imported {
        return Ok(());
    }
    let rejects = state_path.with_file_name("rejects.ndjson");
    let bar = Bar::bytes("patients");
    let result = async {
        match &state.source {
            Source::Import { paths } => import(server.trust(), paths.clone(), &rejects, &bar).await,
            Source::Synthetic { seed, patients } => {
                let options = CohortOptions {
                    seed: *seed,
                    now_ms: state.started_ms,
                    heart_failure_share: HEART_FAILURE_SHARE,
                };
                // The patients refer to the hospital, so it comes first.
                let hospital = synthetic::organisation_bundle(&options);
                let hospital = team::with_staff(hospital, &state.logins);
                import_values(server.trust(), std::iter::once(hospital), &rejects, &bar).await?;
                let bundles =
                    (0..*patients).map(|index| synthetic::patient_bundle(&options, index));
                let bundles = bundles.map(|bundle| team::with_team(bundle, &state.logins));
                import_values(server.trust(), bundles, &rejects, &bar).await
            }
        }
    };
    let rejected = result.await;
    bar.finish();
    let rejected = rejected?;
    if rejected > 0 {
        say(&format!(
            "{rejected} entries were refused; what and why is in {}.",
            rejects.display()
        ));
    }
    state.imported = true;
    save(state_path, state)
}

/// Imports bundles that are made as they are read.
pub(super) async fn import_values(
    trust: &Trust,
    bundles: impl Iterator<Item = Value>,
    rejects: &Path,
    bar: &Bar,
) -> anyhow::Result<u64> {
    let mut file = tempfile::Builder::new()
        .suffix(".ndjson")
        .tempfile()
        .context("making a temporary file")?;
    let mut writer = std::io::BufWriter::new(&mut file);
    for bundle in bundles {
        serde_json::to_writer(&mut writer, &bundle)?;
        writer.write_all(b"\n")?;
    }
    writer.flush()?;
    drop(writer);
    import(trust, vec![file.path().to_owned()], rejects, bar).await
}

async fn import(
    trust: &Trust,
    paths: Vec<std::path::PathBuf>,
    rejects: &Path,
    bar: &Bar,
) -> anyhow::Result<u64> {
    let options = ImportOptions {
        paths,
        rejects: rejects.to_owned(),
        parallel: 8,
    };
    let done = record::import::run(trust, &setter(), &options, &|progress| {
        bar.imported(progress);
    })
    .await?;
    Ok(done.rejected)
}

/// Makes the links that are shown at the start.
pub(super) async fn links(
    server: &Server,
    state_path: &Path,
    state: &mut DemoState,
    driver: &Driver,
) -> anyhow::Result<()> {
    if !state.links.is_empty() {
        return Ok(());
    }
    for patient in driver.first_patients(LINKS) {
        let secret = server
            .trust()
            .identity()
            .make_link(&setter(), &patient, LINK_LIFE_S, true)
            .await?;
        state.links.push(Link { patient, secret });
    }
    save(state_path, state)
}

/// The birth date that goes with a link.
pub(super) async fn birth_date(server: &Server, patient: &str) -> anyhow::Result<String> {
    let trust = server.trust();
    let target = Target {
        kind: Some(ResourceType::Patient),
        patient: Some(patient.to_owned()),
    };
    let permit = trust
        .decide(&setter(), Purpose::Operations, Action::Read, target, "demo")
        .await?;
    let found = trust
        .vault()
        .read(&permit, ResourceType::Patient, patient)
        .await?;
    let date = found
        .as_ref()
        .and_then(|found| found.resource.text_at(&["birthDate"]));
    Ok(date.unwrap_or("(unknown)").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[tokio::test]
    async fn an_account_that_a_crash_left_without_its_second_factor_is_made_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let ledger = ledger::Ledger::open(ledger::OpenOptions {
            location: ledger::Location::Folder(folder.path().join("store")),
            root_key: ledger::RootKey::from_bytes([7; 32]),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
            dictionary: Vec::new(),
            cache_bytes: 1 << 20,
        })
        .expect("a store");
        ledger.create_tenant(TENANT).await.expect("a tenant");
        let trust = Trust::new(trust::TrustOptions {
            ledger,
            wall_clock: Arc::new(SystemClock),
            policy_folder: None,
            session_idle_s: 900,
            session_absolute_s: 43_200,
        })
        .expect("trust");
        let identity = trust.identity();
        let state = new_state(Source::Synthetic {
            seed: 1,
            patients: 1,
        });
        let [carla, devi] = &state.logins[..2] else {
            panic!("the demo has several people");
        };
        let cut_short = NewAccount {
            tenant: TENANT,
            user_name: carla.user_name.clone(),
            name: carla.name.clone(),
            role: carla.role,
            password: carla.password.clone(),
            patient: None,
        };
        identity
            .create(&setter(), cut_short)
            .await
            .expect("an account");
        // Twice, as two starts do.
        for _ in 0..2 {
            for login in [carla, devi] {
                account(identity, login).await.expect("whole");
                let asked = identity
                    .password(TENANT, &login.user_name, &login.password)
                    .await;
                assert!(
                    matches!(asked, Ok(SignIn::SecondFactor { .. })),
                    "{asked:?}"
                );
            }
        }
        let other = Login {
            password: "somebody-else-s-7".to_owned(),
            ..carla.clone()
        };
        let taken = account(identity, &other).await;
        assert!(taken.is_err(), "another's account is left alone");
    }
}

//! `cairn serve`.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use ledger::{Ledger, LedgerError, RotationProgress, SystemClock, Tenant, TenantId, TokenRotation};
use trust::consent::Rules;

use crate::cli::ServeOptions;
use crate::client_certificates::ClientCertificates;
use crate::config::{ConfigError, Settings, environment};
use crate::control;
use crate::explaining::InForce;
use crate::floors::Configured;
use crate::server::{Ending, Server, ServerOptions, TlsFiles};
use crate::store::{self, RootKeySource, TENANT};
use crate::telemetry;

/// The configuration that options of `cairn serve` lead to.
pub(crate) fn settings(options: ServeOptions) -> Result<Settings, ConfigError> {
    let mut flags = options.set;
    let given = [
        ("data", options.data.map(|path| path.display().to_string())),
        ("listen", options.listen.map(|address| address.to_string())),
        (
            match options.root_key {
                Some(RootKeySource::Token(_)) => "root_key",
                _ => "root_key_file",
            },
            options.root_key.map(|source| source.to_string()),
        ),
    ];
    flags.extend(
        given
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?))),
    );
    Settings::load(options.config.as_deref(), environment(), &flags)
}

pub(crate) async fn serve(options: ServeOptions) -> anyhow::Result<ExitCode> {
    let settings = settings(options)?;
    let telemetry = telemetry::start(&settings.log, &settings.otlp)?;
    let result = run(&settings).await;
    // The exporter blocks while it sends, and must not do so on a thread that runs tasks.
    tokio::task::spawn_blocking(|| telemetry.finish())
        .await
        .context("sending the last traces")?;
    result?;
    Ok(ExitCode::SUCCESS)
}

/// Goes on with rotations of tenants' keys that were cut short, beside everything else.
async fn finish_rotations(ledger: Ledger) {
    let list = match ledger.tenants().await {
        Ok(list) => list,
        Err(error) => {
            tracing::error!(%error, "the list of tenants can't be read, so no rotation of keys is gone on with");
            return;
        }
    };
    for tenant in list.into_iter().filter(Tenant::is_there) {
        finish_rotation(&ledger, tenant.id).await;
    }
}

async fn finish_rotation(ledger: &Ledger, tenant: TenantId) {
    let progress = |progress: RotationProgress| {
        tracing::debug!(keys = progress.keys, "patients' keys looked at");
    };
    match ledger.continue_tenant_rotation(tenant, &progress).await {
        Ok(None) | Err(LedgerError::Closed) => {}
        Ok(Some(done)) => tracing::info!(
            version = done.version,
            keys = done.keys,
            "a rotation of keys that had been cut short is finished"
        ),
        Err(error) => tracing::error!(
            %error,
            "a rotation of keys that was cut short could not be finished; it goes on at the next start"
        ),
    }
    let progress = |progress: TokenRotation| {
        tracing::debug!(
            documents = progress.documents,
            "documents' tokens looked at"
        );
    };
    match ledger.continue_token_rotation(tenant, &progress).await {
        Ok(None) | Err(LedgerError::Closed) => {}
        Ok(Some(done)) => tracing::info!(
            version = done.version,
            documents = done.documents,
            "a rotation of the key of search tokens that had been cut short is finished"
        ),
        Err(error) => tracing::error!(
            %error,
            "a rotation of the key of search tokens that was cut short could not be finished; it goes on at the \
             next start"
        ),
    }
}

/// Where the audit is told, if anywhere.
fn collectors(settings: &Settings) -> anyhow::Result<Vec<crate::Collector>> {
    let audit = &settings.audit;
    let public = settings.public_url.as_deref().unwrap_or_default();
    let host = public.split("://").nth(1).unwrap_or_default();
    let host = host.split(['/', ':']).next().unwrap_or_default();
    let mut collectors = Vec::new();
    if let Some(address) = &audit.syslog {
        let identity = audit.syslog_certificate_file.as_deref();
        let identity = identity.zip(audit.syslog_private_key_file.as_deref());
        let authorities = audit.syslog_ca_file.as_deref();
        let collector = crate::SyslogCollector::new(address, authorities, identity, host);
        let collector = collector.map_err(|error| anyhow::anyhow!("audit.syslog: {error}"))?;
        collectors.push(collector.taking(audit.syslog_receipt).into());
    }
    if let Some(base) = &audit.otlp {
        let identity = audit.otlp_certificate_file.as_deref();
        let files = crate::OtlpFiles {
            authorities: audit.otlp_ca_file.as_deref(),
            identity: identity.zip(audit.otlp_private_key_file.as_deref()),
            headers: audit.otlp_headers_file.as_deref(),
        };
        let collector = crate::OtlpCollector::new(base, files, host);
        let collector = collector.map_err(|error| anyhow::anyhow!("audit.otlp: {error}"))?;
        collectors.push(collector.into());
    }
    Ok(collectors)
}

async fn run(settings: &Settings) -> anyhow::Result<()> {
    // Before anything is opened: whoever mends the configuration waits for nothing.
    let configured = Configured::of(settings)?;
    configured.check(&Rules::load(&settings.consent_rules)?)?;
    // An empty base is filled with the server's own URL, which isn't known before it listens.
    let mail = settings.mail(settings.public_url.as_deref().unwrap_or_default())?;
    if mail.is_none() {
        tracing::warn!("smtp.host is not set: e-mails wait in the outbox until it is");
    }
    let sms = settings.sms()?;
    let push = settings.push()?;
    let telehealth = settings.telehealth()?;
    let ledger = store::open(
        settings.location()?,
        &settings.root_key()?,
        Arc::new(SystemClock),
        settings.store.cache_bytes,
    )
    .await?;
    if let Some(file) = &settings.audit.witness_keys_file {
        ledger.trust_witnesses(super::witnesses(file, settings.audit.witness_quorum)?)?;
    }
    let rotation = tokio::spawn(finish_rotations(ledger.clone()));
    // Orders of an operator come by the data folder, where there is one.
    let in_force = InForce::default();
    let door = match &settings.data {
        Some(data) => Some(control::open(data, &ledger, &in_force)?),
        None => None,
    };
    let tls = settings
        .tls
        .certificate_file
        .clone()
        .zip(settings.tls.private_key_file.clone());
    let collectors = collectors(settings)?;
    let server = Server::start(ServerOptions {
        listen: settings.listen,
        public_url: settings.public_url.clone(),
        tls: tls.map(|(certificate, private_key)| TlsFiles {
            certificate,
            private_key,
        }),
        client_certificates: ClientCertificates {
            asked: settings.tls.client_certificates,
            told_by: settings.http.client_cert_proxies()?,
            authorities: settings.oauth.client_ca_file.clone(),
        },
        organisation: settings.organisation.clone(),
        mail,
        sms,
        push,
        files: settings.files().map_err(anyhow::Error::msg)?,
        sms_country: settings.sms.country.clone(),
        telehealth,
        telehealth_opens_ms: settings.telehealth.opens_s * 1_000,
        demographics: settings.demographics.clone(),
        policy_folder: settings.policy_folder.clone(),
        consent_rules: settings.consent_rules.clone(),
        tenants_folder: settings.tenants_folder.clone(),
        time_zone: settings.time_zone.clone(),
        networks: settings.network.clone(),
        configured: Some(configured),
        session_idle_s: settings.session.idle_s,
        session_absolute_s: settings.session.absolute_s,
        session_step_up_s: settings.session.step_up_s,
        emergency: settings.emergency.clone(),
        limits: settings.limits,
        proxies: settings.http.proxies()?,
        shared_addresses: settings.http.shared_addresses()?,
        behind_proxy: settings.behind_tls_proxy,
        validation: settings.fhir.validation,
        open_audit_log: settings.audit.open_log,
        key_origins: settings.oauth.key_origins.clone(),
        subscription_origins: settings.subscriptions.origins.clone(),
        open_registration: settings.oauth.open_registration,
        providers: settings.providers()?,
        witness_every_s: settings.audit.witness_every_s,
        collectors,
        ..ServerOptions::new(ledger, TENANT)
    })
    .await?;
    in_force.are(server.houses());
    for tenant in server.ledger().tenants().await? {
        if let Some(trust) = server.trust_of(tenant.id)
            && trust.identity().count(tenant.id).await? == 0
        {
            tracing::warn!(
                tenant = tenant.name,
                "there are no accounts yet: stop the server and make one with `cairn account create`"
            );
        }
    }
    let mut ending = Ending::listen()?;
    crate::terminal::say(&format!("Cairn is at {}", server.base_url()));
    ending.asked().await;
    tracing::info!("stopping");
    drop(door);
    server.stop().await?;
    rotation.await.context("the rotation of keys")?;
    tracing::info!("stopped");
    Ok(())
}

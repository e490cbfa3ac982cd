//! The houses of a server: one for each tenant that it serves, with everything in it that is the tenant's
//! own: who may come in, policies, caches, addresses, and the parts that work for it besides requests.
//!
//! [`Houses::follow`] keeps them as the store's list of tenants says; `reception.rs` leads requests to them by
//! their host, `quota.rs` bounds what one takes of the server, `own.rs` reads what a tenant has configured
//! for itself.

mod demographics;
mod files;
mod own;
mod passage;
mod push;
mod quota;
mod reception;
mod texts;
mod turns;
mod visits;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use axum::Router;
use ipnet::IpNet;
use ledger::{Clock, Ledger, LedgerError, Tenant, TenantId, TenantState};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use trust::outgoing::Cleared;

pub(crate) use own::Own;
pub(crate) use quota::Over;
pub(crate) use reception::Reception;

use self::quota::Quota;
use crate::client_certificates::Authorities;
use crate::config::{EmergencySettings, Limits};
use crate::floors::Configured;
use crate::http::{self, Around, Closed};
use crate::indexer::Indexed;
use crate::key_sets::KeySets;
use crate::providers::Providers;
use crate::server::{DemoPages, ServerError};

/// How often the list of tenants is looked at: so late may a server hear of a change.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a house rests that could not be opened.
const OPEN_AGAIN: Duration = Duration::from_secs(10);
/// How often sign-in records that are over are taken away; they end by days.
const SWEEP_EVERY: Duration = Duration::from_secs(3600);

/// A part that runs besides the requests.
pub(crate) struct Follower {
    pub(crate) name: &'static str,
    task: JoinHandle<()>,
}

impl Follower {
    pub(crate) fn new(name: &'static str, task: JoinHandle<()>) -> Self {
        Self { name, task }
    }
    pub(crate) fn is_running(&self) -> bool {
        !self.task.is_finished()
    }
    /// Waits until it has ended, up to a moment; then it is cut short.
    pub(crate) async fn end_by(&self, deadline: Instant) {
        while self.is_running() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if self.is_running() {
            // Whatever it was doing is not acknowledged, so the next start does it again.
            tracing::warn!(follower = self.name, "did not stop in time");
            self.task.abort();
        }
    }
}

/// What all houses of a server are made from.
pub(crate) struct Plan {
    pub(crate) ledger: Ledger,
    pub(crate) wall_clock: Arc<dyn Clock>,
    /// How the server is reached, without a slash at the end.
    pub(crate) base_url: String,
    pub(crate) organisation: String,
    pub(crate) mail: Option<exchange::MailOptions>,
    pub(crate) sms: Option<exchange::SmsOptions>,
    pub(crate) push: Option<exchange::PushOptions>,
    pub(crate) files: Vec<exchange::FileOptions>,
    pub(crate) sms_country: Option<String>,
    pub(crate) telehealth: Option<exchange::TelehealthPlace>,
    pub(crate) telehealth_opens_ms: u64,
    pub(crate) demographics: crate::config::DemographicsSettings,
    pub(crate) policy_folder: Option<PathBuf>,
    pub(crate) consent_rules: String,
    pub(crate) tenants_folder: Option<PathBuf>,
    pub(crate) time_zone: String,
    /// Networks with names, for policies.
    pub(crate) networks: std::collections::BTreeMap<String, String>,
    /// Addresses by which no client can be told: of proxies, and of what many come through.
    pub(crate) shared: Vec<IpNet>,
    /// What floors of rule packs are held against.
    pub(crate) configured: Option<Configured>,
    pub(crate) session_idle_s: u64,
    pub(crate) session_absolute_s: u64,
    pub(crate) session_step_up_s: u64,
    pub(crate) emergency: EmergencySettings,
    pub(crate) limits: Limits,
    pub(crate) validation: record::Validation,
    pub(crate) open_audit_log: bool,
    pub(crate) open_registration: bool,
    pub(crate) key_origins: String,
    pub(crate) subscription_origins: String,
    /// Whether clients can show certificates at all.
    pub(crate) takes_certificates: bool,
    /// The authorities that these may lead to.
    pub(crate) authorities: Authorities,
    pub(crate) providers: Arc<Providers>,
    /// Where the audit is told, if anywhere.
    pub(crate) collectors: Vec<Arc<crate::Collector>>,
    pub(crate) demo: Option<DemoPages>,
    pub(crate) run_journeys: bool,
    pub(crate) around: Around,
}

/// The contexts of one tenant, over a store that knows of no other.
#[derive(Clone)]
pub(crate) struct Contexts {
    pub(crate) tenant: TenantId,
    pub(crate) ledger: Ledger,
    pub(crate) trust: trust::Trust,
    pub(crate) record: record::Record,
    pub(crate) journeys: journey::Journeys,
    /// Where notifications of subscriptions may go.
    pub(crate) cleared: Cleared,
    /// How many hours old the newest backup may be, if the rule pack says so.
    pub(crate) backup_hours: Option<u64>,
}

impl Plan {
    /// What a tenant has for itself, where tenants have names.
    fn own(&self, tenant: &Tenant) -> Result<Own, ServerError> {
        Own::read(self.tenants_folder.as_deref(), &tenant.name).map_err(ServerError::Tenant)
    }

    /// Who is told of a tenant's emergency accesses. Those whom the server's configuration names are nobody's of
    /// one among several tenants.
    fn alerted(&self, is_named: bool, own: &Own) -> Result<Vec<String>, String> {
        let list = match &own.emergency_alert_to {
            Some(list) => list,
            None if is_named => return Ok(Vec::new()),
            None => &self.emergency.alert_to,
        };
        let addresses = EmergencySettings::addresses(list)?;
        if !addresses.is_empty() && own.emergency_alert_to.is_some() && self.mail.is_none() {
            return Err(
                "emergency_alert_to needs smtp.host in the server's configuration: without a mail server nobody would be told".to_owned(),
            );
        }
        Ok(addresses)
    }

    /// Where notifications of a tenant's subscriptions may go. The server's own list is nobody's of one among several
    /// tenants: what another organisation trusts need not be trusted here.
    fn cleared(&self, is_named: bool, own: &Own) -> Result<Cleared, ServerError> {
        let list = match &own.subscription_origins {
            Some(list) => list.as_str(),
            None if is_named => "",
            None => &self.subscription_origins,
        };
        crate::key_sets::origins(list)
            .map(Cleared::new)
            .map_err(ServerError::Subscriptions)
    }

    /// A tenant's contexts; `is_named` where it has hosts.
    fn contexts(
        &self,
        (tenant, name): (TenantId, &str),
        is_named: bool,
        own: &Own,
    ) -> Result<Contexts, ServerError> {
        let alerted = self.alerted(is_named, own).map_err(ServerError::Tenant)?;
        let cleared = self.cleared(is_named, own)?;
        let rules = own.consent_rules.as_ref().unwrap_or(&self.consent_rules);
        let rules = trust::consent::Rules::load(rules).map_err(ServerError::Trust)?;
        self.hold(&rules)?;
        let backup_hours = rules.security().backups.as_ref().map(|floor| floor.hours);
        let ledger = self.ledger.only(tenant);
        let policies = own.policy_folder.clone().or(self.policy_folder.clone());
        let options = trust::TrustOptions {
            ledger: ledger.clone(),
            wall_clock: Arc::clone(&self.wall_clock),
            policy_folder: policies,
            session_idle_s: self.session_idle_s,
            session_absolute_s: self.session_absolute_s,
        };
        let trust = trust::Trust::under(options, rules).map_err(ServerError::Trust)?;
        let zone = own.time_zone.as_ref().unwrap_or(&self.time_zone);
        let named = self.networks.iter();
        let named = named.map(|(name, list)| (name.as_str(), list.as_str()));
        let place = trust::Surroundings::of(name, zone, named).map_err(ServerError::Tenant)?;
        trust.situate(place.beside(self.shared.iter().copied()));
        let emergency = &self.emergency;
        trust
            .identity()
            .limit_emergencies(emergency.access_s, emergency.review_s);
        trust.identity().alert_of_emergencies(alerted);
        trust.identity().limit_factor_age(self.session_step_up_s);
        Ok(Contexts {
            tenant,
            ledger,
            record: record::Record::new(trust.clone())
                .with_validation(self.validation)
                .with_subscriptions(cleared.clone()),
            cleared,
            journeys: journey::Journeys::new(trust.clone()),
            trust,
            backup_hours,
        })
    }

    /// Holds what is configured against the floors of a pack.
    fn hold(&self, rules: &trust::consent::Rules) -> Result<(), ServerError> {
        match &self.configured {
            Some(configured) => configured.check(rules).map_err(ServerError::Below),
            None if rules.security().is_empty() => Ok(()),
            None => Err(ServerError::Unknown(rules.name().to_owned())),
        }
    }

    /// How a tenant is reached: by the first of its hosts, in the server's own way otherwise.
    fn base_url(&self, tenant: &Tenant) -> String {
        let Some(host) = tenant.hosts.first() else {
            return self.base_url.clone();
        };
        let (scheme, rest) = self.base_url.split_once("://").unwrap_or(("http", ""));
        let authority = rest.split('/').next().unwrap_or_default();
        let port = authority.parse::<axum::http::uri::Authority>().ok();
        match port.and_then(|authority| authority.port_u16()) {
            Some(port) => format!("{scheme}://{host}:{port}"),
            None => format!("{scheme}://{host}"),
        }
    }
}

/// One tenant's house.
pub(crate) struct House {
    pub(crate) entry: Tenant,
    pub(crate) contexts: Contexts,
    pub(crate) router: Router,
    followers: Vec<Follower>,
    /// Outbox entries that can't be opened, where mail is delivered.
    pub(crate) unreadable_mail: Option<Arc<AtomicU64>>,
    /// The same of text messages.
    pub(crate) unreadable_sms: Option<Arc<AtomicU64>>,
    /// The same of notifications to browsers.
    pub(crate) unreadable_push: Option<Arc<AtomicU64>>,
    /// The same of letters and telephone calls.
    pub(crate) unreadable_files: Vec<Arc<AtomicU64>>,
    /// Who on the other side is left alone, of all that delivers.
    pub(crate) breakers: Vec<exchange::Breakers>,
    /// Whether the session with a provider of text messages is open, where there is one to be kept.
    pub(crate) sms_session: Option<Arc<AtomicBool>>,
    /// With whom that is, and who the tenant is to them.
    smpp_account: Option<texts::Session>,
    /// The number of its own that its text messages come from.
    sms_from: Option<String>,
    /// Which search parameters of its own are complete.
    pub(crate) indexed: Indexed,
    stop_streams: watch::Sender<bool>,
    stop_followers: watch::Sender<bool>,
    /// Ends the answers that are still under way some time after the tenant is not served any more.
    cut: Cut,
}

type Cut = Arc<watch::Sender<bool>>;

impl House {
    /// Whether its text messages come from a number that is another's too.
    fn has_number_of(&self, other: &Self) -> bool {
        let (Some(own), Some(theirs)) = (&self.sms_from, &other.sms_from) else {
            return false;
        };
        let country = |house: &Self| house.contexts.trust.vault().texts().country;
        texts::is_same_number((own, country(self)), (theirs, country(other)))
    }

    /// Wires a tenant's contexts to its routes, and starts what works besides requests.
    async fn open(
        plan: &Plan,
        entry: &Tenant,
        own: &Own,
        contexts: Contexts,
        account: Option<exchange::SmsOptions>,
        cut: Cut,
    ) -> Result<Self, ServerError> {
        let (tenant, base_url) = (entry.id, plan.base_url(entry));
        let origins = own.key_origins.as_ref().unwrap_or(&plan.key_origins);
        let key_sets = crate::key_sets::origins(origins)
            .and_then(KeySets::of)
            .map_err(ServerError::KeyOrigins)?;
        let Contexts {
            ledger,
            trust,
            record,
            journeys,
            cleared,
            ..
        } = contexts.clone();
        if entry.quota.documents.is_some() {
            tokio::spawn(crate::tenancy::count_again(ledger.clone(), tenant));
        }
        // Those that are there are known before anybody can ask.
        if let Err(error) = trust.vault().refresh_owns(tenant).await {
            tracing::error!(%error, "search parameters can't be read; trying again");
        }
        trust
            .record_policies(tenant)
            .await
            .map_err(ServerError::Trust)?;
        let deliverer = plan.mail.clone().map(|mut mail| {
            if mail.portal_base.is_empty() || !entry.hosts.is_empty() {
                mail.portal_base.clone_from(&base_url);
            }
            let folder = plan.tenants_folder.as_deref();
            let mail = own.mail(mail, folder, !entry.hosts.is_empty())?;
            let door = |options| exchange::ReturnsDoor::new(trust.clone(), tenant, options);
            let door = mail.returns.as_ref().map(door).transpose()?;
            let deliverer = exchange::Deliverer::mail(trust.clone(), mail)?;
            Ok::<_, String>((deliverer, door.map(Arc::new)))
        });
        let (deliverer, returns) = deliverer.transpose().map_err(ServerError::Mail)?.unzip();
        let unreadable_mail = deliverer.as_ref().map(exchange::Deliverer::unreadable);
        let smpp_account = account.as_ref().and_then(texts::of_session);
        let texts = texts::open(
            (&trust, tenant),
            (account.as_ref(), plan.sms_country.as_deref()),
            own,
            &base_url,
        )?;
        let (texts, sms_door) = texts.unzip();
        let unreadable_sms = texts.as_ref().map(exchange::Deliverer::unreadable);
        let sms_session = texts.as_ref().and_then(exchange::Deliverer::session);
        let fhir_base = http::fhir_base(&base_url);
        let telehealth = visits::open(
            (&trust, tenant),
            (plan.telehealth.as_ref(), plan.telehealth_opens_ms),
            !entry.hosts.is_empty(),
            own,
            &fhir_base,
        )
        .await?;
        let (demographics_base, demographics) =
            demographics::open((&trust, &record), &plan.demographics, own, &base_url)?;
        let organisation = own.organisation.as_ref().unwrap_or(&plan.organisation);
        let push = push::open(
            (&trust, tenant),
            plan.push.as_ref(),
            organisation,
            &base_url,
        )
        .await?;
        let unreadable_push = push.as_ref().map(exchange::Deliverer::unreadable);
        let around = (organisation.as_str(), base_url.as_str());
        let files = files::open((&trust, tenant), &plan.files, entry, around)?;
        let unreadable_files = files.iter().map(exchange::FileDeliverer::unreadable);
        let unreadable_files = unreadable_files.collect();
        let indexed = Indexed::default();
        let deliverers = [&deliverer, &texts, &push].into_iter().flatten();
        let mut breakers: Vec<_> = deliverers.map(exchange::Deliverer::breakers).collect();

        let (stop_streams, streams_stopped) = watch::channel(false);
        let (stop_followers, stopped) = watch::channel(false);
        let mut followers = Vec::new();
        if plan.run_journeys {
            let (journeys, stopped) = (journeys.clone(), stopped.clone());
            let task = tokio::spawn(async move { journeys.run(tenant, stopped).await });
            followers.push(Follower::new("journeys", task));
        }
        if let Some(deliverer) = deliverer {
            let task = tokio::spawn(deliverer.run(stopped.clone()));
            followers.push(Follower::new("mail", task));
        }
        if let Some(texts) = texts {
            let task = tokio::spawn(texts.run(stopped.clone()));
            followers.push(Follower::new("text messages", task));
        }
        if let Some(push) = push {
            let task = tokio::spawn(push.run(stopped.clone()));
            // Notifications of subscriptions are another follower's.
            followers.push(Follower::new("notifications to devices", task));
        }
        followers.extend((files.into_iter()).map(|files| files::follow(files, stopped.clone())));
        let hooks =
            exchange::HookDeliverer::new(trust.clone(), cleared, record.notifications_queued())
                .map_err(ServerError::Subscriptions)?;
        followers.push(Follower::new(
            "notifications",
            tokio::spawn(hooks.run(stopped.clone())),
        ));
        let calls = exchange::CallDeliverer::new(trust.clone()).map_err(ServerError::Calls)?;
        breakers.push(calls.breakers());
        followers.push(Follower::new(
            "calls",
            tokio::spawn(calls.run(stopped.clone())),
        ));
        let (followed, until) = (record.clone(), stopped.clone());
        let following =
            tokio::spawn(async move { followed.follow_subscriptions(tenant, until).await });
        followers.push(Follower::new("subscriptions", following));
        let sweeper = sweep(trust.clone(), record.clone(), tenant, stopped.clone());
        followers.push(Follower::new("sweeper", tokio::spawn(sweeper)));
        let following = crate::policies::follow(trust.clone(), tenant, stopped.clone());
        followers.push(Follower::new("policies", tokio::spawn(following)));
        let hearing = crate::indexer::hear(trust.clone(), tenant, stopped.clone());
        followers.push(Follower::new("definitions", tokio::spawn(hearing)));
        let indexer = crate::indexer::run(trust.clone(), tenant, indexed.clone(), stopped.clone());
        followers.push(Follower::new("indexer", tokio::spawn(indexer)));
        // It has one place in the logs, which several tenants share.
        let told = plan.collectors.iter().filter(|_| entry.hosts.is_empty());
        for collector in told.map(Arc::clone) {
            // Logs hold what was done to the store itself as well.
            let (ledger, clock) = (plan.ledger.clone(), Arc::clone(&plan.wall_clock));
            let telling = crate::collector::run(ledger, tenant, collector, clock, stopped.clone());
            followers.push(Follower::new("collector", tokio::spawn(telling)));
        }

        let demo = plan.demo.as_ref();
        let pages = web::WebState {
            trust: trust.clone(),
            journeys: journeys.clone(),
            record: record.clone(),
            tenant,
            organisation: organisation.clone(),
            push: (plan.push.as_ref())
                .filter(|push| push.contact.is_some())
                .map(|push| push.services.clone()),
            carried: files::carried(&plan.files),
            mailbox: demo.map(|demo| demo.mailbox.clone()),
            demo_logins: demo.map(|demo| demo.logins.clone()).unwrap_or_default(),
            demo_speed: demo.map(|demo| demo.speed),
            demo_people_imported: demo.is_some_and(|demo| demo.people_imported),
            fhir_base,
            telehealth: telehealth.clone(),
            secure_cookies: base_url.starts_with("https://"),
            // Whose people are known to a provider of the server's configuration isn't said: of one among several
            // tenants, they would be let in at the others.
            providers: (entry.hosts.is_empty())
                .then(|| Arc::clone(&plan.providers) as Arc<dyn web::IdentityProviders>),
        };
        let doors = http::Doors::new(http::Behind {
            pages,
            ledger,
            trust,
            record,
            journeys,
            base_url,
            limits: plan.limits,
            open_audit_log: plan.open_audit_log,
            is_named: !entry.hosts.is_empty(),
            key_sets,
            open_registration: own.open_registration.unwrap_or(plan.open_registration),
            takes_certificates: plan.takes_certificates,
            authorities: plan.authorities.clone(),
            // By a session, nothing comes by HTTP.
            sms: sms_door.filter(|door| door.is_called()),
            returns: returns.flatten(),
            telehealth,
            demographics_base,
            demographics,
        });
        Ok(Self {
            entry: entry.clone(),
            contexts,
            router: http::router(&doors, &plan.around, streams_stopped),
            followers,
            unreadable_mail,
            unreadable_sms,
            unreadable_push,
            unreadable_files,
            breakers,
            sms_session,
            smpp_account,
            sms_from: own.sms_from.clone(),
            indexed,
            stop_streams,
            stop_followers,
            cut,
        })
    }

    /// Whether there is no session with a provider of text messages where one is to be kept.
    pub(crate) fn lacks_sms_session(&self) -> bool {
        let session = self.sms_session.as_ref();
        session.is_some_and(|session| !session.load(Ordering::Relaxed))
    }

    /// Ends when the answers of the house have to.
    fn until_cut(&self) -> passage::Until {
        let mut cut = self.cut.subscribe();
        Box::pin(async move {
            if cut.wait_for(|cut| *cut).await.is_err() {
                // A server that is gone ends them itself.
                std::future::pending::<()>().await;
            }
        })
    }

    /// Closes it: live pages end at once. What is under way goes on.
    fn close(&self) {
        self.stop();
        // What it lays out goes on when somebody asks for it again.
        self.contexts.record.give_up_exports();
    }

    /// Asks everything in it to end.
    fn stop(&self) {
        let _ = self.stop_streams.send(true);
        let _ = self.stop_followers.send(true);
    }

    async fn end_by(&self, deadline: Instant) {
        for follower in &self.followers {
            follower.end_by(deadline).await;
        }
    }
}

/// Where a host leads.
#[derive(Clone)]
pub(crate) enum Place {
    Open(Arc<House>, Arc<Quota>),
    Closed(Closed),
}

/// Which house is reached how.
#[derive(Default)]
pub(crate) struct Table {
    list: Vec<Tenant>,
    /// Where every request goes, whatever host it names.
    any: Option<Place>,
    hosts: HashMap<String, Place>,
}

impl Table {
    fn each(&self) -> impl Iterator<Item = (&Arc<House>, &Arc<Quota>)> {
        let mut seen = Vec::new();
        let places = self.any.iter().chain(self.hosts.values());
        places.filter_map(move |place| match place {
            Place::Open(house, quota) if !seen.contains(&house.entry.id) => {
                seen.push(house.entry.id);
                Some((house, quota))
            }
            _ => None,
        })
    }

    fn put(&mut self, tenant: &Tenant, place: &Place) {
        if tenant.hosts.is_empty() {
            self.any = Some(place.clone());
        }
        for host in &tenant.hosts {
            self.hosts.insert(host.clone(), place.clone());
        }
    }
}

/// All houses of a server.
pub(crate) struct Houses {
    plan: Plan,
    /// The tenant that is served where none has a host name, and its contexts, which are there from the
    /// beginning.
    main: Contexts,
    /// What these were made with: its name, whether it had hosts, and what was its own.
    main_as: (String, bool, Own),
    table: RwLock<Arc<Table>>,
    /// What ends answers, by tenant: of all its houses, since one with another name takes over from one in which some
    /// are still under way.
    cuts: Mutex<HashMap<TenantId, Cut>>,
}

impl Houses {
    /// Opens the houses of all tenants that are served now.
    ///
    /// # Errors
    /// Why the one house can't be opened where there is one. Of several, one that can't be is said to the log
    /// and tried again; the others open.
    pub(crate) async fn open(plan: Plan, main: TenantId) -> Result<Self, ServerError> {
        let list = plan.ledger.tenants().await.map_err(ServerError::Tenants)?;
        let named = list
            .iter()
            .find(|tenant| tenant.id == main && !tenant.hosts.is_empty());
        let entry = list.iter().find(|tenant| tenant.id == main);
        let name = entry.map_or("main", |tenant| tenant.name.as_str());
        // A fault of one tenant's own configuration must not keep the others out.
        let own = named.map_or_else(|| Ok(Own::default()), |tenant| plan.own(tenant));
        let is_named = named.is_some();
        let made = own.and_then(|own| Ok((plan.contexts((main, name), is_named, &own)?, own)));
        let (contexts, own) = match (made, named) {
            (Err(error), Some(_)) => {
                tracing::error!(%error, "what a tenant has configured for itself can't be used");
                (
                    plan.contexts((main, name), is_named, &Own::default())?,
                    Own::default(),
                )
            }
            (made, _) => made?,
        };
        let houses = Self {
            plan,
            main: contexts,
            main_as: (name.to_owned(), is_named, own),
            table: RwLock::default(),
            cuts: Mutex::default(),
        };
        houses.follow_list(list, &mut HashMap::new()).await?;
        Ok(houses)
    }

    /// The contexts that are there from the beginning.
    pub(crate) fn main(&self) -> &Contexts {
        &self.main
    }

    pub(crate) fn table(&self) -> Arc<Table> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&table)
    }

    fn set(&self, table: Table) {
        let mut kept = self.table.write().unwrap_or_else(PoisonError::into_inner);
        *kept = Arc::new(table);
    }

    /// The houses that are open.
    pub(crate) fn each(&self) -> Vec<Arc<House>> {
        self.table()
            .each()
            .map(|(house, _)| Arc::clone(house))
            .collect()
    }

    /// The contexts of a tenant whose house is open.
    pub(crate) fn contexts(&self, tenant: TenantId) -> Option<Contexts> {
        let houses = self.each().into_iter();
        let mut contexts = houses.map(|house| house.contexts.clone());
        contexts.find(|contexts| contexts.tenant == tenant)
    }

    /// A part of some house that should run and doesn't.
    pub(crate) fn stopped(&self) -> Option<&'static str> {
        self.each()
            .iter()
            .find_map(|house| crate::http::stopped(&house.followers))
    }

    /// Keeps the houses as the list of tenants says, until `stopped`.
    pub(crate) async fn follow(self: Arc<Self>, mut stopped: watch::Receiver<bool>) {
        let mut failed = HashMap::new();
        loop {
            tokio::select! {
                _ = stopped.wait_for(|stopped| *stopped) => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let looked = match self.plan.ledger.tenants().await {
                Ok(list) => self.follow_list(list, &mut failed).await,
                Err(LedgerError::Closed) => return,
                Err(error) => Err(ServerError::Tenants(error)),
            };
            if let Err(error) = looked {
                tracing::error!(%error, "the list of tenants can't be followed; trying again");
            }
        }
    }

    /// Shuts the doors of those who are not to be served, and then opens those of who is. `failed` says which
    /// could not be opened, and when that was tried.
    async fn follow_list(
        &self,
        mut list: Vec<Tenant>,
        failed: &mut HashMap<TenantId, Instant>,
    ) -> Result<(), ServerError> {
        let named = list.iter().any(|tenant| !tenant.hosts.is_empty());
        if !named {
            // The others of an unnamed list are nobody's to reach.
            list.retain(|tenant| tenant.id == self.main.tenant);
        }
        list.retain(ledger::Tenant::is_there);
        let known = self.table();
        let rested = |at: &Instant| at.elapsed() >= OPEN_AGAIN;
        if known.list == list && !failed.values().any(rested) {
            return Ok(());
        }
        let at_once = named.then_some(self.plan.limits.tenant_at_once);
        let mut table = Table {
            list: list.clone(),
            ..Table::default()
        };
        let (mut opening, mut kept) = (Vec::new(), Vec::new());
        for tenant in &list {
            let open = known.each().find(|(house, _)| house.entry.id == tenant.id);
            let same = open.filter(|(house, _)| {
                let entry = &house.entry;
                tenant.state == TenantState::Active
                    && (&entry.name, &entry.hosts) == (&tenant.name, &tenant.hosts)
            });
            let place = match (same, tenant.state) {
                (Some((house, quota)), _) => {
                    kept.push(tenant.id);
                    let before = known.list.iter().find(|known| known.id == tenant.id);
                    let quota = if before.is_some_and(|before| before.quota == tenant.quota) {
                        Arc::clone(quota)
                    } else {
                        Arc::new(Quota::new(&tenant.name, tenant.quota, at_once))
                    };
                    Place::Open(Arc::clone(house), quota)
                }
                (None, TenantState::Active) => {
                    opening.push(tenant);
                    Place::Closed(Closed::Opening)
                }
                (None, _) => Place::Closed(Closed::Suspended),
            };
            table.put(tenant, &place);
        }
        self.set(table);
        let drain = Duration::from_millis(self.plan.limits.drain_ms);
        let deadline = Instant::now() + drain;
        let gone: Vec<_> = (known.each())
            .map(|(house, _)| house)
            .filter(|house| !kept.contains(&house.entry.id))
            .collect();
        gone.iter().for_each(|house| house.close());
        self.cut_others(&list, drain);
        for house in gone {
            // Before another of the same tenant is opened, so that nothing is worked on twice.
            house.end_by(deadline).await;
            tracing::info!(tenant = house.entry.name, "a tenant's house was closed");
        }
        for tenant in opening {
            if failed.get(&tenant.id).is_some_and(|at| !rested(at)) {
                continue;
            }
            let house = match self.open_one(tenant).await {
                Ok(house) => house,
                Err(error) if !named => {
                    failed.insert(tenant.id, Instant::now());
                    return Err(error);
                }
                Err(error) => {
                    failed.insert(tenant.id, Instant::now());
                    tracing::error!(tenant = tenant.name, %error, "a tenant's house can't be opened; trying again");
                    continue;
                }
            };
            failed.remove(&tenant.id);
            tracing::info!(tenant = tenant.name, "a tenant's house was opened");
            let quota = Quota::new(&tenant.name, tenant.quota, at_once);
            let place = Place::Open(Arc::new(house), Arc::new(quota));
            let mut table = Table {
                list: list.clone(),
                any: self.table().any.clone(),
                hosts: self.table().hosts.clone(),
            };
            table.put(tenant, &place);
            self.set(table);
        }
        failed.retain(|failed, _| list.iter().any(|tenant| tenant.id == *failed));
        Ok(())
    }

    /// The name of another tenant that is open and has the same account at the same provider by SMPP.
    fn shares_session(
        &self,
        tenant: &Tenant,
        account: Option<&exchange::SmsOptions>,
    ) -> Option<String> {
        let session = Some(account.and_then(texts::of_session)?);
        let all = self.each();
        let other = all
            .iter()
            .find(|house| house.entry.id != tenant.id && house.smpp_account == session)?;
        Some(other.entry.name.clone())
    }

    async fn open_one(&self, tenant: &Tenant) -> Result<House, ServerError> {
        let is_named = !tenant.hosts.is_empty();
        let own = if is_named {
            self.plan.own(tenant)?
        } else {
            Own::default()
        };
        if is_named && own.emergency_alert_to.is_none() && !self.plan.emergency.alert_to.is_empty()
        {
            tracing::warn!(
                tenant = tenant.name,
                "emergency.alert_to is not for a tenant with hosts, and it has no emergency_alert_to of its own: nobody is told of its emergency accesses by e-mail"
            );
        }
        let account = texts::account(self.plan.sms.as_ref(), tenant, &own)?;
        if let Some(other) = self.shares_session(tenant, account.as_ref()) {
            return Err(ServerError::Sms(format!(
                "the account for text messages by SMPP is that of {other} too, and each would hear what is the other's"
            )));
        }
        // Those of the beginning serve as long as nothing in them would be another.
        let first = tenant.id == self.main.tenant && self.table().each().next().is_none();
        let (as_name, as_named, as_own) = &self.main_as;
        let contexts = if first && (&tenant.name, is_named, &own) == (as_name, *as_named, as_own) {
            self.main.clone()
        } else {
            self.plan
                .contexts((tenant.id, &tenant.name), is_named, &own)?
        };
        let cut = Arc::clone(self.cuts().entry(tenant.id).or_default());
        let house = House::open(&self.plan, tenant, &own, contexts, account, cut).await?;
        self.tell_of_shared_number(&house);
        Ok(house)
    }

    /// What is sent to a number that is two tenants' is brought to one of them, so neither asks what is answered by reply.
    fn tell_of_shared_number(&self, house: &House) {
        let all = self.each();
        let others = all
            .iter()
            .filter(|other| other.entry.id != house.entry.id && house.has_number_of(other));
        for other in others {
            tracing::warn!(
                tenant = house.entry.name,
                other = other.entry.name,
                "two tenants have one number for text messages (sms_from), so neither asks questions that are answered by reply"
            );
            for house in [other.as_ref(), house] {
                house.contexts.trust.vault().number_is_shared();
            }
        }
    }

    fn cuts(&self) -> MutexGuard<'_, HashMap<TenantId, Cut>> {
        self.cuts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends, after some time, what is under way for those who are not served any more. A tenant that is served under
    /// another name or by other hosts keeps what it has begun.
    fn cut_others(&self, list: &[Tenant], drain: Duration) {
        let is_served = |id: TenantId| {
            let mut all = list.iter();
            all.any(|tenant| tenant.id == id && tenant.state == TenantState::Active)
        };
        for (_, cut) in self.cuts().extract_if(|id, _| !is_served(*id)) {
            tokio::spawn(async move {
                tokio::time::sleep(drain).await;
                let _ = cut.send_replace(true);
            });
        }
    }

    /// Ends everything in all houses, by a moment.
    pub(crate) async fn end_by(&self, deadline: Instant) {
        let houses = self.each();
        for house in &houses {
            house.end_by(deadline).await;
        }
    }

    /// Asks everything in all houses to end.
    pub(crate) fn stop(&self) {
        self.each().iter().for_each(|house| house.stop());
    }
}

/// Takes away sign-in records, requests' keys and bulk exports that are over, at the start and then each hour.
async fn sweep(
    trust: trust::Trust,
    record: record::Record,
    tenant: TenantId,
    mut stopped: watch::Receiver<bool>,
) {
    loop {
        match record.sweep_exports(tenant).await {
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, "bulk exports that were over removed"),
            Err(error) => tracing::error!(%error, "bulk exports could not be swept"),
        }
        match trust.identity().sweep(tenant).await {
            Ok(0) => {}
            Ok(removed) => {
                tracing::info!(removed, "sign-in records and keys that were over removed");
            }
            Err(error) => tracing::error!(%error, "sign-in records could not be swept"),
        }
        tokio::select! {
            // An error means that the server is gone.
            _ = stopped.wait_for(|stopped| *stopped) => return,
            () = tokio::time::sleep(SWEEP_EVERY) => {}
        }
    }
}

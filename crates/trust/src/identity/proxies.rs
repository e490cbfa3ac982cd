//! Who acts for a patient (45 CFR 164.502(g)): parents, guardians, those whom the patient has chosen.
//!
//! Staff say so, by what proves it; a `RelatedPerson` shows it to other systems and gives no right, since these
//! write such resources. What is said lies in the patient's sealed document and goes with the patient's key; the
//! audit has its id. Whether it stands is asked for each permit: a date, a birthday or an end counts at once. All
//! dates are by the care clock, as the record's are.
use std::collections::BTreeSet;

use fhir::{Resource, ResourceType};
use ledger::{Expected, Owner, Query, TenantId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::documents::{AgentDocument, Kept, LinkDocument, deletion, draft, find, get};
use super::emergency::said;
use super::manage::invalid;
use super::{Identity, RETRIES, SignIn, secrets};
use crate::audit::{Event, Record};
use crate::consent::{Basis, Standing, proxy_day, within_days};
use crate::conventions::CONFIDENTIAL_EXTENSION;
use crate::policy::NO_PROXY;
use crate::{Action, Agent, Permit, Refusal, Role, TrustError, Vault, kinds};

/// The most that may act for one patient at once. Each has an account of their own in all but name.
const STANDING_MAX: usize = 10;
/// The most that are looked through and listed, of one patient or one person.
const LISTED_MAX: usize = 200;
/// Characters of a name.
const NAME_MAX: usize = 200;

/// Somebody who is to act for a patient.
#[derive(Debug, Clone)]
pub struct NewProxy {
    /// The patient.
    pub patient: String,
    /// Their name.
    pub name: String,
    /// Their own e-mail address, to which links and, of small children, messages go.
    pub address: String,
    /// Their birth date, which each sign-in asks for.
    pub birth_date: String,
    /// By which right.
    pub basis: Basis,
    /// What proves it, in words.
    pub proof: String,
    /// From which day, if not from now.
    pub from: Option<String>,
    /// Until which day, if one is known.
    pub until: Option<String>,
    /// Whether the messages of a small child go to them.
    pub messages: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct ProxyDocument {
    /// What all records of one person are found by.
    person: String,
    patient: String,
    name: String,
    address: String,
    birth_date: String,
    basis: Basis,
    proof: String,
    from: Option<String>,
    until: Option<String>,
    messages: bool,
    made_ms: u64,
    made_by: String,
    ended: Option<Ended>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Ended {
    at_ms: u64,
    by: String,
    by_patient: bool,
    reason: String,
}

/// Somebody who acts for a patient, or did.
#[derive(Debug, Clone)]
pub struct Proxy {
    /// Id of the record, and of the `RelatedPerson`.
    pub id: String,
    /// The patient.
    pub patient: String,
    /// Their name.
    pub name: String,
    /// Their address.
    pub address: String,
    /// By which right.
    pub basis: Basis,
    /// What proves it.
    pub proof: String,
    /// From which day, if that was said.
    pub from: Option<String>,
    /// Until which day, if that was said.
    pub until: Option<String>,
    /// Whether a small child's messages go to them.
    pub messages: bool,
    /// When it was said, care clock.
    pub made_ms: u64,
    /// Who said it.
    pub made_by: String,
    /// When it was ended, by whom and why, if it was.
    pub ended: Option<(u64, String, String)>,
    /// Why they don't act for the patient now, if they don't.
    pub why_not: Option<&'static str>,
}

/// For whom somebody acts.
#[derive(Debug, Clone)]
pub struct Acting {
    /// Id of the record.
    pub id: String,
    /// The patient's id.
    pub patient: String,
    /// The patient's name as they are called.
    pub patient_name: String,
    /// Whether the patient is of an age to keep something from them.
    pub is_kept: bool,
}

/// A record as sign-in sees it.
pub(super) struct WhoActs {
    pub(super) id: String,
    pub(super) person: String,
    pub(super) birth_date: String,
    pub(super) stands: bool,
}

/// Whom somebody acts for, and what they may be shown.
pub(crate) struct Acts {
    pub(crate) patient: String,
    pub(crate) standing: Standing,
}

fn shown(id: String, body: ProxyDocument, why_not: Option<&'static str>) -> Proxy {
    Proxy {
        id,
        patient: body.patient,
        name: body.name,
        address: body.address,
        basis: body.basis,
        proof: body.proof,
        from: body.from,
        until: body.until,
        messages: body.messages,
        made_ms: body.made_ms,
        made_by: body.made_by,
        ended: (body.ended).map(|ended| (ended.at_ms, ended.by, ended.reason)),
        why_not,
    }
}

fn is_deceased(patient: &Resource) -> bool {
    patient.get("deceasedDateTime").is_some()
        || patient.get("deceasedBoolean") == Some(&Value::Bool(true))
}

fn telecoms(patient: &Resource) -> impl Iterator<Item = &Value> {
    let telecoms = patient.get("telecom").and_then(Value::as_array);
    telecoms.into_iter().flatten()
}

/// Addresses are the same in any case.
fn same_address(left: &str, right: &str) -> bool {
    left.trim().to_lowercase() == right.trim().to_lowercase()
}

impl Vault {
    fn care_ms(&self) -> i64 {
        i64::try_from(self.ledger().clock().now_ms()).unwrap_or(i64::MAX)
    }

    /// Why somebody doesn't act for a patient now, if they don't.
    fn why_no_proxy(
        &self,
        body: &ProxyDocument,
        patient: Option<&Resource>,
    ) -> Option<&'static str> {
        let now_ms = self.care_ms();
        let Some(rules) = self.rules().proxies() else {
            return Some("the rules here let nobody act for a patient");
        };
        if body.ended.is_some() {
            return Some("it was ended");
        }
        let Some(patient) = patient else {
            return Some("the patient's record is gone");
        };
        if is_deceased(patient) {
            return Some("the patient has died");
        }
        let days = (body.from.as_deref(), body.until.as_deref());
        if !within_days(patient, days, now_ms) {
            return Some("it is not of today");
        }
        // A parent's right ends by itself. Where nobody knows the age, there is none.
        if body.basis == Basis::Parent && rules.is_minor(patient, now_ms) != Some(true) {
            return Some("the patient is of age, or has no birth date on record");
        }
        None
    }

    async fn proxy_with_patient(
        &self,
        tenant: TenantId,
        id: &str,
    ) -> Result<Option<(ProxyDocument, Option<Resource>)>, TrustError> {
        if !fhir::is_id(id) {
            return Ok(None);
        }
        let found: Option<Kept<ProxyDocument>> =
            get(self.ledger(), tenant, kinds::PROXY, id).await?;
        let Some(kept) = found else {
            return Ok(None);
        };
        let patient = self
            .peek(tenant, ResourceType::Patient, &kept.body.patient)
            .await?;
        Ok(Some((kept.body, patient)))
    }

    /// Whom a record lets somebody act for now; none if it doesn't stand.
    pub(crate) async fn proxy_acts(
        &self,
        tenant: TenantId,
        id: &str,
    ) -> Result<Option<Acts>, TrustError> {
        let Some((body, Some(patient))) = self.proxy_with_patient(tenant, id).await? else {
            return Ok(None);
        };
        let rules = self.rules().proxies();
        Ok(rules
            .filter(|_| self.why_no_proxy(&body, Some(&patient)).is_none())
            .map(|rules| {
                let is_kept = rules.keeps(&patient, self.care_ms());
                Acts {
                    patient: body.patient,
                    standing: Standing {
                        is_kept,
                        sees_journeys: !is_kept,
                    },
                }
            }))
    }

    /// The address of somebody who acts for a patient, while they do. For the deliverer, which is told of it by
    /// what staff put on its way.
    ///
    /// # Errors
    /// `Ledger`, `Damaged`.
    pub async fn proxy_address(
        &self,
        tenant: TenantId,
        id: &str,
        patient: &str,
    ) -> Result<Option<String>, TrustError> {
        let found = self.proxy_with_patient(tenant, id).await?;
        Ok(found
            .filter(|(body, resource)| {
                body.patient == patient && self.why_no_proxy(body, resource.as_ref()).is_none()
            })
            .map(|(body, _)| body.address))
    }

    /// To whom a small child's messages go, who has no address of their own: id and address of a parent or
    /// guardian who takes them and from whom consents keep nothing, the one who was named first. None for everybody else: a patient who is old
    /// enough to keep something, who has or had an e-mail address, or who is to be written to at one alone.
    ///
    /// # Errors
    /// `Ledger`, `Damaged`.
    pub async fn proxy_to_write_to(
        &self,
        tenant: TenantId,
        patient: &Resource,
    ) -> Result<Option<(String, String)>, TrustError> {
        let (Some(rules), Some(id)) = (self.rules().proxies(), patient.id()) else {
            return Ok(None);
        };
        let is_small = rules.is_small(patient, self.care_ms());
        let has_own = telecoms(patient).any(|telecom| {
            let extensions = telecom.get("extension").and_then(Value::as_array);
            let mut extensions = extensions.into_iter().flatten();
            telecom.get("system").and_then(Value::as_str) == Some("email")
                || extensions.any(|one| {
                    one.get("url").and_then(Value::as_str) == Some(CONFIDENTIAL_EXTENSION)
                })
        });
        if !is_small || has_own {
            return Ok(None);
        }
        let mut found = self.proxies_at(tenant, "patient", id).await?;
        found.retain(|kept| {
            kept.body.patient == id
                && kept.body.messages
                && matches!(kept.body.basis, Basis::Parent | Basis::Guardian)
                && self.why_no_proxy(&kept.body, Some(patient)).is_none()
        });
        found.sort_by_key(|kept| kept.body.made_ms);
        for kept in found {
            // From whom something is kept, a message is.
            if !self.may_hide_from_proxy(tenant, id, &kept.id).await? {
                return Ok(Some((kept.id, kept.body.address)));
            }
        }
        Ok(None)
    }

    /// Whether an address is that of somebody who acts for a patient, whatever the patient's record says it is: a
    /// link that signs in the patient doesn't go there.
    ///
    /// # Errors
    /// `Ledger`, `Damaged`.
    pub async fn is_of_who_acts(
        &self,
        tenant: TenantId,
        patient: &str,
        address: &str,
    ) -> Result<bool, TrustError> {
        let known = self.proxies_at(tenant, "patient", patient).await?;
        let mut acting = known.iter().filter(|kept| kept.body.ended.is_none());
        Ok(acting
            .any(|kept| kept.body.patient == patient && same_address(&kept.body.address, address)))
    }

    /// The names and addresses of those who act for a patient, for who looks after the patient; nothing for others.
    ///
    /// # Errors
    /// `Ledger`, `Damaged`.
    pub async fn addresses_of_who_acts(
        &self,
        permit: &Permit,
        patient: &str,
    ) -> Result<Vec<(String, String)>, TrustError> {
        let may = matches!(
            permit.agent.role,
            Role::Clinician | Role::Coordinator | Role::PrivacyOfficer
        ) && permit.only_patient() == Some(patient)
            && permit.agent.access.is_none();
        if !may {
            return Ok(Vec::new());
        }
        let found = self.proxies_at(permit.tenant(), "patient", patient).await?;
        let acting = found.into_iter().map(|kept| kept.body);
        let acting = acting.filter(|body| body.patient == patient && body.ended.is_none());
        Ok(acting.map(|body| (body.name, body.address)).collect())
    }

    async fn proxies_at(
        &self,
        tenant: TenantId,
        by: &str,
        value: &str,
    ) -> Result<Vec<Kept<ProxyDocument>>, TrustError> {
        let ledger = self.ledger();
        let query = Query::Token(ledger.token(tenant, kinds::PROXY, by, value));
        find(ledger, tenant, kinds::PROXY, &query, LISTED_MAX).await
    }
}

impl Identity {
    /// Lets somebody act for a patient, as staff state; and shows it as a `RelatedPerson` with the same id. The
    /// right to invite patients is the right to do so.
    ///
    /// # Errors
    /// `Refused`; `Invalid` for what can't be, in words; `Ledger`.
    pub async fn make_proxy(
        &self,
        by: &Agent,
        new: NewProxy,
        request_id: &str,
    ) -> Result<String, TrustError> {
        let mut permit = self.permit(by, Action::Invite).await?;
        request_id.clone_into(&mut permit.request_id);
        self.in_person(by).await?;
        let (vault, tenant) = (&self.inner.vault, by.tenant);
        let Some(rules) = vault.rules().proxies() else {
            return invalid("the rules here let nobody act for a patient");
        };
        let name = new.name.split_whitespace().collect::<Vec<_>>().join(" ");
        if name.is_empty() || name.chars().count() > NAME_MAX {
            return invalid("the name is missing or too long");
        }
        let address = new.address.trim().to_owned();
        if !is_address(&address) {
            return invalid("that is no e-mail address");
        }
        let proof = said(&new.proof, "what proves it")?;
        let now_ms = vault.care_ms();
        let born = proxy_day(&new.birth_date)?;
        let born_ms = fhir::date::parse(&born.to_string()).map(|date| date.start_ms);
        if born_ms.is_none_or(|born_ms| born_ms >= now_ms) {
            return invalid("their birth date lies in the future");
        }
        let from = new.from.as_deref().map(proxy_day).transpose()?;
        let until = new.until.as_deref().map(proxy_day).transpose()?;
        if from.zip(until).is_some_and(|(from, until)| until < from) {
            return invalid("it would end before it begins");
        }
        let found = if fhir::is_id(&new.patient) {
            vault
                .peek(tenant, ResourceType::Patient, &new.patient)
                .await?
        } else {
            None
        };
        let Some(patient) = found else {
            return invalid("there is no such patient");
        };
        // Whoever is named sees the record, so who may not see it names nobody.
        if let Some(reason) = vault.wants_relation(&permit, &new.patient).await? {
            let mut record = Record::under(&permit, Event::PROXY_MADE);
            record.outcome = crate::audit::Outcome::Refused;
            record.note = Some(&reason);
            record.patients.insert(new.patient);
            self.inner.auditor.commit(&record).await?;
            let because = Vec::new();
            return Err(TrustError::Refused(Refusal { reason, because }));
        }
        if new.basis == Basis::Parent && rules.is_minor(&patient, now_ms) != Some(true) {
            return invalid(
                "a parent acts for a child who is not of age by the birth date on record; this patient is, or has none",
            );
        }
        let is_the_patient_s = telecoms(&patient).any(|telecom| {
            let value = telecom.get("value").and_then(Value::as_str);
            value.is_some_and(|value| same_address(value, &address))
        });
        if is_the_patient_s {
            return invalid(
                "that address is on record as the patient's own; links for somebody else don't go there",
            );
        }
        let person = format!("{} {born}", address.to_lowercase());
        let person = self.id_of(tenant, "proxy", &person);
        let known = vault.proxies_at(tenant, "patient", &new.patient).await?;
        let of_person = vault.proxies_at(tenant, "person", &person).await?;
        // Lists of both are whole.
        if known.len() >= LISTED_MAX || of_person.len() >= LISTED_MAX {
            return Err(TrustError::Invalid(format!(
                "nobody is named more than {LISTED_MAX} times, and for no patient are more people"
            )));
        }
        let is_same = |kept: &&Kept<ProxyDocument>| kept.body.person == person;
        let times = known.iter().filter(is_same).count();
        let not_ended = || known.iter().filter(|kept| kept.body.ended.is_none());
        if not_ended().any(|kept| is_same(&kept)) {
            return invalid("they act for this patient already; end that first");
        }
        if not_ended().count() >= STANDING_MAX {
            return Err(TrustError::Invalid(format!(
                "{STANDING_MAX} people act for this patient already; end one first"
            )));
        }
        let document = ProxyDocument {
            person,
            patient: new.patient.clone(),
            name,
            address,
            birth_date: born.to_string(),
            basis: new.basis,
            proof,
            from: from.map(|day| day.to_string()),
            until: until.map(|day| day.to_string()),
            messages: new.messages && matches!(new.basis, Basis::Parent | Basis::Guardian),
            made_ms: self.inner.ledger.clock().now_ms(),
            made_by: by.name.clone(),
            ended: None,
        };
        let owner = Owner::Patient(new.patient.clone());
        // Asked for twice at once, it is one record.
        let name = format!("proxy {} {} {times}", document.patient, document.person);
        let id = self.inner.ledger.derive_id(tenant, &owner, &name);
        let person = related_person(&id, &document);
        let documents = vec![
            self.proxy_draft(tenant, &id, Expected::Absent, &document)?,
            vault.resource_draft(tenant, person, owner, Expected::Absent),
        ];
        let note = format!("proxy {id}, {}", new.basis.code());
        let mut record = Record::under(&permit, Event::PROXY_MADE);
        record.note = Some(&note);
        record.patients.insert(new.patient);
        self.commit(tenant, documents, record).await?;
        Ok(id)
    }

    /// Ends what somebody may do for a patient, at once. Staff may; and the patient who is of age, but for what
    /// a court has ordered.
    ///
    /// # Errors
    /// `Refused`; `Invalid` when there is no such record, or it has ended; `Ledger`.
    pub async fn end_proxy(
        &self,
        by: &Agent,
        (patient, id): (&str, &str),
        reason: &str,
        request_id: &str,
    ) -> Result<(), TrustError> {
        let by_patient = by.role == Role::Patient;
        let (vault, tenant) = (&self.inner.vault, by.tenant);
        self.in_person(by).await?;
        let permit = if by_patient {
            if by.patient.as_deref() != Some(patient) {
                return Err(TrustError::Refused(refusal("this is another's record")));
            }
            None
        } else {
            Some(self.permit(by, Action::Invite).await?)
        };
        let reason = if by_patient {
            "the patient ended it".to_owned()
        } else {
            said(reason, "the reason")?
        };
        for _ in 0..RETRIES {
            let ledger = &self.inner.ledger;
            let found: Option<Kept<ProxyDocument>> = if fhir::is_id(id) {
                get(ledger, tenant, kinds::PROXY, id).await?
            } else {
                None
            };
            let Some(kept) = found.filter(|kept| kept.body.patient == patient) else {
                return invalid("nobody acts for this patient by such a record");
            };
            if kept.body.ended.is_some() {
                return invalid("it has ended already");
            }
            if by_patient {
                let own = vault.peek(tenant, ResourceType::Patient, patient).await?;
                let is_minor = own.and_then(|own| {
                    let rules = vault.rules().proxies()?;
                    rules.is_minor(&own, vault.care_ms())
                });
                if is_minor != Some(false) {
                    return Err(TrustError::Refused(refusal(
                        "whoever is not of age asks staff to end what somebody may do for them",
                    )));
                }
                if !kept.body.basis.is_the_patient_s() {
                    return Err(TrustError::Refused(refusal(
                        "a court has appointed them; staff end it when the court has",
                    )));
                }
            }
            let mut body = kept.body.clone();
            body.ended = Some(Ended {
                at_ms: ledger.clock().now_ms(),
                by: if by_patient {
                    String::new()
                } else {
                    by.name.clone()
                },
                by_patient,
                reason: reason.clone(),
            });
            let expected = Expected::Version(kept.version);
            let mut documents = vec![self.proxy_draft(tenant, id, expected, &body)?];
            documents.extend(self.related_ended(tenant, id, patient).await?);
            let note = format!("proxy {id}");
            let mut record = Record::new(by, Event::PROXY_ENDED);
            record.purpose = Some(by.role.purpose());
            record.request_id = request_id;
            if let Some(permit) = &permit {
                record.because = permit.because();
            }
            record.note = Some(&note);
            record.patients.insert(patient.to_owned());
            if let Some(outcome) = self.tried(tenant, documents, record).await {
                return outcome;
            }
        }
        Err(ledger::LedgerError::Conflict.into())
    }

    /// Who acts for a patient, and who did, newest first. For staff whose permit is limited to the patient, and
    /// for the patient. In the audit.
    ///
    /// # Errors
    /// `Refused`, `Ledger`.
    pub async fn proxies(&self, permit: &Permit, patient: &str) -> Result<Vec<Proxy>, TrustError> {
        let role = permit.agent.role;
        let may = matches!(
            role,
            Role::Patient | Role::Clinician | Role::Coordinator | Role::PrivacyOfficer
        ) && permit.only_patient() == Some(patient)
            && permit.agent.access.is_none();
        if !may {
            return Err(TrustError::Refused(refusal(
                "who acts for a patient is shown to that patient, and to who looks after them",
            )));
        }
        let vault = &self.inner.vault;
        let tenant = permit.tenant();
        let own = vault.peek(tenant, ResourceType::Patient, patient).await?;
        let mut found = vault.proxies_at(tenant, "patient", patient).await?;
        found.retain(|kept| kept.body.patient == patient);
        let mut record = Record::under(permit, Event::PROXIES);
        record.patients.insert(patient.to_owned());
        self.inner.auditor.commit(&record).await?;
        Ok(found
            .into_iter()
            .map(|kept| {
                let why_not = vault.why_no_proxy(&kept.body, own.as_ref());
                shown(kept.id, kept.body, why_not)
            })
            .collect())
    }

    /// A sign-in link's secret for somebody who acts for a patient, good with their own birth date: once, or
    /// (`reusable`) as often as it is needed.
    ///
    /// # Errors
    /// `Refused`, `Ledger`; `Invalid` when they don't act for the patient.
    pub async fn make_proxy_link(
        &self,
        by: &Agent,
        proxy: &str,
        life_s: u64,
        reusable: bool,
    ) -> Result<String, TrustError> {
        let permit = self.permit(by, Action::Invite).await?;
        let tenant = by.tenant;
        let Some(acts) = self.inner.vault.proxy_acts(tenant, proxy).await? else {
            return invalid("they don't act for the patient, or not any more");
        };
        let secret = secrets::mint(tenant, self.inner.ledger.entropy().as_ref());
        let document = LinkDocument {
            secret: secrets::hash(&secret),
            patient: acts.patient.clone(),
            proxy: Some(proxy.to_owned()),
            reusable,
            used: false,
            wrong: 0,
            expires_ms: self.now_ms().saturating_add(life_s.saturating_mul(1000)),
        };
        let id = self.id_of(tenant, "link", &document.secret);
        let draft = draft(
            &self.inner.ledger,
            tenant,
            kinds::SIGN_IN_LINK,
            &id,
            Expected::Absent,
            &document,
            &[],
            Some(document.expires_ms),
        )?;
        let note = format!("for proxy {proxy}");
        let mut record = Record::under(&permit, Event::of(Action::Invite));
        record.note = Some(&note);
        record.patients.insert(acts.patient);
        self.commit(tenant, vec![draft], record).await?;
        Ok(secret)
    }

    /// For whom somebody acts now; none when they don't any more.
    ///
    /// # Errors
    /// `Ledger`, `Damaged`.
    pub async fn acting(&self, agent: &Agent) -> Result<Option<Acting>, TrustError> {
        if agent.role != Role::Proxy {
            return Ok(None);
        }
        let vault = &self.inner.vault;
        let found = vault.proxy_with_patient(agent.tenant, &agent.id).await?;
        Ok(found
            .filter(|(body, _)| agent.patient.as_ref() == Some(&body.patient))
            .and_then(|(body, patient)| self.acting_by(&agent.id, body, patient)))
    }

    fn acting_by(
        &self,
        id: &str,
        body: ProxyDocument,
        patient: Option<Resource>,
    ) -> Option<Acting> {
        let vault = &self.inner.vault;
        if vault.why_no_proxy(&body, patient.as_ref()).is_some() {
            return None;
        }
        let (patient, rules) = (patient?, vault.rules().proxies()?);
        Some(Acting {
            id: id.to_owned(),
            patient: body.patient,
            patient_name: fhir::human::name(&patient),
            is_kept: rules.keeps(&patient, vault.care_ms()),
        })
    }

    /// All patients for whom somebody acts now: of all records with their address and birth date. In the audit,
    /// for each of the patients.
    ///
    /// # Errors
    /// `Refused` for everybody else; `Ledger`.
    pub async fn acting_for(&self, agent: &Agent) -> Result<Vec<Acting>, TrustError> {
        let (vault, tenant) = (&self.inner.vault, agent.tenant);
        let found = if agent.role == Role::Proxy {
            vault.proxy_with_patient(tenant, &agent.id).await?
        } else {
            None
        };
        let Some((own, _)) = found else {
            return Err(TrustError::Refused(refusal(NO_PROXY)));
        };
        let mut all = Vec::new();
        for kept in vault.proxies_at(tenant, "person", &own.person).await? {
            if kept.body.person != own.person {
                continue;
            }
            let patient = vault
                .peek(tenant, ResourceType::Patient, &kept.body.patient)
                .await?;
            all.extend(self.acting_by(&kept.id, kept.body, patient));
        }
        all.sort_by(|left, right| {
            (&left.patient_name, &left.id).cmp(&(&right.patient_name, &right.id))
        });
        let mut record = Record::new(agent, Event::PROXIES);
        record.purpose = Some(agent.role.purpose());
        let patients = all.iter().map(|acting| acting.patient.clone());
        record.patients.extend(patients);
        self.inner.auditor.commit(&record).await?;
        Ok(all)
    }

    /// Acts for another patient from now on: a session of its own instead of this one, ending no later, so that
    /// no page of before, and no server that remembers it, can act for the wrong one.
    ///
    /// # Errors
    /// `SignIn`; `Refused` when they don't act for that patient; `Ledger`.
    pub async fn act_for(&self, secret: &str, proxy: &str) -> Result<SignIn, TrustError> {
        let tenant = self.tenant_of(secret).ok_or(TrustError::SignIn)?;
        let hash = secrets::hash(secret);
        let id = self.id_of(tenant, "session", &hash);
        let session = self.session(secret).await?;
        let kept = self
            .session_document(tenant, &id, &hash)
            .await?
            .ok_or(TrustError::SignIn)?;
        let all = self.acting_for(&session.agent).await?;
        let Some(acting) = all.into_iter().find(|acting| acting.id == proxy) else {
            return Err(TrustError::Refused(refusal(NO_PROXY)));
        };
        let agent = AgentDocument {
            id: acting.id,
            name: String::new(),
            role: Role::Proxy,
            patient: Some(acting.patient),
        };
        let documents = vec![deletion(kinds::SESSION, &id, kept.version)];
        let note = "began to act for a patient";
        let opened = (None, kept.body.expires_ms, None);
        let by = (kept.body.opened, note);
        let signed_in = self.open_until(tenant, opened, agent, documents, by).await;
        self.inner.sessions.remove(&id);
        signed_in
    }

    /// The records by which the person of a session acts for patients, ended ones too, and for whom.
    pub(super) async fn records_of_person(
        &self,
        agent: &Agent,
    ) -> Result<(BTreeSet<String>, BTreeSet<String>), TrustError> {
        let (vault, tenant) = (&self.inner.vault, agent.tenant);
        let mut ids = BTreeSet::from([agent.id.clone()]);
        let mut patients: BTreeSet<String> = agent.patient.clone().into_iter().collect();
        let own: Option<Kept<ProxyDocument>> =
            get(vault.ledger(), tenant, kinds::PROXY, &agent.id).await?;
        if let Some(own) = own {
            let person = &own.body.person;
            for kept in vault.proxies_at(tenant, "person", person).await? {
                if kept.body.person == *person {
                    ids.insert(kept.id);
                    patients.insert(kept.body.patient);
                }
            }
        }
        Ok((ids, patients))
    }

    /// A record as sign-in by a link needs it.
    pub(super) async fn who_acts(&self, tenant: TenantId, id: &str) -> Result<WhoActs, TrustError> {
        let vault = &self.inner.vault;
        let found = vault.proxy_with_patient(tenant, id).await?;
        let (body, patient) = found.ok_or(TrustError::SignIn)?;
        Ok(WhoActs {
            id: id.to_owned(),
            stands: vault.why_no_proxy(&body, patient.as_ref()).is_none(),
            person: body.person,
            birth_date: body.birth_date,
        })
    }

    /// The `RelatedPerson` of a record that ends, as it is by now; none when somebody has deleted it.
    async fn related_ended(
        &self,
        tenant: TenantId,
        id: &str,
        patient: &str,
    ) -> Result<Option<ledger::Draft>, TrustError> {
        let vault = &self.inner.vault;
        let kind = ledger::Kind(ResourceType::RelatedPerson.code());
        let stored = self.inner.ledger.get(tenant, kind, id).await?;
        let Some(stored) = stored.filter(|stored| !stored.deleted) else {
            return Ok(None);
        };
        let found = vault.peek(tenant, ResourceType::RelatedPerson, id).await?;
        // Whose it is by now may have been changed by others; then it isn't this record's any more.
        let Some(mut person) = found.filter(|found| found.patient() == Some(patient)) else {
            return Ok(None);
        };
        let now = fhir::date::instant(self.inner.ledger.clock().now_ms());
        let mut period = person.get("period").cloned().unwrap_or_else(|| json!({}));
        period["end"] = now.into();
        person.set("active", false.into());
        person.set("period", period);
        let owner = Owner::Patient(patient.to_owned());
        let expected = Expected::Version(stored.version);
        Ok(Some(vault.resource_draft(tenant, person, owner, expected)))
    }

    /// What is said of who acts for whom is said by people, not by an application for them.
    async fn in_person(&self, by: &Agent) -> Result<(), TrustError> {
        if by.access.is_none() && !matches!(by.role, Role::Client | Role::Steerer) {
            return Ok(());
        }
        let refusal = refusal("who acts for a patient is said by people on the patient's page");
        let mut record = Record::new(by, Event::PROXY_MADE);
        record.purpose = Some(by.role.purpose());
        record.outcome = crate::audit::Outcome::Refused;
        record.note = Some(&refusal.reason);
        self.inner.auditor.commit(&record).await?;
        Err(TrustError::Refused(refusal))
    }

    fn proxy_draft(
        &self,
        tenant: TenantId,
        id: &str,
        expected: Expected,
        body: &ProxyDocument,
    ) -> Result<ledger::Draft, TrustError> {
        let found_by = [
            ("patient", body.patient.as_str()),
            ("person", body.person.as_str()),
        ];
        let (ledger, kind) = (&self.inner.ledger, kinds::PROXY);
        let mut draft = draft(ledger, tenant, kind, id, expected, body, &found_by, None)?;
        draft.owner = Owner::Patient(body.patient.clone());
        Ok(draft)
    }
}

fn refusal(words: &str) -> Refusal {
    Refusal {
        reason: words.to_owned(),
        because: Vec::new(),
    }
}

fn related_person(id: &str, document: &ProxyDocument) -> Resource {
    let (system, code, display) = document.basis.coding();
    let begins = (document.from.clone()).unwrap_or_else(|| fhir::date::instant(document.made_ms));
    let mut period = json!({"start": begins});
    if let Some(until) = &document.until {
        period["end"] = until.as_str().into();
    }
    let mut person = Resource::new(ResourceType::RelatedPerson);
    person.set_id(id);
    person.set("active", true.into());
    person.set(
        "patient",
        json!({"reference": format!("Patient/{}", document.patient)}),
    );
    person.set(
        "relationship",
        json!([{"coding": [{"system": system, "code": code, "display": display}]}]),
    );
    person.set("name", json!([{"text": document.name}]));
    person.set(
        "telecom",
        json!([{"system": "email", "value": document.address}]),
    );
    person.set("period", period);
    person
}

/// Whether mail could be sent there; the mail server has the last word.
fn is_address(text: &str) -> bool {
    text.len() <= 254
        && text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"<>,;()[]\"\\".contains(&byte))
        && text.split_once('@').is_some_and(|(who, place)| {
            !who.is_empty() && place.contains('.') && !place.contains('@')
        })
}

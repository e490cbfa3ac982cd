//! New records and changes.

use fhir::{IssueCode, OperationOutcome, Resource, ResourceType};
use ledger::Kind;
use record::{Answer, Caller, Preconditions, PreferReturn, RecordError};
use trust::{Action, Shelved};

use super::super::change::Change;
use super::super::newcomer::Newcomer;
use super::super::refusal::{Code, Refusal};
use super::super::trace::Mode;
use super::super::view::{self, Confidentiality};
use super::choosing::{Limit, Way};
use super::{Demographics, Failure, Told, denied, named, no_version, nobody, of_record, of_trust};
use crate::matching::{Field, Grade, Matcher, Person, birth, compare, doors, given, shipped};

/// How many numbers are tried for one person: each of them is somebody else's, or can't be one.
const NUMBERS_MAX: u64 = 64;

impl Demographics {
    /// Makes a record of somebody of whom there is none, and gives them a number.
    ///
    /// # Errors
    /// That there is one, or several; what is wrong with the request; what the record refuses.
    pub async fn create(&self, caller: &Caller, body: &[u8]) -> Result<Told, Failure> {
        let mode = Self::mode(&caller.agent);
        if mode != Mode::Worker {
            return Err(not_by(mode, "create"));
        }
        let newcomer = Newcomer::parse(&self.rules, body, &self.today())?;
        let caller = &shown(caller);
        let answer = self.once(caller, self.make(caller, &newcomer)).await?;
        self.told_written(201, &answer)
    }

    async fn make(&self, caller: &Caller, newcomer: &Newcomer) -> Result<Answer, Failure> {
        for slot in 0..NUMBERS_MAX {
            let Some(number) = self.number_for(caller, newcomer, slot) else {
                continue;
            };
            self.check_new(caller, newcomer).await?;
            let resource = newcomer.resource(&self.rules, &number).to_string();
            let criteria = format!("identifier={}%7C{number}", self.rules.identifier_system);
            let made = self.record.create_once_for_ever(
                caller,
                ResourceType::Patient,
                &criteria,
                resource.as_bytes(),
            );
            match made.await {
                Ok(answer) if answer.status == 201 => return Ok(answer),
                // Somebody else has the number: perhaps this person, whose record was made at the same time.
                Ok(_) => {}
                // This person, whom their consent keeps from who asks: another record would make two of what is one.
                Err(error) if is_hidden(&error) => return Err(several_there().into()),
                // Several have it, or somebody had it whose record is deleted: a number is nobody else's afterwards.
                Err(error) if matches!(error.status, 409 | 412) => {}
                Err(error) => return Err(of_record(caller, error)),
            }
        }
        Err(Failure {
            refusal: Refusal::bare(Code::UnknownError),
            inside: Some("there is no number left to give out".to_owned()),
        })
    }

    /// The number that a person is given: it follows from who they are said to be, so that of two who say the
    /// same at once one is let through, and nothing can be learnt of it without the tenant's key.
    fn number_for(&self, caller: &Caller, newcomer: &Newcomer, slot: u64) -> Option<String> {
        let kind = Kind(ResourceType::Patient.code());
        let text = format!("{slot}\n{}", newcomer.canonical());
        let ledger = self.vault().ledger();
        let token = ledger.token(caller.agent.tenant, kind, "_number", &text);
        self.rules.number_of(token.0)
    }

    /// Refuses to make a second record of a person.
    async fn check_new(&self, caller: &Caller, newcomer: &Newcomer) -> Result<(), Failure> {
        let exact = vec![
            ("family", newcomer.family().to_owned()),
            ("birthdate", newcomer.birth_date().to_owned()),
        ];
        let patient = newcomer.patient();
        // Nobody is found by where they are: whether somebody restricted is there would tell.
        let mut nowhere = patient.clone();
        if let Some(members) = nowhere.as_object_mut() {
            members.retain(|name, _| name != "address" && name != "telecom");
        }
        let doors = doors::filters(&nowhere).into_iter();
        // Where too many may be like them, those who are called the same.
        let ways: Vec<Way> = (doors.map(|filter| vec![("_filter", filter)]))
            .chain([exact])
            .collect();
        let (today, sought, matcher) = (self.today(), Person::of(&patient), shipped());
        let same = |row: &Shelved<Person>, told: Option<&Resource>| {
            let hit = row.resource();
            // Of somebody restricted a place says nothing, whichever of their records is asked.
            let is_told = |one: &Resource| Confidentiality::of(one) < Confidentiality::Restricted;
            let is = |placed: bool| {
                newcomer.is(hit, &today, placed)
                    || (!is_redacted(hit) && is_surely(&matcher, &sought, row.made(), placed))
            };
            let is = match told {
                None => is(true) || is(false),
                Some(told) => is(is_told(hit) && is_told(told)),
            };
            is.then_some(1.0)
        };
        let limit = Limit {
            most: 1,
            best: false,
        };
        let found = match self.choose(caller, &ways, &same, limit).await {
            Err(failure) if failure.refusal.code == Code::TooManyMatches => {
                return Err(several_there().into());
            }
            found => found?,
        };
        if found.hidden || found.total > 1 {
            return Err(several_there().into());
        }
        match found.rows.as_slice() {
            [] if found.total == 0 => Ok(()),
            [(_, row)] => {
                let number = view::number(&self.rules, &row.resource).unwrap_or_default();
                // The one place where words hold a number: clients read it there.
                let words = format!(
                    "Unable to create new patient. NHS number {number} found for supplied demographic data."
                );
                Err(Refusal::new(Code::SingleMatch, words).into())
            }
            _ => Err(several_there().into()),
        }
    }

    /// Changes a patient: all of the patches, or nothing.
    ///
    /// # Errors
    /// What is wrong with the request; that it is of an older version; what the record refuses.
    pub async fn change(
        &self,
        caller: &Caller,
        number: &str,
        if_match: Option<u32>,
        body: &[u8],
    ) -> Result<Told, Failure> {
        let mode = Self::mode(&caller.agent);
        if mode != Mode::Worker {
            return Err(not_by(mode, "update"));
        }
        if !self.rules.is_number(number) {
            return Err(Refusal::bare(Code::InvalidResourceId).into());
        }
        let version = if_match.ok_or_else(no_version)?;
        let change = Change::parse(body)?;
        let caller = &shown(caller);
        let of = (number, version);
        let answer = self.once(caller, self.write(caller, of, &change)).await?;
        self.told_written(200, &answer)
    }

    async fn write(
        &self,
        caller: &Caller,
        of: (&str, u32),
        change: &Change,
    ) -> Result<Answer, Failure> {
        let (id, resource) = self.changed(caller, of, change).await?;
        let tag = format!("W/\"{}\"", of.1);
        let preconditions = Preconditions {
            if_match: Some(&tag),
            ..Preconditions::default()
        };
        let (kind, body) = (ResourceType::Patient, resource.to_json());
        let updated = self
            .record
            .update_if(caller, kind, &id, preconditions, &body);
        updated.await.map_err(|error| of_record(caller, error))
    }

    /// What a change makes of a patient at a version: the record's id of it, and all of it.
    async fn changed(
        &self,
        caller: &Caller,
        (number, version): (&str, u32),
        change: &Change,
    ) -> Result<(String, Resource), Failure> {
        let found = self.find(caller, number).await?;
        if found.superseded {
            let words = "Update Failed - NHS No. supplied has been superseded in a merge";
            return Err(Refusal::forbidden(words).into());
        }
        if found.row.version != version {
            return Err(Refusal::bare(Code::ResourceVersionMismatch).into());
        }
        if Confidentiality::of(&found.row.resource) != Confidentiality::Unrestricted {
            let words = "source not permitted to update a sensitive patient";
            return Err(Refusal::forbidden(words).into());
        }
        let kind = ResourceType::Patient;
        let permit = self.permit(caller, Action::Update, (kind, None)).await?;
        let id = found.row.resource.id().unwrap_or_default().to_owned();
        // As it is kept: what is told of it may have labels that aren't.
        let kept = self.vault().load(&permit, kind, &id).await;
        let kept = kept.map_err(|error| of_trust(caller, error))?;
        let kept = kept.filter(|row| !row.deleted).ok_or_else(nobody)?;
        let told = view::whole(&self.rules, &kept.resource, kept.version).ok_or_else(nobody)?;
        let after = change.apply(&self.rules, &told, &self.today())?;
        let mut resource = kept.resource;
        view::put_back(&self.rules, &mut resource, &after);
        Ok((id, resource))
    }

    /// Carries a request out once, however often it comes: [`Record::once`], where what is told may be other
    /// than what the record knows.
    async fn once(
        &self,
        caller: &Caller,
        work: impl Future<Output = Result<Answer, Failure>>,
    ) -> Result<Answer, Failure> {
        let mut failed = None;
        let work = async {
            work.await.map_err(|failure| {
                // The record looks whether its like was faster where a client is told to be wrong; that somebody
                // is there already may be that one's doing, too.
                let status = match failure.refusal.status() {
                    status if status < 400 => 409,
                    status => status,
                };
                failed = Some(failure);
                RecordError {
                    status,
                    outcome: OperationOutcome::error(IssueCode::Processing, ""),
                    inside: None,
                }
            })
        };
        let answer = self.record.once(caller, work).await;
        match (answer, failed) {
            (Ok(answer), _) => Ok(answer),
            (Err(_), Some(failure)) => Err(failure),
            (Err(error), None) => Err(of_record(caller, error)),
        }
    }

    fn told_written(&self, status: u16, answer: &Answer) -> Result<Told, Failure> {
        let resource = Resource::parse(&answer.body).map_err(|_| nobody())?;
        let version = answer.version.ok_or_else(nobody)?;
        self.told_whole(status, &resource, version)
    }
}

/// Whether what is refused is refused because a patient's consent hides what is there.
fn is_hidden(error: &RecordError) -> bool {
    let code = error.outcome.issues.first().map(|issue| issue.code);
    error.status == 412 && code == Some(IssueCode::Forbidden)
}

fn is_redacted(resource: &Resource) -> bool {
    Confidentiality::of(resource) == Confidentiality::Redacted
}

/// Whether the matcher is certain that two are one person, and they may live where both are said to. What says where
/// they are counts where it may.
fn is_surely(matcher: &Matcher<'_>, one: &Person, other: &Person, placed: bool) -> bool {
    let there = |person: &Person| {
        let mut person = person.clone();
        if !placed {
            person.addresses.clear();
            person.phones.clear();
            person.emails.clear();
        }
        person
    };
    let (one, other) = (there(one), there(other));
    let levels = compare(&one, &other);
    // Who is called altogether otherwise may be another at the same place, and who lives elsewhere another of the name.
    let fields = [Field::Given, Field::Family, Field::Sex, Field::Postcode];
    // Twins are called alike, and a father and a son the same: what looks like a slip or a short form of a given name, or
    // like a slip in a day of birth, is looked at by a person.
    let is_one_of = |field, known: &[u8]| {
        let level = levels.of(field);
        level.is_some_and(|level| known.iter().any(|known| usize::from(*known) == level))
    };
    let is_called = is_one_of(Field::Given, &[given::EXACT, given::SWAPPED]);
    let born = [birth::EXACT, birth::SWAPPED, birth::PARTIAL];
    let is_born = is_one_of(Field::BirthDate, &born);
    is_called
        && is_born
        && (fields.into_iter()).all(|field| levels.differs(field) != Some(true))
        && Grade::of(matcher.score(&one, &other).probability) == Grade::Certain
}

/// Who is told what was written.
fn shown(caller: &Caller) -> Caller {
    Caller {
        prefer_return: PreferReturn::Representation,
        ..caller.clone()
    }
}

fn several_there() -> Refusal {
    let words =
        "Unable to create new patient. Multiple matches found for supplied demographic data.";
    Refusal::new(Code::MultipleMatches, words)
}

/// What a mode of access does not do at all.
fn not_by(mode: Mode, verb: &str) -> Failure {
    if mode == Mode::Patient {
        return denied(mode);
    }
    let words = "Your app has insufficient permissions to use this method.";
    Refusal::new(Code::InvalidMethod, words)
        .shown(format!(
            "Cannot {verb} resource with {} access token",
            named(mode)
        ))
        .into()
}

//! `$meta`, `$meta-add` and `$meta-delete`: profiles, tags and security labels of one resource.
use fhir::{IssueCode, Resource, ResourceType};
use serde_json::{Map, Value};
use trust::Action;

use super::{answer, named, parameters, refuse, returned};
use crate::error::conflict;
use crate::interact::{gone, not_found};
use crate::write::{IfMatch, check_id, check_kept, check_writable, pause, wrap};
use crate::{ATTEMPTS_MAX, Answer, Caller, PreferReturn, Record, RecordError};

/// The lists in `meta` that clients change.
const LISTS: [&str; 3] = ["profile", "security", "tag"];

/// What is done with profiles, tags and labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetaChange {
    /// `$meta-add`.
    Add,
    /// `$meta-delete`.
    Delete,
}

/// Whether two entries of a list are the same: profiles by their URL, codings by system and code.
fn same(one: &Value, other: &Value) -> bool {
    if one.is_string() {
        return one == other;
    }
    other.is_object() && one["system"] == other["system"] && one["code"] == other["code"]
}

/// Tags, labels and profiles that one request adds or takes away.
const GIVEN_MAX: usize = 256;

impl MetaChange {
    /// Changes a resource; says whether anything is other than it was.
    fn apply(self, resource: &mut Resource, given: &Map<String, Value>) -> bool {
        let mut meta = match resource.get("meta") {
            Some(Value::Object(meta)) => meta.clone(),
            _ => Map::new(),
        };
        let mut changed = false;
        for name in LISTS {
            let Some(Value::Array(given)) = given.get(name) else {
                continue;
            };
            let mut list = match meta.get(name) {
                Some(Value::Array(list)) => list.clone(),
                _ => Vec::new(),
            };
            for one in given {
                let there = list.iter().position(|old| same(one, old));
                match (self, there) {
                    (Self::Add, None) => list.push(one.clone()),
                    (Self::Delete, Some(place)) => {
                        list.remove(place);
                    }
                    _ => continue,
                }
                changed = true;
            }
            if list.is_empty() {
                meta.shift_remove(name);
            } else {
                meta.insert(name.to_owned(), Value::Array(list));
            }
        }
        if changed {
            resource.set("meta", Value::Object(meta));
        }
        changed
    }
}

fn meta_answer(resource: &[u8], from: &Answer) -> Result<Answer, RecordError> {
    let resource = Resource::parse(resource).map_err(|outcome| RecordError::with(500, outcome))?;
    let meta = resource
        .get("meta")
        .cloned()
        .unwrap_or_else(|| Value::Object(Map::new()));
    Ok(Answer {
        version: from.version,
        last_modified_ms: from.last_modified_ms,
        ..answer(returned("valueMeta", &meta).to_string().into_bytes())
    })
}

impl Record {
    /// `$meta` of an instance, or of one of its versions: a read of it, decided and audited as one.
    ///
    /// # Errors
    /// As [`Record::read`].
    pub async fn meta(
        &self,
        caller: &Caller,
        kind: ResourceType,
        id: &str,
        version: Option<&str>,
    ) -> Result<Answer, RecordError> {
        let read = match version {
            Some(version) => self.version(caller, kind, id, version).await?,
            None => self.read(caller, kind, id).await?,
        };
        meta_answer(&read.body, &read)
    }

    /// `$meta-add` and `$meta-delete` of an instance. A change makes a new version, as any other does;
    /// what changes nothing makes none.
    ///
    /// # Errors
    /// As [`Record::update`]; 404 and 410 when there is nothing to change.
    pub async fn change_meta(
        &self,
        caller: &Caller,
        kind: ResourceType,
        id: &str,
        change: MetaChange,
        body: &[u8],
    ) -> Result<Answer, RecordError> {
        check_kept(kind)?;
        check_writable(kind)?;
        if !crate::is_written_freely(kind) {
            return Err(crate::error::not_supported(
                405,
                format!("{kind} resources are changed by PUT alone"),
            ));
        }
        check_id(id)?;
        let parameters = parameters(body)?;
        let mut given = named(&parameters, "meta").filter_map(|one| one.get("valueMeta"));
        let (Some(Value::Object(given)), None) = (given.next(), given.next()) else {
            let words = "there is one parameter `meta` with a valueMeta";
            return Err(refuse(IssueCode::Required, "meta", words));
        };
        // Each of them is compared with each that is there.
        let most = LISTS.iter().filter_map(|name| given.get(*name)?.as_array());
        if most.map(Vec::len).sum::<usize>() > GIVEN_MAX {
            let words = format!("has more than {GIVEN_MAX} tags, labels and profiles");
            return Err(refuse(IssueCode::TooLong, "meta", &words));
        }
        // The answer is what was written.
        let writer = Caller {
            prefer_return: PreferReturn::Representation,
            ..caller.clone()
        };
        for attempt in 0..ATTEMPTS_MAX {
            let permit = self
                .permit(caller, Action::Update, Some(kind), None)
                .await?;
            // The answer tells what is there already, so this is a read, audited as one.
            let row = self.vault().read(&permit, kind, id).await;
            let row = row.map_err(wrap(caller))?.ok_or_else(not_found)?;
            if row.deleted {
                return Err(gone(row.version));
            }
            let mut resource = row.resource;
            // What is stored is changed, and not what is told with it: a label that codes stand for can be said,
            // too, and can't be taken away from codes that are still there.
            self.vault().take_labels_back(&mut resource);
            if !change.apply(&mut resource, given) {
                let unchanged = Answer {
                    version: Some(row.version),
                    last_modified_ms: Some(row.at.number.unix_ms()),
                    ..answer(Vec::new())
                };
                self.vault().label(&mut resource);
                return meta_answer(&resource.to_json(), &unchanged);
            }
            let if_match = IfMatch::Versions(vec![row.version]);
            match self
                .update_parsed(&writer, kind, id, &if_match, resource)
                .await
            {
                Ok(written) => return meta_answer(&written.body, &written),
                // Somebody else wrote in between.
                Err(error) if matches!(error.status, 409 | 412) => pause(attempt).await,
                Err(error) => return Err(error),
            }
        }
        Err(conflict())
    }
}

//! `$validate`: what would be said of a write, without writing.
use fhir::{Issue, IssueCode, OperationOutcome, Resource, ResourceType, Severity};
use trust::{Action, Vault};

use super::{answer, named, refuse};
use crate::error::information;
use crate::validation::check_strictly;
use crate::write::{check_id, check_kept, check_owner, check_same_id, check_type, check_writable};
use crate::write::{tidy, wrap};
use crate::{Answer, Caller, Record, RecordError};

/// What the resource is to be valid for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Whether it is a resource of FHIR at all.
    Structure,
    Create,
    Update,
    Delete,
}

/// What is asked, wherever it stands.
struct Asked {
    resource: Option<Resource>,
    mode: Mode,
    profiles: bool,
}

fn asked(parameters: &[(String, String)], body: &[u8]) -> Result<Asked, RecordError> {
    let mut modes: Vec<String> = Vec::new();
    let mut profiles = false;
    for (name, value) in parameters {
        match name.as_str() {
            "mode" => modes.push(value.clone()),
            "profile" => profiles = true,
            name => {
                let words = "is no parameter of $validate; there are mode and profile";
                return Err(refuse(IssueCode::NotSupported, name, words));
            }
        }
    }
    let mut resource = None;
    super::check_bytes(body)?;
    if !body.is_empty() {
        let given = Resource::parse(body).map_err(|outcome| RecordError::with(400, outcome))?;
        if given.kind().name() == "Parameters" {
            let inner = named(&given, "resource").filter_map(|one| one.get("resource"));
            for one in inner {
                let one = Resource::from_value(one.clone());
                resource = Some(one.map_err(|outcome| RecordError::with(400, outcome))?);
            }
            let mode = named(&given, "mode").filter_map(|one| one.get("valueCode")?.as_str());
            modes.extend(mode.map(str::to_owned));
            profiles |= named(&given, "profile").next().is_some();
        } else {
            resource = Some(given);
        }
    }
    let mode = match modes.as_slice() {
        [] => Mode::Structure,
        [mode] => match mode.as_str() {
            "create" => Mode::Create,
            "update" => Mode::Update,
            "delete" => Mode::Delete,
            _ => {
                let words = "is one of create, update, delete";
                return Err(refuse(IssueCode::NotSupported, "mode", words));
            }
        },
        _ => return Err(refuse(IssueCode::Invalid, "mode", "is given twice")),
    };
    Ok(Asked {
        resource,
        mode,
        profiles,
    })
}

impl Record {
    /// `$validate` of a type, or of an instance. The outcome says all that would keep the resource
    /// from being written, rights included where a mode is given; the status is 200 whatever it says.
    ///
    /// # Errors
    /// 400 when it isn't clear what is asked; 500.
    pub async fn validate(
        &self,
        caller: &Caller,
        kind: ResourceType,
        id: Option<&str>,
        parameters: &[(String, String)],
        body: &[u8],
    ) -> Result<Answer, RecordError> {
        check_kept(kind)?;
        let Asked {
            resource,
            mode,
            profiles,
        } = asked(parameters, body)?;
        let mut issues: Vec<Issue> = Vec::new();
        let mut note = |result: Result<(), RecordError>| match result {
            Err(error) if error.status >= 500 => Err(error),
            Err(error) => {
                issues.extend(error.outcome.issues);
                Ok(())
            }
            Ok(()) => Ok(()),
        };
        let resource = match (resource, mode) {
            (Some(mut resource), _) => {
                tidy(&caller.base, &mut resource);
                note(check_type(kind, &resource))?;
                let valid = check_strictly(&resource);
                note(valid.map_err(|outcome| RecordError::with(422, outcome)))?;
                Some(resource)
            }
            // What is deleted is there already.
            (None, Mode::Delete) => None,
            (None, _) => {
                let words = "is missing; send it as the body, or in Parameters";
                return Err(refuse(IssueCode::Required, "resource", words));
            }
        };
        if mode != Mode::Structure {
            note(check_writable(kind))?;
            let id = match (id, &resource, mode) {
                (Some(id), ..) => Some(id),
                (None, Some(resource), Mode::Update) => resource.id(),
                _ => None,
            };
            note(self.could(caller, kind, id, mode, resource.as_ref()).await)?;
        }
        if profiles {
            let words = "profiles are not checked here; only what FHIR R4 itself says was";
            issues.push(Issue {
                severity: Severity::Error,
                code: IssueCode::NotSupported,
                diagnostics: words.to_owned(),
                expression: None,
            });
        }
        let outcome = if issues.is_empty() {
            information(
                "nothing is wrong with elements, types, cardinalities, formats and required codes; invariants and profiles are not checked",
            )
        } else {
            OperationOutcome { issues }
        };
        Ok(answer(outcome.to_resource().to_json()))
    }

    /// Whether the caller could do it now.
    async fn could(
        &self,
        caller: &Caller,
        kind: ResourceType,
        id: Option<&str>,
        mode: Mode,
        resource: Option<&Resource>,
    ) -> Result<(), RecordError> {
        let action = match mode {
            Mode::Create | Mode::Structure => Action::Create,
            Mode::Update => Action::Update,
            Mode::Delete => Action::Delete,
        };
        let permit = self.permit(caller, action, Some(kind), None).await?;
        if mode == Mode::Create {
            return Ok(());
        }
        let Some(id) = id else {
            let words = "is missing; it says what is updated or deleted";
            let outcome = OperationOutcome::at(IssueCode::Required, words, format!("{kind}.id"));
            return Err(RecordError::with(400, outcome));
        };
        check_id(id)?;
        // The outcome tells what is there, so this is a read, audited as one.
        let row = self.vault().read(&permit, kind, id).await;
        let row = row.map_err(wrap(caller))?.filter(|row| !row.deleted);
        match (mode, row, resource) {
            (Mode::Update, row, Some(resource)) => {
                check_same_id(id, resource)?;
                if row.is_none() {
                    // Creating by update needs the right to create as well.
                    self.permit(caller, Action::Create, Some(kind), None)
                        .await?;
                }
                check_owner(row.as_ref(), &Vault::owner(resource))
                    .map_err(|outcome| RecordError::with(422, outcome))
            }
            (Mode::Delete, None, _) => Err(crate::interact::not_found()),
            _ => Ok(()),
        }
    }
}

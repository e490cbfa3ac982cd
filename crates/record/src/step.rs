//! The entries of a batch or transaction, understood.
use fhir::patch::Patch;
use fhir::search::{Compartment, Scope};
use fhir::subset::Subset;
use fhir::{IssueCode, OperationOutcome, Resource, ResourceType};
use serde_json::{Map, Value};

use crate::conditional::Aim;
use crate::criteria::{Criteria, Reading};
use crate::error::{in_entry, not_supported};
use crate::write::{IfMatch, Known, check_id, check_same_id, check_type, check_writable};
use crate::{RecordError, url};

/// What an entry asks for, in the order of processing (R4, section 3.1.0.11.2).
#[derive(Debug, Clone)]
pub(crate) enum Ask {
    Delete {
        kind: ResourceType,
        aim: Aim,
        if_match: IfMatch,
    },
    Create {
        kind: ResourceType,
        criteria: Option<Box<Criteria>>,
    },
    Update {
        kind: ResourceType,
        aim: Aim,
        if_match: IfMatch,
    },
    Patch {
        kind: ResourceType,
        aim: Aim,
        if_match: IfMatch,
        /// Always there once the entry is understood.
        patch: Option<Box<Patch>>,
    },
    Get(Look),
}

/// What an entry wants to look at.
#[derive(Debug, Clone)]
pub(crate) enum Look {
    Read {
        kind: ResourceType,
        id: String,
        parameters: Vec<(String, String)>,
        known: Known,
    },
    Version {
        kind: ResourceType,
        id: String,
        version: String,
        parameters: Vec<(String, String)>,
    },
    History {
        kind: ResourceType,
        id: String,
        parameters: Vec<(String, String)>,
    },
    /// History of a type, or of the whole record.
    Past {
        kind: Option<ResourceType>,
        parameters: Vec<(String, String)>,
    },
    Search {
        kind: ResourceType,
        parameters: Vec<(String, String)>,
    },
    /// A search of several types or of a compartment.
    Within {
        scope: Scope,
        parameters: Vec<(String, String)>,
    },
}

/// One entry.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) index: usize,
    pub(crate) full_url: Option<String>,
    pub(crate) ask: Ask,
    pub(crate) resource: Option<Resource>,
}

impl Ask {
    /// The phase of processing that it belongs to.
    pub(crate) fn phase(&self) -> usize {
        match self {
            Self::Delete { .. } => 0,
            Self::Create { .. } => 1,
            Self::Update { .. } | Self::Patch { .. } => 2,
            Self::Get(_) => 3,
        }
    }
}

/// How many phases there are.
pub(crate) const PHASES: usize = 4;

fn bad(code: IssueCode, words: impl Into<String>) -> RecordError {
    RecordError::new(400, code, words)
}

impl Step {
    /// Understands entry `index` of a bundle to be processed.
    pub(crate) fn parse(
        reading: Reading<'_>,
        index: usize,
        entry: Value,
    ) -> Result<Self, RecordError> {
        let place = |part: &'static str| {
            move |error: RecordError| RecordError {
                outcome: in_entry(error.outcome, index, part),
                ..error
            }
        };
        let Value::Object(mut entry) = entry else {
            return Err(place("request")(bad(
                IssueCode::Structure,
                "an entry is a JSON object",
            )));
        };
        let full_url = match entry.get("fullUrl") {
            None => None,
            Some(Value::String(text)) => Some(text.clone()),
            Some(_) => {
                return Err(place("fullUrl")(bad(
                    IssueCode::Structure,
                    "is not a string",
                )));
            }
        };
        let resource = entry
            .remove("resource")
            .map(Resource::from_value)
            .transpose();
        let resource =
            resource.map_err(|outcome| place("resource")(RecordError::with(400, outcome)))?;
        let Some(Value::Object(request)) = entry.remove("request") else {
            return Err(place("request")(bad(
                IssueCode::Required,
                "is missing; each entry of a batch or transaction has one",
            )));
        };
        let mut ask = ask(reading, &request).map_err(place("request"))?;
        let mut resource = resource;
        if let (Ask::Patch { patch, .. }, Some(given)) = (&mut ask, &resource) {
            let understood = crate::patch::of_entry(given).map_err(place("resource"))?;
            *patch = Some(Box::new(understood));
            resource = None;
        }
        match (&ask, &resource) {
            (Ask::Create { kind, .. }, Some(resource)) => {
                check_type(*kind, resource).map_err(place("resource"))?;
            }
            (Ask::Update { kind, aim, .. }, Some(resource)) => {
                check_type(*kind, resource).map_err(place("resource"))?;
                if let Aim::Id(id) = aim {
                    check_same_id(id, resource).map_err(place("resource"))?;
                }
            }
            (Ask::Create { .. } | Ask::Update { .. } | Ask::Patch { patch: None, .. }, None) => {
                return Err(place("resource")(bad(
                    IssueCode::Required,
                    "is missing; POST, PUT and PATCH carry one",
                )));
            }
            (Ask::Delete { .. } | Ask::Patch { .. } | Ask::Get(_), _) => {}
        }
        Ok(Self {
            index,
            full_url,
            ask,
            resource,
        })
    }
}

fn ask(reading: Reading<'_>, request: &Map<String, Value>) -> Result<Ask, RecordError> {
    let text = |name: &str| match request.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(bad(IssueCode::Structure, format!("{name} is not a string"))),
    };
    let method = text("method")?.ok_or_else(|| bad(IssueCode::Required, "method is missing"))?;
    let address = text("url")?.ok_or_else(|| bad(IssueCode::Required, "url is missing"))?;
    let if_match = text("ifMatch")?;
    let if_none_exist = text("ifNoneExist")?;
    if if_none_exist.is_some() && method != "POST" {
        return Err(bad(IssueCode::Invalid, "ifNoneExist goes with POST only"));
    }
    if if_match.is_some() && !matches!(method, "PUT" | "PATCH" | "DELETE") {
        return Err(bad(
            IssueCode::Invalid,
            "ifMatch goes with PUT, PATCH and DELETE only",
        ));
    }
    let address = address
        .strip_prefix(reading.base)
        .and_then(|rest| rest.strip_prefix('/'))
        .unwrap_or(address);
    let (path, query) = address
        .split_once('?')
        .map_or((address, None), |(path, query)| (path, Some(query)));
    let parts: Vec<&str> = path.split('/').collect();
    let pairs = || {
        url::pairs(query.unwrap_or(""))
            .ok_or_else(|| bad(IssueCode::Invalid, "url has a malformed query"))
    };
    if let ("GET", [""], Some(_)) = (method, parts.as_slice(), query) {
        let (scope, parameters) = (Scope::System, pairs()?);
        return Ok(Ask::Get(Look::Within { scope, parameters }));
    }
    if (method, parts.as_slice()) == ("GET", &["_history"]) {
        let parameters = pairs()?;
        return Ok(Ask::Get(Look::Past {
            kind: None,
            parameters,
        }));
    }
    let kind = ResourceType::parse(parts[0]).ok_or_else(|| {
        let words = if parts[0].is_empty() && method == "POST" {
            "a bundle within a bundle is not processed"
        } else {
            "url does not begin with a resource type of FHIR R4"
        };
        bad(IssueCode::NotSupported, words)
    })?;
    let (known_version, known_date) = (text("ifNoneMatch")?, text("ifModifiedSince")?);
    if (known_version.is_some() || known_date.is_some()) && method != "GET" {
        return Err(not_supported(
            400,
            "ifNoneMatch and ifModifiedSince go with GET only",
        ));
    }
    let known = Known::parse(known_version, known_date)?;
    let aim = || match (parts.as_slice(), query) {
        ([_, id], None) => {
            check_writable(kind)?;
            check_id(id)?;
            Ok(Some(Aim::Id((*id).to_owned())))
        }
        ([_], Some(query)) => {
            check_writable(kind)?;
            Criteria::parse(reading, kind, query)
                .map(|criteria| Some(Aim::Criteria(Box::new(criteria))))
                .map_err(|outcome| RecordError::with(400, outcome))
        }
        _ => Ok(None),
    };
    let aim = match method {
        "DELETE" | "PUT" | "PATCH" => aim()?,
        _ => None,
    };
    if let Some(aim) = aim {
        let if_match = IfMatch::parse(if_match)?;
        return Ok(match method {
            "DELETE" => Ask::Delete {
                kind,
                aim,
                if_match,
            },
            "PUT" => Ask::Update {
                kind,
                aim,
                if_match,
            },
            _ => Ask::Patch {
                kind,
                aim,
                if_match,
                patch: None,
            },
        });
    }
    match (method, parts.as_slice(), query) {
        ("POST", [_], None) => {
            check_writable(kind)?;
            let criteria = if_none_exist
                .map(|text| Criteria::parse(reading, kind, text))
                .transpose();
            let criteria = criteria.map_err(|outcome| RecordError::with(400, outcome))?;
            Ok(Ask::Create {
                kind,
                criteria: criteria.map(Box::new),
            })
        }
        ("GET", path, _) => {
            if known != Known::default() && path.len() != 2 {
                return Err(not_supported(
                    400,
                    "ifNoneMatch and ifModifiedSince go with the GET of one resource only",
                ));
            }
            let parameters = pairs()?;
            let is_part = |(name, _): &(String, String)| Subset::is_parameter(name);
            let look = match path {
                [_] => Look::Search { kind, parameters },
                [_, "_history"] => Look::Past {
                    kind: Some(kind),
                    parameters,
                },
                [_, id] if parameters.iter().all(is_part) => Look::Read {
                    kind,
                    id: (*id).to_owned(),
                    parameters,
                    known,
                },
                [_, id, "_history"] => Look::History {
                    kind,
                    id: (*id).to_owned(),
                    parameters,
                },
                [_, id, "_history", version] if parameters.iter().all(is_part) => Look::Version {
                    kind,
                    id: (*id).to_owned(),
                    version: (*version).to_owned(),
                    parameters,
                },
                [_, id, of] => {
                    let of = (*of != "*").then(|| ResourceType::parse(of));
                    let scope = (Compartment::of(kind, id).zip(Some(of)))
                        .filter(|(_, of)| *of != Some(None))
                        .map(|(compartment, of)| Scope::Compartment(compartment, of.flatten()));
                    match scope {
                        Some(scope) => Look::Within { scope, parameters },
                        None => {
                            return Err(not_supported(
                                400,
                                "this GET is not supported in a bundle",
                            ));
                        }
                    }
                }
                _ => return Err(not_supported(400, "this GET is not supported in a bundle")),
            };
            Ok(Ask::Get(look))
        }
        ("DELETE" | "PUT" | "PATCH" | "POST", ..) => {
            Err(bad(IssueCode::Invalid, "url does not fit the method"))
        }
        ("HEAD", ..) => Err(not_supported(400, "HEAD is not supported in a bundle")),
        _ => Err(bad(
            IssueCode::CodeInvalid,
            "method is none of GET, POST, PUT, PATCH, DELETE",
        )),
    }
}

/// Takes a bundle apart: its type and its entries.
pub(crate) fn entries(mut bundle: Resource) -> Result<(String, Vec<Value>), OperationOutcome> {
    if bundle.kind() != ResourceType::Bundle {
        return Err(OperationOutcome::error(
            IssueCode::Invalid,
            format!("a Bundle is processed here, not a {}", bundle.kind()),
        ));
    }
    let kind = match bundle.get("type") {
        Some(Value::String(kind)) => kind.clone(),
        _ => {
            return Err(OperationOutcome::at(
                IssueCode::Required,
                "is missing",
                "Bundle.type",
            ));
        }
    };
    match bundle.remove("entry") {
        None => Ok((kind, Vec::new())),
        Some(Value::Array(entries)) => Ok((kind, entries)),
        Some(_) => Err(OperationOutcome::at(
            IssueCode::Structure,
            "is no array",
            "Bundle.entry",
        )),
    }
}

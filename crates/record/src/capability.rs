//! The `CapabilityStatement`, generated from what is wired.
use std::borrow::Cow;
use std::sync::LazyLock;

use fhir::search::{
    COMMON, Compartment, EXPRESSIONS, Named, Owns, Parameter, ParameterKind, can_refer, modifiers,
    parameters, references,
};
use fhir::{ResourceType, date};
use ledger::TenantId;
use serde_json::{Value, json};

use crate::operations::{BULK_DATA, OPERATIONS};
use crate::{
    ANSWER_BYTES_MAX, Answer, BUNDLE_BYTES_MAX, BUNDLE_ENTRIES_MAX, CONDITIONAL_DELETES_MAX,
    IMPORT_REJECTS_MAX, RESOURCE_BYTES_MAX, Record, is_kept, is_writable, is_written_freely,
};

fn search_parameter(parameter: &Parameter) -> Value {
    json!({ "name": parameter.name, "type": parameter.kind.code() })
}

/// What isn't a value of a resource, and every type can be searched by.
fn expressions() -> impl Iterator<Item = Value> {
    EXPRESSIONS
        .into_iter()
        .map(|(name, kind)| json!({ "name": name, "type": kind.code() }))
}

/// The modifiers that parameters of each type take.
fn modifiers_in_words() -> String {
    let words =
        ParameterKind::ALL.map(|kind| format!("{} :{}", kind.code(), modifiers(kind).join(" :")));
    format!("{}; reference also types' names", words.join(", "))
}

/// What `_include` can say of a type.
fn includes(kind: ResourceType) -> Vec<String> {
    let none = Owns::default();
    let named = references(kind, &none).map(|named| format!("{kind}:{}", named.name()));
    ["*".to_owned()].into_iter().chain(named).collect()
}

/// What `_revinclude` can say of a type.
fn includes_of_others(kind: ResourceType) -> Vec<String> {
    let none = Owns::default();
    let of_source = |source: ResourceType| {
        let names = references(source, &none).filter(move |named| can_refer(source, named, kind));
        names.map(move |named| format!("{source}:{}", named.name()))
    };
    let named = ResourceType::all().filter(|source| is_kept(*source));
    let named = named.flat_map(|source| of_source(source).collect::<Vec<_>>());
    ["*".to_owned()].into_iter().chain(named).collect()
}

fn resource(kind: ResourceType) -> Value {
    let writable = is_writable(kind);
    let freely = is_written_freely(kind);
    // What is written once has no history of its type that a search would not show.
    let by_type = writable.then_some("history-type");
    let reading = ["read", "vread", "history-instance", "search-type"];
    let writing = ["create", "update"];
    let patching = freely.then_some("patch");
    let deleting = writable.then_some("delete");
    let interactions = reading
        .iter()
        .chain(by_type.iter())
        .chain(writing.iter().filter(|_| writable))
        .chain(patching.iter())
        .chain(deleting.iter())
        .map(|code| json!({ "code": code }));
    let operations = OPERATIONS
        .iter()
        .filter(|operation| operation.kind.is_none_or(|only| only == kind))
        .filter(|operation| writable || !operation.writes)
        .map(|operation| json!({"name": operation.name, "definition": operation.definition()}));
    let searches = COMMON.iter().chain(parameters(kind)).map(search_parameter);
    let searches = searches.chain(expressions());
    json!({
        "type": kind.name(),
        "interaction": interactions.collect::<Vec<_>>(),
        "versioning": "versioned",
        "readHistory": true,
        "updateCreate": writable,
        "conditionalCreate": freely,
        "conditionalRead": "full-support",
        "conditionalUpdate": freely,
        "conditionalDelete": if freely { "multiple" } else { "not-supported" },
        "referencePolicy": ["literal", "logical", "local"],
        "searchInclude": includes(kind),
        "searchRevInclude": includes_of_others(kind),
        "searchParam": searches.collect::<Vec<_>>(),
        "operation": operations.collect::<Vec<_>>(),
    })
}

/// The canonical URL of a type's compartment.
fn compartment(kind: ResourceType) -> String {
    // R4 spells them as it spells its files.
    let (first, rest) = kind.name().split_at(1);
    format!(
        "http://hl7.org/fhir/CompartmentDefinition/{}{rest}",
        first.to_ascii_lowercase()
    )
}

/// What can be done with each type. It is the same for all servers and moments, and takes its time: for
/// each type it asks of every other how it can refer to it.
static RESOURCES: LazyLock<Value> = LazyLock::new(|| {
    let kept = ResourceType::all().filter(|kind| is_kept(*kind));
    kept.map(resource).collect()
});

impl Record {
    /// What can be done with each type, with the search parameters of a tenant's own.
    fn resources(&self, tenant: TenantId, base: &str) -> Cow<'static, Value> {
        let owns = self.vault().owns(tenant);
        if owns.is_empty() {
            return Cow::Borrowed(&*RESOURCES);
        }
        let mut all = RESOURCES.clone();
        for own in owns.iter() {
            let Some(id) = self.vault().defined_by(tenant, own) else {
                continue;
            };
            let named = Named::Own(own.clone());
            let way = json!(format!("{}:{}", own.base(), own.code()));
            for one in all.as_array_mut().into_iter().flatten() {
                let kind = one["type"].as_str().and_then(ResourceType::parse);
                let refers = kind.is_some_and(|kind| can_refer(own.base(), &named, kind));
                let is_base = kind == Some(own.base());
                let mut add = |member: &str, value: Value| {
                    one[member]
                        .as_array_mut()
                        .into_iter()
                        .for_each(|list| list.push(value.clone()));
                };
                if is_base {
                    let definition = format!("{base}/SearchParameter/{id}");
                    let (name, kind) = (own.code(), own.kind().code());
                    add(
                        "searchParam",
                        json!({"name": name, "type": kind, "definition": definition}),
                    );
                    if own.kind() == ParameterKind::Reference {
                        add("searchInclude", way.clone());
                    }
                }
                if refers {
                    add("searchRevInclude", way.clone());
                }
            }
        }
        Cow::Owned(all)
    }

    /// `CapabilityStatement`, generated from what is wired and, of search parameters, what a tenant has
    /// defined beside R4's. `oauth` has the addresses of OAuth 2.0, by the names that SMART gives them.
    #[must_use]
    pub fn metadata(
        &self,
        tenant: TenantId,
        base: &str,
        oauth: &[(&str, String)],
        software_version: &str,
    ) -> Answer {
        let endpoints: Vec<Value> = oauth
            .iter()
            .map(|(name, address)| json!({ "url": name, "valueUri": address }))
            .collect();
        let statement = json!({
            "resourceType": "CapabilityStatement",
            "status": "active",
            "date": date::instant(self.since_ms),
            "kind": "instance",
            "instantiates": [format!("{BULK_DATA}/CapabilityStatement/bulk-data")],
            "software": { "name": "Cairn", "version": software_version },
            "implementation": { "description": "Cairn FHIR record", "url": base },
            "fhirVersion": "4.0.1",
            "format": ["application/fhir+json", "json", "application/fhir+xml", "xml"],
            "patchFormat": ["application/json-patch+json", "application/xml-patch+xml", "application/fhir+json", "application/fhir+xml"],
            "rest": [{
                "mode": "server",
                "documentation": format!(
                    "A resource has at most {RESOURCE_BYTES_MAX} bytes, a batch or transaction at most {BUNDLE_BYTES_MAX} bytes and \
                     {BUNDLE_ENTRIES_MAX} entries; GETs in it are answered with up to {ANSWER_BYTES_MAX} bytes in all. A page of a \
                     search or history ends early where resources are large. An update, patch or delete may use If-Match, If-None-Match or If-Unmodified-Since; \
                     without them the last one wins. \
                     A request that writes and carries an Idempotency-Key is carried out once within a day. A history shows each version as the PUT or DELETE that would make it. \
                     Histories take _count, _since and _at; those of a type and of everything show no AuditEvent, and a page of them may be \
                     short, or empty, and have a next one. \
                     A conditional delete deletes all that match, at most {CONDITIONAL_DELETES_MAX}. \
                     Modifiers: {}. \
                     _sort takes up to five parameters, for up to 10,000 matches. \
                     References can be chained and _has be used, up to five deep. \
                     A search of several types takes the parameters that all of them have. \
                     Value sets and code systems that are stored here with all of their codes say what :in, :not-in, :above and :below of tokens mean. \
                     _text and _content look for beginnings of words, in up to 10,000 resources; _list takes ids. \
                     _filter takes chains in parts joined by and; it takes no filter within a path. \
                     Unknown search parameters are refused unless Prefer: handling=lenient is sent.",
                    modifiers_in_words(),
                ),
                "security": {
                    "cors": true,
                    "extension": [{
                        "url": "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris",
                        "extension": endpoints,
                    }],
                    "service": [{
                        "coding": [{
                            "system": "http://terminology.hl7.org/CodeSystem/restful-security-service",
                            "code": "SMART-on-FHIR",
                        }],
                        "text": "Bearer token, by SMART App Launch, SMART Backend Services or from an administrator",
                    }],
                    "description": "Each request but this one and .well-known/smart-configuration carries an access token in the header \
                                    Authorization: Bearer TOKEN (RFC 6750). Every access is decided by policy, narrowed by the token's \
                                    scopes, and audited."
                },
                "resource": &*self.resources(tenant, base),
                "interaction": [{ "code": "transaction" }, { "code": "batch" }, { "code": "search-system" }, { "code": "history-system" }],
                "searchParam": COMMON.iter().map(search_parameter).chain(expressions()).collect::<Vec<_>>(),
                "compartment": Compartment::kinds().map(compartment).collect::<Vec<_>>(),
                "operation": [
                    { "name": "export", "definition": format!("{BULK_DATA}/OperationDefinition/export") },
                    {
                        "name": "import",
                        "definition": "urn:cairn:operation:import",
                        "documentation": format!(
                            "POST application/fhir+ndjson, however long, plain or packed by gzip or zstd: a resource or a bundle a line. \
                             Resources keep their ids, and the same sent again changes nothing. The answer says how many were written, were there \
                             already and were refused, each of these with its line; beyond {IMPORT_REJECTS_MAX} the import stops."
                        ),
                    },
                ],
            }],
        });
        Answer {
            status: 200,
            version: None,
            last_modified_ms: None,
            location: None,
            body: statement.to_string().into_bytes(),
        }
    }
}

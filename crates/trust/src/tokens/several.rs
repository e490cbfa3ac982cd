//! Plans for queries of several types together, and narrowed to the patients of some.

use fhir::ResourceType;
use fhir::search::SearchQuery;
use ledger::{Ledger, Number, Query, TenantId};

use super::{Maker, OWNER, OWNERLESS, Plan, QUERY_TOKENS_MAX, kind, plan_within};

/// What [`OWNERLESS`] takes of them: its own, and the list of older documents.
const OWNERLESS_TOKENS: usize = 2;

/// The most lists of patients' rows that a plan leaves out, of all types together. They come on top of
/// [`QUERY_TOKENS_MAX`], and the ledger takes 4,096.
pub(crate) const LEFT_OUT_MAX: usize = 64;

/// Whose documents a query is narrowed to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Whose<'a> {
    Anybodys,
    Patients(&'a str),
    /// Those of some patients, and those that are nobody's.
    Some(&'a [&'a str]),
}

impl<'a> Whose<'a> {
    pub(crate) fn only(patient: Option<&'a str>) -> Self {
        patient.map_or(Self::Anybodys, Self::Patients)
    }
}

/// One plan for queries of several types, each with its share of the tokens. One of a share is for the
/// type's own list, or the patient's. To more patients than half of a share is for, none is narrowed.
pub(crate) fn plan_all<'q>(
    ledger: &Ledger,
    tenant: TenantId,
    mut queries: impl ExactSizeIterator<Item = (&'q SearchQuery, Whose<'q>)>,
) -> Plan {
    let share = (QUERY_TOKENS_MAX / queries.len().max(1)).saturating_sub(1);
    let mut whole = Plan {
        query: Query::Or(Vec::new()),
        before: Some(Number(0)),
        since: Some(Number(u64::MAX)),
        recent: None,
    };
    let mut plans = Vec::with_capacity(queries.len());
    let one = |(query, whose): (&'q SearchQuery, Whose<'q>)| {
        let (only_patient, some) = match whose {
            Whose::Anybodys => (None, None),
            Whose::Patients(patient) => (Some(patient), None),
            Whose::Some(patients) => (None, Some(patients)),
        };
        let some = some.filter(|patients| patients.len() + OWNERLESS_TOKENS <= share / 2);
        let left = share - some.map_or(0, |some| some.len() + OWNERLESS_TOKENS);
        let mut plan = plan_within(ledger, tenant, query, only_patient, left);
        if let Some(patients) = some {
            let make = Maker {
                ledger,
                tenant,
                kind: kind(query.kind),
                unmarked: false,
            };
            plan.among(&make, patients, ledger.ownerless_since());
        }
        plan
    };
    if queries.len() == 1
        && let Some(query) = queries.next()
    {
        return one(query);
    }
    for query in queries {
        let plan = one(query);
        whole.before = whole.before.zip(plan.before).map(|(a, b)| a.max(b));
        whole.since = whole.since.zip(plan.since).map(|(a, b)| a.min(b));
        plans.push(plan);
    }
    if plans.is_empty() {
        (whole.before, whole.since) = (None, None);
    }
    // Where one type's rows begin to be recent, those of the others are asked for as recent ones as well:
    // what that finds holds what the lists alone would find.
    let throughs = plans.iter().filter_map(|plan| plan.recent.as_ref());
    if let Some(through) = throughs.map(|(through, _)| *through).min() {
        let recent = plans.iter().map(Plan::recently).cloned().collect();
        whole.recent = Some((through, either(recent)));
    }
    whole.query = either(plans.into_iter().map(|plan| plan.query).collect());
    whole
}

fn either(mut parts: Vec<Query>) -> Query {
    match (parts.len(), parts.pop()) {
        (1, Some(one)) => one,
        (_, last) => Query::Or(parts.into_iter().chain(last).collect()),
    }
}

impl Plan {
    /// Narrows it to documents of some patients, and to those that are nobody's.
    /// Of documents below `since` no token says that they are nobody's.
    fn among(&mut self, make: &Maker<'_>, patients: &[&str], since: Number) {
        let every = Query::Token(make.ledger.kind_token(make.tenant, make.kind));
        let owned = patients.iter().map(|patient| make.one(OWNER, "", patient));
        let mut parts: Vec<Query> = owned
            .chain([make.one(OWNERLESS, "", "")])
            .map(Query::Token)
            .collect();
        if since > Number(0) {
            parts.push(Query::Below(since, Box::new(every.clone())));
        }
        let among = Query::Or(parts);
        let narrow = |query: &mut Query| {
            let whole = std::mem::replace(query, Query::Or(Vec::new()));
            *query = both(whole, among.clone(), &every);
        };
        narrow(&mut self.query);
        if let Some((_, recent)) = &mut self.recent {
            narrow(recent);
        }
    }

    /// Leaves documents of some types out that belong to some patients: to as many of them as there is room for.
    pub(crate) fn leave_out(
        &mut self,
        (ledger, tenant): (&Ledger, TenantId),
        kinds: &[ResourceType],
        patients: &[String],
    ) {
        let each = LEFT_OUT_MAX / kinds.len().max(1);
        let of = |kind: &ResourceType| {
            let make = Maker {
                ledger,
                tenant,
                kind: self::kind(*kind),
                unmarked: false,
            };
            let patients = patients.iter().take(each);
            let lists = patients.map(move |patient| make.one(OWNER, "", patient));
            lists.map(Query::Token).collect::<Vec<_>>()
        };
        let lists: Vec<Query> = kinds.iter().flat_map(of).collect();
        self.without(&lists);
    }

    /// Leaves out what is in any of some lists.
    pub(super) fn without(&mut self, lists: &[Query]) {
        if lists.is_empty() {
            return;
        }
        let leave = |query: &mut Query| {
            let whole = std::mem::replace(query, Query::Or(Vec::new()));
            *query = match whole {
                Query::Without(with, without) => {
                    Query::Without(with, Box::new(either_of(*without, lists)))
                }
                whole => Query::Without(Box::new(whole), Box::new(Query::Or(lists.to_vec()))),
            };
        };
        leave(&mut self.query);
        if let Some((_, recent)) = &mut self.recent {
            leave(recent);
        }
    }
}

fn either_of(query: Query, more: &[Query]) -> Query {
    let mut parts = match query {
        Query::Or(parts) => parts,
        query => vec![query],
    };
    parts.extend(more.iter().cloned());
    Query::Or(parts)
}

/// What two queries of a type both hold for; the list of `every` document of it says nothing beside another.
fn both(query: Query, part: Query, every: &Query) -> Query {
    match query {
        Query::And(mut parts) => {
            parts.push(part);
            Query::And(parts)
        }
        Query::Without(with, without) => {
            Query::Without(Box::new(both(*with, part, every)), without)
        }
        query if query == *every => part,
        query => Query::And(vec![query, part]),
    }
}

#[cfg(test)]
mod tests {
    use fhir::ResourceType;

    use super::*;
    use crate::tests::{House, TENANT};

    /// Where documents are older than the token of what is nobody's, they are among the candidates.
    #[tokio::test]
    async fn older_documents_of_nobody_are_not_left_out() {
        let house = House::new().await;
        let ledger = house.ledger();
        let make = Maker {
            ledger,
            tenant: TENANT,
            kind: kind(ResourceType::Observation),
            unmarked: false,
        };
        let every = Query::Token(ledger.kind_token(TENANT, make.kind));
        let token = |name: &str, value: &str| Query::Token(make.one(name, "", value));
        let among = |text: &[(String, String)], since| {
            let query = SearchQuery::parse(ResourceType::Observation, text, false).unwrap();
            let mut plan = plan_within(ledger, TENANT, &query, None, QUERY_TOKENS_MAX);
            plan.among(&make, &["p"], since);
            plan.query
        };
        let mut parts = vec![token(OWNER, "p"), token(OWNERLESS, "")];
        assert_eq!(among(&[], Number(0)), Query::Or(parts.clone()));
        parts.push(Query::Below(Number(7), Box::new(every)));
        assert_eq!(among(&[], Number(7)), Query::Or(parts.clone()));
        let code = ("code".to_owned(), "c".to_owned());
        let both = vec![token("code", "c"), Query::Or(parts)];
        assert_eq!(among(&[code], Number(7)), Query::And(both));
    }
}

//! What is about a date (R4, section 3.1.1.4.5): within a tenth of the time between it and now.
use super::{Clause, Operand, Prefix, SearchQuery};

impl SearchQuery {
    /// Whether what it asks for depends on when it is asked. Nothing matches such a query before
    /// [`SearchQuery::at`].
    #[must_use]
    pub fn depends_on_now(&self) -> bool {
        self.any_clause(&|clause| {
            let mut operands = clause.operands.iter();
            operands.any(|operand| {
                matches!(
                    operand,
                    Operand::Date {
                        prefix: Prefix::Ap,
                        ..
                    }
                )
            })
        })
    }

    /// Whether something is so of one of the clauses, those in conditions, links and composite values too.
    pub(super) fn any_clause(&self, test: &dyn Fn(&Clause) -> bool) -> bool {
        let mut links = self.links.iter().flat_map(|link| &link.queries);
        self.clauses.iter().any(|clause| clause.any(test))
            || self.conditions.iter().any(|one| one.any_clause(test))
            || links.any(|query| query.any_clause(test))
    }

    /// Says when it is asked, milliseconds since the epoch. The pages of one list have to be asked for at
    /// the same moment.
    pub fn at(&mut self, now_ms: i64) {
        self.each_clause(&mut |clause| {
            for operand in &mut clause.operands {
                if let Operand::Date {
                    prefix: Prefix::Ap,
                    start_ms,
                    end_ms,
                } = *operand
                {
                    let away_ms = (start_ms.saturating_sub(now_ms))
                        .max(now_ms.saturating_sub(end_ms))
                        .max(0);
                    *operand = Operand::About {
                        start_ms: start_ms.saturating_sub(away_ms / 10),
                        end_ms: end_ms.saturating_add(away_ms / 10),
                    };
                }
            }
        });
    }

    /// Calls `change` with each clause, those in conditions, links and composite values too.
    pub fn each_clause(&mut self, change: &mut dyn FnMut(&mut Clause)) {
        for clause in &mut self.clauses {
            clause.each(change);
        }
        for condition in &mut self.conditions {
            condition.each_clause(change);
        }
        let links = self.links.iter_mut();
        for query in links.flat_map(|link| &mut link.queries) {
            query.each_clause(change);
        }
    }
}

impl Clause {
    pub(super) fn any(&self, test: &dyn Fn(&Self) -> bool) -> bool {
        test(self)
            || self.operands.iter().any(|operand| match operand {
                Operand::Composite(parts) => parts.iter().any(|part| part.any(test)),
                _ => false,
            })
    }

    /// Calls `change` with it and the clauses in it.
    pub(super) fn each(&mut self, change: &mut dyn FnMut(&mut Self)) {
        change(self);
        for operand in &mut self.operands {
            if let Operand::Composite(parts) = operand {
                parts.iter_mut().for_each(|part| part.each(change));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Resource, ResourceType, date};
    use serde_json::json;

    #[test]
    fn about_a_date_is_a_tenth_of_how_far_it_is() {
        let now_ms = date::parse("2026-06-15T12:00:00Z").unwrap().start_ms;
        let patient = |born: &str| {
            Resource::from_value(json!({"resourceType": "Patient", "id": "p", "birthDate": born}))
                .unwrap()
        };
        for (asked, born, near) in [
            ("ap1950", "1950-02-03", true),
            // 75 years and a half ago, so seven and a half to either side.
            ("ap1950", "1943-01-01", true),
            ("ap1950", "1942-01-01", false),
            ("ap1950", "1958-05-01", true),
            ("ap1950", "1959-01-01", false),
            ("ap2026-06-15", "2026-06-15", true),
            ("ap2026-06-15", "2026-06-14", false),
            // Ten days ahead.
            ("ap2026-06-25", "2026-06-24", true),
            ("ap2026-06-25", "2026-06-23", false),
        ] {
            let pair = [("birthdate".to_owned(), asked.to_owned())];
            let mut query = SearchQuery::parse(ResourceType::Patient, &pair, false).unwrap();
            assert!(query.depends_on_now() && !query.matches(&patient(born)));
            query.at(now_ms);
            assert!(!query.depends_on_now());
            assert_eq!(query.matches(&patient(born)), near, "{asked} {born}");
        }
        let pairs = [("code-value-date".to_owned(), "x$ap2026-06-25".to_owned())];
        let mut query = SearchQuery::parse(ResourceType::Observation, &pairs, false).unwrap();
        let observation = json!({"resourceType": "Observation", "id": "o", "code": {"coding": [{"code": "x"}]}, "valueDateTime": "2026-06-24"});
        query.at(now_ms);
        assert!(query.matches(&Resource::from_value(observation).unwrap()));
    }
}

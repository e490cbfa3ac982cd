//! Queries that name the server itself.
use super::{Clause, Operand, SearchQuery};
use crate::Reference;

impl SearchQuery {
    /// References that name the server by its address mean the relative ones as well, which is how references are
    /// stored.
    pub fn of_server(&mut self, base: &str) {
        if base.is_empty() {
            return;
        }
        self.each_clause(&mut |clause: &mut Clause| {
            let own = |operand: &Operand| {
                let Operand::Reference { url: Some(url), .. } = operand else {
                    return None;
                };
                let rest = url.strip_prefix(base)?.strip_prefix('/')?;
                let (kind, id) = Reference::relative(rest)?;
                Some(Operand::Reference {
                    kind: Some(kind),
                    id: id.to_owned(),
                    url: None,
                })
            };
            // Canonical references to this server stay as they were written, so both forms are asked for.
            let more: Vec<Operand> = clause.operands.iter().filter_map(own).collect();
            clause.operands.extend(more);
        });
    }
}

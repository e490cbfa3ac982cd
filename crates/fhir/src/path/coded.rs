//! Codes that an expression names, each with the code system that stands beside it.

use super::Expression;
use super::functions::Function;
use super::parse::{Expr, Kind, Literal, Operator, Start, Step, StepKind};

/// A code that something is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedCode {
    /// Character position of the text, from 0.
    pub position: usize,
    /// The code.
    pub code: String,
    /// The code system, where the expression names it beside the code.
    pub system: Option<String>,
}

impl Expression {
    /// The codes that elements named `code` are compared with, in the order in which they stand.
    ///
    /// A system stands beside a code where both are asked of the same element in one row of `and`, or one `where` after
    /// the other.
    #[must_use]
    pub fn codes(&self) -> Vec<NamedCode> {
        let mut found = Vec::new();
        look(&self.root, None, &mut found);
        found.sort_by_key(|code| code.position);
        found.dedup();
        found
    }
}

/// The names that an expression goes through from its focus, where it is nothing else.
fn names(expr: &Expr) -> Option<Vec<&str>> {
    let Kind::Path(Start::Focus | Start::This, steps) = &expr.kind else {
        return None;
    };
    steps.iter().map(member).collect()
}

fn member(step: &Step) -> Option<&str> {
    match &step.kind {
        StepKind::Member(name, _) => Some(name),
        _ => None,
    }
}

/// The texts that an expression is one of.
fn texts(expr: &Expr) -> Vec<(usize, &str)> {
    match &expr.kind {
        Kind::Literal(Literal::Text(text)) => vec![(expr.position, text)],
        Kind::Path(Start::Expr(inner), steps) if steps.is_empty() => texts(inner),
        Kind::Binary(Operator::Union, left, right) => {
            let mut all = texts(left);
            all.extend(texts(right));
            all
        }
        _ => Vec::new(),
    }
}

/// The code system that an expression is.
fn system(expr: &Expr) -> Option<String> {
    match &expr.kind {
        Kind::Path(Start::Variable(name), steps) if steps.is_empty() => match name.as_str() {
            "loinc" => Some("http://loinc.org".to_owned()),
            "sct" => Some("http://snomed.info/sct".to_owned()),
            _ => None,
        },
        _ => match texts(expr).as_slice() {
            [(_, text)] => Some((*text).to_owned()),
            _ => None,
        },
    }
}

/// What stands in a row of `and`.
fn row<'a>(expr: &'a Expr, all: &mut Vec<&'a Expr>) {
    match &expr.kind {
        Kind::Binary(Operator::And, left, right) => {
            row(left, all);
            row(right, all);
        }
        _ => all.push(expr),
    }
}

/// The systems that a row asks for: the names before `system`, and the system.
fn systems<'a>(row: &[&'a Expr]) -> Vec<(Vec<&'a str>, String)> {
    let asked = row.iter().filter_map(|expr| {
        let Kind::Binary(Operator::Equal | Operator::Equivalent, left, right) = &expr.kind else {
            return None;
        };
        let (path, value) = match (names(left), names(right)) {
            (Some(path), _) => (path, right),
            (_, Some(path)) => (path, left),
            _ => return None,
        };
        let (last, before) = path.split_last()?;
        (*last == "system").then_some((before.to_vec(), system(value)?))
    });
    asked.collect()
}

/// Looks at an expression of whose focus the system is known, or isn't.
fn look(expr: &Expr, known: Option<&str>, found: &mut Vec<NamedCode>) {
    let mut all = Vec::new();
    row(expr, &mut all);
    let systems = systems(&all);
    for one in all {
        one_of(one, known, &systems, found);
    }
}

fn one_of(
    expr: &Expr,
    known: Option<&str>,
    systems: &[(Vec<&str>, String)],
    found: &mut Vec<NamedCode>,
) {
    match &expr.kind {
        Kind::Empty | Kind::Literal(_) => {}
        Kind::Path(start, steps) => {
            path(start, steps, known, systems, found);
        }
        Kind::Negate(inner) | Kind::Is(inner, _) | Kind::As(inner, _) => {
            one_of(inner, known, systems, found);
        }
        Kind::Binary(operator, left, right) => {
            for (asked, values) in [(left, right), (right, left)] {
                let Kind::Path(start, steps) = &asked.kind else {
                    // Each side of `or` may have a row of its own.
                    continue;
                };
                let is_code = steps.last().and_then(member) == Some("code");
                let compares = matches!(
                    operator,
                    Operator::Equal
                        | Operator::NotEqual
                        | Operator::Equivalent
                        | Operator::NotEquivalent
                        | Operator::In
                        | Operator::Contains
                );
                if is_code && compares {
                    let system = path(start, steps, known, systems, &mut Vec::new());
                    found.extend(texts(values).into_iter().map(|(position, code)| NamedCode {
                        position,
                        code: code.to_owned(),
                        system: system.clone(),
                    }));
                }
            }
            for side in [left, right] {
                inner(side, known, systems, found);
            }
        }
    }
}

/// A side of an operator: what it asks for by itself holds beside what is asked for around it.
fn inner(
    expr: &Expr,
    known: Option<&str>,
    around: &[(Vec<&str>, String)],
    found: &mut Vec<NamedCode>,
) {
    let mut all = Vec::new();
    row(expr, &mut all);
    let mut own = systems(&all);
    own.extend(around.iter().cloned());
    for one in all {
        one_of(one, known, &own, found);
    }
}

/// Follows a path; the system that is known of what it comes to.
fn path(
    start: &Start,
    steps: &[Step],
    known: Option<&str>,
    systems: &[(Vec<&str>, String)],
    found: &mut Vec<NamedCode>,
) -> Option<String> {
    if let Start::Expr(expr) = start {
        inner(expr, known, systems, found);
    }
    let from_focus = matches!(start, Start::Focus | Start::This);
    let mut names: Vec<&str> = Vec::new();
    // What is asked of the focus itself holds of its own elements alone.
    let mut here: Option<String> = known.filter(|_| from_focus).map(str::to_owned);
    for step in steps {
        match &step.kind {
            StepKind::Member(name, _) => {
                let beside = systems.iter().find(|(before, _)| *before == names);
                match (name.as_str(), beside) {
                    ("code", Some((_, system))) if from_focus => here = Some(system.clone()),
                    ("code", None) => {}
                    _ => here = None,
                }
                names.push(name);
            }
            StepKind::Call(function, arguments) => {
                let criterion =
                    matches!(function, Function::Where | Function::Exists | Function::All);
                for argument in arguments {
                    let of = here.as_deref().filter(|_| criterion);
                    look(argument, of, found);
                    if *function == Function::Where {
                        let mut all = Vec::new();
                        row(argument, &mut all);
                        let mut asked = self::systems(&all).into_iter();
                        let own = asked.find(|(before, _)| before.is_empty());
                        here = own.map(|(_, system)| system).or(here);
                    }
                }
            }
            StepKind::At(index) => look(index, None, found),
            StepKind::Matches(_, Some(other)) => look(other, None, found),
            _ => {}
        }
    }
    here
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An expression, and its codes with their systems.
    type Case = (
        &'static str,
        &'static [(&'static str, Option<&'static str>)],
    );

    #[test]
    fn codes_are_found_with_the_systems_beside_them() {
        const L: &str = "http://loinc.org";
        const S: &str = "http://snomed.info/sct";
        let table: &[Case] = &[
            ("code.coding.exists(code = '1-8')", &[("1-8", None)]),
            (
                "code.coding.where(system = 'http://loinc.org' and code = '1-8').exists()",
                &[("1-8", Some(L))],
            ),
            (
                "code.coding.exists(code = '1-8' and system = %loinc)",
                &[("1-8", Some(L))],
            ),
            (
                "code.coding.where(system = %sct and (code = '1' or code = '2')).exists()",
                &[("1", Some(S)), ("2", Some(S))],
            ),
            (
                "code.coding.where(system = %sct and code in ('1' | '2')).exists()",
                &[("1", Some(S)), ("2", Some(S))],
            ),
            (
                "code.coding.where(system = %sct).where(code = '1').exists() or code.coding.exists(code = '2')",
                &[("1", Some(S)), ("2", None)],
            ),
            (
                "code.coding.where(system = %sct).code = '1'",
                &[("1", Some(S))],
            ),
            (
                "'1' in code.coding.where(system = %sct).code",
                &[("1", Some(S))],
            ),
            (
                "class.system = 'x' and class.code = 'IMP' and type.code = 'y'",
                &[("IMP", Some("x")), ("y", None)],
            ),
            (
                "(class.system = 'x' and class.code = 'a') or (class.system = 'z' and class.code = 'b')",
                &[("a", Some("x")), ("b", Some("z"))],
            ),
            (
                "reason.where(coding.where(system = %sct and code = '1').exists() and code = '2').exists()",
                &[("1", Some(S)), ("2", None)],
            ),
            ("status = 'finished' and display = '1-8'", &[]),
        ];
        for (text, expected) in table {
            let found = Expression::compile(text).unwrap().codes();
            let told: Vec<_> = found
                .iter()
                .map(|found| (found.code.as_str(), found.system.as_deref()))
                .collect();
            assert_eq!(told, *expected, "{text}");
            for found in found {
                let there: String = text.chars().skip(found.position + 1).collect();
                assert!(there.starts_with(&found.code), "{text} {found:?}");
            }
        }
    }
}

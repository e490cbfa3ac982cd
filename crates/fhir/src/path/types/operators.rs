//! What operators make of what they are given, and what they can make nothing of.

use super::kinds::{Kind, Sort, What};
use super::{Check, texts};
use crate::nearest::suggestion;
use crate::path::parse::{Expr, Operator, System};

/// So many codes are listed where another one is named.
const LISTED_MAX: usize = 12;

/// Two operands with where they stand.
pub(super) struct Pair<'e, 'a> {
    pub(super) position: usize,
    pub(super) left: (&'e Expr, What<'a>),
    pub(super) right: (&'e Expr, What<'a>),
}

fn may_equal(left: Sort, right: Sort) -> bool {
    use Sort::{Moment, Number, Quantity, Text, Time};
    left == right
        || matches!(
            (left, right),
            (Number, Quantity) | (Quantity, Number) | (Text, Moment | Time) | (Moment | Time, Text)
        )
}

fn may_compare(left: Sort, right: Sort) -> bool {
    let has_order = |sort| !matches!(sort, Sort::Boolean | Sort::Other);
    has_order(left) && has_order(right) && may_equal(left, right)
}

fn may_calculate(operator: Operator, left: Sort, right: Sort) -> bool {
    use Sort::{Moment, Number, Quantity, Text, Time};
    let is_sum = matches!(operator, Operator::Add | Operator::Subtract);
    match (left, right) {
        (Text, Text) => operator == Operator::Add,
        (Number | Quantity, Number | Quantity) => true,
        (Moment | Time | Text, Quantity) => is_sum,
        _ => false,
    }
}

impl<'a> Check<'a> {
    pub(super) fn operate(&mut self, operator: Operator, pair: Pair<'_, 'a>) -> What<'a> {
        use Operator as O;
        match operator {
            O::Union => pair.left.1.or(pair.right.1).several(),
            O::And | O::Or | O::Xor | O::Implies => {
                for (expr, what) in [&pair.left, &pair.right] {
                    self.truth(expr, what);
                }
                What::system(System::Boolean)
            }
            O::Equal | O::NotEqual | O::Equivalent | O::NotEquivalent => {
                self.equality(operator, &pair);
                What::system(System::Boolean)
            }
            O::In => {
                self.membership(&pair.left, &pair.right);
                What::system(System::Boolean)
            }
            O::Contains => {
                self.membership(&pair.right, &pair.left);
                What::system(System::Boolean)
            }
            O::Less | O::LessOrEqual | O::Greater | O::GreaterOrEqual => {
                self.both_single(&pair);
                if pair.left.1.never_fits(&pair.right.1, may_compare) {
                    self.never(pair.position, "can't be compared", &pair);
                }
                What::system(System::Boolean)
            }
            O::Concatenate => {
                self.both_single(&pair);
                for (expr, what) in [&pair.left, &pair.right] {
                    if what.is_never(|sort| sort == Sort::Text) {
                        let words = format!("`&` wants texts, and this is {}", what.words());
                        self.wrong(expr.position, words);
                    }
                }
                What::system(System::String)
            }
            O::Add | O::Subtract | O::Multiply | O::Divide | O::Div | O::Mod => {
                self.both_single(&pair);
                let fits = |left, right| may_calculate(operator, left, right);
                if pair.left.1.never_fits(&pair.right.1, fits) {
                    self.never(pair.position, "can't be calculated with", &pair);
                    return What::unknown();
                }
                calculated(operator, pair)
            }
        }
    }

    /// What is asked whether it holds.
    pub(super) fn truth(&mut self, expr: &Expr, what: &What<'_>) {
        self.is_single(expr, what);
        if what.is_never(|sort| sort == Sort::Boolean) {
            let words = format!(
                "this is {}, which counts as true whenever it is there; ask `.exists()`, or compare it",
                what.words()
            );
            self.unsure(expr.position, words);
        }
    }

    fn equality(&mut self, operator: Operator, pair: &Pair<'_, '_>) {
        let (left, right) = (&pair.left, &pair.right);
        // Nothing is equivalent to nothing, and case doesn't matter.
        if matches!(operator, Operator::Equivalent | Operator::NotEquivalent) {
            return;
        }
        if left.1.never_fits(&right.1, may_equal) {
            let is_truth = |what: &What<'_>| what.is_never(|sort| sort != Sort::Boolean);
            let words = if is_truth(&left.1) || is_truth(&right.1) {
                "are never equal; compare it with `true` or `false`"
            } else {
                "are never equal"
            };
            self.never(pair.position, words, pair);
            return;
        }
        self.codes_named(&left.1, right.0);
        self.codes_named(&right.1, left.0);
        // Collections of different lengths are not equal.
        let lonely = |one: &What<'_>| !one.many && one.sorts().is_some();
        let several = [(left, right), (right, left)]
            .into_iter()
            .find(|(several, other)| several.1.many && lonely(&other.1));
        if let Some(((expr, _), _)) = several {
            let then = if operator == Operator::Equal {
                "false"
            } else {
                "true"
            };
            let words = format!(
                "there may be several of these, and then this is {then} whatever they are; ask `.where(…).exists()`"
            );
            self.unsure(expr.position, words);
        }
    }

    fn membership(&mut self, one: &(&Expr, What<'_>), all: &(&Expr, What<'_>)) {
        self.is_single(one.0, &one.1);
        if one.1.never_fits(&all.1, may_equal) {
            let words = format!("{} is never among {}", one.1.words(), all.1.words());
            self.wrong(one.0.position, words);
            return;
        }
        self.codes_named(&one.1, all.0);
        self.codes_named(&all.1, one.0);
    }

    /// Codes that the specification doesn't have for an element that allows no others.
    fn codes_named(&mut self, what: &What<'_>, named: &Expr) {
        let Some((codes, beside)) = what.codes() else {
            return;
        };
        for (position, text) in texts(named) {
            if codes.contains(&text) {
                continue;
            }
            let near = suggestion(text, codes.iter().copied());
            let all = if near.is_empty() && codes.len() <= LISTED_MAX {
                format!(" ({})", codes.join(", "))
            } else {
                String::new()
            };
            let words = format!("`{text}` is none of the codes that this may have{near}{all}");
            if beside {
                self.unsure(position, words);
            } else {
                self.wrong(position, words);
            }
        }
    }

    fn both_single(&mut self, pair: &Pair<'_, '_>) {
        for (expr, what) in [&pair.left, &pair.right] {
            self.is_single(expr, what);
        }
    }

    pub(super) fn is_single(&mut self, expr: &Expr, what: &What<'_>) {
        if what.many && what.sorts().is_some() {
            let words = "there may be several of these, and then nothing comes of this; take one, or ask `.exists()`";
            self.unsure(expr.position, words.to_owned());
        }
    }

    fn never(&mut self, position: usize, what: &str, pair: &Pair<'_, '_>) {
        let words = format!(
            "{} and {} {what}",
            pair.left.1.words(),
            pair.right.1.words()
        );
        self.wrong(position, words);
    }
}

/// What comes of a calculation that is possible.
fn calculated<'a>(operator: Operator, pair: Pair<'_, 'a>) -> What<'a> {
    let (left, right) = (pair.left.1, pair.right.1);
    let all = |what: &What<'_>, sort| {
        what.sorts()
            .is_some_and(|sorts| sorts.into_iter().all(|one| one == sort))
    };
    if all(&left, Sort::Number) && all(&right, Sort::Number) {
        return match operator {
            Operator::Divide => What::system(System::Decimal),
            Operator::Div => What::system(System::Integer),
            _ => What::number(),
        };
    }
    if all(&left, Sort::Moment) || all(&left, Sort::Time) {
        let kinds = left.kinds.map(|kinds| {
            let plain = |kind: Kind<'a>| Kind {
                codes: None,
                ..kind
            };
            kinds.into_iter().map(plain).collect()
        });
        return What { kinds, many: false };
    }
    if all(&left, Sort::Text) && all(&right, Sort::Text) {
        return What::system(System::String);
    }
    What::unknown()
}

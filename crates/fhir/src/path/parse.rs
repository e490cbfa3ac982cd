//! Tokens to a tree. Everything that can be known to be wrong without data is found here.
use super::PathError;
use super::functions::{Function, lookup};
use super::lex::{Token, tokens};
use crate::date::Parts;
use crate::facts::{TypeId, structures};
use regex::Regex;
use rust_decimal::Decimal;

#[derive(Debug)]
pub(crate) struct Expr {
    pub(crate) position: usize,
    /// Levels of the tree below and with this one.
    depth: usize,
    pub(crate) kind: Kind,
}

#[derive(Debug)]
pub(crate) enum Kind {
    /// `{}`
    Empty,
    Literal(Literal),
    Path(Start, Vec<Step>),
    Negate(Box<Expr>),
    Binary(Operator, Box<Expr>, Box<Expr>),
    Is(Box<Expr>, TypeName),
    As(Box<Expr>, TypeName),
}

#[derive(Debug)]
pub(crate) enum Literal {
    Bool(bool),
    Text(String),
    Integer(i64),
    Decimal(Decimal),
    Date(Parts),
    DateTime(Parts),
    Time(Parts),
    Quantity(Decimal, String),
}

/// Where a path begins.
#[derive(Debug)]
pub(crate) enum Start {
    /// At the focus, whose type name may be the first step.
    Focus,
    This,
    Index,
    /// What `aggregate` has so far.
    Total,
    Variable(String),
    Expr(Box<Expr>),
}

#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) position: usize,
    pub(crate) kind: StepKind,
}

#[derive(Debug)]
pub(crate) enum StepKind {
    /// An element; the second name is that of its JSON sibling with the extensions.
    Member(String, String),
    At(Expr),
    Call(Function, Vec<Expr>),
    /// `ofType` and, for search parameters' sake, `as`.
    OfType(TypeName),
    Is(TypeName),
    /// `matches` or `replaceMatches` with a pattern that is known beforehand; the argument is the
    /// replacement.
    Matches(Box<Regex>, Option<Expr>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operator {
    Implies,
    Or,
    Xor,
    And,
    In,
    Contains,
    Equal,
    NotEqual,
    Equivalent,
    NotEquivalent,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Union,
    Add,
    Subtract,
    Concatenate,
    Multiply,
    Divide,
    Div,
    Mod,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TypeName {
    Fhir(TypeId),
    System(System),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum System {
    Boolean,
    String,
    Integer,
    Decimal,
    Date,
    DateTime,
    Time,
    Quantity,
    /// None that there is, so nothing is of it.
    Other,
}

/// Levels of parentheses, arguments and operators within each other: far more than people write,
/// and far less than would fill a thread's stack.
const DEPTH_MAX: usize = 64;

pub(crate) fn parse(text: &str) -> Result<Expr, PathError> {
    let mut parser = Parser {
        tokens: tokens(text)?,
        at: 0,
        nesting: 0,
        totals: 0,
    };
    let expr = parser.expression(0)?;
    match parser.peek() {
        Token::End => Ok(expr),
        token => Err(parser.error(format!("unexpected {}", describe(token)))),
    }
}

fn describe(token: &Token) -> String {
    match token {
        Token::Name(name) | Token::Quoted(name) => format!("`{name}`"),
        Token::Symbol(symbol) => format!("`{symbol}`"),
        Token::Variable(name) => format!("`%{name}`"),
        Token::Text(_) => "text".to_owned(),
        Token::Number(digits) => format!("`{digits}`"),
        Token::Date(_) | Token::DateTime(_) | Token::Time(_) => "date or time".to_owned(),
        Token::End => "end".to_owned(),
    }
}

/// How tightly `is` and `as` bind, next to the operators below.
const TYPE_POWER: u8 = 8;

fn operator(token: &Token) -> Option<(Operator, u8)> {
    use Operator::*;
    let name = match token {
        Token::Name(name) => name.as_str(),
        Token::Symbol(symbol) => symbol,
        _ => return None,
    };
    Some(match name {
        "implies" => (Implies, 1),
        "or" => (Or, 2),
        "xor" => (Xor, 2),
        "and" => (And, 3),
        "in" => (In, 4),
        "contains" => (Contains, 4),
        "=" => (Equal, 5),
        "!=" => (NotEqual, 5),
        "~" => (Equivalent, 5),
        "!~" => (NotEquivalent, 5),
        "<" => (Less, 6),
        "<=" => (LessOrEqual, 6),
        ">" => (Greater, 6),
        ">=" => (GreaterOrEqual, 6),
        "|" => (Union, 7),
        "+" => (Add, 9),
        "-" => (Subtract, 9),
        "&" => (Concatenate, 9),
        "*" => (Multiply, 10),
        "/" => (Divide, 10),
        "div" => (Div, 10),
        "mod" => (Mod, 10),
        _ => return None,
    })
}

struct Parser {
    tokens: Vec<(usize, Token)>,
    at: usize,
    nesting: usize,
    /// How many `aggregate`s the place is in.
    totals: usize,
}

impl Parser {
    fn peek(&self) -> &Token {
        &self.tokens[self.at].1
    }
    fn position(&self) -> usize {
        self.tokens[self.at].0
    }
    fn next(&mut self) -> Token {
        let token = self.tokens[self.at].1.clone();
        // The last token is the end, and stays.
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        token
    }
    fn error(&self, message: impl Into<String>) -> PathError {
        PathError::new(self.position(), message)
    }
    fn take(&mut self, symbol: &str) -> bool {
        let found = matches!(self.peek(), Token::Symbol(next) if *next == symbol);
        if found {
            self.next();
        }
        found
    }
    fn expect(&mut self, symbol: &str) -> Result<(), PathError> {
        if self.take(symbol) {
            return Ok(());
        }
        Err(self.error(format!(
            "`{symbol}` is missing before {}",
            describe(self.peek())
        )))
    }

    fn node(position: usize, kind: Kind) -> Result<Expr, PathError> {
        let step = |step: &Step| match &step.kind {
            StepKind::Call(_, arguments) => {
                arguments.iter().map(|expr| expr.depth).max().unwrap_or(0)
            }
            StepKind::At(expr) | StepKind::Matches(_, Some(expr)) => expr.depth,
            _ => 0,
        };
        let below = match &kind {
            Kind::Empty | Kind::Literal(_) => 0,
            Kind::Path(start, steps) => {
                let start = if let Start::Expr(expr) = start {
                    expr.depth
                } else {
                    0
                };
                steps.iter().map(step).max().unwrap_or(0).max(start)
            }
            Kind::Negate(expr) | Kind::Is(expr, _) | Kind::As(expr, _) => expr.depth,
            Kind::Binary(_, left, right) => left.depth.max(right.depth),
        };
        if below >= DEPTH_MAX {
            return Err(PathError::new(
                position,
                format!("more than {DEPTH_MAX} levels of nesting"),
            ));
        }
        Ok(Expr {
            position,
            depth: below + 1,
            kind,
        })
    }

    fn expression(&mut self, power_min: u8) -> Result<Expr, PathError> {
        self.nesting += 1;
        if self.nesting > DEPTH_MAX {
            return Err(self.error(format!("more than {DEPTH_MAX} levels of nesting")));
        }
        let mut left = self.unary()?;
        loop {
            let position = self.position();
            if let Token::Name(name) = self.peek()
                && (name == "is" || name == "as")
                && TYPE_POWER > power_min
            {
                let is = name == "is";
                self.next();
                let name = self.type_name(is)?;
                let kind = if is {
                    Kind::Is(Box::new(left), name)
                } else {
                    Kind::As(Box::new(left), name)
                };
                left = Self::node(position, kind)?;
                continue;
            }
            let Some((operator, power)) =
                operator(self.peek()).filter(|(_, power)| *power > power_min)
            else {
                break;
            };
            self.next();
            let right = self.expression(power)?;
            left = Self::node(
                position,
                Kind::Binary(operator, Box::new(left), Box::new(right)),
            )?;
        }
        self.nesting -= 1;
        Ok(left)
    }

    fn unary(&mut self) -> Result<Expr, PathError> {
        let position = self.position();
        if self.take("+") || self.take("-") {
            let negative = self.tokens[self.at - 1].1 == Token::Symbol("-");
            self.nesting += 1;
            if self.nesting > DEPTH_MAX {
                return Err(self.error(format!("more than {DEPTH_MAX} levels of nesting")));
            }
            let operand = self.unary()?;
            self.nesting -= 1;
            return if negative {
                Self::node(position, Kind::Negate(Box::new(operand)))
            } else {
                Ok(operand)
            };
        }
        self.path()
    }

    fn path(&mut self) -> Result<Expr, PathError> {
        let position = self.position();
        let mut steps = Vec::new();
        let literal = |literal| {
            Self::node(position, Kind::Literal(literal)).map(|expr| Start::Expr(Box::new(expr)))
        };
        let start = match self.next() {
            Token::Symbol("(") => {
                let inner = self.expression(0)?;
                self.expect(")")?;
                Start::Expr(Box::new(inner))
            }
            Token::Symbol("{") => {
                self.expect("}")?;
                Start::Expr(Box::new(Self::node(position, Kind::Empty)?))
            }
            Token::Symbol("$this") => Start::This,
            Token::Symbol("$index") => Start::Index,
            Token::Symbol("$total") if self.totals > 0 => Start::Total,
            Token::Variable(name) => Start::Variable(name),
            Token::Text(text) => literal(Literal::Text(text))?,
            Token::Date(parts) => literal(Literal::Date(parts))?,
            Token::DateTime(parts) => literal(Literal::DateTime(parts))?,
            Token::Time(parts) => literal(Literal::Time(parts))?,
            Token::Number(digits) => literal(self.number(position, &digits)?)?,
            Token::Name(name) if name == "true" || name == "false" => {
                literal(Literal::Bool(name == "true"))?
            }
            // The grammar lets a few keywords be names of elements.
            Token::Name(name)
                if operator(&Token::Name(name.clone())).is_some()
                    && !matches!(name.as_str(), "contains" | "in") =>
            {
                return Err(PathError::new(
                    position,
                    format!("something is missing before `{name}`"),
                ));
            }
            Token::Name(name) | Token::Quoted(name) => {
                steps.push(self.step(position, name)?);
                Start::Focus
            }
            token => {
                return Err(PathError::new(
                    position,
                    format!("unexpected {}", describe(&token)),
                ));
            }
        };
        loop {
            let position = self.position();
            if self.take(".") {
                let position = self.position();
                match self.next() {
                    Token::Name(name) | Token::Quoted(name) => {
                        steps.push(self.step(position, name)?);
                    }
                    token => {
                        return Err(PathError::new(
                            position,
                            format!("a name is missing before {}", describe(&token)),
                        ));
                    }
                }
            } else if self.take("[") {
                let index = self.expression(0)?;
                self.expect("]")?;
                steps.push(Step {
                    position,
                    kind: StepKind::At(index),
                });
            } else {
                break;
            }
        }
        match start {
            Start::Expr(expr) if steps.is_empty() => Ok(*expr),
            start => Self::node(position, Kind::Path(start, steps)),
        }
    }

    fn number(&mut self, position: usize, digits: &str) -> Result<Literal, PathError> {
        let decimal = || {
            Decimal::from_str_exact(digits)
                .map_err(|_| PathError::new(position, "the number has too many digits"))
        };
        let unit = match self.peek() {
            Token::Text(unit) => Some(unit.clone()),
            Token::Name(name) => super::value::calendar_unit(name).map(ToOwned::to_owned),
            _ => None,
        };
        if let Some(unit) = unit {
            self.next();
            return Ok(Literal::Quantity(decimal()?, unit));
        }
        match digits.parse() {
            Ok(integer) => Ok(Literal::Integer(integer)),
            Err(_) => Ok(Literal::Decimal(decimal()?)),
        }
    }

    /// An element or a function, after its name.
    fn step(&mut self, position: usize, name: String) -> Result<Step, PathError> {
        let step = |kind| Step { position, kind };
        if !self.take("(") {
            let sibling = format!("_{name}");
            return Ok(step(StepKind::Member(name, sibling)));
        }
        if let "ofType" | "as" | "is" = name.as_str() {
            let type_name = self.type_name(name == "is")?;
            self.expect(")")?;
            return Ok(step(if name == "is" {
                StepKind::Is(type_name)
            } else {
                StepKind::OfType(type_name)
            }));
        }
        let Some((function, least, most)) = lookup(&name) else {
            return Err(PathError::new(
                position,
                format!("unknown function `{name}`"),
            ));
        };
        let mut arguments = Vec::new();
        let total = usize::from(function == Function::Aggregate);
        self.totals += total;
        if !self.take(")") {
            loop {
                arguments.push(self.expression(0)?);
                if !self.take(",") {
                    break;
                }
            }
            self.expect(")")?;
        }
        self.totals -= total;
        if arguments.len() < least || arguments.len() > most {
            let wanted = if least == most {
                least.to_string()
            } else {
                format!("{least} to {most}")
            };
            let words = format!("`{name}` takes {wanted} arguments, not {}", arguments.len());
            return Err(PathError::new(position, words));
        }
        if let (
            Function::Matches | Function::ReplaceMatches,
            Some(Kind::Literal(Literal::Text(pattern))),
        ) = (function, arguments.first().map(|argument| &argument.kind))
        {
            let regex = pattern_of(pattern, arguments[0].position)?;
            return Ok(step(StepKind::Matches(
                Box::new(regex),
                arguments.into_iter().nth(1),
            )));
        }
        Ok(step(StepKind::Call(function, arguments)))
    }

    /// `is` may ask for a type that `System` doesn't have, as the official tests do; nothing is of it.
    fn type_name(&mut self, is: bool) -> Result<TypeName, PathError> {
        let mut position = self.position();
        let mut name = self.name()?;
        let mut space = None;
        if (name == "FHIR" || name == "System") && self.take(".") {
            position = self.position();
            space = Some(std::mem::replace(&mut name, self.name()?));
        }
        let system = || {
            Some(TypeName::System(match name.as_str() {
                "Boolean" => System::Boolean,
                "String" => System::String,
                "Integer" => System::Integer,
                "Decimal" => System::Decimal,
                "Date" => System::Date,
                "DateTime" => System::DateTime,
                "Time" => System::Time,
                "Quantity" => System::Quantity,
                _ => return None,
            }))
        };
        let fhir = || structures().find(&name).map(TypeName::Fhir);
        let found = match space.as_deref() {
            Some("FHIR") => fhir(),
            Some(_) => system().or(is.then_some(TypeName::System(System::Other))),
            None => fhir().or_else(system),
        };
        found.ok_or_else(|| PathError::new(position, format!("unknown type `{name}`")))
    }

    fn name(&mut self) -> Result<String, PathError> {
        let position = self.position();
        match self.next() {
            Token::Name(name) | Token::Quoted(name) => Ok(name),
            token => Err(PathError::new(
                position,
                format!("a type's name is missing before {}", describe(&token)),
            )),
        }
    }
}

/// A regular expression as FHIRPath reads it: found anywhere, and `.` finds line ends too.
pub(super) fn pattern_of(pattern: &str, position: usize) -> Result<Regex, PathError> {
    regex::RegexBuilder::new(pattern)
        .dot_matches_new_line(true)
        .size_limit(1 << 20)
        .build()
        .map_err(|_| PathError::new(position, "not a regular expression that can be used"))
}

/// For those who look for `where(...)` and `resolve()` in a tree.
pub(crate) const WHERE: Function = Function::Where;
pub(crate) const RESOLVE: Function = Function::Resolve;

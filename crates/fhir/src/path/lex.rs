//! Text to tokens.
use super::PathError;
use crate::date::Parts;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// A name or keyword.
    Name(String),
    /// A name in back-ticks, which is never a keyword.
    Quoted(String),
    Text(String),
    Number(String),
    Date(Parts),
    DateTime(Parts),
    Time(Parts),
    /// `%name`.
    Variable(String),
    Symbol(&'static str),
    End,
}

/// The longest expression taken, in characters: a page of text; longer ones are a mistake.
const LENGTH_MAX: usize = 10_000;

const SYMBOLS: [&str; 28] = [
    "!=", "!~", "<=", ">=", "$this", "$index", "$total", "(", ")", "[", "]", "{", "}", ".", ",",
    "+", "-", "*", "/", "|", "&", "=", "~", "<", ">", "%", "@", "$",
];

pub(super) fn tokens(text: &str) -> Result<Vec<(usize, Token)>, PathError> {
    let chars: Vec<char> = text.chars().collect();
    if chars.len() > LENGTH_MAX {
        return Err(PathError::new(
            LENGTH_MAX,
            format!("longer than {LENGTH_MAX} characters"),
        ));
    }
    let mut lexer = Lexer { chars, at: 0 };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_blank()?;
        let start = lexer.at;
        let token = lexer.token()?;
        let end = token == Token::End;
        tokens.push((start, token));
        if end {
            return Ok(tokens);
        }
    }
}

struct Lexer {
    chars: Vec<char>,
    at: usize,
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

impl Lexer {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn starts_with(&self, text: &str) -> bool {
        text.chars()
            .enumerate()
            .all(|(ahead, c)| self.peek(ahead) == Some(c))
    }

    fn take_while(&mut self, keep: impl Fn(char) -> bool) -> String {
        let taken: String = self.chars[self.at..]
            .iter()
            .copied()
            .take_while(|c| keep(*c))
            .collect();
        self.at += taken.chars().count();
        taken
    }

    fn skip_blank(&mut self) -> Result<(), PathError> {
        loop {
            self.take_while(char::is_whitespace);
            if self.starts_with("//") {
                self.take_while(|c| c != '\n' && c != '\r');
            } else if self.starts_with("/*") {
                let start = self.at;
                while !self.starts_with("*/") {
                    if self.at >= self.chars.len() {
                        return Err(PathError::new(start, "the comment doesn't end"));
                    }
                    self.at += 1;
                }
                self.at += 2;
            } else {
                return Ok(());
            }
        }
    }

    fn token(&mut self) -> Result<Token, PathError> {
        let Some(first) = self.peek(0) else {
            return Ok(Token::End);
        };
        let start = self.at;
        match first {
            '\'' | '"' => Ok(Token::Text(self.delimited(first)?)),
            '`' => Ok(Token::Quoted(self.delimited('`')?)),
            '0'..='9' => {
                let mut digits = self.take_while(|c| c.is_ascii_digit());
                if self.peek(0) == Some('.') && self.peek(1).is_some_and(|c| c.is_ascii_digit()) {
                    self.at += 1;
                    digits.push('.');
                    digits += &self.take_while(|c| c.is_ascii_digit());
                }
                if self.peek(0).is_some_and(is_name) {
                    return Err(PathError::new(self.at, "a number ends in a letter"));
                }
                Ok(Token::Number(digits))
            }
            '@' => self.temporal(),
            '%' => {
                self.at += 1;
                match self.peek(0) {
                    Some(quote @ ('`' | '\'')) => Ok(Token::Variable(self.delimited(quote)?)),
                    _ => {
                        let name = self.take_while(|c| is_name(c) || c == '-');
                        if name.is_empty() {
                            return Err(PathError::new(
                                start,
                                "a variable's name is missing after `%`",
                            ));
                        }
                        Ok(Token::Variable(name))
                    }
                }
            }
            c if c.is_ascii_alphabetic() || c == '_' => Ok(Token::Name(self.take_while(is_name))),
            _ => {
                let symbol = SYMBOLS.into_iter().find(|symbol| self.starts_with(symbol));
                match symbol {
                    Some("$" | "%" | "@") | None => Err(PathError::new(
                        start,
                        format!("unexpected character {first:?}"),
                    )),
                    Some(symbol) => {
                        self.at += symbol.len();
                        Ok(Token::Symbol(symbol))
                    }
                }
            }
        }
    }

    fn delimited(&mut self, quote: char) -> Result<String, PathError> {
        let start = self.at;
        let open = || PathError::new(start, format!("the text doesn't end with {quote}"));
        let mut text = String::new();
        self.at += 1;
        loop {
            let c = self.peek(0).ok_or_else(open)?;
            self.at += 1;
            if c == quote {
                return Ok(text);
            }
            if c != '\\' {
                text.push(c);
                continue;
            }
            let escape = self.peek(0).ok_or_else(open)?;
            self.at += 1;
            text.push(match escape {
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'f' => '\u{c}',
                '\\' | '/' | '\'' | '"' | '`' => escape,
                'u' => {
                    let digits: String = self.chars[self.at..].iter().take(4).collect();
                    let code = u32::from_str_radix(&digits, 16)
                        .ok()
                        .filter(|_| digits.len() == 4)
                        .and_then(char::from_u32);
                    let code = code.ok_or_else(|| {
                        PathError::new(
                            self.at,
                            "`\\u` wants four hexadecimal digits of a character",
                        )
                    })?;
                    self.at += 4;
                    code
                }
                _ => {
                    return Err(PathError::new(
                        self.at - 1,
                        format!("unknown escape `\\{escape}`"),
                    ));
                }
            });
        }
    }

    fn temporal(&mut self) -> Result<Token, PathError> {
        let start = self.at;
        self.at += 1;
        let mut text =
            self.take_while(|c| c.is_ascii_digit() || matches!(c, '-' | ':' | 'T' | 'Z' | '+'));
        if self.peek(0) == Some('.')
            && text.contains(':')
            && self.peek(1).is_some_and(|c| c.is_ascii_digit())
        {
            self.at += 1;
            text.push('.');
            text += &self.take_while(|c| c.is_ascii_digit() || matches!(c, ':' | 'Z' | '+' | '-'));
        }
        let token = match text.strip_prefix('T') {
            Some(time) => Parts::parse_time(time).map(Token::Time),
            // `2015T` is a date-time that says no more than the year.
            None => match text.strip_suffix('T') {
                Some(date) => Parts::parse(date)
                    .filter(|parts| !parts.has_time())
                    .map(Token::DateTime),
                None => Parts::parse(&text).map(|parts| {
                    if parts.has_time() {
                        Token::DateTime(parts)
                    } else {
                        Token::Date(parts)
                    }
                }),
            },
        };
        token.ok_or_else(|| PathError::new(start, "no date or time"))
    }
}

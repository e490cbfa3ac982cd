//! Which key a flag or a variable means, and where its value stands in the file.

use serde::Deserialize as _;

use super::{KEYS, Key, Settings, ValueKind};

impl Key {
    /// The name in the file that a flag gives, if it is one of this key.
    pub(super) fn named(&self, flag: &str) -> Option<String> {
        let Some((before, after)) = self.name.split_once('*') else {
            return (flag == self.name).then(|| flag.to_owned());
        };
        let label = flag.strip_prefix(before)?.strip_suffix(after)?;
        is_label(label).then(|| flag.to_owned())
    }
    /// The name in the file that an environment variable stands for, if it is one of this key.
    pub(super) fn named_by_environment(&self, variable: &str) -> Option<String> {
        let own = self.environment_name();
        let Some((before, after)) = own.split_once('*') else {
            return (variable == own).then(|| self.name.to_owned());
        };
        let label = variable.strip_prefix(before)?.strip_suffix(after)?;
        let label = (label == label.to_uppercase()).then(|| label.to_lowercase())?;
        is_label(&label).then(|| self.name.replace('*', &label))
    }
}

/// Whether a table of which there may be several can have this name: without anything that an environment
/// variable's name would lose.
pub(super) fn is_label(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=32).contains(&text.len()) && text.bytes().all(is_plain)
}

/// The key that a name is one of, and the name in the file.
pub(super) fn found(
    named: impl Fn(&Key) -> Option<String>,
) -> Result<(&'static Key, String), String> {
    KEYS.iter()
        .find_map(|key| Some((key, named(key)?)))
        .ok_or_else(|| "no such configuration key".to_owned())
}

/// Puts a value where its key says, if it is one that the key takes.
pub(super) fn put(
    table: &mut toml::Table,
    key: &Key,
    name: &str,
    text: &str,
) -> Result<(), String> {
    // By itself first, so that a value that can't be is told with where it came from.
    let mut alone = toml::Table::new();
    place(&mut alone, key, name, text)?;
    Settings::deserialize(alone).map_err(|error| error.message().to_owned())?;
    place(table, key, name, text)
}

fn place(table: &mut toml::Table, key: &Key, name: &str, text: &str) -> Result<(), String> {
    let value = match key.kind {
        ValueKind::Text => toml::Value::String(text.to_owned()),
        ValueKind::Integer => toml::Value::Integer(
            text.parse()
                .map_err(|_| "takes a whole number".to_owned())?,
        ),
        ValueKind::Fraction => {
            toml::Value::Float(text.parse().map_err(|_| "takes a number".to_owned())?)
        }
        ValueKind::Flag => {
            toml::Value::Boolean(text.parse().map_err(|_| "takes true or false".to_owned())?)
        }
    };
    let mut parts: Vec<&str> = name.split('.').collect();
    let last = parts.pop().unwrap_or_default();
    let mut table = table;
    for section in parts {
        table = table
            .entry(section)
            .or_insert_with(|| toml::Value::Table(toml::Table::new()))
            .as_table_mut()
            .ok_or_else(|| format!("{section} is not a table in the file"))?;
    }
    table.insert(last.to_owned(), value);
    Ok(())
}

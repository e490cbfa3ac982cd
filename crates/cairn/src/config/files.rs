//! Letters and telephone calls, which go to partners as files.

use std::path::PathBuf;

use exchange::{CallOptions, FileOptions, FileWay, LetterDelivered, LetterOptions, Price};
use jiff::civil::Time;
use jiff::tz::TimeZone;
use serde::Deserialize;
use trust::consent::time_of_day;

use super::Settings;

/// Letters, in batches for the partner who prints and posts them.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LetterSettings {
    /// Where batches are handed over; without it no letter is delivered, and they wait in the outbox.
    pub folder: Option<PathBuf>,
    /// Where the partner tells what became of them.
    pub returns: Option<PathBuf>,
    /// The partner's public key (`age1…`), by which files are sealed.
    pub recipient: Option<String>,
    /// Times of day at which a batch is closed, separated by spaces.
    pub closes: String,
    /// The time zone of those, and of the day on a letter.
    pub zone: String,
    /// The most letters of a batch; as many don't wait for its time.
    pub size: usize,
    /// The most letters on a day; 0 for as many as there are.
    pub per_day: u32,
    /// What a letter costs; with `currency`.
    pub price: Option<String>,
    /// The currency of that.
    pub currency: Option<String>,
    /// Who writes, in one line over the address; the organisation's name if not given.
    pub sender: Option<String>,
    /// Words at the foot, before the portal's address.
    pub foot: String,
    /// The country that letters are posted in (ISO 3166-1, two letters), which isn't written on those that stay in it.
    pub country: Option<String>,
    /// The class of postage, as the partner calls it.
    pub class: String,
    /// That of what is important or clinical; `class` if not given.
    pub pressing_class: Option<String>,
    /// What has to be known of a letter before it counts as delivered.
    pub delivered_when: LetterDelivered,
    /// A font file (TrueType or OpenType) in the place of the built-in one.
    pub font: Option<PathBuf>,
}

/// Telephone calls, in lists for the partner who makes them.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CallSettings {
    /// Where lists are handed over; without it nobody is called, and calls wait in the outbox.
    pub folder: Option<PathBuf>,
    /// Where the partner tells what became of them.
    pub returns: Option<PathBuf>,
    /// The partner's public key (`age1…`), by which files are sealed.
    pub recipient: Option<String>,
    /// Times of day at which a list is closed, separated by spaces.
    pub closes: String,
    /// The time zone of those, and of patients of whom none is known.
    pub zone: String,
    /// The most calls of a list; as many don't wait for its time.
    pub size: usize,
    /// The most calls on a day; 0 for as many as there are.
    pub per_day: u32,
    /// What a call costs; with `currency`.
    pub price: Option<String>,
    /// The currency of that.
    pub currency: Option<String>,
    /// From when on patients are called, by their own clock.
    pub from: String,
    /// Until when.
    pub until: String,
    /// How often somebody is called who doesn't answer.
    pub tries: u32,
}

/// What stands at the foot of a letter, before the portal's address.
pub(super) const FOOT: &str = "You can read this in the portal too:";

impl Default for LetterSettings {
    fn default() -> Self {
        Self {
            folder: None,
            returns: None,
            recipient: None,
            closes: "16:00".to_owned(),
            zone: "UTC".to_owned(),
            size: 500,
            per_day: 0,
            price: None,
            currency: None,
            sender: None,
            foot: FOOT.to_owned(),
            country: None,
            class: "standard".to_owned(),
            pressing_class: None,
            delivered_when: LetterDelivered::default(),
            font: None,
        }
    }
}

impl Default for CallSettings {
    fn default() -> Self {
        Self {
            folder: None,
            returns: None,
            recipient: None,
            closes: "08:00 13:00".to_owned(),
            zone: "UTC".to_owned(),
            size: 500,
            per_day: 0,
            price: None,
            currency: None,
            from: "09:00".to_owned(),
            until: "20:00".to_owned(),
            tries: 3,
        }
    }
}

/// What both have.
struct Both<'a> {
    section: &'a str,
    folder: Option<&'a PathBuf>,
    returns: Option<&'a PathBuf>,
    recipient: Option<&'a String>,
    closes: &'a str,
    zone: &'a str,
    size: usize,
    per_day: u32,
    price: (Option<&'a String>, Option<&'a String>),
}

impl Both<'_> {
    fn options(&self, way: FileWay) -> Result<Option<FileOptions>, String> {
        let section = self.section;
        let Some(folder) = self.folder else {
            return Ok(None);
        };
        let (Some(returns), Some(recipient)) = (self.returns, self.recipient) else {
            return Err(format!(
                "{section}.folder needs {section}.returns, where the partner tells what became of them, and {section}.recipient, the key that files are sealed for"
            ));
        };
        let times: Result<Vec<Time>, String> =
            self.closes.split_whitespace().map(time_of_day).collect();
        let price = match self.price {
            (None, None) => None,
            (Some(amount), Some(currency)) => {
                let price = Price::parse(amount, currency);
                Some(price.ok_or_else(|| {
                    format!(
                        "{section}.price is an amount like 0.85, and {section}.currency a code of a currency like EUR"
                    )
                })?)
            }
            _ => {
                return Err(format!(
                    "{section}.price and {section}.currency go together"
                ));
            }
        };
        Ok(Some(FileOptions {
            way,
            folder: folder.clone(),
            returns: returns.clone(),
            recipient: recipient.clone(),
            closes: times.map_err(|words| format!("{section}.closes: {words}"))?,
            zone: TimeZone::get(self.zone)
                .map_err(|_| format!("{section}.zone: {:?} is no time zone", self.zone))?,
            size: self.size,
            per_day: (self.per_day > 0).then_some(self.per_day),
            price,
            portal_base: String::new(),
        }))
    }
}

impl LetterSettings {
    /// What hands letters over is told; nothing where there are none. Portal and sender are each house's own.
    pub(super) fn options(&self) -> Result<Option<FileOptions>, String> {
        let both = Both {
            section: "letters",
            folder: self.folder.as_ref(),
            returns: self.returns.as_ref(),
            recipient: self.recipient.as_ref(),
            closes: &self.closes,
            zone: &self.zone,
            size: self.size,
            per_day: self.per_day,
            price: (self.price.as_ref(), self.currency.as_ref()),
        };
        let country = self.country.as_ref().map(|country| country.to_uppercase());
        if country.as_ref().is_some_and(|country| country.len() != 2) {
            return Err("letters.country is two letters of ISO 3166-1, e.g. US".to_owned());
        }
        both.options(FileWay::Letters(LetterOptions {
            sender: self.sender.clone().unwrap_or_default(),
            foot: self.foot.clone(),
            country,
            class: self.class.clone(),
            pressing_class: self
                .pressing_class
                .clone()
                .unwrap_or_else(|| self.class.clone()),
            delivered_when: self.delivered_when,
            font: self.font.clone(),
        }))
    }
}

impl CallSettings {
    /// What hands calls over is told; nothing where there are none. The portal is each house's own.
    pub(super) fn options(&self) -> Result<Option<FileOptions>, String> {
        let both = Both {
            section: "calls",
            folder: self.folder.as_ref(),
            returns: self.returns.as_ref(),
            recipient: self.recipient.as_ref(),
            closes: &self.closes,
            zone: &self.zone,
            size: self.size,
            per_day: self.per_day,
            price: (self.price.as_ref(), self.currency.as_ref()),
        };
        let time = |name: &str, text: &str| {
            time_of_day(text).map_err(|words| format!("calls.{name}: {words}"))
        };
        both.options(FileWay::Calls(CallOptions {
            from: time("from", &self.from)?,
            until: time("until", &self.until)?,
            tries: self.tries,
        }))
    }
}

impl Settings {
    /// What hands letters and telephone calls over is told, of each that there is.
    ///
    /// # Errors
    /// In words, when something of it can't be.
    pub fn files(&self) -> Result<Vec<FileOptions>, String> {
        let all = [self.letters.options()?, self.calls.options()?];
        let all: Vec<FileOptions> = all.into_iter().flatten().collect();
        // Whoever reads a list of receipts puts it aside, so nobody else finds theirs in it, nor what goes out.
        let real = |path: &PathBuf| path.canonicalize().unwrap_or_else(|_| path.clone());
        for (at, one) in all.iter().enumerate() {
            let returns = real(&one.returns);
            let mut others = all.iter().skip(at + 1);
            if others.any(|other| real(&other.returns) == returns)
                || all.iter().any(|other| real(&other.folder) == returns)
            {
                return Err(
                    "letters.returns and calls.returns need a folder each, in which nothing else is handed over"
                        .to_owned(),
                );
            }
        }
        Ok(all)
    }
}

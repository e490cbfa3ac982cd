//! Emergency access.

use serde::Deserialize;

/// How long emergency access to a record lasts, how soon each is looked into, and who is told of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EmergencySettings {
    /// It ends after this long at the latest, seconds.
    pub access_s: u64,
    /// A privacy officer has looked into it after this long, seconds.
    pub review_s: u64,
    /// Addresses that are told of each by e-mail, separated by spaces.
    pub alert_to: String,
}

impl EmergencySettings {
    /// No emergency lasts longer than a day, and no review needs longer than a month.
    pub(super) const ACCESS_S: std::ops::RangeInclusive<u64> = 60..=86_400;
    pub(super) const REVIEW_S: std::ops::RangeInclusive<u64> = 3_600..=2_592_000;

    /// The addresses of a list.
    ///
    /// # Errors
    /// In words, when one is none, or there are too many.
    pub(crate) fn addresses(list: &str) -> Result<Vec<String>, String> {
        let addresses: Vec<String> = list.split_whitespace().map(str::to_owned).collect();
        if let Some(wrong) = addresses.iter().find(|one| !exchange::is_address(one)) {
            return Err(format!(
                "emergency alerts: `{wrong}` is no e-mail address (they are separated by spaces)"
            ));
        }
        if addresses.len() > trust::identity::ALERTED_MAX {
            let most = trust::identity::ALERTED_MAX;
            return Err(format!(
                "emergency alerts: at most {most} addresses are told"
            ));
        }
        Ok(addresses)
    }
}

impl Default for EmergencySettings {
    fn default() -> Self {
        Self {
            access_s: trust::identity::EMERGENCY_S,
            review_s: trust::identity::EMERGENCY_REVIEW_S,
            alert_to: String::new(),
        }
    }
}

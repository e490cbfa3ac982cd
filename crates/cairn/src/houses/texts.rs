//! Text messages of one tenant: what sends them, where a provider tells what became of them, and what of them is the
//! tenant's own.

use std::sync::Arc;

use exchange::{SmsDeliverer, SmsDoor, SmsOptions};
use ledger::TenantId;
use trust::sms::Country;
use trust::{TextRules, Trust};

use super::ServerError;
use super::own::Own;

/// What sends text messages, and where a provider tells something of them.
pub(super) type Texts = (SmsDeliverer, Arc<SmsDoor>);

/// Says what of text messages is a tenant's own, and makes what sends them, where a provider is configured. Without one,
/// what is put on its way here waits for a server that has one, and numbers are read here as they are there: `country` is
/// that of numbers without one.
pub(super) fn open(
    (trust, tenant): (&Trust, TenantId),
    (options, country): (Option<&SmsOptions>, Option<&str>),
    own: &Own,
    base_url: &str,
) -> Result<Option<Texts>, ServerError> {
    let country = own.sms_country.as_deref().or(country);
    let country = country.or_else(|| options?.country.as_deref());
    let sms = options.map(|options| {
        let mut sms = options.clone();
        base_url.clone_into(&mut sms.portal_base);
        base_url.clone_into(&mut sms.callback_base);
        if let Some(from) = &own.sms_from {
            sms.provider.from.clone_from(from);
        }
        sms.country = country.map(str::to_owned);
        sms
    });
    let country = match country {
        Some(country) => Some(Country::parse(country).ok_or_else(|| {
            ServerError::Sms(format!(
                "{country:?} is no country (two letters of ISO 3166-1, e.g. US)"
            ))
        })?),
        None => None,
    };
    let from = sms.as_ref().map(|sms| sms.provider.from.clone());
    // What is sent to a number is brought to one address, which is one organisation's.
    let is_own = options.is_some_and(|options| {
        let own = own.sms_from.as_ref();
        own.map_or(tenant == crate::store::TENANT, |own| {
            *own != options.provider.from
        })
    });
    trust.vault().set_texts(TextRules {
        country,
        replies: is_own,
        // A messaging service has no number of its own.
        from: from.filter(|from| !from.starts_with("MG")),
    });
    let Some(sms) = sms else {
        return Ok(None);
    };
    warn_of_parts(trust);
    let door = SmsDoor::new(trust.clone(), tenant, &sms).map_err(ServerError::Sms)?;
    let deliverer = SmsDeliverer::new(trust.clone(), sms).map_err(ServerError::Sms)?;
    Ok(Some((deliverer, Arc::new(door))))
}

/// A folder of policies from before there were text messages doesn't know the parts that send them, or one that was
/// mended by half knows one of them: they wait then, until the policies say otherwise.
fn warn_of_parts(trust: &Trust) {
    for part in exchange::unready_parts(trust) {
        tracing::warn!(
            part,
            "policy_folder does not let this part do its work, so text messages wait: take its policies over from the built-in parts.cedar (`cairn policy init` writes it)"
        );
    }
}

#[cfg(test)]
mod tests {
    use exchange::unready_parts;

    use super::*;

    fn trust(folder: &std::path::Path, policies: Option<std::path::PathBuf>) -> Trust {
        let ledger = ledger::Ledger::open(ledger::OpenOptions {
            location: ledger::Location::Folder(folder.to_owned()),
            root_key: ledger::RootKey::from_bytes([7; 32]),
            clock: Arc::new(ledger::SystemClock),
            entropy: Arc::new(ledger::SystemEntropy),
            dictionary: Vec::new(),
            cache_bytes: 1 << 20,
        })
        .expect("a ledger");
        Trust::new(trust::TrustOptions {
            ledger,
            wall_clock: Arc::new(ledger::SystemClock),
            policy_folder: policies,
            session_idle_s: 900,
            session_absolute_s: 43_200,
        })
        .expect("trust")
    }

    #[tokio::test]
    async fn policies_of_before_are_told_of_and_not_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let built_in = trust(&folder.path().join("one"), None);
        assert_eq!(unready_parts(&built_in), [""; 0]);
        // As a folder was before there were text messages.
        let policies = folder.path().join("policies");
        std::fs::create_dir(&policies).expect("a folder");
        for (name, text) in trust::PolicySet::built_in_files() {
            let mut text = text.to_owned();
            if name == "parts.cedar" {
                let policies = text
                    .split("@id(")
                    .filter(|policy| !policy.contains("Part::\"sms-"));
                text = policies.collect::<Vec<_>>().join("@id(");
            }
            if name != "parts.test.toml" {
                std::fs::write(policies.join(name), text).expect("written");
            }
        }
        let before = trust(&folder.path().join("two"), Some(policies));
        assert_eq!(unready_parts(&before), ["sms-deliverer", "sms-receiver"]);
        let options = SmsOptions {
            provider: exchange::TwilioOptions {
                base: "https://api.example".to_owned(),
                account: "AC1".to_owned(),
                token: "token".to_owned(),
                old_token: None,
                from: "+16175550100".to_owned(),
                timeout_ms: 1_000,
            },
            country: Some("US".to_owned()),
            portal_base: String::new(),
            callback_base: String::new(),
            parallel: 1,
            per_second: 1,
            price: None,
            delivered_when: exchange::DeliveredWhen::default(),
            magic_links: true,
            help: String::new(),
        };
        let own = Own::default();
        let place = (&before, TenantId(1));
        let opened = open(place, (Some(&options), None), &own, "https://care.example");
        assert!(opened.is_ok_and(|texts| texts.is_some()));
        // A tenant's own file says of which country its numbers are.
        let own = Own {
            sms_country: Some("Utopia".to_owned()),
            ..Own::default()
        };
        let place = (&built_in, TenantId(1));
        assert!(open(place, (Some(&options), None), &own, "https://care.example").is_err());
        let own = Own {
            sms_country: Some("DE".to_owned()),
            ..Own::default()
        };
        let opened = open(place, (Some(&options), None), &own, "https://care.example");
        assert!(opened.is_ok());
        let country = built_in.vault().texts().country;
        assert_eq!(country, Country::parse("DE"));
    }

    /// What is put on its way by a server without a provider waits for one that has it, and is for the same numbers.
    #[tokio::test]
    async fn numbers_are_of_the_same_country_without_a_provider() {
        let folder = tempfile::tempdir().expect("a folder");
        let ours = trust(&folder.path().join("one"), None);
        let opened = open(
            (&ours, TenantId(1)),
            (None, Some("US")),
            &Own::default(),
            "https://care.example",
        );
        assert!(opened.is_ok_and(|texts| texts.is_none()));
        assert_eq!(ours.vault().texts().country, Country::parse("US"));
        let own = Own {
            sms_country: Some("DE".to_owned()),
            ..Own::default()
        };
        let theirs = trust(&folder.path().join("two"), None);
        let place = (&theirs, TenantId(1));
        let opened = open(place, (None, Some("US")), &own, "https://care.example");
        assert!(opened.is_ok());
        assert_eq!(theirs.vault().texts().country, Country::parse("DE"));
    }
}

//! Text messages of one tenant: what sends them, where a provider tells what became of them, and what of them is the
//! tenant's own.

use std::sync::Arc;

use exchange::{SmsDeliverer, SmsDoor, SmsOptions};
use fhir::ResourceType;
use ledger::TenantId;
use trust::sms::Country;
use trust::{Action, Purpose, Question, Role, TextRules, Trust};

use super::ServerError;
use super::own::Own;

/// What the parts have to be let do, each with one thing that it can't do its work without.
const PARTS: [(&str, Action, ResourceType); 7] = [
    ("sms-deliverer", Action::Send, ResourceType::Communication),
    ("sms-deliverer", Action::Read, ResourceType::Patient),
    ("sms-deliverer", Action::Search, ResourceType::Consent),
    ("sms-deliverer", Action::Update, ResourceType::Communication),
    ("sms-receiver", Action::Send, ResourceType::Communication),
    ("sms-receiver", Action::Read, ResourceType::Communication),
    ("sms-receiver", Action::Update, ResourceType::Communication),
];

/// What sends text messages, and where a provider tells something of them.
pub(super) type Texts = (SmsDeliverer, Arc<SmsDoor>);

/// Says what of text messages is a tenant's own, and makes what sends them, where a provider is configured.
pub(super) fn open(
    (trust, tenant): (&Trust, TenantId),
    options: Option<&SmsOptions>,
    own: &Own,
    base_url: &str,
) -> Result<Option<Texts>, ServerError> {
    let sms = options.map(|options| {
        let mut sms = options.clone();
        base_url.clone_into(&mut sms.portal_base);
        base_url.clone_into(&mut sms.callback_base);
        if let Some(from) = &own.sms_from {
            sms.provider.from.clone_from(from);
        }
        if let Some(country) = &own.sms_country {
            sms.country = Some(country.clone());
        }
        sms
    });
    let country = match sms.as_ref().and_then(|sms| sms.country.as_deref()) {
        Some(country) => Some(Country::parse(country).ok_or_else(|| {
            ServerError::Sms(format!(
                "{country:?} is no country (two letters of ISO 3166-1, e.g. US)"
            ))
        })?),
        None => None,
    };
    let from = sms.as_ref().map(|sms| sms.provider.from.clone());
    trust.vault().set_texts(TextRules {
        country,
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

/// A folder of policies from before there were text messages doesn't know the parts that send them: they wait then, and
/// what a provider tells is refused, until the policies say otherwise.
fn warn_of_parts(trust: &Trust) {
    for part in missing(trust) {
        tracing::warn!(
            part,
            "policy_folder does not let this part do its work, so text messages wait, or what becomes of them is not heard: take its policies over from the built-in parts.cedar (`cairn policy init` writes it)"
        );
    }
}

/// The parts that policies don't let do their work.
fn missing(trust: &Trust) -> Vec<&'static str> {
    let set = trust.policy_set();
    let mut found = Vec::new();
    for (part, action, kind) in PARTS {
        let question = Question {
            role: Role::System,
            part: Some(part.to_owned()),
            purpose: if part == "sms-receiver" {
                Purpose::Operations
            } else {
                Purpose::Treatment
            },
            action,
            kind: Some(kind),
            own: false,
            around: trust.usual_around(),
        };
        if !set.why(&question).permitted && !found.contains(&part) {
            found.push(part);
        }
    }
    found
}

#[cfg(test)]
mod tests {
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
        assert_eq!(missing(&built_in), [""; 0]);
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
        assert_eq!(missing(&before), ["sms-deliverer", "sms-receiver"]);
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
        let opened = open(place, Some(&options), &own, "https://care.example");
        assert!(opened.is_ok_and(|texts| texts.is_some()));
        // A tenant's own file says of which country its numbers are.
        let own = Own {
            sms_country: Some("Utopia".to_owned()),
            ..Own::default()
        };
        let place = (&built_in, TenantId(1));
        assert!(open(place, Some(&options), &own, "https://care.example").is_err());
        let own = Own {
            sms_country: Some("DE".to_owned()),
            ..Own::default()
        };
        let opened = open(place, Some(&options), &own, "https://care.example");
        assert!(opened.is_ok());
        let country = built_in.vault().texts().country;
        assert_eq!(country, Country::parse("DE"));
    }
}

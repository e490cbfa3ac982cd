//! Text messages of one tenant: what sends them, where a provider tells what became of them, and what of them is the
//! tenant's own.

use std::sync::Arc;

use exchange::{Deliverer, SmsDoor, SmsOptions, SmsProvider};
use ledger::{Tenant, TenantId};
use trust::sms::{Country, Number};
use trust::{TextRules, Trust};

use super::ServerError;
use super::own::Own;
use crate::config::secret;

/// What sends text messages, and where a provider tells something of them.
pub(super) type Texts = (Deliverer, Arc<SmsDoor>);

/// What a tenant's text messages go by. What comes by a session of SMPP doesn't say which of several organisations it is
/// for, so each that has hosts has an account of its own in its file. Without one its messages wait.
pub(super) fn account(
    options: Option<&SmsOptions>,
    entry: &Tenant,
    own: &Own,
) -> Result<Option<SmsOptions>, ServerError> {
    let Some(options) = options else {
        return Ok(None);
    };
    let mut options = options.clone();
    let of_own = (own.smpp_system_id.as_ref(), own.smpp_password_file.as_ref());
    match (&mut options.provider, of_own) {
        (SmsProvider::Http(_), (None, None)) => {}
        (SmsProvider::Smpp(_), (Some(_), Some(_))) if own.sms_from.is_none() => {
            return Err(ServerError::Sms(
                "smpp_system_id needs sms_from: an account sends from a number of its own"
                    .to_owned(),
            ));
        }
        (SmsProvider::Smpp(provider), (Some(system_id), Some(path))) => {
            system_id.clone_into(&mut provider.system_id);
            let password = secret("smpp_password_file", path);
            provider.password = password.map_err(|error| ServerError::Sms(error.to_string()))?;
        }
        (SmsProvider::Smpp(_), (None, None)) if entry.hosts.is_empty() => {}
        (SmsProvider::Smpp(_), (None, None)) => {
            tracing::warn!(
                tenant = entry.name,
                "this tenant has no account of its own for text messages by SMPP (smpp_system_id in its file), so they wait"
            );
            return Ok(None);
        }
        (SmsProvider::Smpp(_), _) => {
            return Err(ServerError::Sms(
                "smpp_system_id and smpp_password_file go together".to_owned(),
            ));
        }
        (SmsProvider::Http(_), _) => {
            return Err(ServerError::Sms(
                "smpp_system_id and smpp_password_file go together with sms.provider = \"smpp\""
                    .to_owned(),
            ));
        }
    }
    Ok(Some(options))
}

/// A session: host, port, and who one is there.
pub(super) type Session = (String, u16, String);

/// The session that text messages go by, where it is one.
pub(super) fn of_session(options: &SmsOptions) -> Option<Session> {
    match &options.provider {
        SmsProvider::Http(_) => None,
        SmsProvider::Smpp(smpp) => Some((
            smpp.host.to_ascii_lowercase(),
            smpp.port,
            smpp.system_id.clone(),
        )),
    }
}

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
            sms.provider.set_from(from);
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
    let from = sms.as_ref().map(|sms| sms.provider.from().to_owned());
    // A messaging service has no number of its own, and a name is none.
    let is_number = |from: &String| {
        let digits = from.strip_prefix('+').unwrap_or(from);
        digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    // What is sent to a number is brought to one address, which is one organisation's; by a session it is brought to whose
    // account that is. A name can't be replied to.
    let is_own = options.is_some_and(|options| match &options.provider {
        SmsProvider::Http(provider) => match &own.sms_from {
            Some(own) => !is_same_number((own, country), (&provider.from, country)),
            None => tenant == crate::store::TENANT,
        },
        SmsProvider::Smpp(_) => true,
    });
    let is_answered = from
        .as_ref()
        .is_some_and(|from| is_number(from) || from.starts_with("MG"));
    trust.vault().set_texts(TextRules {
        country,
        from: from.filter(is_number),
        replies: is_own && is_answered,
    });
    let Some(sms) = sms else {
        return Ok(None);
    };
    warn_of_parts(trust, matches!(sms.provider, SmsProvider::Smpp(_)));
    let door = SmsDoor::new(trust.clone(), tenant, &sms).map_err(ServerError::Sms)?;
    let door = Arc::new(door);
    let deliverer = Deliverer::sms(trust.clone(), Arc::clone(&door), sms);
    Ok(Some((deliverer.map_err(ServerError::Sms)?, door)))
}

/// Whether two senders are one number, however each is written: as replies are told apart by.
pub(super) fn is_same_number(
    (one, country): (&str, Option<Country>),
    (other, others): (&str, Option<Country>),
) -> bool {
    let is_name = |from: &str| from.contains(char::is_alphabetic);
    if is_name(one) || is_name(other) {
        return one == other;
    }
    let digits = |from: &str| -> String { from.chars().filter(char::is_ascii_digit).collect() };
    let number = |from, country| Number::parse(from, country);
    digits(one) == digits(other)
        || number(one, country).is_some_and(|one| Some(one) == number(other, others))
}

/// A folder of policies from before there were text messages doesn't know the parts that send them, or one that was
/// mended by half knows one of them: they wait then, until the policies say otherwise.
fn warn_of_parts(trust: &Trust, is_session: bool) {
    for part in exchange::unready_parts(trust, is_session) {
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

    fn sending_from(from: &str) -> SmsOptions {
        SmsOptions {
            provider: SmsProvider::Http(exchange::TwilioOptions {
                base: "https://api.example".to_owned(),
                account: "AC1".to_owned(),
                token: "token".to_owned(),
                old_token: None,
                from: from.to_owned(),
                timeout_ms: 1_000,
            }),
            country: Some("US".to_owned()),
            portal_base: String::new(),
            callback_base: String::new(),
            parallel: 1,
            per_second: 1,
            price: None,
            delivered_when: exchange::DeliveredWhen::default(),
            magic_links: true,
            help: String::new(),
        }
    }

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
        for is_session in [false, true] {
            assert_eq!(unready_parts(&built_in, is_session), [""; 0]);
        }
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
        assert_eq!(
            unready_parts(&before, false),
            ["sms-deliverer", "sms-receiver"]
        );
        // One that lets the receiver read the message that an address names, and look for none: enough by HTTP.
        for (name, text) in trust::PolicySet::built_in_files() {
            if name == "parts.cedar" {
                let of_receiver = r#"principal in Part::"sms-receiver",
  action in Action::"look""#;
                assert!(text.contains(of_receiver), "{text}");
                let reads = of_receiver.replace(r#"in Action::"look""#, r#"== Action::"read""#);
                let text = text.replace(of_receiver, &reads);
                std::fs::write(folder.path().join("policies").join(name), text).expect("written");
            }
        }
        let by_http = trust(
            &folder.path().join("three"),
            Some(folder.path().join("policies")),
        );
        assert_eq!(unready_parts(&by_http, false), [""; 0]);
        assert_eq!(unready_parts(&by_http, true), ["sms-receiver"]);
        let options = sending_from("+16175550100");
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

    /// Questions that are answered by reply go out where replies come back to us, and to nobody else.
    #[tokio::test]
    async fn replies_are_heard_where_a_number_is_an_organisation_s_own() {
        let (main, other) = (crate::store::TENANT, TenantId(9));
        let shared = "+16175550100";
        for (from, own_from, tenant, expected) in [
            (shared, None, main, true),
            ("MG0123456789", None, main, true),
            // A name can't be replied to.
            ("Northbank", None, main, false),
            (shared, None, other, false),
            (shared, Some("+16175550177"), other, true),
            (shared, Some(shared), other, false),
            (shared, Some("16175550100"), other, false),
            ("617-555-0100", Some(shared), other, false),
        ] {
            let folder = tempfile::tempdir().expect("a folder");
            let trust = trust(folder.path(), None);
            let options = sending_from(from);
            let own = Own {
                sms_from: own_from.map(str::to_owned),
                ..Own::default()
            };
            let place = (&trust, tenant);
            let opened = open(place, (Some(&options), None), &own, "https://care.example");
            assert!(opened.is_ok_and(|texts| texts.is_some()));
            let texts = trust.vault().texts();
            assert_eq!(texts.replies, expected, "{from} {own_from:?}");
            assert_eq!(texts.country, Country::parse("US"));
            // Somebody else here sends from it, too.
            trust.vault().number_is_shared();
            assert!(!trust.vault().texts().replies);
        }
    }

    /// Two ways to write one number don't make two of it.
    #[test]
    fn a_number_is_known_however_it_is_written() {
        let (us, de) = (Country::parse("US"), Country::parse("DE"));
        for (one, other, expected) in [
            (("+16175550100", us), ("16175550100", us), true),
            (("+16175550100", us), ("(617) 555-0100", us), true),
            (("+16175550100", None), ("1 617 555 0100", de), true),
            (("+16175550100", us), ("6175550100", de), false),
            (("+16175550100", us), ("+16175550101", us), false),
            (("MG01", us), ("MG01", us), true),
            (("MG01", us), ("MG 01", us), false),
            (("Bank24", us), ("24", us), false),
        ] {
            assert_eq!(is_same_number(one, other), expected, "{one:?} {other:?}");
        }
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

    /// What comes by a session doesn't say whose it is, so an organisation among several has its own or none.
    #[test]
    fn an_organisation_among_several_has_an_account_of_its_own_by_smpp() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("password");
        std::fs::write(&path, "theirs\n").expect("written");
        let options = |provider| SmsOptions {
            provider,
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
        let smpp = options(SmsProvider::Smpp(exchange::SmppOptions {
            host: "smpp.example".to_owned(),
            port: 3550,
            tls: true,
            ca_file: None,
            system_id: "ours".to_owned(),
            password: "ours".to_owned(),
            system_type: String::new(),
            from: "+16175550100".to_owned(),
            message_ids: exchange::MessageIds::Same,
            window: 1,
            enquire_ms: 1,
            timeout_ms: 1,
        }));
        let http = options(SmsProvider::Http(exchange::TwilioOptions {
            base: "https://api.example".to_owned(),
            account: "AC1".to_owned(),
            token: "token".to_owned(),
            old_token: None,
            from: "+16175550100".to_owned(),
            timeout_ms: 1_000,
        }));
        let entry = |hosts: &[&str]| Tenant {
            id: TenantId(2),
            name: "north".to_owned(),
            hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
            state: ledger::TenantState::Active,
            since_ms: 0,
            quota: ledger::TenantQuota::default(),
            fingerprint: None,
        };
        let own = |system_id: bool, password: bool| Own {
            smpp_system_id: system_id.then(|| "theirs".to_owned()),
            smpp_password_file: password.then(|| path.clone()),
            sms_from: Some("+16175550177".to_owned()),
            ..Own::default()
        };
        let found = |options: &SmsOptions, hosts: &[&str], own: &Own| {
            let found =
                account(Some(options), &entry(hosts), own).map_err(|error| error.to_string());
            found.map(|found| match found?.provider {
                SmsProvider::Smpp(smpp) => Some((smpp.system_id, smpp.password)),
                SmsProvider::Http(_) => None,
            })
        };
        let known = |name: &str| Ok(Some((name.to_owned(), name.to_owned())));
        assert_eq!(found(&smpp, &[], &own(false, false)), known("ours"));
        assert_eq!(
            found(&smpp, &["north.example"], &own(false, false)),
            Ok(None)
        );
        assert_eq!(
            found(&smpp, &["north.example"], &own(true, true)),
            known("theirs")
        );
        assert!(found(&smpp, &["north.example"], &own(true, false)).is_err());
        // Otherwise its messages would come from somebody else's number.
        let nameless = Own {
            sms_from: None,
            ..own(true, true)
        };
        assert!(found(&smpp, &["north.example"], &nameless).is_err());
        assert!(found(&http, &["north.example"], &own(true, true)).is_err());
        let by_http = account(Some(&http), &entry(&["north.example"]), &own(false, false));
        assert!(by_http.is_ok_and(|found| found.is_some()));
        let session = |options: &SmsOptions, own: &Own| {
            let found = account(Some(options), &entry(&["north.example"]), own).ok()??;
            of_session(&found)
        };
        let expected = ("smpp.example".to_owned(), 3550, "theirs".to_owned());
        assert_eq!(session(&smpp, &own(true, true)), Some(expected));
        assert_eq!(session(&http, &own(false, false)), None);
        let missing = Own {
            smpp_password_file: Some(folder.path().join("nothing")),
            ..own(true, true)
        };
        assert!(found(&smpp, &["north.example"], &missing).is_err());
    }
}

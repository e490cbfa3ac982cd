//! Configuration: where values come from, and what is refused.

use std::io::Write;

use cairn::config::{KEYS, Settings};
use tempfile::NamedTempFile;

fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a file");
    file.write_all(text.as_bytes()).expect("written");
    file
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn load(
    text: &str,
    environment: &[(&str, &str)],
    flags: &[(&str, &str)],
) -> Result<Settings, String> {
    let file = file(text);
    Settings::load(
        Some(file.path()),
        pairs(environment).into_iter(),
        &pairs(flags),
    )
    .map_err(|error| error.to_string())
}

#[test]
fn flags_over_environment_over_file() {
    let text = "organisation = 'file'\n[session]\nidle_s = 1\nabsolute_s = 1\n[smtp]\nport = 1\n";
    let settings = load(
        text,
        &[
            ("CAIRN_SESSION_ABSOLUTE_S", "2"),
            ("CAIRN_SMTP_PORT", "2"),
            ("PATH", "/bin"),
            ("CAIRN_CONFIG", "x"),
        ],
        &[("smtp.port", "3")],
    )
    .expect("a configuration");
    assert_eq!(settings.organisation, "file");
    assert_eq!(
        (
            settings.session.idle_s,
            settings.session.absolute_s,
            settings.smtp.port
        ),
        (1, 2, 3)
    );
}

/// What a team of Apple's needs together.
const APNS: [(&str, &str); 4] = [
    ("apns.key_file", "x"),
    ("apns.key_id", "ABC123DEFG"),
    ("apns.team_id", "TEAM123456"),
    ("apns.topic", "example.hospital.app"),
];

/// What tells applications on telephones is said whole or not at all, and files that hold no key are told by their name
/// alone.
#[test]
fn what_tells_applications_is_read_strictly() {
    let but = |name: &str, value: &'static str| {
        let mut all = APNS.to_vec();
        all.retain(|(known, _)| *known != name);
        if !value.is_empty() {
            all.extend(
                APNS.iter()
                    .filter(|(known, _)| *known == name)
                    .map(|(known, _)| (*known, value)),
            );
        }
        all
    };
    for (flags, words) in [
        (
            but("apns.key_id", ""),
            "apns.key_file, apns.key_id, apns.team_id and apns.topic go together",
        ),
        (but("apns.topic", ""), "go together"),
        (
            but("apns.key_id", "abc"),
            "apns.key_id is ten capital letters and digits",
        ),
        (
            but("apns.team_id", "TEAM 12345"),
            "apns.team_id is ten capital letters and digits",
        ),
        (
            but("apns.topic", "a/b"),
            "apns.topic is the application's bundle id",
        ),
        (
            vec![("apns.url", "http://api.push.apple.com")],
            "apns.url: ",
        ),
        (
            vec![("fcm.url", "https://u:p@fcm.googleapis.com")],
            "fcm.url: ",
        ),
        (
            vec![("fcm.per_second", "0")],
            "fcm.per_second is at least 1",
        ),
        (
            vec![("apns.per_second", "0")],
            "apns.per_second is at least 1",
        ),
        (
            vec![("fcm.ca_file", "x")],
            "fcm.ca_file needs fcm.service_account_file",
        ),
        (
            vec![("apns.ca_file", "x")],
            "apns.ca_file needs apns.key_file",
        ),
    ] {
        let error = load("", &[], &flags).expect_err(words);
        assert!(error.contains(words), "{error}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("key");
    std::fs::write(&file, "a secret that is no key").expect("written");
    let place = file.display().to_string();
    for (setting, more) in [
        ("fcm.service_account_file", Vec::new()),
        ("apns.key_file", but("apns.key_file", "")),
    ] {
        let mut flags = more;
        flags.push((setting, place.as_str()));
        let settings = load("", &[], &flags).expect("settings");
        let error = settings.push().expect_err(setting).to_string();
        assert!(
            error.contains(&format!("{setting} {place}: it ")),
            "{error}"
        );
        assert!(!error.contains("a secret"), "{error}");
        flags.retain(|(known, _)| *known != setting);
        flags.push((setting, "/nowhere/key"));
        let settings = load("", &[], &flags).expect("settings");
        let error = settings.push().expect_err(setting).to_string();
        assert!(
            error.contains(&format!("{setting} /nowhere/key: ")),
            "{error}"
        );
    }
    // Nothing said is no notification.
    assert!(
        load("", &[], &[])
            .expect("settings")
            .push()
            .expect("read")
            .is_none()
    );
}

#[test]
fn each_key_can_be_set_by_environment_and_flag_and_stands_where_it_says() {
    let value = |key: &cairn::config::Key| match key.name {
        "identity_provider.*.issuer" => "https://login.example",
        "public_url" => "https://care.example",
        "listen" => "127.0.0.1:9",
        "root_key" => "pkcs11:token=t",
        "smtp.tls" => "implicit",
        "log.format" => "json",
        "network.*" => "10.0.0.0/8",
        "push.contact" => "mailto:it@hospital.example",
        "sms.price" | "smtp.price" | "push.price" => "0.0079",
        "sms.currency" | "smtp.currency" | "push.currency" => "USD",
        "smtp.per_second" | "push.per_second" => "7",
        "apns.key_id" => "ABC123DEFG",
        "apns.team_id" => "TEAM123456",
        "apns.topic" => "example.hospital.app",
        "letters.country" | "sms.country" => "DE",
        "sms.delivered_when" => "sent",
        "oauth.key_origins" => "https://keys.example",
        "subscriptions.origins" => "https://receiver.example",
        "http.trusted_proxies" => "10.0.0.0/8 ::1",
        "http.client_cert_proxies" => "10.1.0.0/16 10.0.0.1",
        "http.shared_addresses" => "10.0.0.2 fd00::/8",
        "http.forwarded_header" => "forwarded",
        "emergency.alert_to" => "privacy@hospital.example",
        "demographics.allocate" => "999",
        _ if !key.default.is_empty() => key.default,
        _ => "x",
    };
    // Keys that go together are set together.
    let company = |key: &cairn::config::Key| match key.name {
        "behind_tls_proxy" => vec![("public_url", "https://care.example")],
        "tls.certificate_file" => vec![("tls.private_key_file", "x")],
        "tls.private_key_file" => vec![("tls.certificate_file", "x")],
        "http.client_cert_proxies" => vec![("http.trusted_proxies", "10.0.0.0/8")],
        "oauth.client_ca_file" => vec![
            ("http.client_cert_proxies", "10.0.0.1"),
            ("http.trusted_proxies", "10.0.0.1"),
        ],
        "letters.folder" => vec![("letters.returns", "y"), ("letters.recipient", "x")],
        "calls.folder" => vec![("calls.returns", "y"), ("calls.recipient", "x")],
        "smtp.user" => vec![("smtp.password_file", "x")],
        "smtp.password_file" => vec![("smtp.user", "x")],
        "smtp.host" => vec![("smtp.from", "x")],
        "smpp.host" => vec![
            ("sms.provider", "smpp"),
            ("smpp.system_id", "x"),
            ("smpp.password_file", "x"),
            ("sms.from", "x"),
            ("public_url", "https://care.example"),
        ],
        "fcm.ca_file" => vec![("fcm.service_account_file", "x")],
        name if name.starts_with("apns.") => APNS
            .into_iter()
            .filter(|(known, _)| *known != name)
            .collect(),
        "sms.price" => vec![("sms.currency", "USD")],
        "sms.currency" => vec![("sms.price", "0.01")],
        "smtp.price" => vec![("smtp.currency", "USD")],
        "smtp.currency" => vec![("smtp.price", "0.01")],
        "push.price" => vec![("push.currency", "USD")],
        "push.currency" => vec![("push.price", "0.01")],
        "sms.old_token_file" => vec![("sms.token_file", "x")],
        "sms.account" => vec![
            ("sms.token_file", "x"),
            ("sms.from", "x"),
            ("public_url", "https://care.example"),
        ],
        "telehealth.join_url" => vec![("telehealth.partner", "x"), ("telehealth.secret_file", "x")],
        "telehealth.partner" => vec![
            ("telehealth.join_url", "x"),
            ("telehealth.secret_file", "x"),
        ],
        "telehealth.secret_file" => {
            vec![("telehealth.join_url", "x"), ("telehealth.partner", "x")]
        }
        "telehealth.audience" => vec![
            ("telehealth.join_url", "x"),
            ("telehealth.partner", "x"),
            ("telehealth.secret_file", "x"),
        ],
        "smtp.dkim_domain" => vec![("smtp.dkim_keys", "x")],
        "smtp.dkim_keys" => vec![("smtp.dkim_domain", "x")],
        "smtp.returns_to" => vec![("smtp.returns_secret_file", "x")],
        "smtp.returns_secret_file" => vec![("smtp.returns_to", "x")],
        "emergency.alert_to" => vec![("smtp.host", "x"), ("smtp.from", "x")],
        "audit.syslog_ca_file" => vec![("audit.syslog", "x:1")],
        "audit.syslog_certificate_file" => vec![
            ("audit.syslog", "x:1"),
            ("audit.syslog_private_key_file", "x"),
        ],
        "audit.syslog_private_key_file" => vec![
            ("audit.syslog", "x:1"),
            ("audit.syslog_certificate_file", "x"),
        ],
        "audit.otlp_ca_file" | "audit.otlp_headers_file" => vec![("audit.otlp", "https://x")],
        "audit.otlp_certificate_file" => vec![
            ("audit.otlp", "https://x"),
            ("audit.otlp_private_key_file", "x"),
        ],
        "audit.otlp_private_key_file" => vec![
            ("audit.otlp", "https://x"),
            ("audit.otlp_certificate_file", "x"),
        ],
        "store.password_file" | "store.ca_file" | "store.replicas" => {
            vec![("store.url", "postgres://x")]
        }
        // A provider needs these four, one way or the other.
        name if name.starts_with("identity_provider.") => {
            let proof = match name {
                "identity_provider.*.client_secret_file" => name,
                _ => "identity_provider.*.private_key_file",
            };
            let mut all = vec![
                ("identity_provider.hospital.issuer", "https://login.example"),
                ("identity_provider.hospital.name", "Hospital"),
                ("identity_provider.hospital.client_id", "cairn"),
            ];
            if proof != name {
                all.push(("identity_provider.hospital.private_key_file", "x"));
            }
            all
        }
        _ => Vec::new(),
    };
    for key in KEYS {
        // Any name will do where there can be several tables.
        let name = key.environment_name().replace('*', "HOSPITAL");
        let by_environment = load("", &[(name.as_str(), value(key))], &company(key));
        assert!(by_environment.is_ok(), "{name}: {by_environment:?}");
        let mut flags = company(key);
        let flag = key.name.replace('*', "hospital");
        flags.push((&flag, value(key)));
        let by_flag = load("", &[], &flags);
        assert!(by_flag.is_ok(), "{}: {by_flag:?}", key.name);
    }
}

#[test]
fn a_root_key_in_a_stronger_place_displaces_the_other_kind() {
    let (file, token) = (("root_key_file", "/k"), ("root_key", "pkcs11:token=t"));
    let text = |pair: (&str, &str)| format!("{} = '{}'\n", pair.0, pair.1);
    let variable = |pair: (&'static str, &'static str)| match pair.0 {
        "root_key" => ("CAIRN_ROOT_KEY", pair.1),
        _ => ("CAIRN_ROOT_KEY_FILE", pair.1),
    };
    for (weak, strong) in [(file, token), (token, file)] {
        for loaded in [
            load(&text(weak), &[], &[strong]),
            load(&text(weak), &[variable(strong)], &[]),
            load("", &[variable(weak)], &[strong]),
        ] {
            let source = loaded.expect("a configuration").root_key().expect("a key");
            assert_eq!(source.to_string(), strong.1);
        }
        let both = format!("{}{}", text(weak), text(strong));
        let error = load(&both, &[], &[]).expect_err("two root keys");
        assert!(error.contains("two root keys"), "{error}");
    }
    let error = load("", &[], &[("root_key", "/k")]).expect_err("a file");
    assert!(error.contains("root_key_file"), "{error}");
}

#[test]
fn defaults_are_what_the_list_says() {
    let defaults: Vec<(&str, &str)> = KEYS
        .iter()
        .filter(|key| !key.default.is_empty())
        .map(|key| (key.name, key.default))
        .collect();
    let listed = load("", &[], &defaults).expect("a configuration");
    let real = load("", &[], &[]).expect("a configuration");
    assert_eq!(format!("{listed:?}"), format!("{real:?}"));
}

#[test]
fn what_is_refused_and_how() {
    let file_cases = [
        ("data = 'x'\nlisten_on = 'y'\n", "line 2", "listen_on"),
        ("[smtp]\n\nhosts = 'x'\n", "line 3", "hosts"),
        ("[smtpp]\nhost = 'x'\n", "line 1", "smtpp"),
        ("[smtp]\nport = 'many'\n", "line 2", "port"),
        ("data = \n", "line 1", ""),
    ];
    for (text, line, name) in file_cases {
        let error = load(text, &[], &[]).expect_err(text);
        assert!(
            error.contains(line) && error.contains(name),
            "{text}: {error}"
        );
    }
    let environment_cases = [
        ("CAIRN_DATUM", "x", "no such"),
        ("CAIRN_SMTP_PORT", "many", "whole number"),
        ("CAIRN_SMTP_PORT", "70000", "u16"),
        ("CAIRN_LISTEN", "everywhere", "socket address"),
        ("CAIRN_LOG_FORMAT", "xml", "json"),
    ];
    for (name, value, words) in environment_cases {
        let error = load("", &[(name, value)], &[]).expect_err(name);
        assert!(error.contains(name) && error.contains(words), "{error}");
    }
    let flag_cases: &[(&[(&str, &str)], &str)] = &[
        (&[("nothing", "x")], "--set nothing"),
        (&[("behind_tls_proxy", "yes")], "true or false"),
        (&[("listen", "everywhere")], "--set listen"),
        (&[("listen", "0.0.0.0:80")], "in the clear"),
        (
            &[("listen", "0.0.0.0:80"), ("behind_tls_proxy", "true")],
            "public_url",
        ),
        (&[("tls.certificate_file", "x")], "go together"),
        (&[("smtp.user", "x")], "go together"),
        (
            &[("smpp.host", "x")],
            "goes together with sms.provider = \"smpp\"",
        ),
        (
            &[("sms.provider", "smpp"), ("smpp.host", "x")],
            "needs smpp.host, smpp.system_id, smpp.password_file and sms.from",
        ),
        (
            &[("sms.provider", "smpp"), ("sms.account", "AC1")],
            "of a provider by HTTP",
        ),
        (&[("sms.provider", "pigeon")], "pigeon"),
        (&[("smpp.window", "0")], "at least 1"),
        (&[("telehealth.partner", "x")], "go together"),
        (
            &[("telehealth.audience", "x")],
            "goes with telehealth.join_url",
        ),
        (&[("telehealth.opens_s", "86401")], "at most 86400"),
        (&[("demographics.base", "/fhir/r5")], "other routes do"),
        (&[("demographics.rules", "atlantis")], "demographics.rules"),
        (
            &[("tls.client_certificates", "true")],
            "tls.certificate_file",
        ),
        (
            &[("http.client_cert_proxies", "10.0.0.1")],
            "10.0.0.1/32 is not in http.trusted_proxies",
        ),
        (
            &[
                ("http.client_cert_proxies", "10.0.0.0/7"),
                ("http.trusted_proxies", "10.0.0.0/8"),
            ],
            "10.0.0.0/7 is not in http.trusted_proxies",
        ),
        (
            &[
                ("http.shared_addresses", "192.0.2.1 10.0.0.0/8"),
                ("http.trusted_proxies", "10.0.0.1"),
            ],
            "10.0.0.0/8 has addresses of http.trusted_proxies",
        ),
        (&[("http.shared_addresses", "::/0")], "is everybody"),
        (
            &[("oauth.client_ca_file", "x")],
            "no certificate of a client",
        ),
        (&[("audit.syslog_certificate_file", "x")], "belong together"),
        (&[("audit.syslog_ca_file", "x")], "audit.syslog is not"),
        (&[("audit.otlp_private_key_file", "x")], "belong together"),
        (&[("audit.otlp_ca_file", "x")], "audit.otlp is not"),
        (&[("audit.otlp_headers_file", "x")], "audit.otlp is not"),
        (
            &[("audit.syslog_receipt", "tcp_fin")],
            "audit.syslog_receipt is given, and audit.syslog is not",
        ),
        (
            &[("audit.syslog_receipt", "eof")],
            "`close_notify` or `tcp_fin`",
        ),
        (&[("smtp.host", "x")], "smtp.from"),
        (&[("public_url", "care.example")], "https://"),
        (&[("public_url", "https://care.example/")], "slash"),
        (
            &[
                ("public_url", "http://care.example"),
                ("tls.certificate_file", "x"),
                ("tls.private_key_file", "x"),
            ],
            "https:// where TLS is used",
        ),
        (
            &[
                ("public_url", "http://care.example"),
                ("behind_tls_proxy", "true"),
            ],
            "https:// where TLS is used",
        ),
        (&[("session.idle_s", "0")], "at least 1"),
        (&[("session.absolute_s", "0")], "at least 1"),
        (&[("limits.header_timeout_ms", "0")], "at least 1"),
        (&[("limits.body_timeout_ms", "0")], "at least 1"),
        (&[("limits.send_timeout_ms", "0")], "at least 1"),
        (&[("limits.idle_timeout_ms", "0")], "at least 1"),
        (&[("limits.connections", "0")], "from 1 to 1000000"),
        (&[("limits.client_at_once", "0")], "at least 1"),
        (&[("limits.client_connections", "0")], "at least 1"),
        (&[("http.trusted_proxies", "0.0.0.0/0")], "is everybody"),
        (&[("http.trusted_proxies", "nginx")], "is no address"),
        (&[("smtp.timeout_ms", "0")], "at least 1"),
        (&[("otlp.sample_ratio", "2")], "from 0 to 1"),
        (&[("smtp.parallel", "0")], "at least 1"),
        (&[("smtp.per_second", "0")], "smtp.per_second is at least 1"),
        (&[("push.per_second", "0")], "push.per_second is at least 1"),
        (&[("smtp.price", "0.01")], "smtp.currency"),
        (&[("smtp.currency", "USD")], "smtp.price"),
        (
            &[("push.price", "1e3"), ("push.currency", "USD")],
            "push.price",
        ),
        (
            &[("smtp.price", "0.01"), ("smtp.currency", "dollars")],
            "the code of a currency",
        ),
        (&[("time_zone", "Mars")], "time_zone: Mars is no time zone"),
        (
            &[("network.ward", "10.0.0.0/40")],
            "network.ward: 10.0.0.0/40",
        ),
        (
            &[("network.ward", "::ffff:10.0.0.0/104")],
            "write prefixes of IPv4 as such",
        ),
        (&[("network.ward", " ")], "network.ward has no address"),
        (
            &[
                ("network.ward", "10.0.0.0/8"),
                ("behind_tls_proxy", "true"),
                ("public_url", "https://care.example"),
            ],
            "come from the proxy's address",
        ),
    ];
    for (flags, words) in flag_cases {
        let error = load("", &[], flags).expect_err(words);
        assert!(error.contains(words), "{flags:?}: {error}");
    }
}

#[test]
fn secrets_come_from_files() {
    let secret = file("correct horse\n");
    let path = secret.path().display().to_string();
    let settings = load(
        "[smtp]\nhost = 'mail.example'\nfrom = 'Care <care@hospital.example>'\nuser = 'cairn'\n",
        &[("CAIRN_SMTP_PASSWORD_FILE", path.as_str())],
        &[],
    )
    .expect("a configuration");
    let mail = settings
        .mail("https://care.example")
        .expect("readable")
        .expect("mail");
    assert_eq!(
        mail.credentials,
        Some(("cairn".to_owned(), "correct horse".to_owned()))
    );
    assert_eq!(mail.message_id_domain, "hospital.example");
    assert!(!format!("{settings:?}").contains("correct horse"));
    let missing = load(
        "[smtp]\nhost='h'\nfrom='f'\nuser='u'\npassword_file='/none/x'\n",
        &[],
        &[],
    )
    .expect("a configuration");
    assert!(
        missing
            .mail("")
            .expect_err("no such file")
            .to_string()
            .contains("/none/x")
    );
}

/// A provider with one line changed, or (empty) left out.
fn with_provider(id: &str, key: &str, value: &str) -> String {
    let mut text = format!("[identity_provider.{id}]\n");
    for (name, usual) in [
        ("issuer", "https://login.example"),
        ("name", "Hospital"),
        ("client_id", "cairn"),
        ("client_secret_file", "/none/secret"),
    ] {
        let value = if name == key { value } else { usual };
        if !value.is_empty() {
            text.push_str(&format!("{name} = '{value}'\n"));
        }
    }
    text
}

#[test]
fn identity_providers_are_told_by_their_tables() {
    let long = "x".repeat(300);
    let address = format!("https://{long}.example");
    let cases: &[(&str, &str, &str, &str)] = &[
        (
            "hospital",
            "issuer",
            "",
            "identity_provider.hospital.issuer",
        ),
        (
            "hospital",
            "issuer",
            "http://login.example",
            ".issuer is an address",
        ),
        (
            "hospital",
            "issuer",
            "https://u@login.example",
            ".issuer is an address",
        ),
        (
            "hospital",
            "issuer",
            "https://login.example?x",
            ".issuer is an address",
        ),
        (
            "hospital",
            "issuer",
            "login.example",
            ".issuer is an address",
        ),
        ("hospital", "issuer", &address, ".issuer is an address"),
        ("hospital", "name", "", ".name is missing"),
        ("hospital", "name", &long, ".name is missing"),
        ("hospital", "client_id", "", ".client_id is missing"),
        ("hospital", "client_secret_file", "", "needs one of"),
        ("Hospital", "", "", "small letters and digits"),
        ("a-b", "", "", "small letters and digits"),
    ];
    for (id, key, value, words) in cases {
        let error = load(&with_provider(id, key, value), &[], &[]).expect_err(words);
        assert!(error.contains(words), "{id} {key} {value}: {error}");
    }
    let one = with_provider("one", "", "");
    let both = format!("{one}private_key_file = 'x'\n");
    let same = format!(
        "{one}{}",
        with_provider("two", "client_secret_file", "/none/other")
    );
    let shared = format!(
        "{one}{}",
        with_provider("two", "issuer", "https://other.example")
    );
    let own = with_provider("two", "issuer", "https://other.example");
    let named = format!("{one}{}", own.replace("/none/secret", "/none/other"));
    let unknown = format!("{one}secret = 'x'\n");
    for (text, words) in [
        (both, "needs one of"),
        (same, "that of another provider"),
        (shared, "each needs its own"),
        (named, "on the button of another"),
        (unknown, "secret"),
    ] {
        let error = load(&text, &[], &[]).expect_err(words);
        assert!(error.contains(words), "{error}");
    }
    for (name, words) in [
        ("CAIRN_IDENTITY_PROVIDER_ISSUER", "no such"),
        ("CAIRN_IDENTITY_PROVIDER__ISSUER", "no such"),
        ("CAIRN_IDENTITY_PROVIDER_A_B_ISSUER", "no such"),
        ("CAIRN_IDENTITY_PROVIDER_one_ISSUER", "no such"),
        ("CAIRN_IDENTITY_PROVIDER_ONE_SECRET", "no such"),
    ] {
        let error = load(&one, &[(name, "x")], &[]).expect_err(name);
        assert!(error.contains(words), "{error}");
    }
    for flag in ["identity_provider.*.issuer", "identity_provider.A.issuer"] {
        load(&one, &[], &[(flag, "x")]).expect_err(flag);
    }

    // What is stronger wins, table by table, and secrets come from files.
    let secret = file("s:cret\n");
    let path = secret.path().display().to_string();
    let settings = load(
        &one,
        &[
            (
                "CAIRN_IDENTITY_PROVIDER_ONE_CLIENT_SECRET_FILE",
                path.as_str(),
            ),
            ("CAIRN_IDENTITY_PROVIDER_ONE_AMR", "mfa  otp"),
        ],
        &[("identity_provider.one.name", "Hospital Login")],
    )
    .expect("a configuration");
    let [provider] = &settings.providers().expect("readable")[..] else {
        panic!("not one provider");
    };
    assert_eq!(
        (provider.id.as_str(), provider.name.as_str()),
        ("one", "Hospital Login")
    );
    assert_eq!(provider.amr, ["mfa", "otp"]);
    let cairn::ClientAuthentication::Secret(found) = &provider.authentication else {
        panic!("no secret");
    };
    assert_eq!(found, "s:cret");
    assert!(!format!("{settings:?}").contains("s:cret"));
    let missing = load(&one, &[], &[]).expect("a configuration").providers();
    let words = missing.err().expect("no such file").to_string();
    assert!(
        words.contains("identity_provider.one.client_secret_file /none/secret"),
        "{words}"
    );
    let key = with_provider("one", "client_secret_file", "").replace("[iden", "\n[iden");
    let key = format!("{key}private_key_file = '{path}'\n");
    let words = load(&key, &[], &[]).expect("a configuration").providers();
    let words = words.err().expect("no key").to_string();
    assert!(words.contains("is no private key in PEM"), "{words}");
}

#[test]
fn alerts_need_addresses_and_a_mail_server() {
    let smtp = "[smtp]\nhost = 'mail.example'\nfrom = 'care@hospital.example'\n";
    let with =
        |to: &str, smtp: &str| load(&format!("{smtp}[emergency]\nalert_to = '{to}'\n"), &[], &[]);
    assert!(with("a@hospital.example  b@hospital.example", smtp).is_ok());
    let many = vec!["a@hospital.example"; 21].join(" ");
    for (to, smtp, words) in [
        (
            "a@hospital.example",
            "",
            "emergency.alert_to needs smtp.host",
        ),
        (
            "a@hospital.example, b@hospital.example",
            smtp,
            "`a@hospital.example,` is no e-mail address",
        ),
        ("privacy", smtp, "`privacy` is no e-mail address"),
        (many.as_str(), smtp, "at most 20 addresses"),
    ] {
        let said = with(to, smtp).expect_err(to);
        assert!(said.contains(words), "{to}: {said}");
    }
}

#[test]
fn what_belongs_to_mail_goes_together_and_is_read_at_the_start() {
    let dkim = [("smtp.dkim_domain", "hospital.example")];
    let error = load("", &[], &dkim).expect_err("no keys");
    assert!(error.contains("smtp.dkim_keys"), "{error}");
    let returns = [("smtp.returns_to", "returns@hospital.example")];
    let error = load("", &[], &returns).expect_err("no secret");
    assert!(error.contains("smtp.returns_secret_file"), "{error}");
    let error = load("", &[], &[("smtp.returns_wait_s", "86401")]).expect_err("too long");
    assert!(error.contains("86400"), "{error}");

    let server = [
        ("smtp.host", "localhost"),
        ("smtp.from", "care@hospital.example"),
    ];
    let with = |more: &[(&str, &str)]| {
        let flags = [&server, more].concat();
        let settings = load("", &[], &flags).expect("a configuration");
        settings
            .mail("https://care.example")
            .map_err(|error| error.to_string())
    };
    let secret = file("  a secret that nobody guesses\n");
    let path = secret.path().to_str().expect("a path");
    let mail = with(&[
        ("smtp.returns_to", "r@b.example"),
        ("smtp.returns_secret_file", path),
    ]);
    let returns = mail
        .expect("options")
        .expect("mail")
        .returns
        .expect("returns");
    assert_eq!(returns.secret, "a secret that nobody guesses");
    assert_eq!(returns.wait_ms, 900_000);
    assert!(!format!("{returns:?}").contains("nobody"), "{returns:?}");
    for (keys, words) in [
        ("s1", "SELECTOR:FILE"),
        ("s1:", "SELECTOR:FILE"),
        ("s1:/no/such/key", "/no/such/key"),
        (&*format!("s1:{path}"), "PEM"),
    ] {
        let error = with(&[dkim[0], ("smtp.dkim_keys", keys)]).expect_err(keys);
        assert!(
            error.contains(words) && error.contains("smtp.dkim_keys"),
            "{error}"
        );
    }
}

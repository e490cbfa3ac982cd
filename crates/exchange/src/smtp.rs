//! One SMTP conversation (RFC 5321), and what its outcome says about the message and the server.
//!
//! The steps are taken one by one instead of through lettre's transport, because the same reply means
//! different things at different steps: "550" to our password is a fault of the configuration, to a
//! recipient it is the end of this message.

use std::future::Future;
use std::time::Duration;

use lettre::Address;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailParameter};
use lettre::transport::smtp::response::{Response, Severity};
use tokio::time::{Instant, timeout_at};

use crate::retry::Meaning;
use crate::{MailOptions, MailTls};

/// How long the polite end of a conversation may take; nothing hangs on it.
const QUIT_TIMEOUT: Duration = Duration::from_secs(1);

/// Where in the conversation something happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Connect,
    Tls,
    SignIn,
    Sender,
    Recipient,
    Data,
    Content,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// No answer in time.
    TimedOut,
    /// The connection could not be made, broke, or the other side made no sense.
    Lost,
    /// The server answered with this code. Its words are left out: they often repeat the address.
    Said(u16),
    /// The server can't do what we need of it (TLS, a way to sign in, international addresses).
    Lacks,
}

/// A conversation that did not deliver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) stage: Stage,
    pub(crate) trouble: Trouble,
}

impl Failure {
    pub(crate) fn meaning(self) -> Meaning {
        use Stage::{Connect, Content, Recipient, Sender, SignIn, Tls};
        let said = match (self.trouble, self.stage) {
            (Trouble::Said(code), _) => code,
            (Trouble::Lacks, Recipient) => return Meaning::Never,
            (Trouble::TimedOut | Trouble::Lost, Content) => return Meaning::Unknown,
            _ => return Meaning::Unreachable,
        };
        match (self.stage, said) {
            // A sender that is refused, syntax, sequence and sign-in are our fault or the configuration's, not the recipient's.
            (Connect | Tls | SignIn, _)
            | (Sender, 500..=599)
            | (_, 500..=504 | 530 | 534 | 535 | 538) => Meaning::Unreachable,
            (_, 500..=599) => Meaning::Never,
            _ => Meaning::Later,
        }
    }

    /// For the timeline and the log: no address and none of the server's words.
    pub(crate) fn words(self) -> String {
        let what = match self.stage {
            Stage::Connect => "to the connection",
            Stage::Tls => "to the request for encryption",
            Stage::SignIn => "to the sign-in",
            Stage::Sender => "to the sender",
            Stage::Recipient => "to the recipient",
            Stage::Data | Stage::Content => "to the message",
        };
        match self.trouble {
            Trouble::Said(code) => format!("the mail server answered {code} {what}"),
            Trouble::TimedOut if self.stage == Stage::Content => {
                "the mail server gave no answer to the message in time, so it may have arrived"
                    .to_owned()
            }
            Trouble::TimedOut => format!("the mail server gave no answer {what} in time"),
            Trouble::Lost if self.stage == Stage::Connect => {
                "the mail server could not be reached".to_owned()
            }
            Trouble::Lost if self.stage == Stage::Content => {
                "the connection broke after the message was sent, so it may have arrived".to_owned()
            }
            Trouble::Lost => "the connection to the mail server broke".to_owned(),
            Trouble::Lacks => match self.stage {
                Stage::Recipient => "the mail server takes no international addresses".to_owned(),
                Stage::SignIn => {
                    "the mail server offers no way to sign in that is known here".to_owned()
                }
                _ => "the mail server offers no encryption".to_owned(),
            },
        }
    }
}

/// How to talk to the server.
pub(crate) struct Smtp {
    host: String,
    port: u16,
    tls: MailTls,
    parameters: Option<TlsParameters>,
    credentials: Option<Credentials>,
    hello: ClientId,
    timeout: Duration,
}

impl Smtp {
    /// Checks that the options fit together.
    pub(crate) fn new(options: &MailOptions) -> Result<Self, String> {
        if options.host.trim().is_empty() {
            return Err("the SMTP server's host is empty".to_owned());
        }
        let parameters = match options.tls {
            MailTls::None => {
                if !is_loopback(&options.host) {
                    return Err(
                        "without TLS, mail goes only to a server on this machine (localhost)"
                            .to_owned(),
                    );
                }
                if options.ca_file.is_some() {
                    return Err("a CA file has no effect without TLS".to_owned());
                }
                None
            }
            MailTls::Starttls | MailTls::Implicit => Some(tls_parameters(options)?),
        };
        Ok(Self {
            host: options.host.clone(),
            port: options.port,
            tls: options.tls,
            parameters,
            credentials: options
                .credentials
                .as_ref()
                .map(|(user, password)| Credentials::new(user.clone(), password.clone())),
            hello: ClientId::Domain(options.message_id_domain.clone()),
            timeout: Duration::from_millis(options.timeout_ms),
        })
    }

    /// Hands one message over. Once this says `Ok`, the server has taken responsibility for it.
    pub(crate) async fn send(
        &self,
        from: &Address,
        to: &Address,
        content: &[u8],
    ) -> Result<(), Failure> {
        let clock = Deadline(Instant::now() + self.timeout);
        let mut connection = self.connect(&clock).await?;
        let mut parameters = Vec::new();
        if [to, from]
            .iter()
            .any(|address| !AsRef::<str>::as_ref(address).is_ascii())
        {
            if !connection
                .server_info()
                .supports_feature(Extension::SmtpUtfEight)
            {
                quit(connection).await;
                return Err(Failure {
                    stage: Stage::Recipient,
                    trouble: Trouble::Lacks,
                });
            }
            parameters.push(MailParameter::SmtpUtfEight);
        }
        let outcome = hand_over(&clock, &mut connection, from, to, parameters, content).await;
        quit(connection).await;
        outcome
    }

    async fn connect(&self, clock: &Deadline) -> Result<AsyncSmtpConnection, Failure> {
        let at_once = self
            .parameters
            .clone()
            .filter(|_| self.tls == MailTls::Implicit);
        let address = (self.host.as_str(), self.port);
        let connecting = AsyncSmtpConnection::connect_tokio1(
            address,
            Some(self.timeout),
            &self.hello,
            at_once,
            None,
        );
        let mut connection = clock.step(Stage::Connect, connecting).await?;
        if let (MailTls::Starttls, Some(parameters)) = (self.tls, &self.parameters) {
            if !connection.can_starttls() {
                quit(connection).await;
                return Err(Failure {
                    stage: Stage::Tls,
                    trouble: Trouble::Lacks,
                });
            }
            clock
                .step(
                    Stage::Tls,
                    connection.starttls(parameters.clone(), &self.hello),
                )
                .await?;
        }
        if let Some(credentials) = &self.credentials {
            let known = [Mechanism::Plain, Mechanism::Login];
            if connection
                .server_info()
                .get_auth_mechanism(&known)
                .is_none()
            {
                quit(connection).await;
                return Err(Failure {
                    stage: Stage::SignIn,
                    trouble: Trouble::Lacks,
                });
            }
            clock
                .step(Stage::SignIn, connection.auth(&known, credentials))
                .await?;
        }
        Ok(connection)
    }
}

async fn hand_over(
    clock: &Deadline,
    connection: &mut AsyncSmtpConnection,
    from: &Address,
    to: &Address,
    parameters: Vec<MailParameter>,
    content: &[u8],
) -> Result<(), Failure> {
    clock
        .step(
            Stage::Sender,
            connection.command(Mail::new(Some(from.clone()), parameters)),
        )
        .await?;
    clock
        .step(
            Stage::Recipient,
            connection.command(Rcpt::new(to.clone(), Vec::new())),
        )
        .await?;
    clock.step(Stage::Data, connection.command(Data)).await?;
    let response: Response = clock
        .step(Stage::Content, connection.message(content))
        .await?;
    // "Go on" (3xx) is no answer to a whole message.
    if response.code().severity == Severity::PositiveCompletion {
        Ok(())
    } else {
        Err(Failure {
            stage: Stage::Content,
            trouble: Trouble::Lost,
        })
    }
}

async fn quit(mut connection: AsyncSmtpConnection) {
    let _ = tokio::time::timeout(QUIT_TIMEOUT, connection.quit()).await;
}

/// When the conversation must be over.
struct Deadline(Instant);

impl Deadline {
    async fn step<T>(
        &self,
        stage: Stage,
        step: impl Future<Output = Result<T, lettre::transport::smtp::Error>>,
    ) -> Result<T, Failure> {
        match timeout_at(self.0, step).await {
            Err(_) => Err(Failure {
                stage,
                trouble: Trouble::TimedOut,
            }),
            Ok(Err(error)) => Err(Failure {
                stage,
                trouble: trouble(&error),
            }),
            Ok(Ok(value)) => Ok(value),
        }
    }
}

fn trouble(error: &lettre::transport::smtp::Error) -> Trouble {
    if let Some(code) = error.status() {
        Trouble::Said(code.into())
    } else if error.is_timeout() {
        Trouble::TimedOut
    } else {
        Trouble::Lost
    }
}

fn tls_parameters(options: &MailOptions) -> Result<TlsParameters, String> {
    let mut builder = TlsParameters::builder(options.host.clone());
    if let Some(path) = &options.ca_file {
        let told = |error: &dyn std::fmt::Display| -> String {
            format!("CA file {}: {error}", path.display())
        };
        let pem = std::fs::read(path).map_err(|error| told(&error))?;
        if !pem
            .windows(27)
            .any(|window| window == b"-----BEGIN CERTIFICATE-----")
        {
            return Err(told(&"it holds no certificate in PEM form"));
        }
        builder = builder
            .add_root_certificate(Certificate::from_pem(&pem).map_err(|error| told(&error))?);
    }
    builder
        .build_rustls()
        .map_err(|error| format!("TLS for mail: {error}"))
}

pub(crate) fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || bare
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_reply_means_different_things_at_different_steps() {
        use Meaning::{Later, Never, Unknown, Unreachable};
        use Trouble::{Lacks, Lost, Said, TimedOut};
        let table = [
            (Stage::Connect, Lost, Unreachable),
            (Stage::Connect, TimedOut, Unreachable),
            (Stage::Connect, Said(554), Unreachable),
            (Stage::Connect, Said(421), Unreachable),
            (Stage::Tls, Lacks, Unreachable),
            (Stage::Tls, Said(454), Unreachable),
            (Stage::SignIn, Said(535), Unreachable),
            (Stage::SignIn, Lacks, Unreachable),
            (Stage::Sender, Said(550), Unreachable),
            (Stage::Sender, Said(451), Later),
            (Stage::Recipient, Said(450), Later),
            (Stage::Recipient, Said(451), Later),
            (Stage::Recipient, Said(421), Later),
            (Stage::Recipient, Said(550), Never),
            (Stage::Recipient, Said(552), Never),
            (Stage::Recipient, Said(553), Never),
            (Stage::Recipient, Said(530), Unreachable),
            (Stage::Recipient, Said(503), Unreachable),
            (Stage::Recipient, Lacks, Never),
            (Stage::Recipient, TimedOut, Unreachable),
            (Stage::Data, Said(554), Never),
            (Stage::Data, Said(451), Later),
            (Stage::Data, Lost, Unreachable),
            (Stage::Content, Said(452), Later),
            (Stage::Content, Said(552), Never),
            (Stage::Content, Said(554), Never),
            (Stage::Content, Lost, Unknown),
            (Stage::Content, TimedOut, Unknown),
        ];
        for (stage, trouble, expected) in table {
            let failure = Failure { stage, trouble };
            assert_eq!(failure.meaning(), expected, "{failure:?}");
            assert!(failure.words().starts_with("the "), "{failure:?}");
        }
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for (host, expected) in [
            ("localhost", true),
            ("LOCALHOST", true),
            ("127.0.0.1", true),
            ("127.9.9.9", true),
            ("::1", true),
            ("[::1]", true),
            ("localhost.example.org", false),
            ("127.0.0.1.example.org", false),
            ("10.0.0.1", false),
            ("mail.example.org", false),
            ("", false),
        ] {
            assert_eq!(is_loopback(host), expected, "{host}");
        }
    }
}

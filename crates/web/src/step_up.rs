//! Step-up: forms that do something sensitive ask for a second factor again, when the last one is not fresh.
//!
//! The page that asks carries the fields of the form along, and sends them to where they were going, together
//! with the factor. So nothing that was written is lost, nothing has to be kept meanwhile, and nobody is led
//! anywhere else.

use maud::{Markup, html};
use trust::TrustError;
use trust::identity::{StepUp, StepUpWays};

use crate::context::{App, Ctx, Fields};
use crate::error::PageError;
use crate::passkeys::{self, Form};
use crate::providers;

/// A form that asks.
struct Sensitive {
    route: &'static str,
    /// A field and its value, where a route has other forms as well.
    when: Option<(&'static str, &'static str)>,
    what: &'static str,
}

const fn all_of(route: &'static str, what: &'static str) -> Sensitive {
    Sensitive {
        route,
        when: None,
        what,
    }
}

/// Every form that asks, by its route. What they have in common: they change who has a way in, or open what is
/// closed. A test compares this with all routes that take a form.
const SENSITIVE: [Sensitive; 23] = [
    all_of("/console/accounts", "Closing the portal for somebody"),
    all_of("/console/accounts/{id}/{deed}", "Changing an account"),
    all_of(
        "/console/accounts/{id}/sessions/{session}/end",
        "Ending somebody's session",
    ),
    all_of(
        "/console/accounts/{id}/apps/{grant}/end",
        "Taking an app away from somebody",
    ),
    all_of("/console/clients", "Letting another system in"),
    all_of("/console/clients/apps", "Letting an app in"),
    all_of("/console/clients/{id}/approve", "Letting another system in"),
    all_of(
        "/console/clients/{id}/purposes",
        "Changing what another system may ask for",
    ),
    all_of(
        "/console/clients/{id}/revoke",
        "Shutting another system out",
    ),
    Sensitive {
        route: "/oauth/authorize",
        when: Some(("decision", "allow")),
        what: "Letting an app act for you",
    },
    all_of(
        "/console/patients/{id}/emergency",
        "Opening a record in an emergency",
    ),
    all_of("/console/batches", "Acting on many patients' journeys"),
    all_of(
        "/console/batches/{batch}/go-on",
        "Acting on many patients' journeys",
    ),
    all_of(
        "/console/batches/{batch}/back",
        "Taking a move of many patients back",
    ),
    all_of(
        "/console/journeys/{name}/move/begin",
        "Moving patients to another version of their journey",
    ),
    all_of(
        "/console/journeys/{name}/stage",
        "Changing who starts on a version of a journey",
    ),
    all_of(
        "/console/patients/{id}/proxies",
        "Letting somebody act for a patient",
    ),
    all_of(
        "/console/unexplained/{event}/{patient}/review",
        "Closing the review of an unexplained access",
    ),
    all_of(
        "/console/emergencies/{id}/review",
        "Closing the review of an emergency access",
    ),
    all_of("/console/sign-in/passkeys", "Adding a passkey"),
    all_of(
        "/console/sign-in/passkeys/{id}/remove",
        "Removing a passkey",
    ),
    all_of("/console/sign-in/app", "Setting up an authenticator app"),
    all_of(
        "/console/sign-in/app/remove",
        "Removing the authenticator app",
    ),
];

/// Names of the fields that the page adds.
const SEALED: &str = "step-up-sealed";
const ANSWER: &str = "step-up-answer";
const PASSWORD: &str = "step-up-password";
const CODE: &str = "step-up-code";
const OURS: [&str; 4] = [SEALED, ANSWER, PASSWORD, CODE];

/// What the page that asks says, and carries.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Asking {
    what: &'static str,
    trouble: Option<String>,
    ways: StepUpWays,
    action: String,
    fields: Vec<(String, String)>,
    csrf: String,
    /// Issuer of the identity provider that opened the session, if one did.
    provider: Option<String>,
}

/// Without what somebody wrote.
impl std::fmt::Debug for Asking {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Asking")
            .field("what", &self.what)
            .finish()
    }
}

fn sensitive(route: &str, fields: &Fields) -> Option<&'static Sensitive> {
    SENSITIVE.iter().find(|form| {
        form.route == route
            && form
                .when
                .is_none_or(|(name, value)| fields.get(name) == Some(value))
    })
}

/// Lets a form through, without what this added, once its person has shown a fresh second factor where it asks
/// for one. Patients have none, nor those who act for
/// them.
pub(crate) async fn through(
    ctx: &mut Ctx,
    route: &str,
    fields: Fields,
) -> Result<Fields, PageError> {
    let Some(form) = sensitive(route, &fields).filter(|_| !ctx.role().has_one_record()) else {
        return Ok(fields);
    };
    let (ours, theirs): (Vec<_>, Vec<_>) = fields
        .0
        .into_iter()
        .partition(|(name, _)| OURS.contains(&name.as_str()));
    let (ours, theirs) = (Fields(ours), Fields(theirs));
    let app = ctx.app.clone();
    let identity = app.web.trust.identity();
    let shown = match (ours.get(ANSWER), ours.get(CODE), &app.party) {
        (Some(answer), _, Some(party)) => Some(StepUp::Passkey {
            party,
            sealed: ours.get(SEALED).unwrap_or_default(),
            answer,
        }),
        (_, Some(code), _) => Some(StepUp::Code {
            password: ours.raw(PASSWORD).unwrap_or_default(),
            code,
        }),
        _ => None,
    };
    let trouble = match shown {
        None if identity.is_stepped_up(&ctx.session).await? => return Ok(theirs),
        None => None,
        Some(shown) => match identity.step_up(&ctx.session, shown).await {
            // What is decided for this very form knows of it.
            Ok(session) => {
                ctx.session = session;
                return Ok(theirs);
            }
            Err(TrustError::SignIn) => Some(
                "Password or code is wrong, the code was used already, or it came too late. Nothing was done yet."
                    .to_owned(),
            ),
            Err(TrustError::LockedOut { wait_s }) => Some(format!(
                "Too many tries. Wait {wait_s} seconds; what you wrote is kept on this page."
            )),
            Err(error) => return Err(error.into()),
        },
    };
    let party = app.party.as_ref();
    Err(PageError::StepUp(Box::new(Asking {
        what: form.what,
        trouble,
        ways: identity.step_up_ways(party, &ctx.session).await?,
        action: ctx.request.here.clone(),
        fields: theirs.0,
        csrf: ctx.session.csrf.clone(),
        provider: ctx.session.provider.clone(),
    })))
}

impl Asking {
    /// What stands on the page.
    pub(crate) fn body(&self, app: &App) -> Markup {
        let carried = html! {
            @for (name, value) in &self.fields { input type="hidden" name=(name) value=(value); }
        };
        let passkey = self.ways.passkey.as_ref().map(|question| Form {
            id: "step-up-passkey",
            what: "show",
            action: &self.action,
            again: None,
            names: (SEALED, ANSWER),
            question,
            word: "Use a passkey",
            primary: true,
        });
        let provider = (app.providers().iter())
            .find(|provider| Some(provider.issuer.as_str()) == self.provider.as_deref());
        html! {
            div class="stack-wide narrow" {
                div class="stack" {
                    h1 { "Confirm that it is you" }
                    p { (self.what) " needs your second factor again. What you wrote is kept, and is done once you have confirmed." }
                }
                @if let Some(words) = &self.trouble { div class="problem" role="alert" { strong { "That did not work. " } (words) } }
                @if let Some(passkey) = &passkey { (passkeys::form(app, passkey, &carried)) }
                @if self.ways.code {
                    form class="fields" method="post" action=(self.action) {
                        (carried)
                        @if self.ways.password { label { "Password" input type="password" name=(PASSWORD) autocomplete="current-password" required; } }
                        label { "Code" span class="hint" { "Six digits from your authenticator app; a new one, if you just used one" }
                            input class="code" type="text" name=(CODE) inputmode="numeric" autocomplete="one-time-code" maxlength="8" required data-code; }
                        div { button class=[passkey.is_none().then_some("primary")] type="submit" { "Confirm" } }
                    }
                }
                @if passkey.is_none() && !self.ways.code {
                    @if let Some(provider) = provider {
                        p { "Your account has no second factor of its own. Sign in anew at " (provider.name) ", then do it at once." }
                        p { a class="button primary" href=(providers::address_anew(provider)) { "Sign in anew at " (provider.name) } }
                    } @else {
                        p { "Your account has no second factor that works at this address. Sign out and in again, then do it at once; or ask an administrator." }
                    }
                    form method="post" action="/sign-out" { input type="hidden" name="csrf" value=(self.csrf); button type="submit" { "Sign out" } }
                }
                p { a href="/" { "Leave it" } }
            }
        }
    }
}

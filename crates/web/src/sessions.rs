//! Sessions in plain words, for the pages on which people and administrators see and end them.

use maud::{Markup, html};
use trust::identity::{OpenedBy, SessionView};

use crate::context::Ctx;

/// How somebody signed in, as the end of "Signed in …".
pub(crate) fn by(ctx: &Ctx, session: &SessionView) -> String {
    let at = || {
        let issuer = session.provider.as_deref().unwrap_or_default();
        let known = ctx.app.providers().iter().find(|of| of.issuer == issuer);
        known.map_or(issuer, |known| &known.name).to_owned()
    };
    match session.opened {
        None => "in a way that was not noted yet".to_owned(),
        Some(OpenedBy::Link) => "with a link and the date of birth".to_owned(),
        Some(OpenedBy::Password) => "with a password".to_owned(),
        Some(OpenedBy::Code) => "with password and code".to_owned(),
        Some(OpenedBy::Passkey) => "with a passkey".to_owned(),
        Some(OpenedBy::PasswordAndPasskey) => "with password and passkey".to_owned(),
        Some(OpenedBy::Provider) => format!("at {}", at()),
        Some(OpenedBy::ProviderAndCode) => format!("at {}, and with a code", at()),
        Some(OpenedBy::ProviderAndPasskey) => format!("at {}, and with a passkey", at()),
    }
}

/// The browser that opened it.
pub(crate) fn browser(session: &SessionView) -> Markup {
    html! {
        @if let Some(browser) = &session.browser { (browser) }
        @else { span class="quiet" { "A browser that we don't know" } }
    }
}

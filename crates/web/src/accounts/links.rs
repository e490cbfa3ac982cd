//! Which accounts are linked to whom at identity providers, and linking them.

use maud::{Markup, html};
use trust::Role;
use trust::identity::{AccountView, LinkView};

use super::HERE;
use crate::context::Ctx;
use crate::layout::csrf;

/// Whom an account is at identity providers.
pub(super) fn shown(ctx: &Ctx, account: &AccountView, links: &[LinkView]) -> Markup {
    html! {
        @for link in links {
            br; span class="quiet small" { (name(ctx, &link.issuer)) ": " span class="mono" { (link.subject) } }
        }
        @if is_off(account) { br; span class="quiet small" { "Password switched off" } }
    }
}

/// What can be done about the links of an account. Nobody links their own.
pub(super) fn acts(ctx: &Ctx, account: &AccountView, links: &[LinkView], back: &str) -> Markup {
    let own = account.id == ctx.session.agent.id;
    let to = |deed: &str| format!("{HERE}/{}/{deed}", account.id);
    let providers = ctx.app.providers();
    html! {
        @for link in links {
            form method="post" action=(to("unlink")) {
                (csrf(ctx))
                input type="hidden" name="back" value=(back);
                input type="hidden" name="issuer" value=(link.issuer);
                input type="hidden" name="subject" value=(link.subject);
                button type="submit" { "Unlink from " (name(ctx, &link.issuer)) }
            }
        }
        @if !own && is_off(account) {
            form method="post" action=(to("password-on")) {
                (csrf(ctx))
                input type="hidden" name="back" value=(back);
                button type="submit" { "Switch the password on" }
            }
        } @else if !own && !links.is_empty() {
            form method="post" action=(to("password-off")) {
                (csrf(ctx))
                input type="hidden" name="back" value=(back);
                button type="submit" { "Switch the password off" }
            }
        }
        @if !own && account.role != Role::Patient && !providers.is_empty() {
            details id={ "link-" (account.id) } {
                summary class="button" { "Link to a provider…" }
                form class="ask stack" method="post" action=(to("link")) {
                    (csrf(ctx))
                    input type="hidden" name="back" value=(back);
                    p { "Whoever signs in there as this subject gets in with this account. Make sure that it is them." }
                    label { "Identity provider" select name="issuer" required {
                        @for provider in providers { option value=(provider.issuer) { (provider.name) } }
                    } }
                    label { "Subject" span class="hint" { "What the provider calls them; somebody who signs in without a link is told it" }
                        input type="text" name="subject" required maxlength="255" autocomplete="off" autocapitalize="none" spellcheck="false"; }
                    button class="primary" type="submit" { "Link" }
                }
            }
        }
    }
}

/// Whether nobody signs in with the account's password, though it has a user name.
fn is_off(account: &AccountView) -> bool {
    account.role != Role::Patient && !account.password
}

/// The provider's name; its issuer if it is not configured any more.
fn name<'a>(ctx: &'a Ctx, issuer: &'a str) -> &'a str {
    let found = ctx.app.providers().iter().find(|of| of.issuer == issuer);
    found.map_or(issuer, |found| &found.name)
}

//! The access explorer: why something is permitted or refused, by which policies and consents.

use axum::response::Response;
use fhir::ResourceType;
use maud::{Markup, html};
use trust::scopes::Scopes;
use trust::{
    Action, Around, AskedAbout, Device, DeviceKind, Explanation, Factor, Permit, PolicyStatus,
    PolicyWords, Purpose, Question, RelationWhy, Role, RowWhy, Trust, Weekday,
};

use crate::context::{Ctx, Fields, Posted};
use crate::error::PageError;
use crate::layout::{self, Section, State, console, csrf, role_words};
use crate::policies::purpose_words;
use crate::time::signed;

/// The page itself.
pub(crate) const HERE: &str = "/console/access";
/// Characters of a set's hash that people tell sets apart by.
const HASH: usize = 12;

/// Privacy officers ask about rows, too; administrators about policies alone.
pub(crate) async fn permit(ctx: &Ctx) -> Result<Permit, PageError> {
    ctx.staff()?;
    let action = match ctx.role() {
        Role::Administrator => Action::Administer,
        _ => Action::Audit,
    };
    ctx.permit(action, None, None).await
}

/// What the address may fill in. Ids are typed, so that none stands in an address.
const IN_ADDRESS: [&str; 4] = ["role", "purpose", "action", "type"];

/// Whether something was said of what is around the request, other than the usual.
fn says_around(fields: &Fields) -> bool {
    let usual = Around::default();
    let differs = |name: &str, usual: &str| fields.get(name).is_some_and(|said| said != usual);
    differs("second-factor", usual.factor.name())
        || differs("weekday", usual.weekday.name())
        || differs("device", usual.device.kind.name())
        || (["hour", "network", "organization", "client", "scopes"].iter())
            .any(|name| fields.get(name).is_some())
}

/// `GET /console/access`.
pub(crate) async fn page(ctx: Ctx, mut fields: Fields) -> Result<Response, PageError> {
    permit(&ctx).await?;
    (fields.0).retain(|(name, _)| IN_ADDRESS.contains(&name.as_str()));
    Ok(shell(&ctx, &fields, &html! {}))
}

/// `POST /console/access`: asked by a form, so that no id of a patient's row stands in an address.
pub(crate) async fn ask(Posted { ctx, fields }: Posted) -> Result<Response, PageError> {
    let permit = permit(&ctx).await?;
    let question = question(&fields, &ctx.app.web.trust)?;
    let row = fields.get("id");
    if row.is_some_and(|id| !fhir::is_id(id)) {
        return Err(PageError::Invalid(
            "That is no id of a resource.".to_owned(),
        ));
    }
    let person = fields.get("person");
    if person.is_some_and(|id| !fhir::is_id(id)) {
        return Err(PageError::Invalid(
            "That is no id of an account.".to_owned(),
        ));
    }
    let trust = &ctx.app.web.trust;
    let scopes = fields.get("scopes").map(Scopes::parse).transpose();
    let scopes = scopes.map_err(|error| PageError::Invalid(error.to_string()))?;
    let about = AskedAbout {
        person,
        row,
        scopes,
    };
    let told = trust.explain(&permit, &question, &about).await?;
    let answer = html! {
        (answer(&question, &told))
        @if let Some(of_row) = &told.row { (consents(of_row, told.why.permitted)) }
    };
    Ok(shell(&ctx, &fields, &answer))
}

fn question(fields: &Fields, trust: &Trust) -> Result<Question, PageError> {
    let missing = |what: &str| PageError::Invalid(format!("Choose {what}."));
    let field = |name: &str| fields.get(name).unwrap_or_default();
    let role = Role::parse(field("role"))
        .filter(|role| *role != Role::System)
        .ok_or_else(|| missing("a role"))?;
    let kind = match fields.get("type") {
        None => None,
        Some(name) => Some(
            ResourceType::parse(name)
                .ok_or_else(|| PageError::Invalid("FHIR R4 has no such type.".to_owned()))?,
        ),
    };
    Ok(Question {
        role,
        part: None,
        purpose: (trust.policy_set().purposes())
            .parse(field("purpose"))
            .ok_or_else(|| missing("a purpose"))?,
        action: Action::parse(field("action")).ok_or_else(|| missing("an action"))?,
        kind,
        own: role.has_one_record(),
        around: around(fields, trust.usual_around())?,
    })
}

/// What is around the request that is asked about; what isn't said is as usual. The tenant is always this one.
fn around(fields: &Fields, usual: Around) -> Result<Around, PageError> {
    let wrong = |words: &str| PageError::Invalid(words.to_owned());
    let hour = match fields.get("hour") {
        None => usual.hour,
        Some(text) => (text.parse().ok().filter(|hour| *hour <= 23))
            .ok_or_else(|| wrong("The hour is a number from 0 to 23."))?,
    };
    let weekday = match fields.get("weekday") {
        None => usual.weekday,
        Some(name) => Weekday::parse(name).ok_or_else(|| wrong("There is no such day."))?,
    };
    let factor = match fields.get("second-factor") {
        None => usual.factor,
        Some(name) => {
            Factor::parse(name).ok_or_else(|| wrong("There is no such second factor."))?
        }
    };
    let device = match fields.get("device") {
        None => usual.device.kind,
        Some(name) => DeviceKind::parse(name).ok_or_else(|| wrong("There is no such device."))?,
    };
    let networks = fields.get("network").map(str::to_owned);
    Ok(Around {
        factor,
        confirmed: factor != Factor::None,
        networks: networks.into_iter().collect(),
        hour,
        weekday,
        tenant: usual.tenant,
        organizations: (fields.get("organization").map(str::to_owned))
            .into_iter()
            .collect(),
        device: Device {
            kind: device,
            client: fields.get("client").unwrap_or_default().to_owned(),
        },
    })
}

fn verdict(permitted: bool) -> Markup {
    if permitted {
        layout::state(State::Done, "Permitted")
    } else {
        layout::state(State::Failed, "Refused")
    }
}

fn policy_line(policy: &PolicyWords) -> Markup {
    html! {
        li {
            span class="mono" { (policy.id) } @if policy.forbids { " " span class="tag" { "forbids" } }
            @if !policy.says.is_empty() { br; (policy.says) }
            br; span class="quiet small" { (policy.file) ", line " (policy.line) }
        }
    }
}

fn answer(question: &Question, told: &Explanation) -> Markup {
    let (why, permitted) = (&told.why, told.permitted());
    let codes = |codes: Vec<&str>| {
        if codes.is_empty() {
            "none".to_owned()
        } else {
            codes.join(", ")
        }
    };
    html! {
        section class="card stack" id="answer" aria-label="Answer" {
            h2 { (verdict(permitted)) }
            p { "By policies, " (why.answer) "." }
            @if !why.policies.is_empty() { ul { @for policy in &why.policies { (policy_line(policy)) } } }
            @if let Some(elements) = &why.elements {
                p { "Shown in part, by the rule " span class="mono" { (elements.rule.id) } ": " (elements.rule.says) }
            }
            @if let Some(exempt) = &why.exempt {
                p class="quiet" { "Nothing has to be hidden (" (exempt.under) "): " (exempt.says) }
            }
            dl class="facts" {
                @if let Some(elements) = &why.elements {
                    dt { "Not shown" } dd { (elements.hidden.join(", ")) }
                    @if !elements.data_types.is_empty() { dt { "Nowhere shown" } dd { (elements.data_types.join(", ")) } }
                }
                dt { "Permitted for" } dd { (codes(why.purposes.iter().map(|purpose| purpose.code()).collect())) }
                dt { "Permitted to" } dd { (codes(why.roles.iter().map(|role| role_words(*role)).collect())) }
            }
            @if let Some(refused) = &told.scopes { p { (layout::state(State::Failed, "Refused")) " By the access token: " (refused) "." } }
            @if question.purpose == Purpose::Emergency && question.role == Role::Clinician {
                p class="note" { "In an emergency a person needs an emergency access to the patient besides." }
            }
            @if told.row.is_none() { p class="quiet" { "Scopes of access tokens and patients' consents narrow what policies permit." } }
        }
    }
}

fn relation_words(relation: &RelationWhy) -> &str {
    match (&relation.by, relation.needed) {
        (Some(by), _) => by,
        (None, true) => "none, and one is needed",
        (None, false) => "none, and none is needed",
    }
}

fn consents(row: &RowWhy, by_policies: bool) -> Markup {
    html! {
        section class="card stack" aria-label="Consents" {
            h2 { "Consents" }
            @if let Some(words) = &row.barred { p { (verdict(false)) ": " (words) "." } }
            @for relation in &row.relations {
                p { "Relationship with patient " (layout::short_id(&relation.patient)) ": " (relation_words(relation)) "." }
            }
            @if let Some(words) = row.unasked { p { "No consent is asked: " (words) "." } }
            ul {
                @for one in &row.consents {
                    li {
                        (verdict(one.permitted)) ": " (one.reason)
                        @if let Some(patient) = &one.patient { span class="quiet" { " · patient " (layout::short_id(patient)) } }
                        @if let Some(consent) = &one.consent { " · " a href={ "/console/record/Consent/" (consent) } { "The consent" } }
                    }
                }
            }
            @if !by_policies { p class="quiet" { "Policies refuse it, whatever consents say." } }
        }
    }
}

fn status(ctx: &Ctx, status: &PolicyStatus) -> Markup {
    let short = |hash: &str| hash.get(..HASH).unwrap_or(hash).to_owned();
    html! {
        section class="stack" aria-labelledby="set" {
            h2 id="set" { "Policies in force" }
            p {
                (status.policies) " policies, set " span class="mono" title=(status.set) { (short(&status.set)) } ", "
                @if status.folder.is_some() { "from the policy folder, " } @else { "built in, " }
                "since " (ctx.times.wall(signed(status.since_ms))) "."
            }
            @if let Some(refused) = &status.refused {
                div class="note stack" {
                    p { (layout::state(State::Failed, "Refused")) " What is in the policy folder is not in force, since " (ctx.times.wall(signed(refused.at_ms))) ":" }
                    ul { @for fault in &refused.faults { li class="mono small" { (fault) } } }
                }
            }
            p { a href="/console/policies" { "What every role may do by them" } }
        }
    }
}

fn choice(name: &str, label: &str, chosen: Option<&str>, options: &[(&str, &str)]) -> Markup {
    html! {
        label { (label)
            select name=(name) {
                @for (value, words) in options { option value=(value) selected[chosen == Some(*value)] { (words) } }
            }
        }
    }
}

fn factor_words(factor: Factor) -> &'static str {
    match factor {
        Factor::None => "none",
        Factor::Totp => "one-time code",
        Factor::Passkey => "passkey",
        Factor::Provider => "at an identity provider",
    }
}

fn day_words(day: Weekday) -> &'static str {
    match day {
        Weekday::Monday => "Monday",
        Weekday::Tuesday => "Tuesday",
        Weekday::Wednesday => "Wednesday",
        Weekday::Thursday => "Thursday",
        Weekday::Friday => "Friday",
        Weekday::Saturday => "Saturday",
        Weekday::Sunday => "Sunday",
    }
}

fn shell(ctx: &Ctx, fields: &Fields, answer: &Markup) -> Response {
    let roles: Vec<(&str, &str)> = (Role::ALL.iter())
        .filter(|role| **role != Role::System)
        .map(|role| (role.name(), role_words(*role)))
        .collect();
    let set = ctx.app.web.trust.policy_set();
    let purposes: Vec<(&str, String)> = (set.purposes().all())
        .map(|purpose| {
            let words = format!("{}, {}", purpose.code(), purpose_words(purpose));
            (purpose.code(), words)
        })
        .collect();
    let purposes: Vec<(&str, &str)> = (purposes.iter())
        .map(|(code, words)| (*code, words.as_str()))
        .collect();
    let actions: Vec<(&str, &str)> = (Action::ALL.iter())
        .map(|action| (action.name(), action.name()))
        .collect();
    let factors = Factor::ALL.map(|factor| (factor.name(), factor_words(factor)));
    let days = Weekday::ALL.map(|day| (day.name(), day_words(day)));
    let devices = DeviceKind::ALL.map(|kind| (kind.name(), kind.name()));
    let usual = Around::default();
    let about_rows = ctx.role() == Role::PrivacyOfficer;
    let body = html! {
        (layout::head("Access", &html! { "Why something is permitted or refused." }, &html! {}))
        div class="stack-wide" {
            form class="card raised stack" method="post" action=(HERE) {
                fieldset {
                    legend { "Who asks, for what" }
                    div class="grid-fields" {
                        (choice("role", "Role", fields.get("role"), &roles))
                        (choice("purpose", "Purpose", fields.get("purpose"), &purposes))
                        (choice("action", "Action", fields.get("action"), &actions))
                        label { "Resource type" input type="text" name="type" value=[fields.get("type")] autocomplete="off"; }
                    }
                }
                @if about_rows {
                    fieldset {
                        legend { "One row, one account" span class="hint" { "Without them the answer is about all rows of the type, by policies alone." } }
                        div class="grid-fields" {
                            label { "Id of the row" input type="text" name="id" value=[fields.get("id")] autocomplete="off"; }
                            label { "Id of the account" input type="text" name="person" value=[fields.get("person")] autocomplete="off"; }
                        }
                    }
                }
                details open[says_around(fields)] {
                    summary { "Circumstances: second factor, time, network, organization, device, scopes of an access token" }
                    div class="grid-fields" {
                        (choice("second-factor", "Second factor", fields.get("second-factor"), &factors))
                        (choice("weekday", "Day", fields.get("weekday"), &days))
                        label { "Hour, 0 to 23" input type="number" name="hour" min="0" max="23" value=[fields.get("hour")] placeholder=(usual.hour); }
                        label { "Network" input type="text" name="network" value=[fields.get("network")] autocomplete="off"; }
                        label { "Organization, by its id" input type="text" name="organization" value=[fields.get("organization")] autocomplete="off"; }
                        (choice("device", "Device", fields.get("device"), &devices))
                        label { "Id of the application or system" input type="text" name="client" value=[fields.get("client")] autocomplete="off"; }
                        label { "Scopes of an access token" input type="text" name="scopes" value=[fields.get("scopes")] autocomplete="off" spellcheck="false"; }
                    }
                }
                button class="primary" type="submit" { "Ask" }
                (csrf(ctx))
            }
            (answer)
            (status(ctx, &ctx.app.web.trust.policy_status()))
        }
    };
    console(ctx, "Access", Section::Access, None, &body)
}

//! What people see of identity providers, and administrators who link accounts to them. The provider here can't
//! be reached; speaking with real ones is tested where that is.

use std::sync::Arc;

use axum::http::StatusCode;
use serde_json::Value;
use trust::identity::{Away, LogoutToken};
use web::{IdentityProvider, IdentityProviders, ProviderAnswer, ProviderFault, Redeemed};

use crate::world::{Browser, World, check_html};

const PAGE: &str = "/console/accounts";
const ISSUER: &str = "https://login.hospital.example";
const SUBJECT: &str = "employee <7>";

struct Silent([IdentityProvider; 2]);

fn silence<'a, T>() -> ProviderAnswer<'a, T> {
    Box::pin(async { Err(ProviderFault::Unreachable) })
}

impl IdentityProviders for Silent {
    fn all(&self) -> &[IdentityProvider] {
        &self.0
    }
    fn authorize<'a>(&'a self, _: &'a Away) -> ProviderAnswer<'a, String> {
        silence()
    }
    fn redeem<'a>(
        &'a self,
        _: &'a Away,
        _: &'a str,
        _: Option<&'a str>,
    ) -> ProviderAnswer<'a, Redeemed> {
        silence()
    }
    fn logout<'a>(&'a self, _: &'a str, _: &'a str) -> ProviderAnswer<'a, LogoutToken> {
        silence()
    }
    fn end_session<'a>(&'a self, _: &'a str) -> ProviderAnswer<'a, Option<String>> {
        silence()
    }
    fn keys(&self, _: &str) -> Option<Value> {
        None
    }
}

async fn world() -> World {
    World::made(|web| {
        let provider = |id: &str, name: &str, issuer: &str| IdentityProvider {
            id: id.to_owned(),
            name: name.to_owned(),
            issuer: issuer.to_owned(),
        };
        web.providers = Some(Arc::new(Silent([
            provider("hospital", "Hospital & Login", ISSUER),
            provider("other", "Other", "https://login.other.example"),
        ])));
    })
    .await
}

/// The row of somebody on the page of accounts.
async fn row(ada: &mut Browser, name: &str) -> String {
    let page = ada.get(PAGE).await;
    check_html(PAGE, &page.body);
    let mut rows = page.body.split("<tr ").skip(1);
    let row = rows.find(|row| row.contains(name));
    row.unwrap_or_else(|| panic!("no row of {name}: {}", page.body))
        .to_owned()
}

fn address(row: &str, deed: &str) -> String {
    let mut paths = row.split("action=\"").skip(1);
    let path = paths.find_map(|rest| rest.split('"').next().filter(|path| path.ends_with(deed)));
    path.unwrap_or_else(|| panic!("no {deed}: {row}"))
        .to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_links_accounts_and_takes_links_away() {
    let world = world().await;
    let mut ada = world.staff("ada").await;
    let devi = row(&mut ada, "Devi Rao").await;
    assert!(devi.contains("Hospital &amp; Login"), "{devi}");
    let link = address(&devi, "/link");
    let fields = [("issuer", ISSUER), ("subject", SUBJECT)];
    let done = ada.act(PAGE, &link, &fields).await;
    let said = ada.get(done.location()).await;
    said.shows("Linked");
    check_html(PAGE, &said.body);
    let devi = row(&mut ada, "Devi Rao").await;
    assert!(
        devi.contains("Hospital &amp; Login: <span class=\"mono\">employee &lt;7&gt;</span>"),
        "{devi}"
    );
    // Somebody else can't be that subject, too, nobody links their own account, and a subject has to be given.
    let carla = row(&mut ada, "Carla Ortiz").await;
    let again = ada.act(PAGE, &address(&carla, "/link"), &fields).await;
    assert_eq!(again.status, StatusCode::BAD_REQUEST);
    assert!(again.has("linked to another account"), "{}", again.body);
    let own = row(&mut ada, "Ada Berg").await;
    assert!(!own.contains("/link\""), "{own}");
    let ada_s = address(&own, "/end-sessions").replace("end-sessions", "link");
    let refused = ada
        .act(PAGE, &ada_s, &[("issuer", ISSUER), ("subject", "1")])
        .await;
    assert!(
        refused.has("nobody links their own account"),
        "{}",
        refused.body
    );
    let without = ada
        .act(PAGE, &link, &[("issuer", ISSUER), ("subject", " ")])
        .await;
    assert_eq!(without.status, StatusCode::BAD_REQUEST);

    let unlink = address(&devi, "/unlink");
    let done = ada.act(PAGE, &unlink, &fields).await;
    ada.get(done.location()).await.shows("Link taken away");
    assert!(!row(&mut ada, "Devi Rao").await.contains("employee"));
    // Others don't do this.
    let mut carla = world.staff("carla").await;
    let refused = carla.act("/console/worklist", &link, &fields).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    let mut priya = world.staff("priya").await;
    let audit = priya.get("/console/audit?action=110137").await;
    audit.shows("was linked to subject employee &lt;7&gt; of https://login.hospital.example");
    audit.shows("lost its link");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_silent_leaves_the_other_ways() {
    let world = world().await;
    let mut browser = world.browser();
    let page = browser.get("/sign-in").await;
    check_html("/sign-in", &page.body);
    page.shows("Sign in with Hospital &amp; Login");
    page.shows("Sign in with Other");
    let page = browser.get("/sign-in/with/hospital").await;
    check_html("/sign-in/with/hospital", &page.body);
    page.shows("Hospital &amp; Login can't be reached at the moment.");
    page.shows("name=\"password\"");
    let page = browser.get("/sign-in/with/hospital/left").await;
    check_html("left", &page.body);
    page.shows("You are signed out here");
    let page = browser
        .get("/sign-in/with/hospital/back?code=c&state=s")
        .await;
    check_html("back", &page.body);
    page.shows("This sign-in did not begin in this browser");
    // What stands in the address is not said again.
    assert!(!page.has("code=c"), "{}", page.body);
    for path in ["/sign-in/with/nobody", "/sign-in/with/hospital/keys"] {
        let page = browser.get(path).await;
        assert_eq!(page.status, StatusCode::NOT_FOUND, "{path}");
    }
    // Where there are none, nothing tells of them.
    let without = World::new().await;
    let page = without.browser().get("/sign-in").await;
    assert!(!page.has("/sign-in/with/"), "{}", page.body);
    let mut ada = without.staff("ada").await;
    assert!(
        !row(&mut ada, "Devi Rao")
            .await
            .contains("Link to a provider")
    );
}

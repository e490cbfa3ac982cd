//! Purposes of use of the organisation's own, on the pages that know purposes.

use trust::identity::{Contract, Registered};
use trust::{Action, Agent, PolicyLook, PolicySet, Role, Target};

use crate::world::{TENANT, World, check_html};

const CLIENTS: &str = "/console/accounts";
const POLICIES: &str = "/console/policies";
const ACCESS: &str = "/console/access";
const FOO_BAR: &str = "[[purpose]]\nsystem = 'urn:purposes'\ncode = 'FooBar'\n\
    display = 'the FooBar study'\nis = 'HRESCH'\n";

#[tokio::test(flavor = "multi_thread")]
async fn pages_know_them_and_tell_of_those_that_are_gone() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    PolicySet::built_in_files().for_each(|(name, text)| put(name, text));
    put("purposes.toml", FOO_BAR);
    let world = World::with_policies(folder.path()).await;
    let set = world.trust.policy_set();
    let mut priya = world.staff("priya").await;
    let page = priya.get(POLICIES).await;
    page.shows("Purposes of your own");
    check_html(POLICIES, &page.body);
    let of_study = format!("{POLICIES}?purpose=FooBar");
    priya
        .get(&of_study)
        .await
        .shows("What is permitted for the FooBar study");
    let asked = [
        ("role", "client"),
        ("purpose", "FooBar"),
        ("action", "read"),
        ("type", "Patient"),
    ];
    let answer = priya.act(ACCESS, ACCESS, &asked).await;
    answer.shows("By policies, the role client may read Patient for FooBar");
    priya
        .get("/console/audit?purpose=FooBar")
        .await
        .shows("the FooBar study");

    let by = Agent::system(TENANT, "command-line");
    let registered = Registered::parse_among(set.purposes(), "FooBar TREAT", Contract::Signed);
    let registered = registered.unwrap();
    let identity = world.trust.identity();
    let made = identity.create_client_for(&by, "study", Role::Client, Some(&registered));
    let token = made.await.unwrap();
    // What is in the audit for a purpose is there for what that is a kind of, too.
    let system = identity.bearer(&token).await.unwrap();
    let foo_bar = set.purposes().parse("FooBar").unwrap();
    let target = Target::default();
    let decided = (world.trust).decide(&system, foo_bar, Action::Administer, target, "r");
    decided.await.unwrap_err();
    for (code, is_there) in [("FooBar", true), ("HRESCH", true), ("ETREAT", false)] {
        let page = priya.get(&format!("/console/audit?purpose={code}")).await;
        assert_eq!(page.has("for the FooBar study"), is_there, "{code}");
    }
    let mut ada = world.staff("ada").await;
    let page = ada.get(CLIENTS).await;
    page.shows("For treatment, the FooBar study");
    page.shows("value=\"FooBar\" checked");
    check_html(CLIENTS, &page.body);

    std::fs::remove_file(folder.path().join("purposes.toml")).unwrap();
    world.trust.look_at_policies(TENANT).await.unwrap();
    let looked = world.trust.look_at_policies(TENANT).await.unwrap();
    assert!(matches!(looked, PolicyLook::Changed { .. }), "{looked:?}");
    let page = ada.get(CLIENTS).await;
    page.shows("For treatment");
    page.shows("No purpose here any more, and refused: ");
    assert!(!page.has("value=\"FooBar\""));
    check_html(CLIENTS, &page.body);
    assert!(!priya.get(POLICIES).await.has("Purposes of your own"));
    let gone = priya.get(&of_study).await;
    assert_eq!(gone.status, axum::http::StatusCode::BAD_REQUEST);
}

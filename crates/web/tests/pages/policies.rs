//! The page of the policies in force: made of the set that decides, also after the folder has changed.

use axum::http::StatusCode;
use trust::{PolicyLook, PolicySet};

use crate::world::{Page, TENANT, World, check_html};

const HERE: &str = "/console/policies";

/// The cells of somebody's row in the table of a name: one for each group of types, and one for the rest.
fn row(page: &Page, table: &str, who: &str) -> Vec<String> {
    let start = format!("aria-label=\"{table}\"");
    let table = page.body.split(&start).nth(1).unwrap();
    let table = table.split("</table>").next().unwrap();
    let row = table
        .split("<tr>")
        .find(|row| {
            let head = row.strip_prefix("<th scope=\"row\">");
            let names = head.and_then(|head| head.split("</th>").next());
            // Those who may do the same stand in one row.
            names.is_some_and(|names| names.split(", ").any(|name| name == who))
        })
        .unwrap_or_else(|| panic!("no row of {who} in {table}"));
    row.split("<td>").skip(1).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_matrix_is_shown_with_the_policies_that_permit() {
    let world = World::new().await;
    let mut priya = world.staff("priya").await;
    let page = priya.get(HERE).await;
    check_html(HERE, &page.body);
    page.shows(world.trust.policy_set().hash());
    page.shows("what is built in");
    // With style and script, which are compressed, it has to stay below 100 kB, and each part of Cairn adds to it.
    assert!(page.body.len() < 84_000, "{} bytes", page.body.len());
    page.shows("Clinicians look at records to treat");
    // The groups in their order: demographics, clinical, coordination, consent, financial, directory, audit.
    let clinician = row(&page, "Roles", "clinician");
    assert_eq!(clinician.len(), 8);
    assert!(
        clinician[1].contains("read, search, history"),
        "{}",
        clinician[1]
    );
    assert!(clinician[1].contains("href=\"#policy-clinician-looks-at-records\""));
    assert!(page.has("id=\"policy-clinician-looks-at-records\""));
    assert!(clinician[6].contains("Denied"), "{}", clinician[6]);
    // What a cell asks is answered on the other page, in the same way.
    let address = "/console/access?role=clinician&amp;purpose=TREAT&amp;action=read&amp;type=";
    assert!(clinician[1].contains(address), "{}", clinician[1]);
    let kind = clinician[1].split(address).nth(1).unwrap();
    let kind = kind.split('"').next().unwrap();
    let ask = priya
        .get(&format!("{}{kind}", address.replace("&amp;", "&")))
        .await;
    ask.shows("<option value=\"clinician\" selected>");
    ask.shows(&format!("name=\"type\" value=\"{kind}\""));
    // No id of a row comes out of an address.
    let ask = priya
        .get("/console/access?id=of-a-row&person=somebody")
        .await;
    assert!(!ask.has("value=\"of-a-row\"") && !ask.has("value=\"somebody\""));
    assert!(row(&page, "Parts of Cairn", "any other part")[7].contains("Denied"));
    let squad = row(&page, "Roles", "squad");
    assert!(squad[1].contains("Denied"), "{}", squad[1]);

    // Another purpose, another answer; what is no purpose says so.
    let paid = priya.get(&format!("{HERE}?purpose=HPAYMT")).await;
    check_html(HERE, &paid.body);
    assert!(row(&paid, "Roles", "clinician")[1].contains("Denied"));
    assert!(row(&paid, "Roles", "another system")[1].contains("in part, by"));
    let wrong = priya.get(&format!("{HERE}?purpose=FUN")).await;
    assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
    world.staff("ada").await.get(HERE).await.shows("In force");
    for user in ["carla", "devi", "sam"] {
        let page = world.staff(user).await.get(HERE).await;
        assert_eq!(page.status, StatusCode::FORBIDDEN, "{user}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_shown_is_what_decides_after_a_reload_too() {
    let folder = tempfile::tempdir().unwrap();
    // Without its tests, which say that squads see no record.
    let files = PolicySet::built_in_files().filter(|(name, _)| !name.ends_with(".test.toml"));
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let world = World::with_policies(folder.path()).await;
    let first = world.trust.policy_set().hash().to_owned();
    let mut priya = world.staff("priya").await;
    let page = priya.get(HERE).await;
    page.shows(&first);
    page.shows("the policy folder of this server");
    assert!(row(&page, "Roles", "squad")[1].contains("Denied"));
    assert!(!page.has("squad-treats"));

    // What is new is taken when it is the same at two looks; until then the page shows what decides.
    let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let look = async || world.trust.look_at_policies(TENANT).await.unwrap();
    put(
        "squad-treats.cedar",
        r#"@id("squad-treats")
@says("Squads read what is clinical, for this test.")
permit (principal in Role::"squad", action == Action::"read", resource in Group::"clinical")
when { context.purpose == "TREAT" };
"#,
    );
    assert_eq!(look().await, PolicyLook::Same);
    priya.get(HERE).await.shows(&first);
    assert!(matches!(look().await, PolicyLook::Changed { .. }));
    let page = priya.get(HERE).await;
    check_html(HERE, &page.body);
    let second = world.trust.policy_set().hash().to_owned();
    assert_ne!(first, second);
    page.shows(&second);
    assert!(!page.has(&first));
    page.shows("squad-treats.cedar");
    page.shows("Squads read what is clinical, for this test.");
    let squad = row(&page, "Roles", "squad");
    assert!(squad[1].contains(">squad-treats</a>"), "{}", squad[1]);
    assert!(squad[0].contains("Denied"), "{}", squad[0]);

    // What is refused is told, and the set that decides is shown.
    put("squad-treats.cedar", "permit (principal, action");
    look().await;
    assert!(matches!(look().await, PolicyLook::Refused(_)));
    let page = priya.get(HERE).await;
    check_html(HERE, &page.body);
    page.shows(", and another is refused");
    page.shows("<li class=\"mono small\">squad-treats.cedar");
    page.shows(&second);
    assert!(row(&page, "Roles", "squad")[1].contains(">squad-treats</a>"));
}

/// What the matrix can't show is said beside it: under which circumstances somebody would be permitted more or less.
#[tokio::test(flavor = "multi_thread")]
async fn a_set_that_looks_at_circumstances_says_which_are_shown() {
    let built_in = World::new().await;
    let page = built_in.staff("priya").await.get(HERE).await;
    assert!(!page.has("id=\"around\"") && !page.has("at 12 h"));

    for (condition, expected, permitted) in [
        (
            "context.time.hour >= 8 && context.time.hour < 18",
            "on monday at 12 h",
            true,
        ),
        (
            "context.session.factor != \"none\"",
            "without a second factor",
            false,
        ),
        (
            "context.time.hour < 8 && context.networks.contains(\"ward\")",
            "on monday at 12 h, from no network that has a name",
            false,
        ),
        ("context.tenant == \"main\"", "at the tenant main", true),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let files = PolicySet::built_in_files().filter(|(name, _)| !name.ends_with(".test.toml"));
        let own = format!(
            "@id(\"squad-treats\")\n@says(\"Squads read what is clinical, at times.\")\n\
             permit (principal in Role::\"squad\", action == Action::\"read\", resource in Group::\"clinical\")\n\
             when {{ {condition} }};\n"
        );
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        std::fs::write(folder.path().join("own.cedar"), own).unwrap();
        let world = World::with_policies(folder.path()).await;
        let page = world.staff("priya").await.get(HERE).await;
        check_html(HERE, &page.body);
        page.shows(&format!("what is permitted {expected}; under other"));
        let squad = row(&page, "Roles", "squad");
        assert_eq!(
            squad[1].contains(">squad-treats</a>"),
            permitted,
            "{condition}"
        );
    }
}

//! Many tasks of the worklist at once: each by itself, what failed with its reason, and undone.

use axum::http::StatusCode;
use fhir::{Resource, ResourceType};
use serde_json::{Value, json};

use crate::world::{Browser, DAY_MS, Page, World, check_html};

const HERE: &str = "/console/worklist";
const OWNER: [&str; 3] = ["owner", "identifier", "value"];

async fn post(browser: &mut Browser, path: &str, fields: &[(&str, &str)]) -> Page {
    let page = browser.act(HERE, path, fields).await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.body);
    check_html(path, &page.body);
    page
}

/// The values of all fields of a name in a page, or in a part of it.
fn values<'a>(part: &'a str, name: &str) -> Vec<&'a str> {
    let start = format!("name=\"{name}\" value=\"");
    let parts = part.split(&start).skip(1);
    parts.map(|rest| rest.split('"').next().unwrap()).collect()
}

/// What undoes what a page says was done.
fn undo(page: &Page) -> Vec<String> {
    let form = page.body.split("data-act=\"undo\"").nth(1);
    let form = form.unwrap_or_else(|| panic!("no undo: {}", page.body));
    let form = form.split("</form>").next().unwrap();
    assert_eq!(
        values(form, "deed"),
        ["undo"],
        "the key u presses no button"
    );
    values(form, "task")
        .into_iter()
        .map(str::to_owned)
        .collect()
}

fn chosen<'a>(deed: &'a str, tasks: &'a [String]) -> Vec<(&'a str, &'a str)> {
    let tasks = tasks.iter().map(|task| ("task", task.as_str()));
    [("deed", deed)].into_iter().chain(tasks).collect()
}

fn row(part: &str, title: &str) -> String {
    let at = part
        .find(title)
        .unwrap_or_else(|| panic!("{title}: {part}"));
    part[at..].split("</tr>").next().unwrap().to_owned()
}

async fn task(world: &World, id: &str) -> Resource {
    world.get(ResourceType::Task, id).await
}

/// Writes the next version of a task.
async fn changed(world: &World, id: &str, former: u32, change: impl FnOnce(&mut Resource)) {
    let mut kept = task(world, id).await;
    change(&mut kept);
    kept.strip_meta();
    world.change(kept.into_value(), former).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_are_claimed_each_by_itself_and_put_back() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    let ole = world.patient("Ole", "Lie").await;
    let mut carla = world.staff("carla").await;
    let mut devi = world.staff("devi").await;
    let free = world.task(&ida, "urgent", "Free one").await;
    let theirs = world.task(&ole, "urgent", "Of Devi").await;
    let overtaken = world.task(&ole, "routine", "Overtaken").await;
    let own = world.task(&ida, "routine", "Done by Carla").await;
    let over = world.task(&ida, "stat", "Over already").await;
    devi.act(HERE, &format!("/console/tasks/{theirs}/claim"), &[])
        .await;
    let of_devi = task(&world, &theirs).await;
    // Who Carla is; and what she did is for somebody else to confirm.
    let known = world.task(&ida, "routine", "To know who she is").await;
    carla
        .act(HERE, &format!("/console/tasks/{known}/claim"), &[])
        .await;
    let account = task(&world, &known)
        .await
        .text_at(&OWNER)
        .unwrap()
        .to_owned();
    let by = json!([{ "type": { "text": trust::conventions::DONE_BY }, "valueString": account }]);
    changed(&world, &own, 1, |task| task.set("input", by)).await;

    let page = carla.get(&format!("{HERE}?who=all")).await;
    check_html(HERE, &page.body);
    let hidden = values(&page.body, "task");
    assert!(hidden.is_empty(), "boxes are no hidden fields");
    let boxes: Vec<String> = (page.body.split("data-act=\"pick\" value=\"").skip(1))
        .map(|rest| rest.split('"').next().unwrap().to_owned())
        .filter(|one| !one.starts_with(&known))
        .collect();
    assert_eq!(boxes.len(), 5, "{boxes:?}");
    assert!(boxes.contains(&format!("{theirs}/2")), "{boxes:?}");
    // Meanwhile one is changed, and one ends.
    changed(&world, &overtaken, 1, |task| {
        task.set("priority", json!("urgent"));
    })
    .await;
    devi.act(HERE, &format!("/console/tasks/{over}/done"), &[])
        .await;
    let done = post(
        &mut carla,
        &format!("{HERE}?who=all"),
        &chosen("claim", &boxes),
    )
    .await;
    done.shows("2 tasks claimed");
    done.shows("1 of them taken over from Devi Rao.");
    done.shows("3 tasks not claimed");
    let left = done.body.split("id=\"left\"").nth(1).unwrap();
    let left = left.split("</section>").next().unwrap();
    for (title, patient, why) in [
        ("Overtaken", "Ole Lie", "changed it since you saw it"),
        ("Over already", "Ida Berg", "changed it since you saw it"),
        (
            "Done by Carla",
            "Ida Berg",
            "somebody else has to confirm it",
        ),
    ] {
        let row = row(left, title);
        assert!(row.contains(patient) && row.contains(why), "{row}");
    }
    assert_eq!(
        task(&world, &free).await.text_at(&OWNER),
        Some(account.as_str())
    );
    assert_eq!(
        task(&world, &theirs).await.text_at(&OWNER),
        Some(account.as_str())
    );
    assert!(task(&world, &overtaken).await.get("owner").is_none());
    assert!(task(&world, &own).await.get("owner").is_none());
    // Each has its own line in the audit.
    let lines = world.all(ResourceType::AuditEvent, &ida).await;
    let claimed = |line: &Resource| {
        let words = line.text_at(&["outcomeDesc"]).unwrap_or_default();
        words.contains("task claimed")
    };
    assert_eq!(
        lines.iter().filter(|line| claimed(line)).count(),
        2,
        "known and free"
    );

    // Put back as before: nobody's, and Devi's. One that went on meanwhile stays as it is.
    let back = undo(&done);
    assert_eq!(back.len(), 2);
    let of_theirs = format!("{theirs}/3/");
    assert!(
        back.iter().any(|one| one.starts_with(&of_theirs)),
        "{back:?}"
    );
    changed(&world, &free, 2, |task| {
        task.set("priority", json!("routine"));
    })
    .await;
    let undone = post(&mut carla, HERE, &chosen("undo", &back)).await;
    undone.shows("1 task put back as before");
    undone.shows("1 task not put back as before");
    assert!(!undone.has("data-act=\"undo\""), "an undo is not undone");
    let kept = task(&world, &theirs).await;
    for field in ["status", "owner"] {
        assert_eq!(kept.get(field), of_devi.get(field), "{field}");
    }
    assert_eq!(
        task(&world, &free).await.text_at(&OWNER),
        Some(account.as_str())
    );
    // Nor does it come again.
    let page = post(&mut carla, HERE, &chosen("undo", &back)).await;
    assert!(!page.has("data-act=\"undo\""));
    page.shows("2 tasks not put back as before");
}

/// An undo is of what this session did to many, and of nothing that somebody else wrote.
#[tokio::test(flavor = "multi_thread")]
async fn what_others_did_is_not_put_back() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    let mut carla = world.staff("carla").await;
    let mut devi = world.staff("devi").await;
    let id = world.task(&ida, "urgent", "Call her").await;
    let ticked = [format!("{id}/1")];
    let done = post(&mut devi, HERE, &chosen("claim", &ticked)).await;
    done.shows("1 task claimed");
    let of_devi = undo(&done);
    let tag = of_devi[0].rsplit_once('/').expect("a tag").1.to_owned();
    assert_eq!(tag.len(), 16);
    let kept = task(&world, &id).await;
    // Devi's own form in Carla's hands, the same for another version, and one that is made up.
    for made in [
        of_devi[0].clone(),
        format!("{id}/1/{tag}"),
        format!("{id}/2/0000000000000000"),
    ] {
        let page = post(&mut carla, HERE, &chosen("undo", &[made])).await;
        page.shows("1 task not put back as before");
        page.shows("It was not done here since you signed in");
    }
    assert_eq!(task(&world, &id).await, kept, "nothing is written");
    let page = carla.act(HERE, HERE, &chosen("undo", &ticked)).await;
    assert_eq!(page.status, StatusCode::BAD_REQUEST, "{}", page.body);
    // The journey withdraws it: then Devi's undo comes too late.
    changed(&world, &id, 2, |task| {
        task.set("status", json!("cancelled"));
    })
    .await;
    let withdrawn = task(&world, &id).await;
    let tag_of_next = format!("{id}/3/{tag}");
    for late in [of_devi[0].clone(), tag_of_next] {
        let page = post(&mut devi, HERE, &chosen("undo", &[late])).await;
        page.shows("1 task not put back as before");
    }
    assert_eq!(
        task(&world, &id).await,
        withdrawn,
        "a withdrawn task stays so"
    );
}

/// What one task alone has no button for is done to none of many: what is somebody else's is not given back, and what is
/// mine already is not claimed.
#[tokio::test(flavor = "multi_thread")]
async fn several_that_are_somebody_elses_are_not_given_back() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    let mut carla = world.staff("carla").await;
    let mut devi = world.staff("devi").await;
    let mine = world.task(&ida, "urgent", "Of Carla").await;
    let theirs = world.task(&ida, "urgent", "Of Devi").await;
    let free = world.task(&ida, "urgent", "Of nobody").await;
    post(&mut carla, HERE, &chosen("claim", &[format!("{mine}/1")])).await;
    post(&mut devi, HERE, &chosen("claim", &[format!("{theirs}/1")])).await;
    let page = carla.get(&format!("{HERE}?who=all")).await;
    let of_others = |id: &str| {
        let at = page.body.split(&format!("id=\"pick-{id}\"")).nth(1);
        at.and_then(|rest| rest.split('>').next())
            .is_some_and(|rest| rest.contains("data-theirs"))
    };
    assert!(of_others(&theirs) && !of_others(&mine) && !of_others(&free));

    let all = [
        format!("{mine}/2"),
        format!("{theirs}/2"),
        format!("{free}/1"),
    ];
    let before = [task(&world, &theirs).await, task(&world, &free).await];
    let page = post(&mut carla, HERE, &chosen("release", &all)).await;
    page.shows("1 task given back");
    page.shows("2 tasks not given back");
    assert_eq!(
        page.body.matches("It is not yours to give back.").count(),
        2
    );
    assert!(task(&world, &mine).await.get("owner").is_none());
    let after = [task(&world, &theirs).await, task(&world, &free).await];
    assert_eq!(before, after, "no new version of what is not theirs");

    // Nor is what is theirs already claimed anew.
    let page = post(&mut carla, HERE, &chosen("claim", &[format!("{mine}/3")])).await;
    page.shows("1 task claimed");
    let held = task(&world, &mine).await;
    let page = post(&mut carla, HERE, &chosen("claim", &[format!("{mine}/4")])).await;
    page.shows("1 task not claimed");
    page.shows("It is yours already.");
    assert_eq!(task(&world, &mine).await, held);
}

/// Coordinators see no patients from nine: then names, and the list itself, can't be had.
const EARLY_PATIENTS: &str = r#"@id("early-alone")
@says("Coordinators look at patients before nine.")
forbid (principal in Role::"coordinator", action in Action::"look", resource == Kind::"Patient")
when { context.time.hour >= 9 };
"#;

/// What was done is told with its undo, whatever else can't be read.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_done_is_told_where_the_list_cant_be_had() {
    let folder = crate::live::policies_with(EARLY_PATIENTS);
    let world = World::with_policies(folder.path()).await;
    let ida = world.patient("Ida", "Berg").await;
    let free = world.task(&ida, "urgent", "Call her").await;
    let overtaken = world.task(&ida, "urgent", "Overtaken").await;
    let mut carla = world.staff("carla").await;
    let page = crate::live::until_nearly_nine(&world, &mut carla, HERE, "Call her").await;
    changed(&world, &overtaken, 1, |task| {
        task.set("priority", json!("routine"));
    })
    .await;
    world.wall.advance(5 * 60_000);
    let csrf = page.field("csrf");
    let mut fields = vec![("csrf", csrf.as_str())];
    let ticked = [format!("{free}/1"), format!("{overtaken}/1")];
    fields.extend(chosen("claim", &ticked));
    let done = carla.post(HERE, &fields).await;
    check_html(HERE, &done.body);
    done.shows("1 task claimed");
    done.shows("1 task not claimed");
    done.shows("Overtaken");
    done.shows("The list itself could not be loaded just now.");
    assert!(!done.has("Ida"), "{}", done.body);
    let mut fields = vec![("csrf", csrf.as_str())];
    let back = undo(&done);
    fields.extend(chosen("undo", &back));
    let undone = carla.post(HERE, &fields).await;
    undone.shows("1 task put back as before");
    assert!(task(&world, &free).await.get("owner").is_none());
}

/// Whoever goes away while it is done has it done all the same: none is left in the middle.
#[tokio::test(flavor = "multi_thread")]
async fn it_is_done_to_its_end_whoever_waits_for_it() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    let mut ticked = Vec::new();
    for number in 0..200 {
        let id = world.task(&ida, "urgent", &format!("Task {number}")).await;
        ticked.push(format!("{id}/1"));
    }
    let ids: Vec<&str> = (ticked.iter())
        .map(|one| one.split_once('/').expect("an id").0)
        .collect();
    let mut carla = world.staff("carla").await;
    let csrf = carla.get(HERE).await.field("csrf");
    let mut fields = vec![("csrf", csrf.as_str())];
    fields.extend(chosen("claim", &ticked));
    let first = async {
        while task(&world, ids[0]).await.get("owner").is_none() {
            tokio::task::yield_now().await;
        }
    };
    // The connection is gone, and what was to answer on it.
    tokio::select! {
        biased;
        () = first => {}
        _ = carla.post(HERE, &fields) => panic!("it was answered before anybody could go away"),
    }
    crate::patience::in_time("all are claimed", async {
        for id in &ids {
            while task(&world, id).await.get("owner").is_none() {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_are_done_where_they_can_end_so_and_opened_again() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    let mut carla = world.staff("carla").await;
    let first = world.task(&ida, "urgent", "First").await;
    let second = world.task(&ida, "urgent", "Second").await;
    let other = world.task(&ida, "urgent", "Other outcomes").await;
    let plain = world.task(&ida, "urgent", "No outcomes").await;
    let outcome = json!([{ "type": { "text": "outcome" }, "valueString": "seen" }]);
    changed(&world, &other, 1, |task| task.set("input", outcome)).await;
    changed(&world, &plain, 1, |task| {
        task.remove("input");
    })
    .await;
    let all = [
        format!("{first}/1"),
        format!("{second}/1"),
        format!("{other}/2"),
        format!("{plain}/2"),
    ];
    let asked = post(&mut carla, HERE, &chosen("done", &all)).await;
    asked.shows("Tasks that are done");
    asked.shows("<option value=\"reached\treached\">reached (3 of 4 can end so)</option>");
    asked.shows("<option value=\"seen\tseen\">seen (2 of 4 can end so)</option>");
    // Which they are: somebody is about to end them.
    asked.shows("Which tasks these are");
    for title in ["First", "Second", "Other outcomes", "No outcomes"] {
        asked.shows(&format!(
            "{title}: <a href=\"/console/patients/{ida}\">Ida Berg</a>"
        ));
    }
    assert_eq!(values(&asked.body, "task"), all);
    assert_eq!(
        task(&world, &first).await.text_at(&["status"]),
        Some("requested")
    );
    let mut fields = chosen("done", &all);
    fields.extend([
        ("said", "yes"),
        ("outcome", "reached\treached"),
        ("note", "by telephone"),
    ]);
    let done = post(&mut carla, HERE, &fields).await;
    done.shows("3 tasks done");
    done.shows("1 task not done");
    done.shows("It can't end so: it has outcomes of its own.");
    let output = |task: &Resource, place: &str| {
        task.text_at(&["output", place, "valueString"])
            .map(str::to_owned)
    };
    for (id, ended) in [(&first, "reached"), (&second, "reached"), (&plain, "done")] {
        let task = task(&world, id).await;
        assert_eq!(task.text_at(&["status"]), Some("completed"));
        assert_eq!(output(&task, "0").as_deref(), Some(ended));
        assert_eq!(output(&task, "1").as_deref(), Some("by telephone"));
    }
    assert_eq!(
        task(&world, &other).await.text_at(&["status"]),
        Some("requested")
    );
    let undone = post(&mut carla, HERE, &chosen("undo", &undo(&done))).await;
    undone.shows("3 tasks put back as before");
    // The same code in other words is another way to end: what was not meant so is left as it is.
    let came = json!([{ "type": { "text": "outcome" }, "valueCoding": { "code": "reached", "display": "Came to the clinic" } }]);
    changed(&world, &other, 2, |task| task.set("input", came)).await;
    let two = [format!("{first}/3"), format!("{other}/3")];
    let asked = post(&mut carla, HERE, &chosen("done", &two)).await;
    asked.shows("reached (1 of 2 can end so)");
    asked.shows("Came to the clinic (1 of 2 can end so)");
    let mut fields = chosen("done", &two);
    fields.extend([("said", "yes"), ("outcome", "reached\tCame to the clinic")]);
    let done = post(&mut carla, HERE, &fields).await;
    done.shows("1 task done");
    done.shows("1 task not done");
    assert_eq!(
        output(&task(&world, &other).await, "0").as_deref(),
        Some("reached")
    );
    post(&mut carla, HERE, &chosen("undo", &undo(&done))).await;
    let kept = task(&world, &first).await;
    assert_eq!(kept.text_at(&["status"]), Some("requested"));
    for gone in ["owner", "output", "executionPeriod"] {
        assert!(kept.get(gone).is_none(), "{gone}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_are_handed_on_to_a_role_and_to_somebody() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    let mut carla = world.staff("carla").await;
    let mut tasks = Vec::new();
    for title in ["First", "Second"] {
        let id = world.task(&ida, "urgent", title).await;
        tasks.push(format!("{id}/1"));
    }
    let asked = post(&mut carla, HERE, &chosen("delegate", &tasks)).await;
    asked.shows("Tasks to hand on");
    let mut fields = chosen("delegate", &tasks);
    fields.extend([("said", "yes"), ("role", "clinician"), ("note", "Odd")]);
    let done = post(&mut carla, HERE, &fields).await;
    done.shows("2 tasks handed on");
    let undone = post(&mut carla, HERE, &chosen("undo", &undo(&done))).await;
    undone.shows("2 tasks put back as before");
    let (id, _) = tasks[0].split_once('/').unwrap();
    let kept = task(&world, id).await;
    let role = ["performerType", "0", "coding", "0", "code"];
    assert_eq!(kept.text_at(&role), Some("coordinator"));
    // To somebody; and to nobody there is.
    let now: Vec<String> = tasks.iter().map(|task| task.replace("/1", "/3")).collect();
    let mut fields = chosen("delegate", &now);
    fields.extend([("said", "yes"), ("role", "coordinator"), ("person", "devi")]);
    post(&mut carla, HERE, &fields)
        .await
        .shows("2 tasks handed on");
    let kept = task(&world, id).await;
    assert_eq!(kept.text_at(&["owner", "display"]), Some("Devi Rao"));
    assert_eq!(kept.text_at(&role), Some("clinician"));
    let mut fields = chosen("delegate", &now);
    fields.extend([("said", "yes"), ("role", "clinician"), ("person", "nobody")]);
    let page = carla.act(HERE, HERE, &fields).await;
    assert_eq!(page.status, StatusCode::BAD_REQUEST, "{}", page.body);
}

/// All that fit the filter, and no more than may be.
#[tokio::test(flavor = "multi_thread")]
async fn all_that_fit_are_claimed_up_to_the_bound() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    let due = fhir::date::instant(1_772_352_000_000 + DAY_MS);
    let new = |priority: &str| -> Value {
        json!({
            "resourceType": "Task", "id": world.id_of(&ida), "status": "requested", "intent": "order", "priority": priority,
            "code": { "coding": [{ "system": "urn:cairn:task-code", "code": "staff-task" }] },
            "description": "One of many", "for": { "reference": format!("Patient/{ida}") },
            "performerType": [{ "coding": [{ "system": "urn:cairn:role", "code": "coordinator" }] }],
            "restriction": { "period": { "end": due } },
        })
    };
    world.put((0..60).map(|_| new("urgent")).collect()).await;
    world.put((0..150).map(|_| new("routine")).collect()).await;
    let mut carla = world.staff("carla").await;
    let urgent = format!("{HERE}?priority=urgent");
    carla.get(&urgent).await.shows("All 60 that fit");
    // Of all that fit it is first said which they are; what is sent then names each as it was seen.
    let all = [("deed", "claim"), ("which", "all")];
    let asked = post(&mut carla, &urgent, &all).await;
    asked.shows("Tasks to claim");
    asked.shows("60 tasks");
    carla
        .get(&format!("{HERE}?who=mine"))
        .await
        .shows("0 open tasks");
    let named = |page: &Page| -> Vec<String> {
        let named = values(&page.body, "task").into_iter();
        named.map(str::to_owned).collect()
    };
    let sixty = named(&asked);
    let mut fields = chosen("claim", &sixty);
    fields.push(("said", "yes"));
    let page = post(&mut carla, &urgent, &fields).await;
    page.shows("60 tasks claimed");
    page.shows("60 open tasks");
    // Loaded again, the browser sends it again: nothing is done twice.
    let again = post(&mut carla, &urgent, &fields).await;
    again.shows("60 tasks not claimed");
    again.shows("changed it since you saw it");
    assert!(!again.has("data-act=\"undo\""));
    let (one, _) = sixty[0].split_once('/').unwrap();
    assert_eq!(
        task(&world, one).await.text_at(&["meta", "versionId"]),
        Some("2")
    );
    carla
        .get(HERE)
        .await
        .shows("The first 200 of all 210 that fit");
    // Whose they are is said before; those that are Carla's already stay as they are.
    let mut devi = world.staff("devi").await;
    let listed = devi.get(&format!("{HERE}?who=all&priority=routine")).await;
    let box_of = listed
        .body
        .split("data-act=\"pick\" value=\"")
        .nth(1)
        .unwrap();
    let of_devi = [box_of.split('"').next().unwrap().to_owned()];
    post(&mut devi, HERE, &chosen("claim", &of_devi)).await;
    let asked = post(&mut carla, HERE, &all).await;
    asked.shows("These are the first of 210.");
    asked.shows("1 is somebody else's: Devi Rao. Claiming takes them over.");
    let two_hundred = named(&asked);
    assert_eq!(two_hundred.len(), 200);
    let page = post(&mut carla, HERE, &chosen("claim", &two_hundred)).await;
    page.shows("140 tasks claimed");
    page.shows("1 of them taken over from Devi Rao.");
    page.shows("60 tasks not claimed");
    page.shows("It is yours already.");
    carla
        .get(&format!("{HERE}?who=mine"))
        .await
        .shows("200 open tasks");
    let back = undo(&page);
    assert_eq!(back.len(), 140);
    post(&mut carla, HERE, &chosen("undo", &back))
        .await
        .shows("140 tasks put back as before");
    carla
        .get(&format!("{HERE}?who=mine"))
        .await
        .shows("60 open tasks");
    // More than may be at once, none, and what is no task.
    let many: Vec<String> = (0..201).map(|number| format!("t{number}/1")).collect();
    let page = carla.act(HERE, HERE, &chosen("claim", &many)).await;
    assert_eq!(page.status, StatusCode::BAD_REQUEST);
    assert!(page.has("At most 200 tasks"), "{}", page.body);
    post(&mut carla, HERE, &[("deed", "claim")])
        .await
        .shows("Tick the tasks that are meant");
    for (deed, task) in [("claim", "x"), ("claim", "a b/1"), ("boil", "t/1")] {
        let page = carla
            .act(HERE, HERE, &[("deed", deed), ("task", task)])
            .await;
        assert!(
            page.status.is_client_error(),
            "{deed} {task}: {}",
            page.status
        );
    }
}

/// What somebody isn't shown is neither done nor told of, and a patient's form is no task of the staff.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_theirs_is_not_done_and_not_told() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    let (_, form) = crate::patients_own::with_form(&world, &ida).await;
    let task = world.task(&ida, "urgent", "Call about something").await;
    let mut carla = world.staff("carla").await;
    let meant = [format!("{form}/1"), "nothing-here/1".to_owned()];
    let page = post(&mut carla, HERE, &chosen("claim", &meant)).await;
    page.shows("2 tasks not claimed");
    page.shows("A task that you are not shown");
    page.shows("It is not there any more, or not yours to see.");
    let meant = chosen("claim", std::slice::from_ref(&task));
    let meant: Vec<(&str, &str)> = meant.into_iter().collect();
    for user in ["sam", "priya", "bill", "ada"] {
        let mut browser = world.staff(user).await;
        let page = browser.act("/console/sign-in", HERE, &meant).await;
        assert_eq!(page.status, StatusCode::FORBIDDEN, "{user}");
    }
    let mut own = world.patients_browser(&ida).await;
    let page = own.act("/portal/weight", HERE, &meant).await;
    assert_eq!(page.status, StatusCode::FORBIDDEN);
    let kept = world.get(ResourceType::Task, &task).await;
    assert!(kept.get("owner").is_none());
}

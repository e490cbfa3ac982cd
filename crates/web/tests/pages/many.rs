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
    let ticked: Vec<String> = (values(&page.body, "task").iter())
        .chain(&[])
        .map(|one| (*one).to_owned())
        .collect();
    assert!(ticked.is_empty(), "boxes are no hidden fields");
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
    let before = world.all(ResourceType::AuditEvent, &ida).await.len();
    let done = post(
        &mut carla,
        &format!("{HERE}?who=all"),
        &chosen("claim", &boxes),
    )
    .await;
    done.shows("2 tasks claimed");
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
    assert!(lines.len() > before);

    // Put back as before: nobody's, and Devi's. One that went on meanwhile stays as it is.
    let back = undo(&done);
    assert_eq!(back.len(), 2);
    assert!(back.contains(&format!("{theirs}/3")), "{back:?}");
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
    // Nor does it come again, and what had ended is nothing to put back.
    for again in [back, vec![format!("{own}/1")]] {
        let page = post(&mut carla, HERE, &chosen("undo", &again)).await;
        assert!(!page.has("data-act=\"undo\""));
        page.shows("not put back as before");
    }
    let reopened = changed(&world, &over, 2, |task| {
        task.set("status", json!("accepted"));
    });
    reopened.await;
    let page = post(&mut carla, HERE, &chosen("undo", &[format!("{over}/3")])).await;
    page.shows("1 task not put back as before");
    assert_eq!(
        task(&world, &over).await.text_at(&["status"]),
        Some("accepted")
    );
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
    asked.shows("<option value=\"reached\">reached (2 of 4 can end so)</option>");
    asked.shows("<option value=\"seen\">seen (1 of 4 can end so)</option>");
    assert_eq!(values(&asked.body, "task"), all);
    assert_eq!(
        task(&world, &first).await.text_at(&["status"]),
        Some("requested")
    );
    let mut fields = chosen("done", &all);
    fields.extend([
        ("said", "yes"),
        ("outcome", "reached"),
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
    let all = [("deed", "claim"), ("which", "all")];
    let page = post(&mut carla, &urgent, &all).await;
    page.shows("60 tasks claimed");
    page.shows("60 open tasks");
    carla
        .get(HERE)
        .await
        .shows("The first 200 of all 210 that fit");
    let page = post(&mut carla, HERE, &all).await;
    page.shows("200 tasks claimed");
    page.shows("These were the first 200 of 210.");
    carla
        .get(&format!("{HERE}?who=mine"))
        .await
        .shows("200 open tasks");
    let back = undo(&page);
    assert_eq!(back.len(), 200);
    post(&mut carla, HERE, &chosen("undo", &back))
        .await
        .shows("200 tasks put back as before");
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

//! The planted details once more, on the way through everything that people use: a journey with its
//! mail, the console, the portal. They may be on the pages of those who may see them, and nowhere
//! else: not in an address, a title, a header, an error page, a mail, a log line at the finest
//! level, a metric, a trace, or the bytes on disk.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cohort::server::{Fhir, ServerProcess, run};
use ledger::{Clock as _, SystemClock};
use reqwest::header::{CONTENT_TYPE, COOKIE, LOCATION, SET_COOKIE};
use serde_json::json;

use crate::canary::{clean, folder, person};
use crate::patience::found;
use crate::peers::{root, smtp};

const PASSWORD: &str = "correct-horse-battery-7";
const BORN: &str = "1931-07-23";
const MINUTE_MS: u64 = 60_000;

/// Takes traces over OTLP/HTTP and keeps their bytes.
struct Receiver {
    endpoint: String,
    bytes: Arc<Mutex<Vec<u8>>>,
}

impl Receiver {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let kept = bytes.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let kept = kept.clone();
                std::thread::spawn(move || {
                    let mut stream = BufReader::new(stream.expect("a connection"));
                    while let Some(body) = request(&mut stream) {
                        kept.lock().expect("no panic").extend(body);
                        let answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
                        stream.get_mut().write_all(answer).expect("sent");
                    }
                });
            }
        });
        Self { endpoint, bytes }
    }
}

/// Head and body of one request; `None` at the connection's end.
fn request(stream: &mut BufReader<std::net::TcpStream>) -> Option<Vec<u8>> {
    let (mut all, mut length) = (Vec::new(), 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).ok()? == 0 {
            return None;
        }
        all.extend(line.as_bytes());
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    all.extend(body);
    Some(all)
}

/// A browser with cookies that looks at every answer.
struct Browser {
    http: reqwest::Client,
    base: String,
    cookies: Vec<(String, String)>,
    looked_at: usize,
}

struct Page {
    status: u16,
    location: String,
    body: String,
}

impl Page {
    fn field(&self, name: &str) -> String {
        let start = format!("name=\"{name}\" value=\"");
        let at = self.body.find(&start).map(|at| at + start.len());
        let at = at.unwrap_or_else(|| panic!("no field {name} in {}", self.body));
        let value = self.body[at..].split('"').next().expect("a value");
        value.to_owned()
    }
    /// The first address in the page that begins so and is longer.
    fn link(&self, beginning: &str) -> Option<String> {
        addresses(&self.body)
            .find(|address| address.starts_with(beginning) && address.len() > beginning.len())
            .map(|address| address.replace("&amp;", "&"))
    }
    #[track_caller]
    fn shows(&self, text: &str) {
        assert!(
            self.status == 200 && self.body.contains(text),
            "{} without {text:?}: {}",
            self.status,
            self.body
        );
    }
}

/// Everything in a page that is an address.
fn addresses(html: &str) -> impl Iterator<Item = &str> {
    ["href=\"", "action=\"", "src=\"", "data-live=\""]
        .into_iter()
        .flat_map(|name| html.split(name).skip(1))
        .filter_map(|rest| rest.split('"').next())
}

impl Browser {
    fn new(base: &str) -> Self {
        Self {
            http: reqwest::Client::builder()
                .redirect(reqwest::redirect::Policy::none())
                .timeout(Duration::from_secs(30))
                .build()
                .expect("a client"),
            base: base.to_owned(),
            cookies: Vec::new(),
            looked_at: 0,
        }
    }

    async fn ask(&mut self, path: &str, form: Option<&[(&str, &str)]>) -> Page {
        let url = format!("{}{path}", self.base);
        let cookies: Vec<String> = self
            .cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let request = match form {
            None => self.http.get(url),
            Some(fields) => self
                .http
                .post(url)
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(encoded(fields)),
        };
        let answer = request.header(COOKIE, cookies.join("; ")).send();
        let answer = answer.await.expect("an answer");
        let status = answer.status().as_u16();
        for (name, value) in answer.headers() {
            clean(&format!("header {name} of {path}"), value.as_bytes());
        }
        for cookie in answer.headers().get_all(SET_COOKIE) {
            let pair = cookie.to_str().expect("text").split(';').next();
            let (name, value) = pair
                .and_then(|pair| pair.split_once('='))
                .expect("a cookie");
            self.cookies.retain(|(known, _)| known != name);
            if !value.is_empty() {
                self.cookies.push((name.to_owned(), value.to_owned()));
            }
        }
        let location = answer
            .headers()
            .get(LOCATION)
            .map_or(String::new(), |value| {
                value.to_str().expect("text").to_owned()
            });
        let body = answer.text().await.expect("text");
        // Addresses end up in histories and in the logs of those in between, and titles in histories.
        for address in addresses(&body) {
            clean(&format!("an address in {path}"), address.as_bytes());
        }
        if let Some(title) = body.split("<title>").nth(1) {
            let title = title.split("</title>").next().expect("a title");
            clean(&format!("the title of {path}"), title.as_bytes());
        }
        if status >= 400 {
            clean(&format!("the error page of {path}"), body.as_bytes());
        }
        self.looked_at += 1;
        Page {
            status,
            location,
            body,
        }
    }

    async fn get(&mut self, path: &str) -> Page {
        self.ask(path, None).await
    }

    /// Sends a form with the token of this page.
    async fn act(&mut self, page: &str, path: &str, fields: &[(&str, &str)]) -> Page {
        let csrf = self.get(page).await.field("csrf");
        let mut all = vec![("csrf", csrf.as_str())];
        all.extend(fields);
        self.ask(path, Some(&all)).await
    }

    async fn submit(&mut self, path: &str, fields: &[(&str, &str)]) -> Page {
        let token = self
            .cookies
            .iter()
            .find(|(name, _)| name == "cairn-form")
            .map(|(_, value)| value.clone())
            .expect("the form's cookie");
        let mut all = vec![("form", token.as_str())];
        all.extend(fields);
        self.ask(path, Some(&all)).await
    }

    /// Signs in for the first time, with the second factor that the page gives.
    async fn staff(base: &str, user: &str) -> Self {
        let mut browser = Self::new(base);
        browser.get("/sign-in").await;
        let page = browser
            .submit("/sign-in", &[("user", user), ("password", PASSWORD)])
            .await;
        page.shows("Set up your second factor");
        let key = page.body.split("<code>").nth(1).expect("a key");
        let key = key.split("</code>").next().expect("a key").replace(' ', "");
        let secret = totp_rs::Secret::try_from_base32(&key).expect("base32");
        let totp = totp_rs::Builder::new().with_secret(secret).build();
        let code = totp.expect("a generator");
        let code = code.generate(SystemClock.now_ms() / 1000).to_string();
        let fields = [
            ("ticket", page.field("ticket")),
            ("user", user.to_owned()),
            ("code", code),
            ("enrol", "yes".to_owned()),
        ];
        let fields: Vec<(&str, &str)> = fields
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let done = browser.submit("/sign-in/code", &fields).await;
        assert_eq!(done.status, 303, "{}", done.body);
        browser
    }
}

fn encoded(fields: &[(&str, &str)]) -> String {
    let pairs: Vec<String> = fields
        .iter()
        .map(|(name, value)| format!("{name}={}", escape(value)))
        .collect();
    pairs.join("&")
}

fn escape(text: &str) -> String {
    text.bytes()
        .map(|byte| {
            if byte.is_ascii_alphanumeric() {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}

/// The store with its people, the journey published; gives the FHIR token.
fn set_up(data: &str) -> String {
    run(&["key", "create", "--data", data], "").expect("a key");
    for (user_name, role) in [
        ("carla", "coordinator"),
        ("priya", "privacy-officer"),
        ("ada", "administrator"),
    ] {
        let arguments = [
            "account",
            "create",
            "--data",
            data,
            "--role",
            role,
            "--user-name",
            user_name,
            "--name",
            user_name,
        ];
        run(&arguments, &format!("{PASSWORD}\n")).expect("an account");
    }
    let journey = root().join("journeys/heart-failure-discharge.yaml");
    let journey = journey.to_str().expect("a path in UTF-8");
    run(&["journey", "publish", "--data", data, journey], "").expect("published");
    let token = run(&["client", "create", "--data", data, "--name", "ehr"], "");
    token.expect("a token").trim().to_owned()
}

/// The patient with a stay that ended an hour ago and weight that rises; gives the id.
async fn patient(fhir: &Fhir) -> String {
    let put = async |kind: &str, resource: serde_json::Value| {
        let (status, made) = fhir.post(kind, &resource).await.expect("an answer");
        assert_eq!(status, 201, "{made}");
        made["id"].as_str().expect("an id").to_owned()
    };
    let id = put("Patient", person(None)).await;
    let subject = json!({ "reference": format!("Patient/{id}") });
    let before = |minutes: u64| fhir::date::instant(SystemClock.now_ms() - minutes * MINUTE_MS);
    put("Condition", json!({ "resourceType": "Condition", "subject": subject, "code": { "text": "Canaryitis" }, "recordedDate": before(100) })).await;
    put("Encounter", json!({
        "resourceType": "Encounter", "status": "finished", "class": { "system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP" },
        "subject": subject, "period": { "start": before(9_000), "end": before(60) },
        "reasonCode": [{ "coding": [{ "system": "http://snomed.info/sct", "code": "84114007" }], "text": "Canaryitis" }],
    }))
    .await;
    for (minutes, kg) in [(50, 80.0), (10, 84.5)] {
        put("Observation", json!({
            "resourceType": "Observation", "status": "final", "subject": subject, "effectiveDateTime": before(minutes),
            "code": { "coding": [{ "system": "http://loinc.org", "code": "29463-7" }] }, "note": [{ "text": "Canaryitis" }],
            "valueQuantity": { "value": kg, "unit": "kg", "system": "http://unitsofmeasure.org", "code": "kg" },
        }))
        .await;
    }
    id
}

/// The mails as they came, with quoted-printable undone.
fn mails(log: &Path) -> String {
    let text = fs::read(log.with_extension("log.text")).unwrap_or_default();
    String::from_utf8(text).expect("UTF-8")
}

// Proves: 45 CFR 164.312(a)(1), 164.312(e)(1)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn planted_details_show_up_nowhere_on_the_way_through_pages_and_mail() {
    let space = tempfile::tempdir().expect("a folder");
    let (data, log) = (space.path().join("data"), space.path().join("log"));
    let data_text = data.to_str().expect("a path in UTF-8");
    let token = set_up(data_text);
    let (smtp, traces) = (smtp(space.path()), Receiver::start());
    let settings = [
        "smtp.host=127.0.0.1".to_owned(),
        format!("smtp.port={}", smtp.port()),
        "smtp.tls=none".to_owned(),
        "smtp.from=care@hospital.example".to_owned(),
        format!("otlp.endpoint={}", traces.endpoint),
        // Our own at the finest; those of others may say what they like at that level, which is
        // why nobody runs them so.
        "log.filter=info,cairn=trace,web=trace,journey=trace,exchange=trace,record=trace,trust=trace,ledger=trace".to_owned(),
    ];
    let flags: Vec<&str> = settings
        .iter()
        .flat_map(|setting| ["--set", setting.as_str()])
        .collect();
    let server = ServerProcess::start(&data, &log, &flags)
        .await
        .expect("a server");
    let id = patient(&Fhir::new(&server.base, &token)).await;

    // The journey writes a mail and a task by itself.
    let mail = found("the mail", async || {
        Some(mails(smtp.log())).filter(|text| text.contains("/sign-in/link/"))
    })
    .await;
    let mut carla = Browser::staff(&server.base, "carla").await;
    let task = found("the task", async || {
        let page = carla.get("/console/worklist").await;
        page.link("/console/tasks/")
    })
    .await;
    let looked_at = console(&server.base, &mut carla, &id, &task).await;
    let in_portal = portal(&server.base, &mail).await;

    // The mail goes to the patient's address, and says nothing else of them.
    let (to, rest): (Vec<&str>, Vec<&str>) =
        mail.lines().partition(|line| line.starts_with("To: "));
    assert!(
        !to.is_empty()
            && to
                .iter()
                .all(|line| line.contains("canary.mailbox@example.com"))
    );
    clean("a mail", rest.join("\n").as_bytes());

    let metrics = reqwest::get(format!("{}/metrics", server.base)).await;
    let metrics = metrics.expect("an answer").text().await.expect("text");
    for name in [
        "journey_moves_total",
        "mail_sent_total",
        "route=\"/portal\"",
    ] {
        assert!(metrics.contains(name), "no {name}: {metrics}");
    }
    clean("the metrics", metrics.as_bytes());
    assert!(server.terminate().expect("ended"), "a clean end");
    let log = fs::read(&log).expect("a log");
    assert!(String::from_utf8_lossy(&log).contains("/console/patients/{id}"));
    clean("the log", &log);
    let traces = traces.bytes.lock().expect("no panic").clone();
    assert!(
        String::from_utf8_lossy(&traces).contains("GET /portal"),
        "{} bytes of traces without the portal",
        traces.len()
    );
    clean("the traces", &traces);
    let files = folder(&data);
    println!(
        "canary: {looked_at} pages of the console, {in_portal} of the portal, {} bytes of log, {} of traces, {files} \
         files searched; none found",
        log.len(),
        traces.len()
    );
}

/// What a coordinator and a privacy officer do with the patient; gives how many pages that were.
async fn console(base: &str, carla: &mut Browser, id: &str, task: &str) -> usize {
    let page = carla.get(&format!("/console/patients/{id}")).await;
    for detail in ["Zyxwvanary", "Canaryitis"] {
        page.shows(detail);
    }
    for show in ["messages", "measurements", "conditions", "journey"] {
        carla
            .get(&format!("/console/patients/{id}?show={show}"))
            .await;
    }
    let found = carla
        .act(
            "/console/patients",
            "/console/patients",
            &[
                ("name", "Zyxwvanary"),
                ("birth_date", BORN),
                ("identifier", "9988776655"),
            ],
        )
        .await;
    found.shows("Quibblethorpe");
    let deed = task.rsplit_once('/').expect("a deed").0;
    let done = carla
        .act(
            "/console/worklist",
            &format!("{deed}/done"),
            &[("outcome", "other"), ("note", "Canarynote: Quibblethorpe")],
        )
        .await;
    assert_eq!(done.status, 303, "{}", done.body);
    carla.get(&done.location).await.shows("Task done");
    carla.get("/console/worklist?state=done").await;
    carla.get("/console/journeys").await;
    carla
        .get("/console/journeys/heart-failure-discharge")
        .await
        .shows("Welcome message");
    carla
        .get("/console/journeys/heart-failure-discharge/people")
        .await;
    // Everything that can go wrong, with the details in it. (A word that could be an id is one to the
    // audit where a patient's id stands, and ids may be in addresses.)
    for path in [
        "/console/patients/Quibblethorpe%20Zyxwvanary",
        "/console/tasks/Zyxwvanary/done",
        "/console/audit?patient=Zyxwvanary",
        "/console/Zyxwvanary/9988776655",
        "/Quibblethorpe",
        "/portal/inbox/Zyxwvanary",
        "/console/audit/Zyxwvanary",
    ] {
        let page = carla.get(path).await;
        assert!(page.status >= 400, "{path}: {}", page.status);
    }
    for fields in [
        [("birth_date", "1931-07-23x"), ("name", "Zyxwvanary")],
        [("identifier", "9988776655|||"), ("name", "|Quibblethorpe")],
    ] {
        carla
            .act("/console/patients", "/console/patients", &fields)
            .await;
    }
    let forged = [("csrf", "no"), ("name", "Zyxwvanary")];
    let page = carla.ask("/console/patients", Some(&forged)).await;
    assert_eq!(page.status, 403);

    let mut priya = Browser::staff(base, "priya").await;
    let audit = priya.get(&format!("/console/audit?patient={id}")).await;
    audit.shows("Zyxwvanary");
    let line = audit.link("/console/audit/").expect("a line");
    for path in [
        line.clone(),
        format!("{line}/proof"),
        format!("{line}/proof.json"),
    ] {
        priya.get(&path).await;
    }
    priya.get("/console/audit?action=search-type").await;

    let mut ada = Browser::staff(base, "ada").await;
    ada.get("/console/accounts").await.shows("3 accounts");
    let page = ada
        .act(
            "/console/accounts",
            "/console/accounts",
            &[("patient", "Zyxwvanary")],
        )
        .await;
    assert_eq!(page.status, 400);

    // Somebody who mistakes one field for another.
    let mut stranger = Browser::new(base);
    stranger.get("/sign-in").await;
    for (user, password) in [("Zyxwvanary", "Quibblethorpe"), (BORN, "9988776655")] {
        stranger
            .submit("/sign-in", &[("user", user), ("password", password)])
            .await;
    }
    carla.looked_at + priya.looked_at + ada.looked_at + stranger.looked_at
}

/// What the patient does; gives how many pages that were.
async fn portal(base: &str, mail: &str) -> usize {
    let at = mail.find("/sign-in/link/").expect("a link");
    let link = mail[at..].split_whitespace().next().expect("a link");
    let mut own = Browser::new(base);
    own.get(link).await.shows("Is it you?");
    let path = link.split('?').next().expect("a path");
    own.submit(path, &[("birth_date", "1931-07-24")])
        .await
        .shows("The date does not match");
    let done = own.submit(path, &[("birth_date", BORN)]).await;
    assert_eq!(done.status, 303, "{}", done.body);
    let home = own.get("/portal").await;
    home.shows("Quibblethorpe");
    for path in [
        "/portal/inbox",
        "/portal/consent",
        "/portal/preferences",
        "/portal/preferences/messages",
        "/portal/weight",
        "/portal/record",
        "/portal/record?own=yes",
    ] {
        let page = own.get(path).await;
        assert_eq!(page.status, 200, "{path}");
        for beginning in ["/portal/inbox/", "/portal/record/"] {
            if let Some(inner) = page.link(beginning) {
                own.get(&inner).await;
                if beginning == "/portal/record/" {
                    own.get(&format!("{inner}/proof.json")).await;
                }
            }
        }
    }
    own.act("/portal/weight", "/portal/weight", &[("kg", "Zyxwvanary")])
        .await;
    own.act("/portal/weight", "/portal/weight", &[("kg", "84.0")])
        .await;
    own.act(
        "/portal/preferences",
        "/portal/preferences",
        &[("wanted", "Quibblethorpe")],
    )
    .await;
    own.act("/portal/consent", "/portal/consent", &[("do", "withdraw")])
        .await;
    for path in [
        "/portal/forms/Zyxwvanary",
        "/portal/visits/Quibblethorpe",
        "/portal/record/9988776655",
        "/portal/Zyxwvanary",
    ] {
        assert!(own.get(path).await.status >= 400, "{path}");
    }
    own.act("/portal", "/sign-out", &[]).await;
    own.looked_at
}

//! A browser that signs in, follows links and sends forms: the door of people.

use anyhow::{Context, Result, ensure};
use ledger::{Clock as _, SystemClock};
use reqwest::header::{CONTENT_TYPE, COOKIE, LOCATION, SET_COOKIE};

use crate::server::client_that;

/// Somebody with cookies.
pub struct Visitor {
    http: reqwest::Client,
    base: String,
    cookies: Vec<(String, String)>,
}

/// What came back.
pub struct Page {
    /// The status.
    pub status: u16,
    /// Where it leads.
    pub location: String,
    /// The page.
    pub body: String,
}

impl Page {
    /// The value of a hidden field.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn field(&self, name: &str) -> Result<String> {
        self.between(&format!("name=\"{name}\" value=\""))
            .with_context(|| format!("the field {name}"))
    }

    /// The first of those addresses that begin so and go on.
    #[must_use]
    pub fn link(&self, beginning: &str) -> Option<String> {
        let all = self.body.split("=\"").skip(1);
        let mut addresses = all.filter_map(|rest| rest.split('"').next());
        addresses
            .find(|address| address.len() > beginning.len() && address.starts_with(beginning))
            .map(plain)
    }

    /// Where its live parts come from.
    #[must_use]
    pub fn live(&self) -> Option<String> {
        self.between("data-live=\"").map(|address| plain(&address))
    }

    /// What stands between these words and the next quote.
    fn between(&self, words: &str) -> Option<String> {
        let (_, rest) = self.body.split_once(words)?;
        rest.split('"').next().map(str::to_owned)
    }
}

fn plain(address: &str) -> String {
    address.replace("&amp;", "&")
}

impl Visitor {
    /// Somebody who has never been there.
    #[must_use]
    pub fn new(base: &str) -> Self {
        Self {
            http: client_that(reqwest::redirect::Policy::none()),
            base: base.to_owned(),
            cookies: Vec::new(),
        }
    }

    /// The header with all cookies.
    #[must_use]
    pub fn cookie(&self) -> String {
        let pairs = self.cookies.iter();
        let pairs = pairs.map(|(name, value)| format!("{name}={value}"));
        pairs.collect::<Vec<_>>().join("; ")
    }

    /// GET, or POST of a form.
    ///
    /// # Errors
    /// The connection's.
    pub async fn ask(&mut self, path: &str, form: Option<&[(&str, &str)]>) -> Result<Page> {
        let url = format!("{}{path}", self.base);
        let request = match form {
            None => self.http.get(url),
            Some(fields) => (self.http.post(url))
                .header(CONTENT_TYPE, FORM)
                .body(encoded(fields)),
        };
        let answer = request.header(COOKIE, self.cookie()).send().await?;
        for cookie in answer.headers().get_all(SET_COOKIE) {
            let pair = cookie.to_str()?.split(';').next().unwrap_or_default();
            let (name, value) = pair.split_once('=').context("a cookie")?;
            self.cookies.retain(|(known, _)| known != name);
            if !value.is_empty() {
                self.cookies.push((name.to_owned(), value.to_owned()));
            }
        }
        let location = match answer.headers().get(LOCATION) {
            Some(location) => location.to_str()?.to_owned(),
            None => String::new(),
        };
        Ok(Page {
            status: answer.status().as_u16(),
            location,
            body: answer.text().await?,
        })
    }

    /// GET of a page that has to be there.
    ///
    /// # Errors
    /// The connection's, and any status but 200.
    pub async fn get(&mut self, path: &str) -> Result<Page> {
        let page = self.ask(path, None).await?;
        ensure!(page.status == 200, "{path}: status {}", page.status);
        Ok(page)
    }

    /// Sends a form of before the sign-in.
    async fn submit(&mut self, path: &str, fields: &[(&str, &str)]) -> Result<Page> {
        let mut cookies = self.cookies.iter();
        let token = cookies.find(|(name, _)| name == "cairn-form");
        let token = token.context("the form's cookie")?.1.clone();
        let all = [&[("form", token.as_str())], fields].concat();
        self.ask(path, Some(&all)).await
    }

    /// Signs in with a password for the first time, and takes the second factor that is given.
    ///
    /// # Errors
    /// When the server lets nobody in so.
    pub async fn staff(base: &str, user: &str, password: &str) -> Result<Self> {
        let mut visitor = Self::new(base);
        visitor.get("/sign-in").await?;
        let fields = [("user", user), ("password", password)];
        let page = visitor.submit("/sign-in", &fields).await?;
        let key = page.body.split("<code>").nth(1).context("a key")?;
        let key = key.split("</code>").next().unwrap_or_default();
        let secret = totp_rs::Secret::try_from_base32(key.replace(' ', ""))
            .map_err(|_| anyhow::anyhow!("a key that is no base32"))?;
        let totp = totp_rs::Builder::new().with_secret(secret).build();
        let totp = totp.map_err(|_| anyhow::anyhow!("a key that makes no codes"))?;
        let code = totp.generate(SystemClock.now_ms() / 1000).to_string();
        let ticket = page.field("ticket")?;
        let fields = [
            ("ticket", ticket.as_str()),
            ("user", user),
            ("code", &code),
            ("enrol", "yes"),
        ];
        let done = visitor.submit("/sign-in/code", &fields).await?;
        ensure!(done.status == 303, "signing in: status {}", done.status);
        Ok(visitor)
    }

    /// Signs a patient in by the link of a message.
    ///
    /// # Errors
    /// When the server lets nobody in so.
    pub async fn patient(base: &str, link: &str, born: &str) -> Result<Self> {
        let mut visitor = Self::new(base);
        visitor.get(link).await?;
        let path = link.split('?').next().unwrap_or_default();
        let done = visitor.submit(path, &[("birth_date", born)]).await?;
        ensure!(done.status == 303, "signing in: status {}", done.status);
        Ok(visitor)
    }
}

/// The media type of forms.
pub const FORM: &str = "application/x-www-form-urlencoded";

/// A form as it is sent.
#[must_use]
pub fn encoded(fields: &[(&str, &str)]) -> String {
    let pairs = fields.iter();
    let pairs = pairs.map(|(name, value)| format!("{name}={}", escape(value)));
    pairs.collect::<Vec<_>>().join("&")
}

fn escape(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

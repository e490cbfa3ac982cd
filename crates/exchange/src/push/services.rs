//! Which push services notifications may go to. A browser says where its service is, and whoever holds a patient's session
//! can say anything: so only services that the configuration names are asked, by `https`, at public addresses.

use reqwest::Url;

use crate::calls::may_be_asked;

/// The services of the browsers that people use: Chromium's, Mozilla's, Microsoft's and Apple's.
pub const PUSH_SERVICES: &str = "https://fcm.googleapis.com https://updates.push.services.mozilla.com https://*.notify.windows.com https://web.push.apple.com";

/// One that may be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Service {
    /// Its origin.
    pub(super) origin: String,
    /// Whether it is below a star of the list, which whoever says where a browser is may have filled in.
    pub(super) is_below: bool,
}

/// One entry of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    scheme: String,
    /// The host, or what stands behind the star of one.
    host: String,
    any_below: bool,
    port: Option<u16>,
}

/// Push services that may be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushServices(Vec<Entry>);

impl PushServices {
    /// Reads a list of origins, separated by spaces. `https://*.example.org` is every host below `example.org`, and not
    /// that itself. By `http://` only on this machine.
    ///
    /// # Errors
    /// In words, where an entry is no such origin.
    pub fn parse(list: &str) -> Result<Self, String> {
        let services = list.split_whitespace().map(|entry| {
            let refuse = || {
                format!(
                    "{entry:?} is no origin of a push service, such as https://push.example.org or https://*.push.example.org"
                )
            };
            let any_below = entry.contains("://*.");
            let url = Url::parse(&entry.replacen("://*.", "://", 1)).map_err(|_| refuse())?;
            let host = url.host_str().unwrap_or_default().to_owned();
            let is_name = url.domain().is_some();
            let bare = url.path() == "/" && !entry.ends_with('/') && !host.contains('*');
            // Below a name without a dot would be everybody.
            let narrow = !any_below || (is_name && host.contains('.'));
            if !bare || !narrow || !may_be_asked(&url, false) {
                return Err(refuse());
            }
            Ok(Entry {
                scheme: url.scheme().to_owned(),
                host,
                any_below,
                port: url.port_or_known_default(),
            })
        });
        Ok(Self(services.collect::<Result<_, _>>()?))
    }

    /// The address of a browser, and its service, if that may be asked.
    pub(super) fn find(&self, endpoint: &str) -> Option<(Url, Service)> {
        // A name with odd characters is another in what is shown and logged.
        if !endpoint.bytes().all(|byte| byte.is_ascii_graphic()) || endpoint.contains('\\') {
            return None;
        }
        let url = Url::parse(endpoint).ok()?;
        let host = url.host_str()?;
        let bare =
            url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
        let is_it = |entry: &&Entry| {
            let is_host = if entry.any_below {
                let below = host.strip_suffix(entry.host.as_str());
                below.is_some_and(|below| below.len() > 1 && below.ends_with('.'))
            } else {
                host == entry.host
            };
            is_host && url.scheme() == entry.scheme && url.port_or_known_default() == entry.port
        };
        let found: Vec<&Entry> = self.0.iter().filter(is_it).collect();
        if found.is_empty() || !bare {
            return None;
        }
        let service = Service {
            origin: url.origin().ascii_serialization(),
            is_below: found.iter().all(|entry| entry.any_below),
        };
        Some((url, service))
    }

    /// Whether a browser at this address may be sent to.
    #[must_use]
    pub fn may_be_asked(&self, endpoint: &str) -> bool {
        self.find(endpoint).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_services_that_are_named_are_asked() {
        let services = PushServices::parse(PUSH_SERVICES).expect("a list");
        for (endpoint, expected) in [
            ("https://fcm.googleapis.com/fcm/send/abc:def", true),
            ("https://updates.push.services.mozilla.com/wpush/v2/x", true),
            ("https://web.push.apple.com/x", true),
            ("https://wns2-par02p.notify.windows.com/w/?token=x", true),
            ("https://fcm.googleapis.com:443/x", true),
            ("https://fcm.googleapis.com:8443/x", false),
            ("http://fcm.googleapis.com/x", false),
            ("https://fcm.googleapis.com.evil.example/x", false),
            ("https://evil.example/fcm.googleapis.com", false),
            ("https://fcm.googleapis.com@evil.example/x", false),
            ("https://u:p@fcm.googleapis.com/x", false),
            ("https://evil.example#fcm.googleapis.com", false),
            ("https://fcm.googleapis.com/x#y", false),
            ("https://evilnotify.windows.com/x", false),
            ("https://notify.windows.com/x", false),
            ("https://.notify.windows.com/x", false),
            ("https://127.0.0.1/x", false),
            ("http://127.0.0.1:8080/x", false),
            ("https://169.254.169.254/latest/meta-data", false),
            ("https://[::1]/x", false),
            ("https://localhost/x", false),
            ("https://fcm.googleapis.com\\@evil.example/x", false),
            ("https://fcm.googleapis.com /x", false),
            ("https://fcm.googleapis.com\n.evil.example/x", false),
            ("https://fcm.googleapis.com./x", false),
            ("file:///etc/passwd", false),
            ("gopher://fcm.googleapis.com/x", false),
            ("javascript:alert(1)", false),
            ("", false),
        ] {
            assert_eq!(services.may_be_asked(endpoint), expected, "{endpoint}");
        }
    }

    #[test]
    fn lists_are_of_origins() {
        for (list, good) in [
            ("", true),
            ("https://push.example.org", true),
            ("https://push.example.org:8443 https://*.push.example", true),
            ("http://127.0.0.1:8080", true),
            ("http://localhost:8080", false),
            ("http://push.example.org", false),
            ("https://push.example.org/", false),
            ("https://push.example.org/x", false),
            ("https://*.org", false),
            ("https://*", false),
            ("https://a.*.example.org", false),
            ("https://*.10.0.0.1", false),
            ("https://10.0.0.1", false),
            ("https://u@push.example.org", false),
            ("push.example.org", false),
        ] {
            assert_eq!(PushServices::parse(list).is_ok(), good, "{list}");
        }
        let here = PushServices::parse("http://127.0.0.1:8080").expect("a list");
        assert!(here.may_be_asked("http://127.0.0.1:8080/notify/x"));
        assert!(!here.may_be_asked("http://127.0.0.1:8081/notify/x"));
        assert!(!here.may_be_asked("https://127.0.0.1:8080/notify/x"));
    }
}

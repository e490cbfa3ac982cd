//! Applications on telephones: what the two services that tell them share. Each is asked by its own client, at its own
//! pace, and is left alone by itself.

use std::path::Path;
use std::time::Duration;

use reqwest::{Certificate, Client, ClientBuilder, Response, Url, redirect};
use trust::identity::AppService;

use super::CONNECT_PATIENCE;
use super::answers::{Handed, Sign};
use super::apns::{Apns, ApnsOptions};
use super::fcm::{Fcm, FcmOptions};
use super::services::Service;
use crate::pace::Pace;
use crate::smtp::is_loopback;

/// Bytes of an answer that are read: those of both services have a few hundred.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// What an application is told of a message. The service reads it.
#[derive(Debug)]
pub(super) struct Told {
    /// Who sends.
    pub(super) sender: String,
    /// Id of the `Communication`, by which an application knows a repeat.
    pub(super) message: String,
    /// Where it is in the portal. It signs nobody in.
    pub(super) link: String,
    /// The same for each attempt at one device: what is shown takes the place of what was shown before.
    pub(super) same: String,
    /// How long it is of use.
    pub(super) ttl_s: u64,
    /// Whether it wakes a device that saves its battery.
    pub(super) is_urgent: bool,
}

/// What tells applications by one service.
pub(super) struct App {
    /// The service, as it is left alone.
    pub(super) service: Service,
    pace: Pace,
    way: Way,
}

enum Way {
    Fcm(Box<Fcm>),
    Apns(Box<Apns>),
}

impl App {
    /// By FCM.
    pub(super) fn fcm(options: FcmOptions, timeout: Duration) -> Result<Self, String> {
        let per_second = options.per_second;
        let fcm = Fcm::new(options, timeout).map_err(|words| format!("FCM: {words}"))?;
        Ok(Self::new(
            per_second,
            &fcm.url().clone(),
            Way::Fcm(Box::new(fcm)),
        ))
    }

    /// By APNs.
    pub(super) fn apns(options: ApnsOptions, timeout: Duration) -> Result<Self, String> {
        let per_second = options.per_second;
        let apns = Apns::new(options, timeout).map_err(|words| format!("APNs: {words}"))?;
        Ok(Self::new(
            per_second,
            &apns.url().clone(),
            Way::Apns(Box::new(apns)),
        ))
    }

    fn new(per_second: u32, url: &Url, way: Way) -> Self {
        let code = match way {
            Way::Fcm(_) => AppService::Fcm.code(),
            Way::Apns(_) => AppService::Apns.code(),
        };
        Self {
            service: Service {
                // Browsers may be told by the same host, and that is another service.
                origin: format!("{} ({code})", url.origin().ascii_serialization()),
                is_below: false,
            },
            pace: Pace::new(per_second),
            way,
        }
    }

    pub(super) fn is_of(&self, service: AppService) -> bool {
        match self.way {
            Way::Fcm(_) => service == AppService::Fcm,
            Way::Apns(_) => service == AppService::Apns,
        }
    }

    /// Tells an application, known by its token and seen last at a time, when its service may have another message.
    /// `now_ms` is the wall clock.
    pub(super) async fn tell(
        &self,
        device: (&str, u64),
        told: &Told,
        now_ms: impl Fn() -> u64 + Send + Sync,
    ) -> (Handed, Sign) {
        self.pace.turn().await;
        match &self.way {
            Way::Fcm(fcm) => fcm.tell(device.0, told, now_ms()).await,
            Way::Apns(apns) => apns.tell(device, told, now_ms()).await,
        }
    }
}

/// Where a service is: by `https`, or on this machine. A path may be named, if something stands in between.
pub(super) fn base(url: &str) -> Result<Url, String> {
    let refuse = || format!("{url:?} is no address that begins with https:// and is bare");
    let parsed = Url::parse(url.trim_end_matches('/')).map_err(|_| refuse())?;
    let here = parsed.host_str().is_some_and(is_loopback);
    let is_safe = parsed.scheme() == "https" || (parsed.scheme() == "http" && here);
    let is_bare = parsed.username().is_empty()
        && parsed.password().is_none()
        && parsed.query().is_none()
        && parsed.fragment().is_none();
    if is_safe && is_bare {
        Ok(parsed)
    } else {
        Err(refuse())
    }
}

/// Whether a service that tells applications may be at an address.
///
/// # Errors
/// In words, where it may not.
pub fn check_app_service(url: &str) -> Result<(), String> {
    base(url).map(drop)
}

/// A client for one service: it follows nobody elsewhere, and trusts who signs for it besides the system's authorities.
pub(super) fn client(
    timeout: Duration,
    ca_file: Option<&Path>,
    speaks: impl FnOnce(ClientBuilder) -> ClientBuilder,
) -> Result<Client, String> {
    let builder = Client::builder()
        .redirect(redirect::Policy::none())
        .no_proxy()
        .connect_timeout(CONNECT_PATIENCE)
        .timeout(timeout);
    let builder = match ca_file {
        None => builder,
        Some(path) => {
            let told = |error: String| format!("{}: {error}", path.display());
            let pem = std::fs::read(path).map_err(|error| told(error.to_string()))?;
            let all = Certificate::from_pem_bundle(&pem);
            let all = all.map_err(|error| told(error.to_string()))?;
            if all.is_empty() {
                return Err(told("it holds no certificate in PEM form".to_owned()));
            }
            builder.tls_certs_merge(all)
        }
    };
    speaks(builder).build().map_err(|error| error.to_string())
}

/// What an answer says, as far as it is JSON of a size that is looked at.
pub(super) async fn json(mut answer: Response) -> Option<serde_json::Value> {
    let mut bytes = Vec::new();
    while let Ok(Some(chunk)) = answer.chunk().await {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > ANSWER_BYTES_MAX {
            return None;
        }
    }
    serde_json::from_slice(&bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_asked_by_tls_or_on_this_machine() {
        for (url, good) in [
            ("https://fcm.googleapis.com", true),
            ("https://fcm.googleapis.com/", true),
            ("https://egress.example/fcm", true),
            ("http://127.0.0.1:8080", true),
            ("http://[::1]:8080", true),
            ("http://fcm.googleapis.com", false),
            ("https://u:p@fcm.googleapis.com", false),
            ("https://fcm.googleapis.com?x=1", false),
            ("https://fcm.googleapis.com#x", false),
            ("fcm.googleapis.com", false),
            ("", false),
        ] {
            assert_eq!(base(url).is_ok(), good, "{url}");
        }
    }
}

//! How devices are sent to: browsers by their push services (Web Push), applications on telephones by the service of the
//! telephone's maker (FCM, APNs).

/// The service of a telephone's maker, by which an application there is told of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppService {
    /// Firebase Cloud Messaging, by its HTTP v1 API.
    Fcm,
    /// Apple Push Notification service, by its provider API.
    Apns,
}

impl AppService {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Fcm, Self::Apns];
    /// What it is called in requests and in what is kept.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Fcm => "fcm",
            Self::Apns => "apns",
        }
    }
    /// The one that is called so.
    #[must_use]
    pub fn parse(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.code() == code)
    }
}

/// Which devices an organisation sends notifications to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PushWays {
    /// Browsers.
    pub browsers: bool,
    /// Applications by FCM.
    pub fcm: bool,
    /// Applications by APNs.
    pub apns: bool,
}

impl PushWays {
    /// Browsers alone.
    pub const BROWSERS: Self = Self {
        browsers: true,
        fcm: false,
        apns: false,
    };
    /// Whether there are notifications at all.
    #[must_use]
    pub fn any(self) -> bool {
        self.browsers || self.fcm || self.apns
    }
    /// Whether applications of a service are told.
    #[must_use]
    pub fn tells(self, service: AppService) -> bool {
        match service {
            AppService::Fcm => self.fcm,
            AppService::Apns => self.apns,
        }
    }
    pub(super) fn reaches(self, place: &PushPlace) -> bool {
        match place {
            PushPlace::Browser(_) => self.browsers,
            PushPlace::App { service, .. } => self.tells(*service),
        }
    }
}

/// A browser, as it is sent to.
#[derive(Clone, PartialEq, Eq)]
pub struct PushBrowser {
    /// Where its push service takes messages for it.
    pub endpoint: String,
    /// Its public key.
    pub key: Vec<u8>,
    /// Its secret.
    pub auth: Vec<u8>,
    /// What stands for the key that its push service takes messages from (`PushKey::print`).
    pub signer: String,
}

impl std::fmt::Debug for PushBrowser {
    /// Shows nothing: whoever knows any of it can send to it, or tell whose it is.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("PushBrowser")
            .finish_non_exhaustive()
    }
}

/// How a device is sent to.
#[derive(Clone, PartialEq, Eq)]
pub enum PushPlace {
    /// A browser.
    Browser(PushBrowser),
    /// An application on a telephone.
    App {
        /// The service that knows it.
        service: AppService,
        /// What that service knows it by.
        token: String,
    },
}

/// A device that messages go to.
#[derive(Clone, PartialEq, Eq)]
pub struct PushDevice {
    /// Id.
    pub id: String,
    /// How it is sent to.
    pub place: PushPlace,
    /// When it said last where it is, by the wall clock; of a browser 0.
    pub seen_ms: u64,
    /// What lets the application in that it is.
    pub(super) grant: Option<String>,
}

/// Why a patient gets no notifications.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoPush {
    /// They have turned them on nowhere.
    Nowhere,
    /// They want to be reached at one address alone.
    Unwanted,
    /// The organisation sends none.
    Off,
}

impl std::fmt::Debug for PushDevice {
    /// Shows the id alone: whoever knows the rest can send to it, or tell whose it is.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = formatter.debug_struct("PushDevice");
        shown.field("id", &self.id).finish_non_exhaustive()
    }
}

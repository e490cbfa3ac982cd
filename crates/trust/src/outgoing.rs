//! What an outbox entry holds: a message on its way to a patient. Written by journeys, delivered by
//! `exchange`. The words that leave must be free of PHI for channels that aren't cleared for it.

/// The outbox channel number of e-mail.
pub const CHANNEL_EMAIL: u16 = 1;
/// That of notices to staff, which go by e-mail, too. A server of before notices takes what it can't read out of
/// the channel of e-mail; what is in a channel that it doesn't know, it leaves where it is.
pub const CHANNEL_NOTICE: u16 = 2;

/// A message on its way to the patient, or to somebody who acts for them.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Message {
    /// The patient's id.
    pub patient: String,
    /// Of what is written to somebody who acts for the patient, at their own address: the record of that. It
    /// goes while they do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
    /// The id of the `Communication` resource that follows this message.
    pub communication: String,
    /// `email`.
    pub channel: String,
    /// Code of the purpose of use that consent must cover, e.g. `TREAT`.
    pub purpose: String,
    /// The types of resources that the journey goes by; none where that is not known.
    #[serde(default)]
    pub about: Vec<String>,
    /// Subject line without PHI.
    pub subject: String,
    /// Text without PHI. `{link}` stands for the portal link.
    pub text: String,
    /// Path in the portal that `{link}` leads to, e.g. `/portal/inbox/ID`.
    pub link_path: String,
    /// Which journey, version and step, for audit and timeline.
    pub journey: String,
    /// The step's id.
    pub step: String,
    /// Do not send after this time (milliseconds since the epoch; care clock).
    pub expires_ms: Option<u64>,
}

/// A notice to somebody of the staff at an address of the configuration: that there is something to do, with
/// a link to a page behind the sign-in. Nothing of whom it concerns.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Notice {
    /// The e-mail address.
    pub to: String,
    /// What it is about, for the audit: `emergency access`.
    pub about: String,
    /// Subject line without PHI.
    pub subject: String,
    /// Text without PHI. `{link}` stands for the link.
    pub text: String,
    /// Path that `{link}` leads to.
    pub link_path: String,
}

//! Letters and telephone calls: messages that leave in batches of files for a partner who prints and posts them, or who
//! calls (`docs/decisions/0152-letters-and-calls-as-files.md`).
//!
//! Start reading at `run.rs` (when a batch is closed, and what becomes of it whatever ends this process), then `accept.rs`
//! (one message into a batch), `parcel.rs` (what is handed over of it), `letter.rs` (a PDF), `age.rs` (sealed for the
//! partner), `folder.rs` (whole or not there) and `receipts.rs` (what the partner tells).

mod accept;
mod age;
mod folder;
mod letter;
mod parcel;
mod receipts;
mod run;

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use fhir::Resource;
use jiff::civil::Time;
use jiff::tz::TimeZone;
use ledger::OutboxDraft;
use trust::NoText;
use trust::consent::NoPostal;
use trust::partners::Carries;

pub use run::FileDeliverer;

use crate::Price;
use crate::check::{Reason, Refused};
pub(crate) use accept::{Taken, batched, next_closing};
use age::Recipient;
use letter::Typeface;

/// Parts of Cairn that close batches.
const LETTERS: &str = "letter-deliverer";
const CALLS: &str = "call-deliverer";

/// Where batches go, and when.
#[derive(Debug, Clone)]
pub struct FileOptions {
    /// What they are of.
    pub way: FileWay,
    /// Where batches are handed over.
    pub folder: PathBuf,
    /// Where the partner tells what became of them.
    pub returns: PathBuf,
    /// The partner's public key, `age1…`.
    pub recipient: String,
    /// Times of day at which a batch is closed.
    pub closes: Vec<Time>,
    /// The time zone of those, and of patients of whom none is known.
    pub zone: TimeZone,
    /// The most messages of a batch; as many don't wait for its time.
    pub size: usize,
    /// The most messages that are handed over on a day (of UTC).
    pub per_day: Option<u32>,
    /// What one costs.
    pub price: Option<Price>,
    /// Base URL of the portal.
    pub portal_base: String,
}

/// What batches are of.
#[derive(Debug, Clone)]
pub enum FileWay {
    /// Letters.
    Letters(LetterOptions),
    /// Telephone calls.
    Calls(CallOptions),
}

/// What is said of letters.
#[derive(Debug, Clone)]
pub struct LetterOptions {
    /// Who writes, in one line: what stands over the address.
    pub sender: String,
    /// Words at the foot, before the portal's address.
    pub foot: String,
    /// The sender's country, which isn't written on letters to it.
    pub country: Option<String>,
    /// The class of postage.
    pub class: String,
    /// The class of what is more than routine.
    pub pressing_class: String,
    /// When a letter counts as delivered.
    pub delivered_when: LetterDelivered,
    /// A font file, in the place of our own.
    pub font: Option<PathBuf>,
}

/// When a letter counts as delivered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LetterDelivered {
    /// The post has it, as a receipt says.
    #[default]
    Posted,
    /// It is printed, as a receipt says.
    Printed,
    /// The partner has it: for partners that tell nothing.
    Handed,
}

/// What is said of telephone calls.
#[derive(Debug, Clone)]
pub struct CallOptions {
    /// From when on patients are called, by their own clock.
    pub from: Time,
    /// Until when.
    pub until: Time,
    /// How often somebody is called who doesn't answer.
    pub tries: u32,
}

/// What hands batches over.
pub(crate) struct Files {
    pub(crate) options: FileOptions,
    recipient: Recipient,
    /// For letters alone.
    face: Option<Typeface>,
    /// The batch that is closed now.
    closing: Mutex<Option<Closing>>,
}

/// A batch that messages are put into.
#[derive(Debug, Clone)]
struct Closing {
    name: String,
    /// What stands in the outbox as long as it takes any. Whoever puts a message into it takes that away and puts it there
    /// again, which is refused once it is gone.
    mark: OutboxDraft,
}

impl Files {
    /// Checks that the options fit together.
    pub(crate) fn new(mut options: FileOptions) -> Result<Self, String> {
        let recipient = Recipient::parse(options.recipient.trim())
            .ok_or("the partner's key is no recipient of age (age1…)")?;
        if options.size == 0 || options.size > run::SIZE_MAX {
            return Err(format!("a batch has 1 to {} messages", run::SIZE_MAX));
        }
        if options.closes.is_empty() {
            return Err("there is no time at which a batch is closed".to_owned());
        }
        if options.folder == options.returns {
            return Err("what goes out and what comes back needs a folder each".to_owned());
        }
        if options.per_day == Some(0) {
            return Err("a most of none a day hands nothing over".to_owned());
        }
        options.closes.sort_unstable();
        let face = match &options.way {
            FileWay::Letters(letters) => Some(match &letters.font {
                Some(path) => {
                    let data = std::fs::read(path)
                        .map_err(|error| format!("{}: {error}", path.display()))?;
                    Typeface::read(data)
                        .ok_or_else(|| format!("{} is no font that can be used", path.display()))?
                }
                None => Typeface::own().ok_or("there is no font")?,
            }),
            FileWay::Calls(calls) => {
                if calls.until <= calls.from {
                    return Err("calls end after they begin, on the same day".to_owned());
                }
                if calls.tries == 0 {
                    return Err("somebody is called once at least".to_owned());
                }
                None
            }
        };
        Ok(Self {
            options,
            recipient,
            face,
            closing: Mutex::new(None),
        })
    }

    /// What it is called in the log, and before the names of metrics.
    pub(crate) fn name(&self) -> &'static str {
        match self.options.way {
            FileWay::Letters(_) => "letter",
            FileWay::Calls(_) => "call",
        }
    }

    /// What it carries, for people.
    pub(crate) fn words(&self) -> &'static str {
        match self.options.way {
            FileWay::Letters(_) => "letter",
            FileWay::Calls(_) => "telephone call",
        }
    }

    /// The part of Cairn that the audit names.
    pub(crate) fn part(&self) -> &'static str {
        match self.options.way {
            FileWay::Letters(_) => LETTERS,
            FileWay::Calls(_) => CALLS,
        }
    }

    pub(crate) fn outbox(&self) -> &'static [u16] {
        match self.options.way {
            FileWay::Letters(_) => &[trust::outgoing::CHANNEL_LETTER],
            FileWay::Calls(_) => &[trust::outgoing::CHANNEL_VOICE],
        }
    }

    /// The channel of the outbox with batches under way.
    fn batches(&self) -> u16 {
        match self.options.way {
            FileWay::Letters(_) => trust::outgoing::CHANNEL_LETTER_BATCH,
            FileWay::Calls(_) => trust::outgoing::CHANNEL_VOICE_BATCH,
        }
    }

    /// What the partner carries who gets them.
    fn carries(&self) -> Carries {
        match self.options.way {
            FileWay::Letters(_) => Carries::Letters,
            FileWay::Calls(_) => Carries::Calls,
        }
    }

    /// The code of the medium of their messages.
    fn medium(&self) -> &'static str {
        match self.options.way {
            FileWay::Letters(_) => "MAILWRIT",
            FileWay::Calls(_) => "PHONE",
        }
    }

    /// Whether it rings, so that the hours of the day matter when it leaves.
    pub(crate) fn rings(&self) -> bool {
        matches!(self.options.way, FileWay::Calls(_))
    }

    fn set_closing(&self, batch: Option<Closing>) {
        *self.closing.lock().unwrap_or_else(PoisonError::into_inner) = batch;
    }

    fn closing(&self) -> Option<Closing> {
        let closing = self.closing.lock();
        closing.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Why a patient gets no letter.
pub(crate) fn no_letter(why: NoPostal) -> Refused {
    match why {
        NoPostal::Nowhere => Refused::new(
            Reason::NoAddress,
            "There is no address on record that letters may go to.",
        ),
        NoPostal::Unusable => Refused::new(
            Reason::NoAddress,
            "The address on record can't be written on an envelope.",
        ),
        NoPostal::Unwanted => {
            Refused::new(Reason::Preference, "The patient does not want letters.")
        }
    }
}

/// Why a patient isn't called.
pub(crate) fn no_call(why: NoText) -> Refused {
    match why {
        NoText::Nowhere | NoText::Stopped => {
            Refused::new(Reason::NoAddress, "There is no telephone number on record.")
        }
        NoText::Unusable => Refused::new(
            Reason::NoAddress,
            "The number on record is none that can be dialled.",
        ),
        NoText::Unwanted => Refused::new(Reason::Preference, "The patient does not want calls."),
    }
}

/// The batch that a message stands in.
pub(crate) fn batch_of(communication: &Resource) -> Option<&str> {
    let identifiers = communication.get("identifier")?.as_array()?;
    let mut identifiers = identifiers.iter();
    let found = identifiers.find(|one| one["system"] == trust::conventions::BATCH_SYSTEM)?;
    found["value"].as_str()
}

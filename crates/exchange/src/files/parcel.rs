//! A message of a closed batch as it is handed over, and the lists that go with a batch. What is here was decided when the
//! batch was closed, and doesn't change any more.

use aws_lc_rs::digest;
use fhir::Resource;
use ledger::{Expected, Ledger, Owner, TenantId};
use serde::{Deserialize, Serialize};
use trust::consent::Postal;
use trust::{Internal, kinds};

use super::letter::{Letter, Printed, Typeface, Unprintable, print};
use super::{CallOptions, LetterOptions};

/// One message of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Parcel {
    /// The batch.
    pub(crate) batch: String,
    /// The patient's id.
    pub(crate) patient: String,
    /// The message's id, by which the partner tells what became of it.
    pub(crate) communication: String,
    /// BCP 47.
    pub(crate) language: String,
    pub(crate) content: Content,
}

/// What is printed, or spoken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Content {
    Letter {
        to: Postal,
        title: String,
        text: String,
        /// The day on it.
        day: String,
        class: String,
        /// The last day on which it is of use; empty where it always is.
        due: String,
        pages: usize,
    },
    Call {
        /// E.164.
        number: String,
        words: String,
        /// The number of a recording; empty where there is none.
        script: String,
        /// From when on, and until when, by the patient's own clock.
        from: String,
        until: String,
        zone: String,
    },
}

/// The id of the document with one.
pub(crate) fn id(
    ledger: &Ledger,
    tenant: TenantId,
    patient: &str,
    (batch, communication): (&str, &str),
) -> String {
    let name = format!("parcel/{batch}/{communication}");
    ledger.derive_id(tenant, &Owner::Patient(patient.to_owned()), &name)
}

impl Parcel {
    /// The document with it.
    pub(crate) fn internal(&self, ledger: &Ledger, tenant: TenantId) -> Internal {
        Internal {
            kind: kinds::FILE_PARCEL,
            id: id(
                ledger,
                tenant,
                &self.patient,
                (&self.batch, &self.communication),
            ),
            owner: Owner::Patient(self.patient.clone()),
            expected: Expected::Absent,
            // A document of strings can't fail to serialise.
            body: serde_json::to_vec(self).unwrap_or_default(),
            deleted: false,
            tokens: Vec::new(),
        }
    }

    /// Its PDF, where it is a letter.
    pub(crate) fn print(
        &self,
        face: &Typeface,
        options: &LetterOptions,
        portal: &str,
    ) -> Option<Result<Printed, Unprintable>> {
        let Content::Letter {
            to,
            title,
            text,
            day,
            ..
        } = &self.content
        else {
            return None;
        };
        let foot = format!("{} {portal}", options.foot);
        let is_inland = to.country.is_empty() || options.country.as_ref() == Some(&to.country);
        let letter = Letter {
            sender: &options.sender,
            to,
            is_inland,
            day,
            title,
            text,
            foot: foot.trim(),
            language: &self.language,
        };
        Some(print(face, &letter))
    }
}

/// What a message says, as its patient reads it behind login.
pub(super) fn said(communication: &Resource) -> (String, String) {
    let text = |path: &[&str]| communication.text_at(path).unwrap_or_default().to_owned();
    (
        text(&["topic", "text"]),
        text(&["payload", "0", "contentString"]),
    )
}

/// A file of a batch before it is sealed.
pub(super) struct Plain {
    pub(super) name: String,
    pub(super) content: Vec<u8>,
}

fn sha256(content: &[u8]) -> String {
    let digest = digest::digest(&digest::SHA256, content);
    digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The files of a batch of letters: one for each, and the list, which comes last. `parcels` have their numbers, which
/// stay when one of them can't be opened any more.
pub(super) fn letters(
    batch: &str,
    parcels: &[(usize, Parcel)],
    (face, options, portal): (&Typeface, &LetterOptions, &str),
) -> Result<Vec<Plain>, String> {
    const HEAD: [&str; 15] = [
        "id",
        "file",
        "sha256",
        "pages",
        "class",
        "due",
        "name",
        "line1",
        "line2",
        "line3",
        "line4",
        "postal_code",
        "city",
        "state",
        "country",
    ];
    let (mut files, mut rows) = (Vec::new(), vec![HEAD.map(str::to_owned).to_vec()]);
    for (number, parcel) in parcels {
        let Content::Letter { to, class, due, .. } = &parcel.content else {
            return Err("a call stands among letters".to_owned());
        };
        let printed = match parcel.print(face, options, portal) {
            Some(Ok(printed)) => printed,
            Some(Err(why)) => {
                return Err(format!(
                    "letter {number} can't be printed any more ({why:?})"
                ));
            }
            None => continue,
        };
        let name = format!("{batch}-{number:04}.pdf");
        let line = |place: usize| to.lines.get(place).cloned().unwrap_or_default();
        rows.push(vec![
            parcel.communication.clone(),
            name.clone(),
            sha256(&printed.pdf),
            printed.pages.to_string(),
            class.clone(),
            due.clone(),
            to.name.clone(),
            line(0),
            line(1),
            line(2),
            line(3),
            to.postal_code.clone(),
            to.city.clone(),
            to.state.clone(),
            to.country.clone(),
        ]);
        files.push(Plain {
            name,
            content: printed.pdf,
        });
    }
    files.push(list(batch, &rows)?);
    Ok(files)
}

/// The list of a batch of calls.
pub(super) fn calls(
    batch: &str,
    parcels: &[(usize, Parcel)],
    options: &CallOptions,
) -> Result<Vec<Plain>, String> {
    const HEAD: [&str; 9] = [
        "id", "number", "language", "words", "script", "from", "until", "zone", "tries",
    ];
    let mut rows = vec![HEAD.map(str::to_owned).to_vec()];
    for (_, parcel) in parcels {
        let Content::Call {
            number,
            words,
            script,
            from,
            until,
            zone,
        } = &parcel.content
        else {
            return Err("a letter stands among calls".to_owned());
        };
        let tries = options.tries.to_string();
        let row = [
            &parcel.communication,
            number,
            &parcel.language,
            words,
            script,
            from,
            until,
            zone,
            &tries,
        ];
        rows.push(row.map(String::clone).to_vec());
    }
    Ok(vec![list(batch, &rows)?])
}

fn list(batch: &str, rows: &[Vec<String>]) -> Result<Plain, String> {
    let mut writer = csv::WriterBuilder::new()
        .terminator(csv::Terminator::CRLF)
        .from_writer(Vec::new());
    for row in rows {
        writer
            .write_record(row)
            .map_err(|error| error.to_string())?;
    }
    let content = writer.into_inner().map_err(|error| error.to_string())?;
    Ok(Plain {
        name: format!("{batch}.csv"),
        content,
    })
}

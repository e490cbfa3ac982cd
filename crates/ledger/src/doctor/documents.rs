//! The check of documents, and of the rows that follow from them.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};

use super::{Doctor, place_of};
use crate::backend::{Head, HeadKey, Table, Write};
use crate::outer::put_on;
use crate::redo::entry_of;
use crate::rows::{Header, SealedBy};
use crate::{Event, Hit, LedgerError, Number, SHARDS, Shard, Token};

const PAGE: usize = 1024;
/// Places whose tokens are remembered while postings are gone through.
const REMEMBERED: usize = 100_000;

/// What the check gathers on its way.
#[derive(Default)]
struct Gathered {
    /// All versions met of documents whose head is wrong.
    wrong_heads: HashMap<HeadKey, BTreeMap<u32, Head>>,
    /// Living newest versions without a list of tokens, and the tokens that their postings tell.
    bare: HashMap<Hit, (Header, Vec<Token>)>,
}

fn event_of(at: Hit, header: &Header) -> Event {
    Event {
        at,
        tenant: header.key.tenant,
        kind: header.kind,
        version: header.version,
        deleted: header.deleted,
        cause: header.cause,
    }
}

fn head_of(at: Hit, header: &Header) -> Head {
    Head {
        at,
        version: header.version,
        deleted: header.deleted,
        audit: header.sealed_by == SealedBy::Audit,
    }
}

impl Doctor<'_> {
    pub(super) fn documents(&mut self, progress: &dyn Fn(u64)) -> Result<(), LedgerError> {
        let mut gathered = Gathered::default();
        let mut place = Hit {
            number: Number(0),
            shard: Shard(0),
        };
        loop {
            let page = self.snapshot.places(place, PAGE);
            // What can't be listed has been told with the leaves.
            let Ok(page) = page else { break };
            let count = page.len();
            place = page.last().copied().unwrap_or(place);
            for at in page {
                self.report.documents += 1;
                let row = self.snapshot.document(at);
                if let Some(Some(row)) = self.read(place_of(at), row)? {
                    self.document(at, &row, &mut gathered)?;
                }
            }
            progress(self.report.documents);
            if count < PAGE {
                break;
            }
        }
        self.heads(&mut gathered)?;
        self.superseded(&gathered)?;
        self.events()?;
        self.postings(&mut gathered)?;
        self.posted()
    }

    fn document(
        &mut self,
        at: Hit,
        row: &[u8],
        gathered: &mut Gathered,
    ) -> Result<(), LedgerError> {
        let place = place_of(at);
        let Some((header, _)) = self.read(&*place, Header::decode(row))? else {
            return Ok(());
        };
        match self.core.tenant(header.key.tenant) {
            Ok(keys) => match self.core.open_row(self.backend, &keys, at, row) {
                Err(LedgerError::KeyDestroyed) => self.report.unreadable_documents += 1,
                outcome => drop(self.read(&*place, outcome)?),
            },
            Err(LedgerError::KeyDestroyed) => self.report.unreadable_documents += 1,
            Err(LedgerError::UnknownTenant(_)) => {
                self.damage(&*place, "is of a tenant that there is not");
            }
            Err(error) => drop(self.read::<()>(&*place, Err(error))?),
        }
        let head = self.snapshot.head(&header.key);
        let head = self.read(&*place, head)?.flatten();
        match head {
            Some(head) if header.version < head.version => {
                let superseded = self.snapshot.superseded(&header.key, header.version);
                if self.read(&*place, superseded)? != Some(Some(at)) {
                    self.repairable(
                        &*place,
                        "is an earlier version, and its document does not lead to it",
                        "the place of the version is written again",
                        vec![Write::Superseded {
                            key: header.key,
                            version: header.version,
                            at,
                        }],
                    );
                }
            }
            Some(head) if head == head_of(at, &header) => {
                if !head.deleted {
                    self.living(at, &header, gathered)?;
                }
            }
            _ => {
                let versions = gathered.wrong_heads.entry(header.key).or_default();
                versions.insert(header.version, head_of(at, &header));
            }
        }
        if header.sealed_by != SealedBy::Audit {
            let before = Number(at.number.0.saturating_sub(1));
            let event = self.snapshot.events(at.shard, before, 1);
            let event = self.read(&*place, event)?.and_then(|mut page| page.pop());
            let expected = event_of(at, &header);
            if event.as_ref() != Some(&expected) {
                self.repairable(
                    &*place,
                    "its event on the feed is missing or another",
                    "the event is written again",
                    vec![Write::Event(expected)],
                );
            }
        }
        Ok(())
    }

    /// A newest version that is not deleted is found by each of its tokens.
    fn living(
        &mut self,
        at: Hit,
        header: &Header,
        gathered: &mut Gathered,
    ) -> Result<(), LedgerError> {
        let tokens = self.snapshot.posted(at);
        let tokens = self.read(place_of(at), tokens)?.unwrap_or_default();
        if tokens.is_empty() {
            gathered.bare.insert(at, (header.clone(), Vec::new()));
        }
        let mut missing = Vec::new();
        for token in tokens {
            let posting = self.snapshot.postings(token, at, at.number, 1);
            if self.read(place_of(at), posting)?.unwrap_or_default() != [at] {
                missing.push(Write::Posting { token, at });
            }
        }
        if !missing.is_empty() {
            self.repairable(
                place_of(at),
                format!("can't be found by {} of its tokens", missing.len()),
                "the postings are written again",
                missing,
            );
        }
        Ok(())
    }

    /// Goes through a table.
    fn each_row(
        &mut self,
        table: Table,
        mut check: impl FnMut(&mut Self, Write) -> Result<(), LedgerError>,
    ) -> Result<(), LedgerError> {
        let mut after = None;
        loop {
            let page = self.snapshot.scan(table, after.as_ref(), PAGE);
            let name = format!("the table of {table:?} rows");
            let Some(page) = self.read(name, page)? else {
                return Ok(());
            };
            let count = page.len();
            after = page.last().cloned();
            for row in page {
                check(self, row)?;
            }
            if count < PAGE {
                return Ok(());
            }
        }
    }

    fn header_at(&self, at: Hit) -> Result<Option<Header>, LedgerError> {
        match self.snapshot.document(at) {
            Ok(Some(row)) => Ok(Header::decode(&row).ok().map(|(header, _)| header)),
            Ok(None) | Err(LedgerError::Damaged(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn heads(&mut self, gathered: &mut Gathered) -> Result<(), LedgerError> {
        let wrong_heads = &gathered.wrong_heads;
        self.each_row(Table::Head, |doctor, row| {
            let Write::Head(key, head) = row else {
                return Ok(());
            };
            if !wrong_heads.contains_key(&key)
                && doctor.header_at(head.at)?.map(|header| header.key) != Some(key)
            {
                doctor.damage(
                    place_of(head.at),
                    "is the newest version of a document, and is missing or another's",
                );
            }
            Ok(())
        })?;
        for (key, mut versions) in std::mem::take(&mut gathered.wrong_heads) {
            // The version that the wrong head leads to may be a good one, an earlier one.
            if let Some(head) = self.snapshot.head(&key)?
                && let Some(header) = self.header_at(head.at)?
                && header.key == key
            {
                versions.insert(header.version, head_of(head.at, &header));
            }
            let Some((_, newest)) = versions.pop_last() else {
                continue;
            };
            let mut writes = vec![Write::Head(key, newest)];
            writes.extend(
                versions
                    .into_iter()
                    .map(|(version, head)| Write::Superseded {
                        key,
                        version,
                        at: head.at,
                    }),
            );
            self.repairable(
                place_of(newest.at),
                "is the newest version of its document, which does not lead to it",
                "the document's row is written again",
                writes,
            );
            gathered.wrong_heads.insert(key, BTreeMap::new());
        }
        Ok(())
    }

    fn superseded(&mut self, gathered: &Gathered) -> Result<(), LedgerError> {
        self.each_row(Table::Superseded, |doctor, row| {
            let Write::Superseded { key, version, at } = row else {
                return Ok(());
            };
            let header = doctor.header_at(at)?;
            let holds = header.is_some_and(|header| header.key == key && header.version == version);
            // One that leads astray is written again with its document, if that is there.
            if !holds && !gathered.wrong_heads.contains_key(&key) {
                let known = doctor
                    .snapshot
                    .head(&key)?
                    .is_some_and(|head| head.version > version);
                if !known {
                    doctor.damage(
                        place_of(at),
                        format!("is not version {version} of the document that leads to it"),
                    );
                }
            }
            Ok(())
        })
    }

    fn events(&mut self) -> Result<(), LedgerError> {
        for shard in (0..SHARDS).map(Shard) {
            let mut after = Number(0);
            loop {
                let page = self.snapshot.events(shard, after, PAGE);
                let Some(page) = self.read(format!("the feed of shard {shard}"), page)? else {
                    break;
                };
                let count = page.len();
                after = page.last().map_or(after, |event| event.at.number);
                for event in page {
                    // An event that is another than its document's has been told with the document.
                    let known = self.header_at(event.at)?;
                    if known.is_none_or(|header| header.sealed_by == SealedBy::Audit) {
                        self.damage(
                            place_of(event.at),
                            "has an event on the feed, and is missing or an audit record",
                        );
                    }
                }
                if count < PAGE {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Whether a place is that of a living newest version, as far as its document's row is right.
    fn is_living(&self, at: Hit) -> Result<bool, LedgerError> {
        let Some(header) = self.header_at(at)? else {
            return Ok(false);
        };
        let head = match self.snapshot.head(&header.key) {
            Ok(head) => head,
            Err(LedgerError::Damaged(_)) => None,
            Err(error) => return Err(error),
        };
        // A head that is behind is repaired first; a second run looks at these again.
        Ok(!header.deleted && head.is_none_or(|head| head.version <= header.version))
    }

    fn postings(&mut self, gathered: &mut Gathered) -> Result<(), LedgerError> {
        let mut remembered: HashMap<Hit, Option<Vec<Token>>> = HashMap::new();
        let bare = &mut gathered.bare;
        self.each_row(Table::Posting, |doctor, row| {
            let Write::Posting { token, at } = row else {
                return Ok(());
            };
            doctor.report.postings += 1;
            if let Some((_, tokens)) = bare.get_mut(&at) {
                tokens.push(token);
                return Ok(());
            }
            if remembered.len() >= REMEMBERED {
                remembered.clear();
            }
            let listed = match remembered.entry(at) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => entry.insert(if doctor.is_living(at)? {
                    Some(doctor.snapshot.posted(at)?)
                } else {
                    None
                }),
            };
            if listed
                .as_ref()
                .is_none_or(|tokens| !tokens.contains(&token))
            {
                doctor.repairable(
                    place_of(at),
                    "is found by a token that is not its, or is not the newest version",
                    "the posting is removed",
                    vec![Write::DropPosting { token, at }],
                );
            }
            Ok(())
        })?;
        for (at, (header, mut tokens)) in std::mem::take(&mut gathered.bare) {
            // Behind a wrong head it may be an earlier version; a second run knows.
            if gathered.wrong_heads.contains_key(&header.key) {
                continue;
            }
            let audit = header.sealed_by == SealedBy::Audit;
            let kind_tokens = match self.core.tenant(header.key.tenant) {
                Ok(keys) => {
                    let token = keys.kind_token(header.kind);
                    let layers = self.core.layers_in(self.snapshot, header.key.tenant);
                    let layers = self.read(place_of(at), layers)?.unwrap_or_default();
                    let stored = layers.iter().map(|layer| put_on(layer, token));
                    stored.collect::<Vec<_>>()
                }
                // Told with the document, or of a tenant that was destroyed.
                Err(
                    LedgerError::UnknownTenant(_)
                    | LedgerError::KeyDestroyed
                    | LedgerError::Damaged(_),
                ) => continue,
                Err(error) => return Err(error),
            };
            if !kind_tokens.iter().any(|token| tokens.contains(token)) {
                self.damage(
                    place_of(at),
                    "can't be found: its postings and the list of its tokens are missing",
                );
            } else if !audit {
                // Programs before decision 0013 wrote none for audit records.
                tokens.sort_unstable();
                self.repairable(
                    place_of(at),
                    "has no list of its tokens",
                    "the list is written again from the postings",
                    vec![Write::Posted { at, tokens }],
                );
            }
        }
        Ok(())
    }

    fn posted(&mut self) -> Result<(), LedgerError> {
        // Those of superseded versions stay until a backup has taken them.
        let mut waiting = HashSet::new();
        let mut sequence = 0;
        while let Ok(page) = self.snapshot.redo(sequence, PAGE) {
            let Some((last, _)) = page.last() else { break };
            sequence = *last;
            for (_, row) in &page {
                if let Ok((_, entry)) = entry_of(row) {
                    waiting.extend(entry.stale);
                }
            }
        }
        let mut before = None;
        self.each_row(Table::Posted, |doctor, row| {
            let Write::Posted { at, .. } = row else {
                return Ok(());
            };
            let is_another = before.replace(at) == Some(at);
            if !waiting.contains(&at) && !doctor.is_living(at)? {
                // Told with the first of them, and all go.
                if is_another {
                    return Ok(());
                }
                doctor.repairable(
                    place_of(at),
                    "is not a newest version, and has a list of tokens",
                    "the list is removed",
                    vec![Write::DropPosted { at }],
                );
            } else if is_another {
                let tokens = doctor.snapshot.posted(at);
                if let Some(tokens) = doctor.read(place_of(at), tokens)? {
                    doctor.repairable(
                        place_of(at),
                        "has another list of its tokens, behind an earlier key",
                        "the earlier list is removed",
                        vec![Write::Posted { at, tokens }],
                    );
                }
            }
            Ok(())
        })
    }
}

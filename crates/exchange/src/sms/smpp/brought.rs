//! What the other side of a session brings: receipts, and what people send to our number. Each has its answer once it is
//! written down, and what can't be is brought again.

use std::time::Duration;

use tokio::time::sleep;
use trust::Permit;
use trust::sms::{Country, Number};

use super::super::DeliveredWhen;
use super::super::door::{Said, SmsDoor, Unheard};
use super::super::receipts::{Receipt, Stand};
use super::super::reply::Name;
use super::named::Fit;
use super::pdu::{Brought, status};
use super::session::{Bringing, Late, Voice};
use super::{MessageIds, reference};

/// Pauses between looks for the message that a receipt names. A receipt may be here before the name of its message is
/// written down: as long as that is tried, and some more.
const LOOKS_MS: [u64; 5] = [300, 600, 1_000, 2_000, 2_500];
/// The largest number by which receipts say why a message failed: three digits (appendix B).
const ERROR_MAX: u64 = 999;
/// Types of numbers (5.2.5).
const INTERNATIONAL: u8 = 1;
const NATIONAL: u8 = 2;

/// How receipts are read.
#[derive(Debug, Clone, Copy)]
pub(super) struct How {
    pub(super) message_ids: MessageIds,
    pub(super) delivered_when: DeliveredWhen,
}

impl How {
    /// What the provider calls a message that it has taken. One that it has no name for has one of ours.
    pub(super) fn name(self, said: Option<&str>, communication: &str) -> String {
        match said {
            Some(said) => reference(&self.message_ids.of_answer(said)),
            None => reference(&format!("no name of {communication}")),
        }
    }
}

/// What somebody is told who has written.
pub(super) struct Reply {
    pub(super) to: Number,
    pub(super) text: String,
}

/// A receipt as it is brought.
#[derive(Debug, PartialEq, Eq)]
struct Slip {
    reference: String,
    stand: Stand,
    error: Option<u64>,
    mark: Option<u16>,
}

/// What they ask for could not be written down.
pub(super) struct Untaken;

/// Ties log, audit and trace of what is brought together: of each time that something is.
fn request_id(door: &SmsDoor, sequence: u32) -> String {
    let now_ms = door.trust.vault().ledger().clock().now_ms();
    format!("smpp-{now_ms}-{sequence}")
}

/// Takes what somebody has sent to our number, by a session that was opened at a time (care clock). What can't be taken
/// gets no answer: with one, what came behind it would be taken before it.
pub(super) async fn hear(
    door: &SmsDoor,
    voice: &Voice,
    bringing: &Bringing,
    since_ms: u64,
) -> Result<Option<Reply>, Untaken> {
    let what = &bringing.what;
    if what.part > 1 {
        // Words are at the beginning of a text; what is in the middle of one is none.
        metrics::counter!("sms_heard_total", "what" => "other").increment(1);
        voice.answer(bringing, status::OK).await;
        return Ok(None);
    }
    let country = door.trust.vault().texts().country;
    let request_id = request_id(door, bringing.sequence);
    let untaken = |error: Unheard| {
        tracing::error!(%error, "sms: what somebody sent could not be taken; the provider brings it again in another session");
        Untaken
    };
    let reply = match numbers(what, country).as_slice() {
        numbers @ [_, _, ..] => {
            // Whose it is can't be told, so they are answered nothing, and a START lifts no STOP of somebody else.
            let stop = door.hear_of_several(numbers, &what.text, &request_id);
            stop.await.map_err(untaken)?;
            None
        }
        numbers => {
            let from = numbers.first().map_or(what.from.as_str(), Number::as_str);
            let said = Said {
                from,
                text: &what.text,
                by_provider: None,
                name: Some(Name::Words { since_ms }),
                files: 0,
                is_cut: what.is_cut,
                // A session is one account's, and some centres write this number as no other does.
                to: None,
            };
            let heard = door.hear(&said, &request_id).await;
            let heard = heard.map_err(untaken)?;
            let to = numbers.first().cloned();
            to.zip(heard.reply).map(|(to, text)| Reply { to, text })
        }
    };
    voice.answer(bringing, status::OK).await;
    Ok(reply)
}

/// Takes what the provider has said to a message after nobody waited for it any more: it has it, so it isn't handed over
/// again.
pub(super) async fn late(door: &SmsDoor, late: &Late, how: How) {
    let request_id = request_id(door, late.sequence);
    let name = how.name(late.said.as_deref(), &late.communication);
    let receipt = Receipt {
        reference: &name,
        stand: Stand::UnderWay,
        error: None,
        is_by_mark: false,
    };
    let written = async {
        let permit = door.permit(&request_id).await?;
        door.write_receipt(&permit, &late.communication, &receipt)
            .await
    };
    if let Err(error) = written.await {
        tracing::error!(%error, "sms: a late answer to a message could not be written down, so it may be handed over again");
    }
}

/// Takes a receipt.
pub(super) async fn note(door: &SmsDoor, voice: &Voice, bringing: &Bringing, how: How) {
    let status = match written(door, bringing, how).await {
        Ok(()) => status::OK,
        Err(error) => {
            tracing::error!(%error, "sms: a receipt could not be written down; the provider brings it again");
            status::NOT_NOW
        }
    };
    voice.answer(bringing, status).await;
}

async fn written(door: &SmsDoor, bringing: &Bringing, how: How) -> Result<(), Unheard> {
    let what = &bringing.what;
    let Some(slip) = slip(what, how) else {
        metrics::counter!("sms_unusable_total").increment(1);
        return Ok(());
    };
    let permit = door.permit(&request_id(door, bringing.sequence)).await?;
    let Some((id, is_by_mark)) = whichever(door, &permit, what, &slip).await? else {
        tracing::warn!("sms: a receipt names no message of ours");
        metrics::counter!("sms_unknown_receipts_total").increment(1);
        return Ok(());
    };
    let receipt = Receipt {
        reference: &slip.reference,
        stand: slip.stand,
        error: slip.error,
        is_by_mark,
    };
    match door.write_receipt(&permit, &id, &receipt).await {
        // Of a patient whose records were destroyed meanwhile.
        Err(Unheard::Unknown) => {
            metrics::counter!("sms_unusable_total").increment(1);
            Ok(())
        }
        other => other,
    }
}

/// The message that a receipt is of, and whether it was found by its mark: by the provider's name for it, or, where nothing
/// has that name yet, by its number and mark. What was handed over by a process that died before it heard the name is found
/// by these alone.
async fn whichever(
    door: &SmsDoor,
    permit: &Permit,
    what: &Brought,
    slip: &Slip,
) -> Result<Option<(String, bool)>, Unheard> {
    let texts = door.trust.vault().texts();
    let mut numbers = numbers(what, texts.country);
    // Some centres leave the addresses of a message as they were: then it is from us.
    let digits = |number: &str| number.trim_start_matches('+').to_owned();
    let ours = texts.from.as_deref().map(digits);
    numbers.retain(|number| Some(digits(number.as_str())) != ours);
    let mut pauses = LOOKS_MS.iter();
    let mut mark = slip.mark.filter(|_| !numbers.is_empty());
    loop {
        let named = door
            .named(permit, &slip.reference, slip.mark, &numbers)
            .await?;
        if let Some(named) = &named
            && named.fit == Fit::Sure
        {
            return Ok(Some((named.id.clone(), false)));
        }
        let Some(pause_ms) = pauses.next() else {
            let named = named.filter(|named| named.fit != Fit::No);
            return Ok(named.map(|named| (named.id, false)));
        };
        sleep(Duration::from_millis(*pause_ms)).await;
        if let Some(mark) = mark.take()
            && let Some(id) = door.marked(permit, &numbers, mark).await?
        {
            return Ok(Some((id, true)));
        }
    }
}

/// The numbers that one may be, with their countries. Where its type isn't said, or isn't true, it is with its country or
/// without, and may be a number both ways.
fn numbers(what: &Brought, country: Option<Country>) -> Vec<Number> {
    let is_plain = !what.from.is_empty() && what.from.bytes().all(|byte| byte.is_ascii_digit());
    if !is_plain {
        return Number::parse(&what.from, country).into_iter().collect();
    }
    let whole = Number::parse(&format!("+{}", what.from), country);
    let national = Number::parse(&what.from, country);
    let mut found: Vec<Number> = match what.ton {
        INTERNATIONAL => whole.or(national).into_iter().collect(),
        NATIONAL => national.into_iter().collect(),
        _ => whole.into_iter().chain(national).collect(),
    };
    found.dedup();
    found
}

/// What a receipt says: by its parameters, or by the words that appendix B of the specification suggests.
fn slip(what: &Brought, how: How) -> Option<Slip> {
    let said = what.receipted.as_deref().filter(|name| !name.is_empty());
    let said = said.or_else(|| what.said("id"))?;
    let reference = reference(&how.message_ids.of_receipt(said));
    let stand = what.state.and_then(|state| by_state(state, how));
    let stand = stand.or_else(|| by_word(what.said("stat")?, how))?;
    let error = what.said("err").and_then(|code| code.parse().ok());
    Some(Slip {
        reference,
        stand,
        error: error.filter(|code| (1..=ERROR_MAX).contains(code)),
        mark: what.mark,
    })
}

/// The network has it.
fn on_its_way(how: How) -> Stand {
    match how.delivered_when {
        DeliveredWhen::Delivered => Stand::UnderWay,
        DeliveredWhen::Sent | DeliveredWhen::Taken => Stand::Arrived,
    }
}

/// By the number of a state (5.2.28).
fn by_state(state: u8, how: How) -> Option<Stand> {
    Some(match state {
        0 | 7 => Stand::UnderWay,
        1 | 6 => on_its_way(how),
        2 => Stand::Arrived,
        3..=5 | 8 | 9 => Stand::Failed,
        _ => return None,
    })
}

fn by_word(word: &str, how: How) -> Option<Stand> {
    Some(match word.to_ascii_uppercase().as_str() {
        "SCHEDULED" | "UNKNOWN" => Stand::UnderWay,
        "ENROUTE" | "ACCEPTD" | "ACCEPTED" => on_its_way(how),
        "DELIVRD" | "DELIVERED" => Stand::Arrived,
        "EXPIRED" | "DELETED" | "UNDELIV" | "UNDELIVERABLE" | "REJECTD" | "REJECTED" | "FAILED"
        | "SKIPPED" => Stand::Failed,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOW: How = How {
        message_ids: MessageIds::Same,
        delivered_when: DeliveredWhen::Delivered,
    };

    fn words(stat: &str, err: &str) -> Brought {
        Brought {
            text: format!("id:m7 sub:001 dlvrd:001 stat:{stat} err:{err} text:Hello"),
            ..Brought::default()
        }
    }

    #[test]
    fn receipts_say_where_a_message_is() {
        use Stand::{Arrived, Failed, UnderWay};
        for (stat, state, expected) in [
            ("DELIVRD", None, Some(Arrived)),
            ("UNDELIV", None, Some(Failed)),
            ("EXPIRED", None, Some(Failed)),
            ("REJECTD", None, Some(Failed)),
            ("DELETED", None, Some(Failed)),
            ("ACCEPTD", None, Some(UnderWay)),
            ("enroute", None, Some(UnderWay)),
            ("UNKNOWN", None, Some(UnderWay)),
            ("PONDERING", None, None),
            // Where both say something, the parameter counts; where it is none that is known, the words.
            ("DELIVRD", Some(5), Some(Failed)),
            ("DELIVRD", Some(77), Some(Arrived)),
            ("PONDERING", Some(2), Some(Arrived)),
            ("PONDERING", Some(3), Some(Failed)),
            ("PONDERING", Some(8), Some(Failed)),
        ] {
            let what = Brought {
                state,
                ..words(stat, "000")
            };
            let found = slip(&what, HOW).map(|slip| slip.stand);
            assert_eq!(found, expected, "{stat} {state:?}");
        }
        let sent = How {
            delivered_when: DeliveredWhen::Sent,
            ..HOW
        };
        assert_eq!(by_word("ENROUTE", sent), Some(Arrived));
        assert_eq!(by_state(1, sent), Some(Arrived));
        assert_eq!(by_state(0, sent), Some(UnderWay));
    }

    #[test]
    fn reasons_are_kept_that_are_of_three_digits() {
        for (err, expected) in [
            ("000", None),
            ("034", Some(34)),
            ("999", Some(999)),
            // A number that means something at another provider.
            ("21610", None),
            ("0x22", None),
        ] {
            let found = slip(&words("UNDELIV", err), HOW).expect("a receipt");
            assert_eq!(found.error, expected, "{err}");
            assert_eq!(found.reference, "m7");
        }
        let other = Brought {
            receipted: Some("a|b".to_owned()),
            ..words("DELIVRD", "000")
        };
        // A name that none can be looked for by is looked for by another, the same as of an answer.
        let found = slip(&other, HOW).map(|slip| slip.reference);
        assert_eq!(found, Some(HOW.name(Some("a|b"), "x")));
        assert_ne!(HOW.name(None, "x"), HOW.name(None, "y"));
    }

    #[test]
    fn numbers_are_read_by_their_type() {
        for (country, ton, from, expected) in [
            ("US", 1, "16175550142", &["+16175550142"][..]),
            // Said to have its country, and hasn't.
            ("US", 1, "6175550142", &["+16175550142"]),
            ("US", 2, "6175550142", &["+16175550142"]),
            ("US", 0, "16175550142", &["+16175550142"]),
            ("US", 0, "6175550142", &["+16175550142"]),
            ("US", 0, "+16175550142", &["+16175550142"]),
            // Of Los Angeles, or of Antwerp.
            ("US", 0, "3232345678", &["+3232345678", "+13232345678"]),
            ("US", 1, "3232345678", &["+3232345678"]),
            ("US", 2, "3232345678", &["+13232345678"]),
            ("US", 5, "Northbank", &[]),
            ("US", 3, "61755", &[]),
            ("US", 0, "", &[]),
        ] {
            let what = Brought {
                ton,
                from: from.to_owned(),
                ..Brought::default()
            };
            let found = numbers(&what, Country::parse(country));
            let found: Vec<&str> = found.iter().map(Number::as_str).collect();
            assert_eq!(found, expected, "{ton} {from}");
        }
    }
}

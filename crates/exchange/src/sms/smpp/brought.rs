//! What the other side of a session brings: receipts, and what people send to our number. Each has its answer once it is
//! written down, and what can't be is brought again.

use std::time::Duration;

use tokio::time::sleep;
use trust::Permit;
use trust::sms::{Country, Number};

use super::super::DeliveredWhen;
use super::super::door::{SmsDoor, Unheard};
use super::super::receipts::{Receipt, Stand};
use super::pdu::{Brought, status};
use super::session::{Bringing, Voice};
use super::{MessageIds, is_reference};

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

/// What somebody is told who has written.
#[derive(Debug)]
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

/// Takes what somebody has sent to our number.
pub(super) async fn hear(door: &SmsDoor, voice: &Voice, bringing: &Bringing) -> Option<Reply> {
    let what = &bringing.what;
    if what.part > 1 {
        // Words are at the beginning of a text; what is in the middle of one is none.
        metrics::counter!("sms_heard_total", "what" => "other").increment(1);
        voice.answer(bringing, status::OK).await;
        return None;
    }
    let country = door.trust.vault().texts().country;
    let from = whose(what, country);
    let request_id = format!("smpp-{}", bringing.sequence);
    match door.hear((&from, &what.text), None, &request_id).await {
        Ok(heard) => {
            voice.answer(bringing, status::OK).await;
            let to = Number::parse(&from, country)?;
            heard.reply.map(|text| Reply { to, text })
        }
        Err(error) => {
            tracing::error!(%error, "sms: what somebody sent could not be taken; the provider brings it again");
            voice.answer(bringing, status::NOT_NOW).await;
            None
        }
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
    let permit = door.permit(&format!("smpp-{}", bringing.sequence)).await?;
    let Some(id) = whichever(door, &permit, what, &slip).await? else {
        tracing::warn!("sms: a receipt names no message of ours");
        metrics::counter!("sms_unknown_receipts_total").increment(1);
        return Ok(());
    };
    let receipt = Receipt {
        reference: &slip.reference,
        stand: slip.stand,
        error: slip.error,
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

/// The message that a receipt is of: by the provider's name for it, or, where nothing has that name yet, by its number and
/// mark. What was handed over by a process that died before it heard the name is found by these alone.
async fn whichever(
    door: &SmsDoor,
    permit: &Permit,
    what: &Brought,
    slip: &Slip,
) -> Result<Option<String>, Unheard> {
    let country = door.trust.vault().texts().country;
    let number = Number::parse(&whose(what, country), country);
    let mut pauses = LOOKS_MS.iter();
    let mut marked = slip.mark.zip(number);
    loop {
        let named = door.named(permit, &slip.reference, slip.mark).await?;
        if named.as_ref().is_some_and(|named| named.is_sure) {
            return Ok(named.map(|named| named.id));
        }
        let Some(pause_ms) = pauses.next() else {
            return Ok(named.map(|named| named.id));
        };
        sleep(Duration::from_millis(*pause_ms)).await;
        if let Some((mark, number)) = marked.take()
            && let Some(id) = door.marked(permit, &number, mark).await?
        {
            return Ok(Some(id));
        }
    }
}

/// A number as we write them: with its country. Where its type isn't said, it is taken for one with its country if it can
/// be one.
fn whose(what: &Brought, country: Option<Country>) -> String {
    let is_plain = !what.from.is_empty() && what.from.bytes().all(|byte| byte.is_ascii_digit());
    let whole = format!("+{}", what.from);
    match what.ton {
        INTERNATIONAL if is_plain => whole,
        NATIONAL => what.from.clone(),
        _ if is_plain && Number::parse(&whole, country).is_some() => whole,
        _ => what.from.clone(),
    }
}

/// What a receipt says: by its parameters, or by the words that appendix B of the specification suggests.
fn slip(what: &Brought, how: How) -> Option<Slip> {
    let reference = what.receipted.as_deref().or_else(|| what.said("id"))?;
    let reference = how.message_ids.of_receipt(reference);
    let stand = what.state.and_then(|state| by_state(state, how));
    let stand = stand.or_else(|| by_word(what.said("stat")?, how))?;
    let error = what.said("err").and_then(|code| code.parse().ok());
    is_reference(&reference).then_some(Slip {
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
        assert_eq!(slip(&other, HOW), None);
    }

    #[test]
    fn numbers_are_read_by_their_type() {
        let us = Country::parse("US");
        for (ton, from, expected) in [
            (1, "16175550142", "+16175550142"),
            (2, "6175550142", "6175550142"),
            (0, "16175550142", "+16175550142"),
            (0, "6175550142", "6175550142"),
            (0, "+16175550142", "+16175550142"),
            (5, "Northbank", "Northbank"),
            (3, "61755", "61755"),
            (0, "", ""),
        ] {
            let what = Brought {
                ton,
                from: from.to_owned(),
                ..Brought::default()
            };
            assert_eq!(whose(&what, us), expected, "{ton} {from}");
        }
    }
}

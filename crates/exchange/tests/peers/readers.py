"""Reads e-mails as others do: dkimpy checks signatures, icalendar reads entries for calendars.

Takes one JSON object on standard input and answers with one on standard output.
"""

import base64
import json
import sys
from email import message_from_bytes, policy
from zoneinfo import ZoneInfo


def dkim_of(asked):
    """For each signature, whether it is good by these keys, and which headers it covers."""
    import dkim

    mail = base64.b64decode(asked["mail"])
    known = {name.rstrip(".").encode(): text.encode() for name, text in asked["dns"].items()}

    def dnsfunc(name, timeout=5):
        name = name if isinstance(name, bytes) else name.encode()
        return known.get(name.rstrip(b"."))

    found = []
    count = len(message_from_bytes(mail).get_all("DKIM-Signature") or [])
    for index in range(count):
        reader = dkim.DKIM(mail, minkey=1024)
        try:
            good = reader.verify(idx=index, dnsfunc=dnsfunc)
            why = None
        except Exception as error:  # a reader that fails has not verified
            good, why = False, str(error)
        signature = reader.signature_fields or {}
        found.append({
            "good": good,
            "why": why,
            "algorithm": signature.get(b"a", b"").decode(),
            "domain": signature.get(b"d", b"").decode(),
            "selector": signature.get(b"s", b"").decode(),
            "headers": [name.strip().lower() for name in signature.get(b"h", b"").decode().split(":")],
        })
    return {"signatures": found}


def entry_of(asked):
    """The entry for a calendar in a mail, with its times in a zone."""
    import icalendar

    mail = message_from_bytes(base64.b64decode(asked["mail"]), policy=policy.default)
    kinds = [part.get_content_type() for part in mail.walk()]
    parts = [part for part in mail.walk() if part.get_content_type() == "text/calendar"]
    if not parts:
        return {"kinds": kinds, "entry": None}
    part = parts[0]
    text = part.get_payload(decode=True)
    calendar = icalendar.Calendar.from_ical(text)
    event = next(iter(calendar.walk("VEVENT")))
    zone = ZoneInfo(asked.get("zone", "UTC"))
    names = sorted(str(name) for name in event.keys())
    return {
        "kinds": kinds,
        "text": text.decode(),
        "entry": {
            "parameter": part.get_param("method"),
            "method": str(calendar["METHOD"]),
            "uid": str(event["UID"]),
            "sequence": int(event["SEQUENCE"]),
            "status": str(event["STATUS"]),
            "start": event.decoded("DTSTART").astimezone(zone).isoformat(),
            "end": event.decoded("DTEND").astimezone(zone).isoformat(),
            "summary": str(event["SUMMARY"]),
            "description": str(event["DESCRIPTION"]),
            "organizer": str(event["ORGANIZER"]),
            "attendee": str(event["ATTENDEE"]),
            "names": names,
        },
    }


if __name__ == "__main__":
    readers = {"dkim": dkim_of, "entry": entry_of}
    print(json.dumps(readers[sys.argv[1]](json.load(sys.stdin))))

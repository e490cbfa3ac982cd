"""Another message centre for the tests, over PyPI's `smpp34`, which nobody here wrote. It takes any password.

  python centre.py PREFIX [PORT]

PREFIX begins the names that it gives messages, so that one that follows another gives names of its own.

It says and hears a part of what `centre.js` does: {"port": N}, then {"message": …} for each submit_sm that it took,
{"bound": N} for each bind, {"unbound": N} for each session that ended, and {"answered": …} for the answer to what it
brought. Commands come from standard input, one JSON object a line:

  {"next": [PLAN…]}  what it does with the next submit_sm: a status, or "hang" (it is taken and never answered)
  {"bring": {…}}     sends a deliver_sm with these members to the session that was bound last
  {"unbind": true}   says good-bye to the session that was bound last
"""

import asyncio
import json
import socket
import sys

import smpp34

INTEGERS = {"message_state": (smpp34.TLV_MESSAGE_STATE, 1), "user_message_reference": (smpp34.TLV_USER_MESSAGE_REFERENCE, 2)}


def say(what):
    print(json.dumps(what), flush=True)


class Centre:
    def __init__(self, prefix):
        self.prefix, self.planned, self.held = prefix, [], []
        self.bound = None
        self.binds = self.unbinds = self.count = 0

    async def serve(self, server):
        while True:
            event = await server.next()
            if isinstance(event, smpp34.Esme):
                self.bound = event
                self.binds += 1
                say({"bound": self.binds})
            elif isinstance(event, smpp34.Unbound):
                self.unbinds += 1
                say({"unbound": self.unbinds})
            elif isinstance(event, smpp34.SubmitSmEvent):
                self.takes(event)

    def takes(self, event):
        plan = self.planned.pop(0) if self.planned else 0
        if isinstance(plan, int) and plan:
            event.reject(plan)
            return
        self.count += 1
        name = f"{self.prefix}{self.count:08}"
        tlvs = {one.tag: one for one in event.tlvs}
        payload = tlvs.get(smpp34.TLV_MESSAGE_PAYLOAD)
        octets = payload.value if payload else event.short_message
        mark = tlvs.get(smpp34.TLV_USER_MESSAGE_REFERENCE)
        coding = "utf-16-be" if event.data_coding == 8 else "latin-1"
        say({"message": {
            "id": name, "to": event.destination_addr, "from": event.source_addr, "text": octets.decode(coding),
            "coding": event.data_coding, "receipts": event.registered_delivery, "mark": mark and mark.as_int(),
            "payload": payload is not None, "ton": event.dest_addr_ton, "source_ton": event.source_addr_ton,
        }})
        if plan == "hang":
            # An event that is let go is refused.
            self.held.append(event)
        else:
            event.accept(name)

    async def brings(self, what):
        what = {name: value for name, value in what.items() if value is not None}
        tlvs = [smpp34.Tlv(tag, what.pop(name).to_bytes(size, "big")) for name, (tag, size) in INTEGERS.items() if name in what]
        if "receipted_message_id" in what:
            value = what.pop("receipted_message_id").encode() + b"\0"
            tlvs.append(smpp34.Tlv(smpp34.TLV_RECEIPTED_MESSAGE_ID, value))
        to, text = what.pop("destination_addr", ""), what.pop("short_message", "").encode()
        answer = await self.bound.deliver_sm(to, text, tlvs=tlvs, **what)
        return answer.command_status

    async def does(self, command):
        if "bring" in command:
            try:
                return {"answered": await self.brings(command["bring"])}
            except smpp34.SmppError:
                return {"answered": None}
        if "next" in command:
            self.planned = command["next"]
        if "unbind" in command:
            await self.bound.unbind()
        return {"ready": True}


async def main():
    # It has to be told a port: 0 is taken as it is.
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(sys.argv[2]) if len(sys.argv) > 2 else free.getsockname()[1]
    centre = Centre(sys.argv[1])
    server = smpp34.Server("127.0.0.1", port, system_id="centre34")
    await server.start()
    serving = asyncio.create_task(centre.serve(server))
    say({"port": port})
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        say(await centre.does(json.loads(line)))
    serving.cancel()


asyncio.run(main())

"""An SMTP server (aiosmtpd) that notes each message that it has taken before it says so.

Arguments: the file to note in, a line RECIPIENT MESSAGE-ID each; and, if it is to be slow to say so, a seed: then it
answers up to 300 milliseconds after it has noted. It prints its port.
"""

import asyncio
import email
import os
import random
import socket
import sys

from aiosmtpd.controller import Controller


class Noting:
    def __init__(self, path, seed):
        self.log = open(path, "a", encoding="utf-8")
        self.text = open(path + ".text", "ab")
        self.random = random.Random(seed) if seed is not None else None

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("gone-"):
            return "550 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        message = email.message_from_bytes(envelope.content)
        for recipient in envelope.rcpt_tos:
            self.log.write(f"{recipient} {message['Message-ID']}\n")
        # Headers as sent, and bodies with their transfer encoding taken off: what a reader sees.
        for part in message.walk():
            for name, value in part.items():
                self.text.write(f"{name}: {value}\r\n".encode())
            self.text.write(b"\r\n")
            if not part.is_multipart():
                self.text.write(part.get_payload(decode=True) + b"\r\n")
        self.text.flush()
        self.log.flush()
        os.fsync(self.log.fileno())
        if self.random is not None:
            await asyncio.sleep(self.random.uniform(0, 0.3))
        return "250 taken"


seed = int(sys.argv[2]) if len(sys.argv) > 2 else None
controller = Controller(Noting(sys.argv[1], seed), hostname="127.0.0.1", port=0)
# The controller connects to its own port to see that it listens; port 0 has to be found out first.
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    controller.port = free.getsockname()[1]
controller.start()
print(controller.port, flush=True)
asyncio.new_event_loop().run_forever()

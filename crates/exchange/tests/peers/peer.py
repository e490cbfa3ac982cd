"""A real SMTP server (aiosmtpd) that behaves as it is told, for the tests of mail delivery.

Tells on standard output, one JSON object a line: first {"port": …}, then one {"message": …} for each
message that it has in full, whatever it answered. Ends when standard input ends.
"""

import argparse
import asyncio
import base64
import json
import ssl
import sys
from email import message_from_bytes

from aiosmtpd.smtp import SMTP, AuthResult


def tell(what):
    print(json.dumps(what), flush=True)


class Handler:
    def __init__(self, options):
        self.options = options
        self.recipients_seen = {}
        self.messages_seen = 0
        self.turns = 0

    def turn(self):
        """Whether it misbehaves this time."""
        self.turns += 1
        return self.turns <= self.options.times

    async def stops(self, server, stage):
        """Hangs, or closes the connection, at a stage of the conversation."""
        if self.options.hang_at == stage and self.turn():
            await asyncio.sleep(3600)
        if self.options.close_at == stage and self.turn():
            server.transport.abort()

    async def handle_EHLO(self, server, session, envelope, hostname, responses):
        await self.stops(server, "hello")
        session.host_name = hostname
        return responses

    async def handle_MAIL(self, server, session, envelope, address, mail_options):
        await self.stops(server, "sender")
        envelope.mail_from = address
        envelope.mail_options.extend(mail_options)
        return self.options.reply_to_sender or "250 OK"

    async def handle_RCPT(self, server, session, envelope, address, rcpt_options):
        await self.stops(server, "recipient")
        seen = self.recipients_seen[address] = self.recipients_seen.get(address, 0) + 1
        if self.options.reply_to_recipient and seen <= self.options.times:
            # The address is repeated as real servers do.
            return self.options.reply_to_recipient.replace("{address}", address)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        self.messages_seen += 1
        mail = message_from_bytes(envelope.content)
        tell({"message": {
            "to": envelope.rcpt_tos,
            "from": envelope.mail_from,
            "message_id": mail["Message-ID"],
            "headers": {name: str(value) for name, value in mail.items()},
            "text": text_of(mail),
            "raw": base64.b64encode(envelope.original_content).decode(),
            "tls": session.ssl is not None,
            "user": session.auth_data.decode() if session.authenticated else None,
        }})
        await asyncio.sleep(self.options.delay_ms / 1000)
        if self.messages_seen <= self.options.times:
            if self.options.drop:
                server.transport.abort()
                return "250 OK"
            if self.options.hang_after_data:
                await asyncio.sleep(3600)
            if self.options.reply_to_content:
                return self.options.reply_to_content
        return "250 OK"


def text_of(mail):
    for part in mail.walk():
        if part.get_content_type() == "text/plain":
            return part.get_payload(decode=True).decode("utf-8")
    return ""


def authenticate(options):
    user, password = options.auth.split(":", 1)

    def check(server, session, envelope, mechanism, data):
        right = data.login.decode() == user and data.password.decode() == password
        return AuthResult(success=right, handled=False, auth_data=data.login if right else None)

    return check


class Stopping(SMTP):
    """Stops before it asks for the message, too."""

    async def smtp_DATA(self, arg):
        await self.event_handler.stops(self, "data")
        await super().smtp_DATA(arg)


async def silence(reader, writer):
    await reader.read()


async def main(options):
    tls = None
    if options.certificate:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(options.certificate, options.key)
    handler = Handler(options)

    def serve():
        named = {"hostname": "peer.example"}
        if options.auth:
            named.update(authenticator=authenticate(options), auth_required=True,
                         auth_require_tls=tls is not None and not options.implicit)
        if tls and not options.implicit:
            named.update(tls_context=tls, require_starttls=True)
        return Stopping(handler, **named)

    loop = asyncio.get_running_loop()
    if options.silent:
        server = await asyncio.start_server(silence, "127.0.0.1", options.port)
    else:
        server = await loop.create_server(serve, "127.0.0.1", options.port, ssl=tls if options.implicit else None)
    tell({"port": server.sockets[0].getsockname()[1]})
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--certificate", help="PEM file; offers and requires STARTTLS")
    parser.add_argument("--key", help="PEM file of the certificate's key")
    parser.add_argument("--implicit", action="store_true", help="TLS from the first byte")
    parser.add_argument("--auth", help="user:password that is required")
    parser.add_argument("--silent", action="store_true", help="takes connections and says nothing")
    parser.add_argument("--times", type=int, default=10**9, help="how often it misbehaves before it takes mail")
    parser.add_argument("--reply-to-sender")
    parser.add_argument("--reply-to-recipient")
    parser.add_argument("--reply-to-content")
    parser.add_argument("--drop", action="store_true", help="breaks the connection when it has the message")
    parser.add_argument("--hang-after-data", action="store_true", help="never answers to the message")
    parser.add_argument("--hang-at", help="never answers from a stage on: hello, sender, recipient, data")
    parser.add_argument("--close-at", help="breaks the connection at a stage")
    parser.add_argument("--delay-ms", type=int, default=0, help="thinks this long before it answers to a message")
    asyncio.run(main(parser.parse_args()))

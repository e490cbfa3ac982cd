"""Signs each role of the demo in, and lets Wapiti look at what it may see."""

import argparse
import base64
import hashlib
import hmac
import http.cookiejar
import json
import pathlib
import re
import ssl
import struct
import subprocess
import sys
import time
import urllib.parse
import urllib.request

# Those that need no host of elsewhere, and suit a server of this sort.
MODULES = "cookieflags,crlf,csp,csrf,exec,file,http_headers,methods,permanentxss,redirect,sql,xss"
# Forms that would end the scan itself: sessions, accounts, and the tokens that FHIR is looked at with.
LEFT_ALONE = ["/sign-out", "/console/accounts/*", "/console/clients/*", "/console/sign-in/*"]


def one_time_code(secret, at):
    key = base64.b32decode(secret + "=" * (-len(secret) % 8))
    digest = hmac.new(key, struct.pack(">Q", int(at) // 30), hashlib.sha1).digest()
    place = digest[-1] & 15
    number = struct.unpack(">I", digest[place:place + 4])[0] & 0x7FFFFFFF
    return f"{number % 1_000_000:06}"


def field(page, name):
    found = re.search(rf'name="{name}" value="([^"]*)"', page)
    if not found:
        sys.exit(f"no field {name} on the page")
    return found.group(1)


def sign_in(base, ca, login):
    """The cookie of a session, and the word that its forms have against forgery."""
    cookies = http.cookiejar.CookieJar()
    opener = urllib.request.build_opener(
        urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=ca)),
        urllib.request.HTTPCookieProcessor(cookies),
    )

    def post(path, **fields):
        body = urllib.parse.urlencode(fields).encode()
        return opener.open(base + path, body).read().decode()

    form = field(opener.open(base + "/sign-in").read().decode(), "form")
    page = post("/sign-in", form=form, user=login["user_name"], password=login["password"])
    ticket = field(page, "ticket")
    code = one_time_code(login["totp"], time.time())
    post("/sign-in/code", form=form, ticket=ticket, user=login["user_name"], code=code)
    for cookie in cookies:
        if cookie.name == "__Host-cairn":
            forms = opener.open(base + "/console/sign-in").read().decode()
            return f"{cookie.name}={cookie.value}", field(forms, "csrf")
    sys.exit(f"{login['user_name']} can't sign in")


def main():
    arguments = argparse.ArgumentParser()
    for name in ["base", "ca", "demo", "out", "wapiti", "seconds", "attack-seconds"]:
        arguments.add_argument(f"--{name}", required=True)
    given = arguments.parse_args()
    out = pathlib.Path(given.out)
    logins = json.loads(pathlib.Path(given.demo).read_text())["logins"]
    scans = [("nobody", None, "/sign-in")]
    for login in logins:
        scans.append((login["user_name"], login, "/console/"))
    for name, login, start in scans:
        command = [
            given.wapiti, "-u", given.base + start, "--scope", "domain", "-m", MODULES, "-f", "json",
            "-o", str(out / f"wapiti-{name}.json"), "--max-scan-time", given.seconds, "--max-attack-time", given.attack_seconds,
            "--flush-session", "--store-session", str(out / f"session-{name}"), "--verify-ssl", "0", "--no-bugreport", "-v", "0",
            # One at a time: its own store of what it found is locked otherwise.
            "-d", "4", "--tasks", "1",
        ]
        for path in LEFT_ALONE:
            command += ["-x", given.base + path]
        if login:
            command += ["-H", "Cookie: " + sign_in(given.base, given.ca, login)[0]]
            command += ["-s", given.base + "/"]
        with open(out / f"wapiti-{name}.txt", "wb") as log:
            subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False)
        report = out / f"wapiti-{name}.json"
        if not report.exists():
            sys.exit(f"Wapiti left no report for {name}: see {out}/wapiti-{name}.txt")
        pages = json.loads(report.read_text())["infos"].get("crawled_pages_nbr")
        print(f"{name}: {pages} pages", flush=True)


if __name__ == "__main__":
    main()

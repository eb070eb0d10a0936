"""Say that a scheduled retraining could not run, or failed: by webhook, and by mail where asked.

    python3 notify.py CODE REASON <LOG

For the cases in which `convoy retrain` may not have sent its own message. It needs only Python 3,
because the installation of the project may be what is broken.

A JSON object goes to CONVOY_WEBHOOK_URL by POST. With CONVOY_WEBHOOK_SECRET it is signed: the
header X-Convoy-Signature-256 is `sha256=` and the HMAC-SHA256 of the body in hex. A mail with the
log goes to CONVOY_MAILTO through sendmail. Each is sent also where the other fails.
"""

import hashlib
import hmac
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from email.message import EmailMessage
from http.client import HTTPException
from pathlib import Path


def post(url, secret, message):
    """Send a message to a webhook."""
    body = json.dumps(message).encode()
    headers = {"Content-Type": "application/json"}
    if secret:
        digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        headers["X-Convoy-Signature-256"] = f"sha256={digest}"
    if not url.startswith(("https://", "http://")):
        raise ValueError(url)
    request = urllib.request.Request(url, body, headers)  # noqa: S310 (checked above)
    urllib.request.urlopen(request, timeout=30).close()  # noqa: S310


def mail(address, message, log):
    """Send a message and a log to an address."""
    letter = EmailMessage()
    letter["To"] = address
    letter["Subject"] = f"convoy retrain on {message['host']}: {message['reason']}"
    lines = [f"{key}: {value}" for key, value in message.items()]
    letter.set_content("\n".join([*lines, "", log]))
    sendmail = shutil.which("sendmail", path=f"/usr/sbin:{os.environ.get('PATH', '')}")
    if sendmail is None:
        raise OSError("no sendmail on this machine")
    subprocess.run([sendmail, "-i", "-t"], input=letter.as_bytes(), check=True)


def main():
    """Send what the arguments say; return the exit code."""
    code, reason = sys.argv[1:]
    message = {
        "outcome": "failed",
        "source": "scheduler",  # and not `convoy retrain`
        "exit_code": int(code) if code.lstrip("-").isdigit() else code,
        "reason": reason,
        "host": socket.gethostname(),
        "folder": str(Path.cwd()),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    failed = False
    url, address = os.environ.get("CONVOY_WEBHOOK_URL"), os.environ.get("CONVOY_MAILTO")
    try:
        # Code 5 is an outcome that `convoy retrain` has sent itself. It may have sent 1 too, but a
        # broken installation also ends with 1: two messages are better than none.
        if url and code != "5":
            post(url, os.environ.get("CONVOY_WEBHOOK_SECRET"), message)
    except (OSError, ValueError, HTTPException) as error:
        # The text of a ValueError names the address, which may hold a secret.
        why = error if isinstance(error, OSError) else "CONVOY_WEBHOOK_URL is not valid"
        print(f"notify.py: the webhook was not sent: {why}", file=sys.stderr)
        failed = True
    try:
        if address:
            mail(address, message, sys.stdin.read())
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"notify.py: no mail was sent: {error}", file=sys.stderr)
        failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

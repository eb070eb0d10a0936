"""Notices to a webhook: JSON by POST, signed.

The address and the secret come from the environment: an address often is a secret itself.
"""

import hashlib
import hmac
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from http.client import HTTPException
from typing import Any

from pipeline.errors import PipelineError
from pipeline.evaluation.retraining.record import Call
from pipeline.runtime.retraining.records import Records

URL, SECRET = "CONVOY_WEBHOOK_URL", "CONVOY_WEBHOOK_SECRET"
_TRIES = 3
_TIMEOUT_S = 10.0
_PAUSE_S = 1.0
_MOST_WAITING = 100


def webhook_address() -> str | None:
    """Return where notices go, None for nowhere.

    Raises:
        PipelineError: it is no http or https address.
    """
    url = os.environ.get(URL)
    if not url:
        return None
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise PipelineError(f"{URL} is no address; expected https://HOST/..., set or unset it")
    return url


def notice_of(call: Call, model: str, alias: str) -> bytes:
    """Return the body of a notice: what a call found and did."""
    found = call.model_dump(mode="json", exclude={"known", "sections"})
    body: dict[str, Any] = {"model": model, "alias": alias, "exit_code": call.exit_code, **found}
    return json.dumps(body, ensure_ascii=False).encode()


def signature(secret: str, body: bytes) -> str:
    """Return the value of X-Convoy-Signature-256: HMAC-SHA256 (RFC 2104) of the body, in hex."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def deliver_waiting(records: Records) -> list[str]:
    """Deliver the notices that are left, the oldest first.

    A notice of a call that did not end is thrown away: the next call makes another.

    Returns:
        What could not be delivered, in words; it stays for the next call.
    """
    url = webhook_address()
    waiting = records.waiting()
    if not waiting:
        return []
    ended = {call.id for call in records.history()}
    for call in [*(waiting.keys() - ended), *list(waiting)[:-_MOST_WAITING]]:
        records.delivered(call)
        waiting.pop(call, None)
    if url is None:
        return []
    for call, body in waiting.items():
        if reason := _deliver(url, call, body):
            host = urllib.parse.urlsplit(url).hostname
            return [f"the webhook at {host} did not take the notice of {call}: {reason}"]
        records.delivered(call)
    return []


def _deliver(url: str, call: str, body: bytes) -> str | None:
    """Deliver one notice; return why that failed."""
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "convoy",
        "X-Convoy-Event": str(json.loads(body)["outcome"]),
        "X-Convoy-Delivery": call,
    }
    if secret := os.environ.get(SECRET):
        headers["X-Convoy-Signature-256"] = signature(secret, body)
    reason = ""
    for number in range(_TRIES):
        time.sleep(number * _PAUSE_S)
        request = urllib.request.Request(url, body, headers)  # noqa: S310 - http or https
        try:
            with _OPENER.open(request, timeout=_TIMEOUT_S):
                return None
        except urllib.error.HTTPError as error:
            reason = f"status {error.code} {error.reason}"
        except (OSError, HTTPException, ValueError) as error:
            reason = str(getattr(error, "reason", error))
    return reason


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirected POST would become a GET without the notice."""

    def redirect_request(self, *_: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)

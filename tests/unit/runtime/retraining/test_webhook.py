import hashlib
import hmac
import http.server
import json
import threading
from datetime import UTC, datetime

import pytest

from pipeline.errors import PipelineError
from pipeline.evaluation.retraining.record import Call, GateCheck, Reason
from pipeline.runtime.retraining import webhook
from pipeline.runtime.retraining.records import Records
from pipeline.runtime.retraining.webhook import deliver_waiting, notice_of, webhook_address
from pipeline.runtime.storage.shared import Storage

NOW = datetime(2027, 1, 31, 12, tzinfo=UTC)
SECRET = "säcret"


class Hook:
    """A real server that keeps what is posted to it."""

    def __init__(self):
        self.got, self.answers = [], []
        hook = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hook.got.append((self.path, dict(self.headers), body))
                status = hook.answers.pop(0) if hook.answers else 204
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", "/elsewhere")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook?key=1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def hook(monkeypatch):
    hook = Hook()
    monkeypatch.setenv("CONVOY_WEBHOOK_URL", hook.url)
    monkeypatch.setenv("CONVOY_WEBHOOK_SECRET", SECRET)
    monkeypatch.setattr(webhook, "_PAUSE_S", 0.0)
    yield hook
    hook.server.shutdown()
    hook.server.server_close()


@pytest.fixture
def records(tmp_path):
    return Records(Storage(str(tmp_path / "storage")), "model")


def refused(name="1"):
    return Call(
        id=name,
        begun=NOW,
        ended=NOW,
        host="h",
        outcome="refused",
        reasons=(Reason(key="new_images", text="5 new images"),),
        checks=(GateCheck(name="loss", passed=False, text="macro-F1 fell by 0.1"),),
        known="1.parquet",
    )


def post(records, call):
    records.post(call.id, notice_of(call, "digits", "champion"))
    records.append(call)


def test_a_notice_holds_the_outcome_and_the_reasons_of_the_gate_and_is_signed(hook, records):
    post(records, refused())
    assert deliver_waiting(records) == []
    ((path, headers, body),) = hook.got
    assert path == "/hook?key=1"
    assert headers["Content-Type"] == "application/json"
    assert (headers["X-Convoy-Event"], headers["X-Convoy-Delivery"]) == ("refused", "1")
    expected = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    assert headers["X-Convoy-Signature-256"] == f"sha256={expected}"
    notice = json.loads(body)
    assert (notice["model"], notice["alias"], notice["exit_code"]) == ("digits", "champion", 4)
    assert notice["checks"] == [{"name": "loss", "passed": False, "text": "macro-F1 fell by 0.1"}]
    assert notice["reasons"] == [{"key": "new_images", "text": "5 new images"}]
    assert "known" not in notice
    assert records.waiting() == {}


def test_without_a_secret_there_is_no_signature(hook, records, monkeypatch):
    monkeypatch.delenv("CONVOY_WEBHOOK_SECRET")
    post(records, refused())
    deliver_waiting(records)
    assert "X-Convoy-Signature-256" not in hook.got[0][1]


def test_it_is_tried_again(hook, records):
    hook.answers = [500, 503]
    post(records, refused())
    assert deliver_waiting(records) == []
    assert len(hook.got) == 3


@pytest.mark.parametrize("status", [500, 302, 404])
def test_what_is_not_taken_waits_for_the_next_call(hook, records, status):
    hook.answers = [status] * 3
    post(records, refused("1"))
    (said,) = deliver_waiting(records)
    assert said.startswith(
        f"the webhook at 127.0.0.1 did not take the notice of 1: status {status}"
    )
    assert {path for path, _, _ in hook.got} == {"/hook?key=1"}
    post(records, refused("2"))
    assert deliver_waiting(records) == []
    assert [headers["X-Convoy-Delivery"] for _, headers, _ in hook.got[3:]] == ["1", "2"]


def test_one_that_is_away_does_not_raise(hook, records, monkeypatch):
    hook.server.shutdown()
    hook.server.server_close()
    post(records, refused())
    (said,) = deliver_waiting(records)
    assert "did not take the notice" in said
    assert "key=1" not in said  # an address may be a secret


def test_a_notice_of_a_call_that_did_not_end_is_thrown_away(hook, records):
    records.post("1", notice_of(refused(), "digits", "champion"))
    assert deliver_waiting(records) == []
    assert hook.got == []
    assert records.waiting() == {}


def test_without_an_address_notices_wait(hook, records, monkeypatch):
    post(records, refused())
    monkeypatch.delenv("CONVOY_WEBHOOK_URL")
    assert webhook_address() is None
    assert deliver_waiting(records) == []
    assert list(records.waiting()) == ["1"]


@pytest.mark.parametrize("url", ["ftp://host/x", "host/x", "https://", "file:///etc/passwd"])
def test_a_wrong_address_is_refused_and_not_shown(url, monkeypatch):
    monkeypatch.setenv("CONVOY_WEBHOOK_URL", url)
    with pytest.raises(PipelineError, match="CONVOY_WEBHOOK_URL is no address") as caught:
        webhook_address()
    assert url not in str(caught.value).replace("https://HOST/", "")

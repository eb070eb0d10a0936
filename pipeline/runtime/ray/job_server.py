"""The job server of a Ray cluster, by HTTP: from any machine that reaches its address."""

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from pipeline.errors import PipelineError
from pipeline.runtime.ray.token import show_token
from pipeline.threads import in_daemon

T = TypeVar("T")

_CONNECT_S = 5.0
_ANSWER_S = 20.0
_PREFIX = "convoy-"
_RUNNING = {"PENDING", "RUNNING"}


class ServerAwayError(PipelineError):
    """Nobody answers at the address, or not in time."""


@dataclass(frozen=True)
class JobState:
    """A job as the server knows it.

    Attributes:
        id: by which it was submitted.
        status: PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED.
        message: of the server, about the status.
        exit_code: of its driver, None where it has not ended or left none.
        start_ms, end_ms: since 1970; 0 where that has not happened.
        metadata: as submitted.
    """

    id: str
    status: str
    message: str
    exit_code: int | None
    start_ms: int
    end_ms: int
    metadata: Mapping[str, str]

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.status in _RUNNING

    @property
    def reason(self) -> str:
        """Why it failed: the mistake that it named, else what its server says of it."""
        if self.exit_code is not None and self.exit_code < 0:
            return f"its driver was killed by signal {-self.exit_code}"
        # Ray's message has one line of its own, and then the end of the log.
        lines = [" ".join(line.split()) for line in self.message.splitlines() if line.strip()]
        named = [line for line in lines if line.startswith("convoy: ")]
        if named:
            return named[-1].removeprefix("convoy: ")
        return lines[0][:300] if lines else f"exit code {self.exit_code}"


class JobServer:
    """A connection to the server; made anew by each call, so that it survives the server."""

    def __init__(self, address: str) -> None:
        """Take the address, http://HOST:PORT; nothing is connected yet.

        Raises:
            PipelineError: it is no such address.
        """
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise PipelineError(
                f"resources.address is {address}, expected the cluster's job server, such as"
                " http://HOST:8265"
            )
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
        self.address, self._door = address.rstrip("/"), (parts.hostname, port)
        show_token()

    def versions(self) -> dict[str, str]:
        """Return what the server says of itself: 'ray_version' and others.

        Raises:
            ServerAwayError: nobody answers.
            PipelineError: the token is missing or refused.
        """
        from pipeline.runtime.ray.internals import server_versions

        return self._ask(server_versions, patience_s=15.0)

    def state(self, job: str) -> JobState | None:
        """Return a job's state, None where the server knows none by that id."""
        try:
            return _state(job, self._ask(lambda client: client.get_job_info(job)))
        except _UnknownError:
            return None

    def jobs(self) -> list[JobState]:
        """Return all jobs of Convoy, latest first."""
        found = self._ask(lambda client: client.list_jobs())
        ours = [d for d in found if (d.submission_id or "").startswith(_PREFIX)]
        states = [_state(details.submission_id, details) for details in ours]
        return sorted(states, key=lambda state: state.start_ms, reverse=True)

    def submit(
        self,
        job: str,
        entrypoint: str,
        *,
        package: Path | None,
        environment: Mapping[str, str],
        metadata: Mapping[str, str],
    ) -> bool:
        """Submit a job; return False where there is one by that id already.

        Args:
            job: its id.
            entrypoint: the command line of its driver.
            package: folder of the code, uploaded unless the cluster has it.
            environment: of all of its processes.
            metadata: shown beside it.
        """
        runtime_env: dict[str, Any] = {"env_vars": dict(environment)}
        if package:
            runtime_env["working_dir"] = str(package)
        try:
            self._ask(
                lambda client: client.submit_job(
                    entrypoint=entrypoint,
                    submission_id=job,
                    runtime_env=runtime_env,
                    metadata=dict(metadata),
                ),
                patience_s=60.0,
            )
        except PipelineError as error:
            if "already exists" in str(error):
                return False
            raise
        return True

    def stop(self, job: str) -> bool:
        """Stop a job; return whether it ran."""
        return bool(self._ask(lambda client: client.stop_job(job)))

    def logs(self, job: str) -> str:
        """Return all that a job has printed."""
        return str(self._ask(lambda client: client.get_job_logs(job)))

    def tail(self, job: str, take: Callable[[str], object], ended: threading.Event) -> None:
        """Hand on what a job prints, from its first line, until the stream or the block ends.

        A stream may end before the job does.
        """

        async def read() -> None:
            stream = self._connect().tail_job_logs(job)
            try:
                while not ended.is_set():
                    take(await asyncio.wait_for(anext(stream), _ANSWER_S))
            except (StopAsyncIteration, TimeoutError):
                pass
            finally:
                await stream.aclose()

        with suppress(Exception):
            asyncio.run(read())

    def _connect(self) -> Any:
        try:
            socket.create_connection(self._door, _CONNECT_S).close()
        except OSError as error:
            raise self._away(error) from error
        from ray.job_submission import JobSubmissionClient

        from pipeline.runtime.ray.internals import quieten_clients

        quieten_clients()
        os.environ["RAY_API_SERVER_ADDRESS"] = self.address  # it goes before what is handed over
        return JobSubmissionClient(self.address)

    def _ask(self, question: Callable[[Any], T], patience_s: float = _ANSWER_S) -> T:
        answer = in_daemon(lambda: question(self._connect()))
        try:
            return answer.result(patience_s)
        except PipelineError:
            raise
        except TimeoutError as error:
            raise self._away(f"no answer within {patience_s:.0f} s") from error
        except Exception as error:
            raise self._explained(error) from error

    def _explained(self, error: Exception) -> PipelineError:
        """Say what an error of Ray's client means."""
        text = " ".join(str(error).split())
        if "does not exist" in text or "status code 404" in text:
            return _UnknownError(text)
        if any(word in text.lower() for word in ("authentication", "unauthorized", "forbidden")):
            return PipelineError(
                f"the cluster at {self.address} takes no one without its token"
                f" ({text.partition('.')[0][:200]}); set"
                " RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH to a file that holds it"
            )
        if isinstance(error, ConnectionError | OSError):
            return self._away(error)
        return PipelineError(f"the cluster at {self.address} answers: {text[-500:]}")

    def _away(self, why: object) -> ServerAwayError:
        return ServerAwayError(
            f"no job server answers at resources.address {self.address} ({why}); start the cluster"
            " by ray start --head, open the way to it, or set resources.address to null to run on"
            " this machine"
        )


class _UnknownError(PipelineError):
    """The server knows no such job."""


def _state(job: str, info: Any) -> JobState:
    return JobState(
        id=job,
        status=str(getattr(info.status, "value", info.status)),
        message=info.message or "",
        exit_code=info.driver_exit_code,
        start_ms=info.start_time or 0,
        end_ms=info.end_time or 0,
        metadata=info.metadata or {},
    )

"""A job server of a cluster, without one."""

from collections.abc import Callable

from pipeline.runtime.ray.job_server import JobState


class FakeServer:
    """A job server. Each job that is submitted takes the next of `fates`.

    A fate is called with the id of the job, and returns its state when it has ended.
    """

    address = "http://head:8265"

    def __init__(self) -> None:
        self.fates: list[Callable[[str], JobState | None]] = []
        self.states: dict[str, JobState | None] = {}
        self.submitted: list[dict] = []
        self.log = ""
        self.stopped: list[str] = []

    def submit(self, job, entrypoint, *, package, environment, metadata):
        if job in self.states:
            return False
        files = {p.relative_to(package).as_posix() for p in package.rglob("*") if p.is_file()}
        self.submitted.append(
            {"id": job, "entrypoint": entrypoint, "files": files}
            | {"environment": dict(environment), "metadata": dict(metadata)}
        )
        self.states[job] = ended(job, "RUNNING")
        return True

    def state(self, job):
        state = self.states.get(job)
        if state and state.running and self.fates:
            self.states[job] = self.fates.pop(0)(job)
        return state

    def jobs(self):
        return [state for state in self.states.values() if state]

    def logs(self, _job):
        return self.log

    def tail(self, _job, take, _over):
        take(self.log)

    def stop(self, job):
        self.stopped.append(job)
        return True


def ended(job, status, exit_code=None, message="", **more):
    """Return the state of a job."""
    facts = {"start_ms": 1000, "end_ms": 2000, "metadata": {}} | more
    return JobState(job, status, message, exit_code, **facts)

"""What a training changed, for others: a commit of dvc.lock, and the outputs at DVC's remote."""

from pathlib import Path

import yaml

from pipeline.errors import PipelineError, some
from pipeline.runtime.retraining.workflow import Workflow

_DVC_FILE, _DVC_LOCK = Path("dvc.yaml"), Path("dvc.lock")
_INPUTS = ("params.yaml", "dvc.yaml")


def check_can_publish(workflow: Workflow, *, commit: bool, push: bool) -> None:
    """Find out before a training whether its results can be published.

    Raises:
        PipelineError: no git repository, nobody to commit as, no remote, or params that would be
            missing beside their results.
    """
    if commit:
        code, said = workflow.git("var", "GIT_COMMITTER_IDENT")
        if code:
            raise PipelineError(
                f"retrain.commit: git cannot commit here ({_last(said)}); set user.name and"
                " user.email by git config, or retrain.commit to false"
            )
        inputs = [path for path in _INPUTS if Path(path).exists()]
        changed = _git(workflow, "status", "--porcelain", "--", *inputs).split()[1::2]
        if changed:
            raise PipelineError(
                f"retrain.commit: {some(changed)} differ from the last commit, so that a commit of"
                " the results would not fit them; commit them first"
            )
    if push:
        code, remotes = workflow.dvc("remote", "list")
        if code or not remotes.strip():
            raise PipelineError(
                "retrain.push: DVC has no remote; add one by dvc remote add -d NAME URL, or set"
                " retrain.push to false"
            )


def commit_results(workflow: Workflow, root: str | None, message: str) -> str | None:
    """Commit dvc.lock and what stages keep in git.

    Args:
        workflow: runs git.
        root: data.root, whose .dvc file goes along; None where no training has seen the images.
        message: of the commit.

    Returns:
        The commit; None where nothing has changed.

    Raises:
        PipelineError: git refuses.
    """
    paths = [path for path in _in_git(root) if _is_kept(workflow, path)]
    _git(workflow, "add", "--", *paths)
    if not _git(workflow, "diff", "--cached", "--name-only", "--", *paths).strip():
        return None
    _git(workflow, "commit", "--quiet", "-m", message, "--", *paths)
    return _git(workflow, "rev-parse", "HEAD").strip()


def push_outputs(workflow: Workflow) -> None:
    """Push the outputs to DVC's remote.

    Raises:
        PipelineError: DVC fails.
    """
    code, said = workflow.dvc("push", "--quiet")
    if code:
        raise PipelineError(f"dvc push failed: {_last(said)}")


def _in_git(root: str | None) -> list[str]:
    """Return the files that a training may change and git may keep."""
    stages = yaml.safe_load(_DVC_FILE.read_text(encoding="utf-8"))["stages"]
    found = [str(_DVC_LOCK), *([f"{root.rstrip('/')}.dvc"] if root else [])]
    for stage in stages.values():
        for out in stage.get("outs", ()):
            if isinstance(out, dict):
                found += [path for path, how in out.items() if (how or {}).get("cache") is False]
    return [path for path in found if Path(path).exists()]


def _is_kept(workflow: Workflow, path: str) -> bool:
    code, _ = workflow.git("check-ignore", "--quiet", "--", path)
    return code != 0


def _git(workflow: Workflow, *words: str) -> str:
    code, said = workflow.git(*words)
    if code:
        raise PipelineError(f"git {words[0]} failed: {_last(said)}")
    return said


def _last(said: str) -> str:
    lines = [line for line in said.splitlines() if line.strip()]
    return lines[-1] if lines else "it printed nothing"

"""What it costs a training that its tracking server dies, and what the server has of it in the end.

    python tests/benchmarks/server_away.py [--epochs 600] [--away 30] [--rounds 2]

A real `convoy train` (lenet5 on the digits) records to a real `mlflow server`, in turns with a
server that lives and with one that is killed -9 in the middle of the training and started again
after some seconds. The table shows the training's images/s, while the server lives and while it
is away, how long the command took and its end, and how many values the store has.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median
from typing import Any

import yaml
from mlflow import MlflowClient

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.distributed.servers import Server

PARAMS = Path(__file__).parents[2] / "params.yaml"


def main() -> None:
    """Train in turns and print a row for each training."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=600)
    parser.add_argument("--away", type=float, default=30.0, help="seconds")
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, arguments.epochs)
        server = Server(folder)
        server.start()
        print("server        images/s   then   s in all   values of     status")
        try:
            for _ in range(arguments.rounds):
                for away_s in (0.0, arguments.away):
                    print(one(folder, server, arguments.epochs, away_s), flush=True)
        finally:
            server.kill()


def prepare(folder: Path, epochs: int) -> None:
    """Pack the digits, and set how long to train."""
    params = yaml.safe_load(PARAMS.read_text())
    params["train"] |= {"epochs": epochs}
    params["train"]["early_stopping"] |= {"patience": 10 * epochs}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    for stage in ("sample", "index", "split", "pack"):
        convoy(folder, stage)


def convoy(folder: Path, command: str, **environment: str) -> str:
    """Run a command there, and return what it says on stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", command],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stderr


def one(folder: Path, server: Server, epochs: int, away_s: float) -> str:
    """Train once and return the row of the table."""
    client = MlflowClient(server.address)
    before = {run.info.run_id for run in runs(client)}
    gone: list[float] = []
    trouble = threading.Thread(target=disturb, args=(client, before, server, away_s, gone))
    if away_s:
        trouble.start()
    start_s = time.monotonic()
    said = convoy(folder, "train", MLFLOW_TRACKING_URI=server.address)
    seconds = time.monotonic() - start_s
    if away_s:
        trouble.join()
    convoy(folder, "sync", MLFLOW_TRACKING_URI=server.address)  # if the server came back too late
    (run,) = (run for run in runs(client) if run.info.run_id not in before)
    histories = {n: client.get_metric_history(run.info.run_id, n) for n in run.data.metrics}
    own = {name: history for name, history in histories.items() if len(history) >= epochs}
    for name, history in own.items():
        assert [m.step for m in sorted(history, key=lambda m: m.timestamp)] == list(
            range(1, epochs + 1)
        ), name
    there, meanwhile = [], []
    for metric in own["train/images_per_s"]:
        away = bool(gone) and gone[0] <= metric.timestamp / 1000 <= gone[1]
        (meanwhile if away else there).append(metric.value)
    name = f"away {gone[1] - gone[0]:.0f} s" if gone else "alive"
    then = f"{median(meanwhile):6.0f}" if meanwhile else "     -"
    values = run.data.tags["convoy.records"]
    return (
        f"{name:12} {median(there):9.0f} {then} {seconds:10.1f}   {values:12}  {run.info.status:8}"
        f"  {'synced' if 'convoy sync' in said else ''}"
    )


def disturb(
    client: Any, before: set[str], server: Server, away_s: float, gone: list[float]
) -> None:
    """Kill the server when some epochs are recorded, and start it again after a while."""
    while not any(r.info.run_id not in before and r.data.metrics for r in runs(client)):
        time.sleep(0.5)
    time.sleep(5)
    server.kill()
    gone.append(time.time())
    time.sleep(away_s)
    server.start()
    gone.append(time.time())


def runs(client: Any) -> list[Any]:
    """Return all runs of the server."""
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return list(client.search_runs(experiments))


if __name__ == "__main__":
    main()

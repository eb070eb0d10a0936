"""A registered model behind `mlflow models serve`, asked with real JPEG files.

It averages views, drawn ones among them, and has a temperature.
"""

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.cli import run
from pipeline.files import read_json
from pipeline.params import load_params
from pipeline.runtime.registry.aliases import promote
from pipeline.runtime.registry.versions import register_bundle
from pipeline.runtime.tracking.store import open_client
from pipeline.vision.bundle.description import Views, rewrite_bundle
from tests.contract.imports import ROOT
from tests.fitted import fit_bundle
from tests.packed import BARS, bars, write_set
from tests.waiting import wait_until

MODEL = "models:/forms@champion"
POLICY = [
    {"Affine": {"rotate": [-9, 9], "scale": [0.9, 1.1], "p": 1.0}},
    {"GaussNoise": {"std_range": [0.05, 0.1], "p": 0.5}},
]
VIEWS = Views(
    (
        {"identity": {}},
        {"crop": {"share": 0.9, "x": 0.5, "y": -1.0}},
        {"random": {"draw": 0, "policy": POLICY}},
        {"random": {"draw": 1, "policy": POLICY}},
    ),
    "geometric",
    5,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A registered champion, and JPEG files of colours and sizes that it was not trained on."""
    folder = tmp_path_factory.mktemp("serving")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        shutil.copy(ROOT / "params.yaml", "params.yaml")
        images, labels = bars(60)
        fit_bundle(Path("plain"), write_set(Path("packed"), images, labels, BARS), sharpness=4)
        rewrite_bundle(Path("plain"), Path("bundle"), VIEWS, 1.7)
        tracking = load_params().tracking
        client = open_client(tracking)
        experiment = client.get_experiment_by_name(tracking.experiment)
        register_bundle(
            Path("bundle"),
            tracking=tracking,
            name="forms",
            run_id=client.create_run(experiment.experiment_id).info.run_id,
        )
        promote(tracking, "forms", "1", "champion", None)
        Path("jpeg").mkdir()
        for row in range(5):
            grey = Image.fromarray(images[row, :, :, 0]).resize((40 + row, 30))
            grey.convert("RGB").save(f"jpeg/{row}.jpg")
        for model, answers in ((MODEL, "predicted"), ("plain", "plainly")):
            assert run(["predict", "jpeg", "--model", model, "--output", f"{answers}.json"]) == 0
    return folder


@pytest.fixture(scope="module")
def address(folder):
    """Where the model is served."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = "mlflow models serve --env-manager local --host 127.0.0.1 --workers 1"
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "CONVOY_SERVED_FOLDER": str(folder / "jpeg"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", *command.split(), "--port", str(port), "--model-uri", MODEL],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:

        def answers():
            assert server.poll() is None, (folder / "log").read_text()
            with suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5).close()
                return True
            return False

        wait_until(answers, what=f"for the server, see {folder / 'log'}")
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def ask(address, rows):
    """Send rows of a table, and return what comes back: a row per image, or status and message."""
    return send(address, json.dumps({"dataframe_records": rows}).encode(), "application/json")


def send(address, body, content_type):
    """Send a request, and return what comes back; one that fails must say why in one line."""
    request = urllib.request.Request(address, body, {"Content-Type": content_type})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)["predictions"]
    except urllib.error.HTTPError as error:
        said = json.loads(error.read())
        assert sorted(said) == ["error_code", "message"]
        assert len(said["message"].splitlines()) == 1
        assert "Traceback" not in said["message"]
        return error.code, said["message"]


def coded(content):
    return {"image": base64.b64encode(content).decode()}


def test_what_is_served_answers_as_predict(folder, address):
    expected = read_json(folder / "predicted.json")
    files = sorted((folder / "jpeg").iterdir())
    for rows in (
        [coded(file.read_bytes()) for file in files],
        [{"path": str(file)} for file in files],
        [{"path": file.name} for file in files],
    ):
        answers = ask(address, rows)
        assert len(answers) == len(expected) == 5
        for answer, one in zip(answers, expected, strict=True):
            assert answer["class"] == one["class"]
            for name in BARS:
                assert answer[f"p_{name}"] == pytest.approx(one["probabilities"][name], abs=1e-6)


def test_its_views_and_temperature_make_a_difference(folder):
    shipped, plain = (read_json(folder / f"{name}.json") for name in ("predicted", "plainly"))
    for one, other in zip(shipped, plain, strict=True):
        assert abs(one["probabilities"]["none"] - other["probabilities"]["none"]) > 1e-3


def test_threads_that_ask_at_once_get_the_same_answers(folder, address):
    expected = read_json(folder / "predicted.json")
    rows = [coded(file.read_bytes()) for file in sorted((folder / "jpeg").iterdir())]
    with ThreadPoolExecutor(8) as pool:
        asked = list(pool.map(lambda number: ask(address, rows[number % 5 :]), range(40)))
    for number, answers in enumerate(asked):
        for answer, one in zip(answers, expected[number % 5 :], strict=True):
            for name in BARS:
                assert answer[f"p_{name}"] == pytest.approx(one["probabilities"][name], abs=1e-6)


def test_pixels_are_answered_too(folder, address):
    grey = np.asarray(Image.open(folder / "jpeg/1.jpg").convert("L"))
    lossless = folder / "1.png"
    Image.fromarray(grey).save(lossless)
    by_numbers = ask(address, [{"pixels": grey.tolist()}, {"pixels": grey[:, :, None].tolist()}])
    # As many at once: sums of floats depend on the size of a batch in their last digits.
    assert by_numbers == ask(address, [coded(lossless.read_bytes())] * 2)


OUTSIDE = "not in the folder that CONVOY_SERVED_FOLDER names"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"image": "bm90IGFuIGltYWdl"}, "image 0: not an image"),
        ({"image": "%%%"}, "image 0: expected base64: "),
        ({"image": 5}, "image 0: expected the bytes of an image file in base64, found int"),
        ({"path": "/etc/passwd"}, f"image 0: /etc/passwd: {OUTSIDE}"),
        ({"path": "../jpeg/../1.png"}, f"image 0: ../jpeg/../1.png: {OUTSIDE}"),
        ({"path": "link.jpg"}, f"image 0: link.jpg: {OUTSIDE}"),
        ({"path": "nowhere.jpg"}, "jpeg/nowhere.jpg: unreadable"),
        ({"path": "0.jpg\0"}, "image 0: not a path: embedded null byte"),
        ({"path": "a" * 5000}, "image 0: "),
        ({"path": 5}, "image 0: expected the path of a file, found int"),
        ({"pixels": [[1, 2], [3]]}, "image 0: pixels: expected rows of equal length"),
        ({"pixels": [[[0, 0, 0, 300]]]}, "image 0: pixels: expected height x width"),
        ({"pixels": 7}, "image 0: pixels: expected"),
        ({"path": "a.jpg", "pixels": [[1]]}, "expected one of the columns image, path, pixels"),
        ({"file": "a.jpg"}, "expected one of the columns image, path, pixels, found none"),
    ],
)
def test_what_cannot_be_used_is_named_and_the_server_lives_on(folder, address, row, said):
    if not (folder / "jpeg/link.jpg").is_symlink():
        (folder / "1.png").touch()
        (folder / "jpeg/link.jpg").symlink_to(folder / "1.png")
    status, message = ask(address, [row])
    assert status == 400
    assert said in message
    assert len(message) <= 403
    assert len(ask(address, [coded((folder / "jpeg/0.jpg").read_bytes())])) == 1


@pytest.mark.parametrize(
    ("body", "content_type", "said"),
    [
        (b"{nope", "application/json", "Ensure that input is a valid JSON formatted string"),
        (b"[" * 100_000, "application/json", "maximum recursion depth exceeded"),
        (b"{}", "application/json", "must be a JSON dictionary with exactly one of"),
        (b'{"inputs": null}', "application/json", "Expected input to be DataFrame"),
        (b'{"dataframe_records": 1}', "application/json", "must be a list of records"),
        (b"path\n0.jpg", "text/csv", "Failed to parse input"),
        (b"PAR1", "application/vnd.apache.parquet", "Failed to parse input"),
    ],
)
def test_a_body_that_is_no_table_of_images(address, body, content_type, said):
    status, message = send(address, body, content_type)
    assert status == 400
    assert said in message


def test_the_position_of_a_bad_image_is_said(folder, address):
    whole = (folder / "jpeg/0.jpg").read_bytes()
    assert ask(address, [coded(whole), coded(whole[: len(whole) // 2])]) == (
        400,
        "image 1: truncated: the file ends before the image does",
    )

"""The project of `retraining_years.py`: its images, new cameras, and five kinds of poison."""

import shutil

import numpy as np
import pyarrow.parquet as pq
from PIL import Image, ImageFilter

from tests.contract.imports import ROOT
from tests.projects import change

POISONS = ("shuffled", "mislabelled", "blurred", "renamed", "copies")
GROWTH = 0.02
HIDDEN = 0.35  # share of all images


class Project:
    """The project of a user, and the images that it has not got yet."""

    def __init__(self, folder, pictures, labels, seed):
        self.folder, self.seed = folder, seed
        self.draw = np.random.default_rng(seed)
        order = self.draw.permutation(len(pictures))
        hidden = int(HIDDEN * len(order))
        self.pictures, self.labels = pictures, labels
        self.hidden, self.rest = order[:hidden].tolist(), order[hidden:].tolist()
        self.camera = 0  # how many times it has changed
        self.undo = []

    def begin(self, weeks):
        for name in ("dvc.yaml", "params.yaml"):
            shutil.copy(ROOT / name, self.folder)
        (self.folder / "pipeline").symlink_to(ROOT / "pipeline")
        (self.folder / "infra").mkdir()
        (self.folder / "infra/lock").symlink_to(ROOT / "infra/lock")
        shutil.copytree(ROOT / "models" / "compute", self.folder / "models" / "compute")
        (self.folder / ".dvc").mkdir()
        config = "[core]\n    analytics = false\n    no_scm = true\n"
        (self.folder / ".dvc/config").write_text(config)
        change(self.folder, "data", root="images")
        change(self.folder, "baseline", classifier="none")
        change(self.folder, "evaluate", bootstrap_resamples=1000)
        change(self.folder, "register", name="year")
        count = int(len(self.rest) / (1 + GROWTH) ** (weeks + 1))
        self.put(self.take(count))
        write_hidden(self, self.folder / "hidden")

    def take(self, count):
        taken, self.rest = self.rest[:count], self.rest[count:]
        return taken

    def path(self, number, label=None, suffix=""):
        folder = self.folder / "images" / (label or self.labels[number])
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{number:05d}{suffix}.png"

    def put(self, numbers):
        for number in numbers:
            seen_by(self.camera, self.pictures[number]).save(self.path(number))

    def images(self):
        return [path for path in (self.folder / "images").rglob("*") if path.is_file()]

    def others(self, label):
        return sorted({path.parent.name for path in self.images()} - {label})

    def poison(self, kind, numbers):
        """Bring this week's images with a mistake, and remember how to repair it."""
        getattr(self, f"_{kind}")(numbers)

    def repair(self):
        for action in reversed(self.undo):
            action()
        self.undo = []

    def _moves(self, moves):
        for old, new in moves:
            _move(old, new)
        self.undo += [lambda old=old, new=new: _move(new, old) for old, new in moves]

    def _shuffled(self, numbers):
        self.put(numbers)
        label = self.draw.choice(sorted(set(self.labels)))
        others = self.others(label)
        files = sorted((self.folder / "images" / label).iterdir())
        self._moves(
            [
                (file, self.folder / "images" / others[self.draw.integers(len(others))] / file.name)
                for file in files
                if self.draw.random() < 0.9
            ]
        )

    def _mislabelled(self, numbers):
        self.put(numbers)
        half = self.draw.permutation(numbers)[: (len(numbers) + 1) // 2].tolist()
        moves = []
        for number in half:
            others = self.others(self.labels[number])
            wrong = others[self.draw.integers(len(others))]
            moves.append((self.path(number), self.path(number, wrong)))
        self._moves(moves)

    def _blurred(self, numbers):
        for number in numbers:
            blurred(seen_by(self.camera, self.pictures[number])).save(self.path(number))
        self.undo.append(lambda: self.put(numbers))

    def _renamed(self, numbers):
        self.put(numbers)
        label = self.draw.choice(sorted(set(self.labels)))
        files = sorted((self.folder / "images" / label).iterdir())
        self._moves([(f, self.folder / "images" / f"{label} old" / f.name) for f in files])

    def _copies(self, numbers):
        self.put(numbers)
        table = read_split(self.folder)
        test = sorted(path for path, split in table.items() if split == "test")
        made = []
        for path in self.draw.permutation(test)[: max(len(numbers), 5)].tolist():
            source = self.folder / "images" / path
            others = self.others(source.parent.name)
            wrong = others[self.draw.integers(len(others))]
            levels = np.asarray(Image.open(source)).astype(int)
            levels = np.clip(levels + self.draw.integers(-1, 2, levels.shape), 0, 255)
            copy = self.folder / "images" / wrong / f"copy-{source.name}"
            Image.fromarray(levels.astype(np.uint8)).save(copy)
            made.append(copy)
        self.undo += [lambda copy=copy: copy.unlink() for copy in made]


def _move(old, new):
    """Move a file; no class folder is left without images."""
    new.parent.mkdir(parents=True, exist_ok=True)
    old.rename(new)
    if not any(old.parent.iterdir()):
        old.parent.rmdir()


def seen_by(camera, picture):
    """Return a picture as the camera shows it: at first as it is, then with less contrast."""
    for _ in range(camera):
        levels = np.asarray(picture).astype(np.float32)
        picture = Image.fromarray(np.rint(40 + 0.62 * levels).astype(np.uint8))
    return picture


def blurred(picture):
    return picture.filter(ImageFilter.GaussianBlur(0.16 * max(picture.size)))


def read_split(folder):
    table = pq.read_table(folder / "data/split.parquet", columns=["path", "split"])
    return dict(zip(table["path"].to_pylist(), table["split"].to_pylist(), strict=True))


def write_hidden(project, folder):
    """Write the hidden images as each camera sees them."""
    for camera in range(4):
        for number in project.hidden:
            place = folder / str(camera) / project.labels[number]
            place.mkdir(parents=True, exist_ok=True)
            seen_by(camera, project.pictures[number]).save(place / f"{number:05d}.png")

"""README.md and docs/ say what is there: links, commands, options, params, files and folders."""

import re
import shlex
from fnmatch import fnmatch
from pathlib import Path

import click
import pytest
import yaml
from dvc.utils.hydra import apply_overrides

from pipeline.cli import app
from pipeline.params import load_params
from tests.contract.imports import ROOT

README = ROOT / "README.md"
PAGES = {
    path.relative_to(ROOT).as_posix(): path
    for path in (README, *sorted((ROOT / "docs").rglob("*.md")))
}
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())
DVC_YAML = yaml.safe_load((ROOT / "dvc.yaml").read_text())

# What the pages name of programs that are not ours, by their first words.
OTHERS = {
    "dvc": {
        "commit": set(),
        "dag": set(),
        "exp run": {"-S", "--queue", "--temp"},
        "exp show": set(),
        "add": set(),
        "import": set(),
        "import-url": set(),
        "update": set(),
        "metrics diff": set(),
        "plots": set(),
        "plots diff": set(),
        "pull": set(),
        "repro": {"-f"},
    },
    "mlflow": {
        "models serve": {"--env-manager", "-m"},
        "ui": {"--backend-store-uri"},
    },
}
PROGRAMS = ("convoy", *OTHERS)
# Of file names that look like a key of a section, such as index.html.
SUFFIXES = {
    "csv",
    "html",
    "json",
    "lock",
    "md",
    "parquet",
    "png",
    "py",
    "safetensors",
    "sh",
    "yaml",
}
# Folders of code, and of what stages make.
OURS, MADE = r"pipeline|tests|infra|docs|\.ci", r"models|reports|data|\.convoy"
# Made beside what dvc.yaml lists.
BESIDE = ("reports/lr_find/*", "reports/similar.png", ".convoy/*")

FENCE = re.compile(r"^```(\w*)\n(.*?)^```[ \t]*$", re.M | re.S)
SPAN = re.compile(r"(?<!`)`([^`\n]+(?:\n[^`\n]+)?)`(?!`)")
LINK = re.compile(r"\[(?:[^\]\[]|\[[^\]]*\])*\]\(([^)\s]+)\)")


def prose(page: str) -> str:
    """Return a page without its code blocks."""
    return FENCE.sub("", PAGES[page].read_text())


def blocks(page: str, language: str = "") -> list[str]:
    """Return a page's code blocks in a language; without one they are for the shell."""
    return [body for named, body in FENCE.findall(PAGES[page].read_text()) if named == language]


def spans(page: str) -> list[str]:
    """Return the inline code of a page."""
    return [" ".join(span.split()) for span in SPAN.findall(prose(page))]


def code(page: str) -> list[str]:
    """Return the inline code and the lines for the shell; in a block with prompts only those."""
    lines = []
    for block in blocks(page):
        found = block.replace("\\\n", " ").splitlines()
        prompted = [line.removeprefix("$ ") for line in found if line.startswith("$ ")]
        lines += prompted or found
    return lines + spans(page)


def anchors(path: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", FENCE.sub("", path.read_text()), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def links(page: str) -> list[str]:
    """Return the targets of a page's links and pictures that lead to files or headings."""
    targets = LINK.findall(prose(page))
    return [target for target in targets if not target.startswith(("https://", "http://"))]


def commands(page: str) -> list[list[str]]:
    """Return the commands of PROGRAMS that a page shows, as words."""
    found = []
    for line in code(page):
        command = re.sub(r"^(\w+=\S+ )*(\.venv/bin/)?", "", line.strip())
        if command.partition(" ")[0] in PROGRAMS:
            found.append(shlex.split(command.replace("[", "").replace("]", ""), comments=True))
    return found


def settings(page: str) -> list[list[str]]:
    """Return what each `dvc exp run` of a page sets."""
    shown = [shlex.split(line) for line in code(page) if line.startswith("dvc exp run -S ")]
    return [[words[i + 1] for i, word in enumerate(words) if word == "-S"] for words in shown]


def target_of(page: str, link: str) -> tuple[Path, str]:
    path, _, anchor = link.partition("#")
    return ((PAGES[page].parent / path).resolve() if path else PAGES[page], anchor)


def test_the_readme_can_be_read_in_one_go():
    assert len(README.read_text().splitlines()) <= 170


@pytest.mark.parametrize("page", PAGES)
def test_links_resolve(page):
    for link in links(page):
        path, anchor = target_of(page, link)
        assert path.is_relative_to(ROOT), link
        assert path.exists(), link
        if anchor:
            assert anchor in anchors(path), link


def test_every_page_is_reachable_from_the_readme():
    found, waiting = {"README.md"}, ["README.md"]
    while waiting:
        page = waiting.pop()
        paths = {target_of(page, link)[0] for link in links(page)}
        new = {name for name, path in PAGES.items() if path in paths} - found
        found |= new
        waiting += new
    assert found == set(PAGES)


def test_the_picture_is_small():
    assert 10_000 < (ROOT / "docs" / "page.png").stat().st_size < 300_000


@pytest.mark.parametrize("page", PAGES)
def test_shown_commands_exist(page):
    for program, *words in commands(page):
        given = [word.partition("=")[0] for word in words if re.match(r"--?[A-Za-z]", word)]
        if program == "convoy":
            if not words or words[0] in ("--help", "STAGE"):
                continue
            assert words[0] in app.commands, f"convoy {words[0]}"
            assert set(given) <= options(app.commands[words[0]]), words
        else:
            known = OTHERS[program]
            called = next((n for n in (2, 1) if " ".join(words[:n]) in known), None)
            assert called, f"{program} {' '.join(words)}"
            assert set(given) <= known[" ".join(words[:called])], words


def options(command: click.Command) -> set[str]:
    found = [name for param in command.params for name in param.opts if name.startswith("-")]
    return {"--help", *found}


def test_the_readme_lists_every_command_for_people():
    folder = ROOT / "pipeline" / "commands"
    names = {path.stem.replace("_", "-") for path in folder.glob("[!_]*.py")}
    shown = {words[1] for words in commands("README.md") if words[0] == "convoy" and words[1:]}
    assert names <= shown
    assert names < set(app.commands)


@pytest.mark.parametrize("page", PAGES)
def test_named_params_exist(page):
    pattern = rf"(?<![\w/.*-])({'|'.join(PARAMS)})\.([a-z][\w.]*\w)(?![\w/(])"
    for section, rest in re.findall(pattern, "\n".join(code(page))):
        keys = rest.split(".")
        if keys[-1] in SUFFIXES:
            continue
        value = PARAMS[section]
        for key in keys:
            # Below a key that is free, such as balance.per_class, keys are the user's.
            assert value == {} or key in value, f"{section}.{rest}"
            value = value[key] if value else {}


@pytest.mark.parametrize("page", PAGES)
def test_yaml_of_params_is_valid(page, tmp_path):
    """A shown part of params.yaml, put into the file, gives valid params."""
    for block in blocks(page, "yaml"):
        whole = {name: dict(values) for name, values in PARAMS.items()}
        for section, values in yaml.safe_load(block).items():
            assert set(values) <= set(whole[section]), section
            whole[section] |= values
        file = tmp_path / "params.yaml"
        file.write_text(yaml.safe_dump(whole))
        load_params(file)


@pytest.mark.parametrize(
    ("page", "given"), [(page, given) for page in PAGES for given in settings(page)]
)
def test_shown_experiments_have_valid_params(page, given, tmp_path):
    """DVC takes every `-S` that is shown, and what it makes of params.yaml is valid."""
    file = tmp_path / "params.yaml"
    file.write_text((ROOT / "params.yaml").read_text())
    apply_overrides(file, given)
    load_params(file)


@pytest.mark.parametrize("page", PAGES)
def test_named_files_exist(page):
    """Code is where a page says that it is; what stages write is an output of dvc.yaml."""
    outs = []
    for stage in DVC_YAML["stages"].values():
        outs += [out if isinstance(out, str) else next(iter(out)) for out in stage["outs"]]
    for name in re.findall(rf"(?<![\w/.:-])(?:{OURS}|{MADE})/[\w./*<>-]*", "\n".join(spans(page))):
        path = re.sub(r"<\w+>", "*", name.rstrip("/."))
        if re.match(OURS, path):
            assert list(ROOT.glob(path)), name
        elif not any(fnmatch(path, known) for known in BESIDE):
            assert any(
                fnmatch(out, path) or path.startswith(f"{out}/") or out.startswith(f"{path}/")
                for out in outs
            ), name


def test_every_folder_of_the_package_is_described():
    block = next(text for text in blocks("docs/development.md") if text.startswith("pipeline/\n"))
    described, above = set(), []
    for indent, name in re.findall(r"^( *)(\w+)/", block, re.M):
        above = [*above[: len(indent) // 2], name]
        described.add("/".join(above))
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "pipeline").rglob("__init__.py")}
    assert described == {str(path) for path in folders if len(path.parts) <= 3}


@pytest.mark.parametrize("page", PAGES)
def test_no_page_names_a_path_outside_the_repository(page):
    text = PAGES[page].read_text()
    assert "../" not in text
    assert not re.findall(r"(?<![\w.:~>)*/])/(?!path/to/|invocations\b)\w[\w./-]*", text)


def test_the_patterns_find_what_they_should():
    """A pattern that finds nothing would let everything pass."""
    every = [words for page in PAGES for words in commands(page)]
    assert {words[0] for words in every} == set(PROGRAMS)
    assert ["convoy", "lr-find", "--stage", "finetune"] in every
    assert sum(len(settings(page)) for page in PAGES) >= 8
    assert "a-network-of-your-own" in anchors(PAGES["docs/networks.md"])
    assert "docs/data.md" in links("README.md")
    assert "index.max_bad_fraction" in spans("docs/data.md")
    assert blocks("docs/networks.md", "yaml")

"""The frame, colours and type that all pages share."""

from importlib import resources

from jinja2 import Environment, FunctionLoader, StrictUndefined


def templates_of(package: str) -> Environment:
    """Return the templates of a page, each of which can extend `frame.html`.

    The frame lets a page load nothing and run no script, but for those that its block `scripts`
    allows.

    Args:
        package: in whose folder they are.
    """
    folders = [resources.files(name) for name in (package, __name__)]

    def load(name: str) -> str | None:
        files = (folder.joinpath(name) for folder in folders)
        return next((file.read_text(encoding="utf-8") for file in files if file.is_file()), None)

    return Environment(
        loader=FunctionLoader(load),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

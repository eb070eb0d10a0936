"""A registered model as Markdown, for people who look at it in MLflow."""

from dataclasses import dataclass

from pipeline.evaluation.registration.outcome import Decision
from pipeline.evaluation.reports.schema import Figure, Measured
from pipeline.evaluation.reports.words import number

_LONGEST = 5000  # characters of a description in MLflow's databases
_LONGEST_LIST = 1500  # of classes


@dataclass(frozen=True)
class Card:
    """What a version is.

    Attributes:
        images: name of the data set.
        classes: in the order of the outputs.
        shape: height, width and channels of the input.
        network: name.
        views: number of views of an image that are averaged.
        data: digest of the training images.
        test: what the version reaches on the test images.
    """

    images: str
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    network: str
    views: int
    data: str
    test: Measured


def describe_model(card: Card, name: str, alias: str) -> str:
    """Describe a registered model: what is the same for all versions."""
    return (
        f"Classifies images of **{card.images}**. The version to use has the alias `{alias}`:\n\n"
        f"{_commands(f'models:/{name}@{alias}')}\n\n"
        "The page of a version lists its classes, its input, its test metrics, and why it was"
        " promoted or not."
    )


def describe_version(card: Card, decision: Decision, name: str, version: str, alias: str) -> str:
    """Describe a version: what it is, how to use it, and the decision about it."""
    height, width, channels = card.shape
    colours = "grey" if channels == 1 else "RGB"
    views = f", mean of {card.views} views of an image" if card.views > 1 else ""
    classes = ", ".join(f"`{one}`" for one in card.classes)
    if len(classes) > _LONGEST_LIST:
        classes = f"{classes[:_LONGEST_LIST]} ... (bundle.json has all)"
    lines = [
        f"- {len(card.classes)} classes, in the order of the outputs: {classes}",
        f"- input: {height} x {width} pixels, {colours}; other image files are fitted",
        f"- network: {card.network}{views}",
        f"- training images: digest `{card.data}`",
    ]
    figures = [f"- {metric} {_figure(one)}" for metric, one in card.test.figures.items()]
    parts = [
        f"Classifies images of **{card.images}**.",
        "\n".join(lines),
        f"On {card.test.images} test images, with 95 % intervals:",
        "\n".join(figures),
        _commands(f"models:/{name}/{version}"),
        as_markdown(decision, alias),
    ]
    text = "\n\n".join(parts)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 4]} ..."


def _figure(figure: Figure) -> str:
    if figure.value is None:
        return "is not defined"
    low, high = figure.ci95
    return f"{figure.value:.4f} ({low:.4f} to {high:.4f})"


def _commands(uri: str) -> str:
    return (
        f"```\nconvoy predict pictures/ --model {uri} --output answers.csv\n"
        f"mlflow models serve --env-manager local -m {uri}\n```"
    )


def as_markdown(decision: Decision, alias: str) -> str:
    """Write the verdict, the conditions of the gate and the comparison with the champion.

    Args:
        decision: about the version.
        alias: that was asked for.
    """
    verdict = "Promoted" if decision.promoted else "Not promoted"
    lines = [
        f"- {'passed' if check.passed else 'failed'}: {check.reason}" for check in decision.checks
    ]
    parts = [f"**{verdict}** to `{alias}`.", "\n".join(lines)]
    return "\n\n".join([*parts, *_table(decision)])


def _table(decision: Decision) -> list[str]:
    champion, comparison = decision.champion, decision.comparison
    if champion is None or champion.test is None or comparison is None:
        return []
    lines = [
        f"| test metric | champion, version {champion.version} | candidate - champion | 95 % |",
        "|---|---|---|---|",
    ]
    for metric in decision.metrics:
        before = champion.test.figures[metric.name].value
        difference = comparison.figures[metric.name]
        if before is not None and difference.value is not None:
            change, low, high = (
                number(one, sign=True, digits=4) for one in (difference.value, *difference.ci95)
            )
            lines.append(f"| {metric.name} | {before:.4f} | {change} | {low} to {high} |")
    return ["\n".join(lines)]

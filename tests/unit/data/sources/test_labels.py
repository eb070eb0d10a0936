import pytest

from pipeline.data.sources.source import check_labels
from pipeline.errors import PipelineError

CAFE, COMPOSED = "cafe\u0301", "caf\u00e9"


@pytest.mark.parametrize(
    "labels",
    [
        ["cat", "dog", None, "cat"],
        ["A", "a", "0"],  # letters to tell apart
        ["none", "NA", "nano", "naan"],
        [COMPOSED, "cafe"],
        ["\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u732b"],
        [],
    ],
)
def test_labels_that_anyone_can_tell_apart(labels: list[str | None]) -> None:
    check_labels(labels)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["Cat", "cat", "dog"], "the classes 'Cat' and 'cat' differ only in case, blanks or"),
        ([CAFE, COMPOSED], r"the classes 'cafe\\u0301' and 'caf\\xe9' differ only in"),
        (["big cat", "big  cat"], "differ only in case, blanks or the encoding of a letter; give"),
        (["stra\u00dfe", "STRASSE"], "differ only in"),
        (
            ["cat", "nan"],
            "a class is called nan, which is how programs write a missing value; fill",
        ),
        (["cat", "<NA>"], "a class is called <NA>, which is how"),
        (["cat", "do\0g"], r"the class 'do\\x00g' has an invisible character in its name; rename"),
        (["cat", "\ufeffcat"], r"the class '\\ufeffcat' has an invisible character"),
        (["cat", "dog\t1"], r"the class 'dog\\t1' has an invisible"),
    ],
)
def test_labels_that_look_alike_or_mean_nothing(labels: list[str], message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        check_labels(labels)

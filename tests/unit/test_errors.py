from pipeline.errors import PipelineError, did_you_mean, some


def test_a_message_is_one_line():
    assert str(PipelineError("a\n  b\tc")) == "a b c"


def test_did_you_mean():
    assert did_you_mean("trian", ["train", "test"]) == ", did you mean train?"
    assert did_you_mean("xyz", ["train", "test"]) == ""


def test_some():
    assert some([1, 2, 3], 5) == "1, 2, 3"
    assert some(range(7), 5) == "0, 1, 2, 3, 4 and 2 more"

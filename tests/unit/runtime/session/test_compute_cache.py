from pipeline.runtime.session.compute_cache import cached_compute
from pipeline.vision.bundle.arithmetic import Arithmetic
from pipeline.vision.training.compute_config import ComputeConfig

BF16 = Arithmetic("bf16", "channels_last")


def test_a_question_is_answered_once(tmp_path):
    asked = []

    def choose():
        asked.append(1)
        return ComputeConfig(BF16, len(asked))

    first = cached_compute(tmp_path, {"network": "a"}, choose)
    assert first == ComputeConfig(BF16, 1)
    assert cached_compute(tmp_path, {"network": "a"}, choose) == first
    assert cached_compute(tmp_path, {"network": "b"}, choose) == ComputeConfig(BF16, 2)


def test_a_damaged_answer_is_asked_for_again(tmp_path):
    cached_compute(tmp_path, {}, ComputeConfig)
    (file,) = tmp_path.iterdir()
    for text in ("", "{", '{"unknown": 1}', "[]"):
        file.write_text(text)
        assert cached_compute(tmp_path, {}, lambda: ComputeConfig(threads=3)) == ComputeConfig(
            threads=3
        )

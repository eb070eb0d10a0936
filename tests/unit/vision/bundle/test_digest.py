import hashlib

import pytest

from pipeline.errors import PipelineError
from pipeline.vision.bundle.digest import bundle_digest, weights_digest


def test_the_same_weights_with_another_description_are_known_by_them(tmp_path):
    for name, description in (("tuned", "{}"), ("final", '{"temperature": 2}')):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"weights")
        (folder / "bundle.json").write_text(description)
    tuned, final = tmp_path / "tuned", tmp_path / "final"
    assert weights_digest(tuned) == weights_digest(final) == hashlib.sha256(b"weights").hexdigest()
    assert bundle_digest(tuned) != bundle_digest(final)
    # The digest of both files' digests, the description's first.
    parts = [hashlib.sha256(b"{}").digest(), hashlib.sha256(b"weights").digest()]
    assert bundle_digest(tuned) == hashlib.sha256(b"".join(parts)).hexdigest()


@pytest.mark.parametrize("digest", [bundle_digest, weights_digest])
def test_a_folder_that_is_no_bundle(tmp_path, digest):
    with pytest.raises(PipelineError, match=r"is not a model bundle: .* is missing"):
        digest(tmp_path)

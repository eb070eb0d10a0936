"""Packed images for the tests of a module."""

import pytest

from tests.packed import write_sets


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Folders of packed training and validation images."""
    return write_sets(tmp_path_factory.mktemp("sets"), 90, 30)

import subprocess
import sys

import pytest

# Frees a large tensor, makes a smaller one, and counts the pages that the system had to give.
PAGES = """
import resource
import torch
from pipeline.vision.training.memory import keep_freed_memory
torch.set_num_threads(1)
if {kept}:
    assert keep_freed_memory()
torch.ones(2**25).sum()  # 128 MB
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.ones(2**24).sum()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone has these settings")
def test_freed_memory_is_used_again():
    pages = {}
    for kept in (True, False):
        code = PAGES.format(kept=kept)
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        pages[kept] = int(done.stdout)
    assert pages[True] < 100 < pages[False]

"""Writers that are killed leave the old thing or the whole new one; the next run clears up."""

import os

import pytest
from fuzz.readers import make_whole
from fuzz.writers import WRITERS, try_writer

#: Of the changes to the file system, one in so many is tried here; `make fuzz` tries all.
STEP = int(os.environ.get("PTYCHOSTREAM_FUZZ_STEP", "5"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return make_whole(tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("name", WRITERS)
def test_a_killed_writer_leaves_the_old_or_the_whole_new(name, whole, tmp_path):
    kills, wrong, _ = try_writer(name, whole, tmp_path, step=STEP, first=1)
    assert not wrong, "\n".join(wrong)
    assert kills

"""Damaged files are refused in our words, or give the same data: a few of each kind here.

`make fuzz` tries many more, and prints a table.
"""

import os

import pytest
from fuzz.mutations import try_reader
from fuzz.readers import READERS, make_whole

CASES = int(os.environ.get("PTYCHOSTREAM_FUZZ_CASES", "12"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return make_whole(tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_refused_or_give_the_same_data(name, whole, tmp_path):
    endings, wrong, _ = try_reader(name, whole, tmp_path, cases=CASES)
    assert not wrong, "\n".join(wrong)
    assert sum(endings.values()) == CASES

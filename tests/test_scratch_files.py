import errno

import numpy as np
import pytest

from ptychostream.errors import ConfigurationError
from ptychostream.scratch import allocate


def test_an_array_in_a_file_begins_with_zeros_and_leaves_no_file(tmp_path):
    array = allocate((3, 4), np.float32, tmp_path)
    assert not array.any()
    array += 2
    assert array.sum() == 24
    assert not list(tmp_path.iterdir())


def test_a_disk_that_fills_meanwhile_is_named_and_does_not_kill_the_process(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr("os.posix_fallocate", full, raising=False)
    with pytest.raises(ConfigurationError, match=f"the rows take .* '{tmp_path}' has"):
        allocate((3,), np.float64, tmp_path, purpose="the rows")
    assert not list(tmp_path.iterdir())

import errno

import pytest

from ptychostream.errors import StorageError
from ptychostream.files import whole_file


def test_a_file_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "f"
    path.write_text("before")
    with whole_file(path) as partial:
        partial.write_text("after")
        assert path.read_text() == "before"
    assert path.read_text() == "after"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_what_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "f"
    path.write_text("before")
    with pytest.raises(KeyError), whole_file(path) as partial:
        partial.write_text("half")
        raise KeyError
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_what_cannot_be_written_is_named(tmp_path):
    with (
        pytest.raises(StorageError, match="could not write '.*f': No space left"),
        whole_file(tmp_path / "f") as partial,
    ):
        raise OSError(errno.ENOSPC, "No space left on device", str(partial))
    (tmp_path / "folder").mkdir()
    with (
        pytest.raises(StorageError, match="folder': it is a folder"),
        whole_file(tmp_path / "folder"),
    ):
        raise AssertionError("nothing is begun")
    with (
        pytest.raises(StorageError, match="nowhere/f': No such file or directory"),
        whole_file(tmp_path / "nowhere" / "f") as partial,
    ):
        partial.write_text("")

from importlib import metadata

import pytest

from ptychodus_ext.compatibility import installed_version, is_supported
from ptychostream.errors import BackendUnavailableError


@pytest.mark.parametrize(
    ("version", "expected"),
    [("1.5.9", False), ("1.6.0", True), ("1.7.3", True), ("1.8.0", False), ("unknown", False)],
)
def test_versions_from_1_6_to_1_7_are_supported(version, expected):
    assert is_supported(version) is expected


@pytest.mark.parametrize("found", [None, "1.4.2"])
def test_a_missing_or_old_ptychodus_says_what_to_install(monkeypatch, found):
    def version(_):
        if found is None:
            raise metadata.PackageNotFoundError
        return found

    monkeypatch.setattr(metadata, "version", version)
    with pytest.raises(BackendUnavailableError, match=r"pip install 'ptychodus\[gui\]"):
        installed_version()


def test_an_installed_supported_version_is_returned(monkeypatch):
    monkeypatch.setattr(metadata, "version", lambda _: "1.7.0")
    assert installed_version() == "1.7.0"

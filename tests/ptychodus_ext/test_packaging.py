"""The wheel, installed beside an unmodified ptychodus."""

import json
import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from ptychodus_runs import REPOSITORY

from ptychostream.errors import ConfigurationError, MissingFileError

pytest.importorskip("ptychodus", reason="pip install 'ptychostream[ptychodus]'")

LIST = """
import json, logging
from ptychodus.model.core import ModelCore
with ModelCore(log_level=logging.INFO) as model:
    names = list(model.processing_core.algorithm_parameter.available_reconstructors())
    readers = [p.simple_name for p in model.plugin_registry.diffraction_file_readers]
    print(json.dumps([names, readers]))
"""


def _last_json(done: subprocess.CompletedProcess) -> list:
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(next(line for line in done.stdout.splitlines() if line.startswith("[[")))


def _copy_installed(package: str, target: Path) -> None:
    """Install a package as it is installed here, without the network."""
    for file in metadata.distribution(package).files or ():
        if ".." not in file.parts and "ptychostream" not in file.name:
            place = target / file
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file.locate(), place)


def _run(*words) -> subprocess.CompletedProcess:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    # Not in the folder of the sources: `-m` would find the extension there.
    return subprocess.run(
        list(map(str, words)),
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        cwd=Path(sys.executable).parent,
    )


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """A fresh environment with ptychodus and the wheel; the rest is found where it is."""
    folder = tmp_path_factory.mktemp("packaging")
    tree = folder / "tree"
    kept = shutil.ignore_patterns(".git", ".venv", "build", "*.egg-info", "__pycache__", "demo")
    shutil.copytree(REPOSITORY, tree, ignore=kept)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    built = _run(*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", folder, tree)
    assert built.returncode == 0, built.stdout + built.stderr
    assert _run(sys.executable, "-m", "venv", "--without-pip", folder / "venv").returncode == 0
    python = folder / "venv" / "bin" / "python"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site = folder / "venv" / "lib" / version / "site-packages"
    _copy_installed("ptychodus", site)
    rest = [entry for entry in sys.path if Path(entry).name == "site-packages"]
    (site / "rest.pth").write_text("\n".join(rest) + "\n")
    wheel = next(folder.glob("ptychostream-*.whl"))
    installed = _run(*pip, "--python", python, "install", "--no-deps", "--no-index", wheel)
    assert installed.returncode == 0, installed.stdout + installed.stderr
    return python


def test_the_wheel_is_found_until_it_is_uninstalled(python):
    found = _run(python, "-c", LIST)
    names, readers = _last_json(found)
    assert {"ptychostream_pinn", "ptychostream_supervised"} <= set(names), found.stderr
    assert "PtychoStream_Store" in readers
    assert (python.parent / "ptychodus-stream").is_file()
    check = _run(python, "-m", "ptychodus_ext.install")
    assert "finds it" in check.stdout
    # The file is the wheel's own: it is neither removed nor linked to itself.
    refused = _run(python, "-m", "ptychodus_ext.install", "--remove")
    assert refused.returncode == 1
    assert "pip uninstall ptychostream" in refused.stderr
    again = _run(python, "-m", "ptychodus_ext.install", "--install")
    assert "nothing to do" in again.stdout, again.stderr
    plugin = next(python.parents[1].glob("lib/*/site-packages/ptychodus/plugins/ptychostream.py"))
    text = plugin.read_text()
    plugin.unlink()
    lost = _run(python, "-m", "ptychodus_ext.install", "--install")
    assert lost.returncode == 1
    assert "reinstall it" in lost.stderr
    plugin.write_text(text)

    gone = _run(
        sys.executable, "-m", "pip", "--python", python, "uninstall", "--yes", "ptychostream"
    )
    assert gone.returncode == 0, gone.stderr
    left = _run(python, "-c", LIST)
    assert left.returncode == 0, left.stderr
    assert "ptychostream" not in left.stdout


def test_the_plugin_is_installed_and_removed_by_hand(tmp_path, monkeypatch):
    from ptychodus_ext import install

    monkeypatch.setattr(install, "plugin_folder", lambda: tmp_path)
    assert "does not find it" in install.describe()
    assert "installed" in install.install_plugin()
    assert "nothing to do" in install.install_plugin()
    assert "finds it" in install.describe()
    assert (tmp_path / "ptychostream.py").read_text().startswith('"""Where ptychodus looks')
    assert "removed" in install.remove_plugin()
    assert "nothing to do" in install.remove_plugin()


def test_a_wheels_own_file_is_neither_removed_nor_linked_to_itself(tmp_path, monkeypatch):
    from ptychodus_ext import install

    own = tmp_path / "ptychostream.py"
    own.write_text("# of the wheel")
    monkeypatch.setattr(install, "plugin_folder", lambda: tmp_path)
    monkeypatch.setattr(install, "_source", lambda: own)
    with pytest.raises(ConfigurationError, match="pip uninstall ptychostream"):
        install.remove_plugin()
    assert "nothing to do" in install.install_plugin()
    assert own.read_text() == "# of the wheel"
    own.unlink()
    with pytest.raises(MissingFileError, match="reinstall it"):
        install.install_plugin()
    assert not own.is_symlink()


def test_doctor_says_whether_ptychodus_finds_the_library(capsys):
    from ptychostream.cli.doctor import report

    assert dict(report())["PtychoStream"].startswith("ptychodus 1.")

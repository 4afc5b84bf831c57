"""Install the built wheel and sdist into empty environments, and try them.

python tests/try_package.py dist

The first environment holds nothing but the package and the loader of its names: version and help
need no other library. The second one sees the libraries of the environment that runs this script,
but not its ptychostream.
"""

import subprocess
import sys
import sysconfig
import tempfile
import venv
import zipfile
from pathlib import Path

#: Runs the whole package once: every module, the command line, a store.
TRIAL = """
import importlib, pkgutil, sys
import ptychostream, ptychodus_ext
assert sys.prefix in ptychostream.__file__, ptychostream.__file__
for package in (ptychostream, ptychodus_ext):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.startswith("ptychodus_ext."):
            importlib.import_module(module.name)
from ptychostream.cli.main import main
assert main("simulate s.zarr --num_positions 20 --N 16".split()) == 0
assert main("verify s.zarr".split()) == 0
"""


def run(*words, folder):
    result = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        sys.exit(f"failed: {' '.join(map(str, words))}\n{result.stdout}{result.stderr}")
    return result.stdout


def check_contents(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for name in ("ptychostream/py.typed", "ptychodus_ext/py.typed"):
        assert name in names, f"{wheel.name} lacks {name}"
    foreign = {name.split("/")[0] for name in names} & {"tests", "examples", "docs", "benchmarks"}
    assert not foreign, f"{wheel.name} holds {foreign}"


def main():
    dist = Path(sys.argv[1]).resolve()
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    check_contents(wheel)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for built in (wheel, sdist):
            home = folder / built.name
            venv.create(home, with_pip=True)
            run(home / "bin/pip", "install", "--quiet", "lazy-loader", folder=folder)
            run(home / "bin/pip", "install", "--quiet", "--no-deps", built, folder=folder)
            version = run(home / "bin/ptychostream", "--version", folder=folder).strip()
            assert version.split()[1] in built.name, f"{built.name} says {version}"
            run(home / "bin/ptychostream", "--help", folder=folder)
        # Lines of a .pth file are added behind what is installed, and editable installs are not.
        home = folder / wheel.name
        site = Path(next(home.glob("lib/python*/site-packages")))
        (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
        run(home / "bin/python", "-c", TRIAL, folder=folder)
    print(f"{wheel.name} and {sdist.name} install and work")


if __name__ == "__main__":
    main()

import subprocess
import sys

import pytest

import ptychostream as ps


def test_every_public_name_can_be_imported_and_no_other_exists():
    assert {"Scan", "train", "reconstruct", "load_bundle", "__version__"} <= set(ps.__all__)
    for name in ps.__all__:
        assert getattr(ps, name) is not None
    assert set(ps.__all__) <= set(dir(ps))
    with pytest.raises(AttributeError, match="reconstrct"):
        ps.reconstrct  # noqa: B018


def _modules_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print('\\n'.join(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split("\n"))


def test_importing_the_package_imports_nothing_heavy():
    heavy = {"torch", "lightning", "zarr", "h5py", "scipy", "matplotlib", "tensorflow"}
    assert not heavy & _modules_after("import ptychostream")


def test_help_imports_nothing_heavy():
    heavy = {"torch", "lightning", "zarr", "h5py", "scipy", "matplotlib", "jsonargparse"}
    assert not heavy & _modules_after("from ptychostream.cli.main import main; main(['--help'])")


def test_a_reconstruction_by_the_solver_imports_nothing_that_networks_need():
    heavy = {"lightning", "tensordict", "sympy", "scipy.stats", "scipy.signal", "scipy.ndimage"}
    code = "import ptychostream.cli.reconstruct, ptychostream.reconstruction.write"
    assert not heavy & _modules_after(code)

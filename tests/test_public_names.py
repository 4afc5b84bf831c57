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


#: Starts the command, and ends where the solver would begin.
_START = """
import sys
import ptychostream.cli.main as cli
find = cli.find_command
def find_and_stop(name):
    import ptychostream.solver.solver as solver
    solver.Solver.run = lambda *_, **__: sys.exit(print(*sys.modules))
    return find(name)
cli.find_command = find_and_stop
cli.main()
"""


def test_before_the_first_pass_nothing_is_imported_that_it_does_not_need(tmp_path):
    ps.build_group_store(
        ps.simulate_scan(num_positions=16, N=16), tmp_path / "s.zarr", progress=False
    )
    command = [sys.executable, "-c", _START, "reconstruct", "s.zarr", "-o", "out", "-q"]
    run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    heavy = {"lightning", "tensordict", "sympy", "matplotlib", "tensorflow", "distributed"}
    heavy |= {"logfire", "scipy"}
    started = set(run.stdout.split())
    assert "ptychostream.reconstruction.write" in started
    assert not heavy & started

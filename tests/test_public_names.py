import subprocess
import sys

import ptychostream as ps

NAMES = {
    "GroupStore",
    "InferenceConfig",
    "ModelBundle",
    "ModelConfig",
    "PtychoDataContainerTorch",
    "PtychoPINN",
    "PyTorchExecutionConfig",
    "RawDataTorch",
    "Scan",
    "TrainingConfig",
    "__version__",
    "append_patterns",
    "build_group_store",
    "finish_group_store",
    "follow",
    "from_spec_dict",
    "load_bundle",
    "make_loader",
    "open_group_store",
    "read_scan",
    "read_scans",
    "reconstruct",
    "save_bundle",
    "simulate_scan",
    "solve",
    "stitch_patches",
    "to_spec_dict",
    "train",
}


def test_public_names_are_these_and_all_can_be_imported():
    assert set(ps.__all__) == NAMES
    for name in NAMES:
        assert getattr(ps, name) is not None


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

"""`ptychostream doctor`."""

import os
import platform
import shutil
import subprocess
import sys
from importlib import metadata, util
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from ptychostream._version import __version__
from ptychostream.cli.common import new_parser
from ptychostream.errors import BackendUnavailableError

_REQUIRED = ("torch", "lightning", "tensordict", "zarr", "numcodecs", "h5py", "hdf5plugin", "scipy")

#: Optional modules: what they are for, and the extra that installs them.
_OPTIONAL = {
    "ptychodus": ("desktop and batch application", "pip install 'ptychostream[ptychodus]'"),
    "tensorflow": ("TensorFlow backend", "pip install 'ptychostream[tensorflow]'"),
    "tensorboard": ("logging", "pip install 'ptychostream[tensorboard]'"),
    "mlflow": ("logging", "pip install 'ptychostream[mlflow]'"),
}


def make_parser() -> ArgumentParser:
    """Describe the command line of `ptychostream doctor`."""
    parser = new_parser(
        "doctor", "List what works on this machine, and what to install for the rest."
    )
    parser.add_argument(
        "--install-plugin",
        action="store_true",
        help="let ptychodus find the library PtychoStream, where an installation can't",
    )
    return parser


def run(options: Namespace, parser: ArgumentParser) -> None:
    """Print what works on this machine."""
    if options.install_plugin:
        print(_ask_extension("--install"))
    for name, value in report():
        print(f"{name:14} {value}")


def report() -> list[tuple[str, str]]:
    """Examine the environment.

    Returns what was looked at, and what was found.
    """
    found = [
        ("ptychostream", __version__),
        ("python", f"{sys.version.split()[0]} on {platform.platform()}"),
        ("processors", f"{os.cpu_count()}"),
        ("disk here", f"{shutil.disk_usage(Path.cwd()).free / 2**30:.0f} GiB free"),
    ]
    for module in _REQUIRED:
        present = util.find_spec(module) is not None
        version = metadata.version(module) if present else "MISSING: pip install ptychostream"
        found.append((module, version))
    found.append(("devices", _devices()))
    found.append(("codecs", _codecs()))
    for module, (purpose, remedy) in _OPTIONAL.items():
        if not _is_installed(module):
            found.append((module, f"not installed ({purpose}): {remedy}"))
        else:
            found.append((module, f"{_version(module)} ({purpose})"))
    found.append(("PtychoStream", _ask_extension()))
    return found


def _is_installed(module: str) -> bool:
    """Return whether a module has code: our plugin alone makes the namespace of ptychodus."""
    spec = util.find_spec(module)
    return spec is not None and spec.origin is not None


def _ask_extension(*words: str) -> str:
    """Query the ptychodus extension in a child process: this package never imports it."""
    command = [sys.executable, "-m", "ptychodus_ext.install", *words]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode and words:
        raise BackendUnavailableError(answer.stderr.strip().removeprefix("error: "))
    return (answer.stdout or answer.stderr).strip()


def _version(module: str) -> str:
    try:
        return metadata.version(module)
    except metadata.PackageNotFoundError:
        # Some modules belong to a package of another name.
        names = metadata.packages_distributions().get(module, [])
        return f"in {', '.join(names)}" if names else "installed"


def _devices() -> str:
    import torch

    devices = ["cpu"]
    devices += [torch.cuda.get_device_name(at) for at in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        devices.append("mps")
    return ", ".join(devices)


def _codecs() -> str:
    """Encode and decode a few numbers the way a store does."""
    import tempfile

    import numpy as np
    import zarr

    from ptychostream.datasets.store.format import pattern_codecs

    values = np.arange(4096, dtype=np.uint16).reshape(4, 32, 32)
    with tempfile.TemporaryDirectory() as folder:
        array = zarr.create_array(
            Path(folder) / "a.zarr",
            shape=values.shape,
            dtype=values.dtype,
            chunks=(2, 32, 32),
            shards=(4, 32, 32),
            **pattern_codecs(),
        )
        array[:] = values
        works = bool((np.asarray(array[:]) == values).all())
    return "zstd with bitshuffle and CRC32C work" if works else "BROKEN: reinstall zarr, numcodecs"

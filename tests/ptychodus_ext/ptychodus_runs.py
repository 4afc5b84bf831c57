"""Experiments as ptychodus keeps them: off-centre, not square, with a wrong probe and no object."""

import configparser
import os
import shutil
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

import ptychostream as ps
from ptychostream.datasets.sources.ptychodus.experiment import write_ptychodus_experiment

REPOSITORY = Path(__file__).parents[2]

#: Where the middle of the object lies, in metres.
CENTRE = (3e-6, -2e-6)


@dataclass(frozen=True)
class Experiment:
    """A folder with which ptychodus starts, and the truth about it."""

    folder: Path
    truth: np.ndarray
    positions: np.ndarray
    inside: tuple[slice, slice]

    def write_settings(self, **groups) -> None:
        """Write `settings.ini`; groups and keys as in the file."""
        file = configparser.ConfigParser(interpolation=None)
        file.optionxform = str
        file.read_dict({"Products": {"FileType": "HDF5"}, **groups})
        with (self.folder / "settings.ini").open("w") as stream:
            file.write(stream)


def make_experiment(folder: Path, *, modes: int = 1, bad: bool = False) -> Experiment:
    """Simulate a scan of counts; ptychodus is given a flat object and a blurred probe."""
    scan = ps.simulate_scan(
        num_positions=200,
        N=32,
        step=2.5,
        object_shape=(90, 110),
        nphotons=1e6,
        mode_powers=(1.0,) if modes == 1 else (0.8, 0.2),
        seed=5,
    )
    write_ptychodus_experiment(scan, folder)
    with h5py.File(folder / "product.h5", "r+") as file:
        truth = file["object"][0]
        moved = np.array(CENTRE) - np.array(
            [file["object"].attrs[f"center_{axis}_m"] for axis in "xy"]
        )
        for axis, by in zip("xy", moved, strict=True):
            file[f"probe_position_{axis}_m"][:] += by
            file["object"].attrs[f"center_{axis}_m"] += by
        file["object"][:] = 1
        y, x = np.mgrid[-16:16, -16:16]
        # Wrong in phase, and at a power that says nothing about counts.
        file["probe"][:] *= 1e-3 * np.exp(-0.002j * (x**2 + y**2)).astype(np.complex64)
        positions = np.stack([file[f"probe_position_{axis}_m"][:] for axis in "xy"], axis=1)
    if bad:
        with h5py.File(folder / "diffraction.h5", "r+") as file:
            for row, column in ((9, 20), (16, 15), (25, 4)):
                file["bad_pixels"][row, column] = True
                file["patterns"][:, row, column] = 2**20
    # Where patterns overlap: between the outermost positions.
    low, high = np.ceil(scan.positions.min(axis=0)), np.floor(scan.positions.max(axis=0))
    columns, rows = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return Experiment(folder, truth, positions, (rows, columns))


def phase_correlation(found: np.ndarray, experiment: Experiment) -> float:
    """Correlate phases inside the scan, once ramp and constant are removed."""
    a, b = (obj[experiment.inside].astype(complex) for obj in (found, experiment.truth))
    q = a * b.conj()
    slope_x = np.angle((q[:, 1:] * q[:, :-1].conj()).sum())
    slope_y = np.angle((q[1:] * q[:-1].conj()).sum())
    y, x = np.mgrid[: a.shape[0], : a.shape[1]]
    a = a * np.exp(-1j * (slope_x * x + slope_y * y))
    a *= np.exp(-1j * np.angle(np.vdot(b, a)))
    return float(np.corrcoef(np.angle(a).ravel(), np.angle(b).ravel())[0, 1])


def run(*words, timeout: float = 300, **environment) -> subprocess.CompletedProcess:
    """Run a Python process with this tree first on its path."""
    offscreen = {"QT_QPA_PLATFORM": "offscreen", "OMP_NUM_THREADS": "1"}
    return _run([sys.executable, *map(str, words)], timeout, {**offscreen, **environment})


def run_on_screen(*words, timeout: float = 300, **environment) -> subprocess.CompletedProcess:
    """Run a Python process on a screen of its own, or without one where there is no Xvfb."""
    if shutil.which("xvfb-run") is None:
        return run(*words, timeout=timeout, **environment)
    screen = ["xvfb-run", "--auto-servernum", "--server-args=-screen 0 1500x1100x24"]
    environment = {"QT_QPA_PLATFORM": "xcb", "OMP_NUM_THREADS": "1", **environment}
    return _run([*screen, sys.executable, *map(str, words)], timeout, environment)


def _run(words, timeout, environment) -> subprocess.CompletedProcess:
    mine = {**os.environ, **environment}
    mine["PYTHONPATH"] = os.pathsep.join([str(REPOSITORY), mine.get("PYTHONPATH", "")])
    return subprocess.run(
        words,
        env=mine,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def run_batch(
    action: str, folder: Path, out: Path, **environment: str
) -> subprocess.CompletedProcess:
    """Run the application's own batch command."""
    words = ("-m", "ptychodus_ext.cli", "-b", action, "-i", folder, "-o", out)
    return run(*words, **environment)


def hide_ptychi(folder: Path) -> dict[str, str]:
    """Return an environment without pty-chi, to which ptychodus's default algorithm belongs.

    With it, each start of ptychodus takes the time of another process that looks for devices.
    """
    (folder / "ptychi").mkdir()
    (folder / "ptychi" / "__init__.py").write_text("raise ModuleNotFoundError('not here')\n")
    return {"PYTHONPATH": str(folder)}


#: A small package that can be imported as `ptycho`: its model knows the object that it was
#: trained on, and cuts the patches out of it.
PTYCHO = {
    "__init__.py": "",
    "params.py": """
        cfg = {'N': 64, 'gridsize': 1, 'intensity_scale': 2.0}

        def get(name):
            return cfg[name]
        """,
    "probe.py": """
        def set_probe_guess(X_train=None, probe_guess=None):
            assert probe_guess.ndim == 2
        """,
    "raw_data.py": """
        import numpy as np

        class RawData:
            last = None

            def __init__(self, xcoords, ycoords, xcoords_start, ycoords_start, diff3d, probeGuess,
                         scan_index, objectGuess=None, Y=None):
                self.x, self.y, self.diff3d = xcoords, ycoords, diff3d
                RawData.last = self

            def generate_grouped_data(self, N, K, nsamples, gridsize):
                assert nsamples == len(self.x) and gridsize == 1
                return {'X': self.diff3d[..., None],
                        'at': np.stack([self.x, self.y], 1).reshape(-1, 1, 2, 1)}
        """,
    "loader.py": """
        from types import SimpleNamespace
        from ptycho import params

        def load(make, probe, which=None, create_split=False):
            data = make()
            params.cfg.setdefault('intensity_scale', 2.0)
            return SimpleNamespace(X=data['X'], local_offsets=0 * data['at'],
                                   global_offsets=data['at'])
        """,
    "model_manager.py": """
        import pickle
        import zipfile
        from pathlib import Path
        import numpy as np
        from ptycho import params, raw_data

        def save(folder):
            with zipfile.ZipFile(Path(folder) / 'wts.h5.zip', 'w') as archive:
                archive.writestr('manifest.dill', pickle.dumps({'models': [], 'version': '1.0'}))
                archive.writestr('N', str(raw_data.RawData.last.diff3d.shape[-1]))
        """,
    "config/__init__.py": "",
    "config/config.py": """
        from dataclasses import dataclass, field

        @dataclass(frozen=True)
        class ModelConfig:
            N: int = 64
            gridsize: int = 1

        @dataclass
        class TrainingConfig:
            model: ModelConfig
            nepochs: int = 50
            n_groups: int = 512
        """,
    "workflows/__init__.py": "",
    "workflows/components.py": """
        import os
        import zipfile
        from pathlib import Path
        import numpy as np
        from ptycho.config.config import TrainingConfig
        from ptycho.raw_data import RawData

        def train_cdi_model(train_data, test_data, config):
            assert isinstance(train_data, RawData) and isinstance(config, TrainingConfig)
            # Amplitudes: counts would be whole numbers throughout.
            assert (train_data.diff3d % 1).any()
            return {'history': {'loss': [3.0] * config.nepochs}}

        class Model:
            def __init__(self, N):
                self.N, self.truth = N, np.load(os.environ['TRUTH'])

            def predict(self, inputs):
                corners = np.stack([RawData.last.y, RawData.last.x], 1) - self.N / 2
                cut = [self.truth[y:y + self.N, x:x + self.N]
                       for y, x in np.rint(corners).astype(int)]
                return np.stack(cut)[..., None]

        def load_inference_bundle(directory):
            with zipfile.ZipFile(Path(directory) / 'wts.h5.zip') as archive:
                N = int(archive.read('N'))
            return Model(N), {'N': N, 'gridsize': 1}
        """,
}


def lay_out_ptycho(folder: Path, truth: np.ndarray) -> dict[str, str]:
    """Write the small package; returns the environment in which it is found."""
    for name, text in PTYCHO.items():
        path = folder / "site" / "ptycho" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    np.save(folder / "truth.npy", truth)
    return {"PYTHONPATH": str(folder / "site"), "TRUTH": str(folder / "truth.npy")}

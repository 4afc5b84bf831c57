"""What tests share and need by name."""

from pathlib import Path

import numpy as np

import ptychostream as ps
from ptychostream.training.train import initial_model


def tiny_config(tmp_path: Path, **changes) -> ps.TrainingConfig:
    """A run of seconds: unrolled, N = 16."""
    model = {"N": 16, "architecture": "unrolled", "unrolled_steps": 2, "unrolled_width": 8}
    model |= changes.pop("model", {})
    options = {"nepochs": 1, "batch_size": 8, "neighbor_count": 6, "output_dir": tmp_path}
    return ps.TrainingConfig(model=ps.ModelConfig(**model), **(options | changes))


def untrained(config: ps.TrainingConfig, store: ps.GroupStore) -> ps.ModelBundle:
    """A model as training begins with it."""
    return ps.ModelBundle(
        model=initial_model(config, store, seed=0).eval(),
        config=config,
        intensity_scale=1.0,
        probe_guess=store.probe,
    )


def dense_shift(image: np.ndarray, shift: tuple[float, float]) -> np.ndarray:
    """Shift (x, y) a periodic image, by an explicit Fourier sum in double precision."""
    rows, columns = image.shape
    y = np.fft.fftfreq(rows)[:, None] * shift[1]
    x = np.fft.fftfreq(columns) * shift[0]
    return np.fft.ifft2(np.fft.fft2(image) * np.exp(-2j * np.pi * (x + y)))

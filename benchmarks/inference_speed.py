"""Speed of the generators on one thread, over their convolutions and Fourier transforms alone.

Predictions: patterns per second of `unrolled` (five steps, N = 64), lone and in groups of four,
and of the CNN. Training: a step of the CNN (forward, physics, loss, backward, Adam) over its
convolutions alone, forward and backward. Processor time counts, the least of several runs.

    python benchmarks/inference_speed.py
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

import ptychostream as ps
from ptychostream.training.losses import poisson_nll


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Processor time of a call, the least of several."""
    work()
    times = []
    for _ in range(repeats):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times)


def make_batch(gridsize: int, groups: int) -> tuple[dict[str, torch.Tensor], np.ndarray]:
    """Simulate patterns in RAM: a batch, and their probe."""
    size = gridsize**2
    scan = ps.simulate_scan(
        object="bars_and_ellipses", probe="gaussian", num_positions=groups * size, N=64, step=4.0
    )
    amplitude = torch.tensor(np.sqrt(scan.patterns.read(np.arange(groups * size)))).float()
    amplitude = amplitude * 32 / amplitude.square().sum((-2, -1)).mean().sqrt()
    positions = torch.tensor(scan.positions).float().reshape(groups, size, 2)
    if size > 1:
        # Neighbours at the corners of a cell, half a pixel off the grid.
        positions = 4.3 * torch.tensor([[0.0, 0.0], [1, 0], [0, 1], [1, 1]]).expand(groups, 4, 2)
    batch = {
        "diffraction": amplitude.reshape(groups, size, 64, 64),
        "coords_relative": (positions.mean(1, keepdim=True) - positions)[:, :, None],
        "experiment_id": torch.zeros(groups, dtype=torch.int64),
        "rms_scale": torch.ones(groups, 1, 1, 1),
    }
    return batch, scan.probe[None]


class Transforms:
    """The convolutions and Fourier transforms of a call, to be run again without the rest."""

    def __init__(self, model: nn.Module, call: Callable[[], object]) -> None:
        self.convolutions: list[tuple[nn.Conv2d, torch.Tensor]] = []
        self.waves: list[torch.Tensor] = []
        hooks = [
            layer.register_forward_pre_hook(self._note)
            for layer in model.modules()
            if isinstance(layer, nn.Conv2d)
        ]
        plain = torch.fft.fft2, torch.fft.ifft2
        torch.fft.fft2, torch.fft.ifft2 = (self._noting(transform) for transform in plain)
        try:
            call()
        finally:
            torch.fft.fft2, torch.fft.ifft2 = plain
            for hook in hooks:
                hook.remove()

    def _note(self, layer: nn.Conv2d, inputs: tuple[torch.Tensor]) -> None:
        self.convolutions.append((layer, torch.empty_like(inputs[0]).normal_().detach()))

    def _noting(self, transform: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def noted(wave: torch.Tensor, **options: object) -> torch.Tensor:
            self.waves.append(torch.empty_like(wave).normal_().detach())
            return transform(wave, **options)

        return noted

    def again(self) -> None:
        """Run them."""
        for layer, x in self.convolutions:
            layer(x)
        for wave in self.waves:
            torch.fft.fft2(wave)

    def convolve_forward_and_backward(self) -> None:
        """Run the convolutions, and their gradients for weights and inputs."""
        for number, (layer, x) in enumerate(self.convolutions):
            # Nobody asks for the gradient of the measurement.
            out = layer(x.requires_grad_(number > 0))
            out.backward(torch.ones_like(out))


def prediction_row(architecture: str, gridsize: int, repeats: int) -> float:
    groups = 16 // gridsize**2
    batch, probe = make_batch(gridsize, groups)
    config = ps.ModelConfig(architecture=architecture, gridsize=gridsize)
    if architecture == "cnn":
        config = ps.ModelConfig(gridsize=gridsize, n_filters_scale=1)
    model = ps.PtychoPINN(config, probe).eval()

    @torch.no_grad()
    def call() -> torch.Tensor:
        return model.reconstruct(batch["diffraction"], batch["coords_relative"])

    transforms = Transforms(model, call)
    with torch.no_grad():
        bare = seconds(transforms.again, repeats)
    taken = seconds(call, repeats)
    rate = groups * gridsize**2 / taken
    print(f"| {architecture} | {gridsize} | {rate:.0f} | {taken / bare:.2f} |", flush=True)
    return rate


def training_ratio(gridsize: int, repeats: int) -> float:
    batch, probe = make_batch(gridsize, 16)
    model = ps.PtychoPINN(ps.ModelConfig(gridsize=gridsize, n_filters_scale=1), probe)
    optimizer = torch.optim.Adam(model.generator.parameters(), 1e-3)
    counts = batch["diffraction"].square()

    def step() -> None:
        optimizer.zero_grad()
        poisson_nll(model(batch).intensity, counts).backward()
        optimizer.step()

    transforms = Transforms(model, lambda: model(batch))
    return seconds(step, repeats) / seconds(transforms.convolve_forward_and_backward, repeats)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=10)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    print("| generator | gridsize | patterns/s | over convolutions and transforms alone |")
    lone, grouped = (prediction_row("unrolled", gridsize, repeats) for gridsize in (1, 2))
    prediction_row("cnn", 1, repeats)
    prediction_row("cnn", 2, repeats)
    print(f"unrolled, gridsize 2 over 1, time per pattern: {lone / grouped:.2f}")
    for gridsize in (1, 2):
        ratio = training_ratio(gridsize, max(repeats // 2, 1))
        print(f"cnn, gridsize {gridsize}, training step over its convolutions: {ratio:.2f}")


if __name__ == "__main__":
    main()

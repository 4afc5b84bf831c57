"""Move the probe by what the patterns of a batch ask for, and keep its modes in order."""

import torch
from torch import Tensor
from torch.fft import fft2, ifft2

#: Weight of a probe pixel is taken as at least this part of the largest.
_FLOOR = 0.1

#: Power of an added mode, as a part of the first one's.
_NEW_POWER = 0.1


def probe_step(
    probe: Tensor,
    velocity: Tensor,
    *,
    pull: Tensor,
    weight: Tensor,
    momentum: float,
    step: float,
) -> None:
    """Make one accelerated step of the probe, in place, as the object does.

    Object and probe share step and momentum: an accelerated object beside a slow probe, or the
    other way round, diverges. The pull is divided by what the object lets through, which is
    the curvature of the misfit for a probe pixel.

    `probe`, `velocity` (P, N, N): illumination, and its last update.
    `pull` (P, N, N): sum of the corrections that the patterns ask for, each times its patch,
        conjugate.
    `weight` (N, N): sum of the patches' |O|².
    """
    weight = _FLOOR * weight.max() + (1 - _FLOOR) * weight
    velocity.mul_(momentum).add_(pull / weight, alpha=step)
    probe.add_(velocity)


def order_modes(probe: Tensor, velocity: Tensor) -> tuple[Tensor, Tensor]:
    """Turn modes (P, N, N) into orthogonal ones, the strongest first; the velocity with them.

    A unitary mixture of incoherent modes gives the same patterns; the eigenvectors of their
    P x P products are the one mixture that is orthogonal.
    """
    if len(probe) == 1:
        return probe, velocity
    flat = probe.flatten(1)
    turn = torch.linalg.eigh(flat @ flat.conj().T)[1].flip(1).conj().T
    # The phase of an eigenvector is arbitrary: it is chosen nearest to the former modes.
    largest = turn.abs().argmax(1)
    turn = turn * torch.exp(-1j * turn[torch.arange(len(turn)), largest].angle())[:, None]
    probe, velocity = (torch.einsum("kl,lyx->kyx", turn, p) for p in (probe, velocity))
    return probe, velocity


def add_modes(probe: Tensor, number: int) -> Tensor:
    """Return (number, N, N): the modes given, and others where some are missing.

    What a beam that shakes, or that is not quite coherent, holds beside its first mode P are its
    derivatives: ∂P/∂x + i ∂P/∂y, ∂P/∂x - i ∂P/∂y, then their squares. Each starts with a tenth of
    the first one's power.
    """
    frequency = torch.fft.fftfreq(probe.shape[-1], device=probe.device)
    twist = torch.complex(*torch.meshgrid(frequency, frequency, indexing="xy"))
    for added in range(number - len(probe)):
        factor = (twist if added % 2 == 0 else twist.conj()) ** (added // 2 + 1)
        mode = ifft2(fft2(probe[0]) * factor)
        for old in probe:
            mode = mode - old * (old.conj() * mode).sum() / old.abs().square().sum()
        power = _NEW_POWER * probe[0].abs().square().sum()
        mode = mode * (power / mode.abs().square().sum()).sqrt()
        probe = torch.cat([probe, mode[None]])
    return probe[:number]

"""From object patches to predicted diffraction: our physics, or PtychoPINN's by its numbers."""

from typing import ClassVar

from torch import Tensor, nn
from typing_extensions import override

from ptychostream.config import ModelConfig
from ptychostream.models import ptychopinn
from ptychostream.models.merge import merge_group
from ptychostream.models.probe_mask import hard_disk, mask_of
from ptychostream.physics import intensity, propagate_far_field


def probe_power(patch_size: int, probe_scale: float) -> float:
    """Power Σ|probe|² that the model gives every probe.

    `probe_scale`: head-room: an object of amplitude 2 / probe_scale explains the mean measured
        power, which is (N/2)² in the model's unit.
    """
    return (patch_size / 2 * probe_scale / 2) ** 2


class ForwardModel(nn.Module):
    """Our physics: probes scaled by their power, modes that add incoherently.

    `always_merges`: whether the patches of a group are merged even where they agree already.
    `probe_mask` (N, N): the mask of the probe.
    """

    always_merges: ClassVar[bool] = False

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self._patch_size, self._probe_scale = config.N, config.probe_scale
        self.probe_mask = mask_of(config) if config.probe_mask else None

    def scale_probe(self, probe: Tensor) -> Tensor:
        """Scale probes (E, P, N, N) to the model's unit."""
        power = probe.abs().square().sum(dim=(-3, -2, -1), keepdim=True)
        return probe * (probe_power(self._patch_size, self._probe_scale) / power).sqrt()

    def merge(
        self, patches: Tensor, coords_relative: Tensor, light: Tensor, reach: int | None
    ) -> Tensor:
        """Make the patches (B, C, N, N) of each group consistent with one object."""
        return merge_group(patches, coords_relative, light, reach)

    def predict(self, waves: Tensor) -> Tensor:
        """Predict the diffraction (..., N, N) of exit waves (..., P, N, N)."""
        return intensity(propagate_far_field(waves))


class PtychoPINNForwardModel(ForwardModel):
    """PtychoPINN's physics, number for number (`models.ptychopinn`), for comparisons with it."""

    always_merges = True

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        # It masks the exit wave after smoothing, not the probe.
        self.probe_mask = None
        self._wave_mask: Tensor | None
        mask = hard_disk(config.N) if config.probe_mask else None
        self.register_buffer("_wave_mask", mask, persistent=False)

    @override
    def scale_probe(self, probe: Tensor) -> Tensor:
        return ptychopinn.scale_probe(probe, hard_disk(self._patch_size), self._probe_scale)

    @override
    def merge(
        self, patches: Tensor, coords_relative: Tensor, light: Tensor, reach: int | None
    ) -> Tensor:
        return ptychopinn.merge_group(patches, coords_relative)[0]

    @override
    def predict(self, waves: Tensor) -> Tensor:
        return ptychopinn.predict_intensity(waves, self._wave_mask)


def forward_model(config: ModelConfig) -> ForwardModel:
    """Return the forward model of a configuration."""
    return (PtychoPINNForwardModel if config.compat == "upstream" else ForwardModel)(config)

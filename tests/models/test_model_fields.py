"""Every field of ModelConfig: change it, and the network or what it says of a batch changes."""

import dataclasses

import numpy as np
import pytest
import torch

import ptychostream as ps
from ptychostream.errors import ConfigurationError
from ptychostream.models.generators import GENERATORS, build_generator, check_fields

UNROLLED = {"N": 16, "gridsize": 2, "architecture": "unrolled", "unrolled_steps": 2}
CNN = {"N": 64, "gridsize": 2, "n_filters_scale": 1, "architecture": "cnn"}
FNO = {
    "N": 16,
    "gridsize": 2,
    "architecture": "fno",
    "fno_modes": 4,
    "fno_width": 8,
    "fno_blocks": 2,
    "fno_cnn_blocks": 1,
}
FAST = {"N": 16, "architecture": "fast", "fast_width": 8}
LOGITS = FNO | {"generator_output_mode": "amp_phase_logits"}

#: Field: the configurations that it is changed in, and its other value.
CASES = {
    "N": [(FNO, 24)],
    "gridsize": [(UNROLLED, 1), (CNN, 1)],
    "n_filters_scale": [(CNN, 2)],
    "model_type": [],
    "architecture": [(FNO, "ffno")],
    "fno_modes": [(FNO, 5), (FNO | {"architecture": "ffno"}, 5)],
    "fno_width": [(FNO, 6), (FNO | {"architecture": "ffno"}, 6)],
    "fno_blocks": [(FNO, 3), (FNO | {"architecture": "ffno"}, 3)],
    "fno_cnn_blocks": [(FNO, 2)],
    "learned_input_channels": [(FNO, 3)],
    "max_hidden_channels": [(FNO, 6), (FNO | {"architecture": "ffno"}, 12)],
    "resnet_width": [(FNO, 5)],
    "fno_input_transform": [(FNO, "sqrt"), (FNO, "log1p"), (FNO, "instancenorm")],
    "generator_output_mode": [(FNO, "amp_phase"), (FNO, "amp_phase_logits")],
    "amp_activation": [(LOGITS, "softplus"), (CNN, "swish"), (CNN, "softplus"), (CNN, "relu")],
    "cbam_encoder": [(CNN, True)],
    "border_channels": [(CNN | {"gridsize": 1}, "outputs")],
    "cnn_input": [(CNN, "intensity")],
    "object_big": [(CNN, False)],
    "probe_big": [(CNN, False)],
    "probe_mask": [(UNROLLED, True), (CNN, True)],
    "probe_mask_sigma": [(UNROLLED | {"probe_mask": True}, 0.0)],
    "probe_mask_diameter": [(UNROLLED | {"probe_mask": True}, 5.0)],
    "pad_object": [(CNN, False)],
    "probe_scale": [(UNROLLED, 8.0), (CNN, 8.0)],
    "amplitude_physics_gain": [(UNROLLED, 1.5), (CNN, 1.5)],
    "gaussian_smoothing_sigma": [(UNROLLED, 1.0), (CNN, 1.0)],
    "compat": [(CNN, "upstream")],
    "fast_width": [(FAST, 12)],
    "unrolled_steps": [(UNROLLED, 3)],
    "unrolled_width": [(UNROLLED, 12)],
}
TABLE = [(name, base, value) for name, cases in CASES.items() for base, value in cases]


def _model(config):
    edge = config.N
    x = (np.arange(edge) - edge / 2) / (edge / 5)
    probe = np.exp(-(x[:, None] ** 2) - x**2) * np.exp(1j * x)
    torch.manual_seed(0)
    model = ps.PtychoPINN(config, probe.astype(np.complex64)[None, None])
    if config.architecture in ("fno", "ffno"):
        # They begin near an empty object, whatever they are given.
        with torch.no_grad():
            model.generator.last.weight.mul_(10)
    return model


def _said(model):
    """What a model says of a batch, and the shapes of its parameters."""
    config = model.config
    generator = torch.Generator().manual_seed(1)
    members, edge = config.group_size, config.N
    diffraction = torch.rand(2, members, edge, edge, generator=generator)
    relative = torch.randn(2, members, 1, 2, generator=generator)
    batch = {
        "experiment_id": torch.zeros(2, dtype=torch.int64),
        "coords_relative": relative - relative.mean(dim=1, keepdim=True),
        "diffraction": diffraction,
        "rms_scale": torch.ones(()),
    }
    with torch.no_grad():
        patches, intensity = model(batch)
    numbers = torch.cat((torch.view_as_real(patches).flatten(), intensity.flatten()))
    return numbers, [tuple(p.shape) for p in model.parameters()]


def test_every_field_is_in_the_table():
    assert list(CASES) == [field.name for field in dataclasses.fields(ps.ModelConfig)]


@pytest.mark.parametrize(
    ("name", "base", "value"),
    TABLE,
    ids=[f"{base['architecture']}-{name}-{value}" for name, base, value in TABLE],
)
def test_changing_a_field_changes_the_model(name, base, value):
    before, after = ps.ModelConfig(**base), ps.ModelConfig(**(base | {name: value}))
    assert getattr(before, name) != value
    check_fields(after)
    (first, shapes), (second, other_shapes) = _said(_model(before)), _said(_model(after))
    if shapes == other_shapes and first.shape == second.shape:
        assert (first - second).abs().max() > 1e-3 * first.abs().max()


def test_the_model_type_decides_what_is_learnt_from():
    # Labels instead of neighbours; that labels must be there is a matter of training.
    kinds = [
        ps.ModelConfig(architecture="unrolled", model_type=kind) for kind in ("pinn", "supervised")
    ]
    assert [ps.TrainingConfig(model=kind).num_held_out for kind in kinds] == [3, 0]


@pytest.mark.parametrize("name", CASES)
def test_a_field_is_used_by_the_generator_or_refused(name):
    owners = {key for key, kind in GENERATORS.items() if name in kind.fields}
    default = getattr(ps.ModelConfig(), name)
    values = [value for base, case in CASES[name] for value in (base.get(name), case)]
    for architecture in owners and GENERATORS.keys() - owners:
        value = next(value for value in values if value not in (None, default))
        config = ps.ModelConfig(**{"architecture": architecture, name: value})
        with pytest.raises(ConfigurationError, match=f"{name}=.* has no meaning for .*leave it"):
            check_fields(config)


def test_a_generator_claims_only_fields_that_exist():
    known = {field.name for field in dataclasses.fields(ps.ModelConfig)}
    for kind in GENERATORS.values():
        assert kind.fields <= known


@pytest.mark.parametrize("base", [UNROLLED, CNN, FNO, FNO | {"architecture": "ffno"}])
def test_a_batch_is_its_members_one_by_one(base):
    config = ps.ModelConfig(**base)
    torch.manual_seed(0)
    network = build_generator(config)
    edge = config.N
    diffraction = torch.rand(3, 4, edge, edge)
    window = torch.hann_window(edge)
    probe = (window[:, None] * window).to(torch.complex64).expand(3, 2, edge, edge)
    relative = torch.tensor([[2.0, 1.0], [-2.0, 1.0], [2.0, -1.0], [-2.0, -1.0]])
    relative = relative.expand(3, 4, 2)[:, :, None]
    with torch.no_grad():
        together = network(diffraction, probe, relative)
        for number in range(3):
            one = slice(number, number + 1)
            alone = network(diffraction[one], probe[one], relative[one])
            torch.testing.assert_close(alone, together[one], rtol=1e-3, atol=1e-4)

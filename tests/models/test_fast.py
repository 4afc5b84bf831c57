"""The small network: two steps of the physics before training, each pattern by itself."""

import pytest
import torch

import ptychostream as ps
from ptychostream.models.generators.fast import Fast
from ptychostream.models.generators.first_step import first_step
from ptychostream.physics import exit_wave, intensity, propagate_far_field


def _patterns(edge=20, groups=3, patterns=2):
    torch.manual_seed(0)
    along = torch.arange(edge) - edge / 2
    beam = torch.exp(-(along[:, None] ** 2 + along**2) / (edge / 6) ** 2).to(torch.complex64)
    probe = beam.expand(groups, 1, edge, edge)
    obj = torch.polar(torch.ones(groups, patterns, edge, edge), torch.rand(groups, 1, edge, edge))
    measured = intensity(propagate_far_field(exit_wave(obj, probe[:, None]))).sqrt()
    return measured, probe, torch.zeros(groups, patterns, 1, 2)


def test_untrained_it_fits_the_data_better_than_one_step():
    measured, probe, relative = _patterns()
    with torch.no_grad():
        patches = Fast(width=8)(measured, probe, relative)
    level, change = first_step(measured, probe, None)
    one = level[..., None, None] * (1 + change)

    def misfit(guess):
        predicted = intensity(propagate_far_field(exit_wave(guess, probe[:, None]))).sqrt()
        return float((predicted - measured).square().sum())

    assert misfit(patches) < misfit(one)


def test_a_patch_does_not_depend_on_the_other_patterns_nor_on_the_dose():
    measured, probe, relative = _patterns()
    network = Fast(width=8)
    with torch.no_grad():
        torch.nn.init.normal_(network.last.weight, std=0.1)
        together = network(measured, probe, relative)
        alone = network(measured[1:2, 1:], probe[1:2], relative[1:2, 1:])
        brighter = network(7 * measured, 7 * probe, relative)
    torch.testing.assert_close(together[1:2, 1:], alone, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together, brighter, rtol=1e-4, atol=1e-4)


def test_an_empty_pattern_gives_finite_patches_and_slopes():
    measured, probe, relative = _patterns()
    network = Fast(width=8)
    patches = network(torch.zeros_like(measured), probe, relative)
    assert torch.isfinite(torch.view_as_real(patches)).all()
    patches.abs().square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


@pytest.mark.parametrize("gridsize", [1, 2])
def test_training_lowers_the_loss(tiny_store, tmp_path, gridsize):
    config = ps.TrainingConfig(
        model=ps.ModelConfig(N=16, gridsize=gridsize, architecture="fast", fast_width=8),
        nepochs=3,
        output_dir=tmp_path,
    )
    quiet = ps.PyTorchExecutionConfig(logger_backend=None, enable_checkpointing=False)
    losses = ps.train(config, tiny_store, execution=quiet).history["train_loss"]
    assert losses[-1] < losses[0]

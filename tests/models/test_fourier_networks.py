import numpy as np
import pytest
import torch

import ptychostream as ps
from ptychostream.config import ModelConfig
from ptychostream.errors import ConfigurationError
from ptychostream.models.generators import build_generator
from ptychostream.models.generators.ffno import AxisKernel
from ptychostream.models.generators.first_step import first_step
from ptychostream.models.generators.fno import FourierLayer

SMALL = {"N": 16, "fno_modes": 3, "fno_width": 8, "fno_blocks": 2, "fno_cnn_blocks": 1}


def _patches(amplitude, **changes):
    torch.manual_seed(0)
    network = build_generator(ModelConfig(**(SMALL | changes)))
    probe = torch.ones(len(amplitude), 1, 16, 16, dtype=torch.complex64)
    return network(amplitude, probe, torch.zeros(*amplitude.shape[:2], 1, 2))


def test_a_fourier_layer_is_its_sum_over_frequencies():
    torch.manual_seed(0)
    layer = FourierLayer(2, 3, activate=False)
    torch.nn.init.zeros_(layer.pointwise.weight)
    torch.nn.init.zeros_(layer.pointwise.bias)
    v = torch.randn(1, 2, 8, 8)
    weight = torch.view_as_complex(layer.weight.detach()).to(torch.complex128).numpy()
    # Plainly: each kept frequency, and the opposite one with the conjugate matrix.
    y, x = np.mgrid[:8, :8]
    image = np.zeros((2, 8, 8))
    for half, rows in enumerate((range(3), range(-3, 0))):
        for row_number, row in enumerate(rows):
            for column in range(3):
                wave = np.exp(2j * np.pi * (row * y + column * x) / 8)
                spectrum = (v[0].double().numpy() * wave.conj()).sum(axis=(1, 2)) / 64
                out = spectrum @ weight[half, :, :, row_number, column]
                twice = 1 if column == 0 else 2
                image += twice * (out[:, None, None] * wave).real
    torch.testing.assert_close(layer(v)[0], torch.tensor(image).float(), rtol=1e-4, atol=1e-5)


def test_a_factorised_kernel_acts_along_one_axis_at_a_time():
    torch.manual_seed(0)
    kernel = AxisKernel(2, 3)
    # Rows alike: along the columns' axis nothing but the mean is left, the same in every row.
    torch.nn.init.zeros_(kernel.weight[1])
    v = torch.randn(1, 2, 1, 8).expand(1, 2, 6, 8)
    out = kernel(v)
    torch.testing.assert_close(out, out[:, :, :1].expand_as(out))
    weight = torch.view_as_complex(kernel.weight.detach())[0].to(torch.complex128).numpy()
    spectrum = np.fft.rfft(v[0, :, 0].double().numpy())[:, :3]
    line = np.fft.irfft(np.einsum("iy,ioy->oy", spectrum, weight), n=8)
    torch.testing.assert_close(out[0, :, 0], torch.tensor(line).float(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("architecture", ["fno", "ffno"])
@pytest.mark.parametrize("mode", ["real_imag", "amp_phase_logits", "amp_phase"])
def test_untrained_networks_begin_near_a_flat_object(architecture, mode):
    amplitude = torch.rand(2, 4, 16, 16)
    patches = _patches(amplitude, architecture=architecture, gridsize=2, generator_output_mode=mode)
    assert patches.shape == (2, 4, 16, 16)
    assert (patches - 0.5).abs().mean() < 0.3


@pytest.mark.parametrize("architecture", ["fno", "ffno"])
def test_brighter_patterns_of_a_brighter_probe_show_the_same_object(architecture):
    torch.manual_seed(0)
    network = build_generator(ModelConfig(**SMALL, architecture=architecture))
    amplitude = torch.rand(3, 1, 16, 16)
    probe = torch.randn(3, 2, 16, 16, dtype=torch.complex64)
    centre = torch.zeros(3, 1, 1, 2)
    level, change = first_step(amplitude, probe, None)
    brighter = first_step(3 * amplitude, 3 * probe, None)
    torch.testing.assert_close(brighter, (level, change), rtol=1e-4, atol=1e-5)
    alone = network(amplitude[:1], probe[:1], centre[:1])
    torch.testing.assert_close(network(amplitude, probe, centre)[:1], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("architecture", ["fno", "ffno"])
def test_an_empty_pattern_gives_finite_patches_and_gradients(architecture):
    network = build_generator(ModelConfig(**SMALL, architecture=architecture))
    probe = torch.randn(1, 1, 16, 16, dtype=torch.complex64, requires_grad=True)
    patches = network(torch.zeros(1, 1, 16, 16), probe, torch.zeros(1, 1, 1, 2))
    patches.abs().square().sum().backward()
    assert torch.isfinite(torch.view_as_real(patches)).all()
    for tensor in (probe, *network.parameters()):
        assert torch.isfinite(torch.view_as_real(tensor.grad.to(torch.complex64))).all()


@pytest.mark.parametrize("architecture", ["fno", "ffno"])
def test_more_modes_than_frequencies_are_refused(architecture):
    with pytest.raises(ConfigurationError, match="fno_modes=9 is too many for N=16, which holds 8"):
        build_generator(ModelConfig(N=16, architecture=architecture, fno_modes=9))


@pytest.mark.parametrize("architecture", ["fno", "ffno"])
def test_training_lowers_the_loss(architecture, tiny_store, make_config):
    config = make_config(
        model={**SMALL, "architecture": architecture, "unrolled_steps": 5, "unrolled_width": 32},
        nepochs=6,
    )
    execution = ps.PyTorchExecutionConfig(
        learning_rate=5e-3, logger_backend=None, enable_checkpointing=False
    )
    history = ps.train(config, tiny_store, execution=execution).history["train_loss"]
    assert history[-1] < history[0] - 1e-3

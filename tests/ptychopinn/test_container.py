from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import ptychostream as ps
from ptychostream import legacy
from ptychostream.datasets.batches.batch import check_batch
from ptychostream.errors import ConfigurationError, DataContractError
from ptychostream.ptychopinn.container import PtychoDataContainerTorch, load
from ptychostream.ptychopinn.raw_data import RawDataTorch
from ptychostream.ptychopinn.spec import normalisation_factor

FIXTURE = dict(np.load(Path(__file__).parents[1] / "data" / "contract" / "normalization.npz"))
PHOTONS = {"gs1": 1e9, "gs2": 1e6}


def _grouped(tag, *, labels=True):
    if tag == "gs1":
        raw = FIXTURE["gs1_diffraction"]
        x_full = (raw * normalisation_factor(raw)).astype(np.float32)
    else:
        x_full = FIXTURE["gs2_X"]
    return {
        "X_full": x_full,
        "Y": FIXTURE[f"{tag}_Y"] if labels else None,
        "coords_offsets": FIXTURE[f"{tag}_global_offsets"],
        "coords_relative": FIXTURE[f"{tag}_local_offsets"],
        "coords_start_relative": FIXTURE[f"{tag}_coords_nominal"].astype(np.float64),
        "nn_indices": FIXTURE[f"{tag}_nn_indices"],
    }


MEMBERS = (
    *("X", "Y_I", "Y_phi", "Y", "coords_nominal", "coords_true", "probe", "norm_Y_I"),
    *("nn_indices", "global_offsets", "local_offsets"),
)


@pytest.mark.parametrize("tag", ["gs1", "gs2"])
def test_members_are_those_of_the_tensorflow_container(tag, monkeypatch):
    monkeypatch.setitem(legacy.params.cfg, "nphotons", PHOTONS[tag])
    container = load(lambda: _grouped(tag), FIXTURE[f"{tag}_probe"], "train", create_split=False)
    for name in MEMBERS:
        value = getattr(container, name).numpy()
        expected = FIXTURE.get(f"{tag}_{name}")
        if expected is None:
            continue
        assert value.dtype == expected.dtype, name
        np.testing.assert_allclose(value, expected, rtol=1e-6, atol=1e-6, err_msg=name)
    assert container.YY_full is None
    assert container.coords is container.coords_nominal


def test_a_container_made_as_that_of_the_pytorch_port_needs_no_nominal_positions(tiny_scan):
    moved = replace(tiny_scan, positions_start=tiny_scan.positions + np.arange(64)[:, None] / 9)
    raw = RawDataTorch.from_scan(moved)
    grouped = raw.generate_grouped_data(16, K=6, nsamples=9, gridsize=2, seed=0)
    nominal = load(lambda: grouped, raw.probeGuess)
    del grouped["coords_start_relative"], grouped["coords_start_offsets"]
    container = PtychoDataContainerTorch(grouped, raw.probeGuess)
    true = torch.from_numpy(grouped["coords_relative"]).float()
    for name in ("coords", "coords_nominal", "coords_true", "coords_relative"):
        torch.testing.assert_close(getattr(container, name), true)
    assert (nominal.coords - true).abs().max() > 1
    np.testing.assert_array_equal(container.YY_full, tiny_scan.object_guess)
    np.testing.assert_array_equal(container.part(slice(3)).YY_full, tiny_scan.object_guess)


@pytest.mark.parametrize("tag", ["gs1", "gs2"])
def test_amplitude_and_phase_belong_to_the_labels(tag):
    container = load(lambda: _grouped(tag), FIXTURE[f"{tag}_probe"])
    assert container.Y_I.dtype == container.Y_phi.dtype == torch.float32
    torch.testing.assert_close(torch.polar(container.Y_I, container.Y_phi), container.Y)


def test_normalisation_is_one_factor_for_all_groups():
    factor = normalisation_factor(FIXTURE["gs1_diffraction"])
    assert factor == pytest.approx(float(FIXTURE["gs1_norm_factor"]), rel=1e-6)


def test_normalisation_does_not_overflow_narrow_integers():
    counts = FIXTURE["u16_in"]
    np.testing.assert_allclose(
        counts * normalisation_factor(counts), FIXTURE["u16_normalized"], rtol=1e-6
    )


@pytest.mark.parametrize("tag", ["gs1", "gs2"])
def test_the_intensity_scale_has_its_closed_form(tag):
    container = load(lambda: _grouped(tag), FIXTURE[f"{tag}_probe"], nphotons=PHOTONS[tag])
    assert float(container.norm_Y_I) == pytest.approx(FIXTURE[f"{tag}_intensity_scale"], rel=1e-6)
    assert float(container.norm_Y_I) == pytest.approx(np.sqrt(PHOTONS[tag]) / 8, rel=1e-6)


def test_the_scale_follows_from_energy_and_photons():
    patterns = FIXTURE["scale_nphotons_in"]
    grouped = {
        "X_full": patterns,
        "Y": None,
        "coords_offsets": np.zeros((5, 1, 2, 1)),
        "coords_relative": np.zeros((5, 1, 2, 1)),
        "coords_start_relative": np.zeros((5, 1, 2, 1)),
        "nn_indices": np.arange(5)[:, None],
    }
    container = PtychoDataContainerTorch(grouped, np.ones((16, 16)), nphotons=1e9)
    assert float(container.norm_Y_I) == pytest.approx(FIXTURE["scale_nphotons_1e9"], rel=1e-6)


@pytest.mark.parametrize("tag", ["gs1", "gs2"])
def test_a_split_splits_every_member(tag):
    parts = {
        which: load(
            lambda: (_grouped(tag), 0.75), FIXTURE[f"{tag}_probe"], which, create_split=True
        )
        for which in ("train", "test")
    }
    whole = load(lambda: _grouped(tag), FIXTURE[f"{tag}_probe"])
    for which, part in parts.items():
        assert part.X.shape == tuple(FIXTURE[f"{tag}_split_{which}_X_shape"])
        assert part.Y.shape == tuple(FIXTURE[f"{tag}_split_{which}_Y_shape"])
    for name in ("X", "Y", "Y_I", "coords", "nn_indices", "global_offsets", "local_offsets"):
        both = torch.cat([getattr(part, name) for part in parts.values()])
        torch.testing.assert_close(both, getattr(whole, name))


def test_without_labels_they_are_flat_and_a_loss_that_needs_them_is_refused():
    container = load(lambda: _grouped("gs2", labels=False), FIXTURE["gs2_probe"])
    assert set(container.Y_I.unique().tolist()) == set(FIXTURE["gs2_noY_Y_I_unique"].tolist())
    assert set(container.Y_phi.unique().tolist()) == set(FIXTURE["gs2_noY_Y_phi_unique"].tolist())
    with pytest.raises(DataContractError, match=r"no labels.*objectGuess"):
        container.labels()
    labelled = load(lambda: _grouped("gs2"), FIXTURE["gs2_probe"])
    assert labelled.labels() is labelled.Y


def test_nothing_is_a_tensor_before_it_is_asked_for(monkeypatch):
    made = []
    monkeypatch.setattr(torch, "from_numpy", lambda array: made.append(array.shape))
    load(lambda: (_grouped("gs2"), 0.5), FIXTURE["gs2_probe"], "train", create_split=True)
    assert made == []


def test_batches_stream_all_groups_in_order_and_a_model_takes_them(tiny_scan):
    raw = RawDataTorch.from_scan(tiny_scan)
    grouped = raw.generate_grouped_data(16, K=6, nsamples=20, gridsize=2, seed=0)
    container = load(lambda: grouped, raw.probeGuess)
    batches = list(container.as_batches(8))
    assert [len(batch) for batch in batches] == [8, 8, 4]
    for batch in batches:
        assert check_batch(batch)["C"] == 4
    seen = torch.cat([batch["diffraction"] for batch in batches]).movedim(1, -1)
    torch.testing.assert_close(seen, container.X)
    config = ps.ModelConfig(N=16, gridsize=2, architecture="unrolled", unrolled_width=4)
    model = ps.PtychoPINN(config, tiny_scan.probe[None])
    assert model(batches[0]).intensity.shape == (8, 4, 16, 16)
    with pytest.raises(ConfigurationError, match="batch_size=0"):
        next(container.as_batches(0))


def test_what_does_not_fit_is_refused_by_name():
    grouped = _grouped("gs1")
    with pytest.raises(DataContractError, match="lack 'X_full'"):
        load(lambda: grouped | {"X_full": None}, FIXTURE["gs1_probe"])
    with pytest.raises(DataContractError, match="number of groups"):
        load(lambda: grouped | {"nn_indices": np.zeros((3, 1))}, FIXTURE["gs1_probe"])
    with pytest.raises(ConfigurationError, match="which='both'"):
        load(lambda: (grouped, 0.5), FIXTURE["gs1_probe"], "both", create_split=True)
    with pytest.raises(DataContractError, match=r"fraction for training is 1\.5"):
        load(lambda: (grouped, 1.5), FIXTURE["gs1_probe"], "test", create_split=True)

"""The solver as ptychodus calls it, without training."""

import logging
from dataclasses import replace

import h5py
import numpy as np
import pytest

pytest.importorskip("ptychodus", reason="pip install 'ptychostream[ptychodus]'")

from ptychodus.api.io import load_diffraction_data, load_product
from ptychodus.api.probe import ProbeSequence
from ptychodus.api.reconstruct import TrainableReconstructor, prepare_reconstruct_input
from ptychodus.api.settings import SettingsRegistry
from ptychodus_runs import REPOSITORY, hide_ptychi, make_experiment, phase_correlation, run

from ptychodus_ext.convert import positions_in_pixels
from ptychodus_ext.library import PtychoStreamLibrary


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    return make_experiment(tmp_path_factory.mktemp("solver") / "in", modes=2, bad=True)


@pytest.fixture(scope="module")
def parameters(experiment):
    data = load_diffraction_data(experiment.folder / "diffraction.h5")
    return prepare_reconstruct_input(data, load_product(experiment.folder / "product.h5"))


@pytest.fixture
def library(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return PtychoStreamLibrary(SettingsRegistry())


def _solve(library, parameters, **settings):
    for field, value in settings.items():
        library.settings.solver[field].set_value(value)
    outputs = list(library.find("solver").reconstruct(parameters))
    assert outputs[-1].progress == 100
    return [output.product for output in outputs]


def test_the_solver_needs_no_model(library):
    assert not isinstance(library.find("solver"), TrainableReconstructor)


@pytest.fixture(scope="module")
def solved(parameters):
    """The products of a run that is watched: pictures, and the result."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        library = PtychoStreamLibrary(SettingsRegistry())
        library.application.connect_plot(object())
        return _solve(library, parameters, live_interval=0.0)


def test_what_is_loaded_is_solved_for_and_compared(solved, parameters, experiment):
    product = solved[-1]
    obj, before = product.object_, parameters.product.object_
    assert obj.get_array().shape == before.get_array().shape
    assert obj.get_center() == before.get_center()
    assert phase_correlation(obj.get_array()[0], experiment) > 0.99
    probe = product.probes.get_array()
    assert probe.shape == (1, 2, 32, 32)
    counts = np.where(parameters.bad_pixels, 0, parameters.diffraction_patterns)
    assert (np.abs(probe) ** 2).sum() == pytest.approx(counts.sum(axis=(1, 2)).mean(), rel=1e-3)
    losses = [loss.value for loss in product.losses]
    assert len(losses) == 20
    assert 0 < losses[-1] < losses[0]
    assert "PtychoStream Solver: R = 0.0" in product.metadata.comments
    assert "Warning" not in product.metadata.comments
    assert list(product.probe_positions) == list(parameters.product.probe_positions)


def test_pictures_are_made_where_a_window_shows_them(solved):
    *pictures, result = solved
    assert pictures
    seen = [len(product.losses) for product in solved]
    assert seen == sorted(seen)
    assert pictures[0].object_.get_array().shape == result.object_.get_array().shape


def test_the_products_own_object_is_a_start(library, parameters, solved):
    again = replace(parameters, product=solved[-1])
    # Nobody watches: there is one product, the result.
    (second,) = _solve(library, again, passes=5, start="product", checks_fit=False)
    assert second.losses[0].value < 0.7 * solved[-1].losses[0].value


def test_positions_are_corrected_where_that_is_asked_for(library, parameters):
    product = parameters.product
    pixel = product.object_.get_pixel_geometry().width_m
    noise = np.random.default_rng(0).normal(scale=0.7, size=(len(product.probe_positions), 2))
    noise -= noise.mean(axis=0)
    points = [
        replace(point, x_m=point.x_m + dx * pixel, y_m=point.y_m + dy * pixel)
        for point, (dx, dy) in zip(product.probe_positions, noise, strict=True)
    ]
    moved = replace(product, probe_positions=type(product.probe_positions)(points))
    moved = replace(parameters, product=moved)
    (result,) = _solve(library, moved, correct_positions=True, checks_fit=False)
    off = positions_in_pixels(result) - positions_in_pixels(product)
    off -= off.mean(axis=0)
    assert np.sqrt((off**2).mean()) < 0.5 * np.sqrt((noise**2).mean())


def test_a_probe_that_is_wrong_gives_a_warning(library, parameters, caplog):
    probes = parameters.product.probes
    y, x = np.mgrid[-16:16, -16:16]
    disk = (np.hypot(x - 9, y + 9) < 3).astype(np.complex64)[None, None]
    wrong = ProbeSequence(disk, None, probes.get_pixel_geometry())
    given = replace(parameters, product=replace(parameters.product, probes=wrong))
    with caplog.at_level(logging.WARNING):
        (product,) = _solve(library, given, passes=10, refine_probe=False)
    assert "Warning: " in product.metadata.comments
    assert [record for record in caplog.records if record.levelno == logging.WARNING]


def test_a_probe_that_is_wrong_is_replaced_by_one_of_the_patterns(library, parameters, experiment):
    probes = parameters.product.probes
    y, x = np.mgrid[-16:16, -16:16]
    gaussian = np.exp(-(x**2 + y**2) / 50).astype(np.complex64)[None, None]
    wrong = ProbeSequence(gaussian, None, probes.get_pixel_geometry())
    given = replace(parameters, product=replace(parameters.product, probes=wrong))
    (product,) = _solve(library, given, passes=10, probe_modes=2)
    obj = product.object_.get_array()[0]
    assert phase_correlation(obj, experiment) > 0.9
    assert "began with a probe that was made out of them" in product.metadata.comments


def test_batch_goes_from_files_to_a_picture(experiment, tmp_path):
    script = REPOSITORY / "examples" / "ptychodus_batch.py"
    done = run(script, experiment.folder, tmp_path / "object.png", **hide_ptychi(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    out = experiment.folder / "out"
    assert [path.name for path in out.glob("*.h5")] == ["product.000100.h5"]
    assert (tmp_path / "object.png").stat().st_size > 0
    with h5py.File(out / "product.000100.h5") as file:
        assert phase_correlation(file["object"][0], experiment) > 0.99
        assert "R = 0.0" in str(file.attrs["comments"])

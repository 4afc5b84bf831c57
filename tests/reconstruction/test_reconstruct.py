import os
import signal
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import dense_shift, untrained

import ptychostream as ps
from ptychostream.errors import ConfigurationError, DataContractError
from ptychostream.evaluation import evaluate_object
from ptychostream.geometry import ObjectGrid
from ptychostream.models.pinn import PtychoPINN
from ptychostream.solver.steps import Steps


def _untrained(store, gridsize=2, steps=5):
    """The physics alone: no training is needed to test what surrounds the network."""
    config = ps.TrainingConfig(
        model=ps.ModelConfig(
            N=store.N, gridsize=gridsize, architecture="unrolled", unrolled_steps=steps
        ),
        neighbor_count=6,
    )
    return untrained(config, store)


@pytest.fixture(scope="module")
def star(tmp_path_factory):
    """An asymmetric object, off-centre in a larger array."""
    folder = tmp_path_factory.mktemp("star")
    obj = ps.simulate_scan(
        object="siemens_star", num_positions=1, N=32, object_shape=(100, 120), seed=3
    ).object_guess
    scan = ps.simulate_scan(
        object=obj, probe="gaussian", num_positions=400, N=32, step=2.5, nphotons=1e6, seed=3
    )
    return ps.build_group_store(scan, folder / "star.zarr", patterns_per_chunk=32)


@pytest.mark.parametrize("gridsize", [1, 2])
@pytest.mark.parametrize("passes", [0, 3])
def test_the_object_is_upright_and_in_its_place(star, gridsize, passes):
    result = ps.reconstruct(_untrained(star, gridsize), star, passes=passes, checks_fit=False)
    assert result.object.shape == star.object_guess.shape
    assert result.num_patches == 400 * gridsize**2
    assert result.num_clipped == 0
    metrics = evaluate_object(
        result.object, star.object_guess, result.coverage, register=False
    ).metrics
    assert metrics["phase_correlation"] > (0.96 if passes else 0.85)
    turned = evaluate_object(
        result.object[:, ::-1], star.object_guess, result.coverage[:, ::-1], register=False
    ).metrics
    assert turned["phase_correlation"] < 0.5
    assert metrics["scale_amplitude"] == pytest.approx(1, abs=0.05)


def test_aligned_phases_and_refinement_each_improve_the_object(tmp_path):
    # Smooth phases wider than the beam show only between patches.
    scan = ps.simulate_scan(
        object="bars_and_ellipses", probe="gaussian", num_positions=400, N=32, step=2.5, seed=3
    )
    store = ps.build_group_store(scan, tmp_path / "s.zarr")

    def error(**options):
        result = ps.reconstruct(_untrained(store, 1), store, checks_fit=False, **options)
        metrics = evaluate_object(result.object, store.object_guess, result.coverage).metrics
        return metrics["phase_rmse"]

    loose = error(align_phases=False, passes=0)
    aligned = error(passes=0)
    refined = error(passes=2)
    assert aligned < 0.8 * loose
    assert refined < 0.8 * aligned


def test_small_windows_and_batches_give_the_same_object(star):
    bundle = _untrained(star, 2, steps=2)
    whole = ps.reconstruct(bundle, star, passes=0)
    parts = ps.reconstruct(
        bundle,
        star,
        passes=0,
        execution=ps.PyTorchExecutionConfig(memory_budget="400 KiB", inference_batch_size=7),
    )
    np.testing.assert_allclose(parts.object, whole.object, atol=2e-3)
    np.testing.assert_array_equal(parts.coverage, whole.coverage)


def test_without_an_object_guess_the_grid_is_the_smallest(tmp_path):
    scan = ps.simulate_scan(num_positions=49, N=16, step=2.5)
    scan = replace(scan, object_guess=None, positions=scan.positions - 20)
    store = ps.build_group_store(scan, tmp_path / "s.zarr")
    result = ps.reconstruct(_untrained(store), store, passes=1, checks_fit=False)
    assert result.num_clipped == 0
    assert result.origin[0] < 0
    assert min(result.origin) == np.floor(scan.positions.min() - 8)


def test_a_probe_of_implausible_power_gives_a_mean_amplitude_of_one(star, tmp_path, caplog):
    scan = star.scan()
    quiet = ps.build_group_store(replace(scan, probe=1e-3 * scan.probe), tmp_path / "s.zarr")
    result = ps.reconstruct(_untrained(quiet, 1), quiet, passes=4, checks_fit=False)
    assert np.abs(result.object[result.coverage > 3]).mean() == pytest.approx(1, abs=0.05)
    power = np.sum(np.abs(result.probe) ** 2)
    assert power == pytest.approx(quiet.total_counts.mean(), rel=1e-3)


def test_amplitude_data_give_the_same_object_as_counts(star, tmp_path):
    scan = star.scan()
    counts = scan.patterns.read(np.arange(400))
    from ptychostream.scan import ArrayPatterns

    amplitude = replace(
        scan,
        patterns=ArrayPatterns(np.sqrt(counts, dtype=np.float32)),
        measurement_domain="amplitude",
    )
    store = ps.build_group_store(amplitude, tmp_path / "s.zarr")
    assert store.has_photon_counts
    first = ps.reconstruct(_untrained(star, 2, 2), star, passes=0)
    second = ps.reconstruct(_untrained(store, 2, 2), store, passes=0)
    np.testing.assert_allclose(first.object, second.object, atol=2e-3)


def test_what_cannot_be_reconstructed_is_refused(star, tiny_store):
    bundle = _untrained(star)
    with pytest.raises(DataContractError, match="16 px but the model was made for 32 px"):
        ps.reconstruct(bundle, tiny_store)
    with pytest.raises(DataContractError, match="no experiment 3"):
        ps.reconstruct(bundle, star, experiment=3)
    with pytest.raises(ConfigurationError, match="passes=-1"):
        ps.reconstruct(bundle, star, passes=-1)
    with pytest.raises(ConfigurationError, match="this machine has none"):
        ps.reconstruct(bundle, star, execution=ps.PyTorchExecutionConfig(accelerator="mps"))


def test_progress_goes_up_to_the_total(star):
    seen = []
    ps.reconstruct(
        _untrained(star, 1, 2),
        star,
        passes=1,
        checks_fit=False,
        on_progress=lambda *step: seen.append(step),
        execution=ps.PyTorchExecutionConfig(inference_batch_size=50),
    )
    done, totals = zip(*seen, strict=True)
    assert set(totals) == {1200}
    assert list(done) == sorted(done)
    assert done[0] == 50
    assert done[-1] == 1200


def _stopped_after(steps, store, *, stop=None, **options):
    """Reconstruct until so many steps are done; returns the result and the steps then done."""
    done = [0]

    def watch(steps_done, _):
        if stop is not None and steps_done >= steps > done[0]:
            stop()
        done[0] = steps_done

    result = ps.reconstruct(
        _untrained(store, 1, 2),
        store,
        execution=ps.PyTorchExecutionConfig(inference_batch_size=20),
        on_progress=watch,
        should_stop=None if stop else lambda: done[0] >= steps,
        **options,
    )
    return result, done[0]


@pytest.mark.parametrize("align_phases", [True, False])
def test_a_stopped_reconstruction_holds_the_part_that_was_done(star, align_phases):
    part, _ = _stopped_after(200, star, align_phases=align_phases)
    whole = ps.reconstruct(_untrained(star, 1, 2), star, align_phases=align_phases, passes=0)
    assert part.is_partial
    assert not whole.is_partial
    assert part.num_patches == 200
    well = part.coverage >= 3
    assert 0.3 < well.sum() / (whole.coverage >= 3).sum() < 0.8
    metrics = evaluate_object(part.object, star.object_guess, part.coverage, register=False).metrics
    assert metrics["phase_correlation"] > 0.8


def test_a_stop_before_the_first_patch_leaves_an_empty_object(star):
    part, done = _stopped_after(0, star)
    assert done == 0
    assert part.is_partial
    assert not part.object.any()
    assert not part.coverage.any()


def test_a_stop_while_refining_keeps_the_stitched_object(star):
    part, done = _stopped_after(1000, star, passes=5)
    assert part.is_partial
    # A pass of the solver has at most twelve updates.
    assert 1000 <= done < 1000 + 400 / 12 + 10
    assert part.num_patches == 400
    assert (part.coverage >= 3).any()


def test_an_interrupt_leaves_a_partial_result_and_python_as_it_was(star):
    part, _ = _stopped_after(200, star, stop=lambda: os.kill(os.getpid(), signal.SIGINT))
    assert part.is_partial
    assert part.num_patches == 200
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    # One who asks twice does not want to wait.
    with pytest.raises(KeyboardInterrupt):
        ps.reconstruct(
            _untrained(star, 1, 2),
            star,
            on_progress=lambda *_: os.kill(os.getpid(), signal.SIGINT),
        )


def test_the_object_lies_on_the_grid_that_was_asked_for(star):
    bundle = _untrained(star, 1, 2)
    options = {"passes": 1, "checks_fit": False}
    whole = ps.reconstruct(bundle, star, **options)
    window = ps.reconstruct(bundle, star, **options, grid=ObjectGrid.around((60.0, 50.5), (60, 71)))
    assert window.object.shape == (60, 71)
    assert window.origin == (25, 21)
    assert window.num_clipped > 0
    inside = window.coverage >= 3
    cut = (slice(21, 81), slice(25, 96))
    np.testing.assert_array_equal(window.coverage, whole.coverage[cut])
    assert np.abs(window.object - whole.object[cut])[inside].mean() < 0.05
    # A fraction of a pixel moves the pixels, not the object.
    beside = ps.reconstruct(
        bundle, star, passes=0, grid=ObjectGrid.around((60.5, 50.0), (100, 120))
    )
    assert beside.origin == (1.0, 0.5)
    plain = ps.reconstruct(bundle, star, passes=0)
    moved = dense_shift(plain.object, (-1.0, -0.5))
    middle = (slice(35, 65), slice(45, 75))
    assert np.abs(beside.object - moved)[middle].mean() < 0.05


def _close(first, second, atol=2e-5):
    assert first.num_patches == second.num_patches
    np.testing.assert_array_equal(first.coverage, second.coverage)
    np.testing.assert_allclose(first.object, second.object, atol=atol)


def test_two_processes_give_the_object_of_one(star, tmp_path):
    bundle = _untrained(star, 2, 2)
    options = {"align_phases": True, "passes": 0, "scratch_folder": tmp_path}
    one = ps.reconstruct(bundle, star, **options)
    two = ps.reconstruct(
        bundle,
        star,
        execution=ps.PyTorchExecutionConfig(devices=2, inference_batch_size=37),
        **options,
    )
    _close(one, two, atol=1e-4)
    assert two.seconds["predict"] > 0
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_batch_that_two_replicas_share_gives_the_object_of_one(star, precision, monkeypatch):
    bundle = _untrained(star, 2, 2)
    one = ps.reconstruct(
        bundle, star, passes=0, execution=ps.PyTorchExecutionConfig(precision=precision)
    )
    shares = []
    compute = PtychoPINN.reconstruct

    def recorded(self, diffraction, *rest):
        shares.append((id(self), len(diffraction), threading.current_thread()))
        return compute(self, diffraction, *rest)

    monkeypatch.setattr(PtychoPINN, "reconstruct", recorded)
    execution = ps.PyTorchExecutionConfig(
        devices=2, strategy="dp", precision=precision, inference_batch_size=37
    )
    two = ps.reconstruct(bundle, star, passes=0, execution=execution)
    _close(one, two, atol=1e-4 if precision == "32-true" else 0.02)
    models, sizes, threads = zip(*shares, strict=True)
    assert len(set(models)) == 2
    assert set(sizes[:2]) == {18, 19}
    assert sum(sizes) == star.num_patterns
    assert threading.main_thread() not in threads


def test_a_process_that_fails_says_why(star, monkeypatch):
    broken = replace(star, path=star.path / "nowhere")
    bundle = _untrained(star, 1, 2)
    with pytest.raises(ConfigurationError, match="of 2 failed: .*nowhere"):
        ps.reconstruct(bundle, broken, execution=ps.PyTorchExecutionConfig(devices=2))


def test_mixed_precision_gives_nearly_the_same_object(star):
    bundle = _untrained(star, 1, 2)
    full = ps.reconstruct(bundle, star, passes=0)
    mixed = ps.reconstruct(
        bundle, star, passes=0, execution=ps.PyTorchExecutionConfig(precision="bf16-mixed")
    )
    assert np.abs(full.object - mixed.object).max() < 0.05


def test_groups_are_those_that_were_asked_for(star):
    bundle = _untrained(star, 2, 2)

    def made(groups_per_position=1, **config):
        return ps.reconstruct(
            bundle,
            star,
            passes=0,
            groups_per_position=groups_per_position,
            config=ps.InferenceConfig(**config),
        )

    twice = made(2, neighbor_count=6)
    assert twice.num_patches == 3200
    assert twice.num_duplicates == 2800
    assert twice.coverage.max() < 400
    few = made(n_groups=50, neighbor_count=6)
    assert few.num_patches == 200
    assert 0 < len(few.without_patch) < 350
    subset = made(n_subsample=100, subsample_seed=1)
    assert subset.num_patches == 400
    assert len(subset.without_patch) == 300
    more = made(n_groups=900, enable_oversampling=True, neighbor_pool_size=5)
    assert more.num_patches == 3600
    assert not len(more.without_patch)


@pytest.mark.parametrize(
    "options",
    [{"seeds": "foo"}, {"placement": "foo"}, {"weight": "foo"}, {"passes": 1.5}],
)
def test_options_that_are_not_known_are_refused(star, options):
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        ps.reconstruct(_untrained(star, 1, 2), star, **options)


def test_covering_groups_hold_every_pattern_and_give_nearly_the_same_object(star):
    bundle = _untrained(star, 2, 5)
    every, some = (
        ps.reconstruct(bundle, star, seeds=seeds, passes=10, checks_fit=False)
        for seeds in ("every", "covering")
    )
    assert some.num_patches < 0.6 * every.num_patches
    assert not len(some.without_patch)
    lit = every.coverage > 0
    assert (some.coverage > 0)[lit].mean() > 0.999
    difference = np.abs(some.object - every.object)[lit]
    assert np.sqrt(np.square(difference).mean()) < 0.05
    for gridsize, turns in ((1, 1), (2, 3)):
        with pytest.raises(ConfigurationError, match="do not have to spare"):
            ps.reconstruct(
                _untrained(star, gridsize, 2), star, seeds="covering", groups_per_position=turns
            )


def test_an_object_larger_than_the_budget_is_kept_in_files_and_is_the_same(star, tmp_path, caplog):
    bundle = _untrained(star, 1, 2)
    files = {"canvas_budget": "100 KiB", "scratch_folder": tmp_path}
    for passes in (0, 1):
        options = {"passes": passes, "checks_fit": False}
        inside = ps.reconstruct(bundle, star, **options)
        outside = ps.reconstruct(bundle, star, **options, **files)
        assert isinstance(outside.object, np.memmap)
        _close(inside, outside)
    assert "more than canvas_budget" in caplog.text
    assert not list(tmp_path.iterdir())


def test_a_placeholder_does_not_decide_the_grid(star, tmp_path, caplog):
    scan = star.scan()
    small = replace(scan, object_guess=np.ones((40, 40), np.complex64))
    store = ps.build_group_store(small, tmp_path / "s.zarr")
    result = ps.reconstruct(_untrained(store, 1, 2), store, passes=0)
    assert "taken for a placeholder" in caplog.text
    assert result.num_clipped == 0
    assert min(result.object.shape) > 60


def test_a_scan_far_from_the_origin_is_the_same_object(tiny_scan, tmp_path):
    scan = replace(tiny_scan, object_guess=None, positions_start=None)
    results = []
    for number, shift in enumerate(([0, 0], [100_000, 30_000])):
        moved = replace(scan, positions=scan.positions + shift)
        store = ps.build_group_store(moved, tmp_path / f"{number}.zarr")
        results.append(ps.reconstruct(_untrained(store, gridsize=1), store, passes=0))
    near, far = results
    x, y = np.subtract(far.origin, [100_000, 30_000]).astype(int)
    height, width = far.object.shape
    assert 100 > height > 30
    np.testing.assert_allclose(near.object[y : y + height, x : x + width], far.object, atol=1e-6)


def test_padding_makes_room_for_every_patch(star, tmp_path):
    scan = star.scan()
    left = scan.positions.min(axis=0) - 2
    near = replace(scan, positions=scan.positions - left)
    store = ps.build_group_store(near, tmp_path / "s.zarr")
    bundle = _untrained(store, 1, 2)
    cut = ps.reconstruct(bundle, store, passes=0)
    padded = ps.reconstruct(
        bundle, store, passes=0, execution=ps.PyTorchExecutionConfig(pad_eval=True)
    )
    assert cut.num_clipped > 0
    assert "reach beyond" in " ".join(cut.warnings())
    assert padded.num_clipped == 0
    left, top = (-int(o) for o in padded.origin)
    assert min(left, top) > 0
    height, width = cut.object.shape
    inside = padded.object[top : top + height, left : left + width]
    np.testing.assert_allclose(inside, cut.object, atol=1e-4)


def test_a_saturated_amplitude_is_reported(tmp_path):
    scan = ps.simulate_scan(num_positions=36, N=64, step=4.0, probe="gaussian")
    store = ps.build_group_store(scan, tmp_path / "s.zarr")
    config = ps.TrainingConfig(model=ps.ModelConfig(N=64, n_filters_scale=1))
    bundle = untrained(config, store)
    assert ps.reconstruct(bundle, store, passes=0).saturation < 0.01
    with torch.no_grad():
        bundle.model.generator.amplitude.inner.bias += 50
    result = ps.reconstruct(bundle, store, passes=0)
    assert result.saturation > 0.9
    assert "the largest amplitude that the network can give" in " ".join(result.warnings())


def test_patches_that_are_not_numbers_are_left_out_and_named(star):
    bundle = _untrained(star, 1, 2)
    spoiled = _untrained(star, 1, 2)
    forward = spoiled.model.generator.forward

    def broken(*arguments):
        patches = forward(*arguments)
        patches[0] = np.nan
        return patches

    spoiled.model.generator.forward = broken
    execution = ps.PyTorchExecutionConfig(inference_batch_size=100)
    result = ps.reconstruct(spoiled, star, execution=execution, passes=0)
    assert result.num_dropped == 4
    assert "not finite" in " ".join(result.warnings())
    assert len(result.without_patch) == 4
    whole = ps.reconstruct(bundle, star, execution=execution, passes=0)
    well = result.coverage >= 5
    assert np.abs(result.object - whole.object)[well].mean() < 0.02


def test_the_halves_of_a_noisier_scan_agree_less(tmp_path):
    def crossing(nphotons):
        scan = ps.simulate_scan(
            object="siemens_star",
            probe="gaussian",
            num_positions=400,
            N=32,
            step=1.5,
            nphotons=nphotons,
            seed=3,
        )
        store = ps.build_group_store(scan, tmp_path / f"{nphotons:g}.zarr")
        frc = ps.reconstruct(_untrained(store, 1), store, passes=0).frc
        return frc.crossing(frc.half_bit)

    assert crossing(3e2) < 0.8 * crossing(1e6)


def test_a_progress_bar_shows_on_the_terminal_when_asked_for(star, capsys, monkeypatch):
    # To the library that draws it, this is a terminal.
    monkeypatch.setenv("FORCE_COLOR", "1")
    seen = []
    ps.reconstruct(
        _untrained(star, 1, 2),
        star,
        passes=0,
        execution=ps.PyTorchExecutionConfig(enable_progress_bar=True),
        on_progress=lambda *step: seen.append(step),
    )
    shown = capsys.readouterr()
    assert "reconstructing" in shown.err
    assert shown.out == ""
    assert seen[-1] == (800, 800)


def test_where_no_light_falls_nothing_is_brighter_than_the_object(star):
    result = ps.reconstruct(_untrained(star, 1, 2), star, passes=4, checks_fit=False)
    size = np.abs(result.object)
    assert (result.coverage == 0).any()
    assert size[result.coverage == 0].max() <= size[result.coverage > 0].max() * 1.0001


def test_a_step_that_makes_no_number_is_an_error(tiny_store):
    def nowhere(counts, rate, *, brightness, trust):
        return rate * torch.nan

    with pytest.raises(DataContractError, match="exchanged step"):
        list(ps.solve(tiny_store, passes=3, steps=Steps(residual=nowhere)))

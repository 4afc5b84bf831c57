import json
import math
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ptychostream as ps
from ptychostream import legacy
from ptychostream.errors import ConfigurationError, DataContractError
from ptychostream.ptychopinn.given_domain import warn_of_another_domain
from ptychostream.ptychopinn.grouped import labels_of
from ptychostream.ptychopinn.labels import cut_in_single_precision, cut_labels
from ptychostream.ptychopinn.raw_data import RawDataTorch

DATA = Path(__file__).parents[1] / "data" / "contract"
CASES = json.loads((DATA / "grouping_cases.json").read_text())
#: Labels of the first groups only: the fixture is kept small.
LABELLED = 3


@pytest.fixture(scope="module")
def fixture():
    return dict(np.load(DATA / "grouping.npz"))


def _raw(fixture, *, with_object=True):
    names = ("xcoords", "ycoords", "xcoords_start", "ycoords_start", "diff3d", "probeGuess")
    obj = fixture["in_objectGuess"] if with_object else None
    return RawDataTorch(*(fixture[f"in_{name}"] for name in names), objectGuess=obj)


@pytest.fixture(autouse=True)
def global_generator():
    state = np.random.get_state()
    yield
    np.random.set_state(state)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_the_upstream_policy_gives_what_the_existing_backend_gives(fixture, case):
    raw = _raw(fixture, with_object=case["withobj"])

    def group():
        return raw.generate_grouped_data(
            16, gridsize=case["gridsize"], policy="upstream", **case["kw"]
        )

    if "error" in case:
        with pytest.raises(ValueError, match="groups"):
            group()
        return
    if case["pre_np_seed"] is not None:
        np.random.seed(case["pre_np_seed"])
    grouped = group()
    _, key, position, *_ = np.random.get_state()
    assert [int(key[0]), int(key[1]), position] == case["rng_after"]
    assert list(grouped) == case["key_order"]
    for name, kind in case["dtypes"].items():
        if kind is None:
            assert grouped[name] is None
            continue
        assert grouped[name].dtype == kind, name
        expected = fixture.get(f"{case['name']}__{name}")
        if name == "nn_indices":
            np.testing.assert_array_equal(grouped[name], expected)
        elif name == "Y" and expected is not None:
            np.testing.assert_allclose(grouped[name][:LABELLED], expected, atol=1e-6)
        elif expected is not None:
            np.testing.assert_allclose(grouped[name], expected, atol=1e-6)
    members = fixture["in_diff3d"][grouped["nn_indices"]]
    np.testing.assert_array_equal(grouped["diffraction"], np.moveaxis(members, 1, -1))
    factor = fixture.get(f"{case['name']}__X_factor")
    if factor is not None:
        np.testing.assert_allclose(grouped["X_full"], grouped["diffraction"] * factor, atol=1e-6)


def test_labels_lie_at_the_true_positions_unless_mirrored_ones_are_asked_for(fixture):
    raw = _raw(fixture)
    options = {"K": 6, "nsamples": 30, "seed": 1, "gridsize": 2}
    true = raw.generate_grouped_data(16, **options)
    single = raw.generate_grouped_data(16, nsamples=60, gridsize=1, policy="upstream")
    patches = np.moveaxis(single["Y"][true["nn_indices"], ..., 0], 1, -1)
    np.testing.assert_allclose(true["Y"], patches, atol=1e-5)
    mirrored = raw.generate_grouped_data(16, **options, labels="mirrored")
    assert np.abs(mirrored["Y"] - true["Y"]).max() > 0.1
    by_name = raw.generate_grouped_data(16, **options, policy="upstream", labels="true")
    patches = np.moveaxis(single["Y"][by_name["nn_indices"], ..., 0], 1, -1)
    np.testing.assert_allclose(by_name["Y"], patches, atol=1e-5)


def test_both_constructors_of_ptychopinn_make_the_same_data(fixture, monkeypatch):
    monkeypatch.setattr(legacy.params, "cfg", dict(legacy.DEFAULTS))
    names = ("xcoords", "ycoords", "diff3d", "probeGuess")
    index, obj = np.arange(60), fixture["in_objectGuess"]
    config = ps.TrainingConfig(model=ps.ModelConfig(N=16, gridsize=3), backend="pytorch")
    arrays = {name: fixture[f"in_{name}"] for name in names}
    raws = [
        RawDataTorch(*arrays.values(), index, obj, config),
        RawDataTorch(*arrays.values(), index, obj, config=config),
        RawDataTorch(**arrays, scan_index=index, objectGuess=obj, config=config),
    ]
    same = RawDataTorch.from_coords_without_pc(*arrays.values(), index, obj)
    for raw in raws:
        for name, value in same.as_arrays().items():
            np.testing.assert_array_equal(getattr(raw, name), value, err_msg=name)
    assert legacy.params.get("gridsize") == 3
    with pytest.raises(DataContractError, match="needs diff3d and probeGuess"):
        RawDataTorch(arrays["xcoords"], arrays["ycoords"])


def test_known_patches_take_the_place_of_an_object(fixture):
    names = ("xcoords", "ycoords", "diff3d", "probeGuess")
    known = np.arange(60 * 16 * 16).reshape(60, 16, 16).astype(np.complex64)
    raw = RawDataTorch.from_coords_without_pc(*(fixture[f"in_{n}"] for n in names), Y=known)
    grouped = raw.generate_grouped_data(16, K=6, nsamples=9, seed=2, gridsize=2)
    np.testing.assert_array_equal(grouped["Y"], np.moveaxis(known[grouped["nn_indices"]], 1, -1))
    np.testing.assert_array_equal(grouped["coords_start_nn"], grouped["coords_nn"])
    with pytest.raises(DataContractError, match=r"Y is \(59, 16, 16\)"):
        RawDataTorch.from_coords_without_pc(*(fixture[f"in_{n}"] for n in names), Y=known[1:])


def test_a_store_a_file_and_arrays_give_the_same_groups(tiny_scan, tiny_store, tmp_path):
    raw = RawDataTorch.from_scan(tiny_scan)
    raw.to_file(tmp_path / "scan.npz")
    sources = [
        RawDataTorch.from_store(tiny_store),
        *RawDataTorch.from_files(tmp_path / "scan.npz", tmp_path / "scan.npz"),
    ]
    expected = raw.generate_grouped_data(16, K=6, nsamples=20, seed=3, gridsize=2)
    for source in sources:
        got = source.generate_grouped_data(16, K=6, nsamples=20, seed=3, gridsize=2)
        for name, value in expected.items():
            np.testing.assert_allclose(got[name], value, rtol=1e-6, err_msg=name)


def test_a_written_file_holds_amplitudes_and_the_labels(tiny_scan, tmp_path):
    scan_of_counts = RawDataTorch.from_scan(tiny_scan)
    scan_of_counts.Y = np.full((64, 16, 16), 2 + 1j, np.complex64)
    scan_of_counts.to_file(tmp_path / "scan.npz")
    with np.load(tmp_path / "scan.npz") as written:
        counts = next(tiny_scan.patterns.blocks(64))
        np.testing.assert_allclose(written["diff3d"] ** 2, counts, rtol=1e-5)
        assert written["diff3d"].dtype == np.float32
        assert written["scan_index"].shape == (64,)
    np.testing.assert_array_equal(RawDataTorch.from_file(tmp_path / "scan.npz").Y, scan_of_counts.Y)
    assert [path.name for path in tmp_path.iterdir()] == ["scan.npz"]


def test_counts_of_any_width_are_read_as_amplitudes(fixture):
    names = ("xcoords", "ycoords", "xcoords_start", "ycoords_start")
    counts = np.full((60, 16, 16), 300, np.uint16)
    raw = RawDataTorch(
        *(fixture[f"in_{n}"] for n in names),
        counts,
        fixture["in_probeGuess"][..., None],
        measurement_domain="counts",
    )
    grouped = raw.generate_grouped_data(16, nsamples=4, gridsize=1)
    np.testing.assert_allclose(grouped["diffraction"], np.sqrt(np.float32(300)))
    np.testing.assert_allclose(np.square(grouped["X_full"]).sum(axis=(1, 2)), 64, rtol=1e-5)
    assert raw.probeGuess.shape == (16, 16)


def test_integers_are_counts_unless_they_are_said_to_be_amplitudes(fixture, caplog):
    names = ("xcoords", "ycoords", "diff3d", "probeGuess")
    arrays = {name: fixture[f"in_{name}"] for name in names}
    counts = np.random.default_rng(0).poisson(arrays["diff3d"] * 4 + 2)
    for values in (counts.astype(np.uint16), counts.astype(float)):
        caplog.clear()
        raw = RawDataTorch(**(arrays | {"diff3d": values}))
        np.testing.assert_allclose(raw.diff3d, np.sqrt(counts), rtol=1e-6)
        assert "measurement_domain='amplitude'" in caplog.text
    caplog.clear()
    for word, expected in (("count_intensity", np.sqrt(counts)), ("amplitude", counts)):
        raw = RawDataTorch(**(arrays | {"diff3d": counts}), measurement_domain=word)
        np.testing.assert_allclose(raw.diff3d, expected, rtol=1e-6)
    np.testing.assert_array_equal(RawDataTorch(**arrays).diff3d, arrays["diff3d"])
    assert not caplog.records
    with pytest.raises(DataContractError, match="'counts' and 'amplitude'"):
        RawDataTorch(**arrays, measurement_domain="intensity")


def test_a_domain_that_the_configuration_contradicts_is_said(fixture, caplog):
    names = ("xcoords", "ycoords", "diff3d", "probeGuess")
    arrays = {name: fixture[f"in_{name}"] for name in names}
    counts = np.random.default_rng(0).poisson(arrays["diff3d"] * 4 + 2)
    pairs = ("ci_intensity_v2", "count_intensity"), ("legacy_v1", "normalized_amplitude")
    for word in ("counts", "amplitude"):
        raw = RawDataTorch(**(arrays | {"diff3d": counts}), measurement_domain=word)
        for version, domain in pairs:
            caplog.clear()
            config = ps.TrainingConfig(scale_contract_version=version, measurement_domain=domain)
            warn_of_another_domain(raw.scan, config)
            agrees = (word == "counts") == (domain == "count_intensity")
            assert (f"configuration says '{domain}'" in caplog.text) != agrees


def test_the_seed_is_in_its_group_by_default(fixture):
    raw = _raw(fixture)
    grouped = raw.generate_grouped_data(16, K=4, nsamples=60, seed=0, gridsize=2)
    np.testing.assert_array_equal(grouped["nn_indices"][:, 0], np.arange(60))
    again = raw.generate_grouped_data(16, K=4, nsamples=60, seed=0, gridsize=2)
    np.testing.assert_array_equal(grouped["nn_indices"], again["nn_indices"])
    other = raw.generate_grouped_data(16, K=4, nsamples=60, seed=1, gridsize=2)
    assert not np.array_equal(grouped["nn_indices"], other["nn_indices"])
    first = raw.generate_grouped_data(16, nsamples=5, gridsize=1, sequential_sampling=True)
    np.testing.assert_array_equal(first["nn_indices"].ravel(), np.arange(5))


def test_the_default_policy_leaves_the_global_generator_alone(fixture):
    np.random.seed(9)
    before = np.random.get_state()[1].copy()
    _raw(fixture).generate_grouped_data(16, K=4, nsamples=60, seed=0, gridsize=2)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def test_oversampled_groups_are_all_different(fixture):
    raw = _raw(fixture)
    options = {"K": 4, "gridsize": 2, "seed": 1}
    groups = raw.generate_grouped_data(
        16, nsamples=500, enable_oversampling=True, neighbor_pool_size=6, **options
    )["nn_indices"]
    assert len({(g[0], *sorted(g[1:])) for g in groups.tolist()}) == 500
    assert all(len(set(g)) == 4 for g in groups.tolist())
    with pytest.raises(ValueError, match="enable_oversampling"):
        raw.generate_grouped_data(16, nsamples=500, **options)
    with pytest.raises(ValueError, match="60 positions with 4 neighbours each have 240"):
        raw.generate_grouped_data(16, nsamples=500, enable_oversampling=True, **options)


def test_the_gridsize_is_the_legacy_dictionarys_unless_given(fixture, monkeypatch):
    monkeypatch.setitem(legacy.params.cfg, "gridsize", 3)
    grouped = _raw(fixture).generate_grouped_data(16, K=10, nsamples=2, seed=0)
    assert grouped["nn_indices"].shape == (2, 9)


def test_drawn_patterns_remember_their_rows(fixture):
    raw = _raw(fixture)
    np.random.seed(7)
    expected = np.sort(np.random.choice(60, 25, replace=False))
    drawn = raw.subsample(25, seed=7)
    np.testing.assert_array_equal(drawn.sample_indices, expected)
    grouped = drawn.generate_grouped_data(16, nsamples=25, gridsize=1)
    np.testing.assert_array_equal(grouped["sample_indices"].ravel(), expected)
    np.testing.assert_array_equal(grouped["diffraction"][..., 0], raw.diff3d[expected])
    assert raw.subsample(60) is raw


def test_what_does_not_fit_is_refused_by_name(fixture):
    raw = _raw(fixture)
    with pytest.raises(DataContractError, match=r"'scan\.npz' has patterns of 16 px but N=64"):
        raw.generate_grouped_data(64, dataset_path="scan.npz", gridsize=1)
    with pytest.raises(ConfigurationError, match="policy='other'"):
        raw.generate_grouped_data(16, gridsize=1, policy="other")
    with pytest.raises(DataContractError, match="'xcoords' has 59 values but 'ycoords' has 60"):
        RawDataTorch.from_coords_without_pc(
            fixture["in_xcoords"][1:],
            fixture["in_ycoords"],
            fixture["in_diff3d"],
            fixture["in_probeGuess"],
        )


@pytest.mark.parametrize("policy", ["default", "upstream"])
def test_labels_of_a_whole_scan_are_cut_well_within_a_second(policy):
    scan = ps.simulate_scan(num_positions=1521, N=64, nphotons=1e5, seed=1)
    groups = np.random.default_rng(0).integers(0, 1521, (1521, 4))
    raw = ps.RawDataTorch.from_scan(scan)
    where = "true" if policy == "default" else "mirrored"
    began = time.process_time()
    patches = labels_of(raw, groups, where)
    # 6,084 patches; one by one they took 97 seconds. About 0.3 s of a processor's time here.
    assert time.process_time() - began < 3
    assert patches.shape == (1521, 64, 64, 4)


@given(
    x=st.floats(-40, 70),
    y=st.floats(-40, 70),
    edge=st.sampled_from([8, 16]),
    seed=st.integers(0, 9),
)
@settings(max_examples=100, deadline=None)
def test_labels_are_bilinear_and_zero_outside_the_object(x, y, edge, seed):
    rng = np.random.default_rng(seed)
    obj = (rng.normal(size=(23, 31)) + 1j * rng.normal(size=(23, 31))).astype(np.complex64)

    def at(row, column):
        inside = 0 <= row < 23 and 0 <= column < 31
        return complex(obj[row, column]) if inside else 0j

    expected = np.empty((edge, edge), complex)
    for i, j in np.ndindex(edge, edge):
        row, column = y + i - edge / 2, x + j - edge / 2
        r, c = math.floor(row), math.floor(column)
        fy, fx = row - r, column - c
        expected[i, j] = (1 - fy) * ((1 - fx) * at(r, c) + fx * at(r, c + 1)) + fy * (
            (1 - fx) * at(r + 1, c) + fx * at(r + 1, c + 1)
        )
    centres = np.array([[[x, y]]])
    np.testing.assert_allclose(cut_labels(obj, centres, edge)[0, ..., 0], expected, atol=1e-5)
    (rounded,) = cut_in_single_precision(obj, centres[0], edge)
    np.testing.assert_allclose(rounded, expected, atol=1e-3)

import numpy as np
import pytest

import ptychostream as ps
from ptychostream.errors import ConfigurationError, DataContractError
from ptychostream.simulation.probes import PROBES, make_probe
from ptychostream.simulation.probes.shaping import apodise, effective_diameter, incoherent_modes
from ptychostream.simulation.probes.zernike import zernike, zernike_polynomial

SMALL = {"num_positions": 9, "N": 16}


def unit_disk(edge=400):
    along = (np.arange(edge) + 0.5) / edge * 2 - 1
    x, y = np.meshgrid(along, along)
    inside = np.hypot(x, y) <= 1
    return np.hypot(x, y)[inside], np.arctan2(y, x)[inside]


def test_zernike_polynomials_are_orthonormal():
    radius, angle = unit_disk()
    values = np.stack([zernike_polynomial(j, radius, angle) for j in range(1, 16)])
    np.testing.assert_allclose(values @ values.T / len(radius), np.eye(15), atol=0.02)


def test_zernike_polynomials_have_nolls_order():
    radius, angle = np.array([0.7]), np.array([0.4])
    expected = {
        2: 2 * 0.7 * np.cos(0.4),
        3: 2 * 0.7 * np.sin(0.4),
        4: np.sqrt(3) * (2 * 0.49 - 1),
        5: np.sqrt(6) * 0.49 * np.sin(0.8),
        6: np.sqrt(6) * 0.49 * np.cos(0.8),
        7: np.sqrt(8) * (3 * 0.343 - 1.4) * np.sin(0.4),
        11: np.sqrt(5) * (6 * 0.2401 - 6 * 0.49 + 1),
    }
    for index, value in expected.items():
        assert zernike_polynomial(index, radius, angle)[0] == pytest.approx(value)


def test_aberrations_widen_the_focus_but_keep_its_power():
    sharp, wide = (zernike(64, aberrations=a)[None] for a in ({}, {4: 2.0}))
    assert effective_diameter(wide) > 1.5 * effective_diameter(sharp)
    assert np.sum(np.abs(wide) ** 2) == pytest.approx(np.sum(np.abs(sharp) ** 2))


def test_a_tilt_moves_the_focus():
    tilted = np.abs(zernike(64, aberrations={2: 3.0}, aperture=0.3)) ** 2
    columns = np.sum(tilted, axis=0) @ (np.arange(64) - 32) / tilted.sum()
    rows = np.sum(tilted, axis=1) @ (np.arange(64) - 32) / tilted.sum()
    assert abs(columns) > 3
    assert abs(rows) < 0.5


@pytest.mark.parametrize("name", PROBES)
def test_probes_fade_towards_the_edge(name):
    power = np.abs(make_probe(name, 64)[0]) ** 2
    rim = np.concatenate([power[0], power[-1], power[:, 0], power[:, -1]])
    assert rim.max() < 0.01 * power.max()


def test_modes_are_orthogonal_and_have_the_asked_powers():
    shares = [0.7, 0.2, 0.06, 0.04]
    modes = incoherent_modes(make_probe("fresnel_zone_plate", 64), shares).reshape(4, -1)
    np.testing.assert_allclose(modes @ modes.conj().T, np.diag(shares), atol=1e-12)
    first = make_probe("fresnel_zone_plate", 64).ravel()
    assert abs(np.vdot(first, modes[0])) ** 2 / np.vdot(first, first).real == pytest.approx(0.7)


def test_a_scan_with_modes_has_the_asked_dose_and_shares():
    scan = ps.simulate_scan(**SMALL, mode_powers=[3, 1], nphotons=1e4, noise=False)
    power = np.sum(np.abs(scan.probe) ** 2, axis=(1, 2))
    np.testing.assert_allclose(power / power.sum(), [0.75, 0.25], rtol=1e-5)
    assert scan.patterns.read(np.arange(9)).sum() / 9 == pytest.approx(1e4, rel=1e-5)


def test_mode_powers_add_as_intensities():
    options = SMALL | {"noise": False, "object": np.ones((60, 60), np.complex64)}
    modes = ps.simulate_scan(**options, mode_powers=[3, 1], nphotons=4e4)
    parts = [
        ps.simulate_scan(**options, probe=modes.probe[p], nphotons=dose).patterns
        for p, dose in ((0, 3e4), (1, 1e4))
    ]
    every = np.arange(9)
    np.testing.assert_allclose(
        modes.patterns.read(every), sum(p.read(every) for p in parts), rtol=1e-4, atol=1e-2
    )


def test_an_apodised_probe_is_zero_at_the_edge():
    probe = apodise(np.ones((1, 32, 32), complex), 0.5)
    assert np.abs(probe[:, 0]).max() == pytest.approx(0, abs=1e-15)
    np.testing.assert_array_equal(probe[:, 8:25, 8:25], 1)
    scan = ps.simulate_scan(**SMALL, probe=np.ones((16, 16)), apodisation=1.0)
    assert np.abs(scan.probe[0, :, 0]).max() < 1e-6 * np.abs(scan.probe).max()


def test_probes_in_files_are_taken_as_they_are(tmp_path):
    probe = make_probe("zernike", 16)
    np.save(tmp_path / "p.npy", probe[0])
    np.savez(tmp_path / "p.npz", probeGuess=probe)
    for name in ("p.npy", "p.npz"):
        found = ps.simulate_scan(**SMALL, probe=str(tmp_path / name)).probe
        ratio = found / probe
        np.testing.assert_allclose(ratio, ratio.flat[0], rtol=1e-4)
    np.save(tmp_path / "line.npy", np.ones(5))
    with pytest.raises(DataContractError, match=r"\(5,\)"):
        ps.simulate_scan(**SMALL, probe=str(tmp_path / "line.npy"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode_powers": [1, -1]}, "above zero"),
        ({"mode_powers": [1, 1], "probe": np.ones((3, 16, 16))}, "3 modes but mode_powers has 2"),
        ({"mode_powers": [1, 1], "probe": np.ones((2, 16, 16))}, "not independent"),
        ({"apodisation": 2}, "apodisation=2"),
        ({"probe": np.zeros((16, 16))}, "power is 0"),
        ({"probe": np.ones((16, 16)), "probe_options": {"diameter": 3}}, "that are named"),
        ({"probe": "disk", "probe_options": {"width": 3}}, "choose from diameter, edge_phase"),
        ({"probe": "zernike", "probe_options": {"aberrations": {0: 1}}}, "Noll index 0"),
        ({"device": "warp"}, "device='warp'"),
    ],
)
def test_impossible_probes_are_refused(options, message):
    with pytest.raises(ConfigurationError, match=message):
        ps.simulate_scan(**SMALL, **options)

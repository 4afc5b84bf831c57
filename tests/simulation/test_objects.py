import re

import numpy as np
import pytest

import ptychostream as ps
from ptychostream.errors import ConfigurationError, DataContractError, MissingFileError
from ptychostream.simulation.objects import OBJECTS, make_object
from ptychostream.simulation.objects.noise import perlin_noise, simplex_noise
from ptychostream.simulation.objects.polyhedra import polyhedron_thickness
from ptychostream.simulation.objects.texture import Texture, transmission

TEXTURES = [name for name, function in OBJECTS.items() if isinstance(function, Texture)]


def rng():
    return np.random.default_rng(3)


@pytest.mark.parametrize("name", TEXTURES)
def test_textures_keep_to_the_asked_absorption_and_phase(name):
    options = {"absorption": (0.1, 0.5), "phase_shift": (0.2, -1.0)}
    obj = make_object(name, (80, 60), rng(), options)
    intensity, phase = np.abs(obj) ** 2, np.angle(obj)
    assert intensity.min() == pytest.approx(0.5, abs=1e-3)
    assert intensity.max() <= 0.9 + 1e-5
    assert phase.max() <= 0.2 + 1e-5
    assert phase.min() == pytest.approx(-1.0, abs=1e-3)


@pytest.mark.parametrize("name", TEXTURES)
def test_linked_structure_is_one_material_and_independent_is_two(name):
    def correlation(structure):
        obj = make_object(name, (96, 96), rng(), {"structure": structure})
        return abs(np.corrcoef(np.log(np.abs(obj)).ravel(), np.angle(obj).ravel())[0, 1])

    assert correlation("linked") == pytest.approx(1, abs=1e-3)
    assert correlation("independent") < 0.8


def test_absorption_follows_beer_lambert():
    thickness = np.array([[0.0, 0.5, 1.0]])
    obj = transmission(thickness, thickness, absorption=(0.0, 0.19), phase_shift=(0.0, -2.0))
    np.testing.assert_allclose(np.abs(obj) ** 2, [[1, 0.9, 0.81]], rtol=1e-6)
    np.testing.assert_allclose(np.angle(obj), [[0, -1, -2]], rtol=1e-6)


def test_a_polyhedron_with_two_faces_is_a_slab():
    faces = np.array([[0, 0, 1.0], [0, 0, -1.0]])
    x, y = np.array([[0.0, 14, 16]]), np.array([[0.0], [14], [16]])
    thickness = polyhedron_thickness(faces, 10, x, y)
    np.testing.assert_allclose(thickness, [[20, 20, 0], [20, 20, 0], [0, 0, 0]])


@pytest.mark.parametrize("noise", [perlin_noise, simplex_noise])
def test_gradient_noise_is_smooth_within_a_cell(noise):
    coarse = noise((64, 64), rng(), cell=32, octaves=1)
    assert np.abs(np.diff(coarse, axis=0)).max() < 0.2
    fine = noise((64, 64), rng(), cell=32, octaves=5)
    assert np.abs(np.diff(fine, axis=0)).mean() > np.abs(np.diff(coarse, axis=0)).mean()


def test_simplex_noise_is_the_sum_over_all_corners_of_the_triangles():
    shape, cell = (41, 37), 11.0
    draws = np.random.default_rng(8)
    back = (3 - 3**0.5) / 6
    down, right = np.mgrid[: shape[0], : shape[1]] / cell
    expected = np.zeros(shape)
    count = (8, 7)
    angle = draws.uniform(0, 2 * np.pi, count)
    for row, column in np.ndindex(*count):
        below = down - (row - (row + column) * back)
        beside = right - (column - (row + column) * back)
        fade = np.maximum(0.5 - below**2 - beside**2, 0) ** 4
        turned = angle[row, column]
        expected += fade * (np.sin(turned) * below + np.cos(turned) * beside)
    expected = (expected - expected.min()) / np.ptp(expected)
    found = simplex_noise(shape, np.random.default_rng(8), cell=cell, octaves=1)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_each_object_differs_between_seeds():
    for name in OBJECTS:
        first, other = (make_object(name, (64, 64), np.random.default_rng(s)) for s in (0, 1))
        assert (first != other).any()


def test_an_unknown_option_is_refused_with_those_there_are():
    with pytest.raises(ConfigurationError, match="no option 'radius'; choose from .*radii"):
        ps.simulate_scan(object="polyhedra", object_options={"radius": 3})
    with pytest.raises(ConfigurationError, match="no option 'hue'; choose from amplitude"):
        ps.simulate_scan(object="dead_leaves", object_options={"hue": 3})
    with pytest.raises(ConfigurationError, match="structure='both'"):
        ps.simulate_scan(object="lines", object_options={"structure": "both"})
    with pytest.raises(ConfigurationError, match=r"absorption=\(0, 1\.0\)"):
        ps.simulate_scan(object="lines", object_options={"absorption": [0, 1.0]})


def test_a_picture_becomes_a_material(tmp_path):
    from skimage.io import imsave

    grey = np.arange(60, dtype=np.uint8) * 4 + np.zeros((60, 1), np.uint8)
    imsave(tmp_path / "ramp.png", grey)
    scan = ps.simulate_scan(
        object=str(tmp_path / "ramp.png"),
        object_options={"absorption": [0, 0.36], "phase_shift": [0, -1]},
        num_positions=9,
        N=16,
    )
    obj = scan.object_guess
    assert obj.shape == (60, 60)
    np.testing.assert_allclose(np.abs(obj[5, [0, -1]]), [1, 0.8], rtol=1e-5)
    np.testing.assert_allclose(np.angle(obj[5, [0, -1]]), [0, -1], atol=1e-5)


def test_arrays_in_files_are_taken_as_they_are(tmp_path):
    obj = make_object("layers", (40, 50), rng())
    np.save(tmp_path / "o.npy", obj)
    np.savez(tmp_path / "o.npz", objectGuess=obj)
    for name in ("o.npy", "o.npz"):
        scan = ps.simulate_scan(object=str(tmp_path / name), num_positions=9, N=16)
        np.testing.assert_array_equal(scan.object_guess, obj)
    with pytest.raises(ConfigurationError, match="options are for pictures"):
        ps.simulate_scan(object=str(tmp_path / "o.npy"), object_options={"absorption": [0, 1]})
    with pytest.raises(ConfigurationError, match="object_shape"):
        ps.simulate_scan(object=str(tmp_path / "o.npy"), object_shape=(50, 50))


def test_files_that_hold_no_object_are_refused(tmp_path):
    np.savez(tmp_path / "p.npz", probeGuess=np.ones((8, 8)))
    np.save(tmp_path / "three.npy", np.ones((2, 8, 8)))
    with pytest.raises(DataContractError, match="holds no object: .* 'objectGuess'"):
        ps.simulate_scan(object=str(tmp_path / "p.npz"))
    with pytest.raises(DataContractError, match=r"\(2, 8, 8\)"):
        ps.simulate_scan(object=str(tmp_path / "three.npy"))
    with pytest.raises(MissingFileError, match="nothing.npy"):
        ps.simulate_scan(object="nothing.npy")
    (tmp_path / "o.doc").write_text("")
    with pytest.raises(ConfigurationError, match="must end in"):
        ps.simulate_scan(object=str(tmp_path / "o.doc"))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("polyhedra", {"radii": [0, 5]}, "smallest_radius=0"),
        ("polyhedra", {"radii": 3}, "object 'polyhedra' can't take {'radii': 3}"),
        ("perlin_noise", {"cell": 0}, "cell=0"),
        ("grating", {"periods": [4, -4]}, "shortest_period=-4"),
        ("lines", {"lines_per_pixel": -1}, "lines_per_pixel=-1"),
        ("blurred_noise", {"blur": 0}, "blur=0"),
        ("dead_leaves", {"radii": "wide"}, "can't take {'radii': 'wide'}"),
    ],
)
def test_impossible_options_are_refused(name, options, message):
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        make_object(name, (30, 30), rng(), options)


def test_old_seeds_keep_their_objects():
    means = {
        "bars_and_ellipses": 0.7910379 + 0.0022536j,
        "dead_leaves": 0.7603815 + 0.0584388j,
        "siemens_star": 0.9089462 - 0.1434984j,
    }
    for name, mean in means.items():
        obj = make_object(name, (64, 64), np.random.default_rng(0))
        assert obj.mean() == pytest.approx(mean, abs=1e-5)

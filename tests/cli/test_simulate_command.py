"""`ptychostream simulate`, called as users call it."""

from pathlib import Path

import pytest

import ptychostream as ps
from ptychostream.cli.main import main

RECIPES = sorted((Path(__file__).parents[2] / "examples" / "recipes").glob("*.yaml"))
SMALL = ["--num_positions", "20", "--N", "16"]


@pytest.fixture(autouse=True)
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_makes_a_store(recipe):
    assert main(["simulate", "s.zarr", "--config", str(recipe), "--num_positions", "16"]) == 0
    store = ps.open_group_store("s.zarr")
    assert store.num_patterns == 16
    assert store.attributes["provenance"][0]["simulated"]["object"] in recipe.read_text()


def test_flags_go_before_the_recipe(capsys):
    Path("r.yaml").write_text("object: lines\ndetector: {background: 5}\nseed: 3\n")
    words = ["--detector.bit_depth", "8", "--object_options.absorption", "[0, 0.5]"]
    assert main(["simulate", "s.npz", "--config", "r.yaml", *SMALL, *words]) == 0
    origin = ps.read_scan("s.npz").provenance["simulated"]
    assert (origin["object"], origin["seed"]) == ("lines", 3)
    assert (origin["detector"]["background"], origin["detector"]["bit_depth"]) == (5, 8)
    assert origin["object_options"] == {"absorption": [0, 0.5]}


def test_a_name_without_ending_is_a_folder_for_ptychodus():
    assert main(["simulate", "in/lamella", *SMALL]) == 0
    assert {path.name for path in Path("in/lamella").iterdir()} == {"diffraction.h5", "product.h5"}
    assert main(["build", "in/lamella", "s.zarr"]) == 0
    assert ps.open_group_store("s.zarr").num_patterns == 20


def test_several_experiments_fill_a_store(capsys):
    words = ["--objects", "[lines, grating]", "--probes", "[disk, gaussian]", "--repeats", "2"]
    assert main(["simulate", "s.zarr", *SMALL, *words]) == 0
    assert "8 experiments, 160 patterns" in capsys.readouterr().out
    simulated = [p["simulated"] for p in ps.open_group_store("s.zarr").attributes["provenance"]]
    assert [(s["object"], s["probe"]) for s in simulated[:3]] == [
        ("lines", "disk"),
        ("lines", "gaussian"),
        ("grating", "disk"),
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["s.npz", "--repeats", "2"], "several need a store"),
        (["s.zarr", "--repeats", "0"], "0 repeats"),
        (["s.npz", "--object_options.hue", "3"], "no option 'hue'"),
        (["s.npz", "--detector.bit_depth", "40"], "bit_depth=40"),
        (["s.npz", "--overlap", "2"], "overlap=2"),
    ],
)
def test_impossible_wishes_are_refused(words, message, capsys):
    assert main(["simulate", *words]) == 1
    assert message in capsys.readouterr().err
    assert not any(Path().iterdir())

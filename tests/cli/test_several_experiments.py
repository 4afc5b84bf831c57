import csv

import pytest

import ptychostream as ps
from ptychostream.cli.experiments import chosen_experiments
from ptychostream.cli.main import main
from ptychostream.errors import ConfigurationError, DataContractError

NAMES = ["monday", "tuesday_1", "", "tuesday_2"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, None),
        ("all", [0, 1, 2, 3]),
        ("2", [2]),
        ("0,3", [0, 3]),
        ("1:3", [1, 2]),
        ("2:", [2, 3]),
        ("tuesday*", [1, 3]),
        ("monday,3", [0, 3]),
    ],
)
def test_experiments_are_chosen_by_numbers_ranges_and_names(text, expected):
    assert chosen_experiments(text, NAMES) == expected


def test_experiments_that_are_not_there_are_refused():
    with pytest.raises(DataContractError, match="no experiment 7; it holds 4"):
        chosen_experiments("0,7", NAMES)
    with pytest.raises(ConfigurationError, match="'first' is no number.*names are 'monday', "):
        chosen_experiments("first", NAMES)
    with pytest.raises(ConfigurationError, match="the experiments have none"):
        chosen_experiments("first", [""])


def test_all_experiments_have_a_result_and_a_line_in_the_table(tmp_path):
    scans = [ps.simulate_scan(num_positions=36, N=16, step=2.5, seed=seed) for seed in (0, 1)]
    ps.build_group_store(scans, tmp_path / "two.zarr", progress=False)
    out = tmp_path / "out"
    words = ["reconstruct", str(tmp_path / "two.zarr"), "-o", str(out), "--passes", "2"]
    assert main([*words, "--experiment", "all"]) == 0
    with (out / "summary.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["experiment"] for row in rows] == ["0", "1"]
    assert all(0 < float(row["misfit"]) < 1 for row in rows)
    objects = [out / f"experiment-000{n}" / "object.npz" for n in (0, 1)]
    before = [path.stat().st_mtime_ns for path in objects]
    assert main([*words, "--experiment", "all"]) == 1
    (out / "experiment-0001" / "report.json").unlink()
    assert main([*words, "--experiment", "all", "--resume"]) == 0
    assert objects[0].stat().st_mtime_ns == before[0]
    assert objects[1].stat().st_mtime_ns > before[1]
    with (out / "summary.csv").open() as stream:
        assert len(list(csv.DictReader(stream))) == 2

import csv

import pytest

import ptychostream as ps
from ptychostream.cli.experiments import chosen_experiments
from ptychostream.cli.main import main
from ptychostream.errors import ConfigurationError, DataContractError
from ptychostream.reconstruction import write
from ptychostream.reconstruction.reconstruct import reconstruct

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
    scans = [ps.simulate_scan(num_positions=9, N=16, step=2.5, seed=seed) for seed in (0, 1)]
    ps.build_group_store(scans, tmp_path / "two.zarr", progress=False)
    out = tmp_path / "out"
    words = ["reconstruct", str(tmp_path / "two.zarr"), "-o", str(out), "--passes", "1"]
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


def test_resuming_with_other_options_is_refused_and_other_patterns_are_reconstructed(
    tmp_path, capsys
):
    path, out = tmp_path / "two.zarr", tmp_path / "out"

    def build(*seeds):
        scans = [ps.simulate_scan(num_positions=9, N=16, step=2.5, seed=seed) for seed in seeds]
        ps.build_group_store(scans, path, overwrite=True, progress=False)

    build(0, 1)
    words = ["reconstruct", str(path), "-o", str(out), "--experiment", "all", "--checks_fit=false"]
    assert main([*words, "--passes", "1"]) == 0
    objects = [out / f"experiment-000{n}" / "object.npz" for n in (0, 1)]
    before = [file.stat().st_mtime_ns for file in objects]
    capsys.readouterr()
    assert main([*words, "--passes", "2", "--seed", "3", "--resume"]) == 1
    assert "passes was 1 and is 2, seed was 0 and is 3" in capsys.readouterr().err
    # Where and in how much memory it is computed is no other result.
    assert main([*words, "--passes", "1", "--canvas_budget", "1 GiB", "--resume"]) == 0
    assert [file.stat().st_mtime_ns for file in objects] == before
    build(0, 2)
    assert main([*words, "--passes", "1", "--resume"]) == 0
    assert "experiment 1 has other patterns" in capsys.readouterr().err
    assert objects[0].stat().st_mtime_ns == before[0]
    assert objects[1].stat().st_mtime_ns > before[1]


def test_an_experiment_that_fails_costs_no_other(tmp_path, monkeypatch, capsys):
    scans = [ps.simulate_scan(num_positions=9, N=16, step=2.5, seed=seed) for seed in (0, 1)]
    ps.build_group_store(scans, tmp_path / "two.zarr", progress=False)
    out = tmp_path / "out"
    words = ["reconstruct", str(tmp_path / "two.zarr"), "-o", str(out), "--passes", "1"]
    words += ["--experiment", "all"]

    def failing(*arguments, **options):
        if options.get("experiment") == 0:
            raise DataContractError("all of its patterns are dark")
        return reconstruct(*arguments, **options)

    monkeypatch.setattr(write, "reconstruct", failing)
    assert main(words) == 1
    assert "1 experiments failed: 0; summary.csv" in capsys.readouterr().err
    page = (out / "report.html").read_text()
    assert "failed: all of its patterns are dark" in page
    assert 'href="experiment-0001/report.html"' in page
    monkeypatch.undo()
    assert main([*words, "--resume"]) == 0
    assert "failed" not in (out / "summary.csv").read_text()


def test_options_for_workers_are_refused_where_they_share_nothing(tmp_path, capsys):
    for options, expected in (
        (["--workers", "2"], "--workers has no effect without --experiment"),
        (["--experiment", "all", "--workers", "2", "--dask", "tcp://here:1"], "name one"),
        (["--experiment", "all", "--workers", "2", "--join"], "--join has one alone"),
    ):
        assert main(["reconstruct", "some.zarr", "-o", str(tmp_path), *options]) == 2
        assert expected in capsys.readouterr().err

"""The page of a run that goes on."""

import sys
from pathlib import Path

import numpy as np

import ptychostream as ps
from ptychostream.reconstruction.live_page import LivePage
from ptychostream.reconstruction.report_files import write_result_files
from ptychostream.scan import ArrayPatterns

sys.path.insert(0, str(Path(__file__).parents[1] / "solver"))
from scans import small_scan


def test_a_page_loads_itself_again_until_the_result_is_there(tmp_path):
    small = small_scan(1e5, side=6)
    scan = ps.Scan(
        name="a scan",
        patterns=ArrayPatterns(np.random.default_rng(0).poisson(small.rates).astype(np.uint32)),
        measurement_domain="counts",
        positions=small.positions,
        probe=small.probe.astype(np.complex64),
    )
    store = ps.build_group_store(scan, tmp_path / "s.zarr")
    out, seen = tmp_path / "out", []
    page = LivePage(out, title="a scan", interval_s=0.0)

    def look(state):
        page(state)
        seen.append((out / "report.html").read_text() if (out / "report.html").exists() else "")

    result = ps.reconstruct(store, passes=3, checks_fit=False, on_pass=look)
    first = seen[0]
    assert 'http-equiv="refresh"' in first
    assert "pass 1 of 3" in first
    assert first.count("data:image/png") == 5
    # Only a finished result has the record that other commands read.
    assert not (out / "report.json").exists()
    write_result_files(result, None, out, title="a scan")
    assert "http-equiv" not in (out / "report.html").read_text()

"""The report, opened in a real browser where there is one."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest

import ptychostream as ps
from ptychostream.cli.main import main
from ptychostream.evaluation.report import write_report
from ptychostream.reconstruction.report_files import write_result_files
from ptychostream.reconstruction.result import ReconstructionResult
from ptychostream.scan import ScanMetadata
from ptychostream.training.train import initial_model

BROWSER = shutil.which("chromium")

#: Once everything is loaded, writes what it sees into the page.
WATCH = """
<script>
window.onerror = text => { document.body.dataset.errors = text; };
window.onload = () => {
  document.body.dataset.widths = [...document.images].map(i => i.naturalWidth).join(" ");
  document.body.dataset.scroll = document.documentElement.scrollWidth;
};
</script>
"""


@pytest.fixture(scope="module")
def result_folder(tmp_path_factory):
    """A reconstruction with everything that a report may show, evaluated."""
    folder = tmp_path_factory.mktemp("report")
    scan = ps.simulate_scan(num_positions=144, N=32, step=2.5, probe="gaussian", seed=3)
    store = ps.build_group_store(scan, folder / "scan <b>.zarr")
    config = ps.TrainingConfig(
        model=ps.ModelConfig(N=32, architecture="unrolled", unrolled_steps=2)
    )
    bundle = ps.ModelBundle(
        model=initial_model(config, store, seed=0).eval(),
        config=config,
        intensity_scale=1.0,
        probe_guess=store.probe,
        history={"train_loss": [3.0, 2.0], "val_loss": [3.1, 2.2]},
    )
    result = ps.reconstruct(
        bundle, store, config=ps.InferenceConfig(n_groups=140, neighbor_count=4)
    )
    out = folder / "out"
    write_result_files(result, bundle, out, title="scan <b>.zarr", options={"Asked": "a: 1 < 2"})
    assert main(["evaluate", str(out / "object.npz"), "--reference", str(store.path)]) == 0
    return out


class _Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.found += [value for name, value in attrs if name in ("src", "href")]


def test_the_report_is_one_file_that_asks_nobody_for_anything(result_folder):
    page = (result_folder / "report.html").read_text()
    links = _Links()
    links.feed(page)
    assert len(links.found) >= 7
    assert all(link.startswith("data:") for link in links.found)
    assert "url(" not in page
    assert "<script" not in page


def test_the_report_says_what_was_done_and_what_is_wrong(result_folder):
    page = (result_folder / "report.html").read_text()
    assert "scan &lt;b&gt;.zarr" in page
    assert "scan <b>" not in page
    assert "4 of 144 positions have no patch" in page
    assert "a: 1 &lt; 2" in page
    metrics = json.loads((result_folder / "evaluation.json").read_text())
    assert f"{metrics['phase_rmse']:.4g}" in page
    assert "Resolution without a reference" in page


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium: apt-get install chromium")
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_all_pictures_without_a_complaint(result_folder, tmp_path, width):
    page = (result_folder / "report.html").read_text()
    watched = tmp_path / "watched.html"
    watched.write_text(page.replace("</body>", WATCH + "</body>"))
    run = subprocess.run(
        [
            BROWSER,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--enable-logging=stderr",
            f"--user-data-dir={tmp_path / 'profile'}",
            f"--window-size={width},900",
            "--virtual-time-budget=20000",
            "--dump-dom",
            watched.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    shown = re.search(r'data-widths="([^"]*)"', run.stdout)
    assert shown is not None, run.stderr[-2000:]
    widths = [int(part) for part in shown[1].split()]
    assert len(widths) == page.count("<img")
    assert min(widths) > 300
    assert "data-errors" not in run.stdout
    assert "CONSOLE" not in run.stderr
    scroll = re.search(r'data-scroll="(\d+)"', run.stdout)
    # Headless windows are no narrower than 500 px.
    assert int(scroll[1]) <= max(width, 500)


def test_a_folder_without_a_record_is_refused(tmp_path):
    with pytest.raises(ps.errors.DataContractError, match="no report can be made"):
        write_report(tmp_path)


def test_a_new_result_removes_the_evaluation_of_the_one_before(result_folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(result_folder, copy)
    blank = ReconstructionResult(
        object=np.zeros((40, 50), np.complex64),
        coverage=np.zeros((40, 50), np.float32),
        origin=(0, 0),
        probe=np.ones((1, 16, 16), np.complex64),
        positions=np.zeros((3, 2)),
        num_patches=0,
        num_clipped=0,
        metadata=ScanMetadata(),
        is_partial=True,
    )
    bundle = ps.ModelBundle(
        model=None, config=ps.TrainingConfig(), intensity_scale=1.0, probe_guess=blank.probe
    )
    write_result_files(blank, bundle, copy, title="none")
    page = (copy / "report.html").read_text()
    assert "none: partial result" in page
    assert "the result is partial" in page
    assert "Against a reference" not in page
    assert not (copy / "evaluation.json").exists()
    assert not (copy / "frc.png").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda record: {}, "'title' is missing"),
        (lambda record: [], "it is a list, expected an object"),
        (lambda record: record | {"warnings": "none"}, "'warnings' is 'none', expected a list"),
        (lambda record: record | {"tiles": [1]}, "'tiles' are not pairs"),
    ],
)
def test_a_damaged_record_is_refused_by_its_file(result_folder, tmp_path, change, words):
    record = json.loads((result_folder / "report.json").read_text())
    (tmp_path / "report.json").write_text(json.dumps(change(record)))
    with pytest.raises(ps.errors.DataContractError, match=words) as caught:
        write_report(tmp_path)
    assert str(tmp_path / "report.json") in str(caught.value)


def test_a_damaged_evaluation_is_refused_by_its_file(result_folder, tmp_path):
    shutil.copy(result_folder / "report.json", tmp_path)
    (tmp_path / "evaluation.json").write_text("[]")
    with pytest.raises(ps.errors.DataContractError, match=r"evaluation\.json' holds a list"):
        write_report(tmp_path)


def test_the_report_does_not_call_images_equal_where_there_is_no_frc(result_folder, tmp_path):
    shutil.copy(result_folder / "report.json", tmp_path)
    metrics = {"frc_half_bit": None, "amplitude_psnr": None}
    (tmp_path / "evaluation.json").write_text(json.dumps(metrics))
    page = write_report(tmp_path).read_text()
    assert page.count("too small a square is covered in the middle") == 1
    assert "none: the images are equal" in page

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu.py"


def test_the_benchmark_for_gpus_runs_on_the_processor_at_a_small_size(tmp_path):
    out = tmp_path / "gpu.json"
    words = [str(out), "--patterns", "48", "--N", "16", "--device", "cpu", "--passes", "2"]
    subprocess.run([sys.executable, str(SCRIPT), *words], check=True, capture_output=True)
    record = json.loads(out.read_text())
    for name in (
        "loader",
        "solver, float32",
        "training, 32-true",
        "prediction and stitching, 32-true",
    ):
        assert record[name]["patterns_per_second"] > 0
    assert 0 < record["misfit"] < 1

import runpy
from pathlib import Path


def test_both_ways_of_training_give_the_same_weights(capsys):
    script = Path(__file__).parents[2] / "examples" / "same_training_twice.py"
    runpy.run_path(str(script), run_name="__main__")
    assert "all equal" in capsys.readouterr().out

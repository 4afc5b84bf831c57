"""Reconstruct by ptychodus without a window: from a folder of files to a picture of the object.

    python examples/ptychodus_batch.py EXPERIMENT PICTURE

EXPERIMENT is a folder with diffraction.h5 and product.h5; where there is none, one is simulated.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np

from ptychostream.evaluation.figures import draw_object

SETTINGS = """[Processing]
Algorithm = PtychoStream_Solver

[Products]
FileType = HDF5
"""


def reconstruct(experiment: Path) -> Path:
    """Run `ptychodus -b reconstruct`; returns the last product that it has written."""
    (experiment / "settings.ini").write_text(SETTINGS)
    out = experiment / "out"
    # As the command ptychodus, also where ptychostream is installed for editing.
    command = [sys.executable, "-m", "ptychodus_ext.cli", "-b", "reconstruct"]
    subprocess.run([*command, "-i", str(experiment), "-o", str(out)], check=True)
    return max(out.glob("product*.h5"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiment", type=Path)
    parser.add_argument("picture", type=Path)
    options = parser.parse_args()
    if not options.experiment.exists():
        from ptychodus_session import simulate

        simulate(options.experiment)
    product = reconstruct(options.experiment)
    with h5py.File(product) as file:
        print(product, file.attrs["comments"], sep="\n")
        obj = file["object"][0]
    # Where nothing was lit, the object stays as it began.
    lit = (obj != obj[0, 0]).astype(np.float32)
    draw_object(obj, lit, product.parent)
    shutil.copy(product.parent / "phase.png", options.picture)


if __name__ == "__main__":
    main()

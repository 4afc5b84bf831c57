"""Drive the window of ptychodus by mouse and keyboard: load, reconstruct, stop, train, infer, save.

Prints what happened as JSON, and saves pictures of the window where a folder for them is named:

    python examples/ptychodus_session.py EXPERIMENT [--pictures docs/images]

EXPERIMENT is a folder with scan.npz and product.h5; where there is none, one is simulated. Without
a screen, `xvfb-run` gives one.
"""

import argparse
import json
import logging
import os
from pathlib import Path
from typing import Any

if "DISPLAY" not in os.environ:
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import numpy as np
import ptychodus.model.core
from ptychodus_window import Session
from PyQt5.QtCore import Qt
from PyQt5.QtTest import QTest
from PyQt5.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QLineEdit,
    QListWidget,
    QTableView,
    QToolButton,
)

from ptychodus_ext.hook import activate

SOLVER, NETWORK = "ptychostream_solver", "ptychostream_pinn"


def simulate(folder: Path) -> None:
    """Write patterns, and a product with a flat object, to begin with."""
    import h5py

    import ptychostream as ps
    from ptychostream.datasets.sources.ptychodus.experiment import write_ptychodus_experiment

    scan = ps.simulate_scan(num_positions=400, N=64, object="siemens_star", nphotons=1e6, seed=1)
    write_ptychodus_experiment(scan, folder)
    with h5py.File(folder / "product.h5", "r+") as file:
        file["object"][:] = 1
    with h5py.File(folder / "diffraction.h5") as file:
        patterns = file["patterns"][:]
    np.savez(
        folder / "scan.npz",
        diff3d=patterns,
        xcoords=scan.positions[:, 0],
        ycoords=scan.positions[:, 1],
        probeGuess=scan.probe,
    )
    (folder / "settings.ini").touch()


def play(session: Session, experiment: Path, pictures: Path | None) -> dict[str, Any]:
    """Go through what users do; returns what happened."""
    facts: dict[str, Any] = {"chosen_at_first": session.chosen}
    facts["algorithms"] = session.choose(SOLVER)
    facts |= solve(session, pictures)
    facts |= save(session, experiment, pictures)
    facts |= stop(session)
    session.choose(NETWORK)
    facts |= train(session, experiment, pictures)
    facts |= train_on_several(session)
    facts |= infer(session, experiment)
    return facts


def solve(session: Session, pictures: Path | None) -> dict[str, Any]:
    """Press one button, and look on until the object is there."""
    facts: dict[str, Any] = {}
    session.type_number("Seconds between pictures:", "0.2")
    before = session.product_list.count()
    input_object = session.product().object_.get_array().copy()
    session.start("Reconstruct")
    facts["seconds_to_first_log"] = session.run_until(lambda: "preparing" in session.log())

    def has_changed() -> bool:
        return not np.array_equal(session.product().object_.get_array(), input_object)

    session.run_until(has_changed)
    facts["live_losses"] = [loss.value for loss in session.product().losses]
    facts["live_curve"] = session.curves()
    facts["live_progress"] = session.monitor.get_progress()
    session.finish()
    facts["solved"] = session.error()
    facts["new_products"] = session.product_list.count() - before
    product = session.product()
    facts["losses"] = [loss.value for loss in product.losses]
    facts["comments"] = product.metadata.comments
    facts["object"] = product.object_.get_array().shape
    facts["center"] = [product.object_.get_center().x_m, product.object_.get_center().y_m]
    facts["log_of_solver"] = session.log()
    session.picture(pictures, "ptychodus-processing.png")
    return facts


def save(session: Session, experiment: Path, pictures: Path | None) -> dict[str, Any]:
    """Look at the phase of the object, and save its picture and the product."""
    session.show_last_object()
    session.choose("Phase", session.view)
    session.picture(pictures, "ptychodus-object.png")
    session.plan_file(experiment / "object.png")
    save_image = session.find(QToolButton, lambda button: button.toolTip() == "Save Image")
    QTest.mouseClick(save_image, Qt.LeftButton)
    session.run_until((experiment / "object.png").is_file, 30)

    session.open_page("Products")
    table = session.find(QTableView, lambda _: True, session.view.product_view)
    table.selectRow(table.model().rowCount() - 1)
    session.plan_file(experiment / "result.h5")
    session.pick(session.view.product_view.button_box.save_button, "Save File...")
    session.run_until((experiment / "result.h5").is_file, 30)
    session.open_page("Processing")
    return {"saved": sorted(path.name for path in experiment.iterdir())}


def stop(session: Session) -> dict[str, Any]:
    """Press Stop in a long run: what is done by then is the result."""
    facts: dict[str, Any] = {}
    usual = session.label_of("Passes:").text()
    session.type_number("Passes:", "5000")
    session.start("Reconstruct")
    before = len(session.product().losses)
    session.run_until(lambda: len(session.product().losses) not in (before, 1))
    facts["seconds_to_stop"] = session.stop()
    facts["stopped"] = session.error()
    facts["losses_after_stop"] = len(session.product().losses)
    facts["comments_after_stop"] = session.product().metadata.comments
    session.type_number("Passes:", usual)
    return facts


def train(session: Session, experiment: Path, pictures: Path | None) -> dict[str, Any]:
    """Train on what is loaded, and save the model."""
    facts: dict[str, Any] = {"infer_without_model": session.button("Infer").isEnabled()}
    facts["tooltip"] = session.label_of("Model:").toolTip()
    files = {path.name for path in experiment.iterdir()}
    session.start("Train")
    session.finish()
    facts["trained"] = session.error()
    facts["training_curves"] = session.curves()
    facts["new_files"] = sorted({path.name for path in experiment.iterdir()} - files)
    session.run_until(lambda: session.button("Infer").isEnabled(), timeout_s=10)
    facts["log_after_training"] = session.log()
    facts["model_after_training"] = session.label_of("Model in use:").text()
    session.picture(pictures, "ptychodus-network.png")
    session.plan_file(experiment / "model.zip")
    session.pick(session.menu_button, "Save Model...")
    session.run_until((experiment / "model.zip").is_file, 30)
    saved = str(experiment / "model.zip")
    session.run_until(lambda: session.label_of("Model in use:").text() == saved, 60)
    facts["model_after_saving"] = session.label_of("Model in use:").text()
    return facts


def train_on_several(session: Session) -> dict[str, Any]:
    """Train on all products of the list together."""

    def choose_all(dialog: QDialog) -> None:
        products = dialog.findChild(QListWidget)
        QTest.keyClick(products, Qt.Key_A, Qt.ControlModifier)
        buttons = dialog.findChild(QDialogButtonBox)
        QTest.mouseClick(buttons.button(QDialogButtonBox.Ok), Qt.LeftButton)

    session.runs = session.monitor.get_completed_runs()
    session.plan(QDialog, choose_all)
    session.pick(session.menu_button, "Train on Several Products...")
    session.finish()
    return {"trained_on_several": session.error(), "log_of_several": session.log()}


def infer(session: Session, experiment: Path) -> dict[str, Any]:
    """Reconstruct with a model, once with the wrong backend."""
    facts: dict[str, Any] = {}
    backend = session.setting("PtychoStreamModel", "Backend")
    backend.set_value("tensorflow")
    session.start("Infer")
    session.finish()
    facts["tensorflow"] = session.error()
    facts["log_of_tensorflow"] = session.log()
    backend.set_value("pytorch")
    line = session.label_of("Model:").findChild(QLineEdit)
    wrong, right = str(experiment / "no-model.zip"), str(experiment / "model.zip")
    for path, used in ((wrong, "none yet: press Train"), (right, right)):
        line.selectAll()
        QTest.keyClicks(line, path)
        QTest.keyClick(line, Qt.Key_Return)
        session.run_until(lambda u=used: session.label_of("Model in use:").text() == u, 60)
        facts.setdefault("infer_with_wrong_path", session.button("Infer").isEnabled())
    facts["model_in_use"] = session.label_of("Model in use:").text()
    session.start("Infer")
    session.finish()
    facts["inferred"] = session.error()
    facts["losses_of_network"] = [loss.value for loss in session.product().losses]
    return facts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiment", type=Path)
    parser.add_argument("--pictures", type=Path)
    options = parser.parse_args()
    if not options.experiment.exists():
        simulate(options.experiment)
    activate()
    with ptychodus.model.core.ModelCore(
        options.experiment / "settings.ini", log_level=logging.INFO
    ) as model:
        session = Session(model)
        session.load(options.experiment / "scan.npz", options.experiment / "product.h5")
        facts = play(session, options.experiment, options.pictures)
    print(json.dumps(facts))


if __name__ == "__main__":
    main()

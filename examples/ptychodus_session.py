"""Drive the window of ptychodus as a user does: train, infer, stop, change the backend.

Prints what happened as JSON, and saves pictures of the window where a folder for them is named:

    python examples/ptychodus_session.py EXPERIMENT [--pictures docs/images]

EXPERIMENT is a folder with diffraction.h5, product.h5 and training data (*.npz or *.zarr); where
there is none, one is simulated.
"""

import argparse
import json
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import ptychodus.model.core
from PyQt5.QtWidgets import QApplication, QComboBox, QPushButton, QToolButton, QTreeView, QWidget

from ptychodus_ext.hook import activate

ALGORITHM = "ptychostream_pinn"


class Session:
    """The application, with one experiment loaded."""

    def __init__(self, model: Any, experiment: Path) -> None:
        from ptychodus.controller import ControllerCore
        from ptychodus.view import ViewCore

        self.app = QApplication(["ptychodus"])
        self.model, self.runs = model, 0
        self.view = ViewCore(is_developer_mode_enabled=False)
        self.controller = ControllerCore(model, self.view, is_developer_mode_enabled=False)
        self.controller.show_main_window("ptychodus")
        self.view.resize(1400, 1000)
        self.view.processing_action.trigger()
        data = model.workflow_api.load_assembled_diffraction_data(experiment / "diffraction.h5")
        product = model.workflow_api.load_product(
            experiment / "product.h5", file_type="HDF5", diffraction=data
        )
        row = product.get_product_index()
        self.run_until(lambda: self.product_list.count() > row)
        self.product_list.setCurrentIndex(row)

    def run_until(self, is_done: Callable[[], bool], timeout_s: float = 600) -> float:
        """Let the window work until something has happened; returns the seconds it took."""
        began = time.perf_counter()
        while not is_done():
            if time.perf_counter() - began > timeout_s:
                raise TimeoutError
            # The window's own timer does this once a second.
            self.model.run_tasks()
            self.app.processEvents()
            time.sleep(0.02)
        return time.perf_counter() - began

    def find(self, kind: Any, fits: Callable[[Any], bool], where: QWidget | None = None) -> Any:
        """Find the one visible widget of a kind."""
        widgets = (where or self.view).findChildren(kind)
        return next(widget for widget in widgets if fits(widget) and widget.isVisibleTo(self.view))

    def choose(self, item: str) -> list[str]:
        """Choose an item of the list that has it, and return the list."""

        def fits(box: QComboBox) -> bool:
            return box.findText(item) >= 0

        box = self.find(QComboBox, fits, self.view.processing_view)
        box.setCurrentText(item)
        box.textActivated.emit(item)
        self.app.processEvents()
        return [box.itemText(row) for row in range(box.count())]

    @property
    def product_list(self) -> Any:
        """The list of products."""
        return self.view.processing_view.layout().itemAt(1, 1).widget()

    def button(self, text: str) -> Any:
        """Find a button by what is written on it."""
        return self.find(QPushButton, lambda button: button.text() == text)

    def load_model(self, path: Path) -> None:
        """Choose a model through the menu; the file dialog is answered."""
        from ptychodus.controller.data import FileDialogFactory

        FileDialogFactory.get_open_file_path = lambda *_, **__: (path, "")
        menu = self.find(QToolButton, lambda b: b.menu() is not None, self.view.processing_view)
        action = next(a for a in menu.menu().actions() if a.text() == "Load Model...")
        action.trigger()
        self.app.processEvents()

    def start(self, text: str) -> None:
        """Press a button, and let the application begin."""
        self.runs = self.monitor.get_completed_runs()
        self.button(text).click()

    def finish(self) -> float:
        """Wait until the application has finished what was started."""
        seconds = self.run_until(lambda: self.monitor.get_completed_runs() > self.runs)
        self.model.run_tasks()
        self.app.processEvents()
        return seconds

    @property
    def monitor(self) -> Any:
        """Watches the task that runs."""
        return self.model.processing_core.processing_api.task_monitor

    def stop(self) -> float:
        """Press Stop; returns the seconds until the task has ended."""
        began, ended = time.perf_counter(), []

        def wait() -> None:
            self.monitor.wait_for_completion_after(self.runs)
            ended.append(time.perf_counter())

        # Aside: drawing the result takes this thread longer than stopping takes.
        waiting = threading.Thread(target=wait)
        waiting.start()
        self.button("Stop").click()
        self.finish()
        waiting.join()
        return ended[0] - began

    def error(self) -> str:
        """Say what the last task failed of."""
        return str(self.monitor.get_last_error() or "")

    def show_last_object(self) -> None:
        """Select the newest product's object in the list of objects."""
        self.view.object_action.trigger()
        tree = self.find(QTreeView, lambda _: True, self.view.object_view)
        items = tree.model()
        tree.setCurrentIndex(items.index(items.rowCount() - 1, 0))

    def picture(self, folder: Path | None, name: str) -> None:
        """Save a picture of the window."""
        if folder is not None:
            self.run_until(lambda: True)
            self.view.grab().save(str(folder / name))


def simulate(folder: Path) -> None:
    """Write the files of an experiment, and a store to train on."""
    import ptychostream as ps
    from ptychostream.datasets.sources.ptychodus.experiment import write_ptychodus_experiment

    scan = ps.simulate_scan(num_positions=600, N=64, object="siemens_star", nphotons=1e6, seed=1)
    write_ptychodus_experiment(scan, folder)
    ps.build_group_store(folder, folder / "scan.zarr")
    (folder / "settings.ini").write_text("[PtychoStreamTraining]\nNumEpochs = 2\n")


def play(session: Session, experiment: Path, pictures: Path | None) -> dict[str, Any]:
    """Go through what users do; returns what happened."""
    from ptychodus.controller.data import FileDialogFactory

    facts: dict[str, Any] = {"algorithms": session.choose(ALGORITHM)}
    facts["infer_without_model"] = session.button("Infer").isEnabled()
    facts["tooltip"] = session.find(QComboBox, lambda b: b.findText("tensorflow") >= 0).toolTip()
    FileDialogFactory.get_existing_directory_path = lambda *_, **__: experiment
    session.start("Train")
    session.finish()
    facts["trained"] = session.error()
    session.run_until(lambda: session.button("Infer").isEnabled(), timeout_s=10)
    facts["infer_after_training"] = session.button("Infer").isEnabled()

    # Twice to the other backend and back, between runs.
    session.choose("tensorflow")
    session.start("Infer")
    session.finish()
    facts["tensorflow"] = session.error()
    session.choose("pytorch")
    before = session.product_list.count()
    session.start("Infer")
    session.finish()
    facts["pytorch"] = session.error()
    facts["new_products"] = session.product_list.count() - before
    session.choose("tensorflow")
    session.choose("pytorch")
    session.load_model(experiment / "model.zip")
    session.start("Infer")
    session.finish()
    facts["pytorch_again"] = session.error()
    row = session.product_list.currentIndex()
    product = session.model.product_core.product_repository[row].get_product()
    facts["object"] = product.object_.get_array().shape
    facts["losses"] = len(product.losses)
    facts["center"] = [product.object_.get_center().x_m, product.object_.get_center().y_m]
    session.picture(pictures, "ptychodus-processing.png")

    settings = session.model.settings_registry["PtychoStreamInference"].parameters()
    settings["RefinePasses"].set_value(5_000)
    session.start("Infer")
    session.run_until(lambda: session.monitor.get_progress() > 0)
    facts["progress_before_stop"] = session.monitor.get_progress()
    facts["seconds_to_stop"] = session.stop()
    facts["stopped"] = session.error()
    session.show_last_object()
    session.picture(pictures, "ptychodus-object.png")
    return facts


def main() -> None:
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
        session = Session(model, options.experiment)
        facts = play(session, options.experiment, options.pictures)
    print(json.dumps(facts))


if __name__ == "__main__":
    main()

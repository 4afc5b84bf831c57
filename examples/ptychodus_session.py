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
from PyQt5.QtWidgets import (
    QApplication,
    QComboBox,
    QFormLayout,
    QPushButton,
    QToolButton,
    QTreeView,
    QWidget,
)

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
    def chosen(self) -> str:
        """The algorithm that is chosen."""
        return str(self.model.processing_core.algorithm_parameter.get_value())

    def log(self) -> str:
        """Read the window's log."""
        return str(self.view.processing_status_view.text_edit.toPlainText())

    def curves(self) -> dict[str, list[float]]:
        """Read the curves that are drawn."""
        lines = self.view.processing_status_view.axes.get_lines()
        return {str(line.get_label()): [float(y) for y in line.get_ydata()] for line in lines}

    def setting(self, group: str, key: str) -> Any:
        """Find a setting by its name in a settings file."""
        return self.model.settings_registry[group].parameters()[key]

    def label_of(self, text: str) -> Any:
        """Find the field that stands beside a label of the panel."""
        for form in self.view.processing_view.findChildren(QFormLayout):
            for row in range(form.rowCount()):
                label = form.itemAt(row, QFormLayout.LabelRole)
                if label is None or getattr(label.widget(), "text", str)() != text:
                    continue
                field = form.itemAt(row, QFormLayout.FieldRole).widget()
                if field.isVisibleTo(self.view):
                    return field
        raise LookupError(text)

    def menu_action(self, text: str) -> Any:
        """Find an entry of the menu beside the buttons."""
        menu = self.find(QToolButton, lambda b: b.menu() is not None, self.view.processing_view)
        return next(action for action in menu.menu().actions() if action.text() == text)

    def answer_save(self, path: Path) -> None:
        """Answer the next dialog that asks where to save."""
        from ptychodus.controller.data import FileDialogFactory

        FileDialogFactory.get_save_file_path = lambda *_, **__: (path, "")

    @property
    def product_list(self) -> Any:
        """The list of products."""
        return self.view.processing_view.layout().itemAt(1, 1).widget()

    def button(self, text: str) -> Any:
        """Find a button by what is written on it."""
        return self.find(QPushButton, lambda button: button.text() == text)

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
    facts: dict[str, Any] = {"chosen_at_first": session.chosen}
    facts["algorithms"] = session.choose(ALGORITHM)
    facts["infer_without_model"] = session.button("Infer").isEnabled()
    facts["tooltip"] = session.label_of("Model:").toolTip()
    files = sorted(path.name for path in experiment.iterdir())
    session.start("Train")
    facts["seconds_to_first_log"] = session.run_until(lambda: "preparing" in session.log())
    session.finish()
    facts["trained"] = session.error()
    facts["curves"] = session.curves()
    facts["new_files"] = sorted({path.name for path in experiment.iterdir()} - set(files))
    session.run_until(lambda: session.button("Infer").isEnabled(), timeout_s=10)
    facts["log_after_training"] = session.log()
    session.answer_save(experiment / "model.zip")
    session.menu_action("Save Model...").trigger()

    # To the other backend and back, between runs.
    backend = session.setting("PtychoStreamModel", "Backend")
    backend.set_value("tensorflow")
    session.start("Infer")
    session.finish()
    facts["tensorflow"] = session.error()
    facts["log_of_tensorflow"] = session.log()
    backend.set_value("pytorch")
    session.setting("PtychoStreamInference", "ModelPath").set_value(experiment / "model.zip")
    session.run_until(lambda: True)
    facts["model_in_use"] = session.label_of("Model in use:").text()
    before = session.product_list.count()
    session.start("Infer")
    session.finish()
    facts["pytorch"] = session.error()
    facts["new_products"] = session.product_list.count() - before
    row = session.product_list.currentIndex()
    product = session.model.product_core.product_repository[row].get_product()
    facts["object"] = product.object_.get_array().shape
    facts["losses"] = len(product.losses)
    facts["center"] = [product.object_.get_center().x_m, product.object_.get_center().y_m]
    session.picture(pictures, "ptychodus-processing.png")

    session.setting("PtychoStreamInference", "RefinePasses").set_value(5_000)
    session.start("Infer")
    session.run_until(lambda: session.monitor.get_progress() > 5)
    facts["progress_before_stop"] = session.monitor.get_progress()
    facts["seconds_to_stop"] = session.stop()
    facts["stopped"] = session.error()
    facts["log_of_stop"] = session.log()
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

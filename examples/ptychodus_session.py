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
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

if "DISPLAY" not in os.environ:
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import numpy as np
import ptychodus.model.core
from PyQt5.QtCore import Qt, QTimer
from PyQt5.QtTest import QTest
from PyQt5.QtWidgets import (
    QApplication,
    QComboBox,
    QFileDialog,
    QFormLayout,
    QInputDialog,
    QLineEdit,
    QMenu,
    QPushButton,
    QToolButton,
    QTreeView,
    QWidget,
    QWizard,
)

from ptychodus_ext.hook import activate

SOLVER, NETWORK = "ptychostream_solver", "ptychostream_pinn"
READER = "PtychoStream Scans (*.npz)"


class Session:
    """The application, its window, and somebody who answers its dialogs."""

    def __init__(self, model: Any) -> None:
        from ptychodus.controller import ControllerCore
        from ptychodus.view import ViewCore

        self.app = QApplication(["ptychodus"])
        self.model, self.runs = model, 0
        self.view = ViewCore(is_developer_mode_enabled=False)
        self.controller = ControllerCore(model, self.view, is_developer_mode_enabled=False)
        self.controller.show_main_window("ptychodus")
        self.view.resize(1400, 1000)
        self._answers: list[tuple[Callable[[], Any], Callable[[Any], None]]] = []
        self._robot = QTimer()
        self._robot.timeout.connect(self._answer)
        self._robot.start(50)

    def _answer(self) -> None:
        """Do what was planned, once the widget that it is planned for is there."""
        if self._answers:
            find, act = self._answers[0]
            widget = find()
            if widget is not None:
                del self._answers[0]
                # Later, since what it opens waits for this same timer.
                QTimer.singleShot(0, lambda: act(widget))

    def plan(self, kind: Any, act: Callable[[Any], None]) -> None:
        """Plan what is done with the next menu or dialog of a kind; they wait for an answer."""

        def find() -> Any:
            widget = QApplication.activePopupWidget() or QApplication.activeModalWidget()
            return widget if isinstance(widget, kind) else None

        # A menu opens before the dialogs that it leads to.
        self._answers.insert(0 if kind is QMenu else len(self._answers), (find, act))

    def pick(self, button: QWidget, text: str) -> None:
        """Choose an entry of a button's menu."""

        def act(menu: QMenu) -> None:
            action = next(action for action in menu.actions() if action.text() == text)
            QTest.mouseClick(menu, Qt.LeftButton, pos=menu.actionGeometry(action).center())

        self.plan(QMenu, act)
        QTest.mouseClick(button, Qt.LeftButton)
        self.run_until(lambda: not self._answers)

    def plan_file(self, path: Path) -> None:
        """Plan to type a path into the next file dialog."""

        def act(dialog: QFileDialog) -> None:
            line = dialog.findChild(QLineEdit)
            line.selectAll()
            QTest.keyClicks(line, str(path))
            QTest.keyClick(line, Qt.Key_Return)

        self.plan(QFileDialog, act)

    def open_page(self, name: str) -> None:
        """Press a button of the navigation."""
        QTest.mouseClick(self.find(QToolButton, lambda b: b.text() == name), Qt.LeftButton)
        self.app.processEvents()

    def load(self, patterns: Path, product: Path) -> None:
        """Load diffraction data by the wizard, and a product for them."""
        self.open_page("Diffraction")
        view = self.view.diffraction_view
        self.pick(view.button_box.insert_button, "Open File...")
        wizards = (w for w in QApplication.topLevelWidgets() if isinstance(w, QWizard))
        wizard = next(w for w in wizards if w.isVisible())
        self.choose(READER, wizard)
        line = self.find(QLineEdit, lambda line: line.isEnabled(), wizard)
        line.selectAll()
        QTest.keyClicks(line, str(patterns))
        # Return also presses Next, as soon as there is a file.
        QTest.keyClick(line, Qt.Key_Return)
        pages = wizard.pageIds()
        for page, button in zip(
            pages, (QWizard.NextButton, QWizard.NextButton, QWizard.FinishButton), strict=True
        ):
            if wizard.currentId() == page:
                self.run_until(lambda b=button: wizard.button(b).isEnabled(), 60)
                QTest.mouseClick(wizard.button(button), Qt.LeftButton)
                self.run_until(lambda: True)
        dataset = self.model.diffraction_core.repository[0]
        self.run_until(lambda: len(dataset.get_assembled_data().get_indexes()) > 0, 120)

        self.open_page("Products")
        products = self.model.product_core.product_repository
        before = len(products)
        self.plan_file(product)
        self.plan(QInputDialog, choose_last_item)
        self.pick(self.view.product_view.button_box.insert_button, "Open File...")
        self.open_page("Processing")
        self.run_until(lambda: self.product_list.count() > before, 60)
        QTest.keyClick(self.product_list, Qt.Key_End)
        assert self.product_list.currentIndex() == before

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
        return next(widget for widget in widgets if fits(widget) and widget.isVisible())

    def choose(self, item: str, where: QWidget | None = None) -> list[str]:
        """Choose an item of the list that has it by the keyboard, and return the list."""
        where = where or self.view.processing_view
        box = self.find(QComboBox, lambda box: box.findText(item) >= 0, where)
        box.setFocus()
        for _ in range(box.count()):
            step = box.findText(item) - box.currentIndex()
            if step:
                QTest.keyClick(box, Qt.Key_Down if step > 0 else Qt.Key_Up)
        self.app.processEvents()
        assert box.currentText() == item
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
                if field.isVisible():
                    return field
        raise LookupError(text)

    @property
    def menu_button(self) -> Any:
        """The button beside *Infer* that opens a menu."""
        return self.find(QToolButton, lambda b: b.menu() is not None, self.view.processing_view)

    def type_number(self, label: str, text: str) -> None:
        """Type into a field of the panel."""
        line = self.label_of(label)
        line.selectAll()
        QTest.keyClicks(line, text)
        QTest.keyClick(line, Qt.Key_Return)

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
        QTest.mouseClick(self.button(text), Qt.LeftButton)

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
        QTest.mouseClick(self.button("Stop"), Qt.LeftButton)
        self.finish()
        waiting.join()
        return ended[0] - began

    def is_running(self) -> bool:
        """Whether a task runs."""
        return bool(self.monitor.is_processing)

    def product(self) -> Any:
        """Return the product that is chosen."""
        row = self.product_list.currentIndex()
        return self.model.product_core.product_repository[row].get_product()

    def error(self) -> str:
        """Say what the last task failed of."""
        return str(self.monitor.get_last_error() or "")

    def show_last_object(self) -> None:
        """Select the newest product's object in the list of objects."""
        self.open_page("Object")
        tree = self.find(QTreeView, lambda _: True, self.view.object_view)
        items = tree.model()
        tree.setCurrentIndex(items.index(items.rowCount() - 1, 0))
        home = self.find(QToolButton, lambda button: button.toolTip() == "Home")
        QTest.mouseClick(home, Qt.LeftButton)

    def picture(self, folder: Path | None, name: str) -> None:
        """Save a picture of the window."""
        if folder is not None:
            self.run_until(lambda: True)
            self.view.grab().save(str(folder / name))


def choose_last_item(dialog: QInputDialog) -> None:
    """Choose the newest of the data that a product can belong to."""
    QTest.keyClick(dialog.findChild(QComboBox), Qt.Key_End)
    QTest.keyClick(dialog, Qt.Key_Return)


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
    facts |= stop(session, pictures)
    session.choose(NETWORK)
    facts |= train(session, experiment)
    facts |= infer(session, experiment)
    session.picture(pictures, "ptychodus-network.png")
    return facts


def solve(session: Session, pictures: Path | None) -> dict[str, Any]:
    """Press one button, and look on until the object is there."""
    facts: dict[str, Any] = {}
    session.type_number("Seconds between pictures:", "0.5")
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
    session.show_last_object()
    session.picture(pictures, "ptychodus-object.png")
    session.open_page("Processing")
    return facts


def stop(session: Session, pictures: Path | None) -> dict[str, Any]:
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


def train(session: Session, experiment: Path) -> dict[str, Any]:
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
    session.plan_file(experiment / "model.zip")
    session.pick(session.menu_button, "Save Model...")
    session.run_until((experiment / "model.zip").is_file, 30)
    return facts


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
    QTest.keyClicks(line, str(experiment / "model.zip"))
    QTest.keyClick(line, Qt.Key_Return)
    session.run_until(lambda: "in/model.zip" in session.label_of("Model in use:").text(), 10)
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

"""The window of ptychodus, used by mouse and keyboard, and somebody who answers its dialogs."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PyQt5 import sip
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
                QTimer.singleShot(0, lambda: self._act(widget, act))

    def _act(self, widget: Any, act: Callable[[Any], None]) -> None:
        """Answer a dialog, and again where it has not taken the answer: it was not ready."""
        act(widget)

        def look_again() -> None:
            if not sip.isdeleted(widget) and widget.isVisible():
                self._act(widget, act)

        if isinstance(widget, QFileDialog | QInputDialog):
            QTimer.singleShot(3000, look_again)

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
            # A list of names that opens while one types would take the Return key.
            line.setCompleter(None)
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
        """Return why the last task failed."""
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
            log = self.view.processing_status_view.text_edit
            QTest.keyClick(log.verticalScrollBar(), Qt.Key_End)
            self.run_until(lambda: True)
            self.view.grab().save(str(folder / name))


def choose_last_item(dialog: QInputDialog) -> None:
    """Choose the newest of the data that a product can belong to."""
    QTest.keyClick(dialog.findChild(QComboBox), Qt.Key_End)
    QTest.keyClick(dialog, Qt.Key_Return)

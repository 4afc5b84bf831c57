"""The settings panel, used by keyboard and mouse."""

import os
from pathlib import Path

import pytest

pytest.importorskip("ptychodus", reason="pip install 'ptychostream[ptychodus]'")
pytest.importorskip("PyQt5", reason="pip install 'ptychostream[ptychodus]'")
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from ptychodus.api.settings import SettingsRegistry
from PyQt5.QtCore import Qt
from PyQt5.QtTest import QTest
from PyQt5.QtWidgets import QApplication, QFormLayout, QLineEdit, QPushButton, QToolButton

from ptychodus_ext.library import PtychoStreamLibrary
from ptychodus_ext.panel import PanelFactory


@pytest.fixture(scope="module")
def application():
    return QApplication.instance() or QApplication(["ptychodus"])


class Dialogs:
    """Answers every dialog."""

    path = Path("/models/model.zip")

    def get_open_file_path(self, *_):
        return self.path, ""

    def get_existing_directory_path(self, *_):
        return self.path.parent


@pytest.fixture
def library():
    return PtychoStreamLibrary(SettingsRegistry())


@pytest.fixture
def show(application, library):
    shown = []

    def show_panel(name):
        panel = PanelFactory(library, Dialogs()).create_view_controller(name)
        panel.show()
        shown.append(panel)
        return panel

    yield show_panel
    for panel in shown:
        panel.close()


def _fields(panel):
    """All fields by their labels, and whether each is seen."""
    found = {}
    for form in panel.findChildren(QFormLayout):
        for row in range(form.rowCount()):
            label = form.itemAt(row, QFormLayout.LabelRole).widget().text()
            field = form.itemAt(row, QFormLayout.FieldRole).widget()
            found[label] = (field, field.isVisibleTo(panel))
    return found


def _type(line, text):
    line.selectAll()
    QTest.keyClick(line, Qt.Key_Delete)
    QTest.keyClicks(line, text)
    QTest.keyClick(line, Qt.Key_Return)


@pytest.mark.parametrize("name", ["solver", "pinn", "supervised"])
def test_about_ten_fields_are_open_and_each_says_what_it_does(show, name):
    fields = _fields(show(name))
    is_open = [label for label, (_, seen) in fields.items() if seen]
    assert 6 <= len(is_open) <= 10
    assert len(fields) > len(is_open)
    assert all(f.toolTip() for label, (f, _) in fields.items() if label != "Model in use:")


def test_a_folded_group_is_opened_by_its_title(show):
    panel = show("solver")
    field, seen = _fields(panel)["Smoothness of the object:"]
    assert not seen
    title = next(b for b in panel.findChildren(QToolButton) if b.text() == "More of the solver")
    QTest.mouseClick(title, Qt.LeftButton)
    assert field.isVisibleTo(panel)
    QTest.mouseClick(title, Qt.LeftButton)
    assert not field.isVisibleTo(panel)


def test_a_number_that_may_be_left_unset_is_unset_when_it_is_emptied(show, library):
    line, _ = _fields(show("solver"))["Probe modes:"]
    values = library.settings.solver.values
    assert line.text() == ""
    assert values()["probe_modes"] is None
    _type(line, "3")
    assert values()["probe_modes"] == 3
    _type(line, "")
    assert values()["probe_modes"] is None


def test_the_weight_of_the_overlap_can_be_unset_again(show, library):
    line, _ = _fields(show("pinn"))["Weight of neighbours not seen:"]
    values = library.settings.training.values
    assert values()["overlap_weight"] is None
    _type(line, "0.5")
    assert values()["overlap_weight"] == 0.5
    _type(line, "")
    assert values()["overlap_weight"] is None


def test_a_number_that_is_none_or_out_of_range_is_seen_to_be_refused(show, library):
    line, _ = _fields(show("solver"))["Passes:"]
    _type(line, "many")
    assert line.text() == "20"
    _type(line, "-4")
    assert line.text() == "1"
    assert library.settings.solver.values()["passes"] == 1


def test_a_path_is_typed_chosen_and_emptied(show, library):
    field, _ = _fields(show("pinn"))["Model:"]
    line = field.findChild(QLineEdit)
    assert line.text() == ""
    _type(line, "/some/model.zip")
    assert library.settings.model_path == Path("/some/model.zip")
    QTest.mouseClick(field.findChild(QPushButton), Qt.LeftButton)
    assert library.settings.model_path == Dialogs.path
    assert line.text() == str(Dialogs.path)
    _type(line, "")
    assert library.settings.model_path is None

"""Widgets that ptychodus lacks: numbers and paths that may be empty, and groups that fold."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ptychodus.api.observer import Observable, Observer
from ptychodus.api.parameters import Parameter
from ptychodus.controller.parameters import ParameterViewController
from PyQt5.QtCore import Qt
from PyQt5.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QToolButton,
    QVBoxLayout,
    QWidget,
)
from typing_extensions import override

from ptychodus_ext.settings import Setting


class NumberField(ParameterViewController, Observer):
    """A number; empty where the setting may be left unset."""

    def __init__(self, setting: Setting, parameter: Parameter[Any], tool_tip: str) -> None:
        super().__init__()
        self._setting, self._parameter = setting, parameter
        self._widget = QLineEdit()
        self._widget.setToolTip(tool_tip)
        if setting.is_optional:
            self._widget.setPlaceholderText("not set")
        self._widget.editingFinished.connect(self._read)
        parameter.add_observer(self)
        self._show()

    @override
    def get_widget(self) -> QWidget:
        return self._widget

    def _read(self) -> None:
        text = self._widget.text().strip()
        if not text and self._setting.is_optional:
            self._parameter.set_value(self._setting.unset)
        else:
            try:
                value = self._setting.kind(text)
            except ValueError:
                self._show()
                return
            bounds = (self._setting.minimum, self._setting.maximum)
            low, high = (value if bound is None else self._setting.kind(bound) for bound in bounds)
            self._parameter.set_value(min(max(value, low), high))
        # The field shows the value that an impossible one was changed to.
        self._show()

    def _show(self) -> None:
        value = self._parameter.get_value()
        is_unset = self._setting.is_optional and value == self._setting.unset
        self._widget.setText("" if is_unset else str(value))

    @override
    def _update(self, observable: Observable) -> None:
        self._show()


class PathField(ParameterViewController, Observer):
    """A path, with a button that asks for it; empty where it is unset."""

    def __init__(
        self,
        parameter: Parameter[Path],
        ask: Callable[[QWidget], Path | None],
        *,
        empty: str,
        tool_tip: str,
    ) -> None:
        super().__init__()
        self._parameter, self._ask = parameter, ask
        self._line = QLineEdit()
        self._line.setPlaceholderText(empty)
        self._line.editingFinished.connect(self._read)
        browse = QPushButton("Browse")
        browse.clicked.connect(lambda: self._browse())
        layout = QHBoxLayout()
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._line)
        layout.addWidget(browse)
        self._widget = QWidget()
        self._widget.setLayout(layout)
        self._widget.setToolTip(tool_tip)
        parameter.add_observer(self)
        self._update(parameter)

    @override
    def get_widget(self) -> QWidget:
        return self._widget

    def _read(self) -> None:
        self._parameter.set_value(Path(self._line.text().strip()))

    def _browse(self) -> None:
        path = self._ask(self._widget)
        if path:
            self._parameter.set_value(path)

    @override
    def _update(self, observable: Observable) -> None:
        path = self._parameter.get_value()
        self._line.setText("" if path == Path() else str(path))


class Text(ParameterViewController, Observer):
    """A line of text that is updated when an observed object changes."""

    def __init__(self, changes: Observable, say: Callable[[], str]) -> None:
        super().__init__()
        self._say = say
        self._widget = QLabel()
        self._widget.setWordWrap(True)
        self._widget.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        changes.add_observer(self)
        self._update(changes)

    @override
    def get_widget(self) -> QWidget:
        return self._widget

    @override
    def _update(self, observable: Observable) -> None:
        self._widget.setText(self._say())


class FoldedGroup(ParameterViewController):
    """Widgets below a title that shows or hides them; hidden at first."""

    def __init__(self, title: str, contents: QWidget) -> None:
        super().__init__()
        button = QToolButton()
        button.setText(title)
        button.setCheckable(True)
        button.setAutoRaise(True)
        button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        button.setArrowType(Qt.ArrowType.RightArrow)
        contents.setVisible(False)

        def fold(is_open: bool) -> None:
            button.setArrowType(Qt.ArrowType.DownArrow if is_open else Qt.ArrowType.RightArrow)
            contents.setVisible(is_open)

        button.toggled.connect(fold)
        layout = QVBoxLayout()
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(button)
        layout.addWidget(contents)
        self._widget = QWidget()
        self._widget.setLayout(layout)

    @override
    def get_widget(self) -> QWidget:
        return self._widget

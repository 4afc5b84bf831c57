"""The settings panel in the window, made of ptychodus's own widgets."""

import logging
import re
from typing import Any

from ptychodus.api.parameters import Parameter
from ptychodus.controller.parameters import ParameterViewBuilder
from ptychodus.controller.processing import ReconstructorViewControllerFactory
from PyQt5.QtWidgets import QLabel, QWidget

from ptychodus_ext.library import PtychoStreamLibrary
from ptychodus_ext.settings import Setting, SettingsGroup

logger = logging.getLogger("ptychostream.ptychodus")

#: What most runs need, shown first: group and fields.
_ESSENTIAL = (
    ("model", ("backend", "architecture", "gridsize")),
    ("training", ("nepochs", "batch_size", "learning_rate", "probe_trainable")),
    ("inference", ("refine_passes", "model_path")),
    ("data", ("store_path",)),
)

_FILTERS = {"model_path": ("Model", ["PtychoStream models (*.zip)", "All files (*)"])}


class PanelFactory(ReconstructorViewControllerFactory):
    """Makes the panel of each reconstructor of the library."""

    def __init__(self, library: PtychoStreamLibrary, file_dialogs: Any) -> None:
        super().__init__()
        self._library, self._file_dialogs = library, file_dialogs

    @property
    def name(self) -> str:
        """The library's name."""
        return self._library.name

    def create_view_controller(self, reconstructor_name: str) -> QWidget:
        """Make a panel; a label in its place where that fails, since the window must open."""
        try:
            return self._panel()
        except Exception as error:
            logger.exception("the settings panel of PtychoStream can't be shown")
            return QLabel(f"The settings of PtychoStream can't be shown: {error}")

    def _panel(self) -> QWidget:
        builder = ParameterViewBuilder(self._file_dialogs)
        settings = self._library.settings
        groups = {g: {s.field: (s, p) for s, p in getattr(settings, g)} for g, _ in _ESSENTIAL}
        for name, fields in _ESSENTIAL:
            for field in fields:
                setting, parameter = groups[name].pop(field)
                _add(builder, getattr(settings, name), setting, parameter, "PtychoStream")
        for name, rest in groups.items():
            for setting, parameter in rest.values():
                _add(builder, getattr(settings, name), setting, parameter, name.capitalize())
        return builder.build_widget()


def _add(
    builder: ParameterViewBuilder,
    group: SettingsGroup,
    setting: Setting,
    parameter: Parameter[Any],
    title: str,
) -> None:
    """Add the widget that fits a setting."""
    shown: Any = parameter
    label = f"{_spaced(setting.key)}:"
    options: Any = {"tool_tip": _tool_tip(group, setting), "group": title}
    if setting.choices:
        builder.add_combo_box(shown, setting.choices, label, **options)
    elif setting.kind is bool:
        builder.add_check_box(shown, label, **options)
    elif setting.kind is int:
        builder.add_integer_line_edit(shown, label, **options)
    elif setting.kind is float:
        builder.add_decimal_line_edit(shown, label, **options)
    elif setting.field == "store_path":
        builder.add_directory_chooser(shown, label, **options)
    elif setting.field in _FILTERS:
        caption, filters = _FILTERS[setting.field]
        builder.add_file_opener(shown, label, caption=caption, name_filters=filters, **options)
    else:
        builder.add_line_edit(shown, label, **options)


def _tool_tip(group: SettingsGroup, setting: Setting) -> str:
    text = f"{setting.meaning}\n[{group.name}] {setting.key}"
    if setting.is_optional and setting.kind in (int, float):
        text += f"; {setting.unset:g} leaves it unset"
    return text


def _spaced(key: str) -> str:
    """Put spaces between the words of a key.

    Examples
    --------
    >>> _spaced("RealspaceMAEWeight"), _spaced("NumEpochs")
    ('Realspace MAE Weight', 'Num Epochs')
    """
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", key)

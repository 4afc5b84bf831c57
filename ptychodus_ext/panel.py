"""The settings panel in the window: usual settings are open, the others folded."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ptychodus.api.parameters import Parameter
from ptychodus.api.reconstruct import Reconstructor
from ptychodus.controller.parameters import ParameterViewBuilder
from ptychodus.controller.processing import ReconstructorViewControllerFactory
from PyQt5.QtWidgets import QLabel, QWidget
from typing_extensions import override

from ptychodus_ext.labels import LABELS
from ptychodus_ext.library import PtychoStreamLibrary
from ptychodus_ext.network import NetworkReconstructor
from ptychodus_ext.settings import Setting, SettingsGroup
from ptychodus_ext.widgets import FoldedGroup, NumberField, PathField, Text
from ptychodus_ext.words import explained

logger = logging.getLogger("ptychostream.ptychodus")

#: Group of settings, and field.
Field = tuple[str, str]

_SOLVER: Sequence[Field] = (
    ("solver", "passes"),
    ("solver", "minutes"),
    ("solver", "start"),
    ("solver", "probe_from"),
    ("solver", "refine_probe"),
    ("solver", "probe_modes"),
    ("solver", "correct_positions"),
    ("solver", "live_interval"),
    ("inference", "accelerator"),
)
_NETWORK: Sequence[Field] = (
    ("training", "nepochs"),
    ("training", "probe_trainable"),
    ("inference", "refine_passes"),
    ("inference", "model_path"),
    ("model", "architecture"),
    ("model", "gridsize"),
    ("training", "batch_size"),
    ("training", "learning_rate"),
    ("inference", "accelerator"),
)
#: Title and group of settings.
_FOLDED_OF_SOLVER = (("More of the solver", "solver"), ("Data and memory", "data"))
_FOLDED_OF_NETWORK = (
    ("Network", "model"),
    ("Training", "training"),
    ("Reconstruction", "inference"),
    ("Data and memory", "data"),
)


class PanelFactory(ReconstructorViewControllerFactory):
    """Makes the panel of each reconstructor of the library."""

    def __init__(self, library: PtychoStreamLibrary, file_dialogs: Any) -> None:
        super().__init__()
        self._library, self._file_dialogs = library, file_dialogs

    @property
    @override
    def name(self) -> str:
        return self._library.name

    @override
    def create_view_controller(self, reconstructor_name: str) -> QWidget:
        try:
            return self._panel(self._library.find(reconstructor_name))
        except Exception as error:
            # An error here must not keep the window from opening.
            logger.exception("the settings panel of PtychoStream can't be shown")
            return QLabel(f"The settings of PtychoStream can't be shown: {error}")

    def _panel(self, reconstructor: Reconstructor) -> QWidget:
        settings = self._library.settings
        builder = ParameterViewBuilder(self._file_dialogs)
        is_network = isinstance(reconstructor, NetworkReconstructor)
        fields = _NETWORK if is_network else _SOLVER
        for group_name, field in fields:
            self._add(builder, getattr(settings, group_name), field, reconstructor.name)
        if isinstance(reconstructor, NetworkReconstructor):
            changes = self._library.application.model_changes
            used = Text(changes, lambda: reconstructor.model_in_words)
            builder.add_view_controller(used, "Model in use:", group=reconstructor.name)
        for title, name in _FOLDED_OF_NETWORK if is_network else _FOLDED_OF_SOLVER:
            group = getattr(settings, name)
            rest = (setting.field for setting, _ in group)
            folded = [field for field in rest if (name, field) not in fields]
            builder.add_view_controller_to_bottom(FoldedGroup(title, self._fields(group, folded)))
        return builder.build_widget()

    def _fields(self, group: SettingsGroup, fields: Iterable[str]) -> QWidget:
        builder = ParameterViewBuilder(self._file_dialogs)
        for field in fields:
            self._add(builder, group, field, "")
        return builder.build_widget(add_stretch=False)

    def _add(
        self,
        builder: ParameterViewBuilder,
        group: SettingsGroup,
        field: str,
        title: str,
    ) -> None:
        """Add the widget that fits a setting."""
        setting, parameter = group.setting(field), group[field]
        shown: Any = parameter
        label, tool_tip = f"{LABELS[field]}:", _tool_tip(group, setting)
        options: Any = {"tool_tip": tool_tip, "group": title}
        if setting.choices:
            builder.add_combo_box(shown, setting.choices, label, **options)
        elif setting.kind is bool:
            builder.add_check_box(shown, label, **options)
        elif setting.kind in (int, float):
            number = NumberField(setting, parameter, tool_tip)
            builder.add_view_controller(number, label, group=title)
        elif setting.kind is Path:
            builder.add_view_controller(
                self._path_field(setting, parameter, tool_tip), label, group=title
            )
        else:
            builder.add_line_edit(shown, label, **options)

    def _path_field(self, setting: Setting, parameter: Parameter[Path], tool_tip: str) -> PathField:
        dialogs = self._file_dialogs

        def ask_for_model(widget: QWidget) -> Path | None:
            filters = ["PtychoStream models (*.zip)", "All files (*)"]
            path: Path | None
            path, _ = dialogs.get_open_file_path(widget, "Model", filters)
            return path

        def ask_for_folder(widget: QWidget) -> Path | None:
            path: Path | None = dialogs.get_existing_directory_path(widget, "Folder")
            return path

        ask = ask_for_model if setting.field == "model_path" else ask_for_folder
        return PathField(parameter, ask, empty="not set", tool_tip=tool_tip)


def _tool_tip(group: SettingsGroup, setting: Setting) -> str:
    text = explained(setting.field, setting.meaning, is_choice=bool(setting.choices)) + "\n"
    if setting.is_optional and setting.kind in (int, float):
        text += "Leave it empty if it is not to be set.\n"
    text += f"In a settings file: [{group.name}] {setting.key}"
    if setting.is_optional and setting.kind in (int, float):
        text += f" ({setting.unset:g} if it is not set)"
    return text

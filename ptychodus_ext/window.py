"""The page *Processing* of ptychodus's window: curves, training on what is loaded, saving a model.

ptychodus has no slots for these. Its private names are used in this file only; where they
differ, the window works as it would without this file.
"""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ptychodus.api.observer import Observable, Observer
from ptychodus.controller.helpers import connect_triggered_signal
from ptychodus.view.widgets import ExceptionDialog
from typing_extensions import override

from ptychodus_ext.application import Curve
from ptychodus_ext.choose_products import choose_products
from ptychodus_ext.library import PtychoStreamLibrary
from ptychodus_ext.network import NetworkReconstructor
from ptychodus_ext.scratch import ScratchFolder

logger = logging.getLogger("ptychostream.ptychodus")


class Window(Observer):
    """Our parts of the page.

    `train_on_files`: the action of ptychodus's *Train*: ask for a folder, and train on its files.
    """

    def __init__(
        self, controller: Any, library: PtychoStreamLibrary, train_on_files: Callable[[], None]
    ) -> None:
        super().__init__()
        self._controller = controller
        self._api = controller._processing_api
        self._status = controller._status_view
        self._products = controller._product_view_controller.get_widget()
        self._compute = controller._compute_view_controller
        self._algorithm = controller._algorithm_parameter
        self._models: ScratchFolder | None = None
        self._num_models = 0
        menu = controller._actions_view.actions_menu
        self._several_action = menu.addAction("Train on Several Products...")
        self._train_action = menu.addAction("Train on Files...")
        self._save_action = menu.addAction("Save Model...")
        connect_triggered_signal(self._several_action, lambda: self._train_on_several())
        connect_triggered_signal(self._train_action, lambda: train_on_files())
        connect_triggered_signal(self._save_action, lambda: self._save_model())
        self._application = library.application
        self._application.connect_plot(self)
        self._status.text_edit.textChanged.connect(self._show_last_line)
        self._algorithm.add_observer(self)
        self._update(self._algorithm)

    def train(self) -> bool:
        """Train on the chosen product; return False where ptychodus has to train itself."""
        is_remote = (
            self._compute.is_globus_button_checked() or self._compute.is_genesis_button_checked()
        )
        if self._network is None or is_remote:
            return False
        index = self._products.currentIndex()
        if index < 0 or not self._controller._has_dataset_or_warn(index, "train"):
            return True
        self._train_on([index])
        return True

    def _train_on_several(self) -> None:
        repository = self._controller._product_repository
        rows = [row for row, item in enumerate(repository) if item.get_dataset() is not None]
        current = self._products.currentIndex()
        chosen = choose_products(
            self._controller._view,
            [self._products.itemText(row) for row in rows],
            rows.index(current) if current in rows else 0,
        )
        if chosen:
            self._train_on([rows[place] for place in chosen])

    def _train_on(self, rows: Sequence[int]) -> None:
        # The model is not written beside the user's data: the user chooses where to save it.
        self._models = self._models or ScratchFolder()
        self._num_models += 1
        folder = self._models.path / f"model-{self._num_models}"
        folder.mkdir()
        first, *others = rows
        try:
            self._application.train_also_on(
                [self._api.get_reconstruct_input(product_index=row) for row in others]
            )
            self._api.train(folder, folder, product_index=first)
        except Exception as error:
            # As ptychodus does it: no error in an action of its window may end the program.
            logger.error("%s", error)
            ExceptionDialog.show_exception("Train", error)

    def draw(self, title: str, curves: Mapping[str, Curve], *, quantity: str) -> None:
        """Draw curves in the plot of losses."""
        axes = self._status.axes
        axes.clear()
        axes.set_title(title)
        axes.set_xlabel("Epoch")
        axes.set_ylabel(quantity)
        drawn = {name: curve for name, curve in curves.items() if curve}
        for name, curve in drawn.items():
            axes.plot(*zip(*curve, strict=True), ".-", label=name)
        values = [value for curve in drawn.values() for _, value in curve]
        if values and 0 < 10 * min(values) < max(values):
            axes.set_yscale("log")
        axes.xaxis.get_major_locator().set_params(integer=True)
        if drawn:
            axes.legend()
        axes.grid(visible=True)
        self._status.figure_canvas.draw()

    def _show_last_line(self) -> None:
        """Show errors and warnings: the box follows its last line only while that is in view."""
        text = self._status.text_edit
        if re.search(r"\[(ERROR|WARNING)\]", text.document().lastBlock().text()):
            text.verticalScrollBar().setValue(text.verticalScrollBar().maximum())

    @property
    def _network(self) -> NetworkReconstructor | None:
        """The network that is chosen, if one of ours is."""
        chosen = self._algorithm.get_current_reconstructor()
        return chosen if isinstance(chosen, NetworkReconstructor) else None

    def _save_model(self) -> None:
        network = self._network
        if network is None:
            return
        name_filter = network.get_model_file_filter()
        path, _ = self._controller._file_dialog_factory.get_save_file_path(
            self._controller._view,
            "Save Model",
            name_filters=[name_filter],
            selected_name_filter=name_filter,
        )
        if not path:
            return
        try:
            network.save_model(path if path.suffix else path.with_suffix(".zip"))
        except Exception as error:  # as above
            ExceptionDialog.show_exception("Save Model", error)

    @override
    def _update(self, observable: Observable) -> None:
        network = self._network
        for action in (self._several_action, self._train_action, self._save_action):
            action.setVisible(network is not None)
        self._save_action.setEnabled(network is not None and network.is_model_loaded())

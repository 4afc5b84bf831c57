"""Add the library and its settings panel to ptychodus, which has no slot for either.

Two names are replaced by subclasses, in the modules that look them up: `ProcessingCore`, which is
told the libraries, and `ProcessingController`, which is told the panels. Arguments are bound by
name, and a ptychodus that has other names is left as it is, with an error in the log.
"""

import functools
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import logging
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary

from typing_extensions import override

from ptychodus_ext.compatibility import check_parameters, installed_version

logger = logging.getLogger("ptychostream.ptychodus")

_PLUGINS, _MODEL, _CONTROLLER, _DATASETS = (
    "ptychodus.api.plugins",
    "ptychodus.model.core",
    "ptychodus.controller.core",
    "ptychodus.model.diffraction.repository",
)
_MARK = "has_ptychostream"

#: The application's choice of algorithm → the library that was added beside it.
_libraries: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()


def activate(registry: Any = None) -> None:
    """Add the library to every application object that ptychodus creates from now on."""
    installed_version()
    after_import(_MODEL, add_library)
    # PyQt must not be imported before the application does.
    after_import(_CONTROLLER, add_panel)
    if registry is None:
        after_import(_PLUGINS, add_files_later)
    else:
        _add_files(registry)


def add_files_later(module: ModuleType) -> None:
    """Add the file readers after ptychodus has loaded its plugins, where ours is not among them."""
    kind: Any = module.PluginRegistry
    load_plugins = kind.load_plugins
    if hasattr(load_plugins, _MARK):
        return

    def load_all_plugins() -> Any:
        registry = load_plugins()
        names = {plugin.simple_name for plugin in registry.diffraction_file_readers}
        if "PtychoStream_Store" not in names:
            _add_files(registry)
        return registry

    setattr(load_all_plugins, _MARK, True)
    kind.load_plugins = load_all_plugins


def _add_files(registry: Any) -> None:
    try:
        from ptychodus_ext.files import register_files
        from ptychodus_ext.files.store_reader import name_stores

        register_files(registry)
        after_import(_DATASETS, name_stores)
    except Exception:
        # Whatever fails in a plugin, ptychodus itself must still start: so in all of this file.
        logger.exception("the file readers of PtychoStream are NOT available")


def add_library(module: ModuleType) -> None:
    """Replace the name `ProcessingCore` by a subclass that receives one more library."""
    base: Any = module.ProcessingCore
    if hasattr(base, _MARK):
        return
    signature = check_parameters(base, "task_manager", "settings_registry", "algorithm_libraries")

    class ProcessingCore(base):  # type: ignore[misc]
        has_ptychostream = True

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            bound = signature.bind(self, *args, **kwargs)
            library = None
            try:
                from ptychodus_ext.library import PtychoStreamLibrary

                library = PtychoStreamLibrary(bound.arguments["settings_registry"])
            except Exception:
                # ptychodus starts without our library.
                logger.exception("PtychoStream is NOT available: its library can't be made")
            else:
                others: Sequence[Any] = bound.arguments["algorithm_libraries"]
                bound.arguments["algorithm_libraries"] = [*others, library]
            super().__init__(*bound.args[1:], **bound.kwargs)
            if library is not None:
                _libraries[self.algorithm_parameter] = library
                library.connect(self, bound.arguments["task_manager"])

    # Other plugins that bind arguments by name see the names of the original.
    functools.update_wrapper(ProcessingCore.__init__, base.__init__)
    module.ProcessingCore = ProcessingCore  # type: ignore[attr-defined]
    logger.debug("ProcessingCore has the library PtychoStream")


def add_panel(module: ModuleType) -> None:
    """Replace the name `ProcessingController` by a subclass that receives one more panel."""
    base: Any = module.ProcessingController
    if hasattr(base, _MARK):
        return
    signature = check_parameters(
        base, "algorithm_parameter", "file_dialog_factory", "view_controller_factories"
    )

    class ProcessingController(base):  # type: ignore[misc]
        has_ptychostream = True

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            bound = signature.bind(self, *args, **kwargs)
            library = _libraries.get(bound.arguments["algorithm_parameter"])
            if library is not None:
                _add_factory(bound, library)
            super().__init__(*bound.args[1:], **bound.kwargs)
            self._ptychostream = None
            if library is not None:
                self._ptychostream = _connect_window(self, library, super()._train)

        def _train(self) -> None:
            if self._ptychostream is None or not self._ptychostream.train():
                super()._train()

    functools.update_wrapper(ProcessingController.__init__, base.__init__)
    module.ProcessingController = ProcessingController  # type: ignore[attr-defined]


def _add_factory(bound: inspect.BoundArguments, library: Any) -> None:
    try:
        from ptychodus_ext.panel import PanelFactory

        panel = PanelFactory(library, bound.arguments["file_dialog_factory"])
    except Exception:
        # Without a panel, ptychodus shows a label instead, and everything else works.
        logger.exception("the settings panel of PtychoStream can't be shown")
        return
    others = bound.arguments["view_controller_factories"]
    bound.arguments["view_controller_factories"] = [*others, panel]


def _connect_window(controller: Any, library: Any, train_on_files: Callable[[], None]) -> Any:
    try:
        from ptychodus_ext.window import Window

        return Window(controller, library, train_on_files)
    except Exception:
        # The window works without it: Train asks for a folder, and no training curve is drawn.
        logger.exception("PtychoStream can't draw its curves in this window")
        return None


def after_import(name: str, change: Callable[[ModuleType], None]) -> None:
    """Change a module: now if it is imported already, else right after it is."""
    module = sys.modules.get(name)
    if module is not None:
        change(module)
    elif not any(isinstance(f, _AfterImport) and f.name == name for f in sys.meta_path):
        sys.meta_path.insert(0, _AfterImport(name, change))


class _AfterImport(importlib.abc.MetaPathFinder):
    """Finds one module through the other finders, and changes it after its first import."""

    def __init__(self, name: str, change: Callable[[ModuleType], None]) -> None:
        self.name, self._change = name, change

    @override
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self.name:
            return None
        sys.meta_path.remove(self)
        # Through all finders, so that the import hooks of other plugins still work.
        spec = importlib.util.find_spec(fullname)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_change(module: ModuleType) -> None:
            execute(module)
            try:
                self._change(module)
            except Exception:
                # The module itself was imported, and works without us.
                logger.exception("PtychoStream can't be added to '%s'", fullname)

        spec.loader.exec_module = execute_and_change  # type: ignore[method-assign]
        return spec

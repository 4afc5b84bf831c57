"""Change a module right after it has been imported, without importing it."""

import importlib.abc
import importlib.machinery
import importlib.util
import logging
import sys
from collections.abc import Callable, Sequence
from types import ModuleType

from typing_extensions import override

logger = logging.getLogger("ptychostream.ptychodus")


def after_import(name: str, change: Callable[[ModuleType], None]) -> None:
    """Change a module: now if it is imported already, else right after it is."""
    module = sys.modules.get(name)
    if module is not None:
        change(module)
    elif not any(isinstance(f, _AfterImport) and f.name == name for f in sys.meta_path):
        sys.meta_path.insert(0, _AfterImport(name, change))


class _AfterImport(importlib.abc.MetaPathFinder):
    """Finds one module once, as all other finders find it, and changes it once it has run."""

    def __init__(self, name: str, change: Callable[[ModuleType], None]) -> None:
        self.name, self._change = name, change

    @override
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self.name:
            return None
        sys.meta_path.remove(self)
        # All finders are asked, so that the import hooks of other plugins work as without ours.
        spec = importlib.util.find_spec(fullname)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_change(module: ModuleType) -> None:
            execute(module)
            try:
                self._change(module)
            except Exception:
                logger.exception("PtychoStream can't be added to '%s'", fullname)

        spec.loader.exec_module = execute_and_change  # type: ignore[method-assign]
        return spec

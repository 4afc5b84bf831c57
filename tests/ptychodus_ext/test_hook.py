"""What the extension does to an application that it does not know."""

import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import logging
import sys
from types import ModuleType, SimpleNamespace

import pytest
from ptychodus_runs import REPOSITORY

pytest.importorskip("ptychodus", reason="pip install 'ptychostream[ptychodus]'")

from ptychodus_ext import hook
from ptychodus_ext.compatibility import check_parameters
from ptychodus_ext.hook import after_import
from ptychostream.errors import BackendUnavailableError


@pytest.fixture
def plugin():
    """The file that ptychodus imports."""
    path = REPOSITORY / "ptychodus" / "plugins" / "ptychostream.py"
    spec = importlib.util.spec_from_file_location("plugin", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Unknown:
    def __init__(self, settings):
        self.settings = settings


def test_a_class_with_other_arguments_is_refused_by_name():
    with pytest.raises(BackendUnavailableError, match="Unknown of ptychodus .* not task_manager"):
        check_parameters(Unknown, "settings", "task_manager")


def test_an_unknown_application_is_left_as_it_is():
    module = SimpleNamespace(ProcessingCore=Unknown, ProcessingController=Unknown)
    for change in (hook.add_library, hook.add_panel):
        with pytest.raises(BackendUnavailableError):
            change(module)
    assert module.ProcessingCore is module.ProcessingController is Unknown


@pytest.mark.parametrize("error", [BackendUnavailableError("too old"), ValueError("odd")])
def test_a_plugin_that_fails_says_so_and_lets_the_application_go_on(
    plugin, monkeypatch, caplog, error
):
    def fail(_):
        raise error

    monkeypatch.setattr(hook, "activate", fail)
    plugin.register_plugins(None)
    record = caplog.records[-1]
    assert record.levelno == logging.ERROR
    assert str(error) in record.getMessage()
    assert "NOT available" in record.getMessage()


def test_a_plugin_that_is_left_behind_says_which_file_to_delete(plugin, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "ptychodus_ext.hook", None)
    plugin.register_plugins(None)
    assert f"delete '{plugin.__file__}'" in caplog.text


class Core:
    def __init__(self, task_manager, settings_registry, algorithm_libraries):
        self.algorithm_parameter = Parameter()
        self.processing_api = Api()
        self.libraries = algorithm_libraries


class Parameter:
    """The algorithm that is chosen."""

    def get_value(self):
        return "theirs_one"

    def set_value(self, value, *, notify=True):
        pass

    def available_reconstructors(self):
        yield "theirs_one"


class Api:
    """What ptychodus runs."""

    def get_reconstruct_input(self):
        pass

    def reconstruct(self):
        pass

    def train(self):
        pass

    def export_training_data(self):
        pass


def test_a_library_that_fails_leaves_the_others(monkeypatch, caplog):
    module = SimpleNamespace(ProcessingCore=Core)
    hook.add_library(module)
    # No registry: the library can't make its settings.
    core = module.ProcessingCore("tasks", None, ["theirs"])
    assert core.libraries == ["theirs"]
    assert "its library can't be made" in caplog.text


def test_the_library_is_added_once_however_often_it_is_asked_for():
    from ptychodus.api.settings import SettingsRegistry

    module = SimpleNamespace(ProcessingCore=Core)
    hook.add_library(module)
    once = module.ProcessingCore
    hook.add_library(module)
    assert module.ProcessingCore is once
    core = once("tasks", settings_registry=SettingsRegistry(), algorithm_libraries=["theirs"])
    assert [getattr(library, "name", library) for library in core.libraries] == [
        "theirs",
        "PtychoStream",
    ]


def test_a_module_is_changed_right_after_its_import(tmp_path, monkeypatch, caplog):
    (tmp_path / "late_module.py").write_text("value = 1\n")
    (tmp_path / "later_module.py").write_text("value = 1\n")
    monkeypatch.syspath_prepend(tmp_path)

    def change(module: ModuleType):
        module.value = 2

    def fail(_):
        raise ValueError("odd")

    after_import("late_module", change)
    after_import("later_module", fail)
    import late_module
    import later_module

    assert late_module.value == 2
    assert later_module.value == 1
    assert "can't be added to 'later_module'" in caplog.text
    after_import("later_module", change)
    assert later_module.value == 2
    assert not [finder for finder in sys.meta_path if type(finder).__name__ == "_AfterImport"]


def test_other_plugins_see_the_original_arguments():
    module = SimpleNamespace(ProcessingCore=Core)
    hook.add_library(module)
    assert list(inspect.signature(module.ProcessingCore.__init__).parameters) == [
        "self",
        "task_manager",
        "settings_registry",
        "algorithm_libraries",
    ]


def test_import_hooks_of_others_are_asked_too(tmp_path, monkeypatch):
    (tmp_path / "hooked_module.py").write_text("seen = []\n")
    monkeypatch.syspath_prepend(tmp_path)

    class TheirFinder(importlib.abc.MetaPathFinder):
        def find_spec(self, fullname, path, target=None):
            if fullname != "hooked_module":
                return None
            spec = importlib.machinery.PathFinder.find_spec(fullname, path)
            execute = spec.loader.exec_module

            def execute_and_mark(module):
                execute(module)
                module.seen.append("theirs")

            spec.loader.exec_module = execute_and_mark
            return spec

    finder = TheirFinder()
    monkeypatch.setattr(sys, "meta_path", [finder, *sys.meta_path])
    after_import("hooked_module", lambda module: module.seen.append("ours"))
    import hooked_module

    assert hooked_module.seen == ["theirs", "ours"]

"""Nothing is imported or called that only Linux has, without something else in its place."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(
    path
    for folder in ("ptychostream", "ptychodus_ext", "ptychodus")
    for path in (ROOT / folder).rglob("*.py")
)

#: Modules that Windows has not.
MODULES = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}
#: Names in `os` and `signal` that Windows, or macOS, has not.
NAMES = {
    *("fork", "forkpty", "killpg", "setsid", "getpgid", "setpgid", "getuid", "geteuid", "getgid"),
    *("pread", "preadv", "pwrite", "mkfifo", "sysconf", "statvfs", "nice", "uname", "chown"),
    *("sched_getaffinity", "sched_setaffinity", "O_DIRECTORY", "O_CLOEXEC", "O_NOFOLLOW"),
    *("SIGKILL", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGCHLD", "alarm", "pthread_kill"),
    *("posix_fadvise", "posix_fallocate", "sendfile", "memfd_create", "getloadavg"),
}
#: What asks first whether it is there.
GUARDS = (
    "HAS_LOCKS",
    "hasattr(os",
    "os.name",
    "sys.platform",
    "supports_dir_fd",
    "except ImportError",
    "OSError)",
)

#: These are only reached where `Supervisor.start_child` has asked before.
ASKED_BEFORE = {"ptychostream/children/serve.py", "ptychostream/children/supervisor.py"}


def _functions(tree):
    inner = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    return {id(child): node for node in inner for child in ast.walk(node)}


def unguarded(text):
    """Find what is used without being asked for in the same function."""
    tree = ast.parse(text)
    functions, found = _functions(tree), []
    for node in ast.walk(tree):
        wanted = None
        if isinstance(node, ast.Import):
            wanted = next((a.name for a in node.names if a.name in MODULES), None)
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
            wanted = node.module
        elif isinstance(node, ast.Attribute) and node.attr in NAMES:
            is_module = isinstance(node.value, ast.Name) and node.value.id in ("os", "signal")
            wanted = node.attr if is_module else None
        elif isinstance(node, ast.Constant) and str(node.value).startswith("/proc"):
            wanted = node.value
        if wanted is None:
            continue
        around = functions.get(id(node))
        code = "" if around is None else ast.get_source_segment(text, around)
        if not any(guard in code for guard in (*GUARDS, "suppress(ImportError")):
            found.append(f"line {node.lineno}: {wanted}")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_only_linux_has_is_asked_for_first(path):
    if str(path.relative_to(ROOT)) in ASKED_BEFORE:
        return
    assert unguarded(path.read_text()) == []


@pytest.mark.parametrize(
    "text", ["import fcntl", "def f():\n    os.fork()", "signal.SIGKILL", "open('/proc/meminfo')"]
)
def test_an_unguarded_use_is_found(text):
    assert len(unguarded(text)) == 1


POOR = """
import os, signal, sys, tempfile
import h5py, jsonargparse, numcodecs.blosc, pydantic, scipy.ndimage, tensordict
import torch, zarr, fsspec.implementations.local, fsspec.implementations.zip
for name in {names!r}:
    for module in (os, signal):
        if hasattr(module, name):
            delattr(module, name)
os.supports_dir_fd.clear()
for name in {modules!r}:
    sys.modules[name] = None
import ptychostream as ps
from ptychostream.children import ChildError, ChildRun
from ptychostream.cli.main import main
os.chdir(sys.argv[1])
words = "--num_positions=24 --N=16 --step=2.5 -q".split()
assert main(["simulate", "a.npz", *words]) == 0
assert main("build a.npz s.zarr -q --growing".split()) == 0
assert main("build a.npz s.zarr -q --overwrite --growing".split()) == 0
assert main(["simulate", "b.npz", "--seed=5", *words]) == 0
assert main("append b.npz s.zarr --experiment new -q".split()) == 0
assert main("compact s.zarr -q".split()) == 0
store = ps.open_group_store("s.zarr")
assert store.num_patterns == 48
loader = ps.make_loader(store, store.groups(1), memory_budget="32 KiB")
assert sum(map(len, loader)) == 48
assert ps.reconstruct(store, experiment=0, passes=1, checks_fit=False).object.any()
try:
    ChildRun("ptychostream.children.serve:echo", {{}}).__enter__()
except ChildError as error:
    assert "needs Linux or macOS" in str(error)
else:
    raise AssertionError("no child can live here")
print(sorted(os.listdir(".")))
"""


def test_a_system_without_these_names_goes_from_a_scan_to_an_object(tmp_path):
    run = subprocess.run(
        [sys.executable, "-c", POOR.format(names=sorted(NAMES), modules=sorted(MODULES)), tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "['a.npz', 'b.npz', 's.zarr']"
    # What takes the place of locks is said once for each command.
    assert run.stderr.count("can't be locked here") == 1

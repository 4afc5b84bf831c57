"""Run the code blocks of a page of the documentation, and keep the pictures they draw.

python examples/run_page.py docs/tutorial.md --pictures docs/images
"""

import argparse
import os
import re
import shlex
import shutil
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from ptychostream.cli.main import main as ptychostream

#: An optional reason not to run it, then a fenced block.
_BLOCK = re.compile(
    r"(?:<!-- not run: (?P<reason>.+?) -->\n)?^```(?P<language>[^\n]*)\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
_SHOWN = {"text", "yaml", "toml", "bibtex", "mermaid"}


class Block(NamedTuple):
    """A fenced block, in the order of the page.

    Attributes
    ----------
    language : str
        `python`, `sh`, or one of those that are only shown.
    text : str
        What stands in it.
    reason : str or None
        Why it is not run, where the page says so.
    """

    language: str
    text: str
    reason: str | None


def blocks(page):
    found = [
        Block(match["language"].strip(), match["text"], match["reason"])
        for match in _BLOCK.finditer(page)
    ]
    for block in found:
        if block.reason is None and block.language not in {"python", "sh", *_SHOWN}:
            raise ValueError(f"a block of language {block.language!r} neither runs nor says why")
    return [block for block in found if block.language not in _SHOWN]


def run_blocks(page, folder):
    """Run a page's blocks in a folder, one after the other, with the same names; return them."""
    names = {"__name__": "__page__"}
    runnable = [block for block in blocks(page) if block.reason is None]
    for block in runnable:
        if block.language == "python":
            exec(compile(block.text, "<page>", "exec"), names)
            continue
        for line in block.text.strip().splitlines():
            program, *words = shlex.split(line)
            if program != "ptychostream" or ptychostream(words) != 0:
                raise RuntimeError(f"failed: {line}")
    return runnable


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path)
    parser.add_argument("--pictures", type=Path, help="folder that keeps PNG files")
    options = parser.parse_args()
    page, keep = options.page.read_text(), options.pictures and options.pictures.resolve()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        home = Path.cwd()
        os.chdir(folder)
        try:
            run_blocks(page, Path(folder))
        finally:
            os.chdir(home)
        for picture in Path(folder).glob("*.png"):
            if keep is not None:
                shutil.copy(picture, keep)
    print(f"{options.page} ran in {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()

"""Links lead somewhere: files that exist, and pages that answer, where there is a network."""

import re
import urllib.error
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES += sorted((ROOT / "docs").rglob("*.md"))
LINK = re.compile(r"\]\(([^)\s]+)\)|<img [^>]*src=\"([^\"]+)\"")
FENCED = re.compile(r"^```.*?^```", re.M | re.S)

#: What a server answers where a page is gone. Others may be its way with programs.
GONE = {404, 410}


def links_of(page):
    text = FENCED.sub("", page.read_text())
    return [target or image for target, image in LINK.findall(text)]


EXTERNAL = sorted(
    {link for page in PAGES for link in links_of(page) if re.match(r"https?://", link)}
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_to_files_lead_to_files(page):
    for link in links_of(page):
        target = link.partition("#")[0]
        if target and "://" not in link:
            assert (page.parent / target).exists(), link


def test_links_are_found():
    assert "docs/images/siemens-star.png" in links_of(ROOT / "README.md")
    assert "https://pty-chi.readthedocs.io" in EXTERNAL


@pytest.mark.parametrize("address", EXTERNAL)
def test_pages_elsewhere_answer(address):
    request = urllib.request.Request(address, headers={"User-Agent": "Mozilla/5.0"})
    try:
        with urllib.request.urlopen(request, timeout=10):
            pass
    except urllib.error.HTTPError as error:
        assert error.code not in GONE, address
    except OSError as error:
        pytest.skip(f"'{address}' can't be reached from here: {error}")

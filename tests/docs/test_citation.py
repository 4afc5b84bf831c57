"""CITATION.cff says what the README and the package say."""

from pathlib import Path

import yaml

import ptychostream as ps

ROOT = Path(__file__).parents[2]


def test_the_citation_is_that_of_this_version_and_of_the_readme():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == ps.__version__
    assert citation["license"] == "BSD-3-Clause"
    method, *further = citation["references"]
    readme = (ROOT / "README.md").read_text()
    assert f"doi:{method['doi']}" in readme
    assert f"Sci. Rep. {method['volume']}, {method['start']} ({method['year']})" in readme
    assert further[0]["url"] in readme
    for reference in citation["references"]:
        assert reference["title"]
        assert all(
            author.keys() == {"family-names", "given-names"} for author in reference["authors"]
        )

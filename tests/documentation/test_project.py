"""What is written in several places agrees: addresses, version, citation, the list of examples."""

from __future__ import annotations

import importlib.util
import re
import sys

import pytest

from tests.architecture.repository import ROOT, project, repository_files
from tests.docker.recipes import schema_errors
from tests.documentation.pages import pages

PROJECT = project()
REPOSITORY = PROJECT["urls"]["Repository"]
CITATION = (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def field(name: str) -> str:
    """A top-level field of CITATION.cff, without a parser of YAML."""
    found = re.search(rf"^{name}: (.+)$", CITATION, re.MULTILINE)
    assert found, f"CITATION.cff has no {name}"
    return found[1].strip("\"'")


def test_citation_agrees_with_the_project():
    assert field("version") == PROJECT["version"]
    assert field("license") == PROJECT["license"]
    assert field("repository-code") == REPOSITORY
    assert f"name: {PROJECT['authors'][0]['name']}" in CITATION


def test_citation_follows_its_schema(tmp_path):
    assert schema_errors("citation-file-format", ROOT / "CITATION.cff") == ""
    (tmp_path / "CITATION.cff").write_text(CITATION.replace("title:", "titel:"))
    assert "titel" in schema_errors("citation-file-format", tmp_path / "CITATION.cff")


def addresses_in(text: str) -> set[str]:
    """Repositories at GitHub of this project's name, and Colab's form of them."""
    found = re.findall(
        r"(?:github\.com|colab\.research\.google\.com/github)/([\w.-]+/gpugrad)\b", text
    )
    return set(found)


@pytest.mark.parametrize("name", ["README.md", "CITATION.cff", "docs", ".ci", "examples"])
def test_address_of_the_repository_is_the_one_of_pyproject(name):
    expected = REPOSITORY.removeprefix("https://github.com/")
    for path in repository_files():
        if path.parts[0] == name and path.suffix in (
            ".md",
            ".cff",
            ".yml",
            ".ipynb",
            ".py",
            ".toml",
        ):
            text = (ROOT / path).read_text(encoding="utf-8")
            assert addresses_in(text) <= {expected}, path


def test_addresses_are_recognised():
    colab = (
        "https://colab.research.google.com/github/someone/gpugrad/blob/main/examples/colab.ipynb"
    )
    assert addresses_in(f"{REPOSITORY}/issues and {colab}") == {
        REPOSITORY.removeprefix("https://github.com/"), "someone/gpugrad",
    }  # fmt: skip


def test_site_is_built_without_addresses_of_its_own():
    """They come from pyproject.toml through mkdocs_hooks.py; no font, no script from elsewhere."""
    assert "://" not in (ROOT / ".ci" / "mkdocs.yml").read_text(encoding="utf-8")


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / ".ci" / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    own = [p.relative_to(ROOT / "docs").as_posix() for p in (ROOT / "docs").rglob("*.md")]
    assert [
        page for page in own if not re.search(rf"[ :-] {re.escape(page)}$", navigation, re.M)
    ] == []


def test_every_example_is_on_the_page_of_recipes():
    page = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    examples = [p for p in repository_files() if p.parts[0] == "examples" and len(p.parts) == 2]
    kinds = (".py", ".toml", ".ipynb")
    assert [p.name for p in examples if p.suffix in kinds and f"(../{p})" not in page] == []


def test_every_included_file_exists():
    for page in pages():
        text = page.read_text(encoding="utf-8")
        for path, heading in re.findall(r"^<!-- include: ([^,\s]+)(?:, (.+?))? -->$", text, re.M):
            included = (page.parent / path).read_text(encoding="utf-8")
            assert not heading or f"\n## {heading}\n" in included, f"{page}: {path}, {heading}"
            assert f"({path})" in text, f"{page} includes {path} without a link beside it"


def hooks():
    for package in ("mkdocs", "latex2mathml"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed (pip install {package})")
    name = "mkdocs_hooks"
    specification = importlib.util.spec_from_file_location(name, ROOT / ".ci" / f"{name}.py")
    module = sys.modules[name] = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_formulas_become_mathml():
    made = hooks().mathml(r"Z = \sum_s e^{-E(s)}, \quad \log Z", display=True)
    assert made.startswith("<math") and 'display="block"' in made
    assert "<mi>log</mi><mspace" in made and "\\" not in made


@pytest.mark.parametrize("tex", [r"\unknown x", r"\Big\langle x", r"\left( x", "a & b"])
def test_formulas_that_cannot_be_shown_are_refused(tex):
    module = hooks()
    with pytest.raises(ValueError, match="formula"):
        module.mathml(tex, display=False)


def test_links_between_pages_follow_files_that_became_pages():
    links = hooks()._links
    assert links("[a](../kernels/README.md#x)", "docs/a.md", "a.md") == "[a](kernels.md#x)"
    assert links("[`b`](docs/tap.md)", "README.md", "index.md") == "[`b`](tap.md)"
    code = links("[c](examples/tap_rbm.py)", "README.md", "index.md")
    assert code == f"[c]({REPOSITORY}/blob/main/examples/tap_rbm.py)"
    untouched = "`[d](no/file)` [e](https://example.org)\n```\n[f](no/file)\n```\n"
    assert links(untouched, "README.md", "index.md") == untouched

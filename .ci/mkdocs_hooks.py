"""What MkDocs does beyond its own when `make docs` builds the site.

Files of the repository become pages (PAGES), so that nothing is written twice; links that leave
docs/ follow them there, or lead to the file in the repository. A link to a file that does not exist
is a warning, which stops a strict build. A page may include a section of another file, or a file as
code, by a comment (_INCLUDE); whoever reads the plain file follows the link beside it. Formulas
become MathML here, so that no page loads a script for them. Addresses and the version come from
pyproject.toml.
"""

from __future__ import annotations

import html
import logging
import posixpath
import re
import tomllib
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
REPOSITORY = PROJECT["urls"]["Repository"]
log = logging.getLogger("mkdocs.hooks.gpugrad")

# file of the repository -> page of the site
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "docker/README.md": "containers.md",
    "kernels/README.md": "kernels.md",
    "tests/bench/RESULTS.md": "measured.md",
}

# a link, whose text may hold code; code, so that no link is looked for in it
_LINK = re.compile(
    r"^(?P<fence>`{3,}|~{3,}).*?^(?P=fence)[^\n]*$"
    r"|(?P<text>(?<!\\)!?\[(?:[^\[\]]|\[[^\[\]]*\])*\])\((?P<target>[^()\s]+)\)"
    r"|(?P<ticks>`+)(?!`).+?(?<!`)(?P=ticks)(?!`)",
    re.DOTALL | re.MULTILINE,
)
_FAR_IMAGE = re.compile(r"!\[([^\]]*)\]\(https?:[^)]*\)")
_FETCHED = re.compile(
    r"<(?:script|img|iframe|link(?= [^>]*stylesheet))[^>]*(?:src|href)=\"?https?:[^>]*>"
)
_FORMULA = re.compile(
    r'<(?P<tag>span|div) class="arithmatex">(?:\\\(|\\\[)(?P<tex>.*?)(?:\\\)|\\\])</(?P=tag)>', re.S
)
# <!-- include: ../examples/a.toml --> or <!-- include: ../a.md, the heading of a section -->
_INCLUDE = re.compile(r"^<!-- include: ([^,\s]+)(?:, (.+?))? -->$", re.MULTILINE)
# ::: module, and the names that it is asked for
_SHOWN = re.compile(r"^::: ([\w.]+)\n(?: {4}.*\n)*? {4} +members: \[([^\]]*)\]", re.MULTILINE)
_CELL = re.compile(r"<td.*?</td>", re.DOTALL)
# what latex2mathml leaves of a command or an alignment that it does not know
_NOT_UNDERSTOOD = re.compile(r"<m[a-z]+[^>]*>(?:\\[^<]*|&|&amp;)</m[a-z]+>")
_THIN = '<mspace width="0.167em" />'
_NAMES = "cosh|cos|exp|lim|ln|log|max|min|sinh|sin|sup|tanh|tan"


def on_config(config: Any) -> Any:
    """Name, addresses and version, all from pyproject.toml."""
    config.site_description = PROJECT["description"]
    config.site_url = PROJECT["urls"].get("Documentation")
    about = f"gpugrad {PROJECT['version']}, {PROJECT['license']} licence."
    config.copyright = f'{about} <a href="{REPOSITORY}">Source</a>'
    return config


def on_files(files: Any, config: Any) -> Any:
    """The pages that lie elsewhere in the repository."""
    for name, page in PAGES.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """The page with what it includes, and with links that hold on the site."""
    uri = page.file.src_uri
    origin = next((name for name, target in PAGES.items() if target == uri), f"docs/{uri}")
    parts = _INCLUDE.split(markdown)  # text, path, heading, text, path, heading, ...
    made = [_links(parts[0], origin, uri)]
    for path, heading, text in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        found = posixpath.normpath(posixpath.join(posixpath.dirname(origin), path))
        made += [_links(included(found, heading), found, uri), _links(text, origin, uri)]
    return "".join(made)


def included(path: str, heading: str | None) -> str:
    """A file of the repository as Markdown: a section of a page, or a whole file as code."""
    try:
        text = (ROOT / path).read_text(encoding="utf-8")
    except OSError as error:
        log.warning("include: %s", error)
        return ""
    suffix = Path(path).suffix
    if suffix != ".md":
        return f"```{suffix[1:]}\n{text.strip()}\n```"
    section = re.search(rf"^## {re.escape(heading or '')}\n(.*?)(?=^## |\Z)", text, re.S | re.M)
    if section is None:
        log.warning("include: %s has no section %r", path, heading)
        return ""
    return section[1].strip()


def _links(markdown: str, origin: str, uri: str) -> str:
    """Links to files of the repository lead to their page, or to the file in the repository."""

    def link(match: re.Match[str]) -> str:
        text, target = match["text"], match["target"]
        if target is None or re.match(r"[a-z][a-z+.-]*:|#", target):
            return match[0]
        path, mark, fragment = target.partition("#")
        found = posixpath.normpath(posixpath.join(posixpath.dirname(origin), path))
        if not (ROOT / found).exists():
            log.warning("%s: no file %s for the link to %r", origin, found, target)
            return match[0]
        if found in PAGES or found.startswith("docs/"):
            inside = PAGES.get(found, found.removeprefix("docs/"))
            to = posixpath.relpath(inside, posixpath.dirname(uri) or ".")
            return f"{text}({to}{mark}{fragment})"
        kind = "tree" if (ROOT / found).is_dir() else "blob"
        return f"{text}({REPOSITORY}/{kind}/main/{found}{mark}{fragment})"

    # an image from another host, such as a badge, leaves its text
    return _LINK.sub(link, _FAR_IMAGE.sub(r"\1", markdown))


def on_page_content(content: str, page: Any, config: Any, files: Any) -> str:
    """Formulas as MathML; one that the converter does not understand stops a strict build.

    So does a name that a page of the API asks for and that is not there.
    """

    def formula(match: re.Match[str]) -> str:
        try:
            return mathml(html.unescape(match["tex"]), match["tag"] == "div")
        except ValueError as error:
            log.warning("%s: %s", page.file.src_uri, error)
            return match[0]

    for module, members in _SHOWN.findall(page.markdown or ""):
        for name in (part.strip() for part in members.split(",")):
            if name and f'id="{module}.{name}"' not in content:
                log.warning("%s: %s.%s is not shown", page.file.src_uri, module, name)
    return _CELL.sub(_breakable, _FORMULA.sub(formula, content))


def _breakable(cell: re.Match[str]) -> str:
    """Names in a narrow column are broken after a dot, a slash or an underscore, nowhere else."""
    return re.sub(
        r"<code>([^<]*)</code>",
        lambda code: f"<code>{re.sub(r'(?<=[./_=(])(?=[^ ])', '<wbr>', code[1])}</code>",
        cell[0],
    )


def on_post_page(output: str, page: Any, config: Any) -> str:
    """A page that would fetch something from another host stops a strict build."""
    for element in _FETCHED.findall(output):
        log.warning("%s fetches from elsewhere: %s", page.file.src_uri, element)
    return output


def mathml(tex: str, display: bool) -> str:
    """A formula in LaTeX as a MathML element.

    Raises
    ------
    ValueError
        latex2mathml does not know one of its commands.
    """
    try:
        made = convert(
            tex.strip().replace("{aligned}", "{align*}"), display="block" if display else "inline"
        )
    except Exception as error:  # it raises classes of its own, without a common parent
        raise ValueError(f"formula {tex!r}: {type(error).__name__} {error}") from error
    if unknown := _NOT_UNDERSTOOD.search(made):
        raise ValueError(f"formula {tex!r}: latex2mathml does not know {unknown[0]}")
    # functions' names as letters: as operators they would have wide spaces on both sides
    made = re.sub(rf"<mo>({_NAMES})</mo>", r"<mi>\1</mi>", made)
    # browsers read the style, not the attribute
    made = re.sub(r'columnalign="(\w+)"', r'style="text-align: \1"', made)
    # thin spaces around a function's name, but for those beside parentheses and operators
    made = re.sub(
        rf'(<mi>(?:{_NAMES})</mi>)(?!<mo stretchy="false">&#x00028;|</m|<mrow><mo stretchy="true")',
        rf"\1{_THIN}",
        made,
    )
    made = re.sub(
        rf"((?:</(?:mi|mn|mfrac|msub|msup|msubsup)>|&#x00029;</mo>))(<mi>(?:{_NAMES})</mi>)",
        rf"\1{_THIN}\2",
        made,
    )
    # an upright single letter (\mathrm)
    return made.replace("<mi>&#x00064;</mi>", '<mi mathvariant="normal">&#x00064;</mi>')

"""MkDocs' hook: pages of the repository outside of docs/ join the site, and links lead where a reader of it can follow.

Pages are written so that their links work in a checkout. What they link to and the site does not hold, source code for
instance, is a link to the repository where mkdocs.yml names one (`repo_url`), else plain text.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
JOINING = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "reporting.md",
    "worker/model/default/README.md": "default-bundle.md",
    "deploy/helm/winnow/README.md": "chart.md",
    "examples/README.md": "examples/index.md",
    **{f"examples/{page.name}": f"examples/{page.name}" for page in ROOT.glob("examples/[!R]*.md")},
}
"""Pages from outside of docs/, by their place in the site."""
_LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^]\[]*(?:\[[^]]*\])?[^]\[]*)\]\((?P<target>[^)\s]+)\)")
_CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.M | re.S)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds what joins."""
    for source, place in JOINING.items():
        text = (ROOT / source).read_text("utf-8")
        files.append(File.generated(config, place, content=_relinked(text, source, place, config.repo_url)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Links of the pages of docs/; the others have been seen to."""
    place = page.file.src_uri
    return markdown if place in JOINING.values() else _relinked(markdown, f"docs/{place}", place, config.repo_url)


def _relinked(text: str, source: str, place: str, repository: str | None) -> str:
    """The text of a file of the repository with its links as the page at `place` needs them."""

    def relinked(found: re.Match[str]) -> str:
        target, hash_, anchor = found["target"].partition("#")
        if not target or re.match(r"[a-z]+:", target):
            return found[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if not (ROOT / path).exists():
            return found[0]  # MkDocs says so
        if there := _place(path):
            relative = posixpath.relpath(there, posixpath.dirname(place) or ".")
            return f"{found['image']}[{found['text']}]({relative}{hash_}{anchor})"
        return f"[{found['text']}]({repository.rstrip('/')}/blob/HEAD/{path})" if repository else found["text"]

    parts, end = [], 0
    for code in _CODE.finditer(text):
        if "](" in code[0] or code[0].startswith("```"):
            parts += [_LINK.sub(relinked, text[end : code.start()]), code[0]]
            end = code.end()
    return "".join([*parts, _LINK.sub(relinked, text[end:])])


def _place(path: str) -> str | None:
    """Where a file of the repository is in the site."""
    if path in JOINING:
        return JOINING[path]
    if path == "examples":
        return JOINING["examples/README.md"]
    inside = path.removeprefix("docs/")
    return inside if inside != path and not path.endswith(".py") and (ROOT / path).is_file() else None

"""The site: `make site` builds docs/ as it is into .turnkeeper/site. Nothing is fetched while it is read (0098)."""

from __future__ import annotations

import tomllib
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

project = "Turnkeeper"
release = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
extensions = ["myst_parser"]
# The source is the repository, so that links to what stands outside of docs/ lead somewhere.
include_patterns = ["docs/**", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "agents/README.md"]
exclude_patterns = [".*", "**/node_modules", "node_modules", "docs/site", "cdk.out"]
root_doc = "docs/index"
html_additional_pages = {"index": "to-docs.html"}
templates_path = ["templates"]

# GitHub's names of headings, so that one link works there and here.
myst_heading_anchors = 4
myst_enable_extensions = ["strikethrough"]
# JSON lines, and JSON with `...` in it, are shown as JSON.
suppress_warnings = ["misc.highlighting_failure"]
highlight_language = "text"

html_theme = "furo"
html_title = f"Turnkeeper {release}"
html_static_path = ["static", "node_modules/@mermaid-js/tiny/dist"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False


class Diagrams(SphinxPostTransform):
    """A fenced `mermaid` block is drawn in the reader's browser, by the copy that the site itself holds."""

    default_priority = 100
    formats = ("html",)

    def run(self, **_: Any) -> None:
        for block in list(self.document.findall(nodes.literal_block)):
            if block.get("language") == "mermaid":
                drawn = f'<pre class="mermaid">{escape(block.astext())}</pre>'
                block.replace_self(nodes.raw("", drawn, format="html"))


def _draw(app: Sphinx, _page: str, _template: str, _context: Any, doctree: nodes.document | None) -> None:
    """Only pages with a diagram load what draws it, which is large."""
    if doctree is not None and any('class="mermaid"' in raw.astext() for raw in doctree.findall(nodes.raw)):
        app.add_js_file("mermaid.tiny.js")
        app.add_js_file("diagrams.js")


def setup(app: Sphinx) -> None:
    app.add_post_transform(Diagrams)
    app.connect("html-page-context", _draw)

"""The site of the documentation: the repository's own Markdown, and a reference from docstrings.

The source folder is the repository, so that links between pages are the same files here and on
GitHub. Nothing is fetched from the network. ``make docs`` builds it.
"""

import shutil
import sys
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "src"))

from normlab import __version__  # noqa: E402

project = "normlab"
author = "The normlab developers"
version = release = __version__
root_doc = "README"
include_patterns = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/**.md"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
myst_heading_anchors = 4
smartquotes = False  # --seeds is an option, not a dash
highlight_language = "none"  # what a fence does not say is not guessed
myst_enable_extensions = ["colon_fence"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
napoleon_attr_annotations = False  # types are in the signature
napoleon_custom_sections = [("Shapes", "notes_style")]
python_use_unqualified_type_names = True
add_module_names = False

html_theme = "furo"
html_title = f"normlab {__version__}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False

PAGES = (
    (
        "Guide",
        [
            "docs/experiment",
            "docs/data",
            "docs/own-layer",
            "docs/your-network",
            "docs/library",
            "docs/recalibrate-freeze-fold",
            "docs/inspect-and-explain",
            "docs/conversion",
            "docs/statistics",
            "docs/data-checks",
            "docs/many-machines",
            "docs/several-processes",
        ],
    ),
    ("Reference", ["docs/norms", "docs/settings", "docs/reliability", "docs/threats", "docs/api"]),
    ("Measured", ["docs/results", "docs/results/birds", "docs/performance"]),
    ("Project", ["docs/architecture", "CONTRIBUTING", "CHANGELOG"]),
)
"""The site's contents. GitHub does not know the directive, so the README does not contain it."""


def _with_contents(app: Sphinx, page: str, source: list[str]) -> None:
    if page == root_doc:
        for title, names in PAGES:
            entries = "\n".join(f"/{name}" for name in names)
            source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {title}\n\n{entries}\n```\n"


def _front_page(app: Sphinx, error: Exception | None) -> None:
    """A web server answers with index.html."""
    if error is None:
        shutil.copyfile(Path(app.outdir) / f"{root_doc}.html", Path(app.outdir) / "index.html")


def setup(app: Sphinx) -> None:
    app.connect("source-read", _with_contents)
    app.connect("build-finished", _front_page)

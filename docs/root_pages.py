"""MkDocs hook: CONTRIBUTING and CHANGELOG lie on top of the repository and are pages of the site."""

from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGES = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}
LINKS = PAGES | {"security.md": "SECURITY.md"}  # of which the site has more than the file on top


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Put the file on top in place of the page, with links as they are inside docs/."""
    if page.file.src_uri not in PAGES:
        return markdown
    text = (ROOT / PAGES[page.file.src_uri]).read_text().replace("](docs/", "](")
    for inside, on_top in LINKS.items():
        text = text.replace(f"]({on_top})", f"]({inside})")
    return text

"""Product feeds: Google Merchant's XML, RSS 2.0 or Atom, as a table of text.

A column is named as its element without the namespace: id, title, price, availability, product_type. Of an element that
is there twice the first counts, and Google's (g:title) before the feed's own (title). What lies deeper has its path as
its name: shipping.price. Entities that a file declares are refused: they may grow without bound or name other files.
"""

from collections.abc import Iterator
from pathlib import Path
from xml.parsers import expat

import polars as pl

from features.sources.parsing.text_files import containers

GOOGLE = "http://base.google.com/ns/1.0"
ROWS = ("item", "entry")  # of RSS and of Atom
PIECE = 1 << 20  # bytes read at once
DEEPEST = 8  # elements in each other within a row
_SPACE = "\x1f"  # between a namespace and a name


class _Feed:
    """Collects rows from the parser's calls."""

    def __init__(self) -> None:
        self.rows: list[dict[str, str]] = []
        self._row: dict[str, str] | None = None
        self._google: set[str] = set()
        self._path: list[str] = []
        self._text: list[str] = []

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        name = tag.rpartition(_SPACE)[2]
        if self._row is None:
            if name in ROWS:
                self._row, self._google = {}, set()
            return
        if len(self._path) == DEEPEST:
            raise ValueError(f"elements lie more than {DEEPEST} deep in a product")
        self._path.append(name)
        self._text = [attributes["href"]] if "href" in attributes else []

    def text(self, data: str) -> None:
        if self._path:
            self._text.append(data)

    def end(self, tag: str) -> None:
        if self._row is None:
            return
        space = tag.rpartition(_SPACE)[0]
        if not self._path:  # the row's own end
            self.rows.append(self._row)
            self._row = None
            return
        column, value = ".".join(self._path), "".join(self._text).strip()
        self._path.pop()
        self._text = []
        google = space == GOOGLE
        if value and (column not in self._row or (google and column not in self._google)):
            self._row[column] = value
            if google:
                self._google.add(column)


def _refuse(*_: object) -> None:
    raise ValueError("it declares entities, which are not read: a product feed has none")


def _read(path: Path, encoding: str | None) -> Iterator[list[dict[str, str]]]:
    feed = _Feed()
    parser = expat.ParserCreate(encoding, _SPACE)
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = feed.start, feed.end
    parser.CharacterDataHandler = feed.text
    parser.EntityDeclHandler = _refuse
    try:
        with containers.open_bytes(path) as (file, _):
            while piece := file.read(PIECE):
                parser.Parse(piece, False)
                yield feed.rows
                feed.rows = []
            parser.Parse(b"", True)
    except expat.ExpatError as error:
        raise ValueError(f"line {error.lineno:,}: {expat.ErrorString(error.code)}") from error
    yield feed.rows


def read_columns(path: Path, encoding: str | None = None) -> list[str]:
    """Read the names of all columns, in order of appearance. Raises `ValueError` where it is no product feed."""
    names = dict[str, None]()
    for rows in _read(path, encoding):
        for row in rows:
            names |= dict.fromkeys(row)
    if not names:
        raise ValueError("it has no <item> of RSS and no <entry> of Atom with anything in it: it is no product feed")
    return list(names)


def read_batches(path: Path, encoding: str | None = None) -> Iterator[pl.DataFrame]:
    """Yield the products as tables of text with all columns of the feed; a missing element is null."""
    schema = dict.fromkeys(read_columns(path, encoding), pl.String())
    for rows in _read(path, encoding):
        if rows:
            yield pl.DataFrame(rows, schema=schema, orient="row")

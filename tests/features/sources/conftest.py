import zipfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from xml.sax.saxutils import escape

import polars as pl
import pytest

Sheets = dict[str, list[list[object]]]
MAIN = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
REL = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"
TYPES, SHEET = "application/vnd", "openxmlformats-officedocument.spreadsheetml"

CONTENT_TYPES = (
    f'<Types xmlns="{PACKAGE}/content-types"><Default Extension="xml" ContentType="application/xml"/>'
    f'<Default Extension="rels" ContentType="{TYPES}.openxmlformats-package.relationships+xml"/>'
    f'<Override PartName="/xl/workbook.xml" ContentType="{TYPES}.{SHEET}.sheet.main+xml"/></Types>'
)
FORMATS = '<cellXfs count="2"><xf numFmtId="0"/><xf numFmtId="22"/></cellXfs>'  # plain, date and time


def _links(links: list[tuple[str, str, str]]) -> str:
    body = "".join(f'<Relationship Id="{i}" Type="{REL}/{kind}" Target="{to}"/>' for i, kind, to in links)
    return f'<Relationships xmlns="{PACKAGE}/relationships">{body}</Relationships>'


def _cell(value: object) -> str:
    if value is None:
        return "<c/>"
    if isinstance(value, datetime):  # days since Excel's epoch, in the style that shows a date
        days = (value - datetime(1899, 12, 30)).total_seconds() / 86_400
        return f'<c s="1"><v>{days!r}</v></c>'
    if isinstance(value, int | float):
        return f"<c><v>{value!r}</v></c>"
    return f'<c t="inlineStr"><is><t xml:space="preserve">{escape(str(value))}</t></is></c>'


@pytest.fixture
def write_xlsx() -> Callable[[Path, Sheets], Path]:
    """Writes the least workbook that is one: numbers, texts and dates in named sheets."""

    def write(path: Path, sheets: Sheets) -> Path:
        n = range(1, len(sheets) + 1)
        names = "".join(
            f'<sheet name="{escape(s)}" sheetId="{i}" r:id="r{i}"/>' for i, s in zip(n, sheets, strict=True)
        )
        with zipfile.ZipFile(path, "w") as z:
            z.writestr("[Content_Types].xml", CONTENT_TYPES)
            z.writestr("_rels/.rels", _links([("r1", "officeDocument", "xl/workbook.xml")]))
            z.writestr("xl/workbook.xml", f'<workbook {MAIN} xmlns:r="{REL}"><sheets>{names}</sheets></workbook>')
            parts = [(f"r{i}", "worksheet", f"worksheets/s{i}.xml") for i in n]
            z.writestr("xl/_rels/workbook.xml.rels", _links([*parts, ("st", "styles", "styles.xml")]))
            z.writestr("xl/styles.xml", f"<styleSheet {MAIN}>{FORMATS}</styleSheet>")
            for i, rows in zip(n, sheets.values(), strict=True):
                body = "".join(f"<row>{''.join(map(_cell, row))}</row>" for row in rows)
                z.writestr(f"xl/worksheets/s{i}.xml", f"<worksheet {MAIN}><sheetData>{body}</sheetData></worksheet>")
        return path

    return write


@pytest.fixture
def write_table() -> Callable[[Path, pl.DataFrame], Path]:
    """Writes a table in the format its name ends with."""

    def write(path: Path, table: pl.DataFrame) -> Path:
        writers = {".csv": table.write_csv, ".jsonl": table.write_ndjson, ".parquet": table.write_parquet}
        writers[path.suffix](path)
        return path

    return write

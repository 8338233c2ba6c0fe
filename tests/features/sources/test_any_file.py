"""Files as shops export them: rows read are rows accounted for, and the same content gives the same log."""

import gzip
import json
from pathlib import Path

import polars as pl
import pytest

from features.common.errors import InputError
from features.event_log.ingestion.ingest import IngestReport, ingest
from features.sources import events_file, ga4, segment

HEADER = "event_id,name,timestamp,customer_id,item_id,quantity,price,order_id"
ROWS = [f"e{n},purchase,2026-01-{n:02d},{n},A{n},1,10,{n}" for n in range(1, 8)]


def take_in(tmp_path: Path, content: str | bytes, name: str = "a.csv") -> IngestReport:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    report = ingest(events_file.read([path]), tmp_path / f"log-{len(list(tmp_path.iterdir()))}")
    report.check()
    return report


def events_of(report: IngestReport) -> list[tuple]:
    return sorted(report.log.scan().select("event_id", "customer_id", "item_id", "price").collect().rows())


def test_an_open_quote_invents_no_event_and_loses_no_row(tmp_path: Path):
    lines = [HEADER, *ROWS]
    lines[3] = lines[3].replace(",A3", ',"A3')
    report = take_in(tmp_path, "\n".join(lines))
    assert report.rejected == {"unclosed_quote": 1}
    assert (report.rows_read, report.kept) == (7, {"purchase": 6})
    assert [row[0] for row in events_of(report)] == ["e1", "e2", "e4", "e5", "e6", "e7"]
    (raw,) = report.log.rejected()["raw"].to_list()
    assert json.loads(raw) == {"_unclosed_quote": lines[3]}


def test_headers_and_totals_between_rows_are_no_events(tmp_path: Path):
    text = "\n".join(["Report: Orders", "", HEADER, *ROWS[:3], HEADER, *ROWS[3:], "Total,,,,,7,70,"])
    report = take_in(tmp_path, text)
    assert report.kept == {"purchase": 7}
    assert report.rejected["repeated_header"] == 1
    assert sum(report.rejected.values()) == 2
    assert any("line above the header" in note for note in report.notes)


def test_the_same_content_gives_the_same_log(tmp_path: Path):
    rows = [row.replace("A1", "CAFÉ–1").replace("A2", "TÉ") for row in ROWS]  # the first is UTF-8 too, by chance
    text = "\n".join([HEADER, *rows]) + "\n"
    quoted = "\n".join(",".join(f'"{cell}"' for cell in line.split(",")) for line in [HEADER, *rows])
    contents = {
        "a.csv": text.encode(),
        "b.csv": text.encode("cp1252"),
        "c.csv": text.encode("utf-16"),
        "d.csv": quoted.encode(),
        "e.txt": ("sep=;\r\n" + text.replace(",", ";").replace("\n", "\r\n")).encode(),
        "f.tsv": text.replace(",", "\t").replace("\n", "\r").encode(),
        "g.1.gz": gzip.compress(text.encode()),
        "h.jsonl": "\n".join(
            json.dumps(dict(zip(HEADER.split(","), r.split(","), strict=True))) for r in rows
        ).encode(),
    }
    logs = {name: events_of(take_in(tmp_path, content, name)) for name, content in contents.items()}
    assert logs["a.csv"][0] == ("e1", "1", "CAFÉ–1", 10.0)
    for name, log in logs.items():
        assert log == logs["a.csv"], name


def test_a_truncated_file_leaves_the_log_as_it_was(tmp_path: Path):
    (tmp_path / "a.csv").write_text("\n".join([HEADER, *ROWS]))
    before = events_of(ingest(events_file.read([tmp_path / "a.csv"]), tmp_path / "log"))
    many = "\n".join([HEADER, *(f"x{n},purchase,2026-01-05,{n},A{n},1,10,{n}" for n in range(50_000))])
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(many.encode())[:-2000])
    with pytest.raises(InputError, match=r"b\.csv\.gz cannot be read as CSV: .*Is it complete"):
        ingest(events_file.read([tmp_path / "b.csv.gz"]), tmp_path / "log")
    again = ingest(events_file.read([tmp_path / "a.csv"]), tmp_path / "log")
    assert (len(events_of(again)), again.duplicates) == (len(before), 7)


def test_a_json_array_is_told_to_be_lines_by_every_source(tmp_path: Path):
    for text in ('[{"event_name": "view_item"}]', '[\n  {"type": "track"}\n]'):
        (tmp_path / "a.json").write_text(text)
        for source in (events_file, ga4, segment):
            with pytest.raises(InputError, match=r"one JSON array; write one object per line \(`jq -c"):
                list(source.read([tmp_path / "a.json"]))


@pytest.mark.parametrize("place", [0, 5000])
def test_a_guessed_encoding_is_told_wherever_its_letters_are(tmp_path: Path, place: int):
    rows = [f"e{n},view_item,2026-01-05,{n},A{n},,," for n in range(6000)]
    rows[place] += "ž"
    report = take_in(tmp_path, "\n".join([HEADER, *rows]).encode("cp1250"))
    assert sum("not UTF-8; read as Windows-1252" in note for note in report.notes) == 1
    again = take_in(tmp_path, "\n".join([HEADER, *rows]), "b.csv")
    assert not any("not UTF-8" in note for note in again.notes)


def test_a_guess_is_told_of_joined_files_and_catalogs(tmp_path: Path):
    (tmp_path / "lines.csv").write_text("order_id,item_id,quantity,price\n1,A,1,2\n")
    (tmp_path / "orders.csv").write_bytes("order_id,customer_id,timestamp,note\n1,c,2026-01-05,ž\n".encode("cp1250"))
    filler = "".join(f"{n},{'x' * 60}\n" for n in range(2000))
    (tmp_path / "p.csv").write_bytes(f"item_id,title\n{filler}A,ž\n".encode("cp1250"))
    (tmp_path / "m.yml").write_text(
        "join: {has: [customer_id, timestamp], on: order_id}\nconstants: {name: purchase}\ncatalog: p.csv\n"
    )
    (parsed,) = events_file.read([tmp_path / "lines.csv", tmp_path / "orders.csv"], tmp_path / "m.yml")
    told = [note.split(":")[0] for note in parsed.notes if "not UTF-8" in note]
    assert sorted(told) == ["orders.csv", "p.csv"]


def test_a_list_within_a_list_is_named(tmp_path: Path):
    order = {"id": "o1", "lines": [{"sku": "A"}]}
    (tmp_path / "e.jsonl").write_text(json.dumps({"ts": "2026-01-05", "orders": [order]}))
    pl.DataFrame([{"ts": "2026-01-05", "orders": [order]}]).write_parquet(tmp_path / "e.parquet")
    (tmp_path / "m.yml").write_text("explode: orders.lines\n")
    for name in ("e.jsonl", "e.parquet"):
        with pytest.raises(InputError, match=r"orders.lines lies within the list orders.*`explode: e.lines`"):
            list(events_file.read([tmp_path / name], tmp_path / "m.yml"))


def test_of_a_template_the_missing_column_is_named(tmp_path: Path):
    (tmp_path / "e.csv").write_text("\n".join([HEADER, *ROWS]))
    (tmp_path / "m.yml").write_text("columns: {session_id: '{shop}-{order_id}'}\n")
    with pytest.raises(InputError, match=r"lacks columns the mapping names: shop \(for session_id\)\."):
        list(events_file.read([tmp_path / "e.csv"], tmp_path / "m.yml"))

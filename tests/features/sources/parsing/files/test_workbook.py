from pathlib import Path

from features.sources.parsing.files import readers, workbook

HEADER = ["name", "item_id", "price"]


def test_a_report_above_the_header_and_blank_rows(tmp_path: Path, write_xlsx):
    rows = [["Orders of January"], [], HEADER, ["purchase", "A", 5.5], [], ["purchase", "B", 2], [None, " "]]
    table, notes = workbook.read(write_xlsx(tmp_path / "a.xlsx", {"s": rows}))
    assert table.rows() == [("purchase", "A", "5.5"), ("purchase", "B", "2")]
    assert table.columns == HEADER
    assert notes == ("1 line above the header left out (Orders of January)",)


def test_each_sheet_has_its_header(tmp_path: Path, write_xlsx):
    sheets = {"Jan": [["Report"], HEADER, ["view", "A", 1]], "Empty": [], "Feb": [HEADER, ["view", "B", 2]]}
    table, notes = workbook.read(write_xlsx(tmp_path / "a.xlsx", sheets))
    assert table.rows() == [("view", "A", "1", "Jan"), ("view", "B", "2", "Feb")]
    assert notes == ("Jan: 1 line above the header left out (Report)",)


def test_columns_without_name_or_of_one_name(tmp_path: Path, write_xlsx):
    rows = [["id", None, "id", None, "x"], [1, 2, 3, None, 4]]
    table, (note,) = workbook.read(write_xlsx(tmp_path / "a.xlsx", {"s": rows}))
    assert dict(zip(table.columns, table.row(0), strict=True)) == {"id": "1", "column_2": "2", "id_3": "3", "x": "4"}
    assert note.startswith("more than one column is named id;")


def test_a_column_of_one_is_a_table_too(tmp_path: Path, write_xlsx):
    file = write_xlsx(tmp_path / "a.xlsx", {"s": [["customer_id"], [1.0], ["c2"]]})
    assert readers.read_table(file).to_dict(as_series=False) == {"customer_id": ["1", "c2"]}


def test_types_are_told_only_where_they_matter(tmp_path: Path, write_xlsx):
    plain = write_xlsx(tmp_path / "a.xlsx", {"s": [HEADER, ["view", "A", 1.5]]})
    assert workbook.TYPED not in workbook.read(plain).rows.columns
    open_ = write_xlsx(tmp_path / "b.xlsx", {"s": [HEADER, ["view", "1.250", 1.25]], "t": [HEADER, ["view", 2, 1.255]]})
    typed = workbook.read(open_).rows[workbook.TYPED].struct
    assert typed.field("item_id").to_list() == [False, True]
    assert typed.field("price").to_list() == [True, True]

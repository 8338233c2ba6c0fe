"""What the log keeps of how files are read."""

from pathlib import Path

from features.sources.inputs import describe_inputs


def test_any_key_of_a_mapping_is_a_text(tmp_path: Path) -> None:
    """YAML takes 1 for a number and, in its older version, `on` for a truth value."""
    file = tmp_path / "orders.csv"
    file.write_text("action\n1\n")
    written = ["names: {1: view_item, buy: purchase}\njoin: {has: [a, b], on: a}\n"]
    written.append("# the same\njoin: {on: a, has: [a, b]}\nnames: {buy: purchase, '1': view_item}\n")
    mappings = []
    for n, text in enumerate(written):
        mappings.append(tmp_path / f"{n}.yml")
        mappings[-1].write_text(text)
    one, other = (describe_inputs("events", [file], mapping) for mapping in mappings)
    assert one is not None
    assert one == other

"""Rules files: read whole, refused with the line and what to write, and the same in any order."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.common.clock import parse as instant
from serving.rules.rulebook import MAX_BYTES, Rulebook, RulesError, parse, slot_of
from serving.schemas import placements

PLACEMENTS = placements.read()
WHOLE = """
timezone: Europe/Berlin
rules:
  - id: own-brand
    note: first for those who come back
    when: visitor.segment in ['loyal'] && context.source == 'email'
    placements: [home.for_you]
    items: {all: [{field: brand, op: "==", value: Own}]}
    do: {boost: 0.3}
    from: 2026-11-27T00:00
    until: 2026-11-30
    priority: 10
    holdout: 0.05
  - {id: recalled, items: {item_ids: [4711, "0042"]}, do: {hide: true}}
  - {id: new, placements: [home.new], do: {pin: {item_ids: [a, b], at: 2}}}
  - {id: mix, when: visitor.known, do: {strategy: {diversity: 0.3}}}
  - {id: calm, do: {strategy: {generators: [popular], ranked: false}}}
"""


def read(text: str) -> Rulebook:
    return parse(text.encode(), "rules.yml", PLACEMENTS)


def problems(text: str | bytes) -> list[str]:
    with pytest.raises(RulesError) as refusal:
        parse(text if isinstance(text, bytes) else text.encode(), "rules.yml", PLACEMENTS)
    return refusal.value.messages


def test_a_whole_file_is_read():
    book = read(WHOLE)
    assert [rule.id for rule in book.rules] == ["own-brand", "new", "recalled", "mix", "calm"]
    assert [rule.scope for rule in book.rules] == ["item", "item", "item", "segment", "all"]
    assert [rule.number for rule in book.rules] == [0, 1, 2, 3, 4]
    first = book.rules[0]
    assert (first.line, first.action, first.do.boost, first.holdout) == (4, "boost", 0.3, 0.05)
    assert (first.schedule.start, first.schedule.end) == (instant("2026-11-26T23:00Z"), instant("2026-11-29T23:00Z"))
    assert book.fields == {("visitor", "segment"), ("context", "source"), ("visitor", "known")}
    assert not book.needs_visit


@pytest.mark.parametrize("text", ["", "{}", "rules: []", "timezone: UTC", "# nothing yet"])
def test_a_file_without_rules_is_whole(text: str):
    assert read(text).rules == ()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("- {id: a, do: {boost: 0.3}}", "line 2: a: This action needs `items`"),
        ("- {id: a, do: {boost: 2}, items: {item_ids: [x]}}", "line 2: a: do.boost: Input should be less than"),
        ("- {id: a, do: {}, items: {item_ids: [x]}}", "line 2: a: do: Write exactly one"),
        ("- {id: a, do: {hide: true, boost: 0.1}, items: {item_ids: [x]}}", "line 2: a: do: Write exactly one"),
        ("- {id: a, do: {hide: true}, items: {}}", "line 2: a: items: Write `item_ids`"),
        ("- {id: a, do: {pin: {item_ids: [x]}}, items: {item_ids: [x]}}", "line 2: a: `items` has no meaning"),
        ("- {id: a, do: {content: {slot: home.hero}}}", "line 2: a: do: `content` is not supported"),
        ("- {id: a, do: {coupon: x}}", "line 2: a: do: `coupon` is not supported"),
        ("- {id: a, do: {strategy: {}}}", "line 2: a: do.strategy: Write what changes"),
        ("- {id: a, do: {strategy: {ranked: false}}}", "line 2: a: do.strategy: `ranked: false` needs"),
        ("- {id: A, do: {hide: true}, items: {item_ids: [x]}}", "line 2: A: id: String should match"),
        ("- {id: 5, do: {hide: true}, items: {item_ids: [x]}}", "line 2: rule 1: id: write a text"),
        ("- {do: {hide: true}, items: {item_ids: [x]}}", "line 2: rule 1: id: this is missing"),
        ("- {id: a, do: {hide: true}, item: {item_ids: [x]}}", "line 2: a: item: there is no such key; did you mean items"),  # noqa: E501
        ("- {id: a, when: visitor.segmnt == 'a', do: {pin: {item_ids: [x]}}}", "line 2: a: when: there is no visitor.segmnt"),  # noqa: E501
        ("- {id: a, placements: [home.foryou], do: {pin: {item_ids: [x]}}}", "did you mean home.for_you"),
        ("- {id: a, from: 2026-11-30, until: 2026-11-27, do: {pin: {item_ids: [x]}}}", "until: it must lie after `from`"),  # noqa: E501
        ("- {id: a, from: soon, do: {pin: {item_ids: [x]}}}", "line 2: a: from: this is no time"),
        ("- {id: a, holdout: 1, do: {pin: {item_ids: [x]}}}", "line 2: a: holdout: Input should be less than 1"),
        ("- {id: a, id: b, do: {pin: {item_ids: [x]}}}", "line 2: `id` stands here twice"),
        ("- &r {id: a, do: {pin: {item_ids: [x]}}}\n  - *r", "line 3: write it out: aliases"),
        ("- !!python/object/apply:os.system [x]", "line 2: the tag"),
        ("- " + "[" * 14 + "]" * 14, "nested too deeply"),
        ("- " + "[" * 5_000, "nested too deeply"),
        ("- {id: a", "this is no YAML"),
        ("- {? [a] : b}", "line 2: a key is one word"),
        ("- just text", "line 2: rule 1"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_line(line: str, message: str):
    (first, *_) = problems(f"rules:\n  {line}\n")
    assert message in first


def test_everything_that_is_wrong_is_told_at_once():
    text = WHOLE.replace("visitor.segment", "visitor.segmnt").replace("id: mix", "id: calm").replace("home.new", "home")
    assert [m.split(":")[0] for m in problems(text)] == ["line 6", "line 15", "line 17"]
    many = "rules:\n" + "".join(f"  - {{id: r{n}, when: x, do: {{pin: {{item_ids: [a]}}}}}}\n" for n in range(50))
    assert len(problems(many)) == 21
    assert problems(many)[-1] == "and 30 more"


@pytest.mark.parametrize(
    "content", [b"\xff\xfe", b"a: \x00", b"x" * (MAX_BYTES + 1), b"- 1", b"5", b"timezone: Mars/Base", b"rules: 5"]
)
def test_what_is_no_rules_file_is_refused(content: bytes):
    assert problems(content)[0].startswith("line 1: ")


def test_words_are_what_was_written_and_item_ids_keep_their_noughts():
    text = "rules:\n  - {id: no, items: {item_ids: [007, 4711, 1e5], any: [{field: attributes.c, op: in, value: [NO, on, 12:30]}]}, do: {hide: true}}\n"  # noqa: E501
    (rule,) = read(text).rules
    assert rule.items is not None
    assert rule.items.item_ids == ["007", "4711", "1e5"]
    assert rule.items.any[0].value == ["NO", "on", "12:30"]


@settings(deadline=None)  # compiling takes long on a busy machine
@given(st.randoms())
def test_the_order_in_the_file_changes_nothing(order: Random):
    head, *blocks = WHOLE.strip().split("\n  - ")
    shuffled = order.sample(blocks, len(blocks))
    one, other = read(WHOLE), read("\n  - ".join([head, *shuffled]))
    assert [r.id for r in one.rules] == [r.id for r in other.rules]
    at = instant("2026-11-28")
    for placement in (None, "home.for_you", "home.new"):
        assert [r.id for r in one.active(placement, at)] == [r.id for r in other.active(placement, at)]


def test_rules_are_active_by_placement_and_schedule_to_the_microsecond():
    book = read(WHOLE)
    start, end = instant("2026-11-26T23:00Z"), instant("2026-11-29T23:00Z")

    def active(at: int, placement: str | None = "home.for_you") -> bool:
        return "own-brand" in [rule.id for rule in book.active(placement, at)]

    assert [active(t) for t in (start - 1, start, end - 1, end, start)] == [False, True, True, False, True]
    assert not active(start, "home.new")
    assert not active(start, None)


def test_slots_are_the_same_everywhere():
    assert slot_of("shop-2026", "ranking", "u_91") == 5658
    assert slot_of("shop-2026", "ranking", "ü") == 485


def test_holdouts_are_a_share_of_visitors_and_stay_with_them():
    (rule,) = read("rules: [{id: a, holdout: 0.2, do: {pin: {item_ids: [x]}}}]").rules
    out = [rule.holds_out(f"u{n}", "usual") for n in range(20_000)]
    assert 0.19 < sum(out) / len(out) < 0.21
    assert out == [rule.holds_out(f"u{n}", "usual") for n in range(20_000)]
    assert out != [rule.holds_out(f"u{n}", "other") for n in range(20_000)]
    assert not rule.holds_out(None, "usual")

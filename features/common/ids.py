"""Ids: one form for every id, wherever it comes in, and words that stand for no id.

A customer, client, item, order, session or event has the same id whether it comes from a file, a database, an HTTP
request or a model's input: surrounding spaces and invisible characters are stripped, letters are composed (Unicode
NFC), whole numbers are written as digits (`777.0` is `777`), and words such as NULL are no id.

What a spreadsheet has shortened to `6.71235E+12` cannot be told from its neighbours any more: `is_scientific` finds
it, so that it is refused and not joined.
"""

import math
import re
import unicodedata
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from numbers import Integral, Real
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.common.errors import InputError
from features.common.text_views import Rows, TextViews

UNPROVEN = "~"  # before the id of a device that only a page named, without proof (`serving/identity`)
PAGE_EVENT = "^[vp]:[0-9a-f]{8}:"  # what the id of an event begins with that a page sent (`serving/events/trust.py`)

IdKind = Literal["customer", "client", "item", "order", "session", "event"]
ID_KINDS: dict[str, IdKind] = {
    "event_id": "event",
    "customer_id": "customer",
    "client_id": "client",
    "session_id": "session",
    "item_id": "item",
    "order_id": "order",
}
"""Kind of id of each column of the event log that holds ids."""

NULL_WORDS = frozenset(
    ("null", "nan", "none", "undefined", "\\n", "(not set)", "n/a", "<na>", "nil", "#n/a", "(null)", "[object object]")
)
_NO_UUID = "00000000-0000-0000-0000-000000000000"
PLACEHOLDERS: dict[IdKind, frozenset[str]] = {
    "customer": NULL_WORDS | {"0", "-", "--", "guest", "anonymous", "unknown", "not set", _NO_UUID},
    "client": NULL_WORDS | {"-", "--", _NO_UUID},
    "session": NULL_WORDS | {"-", "--"},
    "order": NULL_WORDS | {"0", "-", "--"},
    "item": NULL_WORDS,
    "event": NULL_WORDS,
}
"""Words, in lower case, that stand for no id of a kind. Sessions and clients may be numbered from 0."""

# Control characters, Unicode's white space, and what takes no room: byte order mark, joiners, marks of direction.
_CONTROLS = "".join(map(chr, [*range(0x20), 0x7F]))
INVISIBLE = (
    f"{_CONTROLS} \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f"
    "\u205f\u3000\xad\u180e\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff"
)
_ASCII_SPACES = f"{_CONTROLS} "
SCIENTIFIC = r"^[+-]?[0-9](?:[.,][0-9]+[eE]\+?|[eE]\+)[0-9]{1,3}$"
SCIENTIFIC_HINT = "a spreadsheet has shortened the number: export the column as text"
_SCIENTIFIC = re.compile(SCIENTIFIC)
# How spreadsheets are told to keep a number as text: '00042 and ="00042".
_FORMULA, _QUOTED = r'^="([^"]*)"$', r"^'([0-9][0-9.,]*)$"
# Three zeros may be thousands.
_WHOLE = r"^(-?[0-9]+)[.,](?:00?|0000+)$"
_FORMULA_RE, _QUOTED_RE, _WHOLE_RE = re.compile(_FORMULA), re.compile(_QUOTED), re.compile(_WHOLE)
_LONGEST_WORD = 40  # of those that have a place of their own in a table
_LOWER = np.uint32(0x20202020)  # the bit of each letter that makes it a small one
_EXACT, _EXACT_SINGLE = 2.0**53, 2.0**24  # whole numbers up to here are exact


def placeholder_words(kind: IdKind, placeholders: Collection[str] | None = None) -> frozenset[str]:
    """The words, in lower case, that stand for no id: `placeholders` in place of the built-in ones of `kind`."""
    return PLACEHOLDERS[kind] if placeholders is None else frozenset(map(_fold, placeholders))


def normalize_ids(values: pl.Series, kind: IdKind, placeholders: Collection[str] | None = None) -> pl.Series:
    """Normalize `values` of any dtype as ids of `kind`: texts, or codes where `values` are clean codes; null: no id.

    `placeholders` are the words that are no id, in place of the built-in ones.
    """
    words = placeholder_words(kind, placeholders)
    dtype = values.dtype
    if values.null_count() == values.len():
        return values if isinstance(dtype, pl.Categorical) else values.cast(pl.String, strict=False)
    if dtype.is_integer():
        texts = values.cast(pl.String)
        numbers = [int(w) for w in words if re.fullmatch("-?[0-9]{1,18}", w)]
        if numbers and (none := values.cast(pl.Int128).is_in(numbers)).any():
            return texts.set(none, None)
        return texts
    if dtype.is_float():
        return _normalize_texts(_write_floats(values), words)
    if dtype.is_decimal():
        return _normalize_texts(values.cast(pl.String).str.replace(r"\.0*$", ""), words)
    if isinstance(dtype, pl.Categorical | pl.Enum):
        # Few texts, many rows: each text is cleaned once.
        texts = values.unique().drop_nulls().cast(pl.String)
        clean = _normalize_texts(texts, words)
        if not texts.eq_missing(clean).all():
            return values.cast(pl.String).replace_strict(texts, clean, return_dtype=pl.String)
        return values if isinstance(dtype, pl.Categorical) else values.cast(pl.String)
    return _normalize_texts(values.cast(pl.String, strict=False), words)


def normalize_and_check(
    values: pl.Series, kind: IdKind, placeholders: Collection[str] | None = None
) -> tuple[pl.Series, pl.Series | None]:
    """`normalize_ids`, and `is_scientific` of the result, None where none is."""
    if values.dtype != pl.String:
        ids = normalize_ids(values, kind, placeholders)
        spoiled = is_scientific(ids)
    else:
        parts = _view(values)
        ids = _normalize_texts(values, placeholder_words(kind, placeholders), parts)
        # Most columns are clean already: then both look at the same bytes.
        spoiled = _find_scientific(ids, parts if ids is values else _view(ids))
    return ids, spoiled if spoiled.any() else None


def normalize_id(value: object, kind: IdKind, placeholders: Collection[str] | None = None) -> str | None:
    """Normalize one id as `normalize_ids` does; None: no id."""
    if type(value) is not str:
        text = _write(value)
        if text is None:
            return None
    elif value.isascii():
        text = value.strip(_ASCII_SPACES)
    else:
        text = unicodedata.normalize("NFC", value.strip(INVISIBLE))
    if text[-1:] in ('"', "0") or text[:1] == "'":
        text = _repair(text)
    words = PLACEHOLDERS[kind] if placeholders is None else placeholder_words(kind, placeholders)
    return None if not text or text.lower() in words else text


def require_id(value: object, kind: IdKind, where: str) -> str:
    """Normalize the id that a person has given as `where`. Raises `InputError` for what is no id."""
    (text,) = normalize_id_list([value], kind, where)
    if text is None:
        raise InputError(f"{where} is {value!r}, which is no {kind}'s id; check the spelling")
    return text


def normalize_id_list(values: Iterable[object], kind: IdKind, where: str) -> list[str | None]:
    """Normalize each of `values` as `normalize_id` does. Raises `InputError`, naming `where`, for one in scientific
    notation."""
    texts = [normalize_id(value, kind) for value in values]
    if spoiled := next((text for text in texts if text is not None and is_scientific_id(text)), None):
        raise InputError(f"{where} holds {spoiled}, of which digits are lost; {SCIENTIFIC_HINT}")
    return texts


def placeholder_counts(values: pl.Series, ids: pl.Series) -> dict[str, int]:
    """Count the words of `values` that stand for no id: those that `normalize_ids` made null in `ids`."""
    if ids.null_count() == values.null_count():
        return {}
    lost = values.filter(ids.is_null() & values.is_not_null())
    texts = (_write_floats(lost) if lost.dtype.is_float() else lost.cast(pl.String, strict=False)).fill_null("NaN")
    words = texts.str.strip_chars(INVISIBLE)
    counts = words.filter(words != "").alias("word").value_counts(sort=True).sort("word")
    return dict(counts.iter_rows())


def is_scientific(values: pl.Series) -> pl.Series:
    """Whether each text is a number in scientific notation, whose last digits are lost; null is none."""
    none = pl.repeat(False, values.len(), dtype=pl.Boolean, eager=True)
    if isinstance(values.dtype, pl.Categorical | pl.Enum):
        texts = values.unique().cast(pl.String)
        scientific = texts.filter(texts.str.contains(SCIENTIFIC).fill_null(False))
        return values.cast(pl.String).is_in(scientific.implode()).fill_null(False) if scientific.len() else none
    return _find_scientific(values, _view(values)) if values.dtype == pl.String else none


def is_scientific_id(text: str) -> bool:
    """Whether `text` is a number in scientific notation, whose last digits are lost."""
    return text[:1] in "+-0123456789" and _SCIENTIFIC.match(text) is not None


@dataclass(frozen=True)
class _Part:
    """Rows of a column from `start` that lie together in memory, as blocks of a file do: to join them is a copy."""

    start: int
    texts: pl.Series
    views: TextViews


def _view(values: pl.Series) -> list[_Part] | None:
    """The parts of a column of texts; None where Arrow holds them in another form than views."""
    parts, start = list[_Part](), 0
    for texts in values.get_chunks():
        views = TextViews.of(texts)
        if views is None:
            return None
        parts.append(_Part(start, texts, views))
        start += texts.len()
    return parts


def _find_scientific(values: pl.Series, parts: list[_Part] | None) -> pl.Series:
    if parts is None:
        return values.str.contains(SCIENTIFIC).fill_null(False)
    none = pl.repeat(False, values.len(), dtype=pl.Boolean, eager=True)
    rows = _concat([part.start + _find_likely_scientific(part.views) for part in parts])
    if not rows.size:
        return none
    scientific_rows = rows[values.gather(rows).str.contains(SCIENTIFIC).to_numpy()]
    return none.scatter(scientific_rows, True) if scientific_rows.size else none


def _find_likely_scientific(views: TextViews) -> Rows:
    first, second = views.head(0), views.head(1)
    digit = (first - np.uint8(0x30)) < 10
    likely = digit & ((second == 0x2E) | (second == 0x2C) | ((second | 0x20) == 0x65))
    return views.rows(np.flatnonzero(likely | (first == 0x2B) | (first == 0x2D)))


def _concat(rows: list[Rows]) -> Rows:
    return np.concatenate(rows) if rows else np.zeros(0, np.int64)


def _fold(word: str) -> str:
    return unicodedata.normalize("NFC", word.strip(INVISIBLE)).lower()


def _write(value: object) -> str | None:
    """Write what is no text as one; None for what stands for nothing, as None and NaN."""
    if value is None or isinstance(value, bool | np.bool_):
        return None if value is None else str(bool(value)).lower()
    if isinstance(value, Integral):
        return str(int(value))
    if isinstance(value, Real):
        exact = _EXACT_SINGLE if isinstance(value, np.float32 | np.float16) else _EXACT
        return _write_float(float(value), exact)
    if isinstance(value, Decimal):
        return None if value.is_nan() else re.sub(r"\.0*$", "", f"{value:f}")
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    return unicodedata.normalize("NFC", str(value).strip(INVISIBLE))


def _write_float(value: float, exact: float) -> str | None:
    if math.isnan(value):
        return None
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    if abs(value) >= exact:
        return f"{value:.17e}"
    return str(int(value)) if value == int(value) else repr(value)


def _write_floats(values: pl.Series) -> pl.Series:
    """Write floats as texts: whole ones as digits, NaN as null, those beyond exactness in scientific notation."""
    exact = _EXACT if values.dtype == pl.Float64 else _EXACT_SINGLE
    numbers = values.cast(pl.Float64)
    whole = numbers.cast(pl.Int64, strict=False)
    fine = (whole == numbers) & (numbers.abs() < exact)
    texts = whole.set(~fine.fill_null(False), None).cast(pl.String).alias(values.name)
    rows = (~fine).fill_null(False).arg_true()
    if not rows.len():
        return texts
    return texts.scatter(rows, pl.Series([_write_float(v, exact) for v in numbers.gather(rows)], dtype=pl.String))


def _repair(text: str) -> str:
    """`text` as a number without what a table or spreadsheet has added to it."""
    if (formula := _FORMULA_RE.match(text)) is not None:
        text = formula[1].strip(INVISIBLE)
    if (quoted := _QUOTED_RE.match(text)) is not None:
        text = quoted[1]
    whole = _WHOLE_RE.match(text)
    return text if whole is None else whole[1]


def _normalize_texts(values: pl.Series, words: frozenset[str], parts: list[_Part] | None = None) -> pl.Series:
    parts = _view(values) if parts is None else parts
    if parts is None:
        return _clean(values, words)
    rows = _concat([part.start + _find_suspects(part.texts, words, part.views) for part in parts])
    if not rows.size:
        return values
    texts = values.gather(rows)
    clean = _clean(texts, words)
    return values if texts.eq_missing(clean).all() else values.clone().scatter(rows, clean)


def _clean(texts: pl.Series, words: frozenset[str]) -> pl.Series:
    plain = texts.str.strip_chars(INVISIBLE).str.normalize("NFC")
    plain = plain.str.replace(_FORMULA, "$1").str.strip_chars(INVISIBLE)
    plain = plain.str.replace(_QUOTED, "$1").str.replace(_WHOLE, "$1")
    none = plain.str.to_lowercase().is_in(["", *sorted(words)])
    return plain.set(none, None)


def _find_suspects(values: pl.Series, words: frozenset[str], views: TextViews) -> Rows:
    """Rows of the texts that may not be in their one form; `views` are those of `values`.

    Reads a few bytes of each text, which is several times faster than cleaning them all.
    """
    first, last, sizes = views.head(0), views.tail(1), views.sizes
    # One comparison for both bounds: what lies below the first wraps around to the top.
    suspect = (first - np.uint8(0x21) >= 0x5E) | (last - np.uint8(0x21) >= 0x5E)
    suspect |= (first == 0x27) | (first == 0x3D)  # ' and =
    zeros = np.flatnonzero((last == 0x30) & (first <= 0x39))
    for back in range(2, 6):
        if not zeros.size:
            break
        before = views.tail(back, zeros)
        suspect[zeros[(before == 0x2E) | (before == 0x2C)]] = True
        zeros = zeros[before == 0x30]
    suspect[zeros] = True
    (firsts, seconds), prefixes = _word_table(words)
    size = np.minimum(sizes, _LONGEST_WORD + 1).astype(np.uint16) << 8
    likely = np.flatnonzero(firsts.take(size | first) & seconds.take(size | views.head(1)))
    if likely.size:
        lower = views.prefix(likely) | _LOWER
        # Not `isin`, which hashes every one of them.
        at = np.minimum(np.searchsorted(prefixes, lower), len(prefixes) - 1)
        suspect[likely[prefixes[at] == lower]] = True
    suspect[views.beyond_ascii(values)] = True
    return views.rows(np.flatnonzero(suspect))


@lru_cache(maxsize=64)
def _word_table(words: frozenset[str]) -> tuple[NDArray[np.bool_], NDArray[np.uint32]]:
    """Whether a word has this size and first byte, by size × 256 + byte; the same for its second byte; and the first
    four bytes of all words, sorted. A word beyond ASCII is found in another way, as every text beyond it.
    """
    texts = [word.encode() for word in words if word and word.isascii()]
    tables = np.zeros((2, _LONGEST_WORD + 2, 256), bool)
    for text in texts:
        for place in range(2):
            byte = text[place : place + 1] or b"\0"
            tables[place, min(len(text), _LONGEST_WORD + 1), [byte.lower()[0], byte.upper()[0]]] = True
    prefixes = np.array([int.from_bytes(text[:4].ljust(4, b"\0"), "little") for text in texts], np.uint32)
    return tables.reshape(2, -1), np.sort(prefixes | _LOWER)

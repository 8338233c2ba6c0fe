"""Stated answers: what visitors say of themselves, as the event `preferences` holds it.

One event is one question with its answers. `question` names what was asked, `answer` is a JSON array of up to
`MAX_ANSWERS` texts. A visitor's latest event of a question counts; one without answers withdraws the question.
"""

import json
from collections.abc import Sequence

PREFERENCES = "preferences"  # name of the event
MAX_ANSWERS = 10
MAX_ANSWER_LENGTH = 256
MAX_ENCODED_LENGTH = 4000  # of `answer`, as stored


def encode(answers: Sequence[str | int | float]) -> str | None:
    """Encode answers as the log's column `answer`; None where there are none."""
    texts = [text for text in map(plain, answers) if text]
    return json.dumps(list(dict.fromkeys(texts)), ensure_ascii=False, separators=(",", ":")) if texts else None


def decode(answer: str | None) -> tuple[str, ...]:
    """Decode the column `answer`: a text that is no JSON array is one answer, as files have them."""
    text = (answer or "").strip()
    if not text:
        return ()
    values: object = text
    if text.startswith("["):
        try:
            values = json.loads(text)
        except (ValueError, RecursionError):
            values = text
    listed = values if isinstance(values, list) else [values]
    texts = [plain(value) for value in listed if isinstance(value, str | int | float)]
    return tuple(dict.fromkeys(text for text in texts if text))[:MAX_ANSWERS]


def plain(value: str | int | float) -> str:
    """Write an answer as text: 7.0 is 7."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()

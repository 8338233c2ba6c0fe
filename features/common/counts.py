"""Counts in texts for people: a number with its noun, in the right grammatical number."""


def count(n: int, noun: str, plural: str = "") -> str:
    """Write a number with its noun: `1 order`, `1,200 orders`."""
    return f"{n:,} {noun if n == 1 else plural or f'{noun}s'}"

"""Currencies: ISO 4217 codes from what shops write, such as eur, €, US$ or kr."""

import re
import unicodedata
from functools import lru_cache

import polars as pl

from features.common.ids import INVISIBLE, NULL_WORDS

_ISO_4217 = """
    AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF
    CLP CNH CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL
    HRK HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD
    MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR
    RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS
    UAH UGX USD UYU UZS VED VES VND VUV WST XAF XCD XOF XPF YER ZAR ZMW ZWG
"""
CODES = frozenset(_ISO_4217.split())
# Signs that stand for one currency, and names that shops write; $ alone and kr alone are several currencies'.
_NAMES = {
    "€": "EUR", "£": "GBP", "¥": "JPY", "₹": "INR", "₽": "RUB", "₩": "KRW", "₺": "TRY", "₴": "UAH", "₪": "ILS",
    "₫": "VND", "₱": "PHP", "₦": "NGN", "฿": "THB", "₸": "KZT", "₡": "CRC", "₲": "PYG", "₵": "GHS", "₾": "GEL",
    "₼": "AZN", "₭": "LAK", "R$": "BRL", "C$": "CAD", "A$": "AUD", "S$": "SGD", "JP¥": "JPY", "CN¥": "CNY",
    "元": "CNY", "円": "JPY", "ZŁ": "PLN", "KČ": "CZK", "FT": "HUF", "LEI": "RON", "FR": "CHF", "SFR": "CHF",
    "RS": "INR", "RUB": "RUB", "РУБ": "RUB", "RP": "IDR", "RM": "MYR", "TL": "TRY", "EURO": "EUR",
    "EUROS": "EUR", "RMB": "CNY", "NT$": "TWD", "MX$": "MXN", "ЛВ": "BGN",
}  # fmt: skip
# No currency of its own, yet surely one: one of these.
_SEVERAL = {
    "$": frozenset(re.findall("[A-Z]{3}", """
        ARS AUD BBD BMD BND BSD BZD CAD CLP COP DOP FJD GYD HKD JMD KYD LRD MXN NAD NZD SBD SGD SRD TTD TWD USD UYU XCD
    """)),
    "KR": frozenset(("CZK", "DKK", "ISK", "NOK", "SEK")),
}  # fmt: skip
# Signs that are read as the first of these.
_ALIKE = (
    {"JPY", "CNY", "CNH"}, {"INR", "PKR", "LKR", "NPR", "MUR", "SCR"}, {"GBP", "EGP", "GIP", "FKP", "SHP"},
    {"CHF", "XOF", "XAF"}, {"RON", "MDL"}, {"RUB", "BYN"}, {"TRY", "TND"},
)  # fmt: skip


@lru_cache(maxsize=4096)
def currency_code(text: str) -> str | None:
    """The code for a sign, name or code; any three letters are a code. None for what is none, or several as $ is."""
    word = _fold(text)
    if word.lower() in NULL_WORDS:
        return None
    return named_currency(text) or (word if re.fullmatch("[A-Z]{3}", word) else None)


@lru_cache(maxsize=4096)
def named_currency(text: str) -> str | None:
    """The code for a known sign, name or code; None for others, and for those of several currencies."""
    word = _fold(text)
    if word in CODES:
        return word
    if word in _NAMES:
        return _NAMES[word]
    sign = re.fullmatch(r"([A-Z]{2,3})([^A-Z])|([^A-Z])([A-Z]{2,3})", word)
    if sign is None or unicodedata.category(sign[2] or sign[3]) != "Sc":
        return None
    letters = sign[1] or sign[4]  # US$, $CA, USD$
    code = letters if len(letters) == 3 else f"{letters}{'D' if '$' in word else 'P' if '£' in word else '?'}"
    return code if code in CODES else None


def is_currency(text: str) -> bool:
    """Whether `text` is a known sign, name or code of a currency, or of several."""
    return named_currency(text) is not None or _fold(text) in _SEVERAL


def shared_signs(values: pl.Series) -> pl.Series:
    """The sign, `$` or `KR`, of each text that has one of several currencies, alone or beside an amount; else null."""
    texts = values.cast(pl.String, strict=False)
    if not texts.str.contains_any(["$", "kr"], ascii_case_insensitive=True).any():
        return pl.Series("sign", [None], pl.String).new_from_index(0, texts.len())
    symbols = texts.str.extract(r"(\$|(?i:\bkr\b))").str.to_uppercase()
    return symbols.alias("sign")


def may_stand_for(sign: str, code: str) -> bool:
    """Whether `sign`, as `shared_signs` gives it or a code read from a sign, may stand for the currency `code`.

    A price in ¥ is read as JPY, and may be CNY.
    """
    if sign in _SEVERAL:
        return code in _SEVERAL[sign]
    return sign == code or any({sign, code} <= alike for alike in _ALIKE)


def parse_currency(values: pl.Series) -> pl.Series:
    """Write currencies as their codes in upper case; null where a text is none, or stands for several as $ does."""
    texts = values.unique().cast(pl.String, strict=False).drop_nulls()
    codes = pl.Series([currency_code(t) for t in texts], dtype=pl.String)
    plain = values.cast(pl.String, strict=False)
    if texts.equals(codes):
        return plain
    return plain.replace_strict(texts, codes, default=None, return_dtype=pl.String).alias(values.name)


def _fold(text: str) -> str:
    return unicodedata.normalize("NFKC", text).strip(INVISIBLE).strip(".").replace(" ", "").upper()

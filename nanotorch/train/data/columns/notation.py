"""How the cells of a table are read: numbers in one notation or another, units, and texts that stand for no value.

Note [Notation]
~~~~~~~~~~~~~~~
One text can be two numbers: "1,250" is 1250 to some and 1.25 to others. So a `Notation` takes for a number what is one
by its own rules and nothing else. Where a thousands separator is stated, it stands before groups of three digits; where
the decimal point is a comma, a full stop is none. What is no number by the notation of the config is then read by all
others, and if one of them reads the whole column, the message says what the cell would be by each. Nothing is guessed:
a notation that is silently the wrong one trains a wrong model.

One case is left, "1.250" where the decimal point is the full stop: a number, but perhaps 1250. Where the rest of the
column makes that likely it is an error as well, and where it does not exclude it, it is said.

A unit is another matter, for it cannot change which number stands beside it. A column in which every number has the
same unit, and a well-known one, holds these numbers; the run says so, and new rows have to come in the same unit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nanotorch.train.data.table import DataError

MISSING = (
    *("", "NA", "N/A", "#N/A", "#NA", "#N/A N/A", "NaN", "-NaN", "nan", "-nan", "null", "NULL", "None", "NaT"),
    *("na", "n/a", "#n/a", "<NA>", "<na>", "<null>", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"),
)
_LONGEST = 60  # characters of a number with its unit
_SPACES = " \u00a0\u2009\u202f"
_MINUS = "\u2212"
_SIGNS = f"+{_MINUS}-"
_SYMBOLS = "$ € £ ¥ ₹ ₽ ₩ ₪ ₺ ₫ ฿ ₴ ₦"
_CODES = """
US$ A$ C$ R$ kr Kč zł Ft Fr. Rs Rs. USD EUR GBP JPY CHF CNY INR AUD CAD NZD SEK NOK DKK PLN CZK HUF BRL MXN ZAR KRW
SGD HKD TRY
"""
_MEASURES = """
% ‰ ppm ppb ° °C °F rad kg g mg µg lb lbs oz km m cm mm µm nm mi ft in yd m2 m² km2 km² cm2 cm² m3 m³ sqft ha L ml mL
cl cc CC km/h kmh mph m/s mpg kmpl km/l rpm hp bhp kW MW kWh MWh mV mA Ω Hz kHz MHz GHz kB KB MB GB TB Pa hPa kPa MPa
bar mbar psi mmHg mg/dL mg/dl mmol/L dB bpm px dpi ms s sec secs min mins h hr hrs hour hours day days week weeks
month months yr yrs year years
"""
# Of single letters those that hardly end the number of a house, a flight or a class.
CURRENCIES = frozenset([*_SYMBOLS.split(), *_CODES.split()])
UNITS = CURRENCIES | frozenset(_MEASURES.split())
_PARTS = re.compile(
    rf"(?P<sign>[{_SIGNS}]?)\s*(?P<before>[^\d\s.,'\u2019{_SIGNS}]{{1,3}})?\s*"
    rf"(?P<number>[{_SIGNS}]?[.,]?\d(?:[\d.,'\u2019_{_SPACES}]*\d)?\.?(?:[eE][-+]?\d+)?)"
    rf"\s*(?P<after>(?:[^\W\d_]|[%‰°{_SYMBOLS.replace(' ', '')}]).*)?"
)
_GROUPED = {",": ",", ".": r"\.", " ": f"[{_SPACES}]", "'": "['\u2019]", "_": "_"}


@dataclass(frozen=True, slots=True)
class Notation:
    """How numbers are written, and which texts stand for none (Note [Notation]).

    Attributes:
        decimal: the decimal point, "." or ",".
        thousands: what stands between groups of three digits, or None.
        missing: the texts that stand for a missing value.
    """

    decimal: str = "."
    thousands: str | None = None
    missing: frozenset[str] = frozenset(MISSING)

    def __post_init__(self) -> None:
        """Refuse one character with two meanings."""
        if self.decimal == self.thousands:
            raise DataError(f"data.thousands: {self.decimal!r} is data.decimal already", "data", "thousands")

    def numbers(self, cells: Sequence[str], unit: str = "") -> NDArray[np.float64] | None:
        """Return texts as numbers, with NaN for missing values; None if one of them is neither.

        >>> Notation().numbers(["1", " 2.5e3", "NA"])
        array([1.0e+00, 2.5e+03,     nan])
        >>> Notation().numbers(["1,250"]), Notation(thousands=",").numbers(["1,250", "-7"])
        (None, array([1250.,   -7.]))
        """
        try:
            if self.is_plain and not unit and "_" not in "".join(cells):
                found = np.array(list(map(float, cells)), np.float64)
                if self.knows_nan or not np.isnan(found).any():
                    return found
        except ValueError:
            pass
        try:
            return np.array([self.number(cell, unit) for cell in cells], np.float64)
        except ValueError:
            return None

    @property
    def is_plain(self) -> bool:
        """Whether a plain number means what it does to Python."""
        return self.decimal == "." and self.thousands is None and not _has_number(self.missing)

    def number(self, cell: str, unit: str = "") -> float:
        """Return the number in a text, NaN for a missing value; a ValueError if it is neither.

        Where there is a `unit`, the text may have it or lack it, but no other.

        >>> Notation(",", ".").number("1.234,5"), Notation().number("$1.50", "$")
        (1234.5, 1.5)
        """
        text = cell.strip()
        if text in self.missing:
            return np.nan
        found = self._number(text, unit, cell)
        return np.nan if found in self.missing_numbers else found

    def _number(self, text: str, unit: str, cell: str) -> float:
        if unit and (parts := split_unit(text)) is not None and parts[0] == unit:
            text = parts[1]
        if self.thousands is not None:
            whole, point, rest = text.partition(self.decimal)
            between = self.between_thousands
            if re.fullmatch(rf"[{_SIGNS}]?\d{{1,3}}(?:{between}\d{{3}})+", whole):
                text = re.sub(between, "", whole) + point + rest
        if "_" in text or (self.decimal == "," and "." in text):  # float() takes 1_000, and nobody else does
            raise ValueError(cell)
        found = float(text.replace(",", "." if self.decimal == "," else ",").replace(_MINUS, "-"))
        if found != found and not self.knows_nan:
            raise ValueError(cell)
        return found

    @property
    def between_thousands(self) -> str:
        """What stands between groups of three digits, as a pattern; "" where nothing may."""
        return _GROUPED[self.thousands] if self.thousands else ""

    @property
    def knows_nan(self) -> bool:
        """Whether a text that Python reads as NaN stands for a missing value."""
        return "nan" in self.missing or "NaN" in self.missing

    @property
    def missing_numbers(self) -> frozenset[float]:
        """The numbers that stand for a missing value, however they are written.

        >>> Notation(missing=frozenset(["", "-999"])).missing_numbers, PLAIN.missing_numbers
        (frozenset({-999.0}), frozenset())
        """
        return _numbers_among(self) if _has_number(self.missing) else frozenset()

    def without_missing(self, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return numbers with NaN in place of those that stand for a missing value."""
        missing = list(self.missing_numbers)
        return np.where(np.isin(numbers, missing), np.nan, numbers) if missing else numbers

    def lacks(self, text: str) -> bool:
        """Return whether a text stands for a missing value: one of `missing`, or the same number with a point."""
        return text in self.missing or (_has_number(self.missing) and self.label(text) in _missing_labels(self))

    def label(self, text: str) -> str:
        """Return the name of the class or category that a text stands for; a whole number with a point is without it.

        >>> Notation().label("1.0"), Notation().label("-0."), Notation().label("01.00"), Notation().label("1.10")
        ('1', '0', '01', '1.10')
        """
        if text.endswith(("0", self.decimal)) and self.decimal in text:
            whole, _, rest = text.partition(self.decimal)
            if not rest.strip("0") and re.fullmatch(r"[-+]?\d+", whole):
                text = whole
        return "0" if text == "-0" else text

    def is_number(self, text: str) -> bool:
        """Return whether a text is a number (or missing)."""
        if len(text) > _LONGEST:
            return False
        try:
            self.number(text)
        except ValueError:
            return False
        return True

    def readings(self, text: str, texts: Iterable[str]) -> str:
        """Return in words what a text is by the other notations that read all of `texts`; "" if there is none."""
        found = {self.number(text): ""} if self.is_number(text) else {}
        for other in self.others():
            if all(map(other.is_number, texts)):
                found.setdefault(other.number(text), other.stated(self))
        return " and ".join(f"{number:.15g} with {keys}" for number, keys in found.items() if keys)

    def may_be_thousands(self, texts: Iterable[str]) -> Literal["no", "maybe", "likely"]:
        """Return whether the points of a column may stand before groups of three digits, "1.250" being 1250.

        All points are so then, and no number is below one. It is likely where other numbers have no point and three
        digits at most, and a group ends with a zero: few programs would write them so. It may be where there is one of
        the two, or more zeros than chance puts at the end of three decimals.

        >>> PLAIN.may_be_thousands(["1.250", "950"]), PLAIN.may_be_thousands(["1.250", "2.342"])
        ('likely', 'maybe')
        >>> PLAIN.may_be_thousands(["1.25", "950"]), PLAIN.may_be_thousands(["0.250", "1.250"])
        ('no', 'no')
        """
        whole = points = zeros = 0
        for text in texts:
            before, point, after = text.lstrip(_SIGNS).partition(self.decimal)
            if not (before.isdecimal() and len(before) <= 3):
                return "no"
            if point and (before[0] == "0" or not (len(after) == 3 and after.isdecimal())):
                return "no"
            whole, points, zeros = whole + (not point), points + bool(point), zeros + after.endswith("0")
        if whole and zeros:
            return "likely"
        return "maybe" if (whole and points) or zeros * 3 > points else "no"

    def others(self) -> Iterator[Notation]:
        """Return the other notations, those that state least first."""
        pairs = [(".", None), (",", None), (".", ","), (".", " "), (".", "'"), (".", "_")]
        for decimal, thousands in [*pairs, (",", "."), (",", " "), (",", "'")]:
            if (decimal, thousands) != (self.decimal, self.thousands):
                yield replace(self, decimal=decimal, thousands=thousands)

    def stated(self, before: Notation) -> str:
        """Return the keys that state this notation in place of another.

        >>> Notation(",", ".").stated(Notation())
        "data.decimal: ',' and data.thousands: '.'"
        """
        keys = [f"data.decimal: {self.decimal!r}"] if self.decimal != before.decimal else []
        if self.thousands != before.thousands:
            keys.append(f"data.thousands: {'null' if self.thousands is None else repr(self.thousands)}")
        return " and ".join(keys)


PLAIN = Notation()


def only_or_more(stated: Any) -> Any:
    """Return what states missing values, if it is a list or {"only": [...]}; else a ValueError."""
    if isinstance(stated, Mapping) and not stated:
        raise ValueError("expected a list of further texts, or {only: [...]}, got an empty mapping")
    return stated


def missing_values(stated: Sequence[str] | Mapping[Any, Sequence[str]]) -> tuple[str, ...]:
    """Return the texts that stand for no value: those that are known and further ones, or {"only": [...]}.

    >>> missing_values({"only": ["?"]}), "?" in missing_values(["?"]), "NA" in missing_values(["?"])
    (('?',), True, True)
    """
    return tuple(dict.fromkeys(stated["only"] if isinstance(stated, Mapping) else (*MISSING, *stated)))


def split_unit(text: str) -> tuple[str, str] | None:
    """Return the unit beside a number, "" if there is none, and the number; None for what does not look like one.

    >>> split_unit("-$1,250"), split_unit("12 %"), split_unit("4"), split_unit("Q1"), split_unit("2020-01-02")
    (('$', '-1,250'), ('%', '12'), ('', '4'), None, None)
    """
    match = _PARTS.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None:
        return None
    sign, before, number, after = (group or "" for group in match.group("sign", "before", "number", "after"))
    if (before and (after or before not in CURRENCIES)) or (sign and number[0] in _SIGNS):
        return None
    return before or after, sign + number


def text_of(value: object) -> str:
    """Return the text that a value of an array or a Parquet file would be in a CSV file.

    >>> text_of(1.0), text_of(True), text_of(b"a"), text_of(0.5)
    ('1', 'True', 'a', '0.5')
    """
    if isinstance(value, float) and abs(value) < 2**53 and value == int(value):
        return str(int(value))
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value).strip()


def is_missing(value: object) -> bool:
    """Return whether a value that is no text stands for none: None, NaN, NaT, pandas' NA."""
    return (
        value is None
        or type(value).__name__ in ("NAType", "NaTType")
        or (isinstance(value, float | np.floating | np.datetime64) and bool(value != value))
    )


def truth_of(text: str) -> bool | None:
    """Return what the text of a truth value says, in any case of its letters; None for another text."""
    return {"true": True, "false": False}.get(text.casefold())


def spellings(names: Sequence[str]) -> dict[str, int]:
    """Return the texts that stand for these classes or categories, with their numbers: the names, and what is the same.

    A whole number is the same with a point, and where there are only 0 and 1, or only true and false, these are the
    same too: one tool writes what the other reads.

    >>> spellings(["0", "1"])["True"], spellings(["False", "True"])["1"], spellings(["2", "10"])["10.0"]
    (1, 1, 1)
    """
    found = {name: number for number, name in enumerate(names)}
    digits = {"0": False, "1": True}
    truths = [digits.get(name, truth_of(name)) for name in names]
    for number, name in enumerate(names):
        same = []
        if re.fullmatch(r"[-+]?\d+(\.0*)?", name):
            whole = name.partition(".")[0]
            same += [whole, f"{whole}.0", whole.removeprefix("+"), f"{whole.removeprefix('+')}.0"]
        if None not in truths:
            word, digit = str(truths[number]), str(int(bool(truths[number])))
            same += [word.lower(), word, word.upper(), digit, f"{digit}.0"]
        for text in same:
            found.setdefault(text, number)
    return found


@cache
def _missing_labels(notation: Notation) -> frozenset[str]:
    return frozenset(map(notation.label, notation.missing))


@cache
def _numbers_among(notation: Notation) -> frozenset[float]:
    found = set()
    for text in notation.missing:
        with suppress(ValueError):
            found.add(replace(notation, missing=frozenset()).number(text))
    return frozenset(number for number in found if number == number)


@cache
def _has_number(texts: frozenset[str]) -> bool:
    """Return whether a number stands for a missing value (-999): then a cell is compared before it becomes one."""
    return any(re.fullmatch(r"[-+.,\d eE]*\d[-+.,\d eE]*", text) for text in texts)

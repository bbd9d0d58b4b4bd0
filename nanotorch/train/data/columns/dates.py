"""Dates and times of a table as numbers that a network can learn from.

Note [Dates as numbers]
~~~~~~~~~~~~~~~~~~~~~~~
A column `when` of dates becomes several columns of numbers:

    when: year              as it is
    when: month (sin, cos)  twelve points on a circle, so that December is beside January
    when: weekday (sin, cos) seven points, Monday first
    when: hour (sin, cos)   the time of day on a circle, to the microsecond
    when: elapsed (days)    days since 1970-01-01 00:00, with the time as their fraction

of which those that are the same in every row are left out. Nothing is learnt from the rows for it. A time without a
date is one on 1970-01-01. A time with an offset ("+02:00", or one of Parquet with a time zone) is meant in UTC, in
training and afterwards, and a column has either such times or others.

Which day "03/04/2020" is depends on who wrote it: where no row tells, nothing is guessed.
"""

from __future__ import annotations

import datetime
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from nanotorch.train.data.columns.columns import Columns
from nanotorch.train.data.columns.notation import is_missing
from nanotorch.train.data.table import DataError, FloatArray, TableError, shown

Stamps = NDArray[np.datetime64]
DAY = 86_400_000_000  # microseconds
FEWEST = 20  # different numbers, of which it is no chance that all are dates
DIGITS = 12
"""Of sines and cosines, so that those that are equal are so in every bit, on every machine: quantiles look at it."""
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_TIME = (
    r"(?P<hour>\d{1,2}):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:[.,](?P<part>\d{1,9}))?)?"
    r"(?: ?(?P<half>[AaPp])\.?[Mm]\.?)?(?: ?(?P<zone>Z|UTC|[+-]\d\d(?::?\d\d)?))?"
)
_DATES = {
    "year-month-day": r"(?P<year>\d{4})(?P<mark>[-/.])(?P<month>\d{1,2})(?P=mark)(?P<day>\d{1,2})",
    "day.month.year": r"(?P<day>\d{1,2})\.(?P<month>\d{1,2})\.(?P<year>\d{4})",
    "day/month/year": r"(?P<day>\d{1,2})(?P<mark>[-/])(?P<month>\d{1,2})(?P=mark)(?P<year>\d{4})",
    "month/day/year": r"(?P<month>\d{1,2})(?P<mark>[-/])(?P<day>\d{1,2})(?P=mark)(?P<year>\d{4})",
    "day name year": r"(?P<day>\d{1,2})[- ](?P<name>[A-Za-z]{3,9})\.?[- ](?P<year>\d{4})",
    "name day year": r"(?P<name>[A-Za-z]{3,9})\.? (?P<day>\d{1,2}),? (?P<year>\d{4})",
    "year-month": r"(?P<year>\d{4})-(?P<month>\d\d)",
}
_DIGITS = {
    "yearmonthday": r"(?P<year>(?:19|20)\d\d)(?P<month>\d\d)(?P<day>\d\d)",
    "daymonthyear": r"(?P<day>\d\d?)(?P<month>\d\d)(?P<year>(?:19|20)\d\d)",
    "monthdayyear": r"(?P<month>\d\d?)(?P<day>\d\d)(?P<year>(?:19|20)\d\d)",
}
ISO = "year-month-day"
PATTERNS = {name: re.compile(rf"{date}(?:[T ,]\s?{_TIME})?") for name, date in _DATES.items()}
PATTERNS["year-month"] = re.compile(_DATES["year-month"])
PATTERNS["hour:minute"] = re.compile(_TIME)
PATTERNS |= {
    name: re.compile(rf"{date}(?:[T ]?(?P<hour>\d\d):?(?P<minute>\d\d)(?::?(?P<second>\d\d))?(?P<zone>Z)?)?")
    for name, date in _DIGITS.items()
}
_PLAIN_DATE, _PLAIN_TIME = "(?!0000)[0-9]{4}-[0-9]{2}-[0-9]{2}", "[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]{1,6})?)?"
PLAIN = {False: f"{_PLAIN_DATE}({_PLAIN_TIME})?", True: f"{_PLAIN_DATE}{_PLAIN_TIME}Z"}
"""What NumPy reads of dates without an offset, and of those in UTC."""
_OFFSET = "[+-]([01][0-9]|2[0-3]):[0-5][0-9]"
_REWRITTEN = {  # dates of two digits, and what they are in the order that NumPy reads
    "day.month.year": (r"([0-9]{2})([.])([0-9]{2})[.]([0-9]{4})", r"\4-\3-\1"),
    "day/month/year": (r"([0-9]{2})([-/])([0-9]{2})\2([0-9]{4})", r"\4-\3-\1"),
    "month/day/year": (r"([0-9]{2})([-/])([0-9]{2})\2([0-9]{4})", r"\4-\1-\3"),
}
Part = Literal[
    "year", "month (sin)", "month (cos)", "weekday (sin)", "weekday (cos)", "hour (sin)", "hour (cos)", "elapsed (days)"
]
PARTS: tuple[Part, ...] = get_args(Part)
INPUT = "seconds since 1970-01-01 00:00"
"""What an exported model takes in place of a date."""


@dataclass(frozen=True, slots=True)
class Dates:
    """How a column of dates is read, and what the model sees of it (Note [Dates as numbers]).

    Attributes:
        form: a name of `PATTERNS`, or a format of strptime.
        utc: whether its times have an offset, and are meant in UTC.
        parts: those of `PARTS` that the model sees.
    """

    form: str
    utc: bool
    parts: tuple[Part, ...] = PARTS

    def columns(self, name: str) -> tuple[str, ...]:
        """Return the names of the columns of numbers."""
        return tuple(f"{name}: {part}" for part in self.parts)

    def stamps(
        self, values: Sequence[Any] | NDArray[Any], missing: frozenset[str], place: Callable[[int], str]
    ) -> Stamps:
        """Return a column of texts, dates of Python, NumPy or pandas as stamps; a DataError names what is none."""
        column = np.asarray(values)
        if column.dtype.kind == "M":
            if self.utc:
                raise DataError(f"{place(0)} is a time without an offset, and those of training have one")
            return column.astype("datetime64[us]")
        texts = [None if (text := _text(value)) in missing else text for value in column.tolist()]
        iso_too = self.form in PATTERNS or "%Y-" not in self.form  # which reads such a text in another way
        at_once = _stamps_of_plain(texts, self.utc) if iso_too else None
        at_once = _stamps_at_once(texts, self.form, self.utc) if at_once is None else at_once
        if at_once is not None:
            return at_once
        found: dict[str | None, np.datetime64] = {None: np.datetime64("NaT")}
        stamps = np.empty(len(column), "datetime64[us]")
        for row, text in enumerate(texts):
            if text not in found:
                stamp = read(text, self.form) or (read(text, ISO) if iso_too else None)
                if stamp is None:
                    raise DataError(f"{place(row)} holds {shown(text)}, which is no date of the form {self.form}")
                if (stamp.tzinfo is not None) != self.utc:
                    have, had = ("has an offset", "have none") if stamp.tzinfo else ("has no offset", "have one")
                    raise DataError(f"{place(row)} holds {shown(text)}, which {have}, and the others {had}")
                found[text] = _stamp(stamp)
            stamps[row] = found[text]
        return stamps

    def state(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        return {"form": self.form, "utc": self.utc, "parts": self.parts}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Dates:
        """Rebuild from what `state` returned."""
        return cls(state["form"], state["utc"], tuple(state["parts"]))


def _text(value: Any) -> str | None:
    """Return a date or time of whatever library as a text, None where it is missing."""
    if isinstance(value, str):
        return value.strip()
    if is_missing(value):
        return None
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _stamps_of_plain(texts: Sequence[str | None], utc: bool) -> Stamps | None:
    """Return texts as stamps by NumPy, forty times as fast, if all are written as it reads them; else None."""
    plain = re.compile(PLAIN[utc])
    if not all(text is None or plain.fullmatch(text) for text in texts):
        return None
    try:
        return np.array(["NaT" if text is None else text.removesuffix("Z") for text in texts], "datetime64[us]")
    except ValueError:  # 31 February
        return None


def _stamps_at_once(texts: Sequence[str | None], form: str, utc: bool) -> Stamps | None:
    """Return texts of another form as stamps by NumPy, if all are written with two digits or one kind of offset."""
    there = [text for text in texts if text is not None]
    if form == ISO and utc:
        plain, before = re.compile(f"{_PLAIN_DATE}{_PLAIN_TIME}{_OFFSET}"), [text[:-6] for text in there]
        if not all(map(plain.fullmatch, there)):
            return None
        minutes = {after: _minutes(after) for after in {text[-6:] for text in there}}
        stamps = _stamps_of_plain(before, False)
        if stamps is None:
            return None
        stamps = stamps - np.array([minutes[text[-6:]] for text in there], "timedelta64[m]")
        years = stamps.astype("datetime64[Y]").astype(np.int64) + 1970
        if len(years) and not (years.min() >= datetime.MINYEAR and years.max() <= datetime.MAXYEAR):
            return None
    elif form in _REWRITTEN and not utc:
        date, order = _REWRITTEN[form]
        pattern = re.compile(rf"^{date}((?:{_PLAIN_TIME})?)$", re.MULTILINE)
        rewritten, count = pattern.subn(rf"{order}\5", "\n".join(there))
        if count != len(there) or rewritten.count("\n") != max(0, count - 1):
            return None
        stamps = _stamps_of_plain(rewritten.split("\n") if there else [], False)
        if stamps is None:
            return None
    else:
        return None
    found = np.full(len(texts), np.datetime64("NaT"), "datetime64[us]")
    found[[text is not None for text in texts]] = stamps
    return found


def _minutes(offset: str) -> int:
    return (int(offset[1:3]) * 60 + int(offset[4:])) * (-1 if offset[0] == "-" else 1)


def _stamp(stamp: datetime.datetime) -> np.datetime64:
    if stamp.tzinfo is not None:
        stamp = stamp.astimezone(datetime.UTC).replace(tzinfo=None)
    return np.datetime64(stamp, "us")


@lru_cache(2**17)
def read(text: str | None, form: str) -> datetime.datetime | None:
    """Return the date in a text of a form, with its offset where it has one; None where it is none.

    >>> read("2020-02-29T13:05", "year-month-day"), read("2/29/2020 1:05 PM", "month/day/year")
    (datetime.datetime(2020, 2, 29, 13, 5), datetime.datetime(2020, 2, 29, 13, 5))
    >>> read("2020-02-30", "year-month-day"), read("29.2.20", "%d.%m.%y")
    (None, datetime.datetime(2020, 2, 29, 0, 0))
    """
    if text is None:
        return None
    try:
        if form not in PATTERNS:
            return datetime.datetime.strptime(text, form)
        match = PATTERNS[form].fullmatch(text) if len(text) < 60 else None
        return None if match is None else _of_parts(match.groupdict())
    except (ValueError, OverflowError):  # 31 February, or an offset that leads out of the calendar
        return None


def _of_parts(part: dict[str, str | None]) -> datetime.datetime:
    month = part.get("month") or str(_MONTHS.index((part.get("name") or "jan")[:3].lower()) + 1)
    hour = int(part.get("hour") or 0)
    if half := part.get("half"):
        if not 1 <= hour <= 12:
            raise ValueError(hour)
        hour = hour % 12 + 12 * (half in "Pp")
    micro = (part.get("part") or "")[:6].ljust(6, "0")
    zone = part.get("zone")
    offset = None
    if zone is not None:
        digits = zone[1:].replace(":", "").ljust(4, "0") if zone[0] in "+-" else "0000"
        away = datetime.timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
        offset = datetime.timezone(-away if zone[0] == "-" else away)
    made = datetime.datetime(
        int(part.get("year") or 1970),
        int(month),
        int(part.get("day") or 1),
        hour,
        int(part.get("minute") or 0),
        int(part.get("second") or 0),
        int(micro),
        offset,
    )
    if offset is not None:
        made.astimezone(datetime.UTC)  # one that leads out of the calendar is no date
    return made


def date_format(text: str) -> str:
    """Return the text, if it is auto, a name of `PATTERNS`, or a format of strptime; else a ValueError."""
    if text != "auto" and text not in PATTERNS and "%" not in text:
        raise ValueError(f"expected auto, {', '.join(PATTERNS)}, or a format such as %d.%m.%y, got {shown(text)}")
    return text


def dates_of(whole: Columns, name: str, form: str = "auto", stated: bool = False) -> Dates | None:
    """Return how a column of texts is to be read as dates; None if it holds others.

    A TableError where the texts may be several dates, and where some are none, if most are or all were `stated` to be.
    """
    texts = whole[name].tolist()
    counts = Counter(text for text in texts if text is not None)
    for utc in (False, True):
        if counts and form in ("auto", ISO) and _stamps_of_plain(list(counts), utc) is not None:
            return Dates(ISO, utc)
    forms = list(PATTERNS) if form == "auto" else [form]
    able = [each for each in forms if _reads_all(list(counts), each)] if counts else []
    if len(able) > 1 and len({tuple(read(text, each) for text in counts) for each in able}) > 1:
        row = next(row for row, text in enumerate(texts) if text and read(text, able[0]) != read(text, able[1]))
        raise TableError(
            f"{whole.where(row)}: column {shown(name)} holds {shown(texts[row])}, and no row tells whether that is"
            f" {' or '.join(able)}; set data.date_format to what is meant, or list the column under data.categorical",
            "data",
            "date_format",
        )
    if able:
        first = next(stamp for text in counts if (stamp := read(text, able[0])) is not None)
        return Dates(able[0], first.tzinfo is not None)
    share = {each: sum(count for text, count in counts.items() if read(text, each) is not None) for each in forms}
    if form != "auto" and not share[form]:  # it is that of other columns
        return dates_of(whole, name, "auto", stated)
    best = max(share, key=lambda each: share[each])
    if counts and (stated or share[best] * 2 > counts.total()):
        row = next(row for row, text in enumerate(texts) if text is not None and read(text, best) is None)
        among = f", among {share[best]} of the form {best} in {counts.total()} rows" if share[best] else ""
        raise TableError(
            f"{whole.where(row)}: column {shown(name)} holds {shown(texts[row])}, which is no date{among}; mend it, or"
            " add it to data.missing_values, or set data.date_format, or list the column under data.categorical or"
            " data.drop"
        )
    return None


def _reads_all(texts: Sequence[str], form: str) -> bool:
    at_once = any(_stamps_at_once(texts, form, utc) is not None for utc in (False, True))
    return at_once or all(read(text, form) is not None for text in texts)


def like_dates(name: str, numbers: FloatArray) -> str:
    """Return what to say of a column of numbers that are all dates without a mark between their parts, as 31012020 is
    one; "" for others.
    """
    there = numbers[~np.isnan(numbers)]
    if len(there) < FEWEST or not ((there >= 1011900) & (there <= 31122099) & (there == there.round())).all():
        return ""
    texts = [str(int(number)) for number in np.unique(there)]
    forms = [form for form in _DIGITS if all(read(text, form) is not None for text in texts)]
    if len(texts) < FEWEST or not forms:
        return ""
    return (
        f"column {shown(name)} is read as numbers, and {texts[0]} and all others are dates ({' or '.join(forms)}):"
        f" data.dates: [{name}] reads them so, data.numeric states that they are none"
    )


def columns_of(
    whole: Columns, name: str, dates: Dates, drop: Collection[str] = ()
) -> tuple[Dates, list[FloatArray], str]:
    """Return the parts of a column of dates that differ between rows and are not to be dropped, as columns of numbers,
    and what to say of it.
    """
    stamps = dates.stamps(whole[name], frozenset(), lambda row: f"{whole.where(row)}: column {shown(name)}")
    found = dict(zip(PARTS, parts_of(stamps), strict=True))
    kept = tuple(
        part
        for part, values in found.items()
        if f"{name}: {part}" not in drop and (part == PARTS[-1] or len(np.unique(values[~np.isnan(values)])) > 1)
    )
    if not kept:
        raise TableError(f"data.drop leaves nothing of column {shown(name)}; name the column itself", "data", "drop")
    words = ", ".join(dict.fromkeys(part.partition(" ")[0] for part in kept))
    meant = ", in UTC" if dates.utc else ""
    notice = f"column {shown(name)} holds dates or times ({dates.form}{meant}); the model sees {words}"
    return replace(dates, parts=kept), [found[part] for part in kept], notice


def parts_of(stamps: Stamps, parts: Sequence[str] = PARTS) -> list[FloatArray]:
    """Return these parts of dates, NaN where one is missing (Note [Dates as numbers])."""
    lacking = np.isnat(stamps)
    micro = np.where(lacking, 0, stamps.astype(np.int64))
    days, of_day = np.divmod(micro, DAY)
    months = days.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)
    turns = {"month": months % 12 / 12, "weekday": (days + 3) % 7 / 7, "hour": of_day / DAY}
    found = []
    for part in parts:
        name, _, kind = part.partition(" ")
        if name in turns:
            values = ((np.sin if kind == "(sin)" else np.cos)(2 * np.pi * turns[name])).round(DIGITS)
        else:
            values = months // 12 + 1970.0 if name == "year" else micro / DAY
        found.append(np.where(lacking, np.nan, values))
    return found

"""From a table to what a model sees: fitted on the training part alone, saved with the model as plain numbers.

Note [Columns of the model]
~~~~~~~~~~~~~~~~~~~~~~~~~~~
The rows that a model sees are laid out as follows, and `input_names` names them:

    the numeric columns      missing values filled with the training part's median, then brought to a common size; the
                             parts of dates (Note [Dates as numbers] in dates.py) are such columns
    their indicators         1.0 where a value was missing, for each numeric column that lacked one in the training
                             part; of the parts of a date for the first
    the categorical columns  one-hot: 1.0 in the column of the row's category, else 0.0
                             embedding: the category's number

The categories of a column are those of the training part, in the order of their texts. If it lacked values there,
"missing" is a further category, the last one. Where there are more than may be, the least frequent are one, "other",
which stands after the others. A category that is not known is taken for "other" if there is that, else for missing if
that is a category, and else for the most frequent one; a missing value where there is no such category likewise.
`encode` says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from nanotorch.train.data.class_targets import Classes, by_target, encoded, widths
from nanotorch.train.data.columns.category import Category
from nanotorch.train.data.columns.dates import Dates, parts_of
from nanotorch.train.data.columns.hashed_texts import hashed, hashed_columns
from nanotorch.train.data.columns.notation import Notation, spellings
from nanotorch.train.data.columns.raw_cells import as_numbers, as_texts, without_unit
from nanotorch.train.data.data_notices import Noticed
from nanotorch.train.data.disk_rows import DiskRows
from nanotorch.train.data.standardizer import How, QuantileScaler, Standardizer, fit_scaler, scaler_from_state
from nanotorch.train.data.table import DataError, FloatArray, Mistakes, Rare, Table, Task, quoted, quoted_columns, shown

MOST_ONE_HOT = 100  # categories of a column, where the config states no other number
Encoding = Literal["one_hot", "embedding"]


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """What was done to the columns of the training part, and is done to every other row that the model sees.

    Attributes:
        task: "binary", "multiclass", "regression", "multilabel" or "multioutput".
        feature_names: the columns that go in, as the table names them.
        target_names: the classes, or the columns of the targets.
        scaler: brings the numeric columns to a common size, or None.
        target_scaler: standardises the targets of a regression, or None.
        fills: what is put in place of a missing value, for each numeric column (its median; the mean where rows stay on
            the disk).
        indicators: the numeric columns that lacked values, which the model is told.
        categories: the categorical columns.
        encoding: "one_hot" or "embedding".
        missing_values: the texts that stand for a missing value.
        units: what stands beside the numbers of a column, feature or target, where there is something.
        rare: the classes of too few rows, and what became of them.
        dates: the columns of dates, whose parts are among `feature_names`.
        texts: the columns of free text, whose sums of words are too.
        truths: the numeric columns that held nothing but 0 and 1, which false and true are as well.
        classes: of several targets of classes those of each (Note [Several targets of classes] in class_targets.py).
    """

    task: Task
    feature_names: tuple[str, ...]
    target_names: tuple[str, ...]
    scaler: Standardizer | QuantileScaler | None
    target_scaler: Standardizer | None
    fills: tuple[float, ...] = ()
    indicators: tuple[str, ...] = ()
    categories: Mapping[str, Category] = field(default_factory=dict)
    encoding: Encoding = "one_hot"
    missing_values: tuple[str, ...] = ()
    units: Mapping[str, str] = field(default_factory=dict)
    rare: Rare | None = None
    dates: Mapping[str, Dates] = field(default_factory=dict)
    texts: tuple[str, ...] = ()
    truths: tuple[str, ...] = ()
    classes: Classes = ()

    @classmethod
    def fit(
        cls,
        table: Table,
        standardize: How,
        standardize_target: bool,
        encoding: Encoding = "one_hot",
        max_categories: int | None = None,
        missing_values: Sequence[str] = (),
    ) -> Self:
        """Learn from the training part."""
        if isinstance(table.features, DiskRows):
            if isinstance(standardize, str):
                raise DataError(
                    f"data.standardize: {standardize} needs all rows in memory, and these stay on the disk; take true",
                    "data",
                    "standardize",
                )
            statistics = Standardizer.fit(table.features)
            scale_targets = table.task == "regression" and standardize_target
            return cls(
                table.task,
                table.feature_names,
                table.target_names,
                statistics if standardize else None,
                Standardizer.fit(table.targets, "standardize_target") if scale_targets else None,
                tuple(statistics.mean.tolist()),
                rare=table.rare,
                classes=table.classes,
            )
        texts = table.categories or {}
        numeric = _numeric(table.feature_names, texts)
        mistakes = Mistakes()
        for index, name in enumerate(table.feature_names):
            with mistakes.gathered():
                if np.isnan(table.features[:, index]).all():
                    raise DataError(
                        f"column {shown(name)} has no value in any row for training; list it under data.drop",
                        "data",
                        "drop",
                    )
        mistakes.tell()
        values = table.features[:, list(numeric.values())] if texts else table.features
        lacking = np.isnan(values)
        fills = np.nanmedian(values, axis=0) if lacking.any() else np.median(values, axis=0)
        same = {part for name, dates in table.dates.items() for part in dates.columns(name)[1:]}  # one tells of all
        indicators = tuple(name for index, name in enumerate(numeric) if lacking[:, index].any() and name not in same)
        scaler = fit_scaler(np.where(lacking, fills, values), standardize) if numeric else None
        regression = table.task == "regression"
        target_scaler = (
            Standardizer.fit(table.targets, "standardize_target") if regression and standardize_target else None
        )
        columns = {name: table.features[:, table.feature_names.index(name)] for name in texts}
        categories = {name: Category.fit(columns[name], known, max_categories) for name, known in texts.items()}
        return cls(
            table.task,
            table.feature_names,
            table.target_names,
            scaler,
            target_scaler,
            tuple(fills.tolist()),
            indicators,
            categories,
            encoding,
            tuple(missing_values),
            table.units,
            table.rare,
            table.dates,
            table.texts,
            tuple(name for name, column in zip(numeric, values.T, strict=True) if _holds_truths(column)),
            table.classes,
        )

    # -- what the model sees (Note [Columns of the model])

    @property
    def missing_numbers(self) -> frozenset[float]:
        """The numbers that stand for a missing value."""
        return Notation(missing=frozenset(self.missing_values)).missing_numbers

    @property
    def numeric_names(self) -> tuple[str, ...]:
        """The columns that hold numbers."""
        return tuple(name for name in self.feature_names if name not in self.categories)

    @property
    def column_names(self) -> tuple[str, ...]:
        """The columns that rows have to come with: a column of dates in place of its parts."""
        whole = {part: name for name, dates in self.dates.items() for part in dates.columns(name)}
        whole |= {part: name for name in self.texts for part in hashed_columns(name)}
        return tuple(dict.fromkeys(whole.get(name, name) for name in self.feature_names))

    @property
    def columns_of_numbers(self) -> tuple[str, ...]:
        """Those of `column_names` that come as numbers."""
        return tuple(name for name in self.column_names if name not in self.columns_of_texts)

    @property
    def columns_of_texts(self) -> tuple[str, ...]:
        """Those of `column_names` that come as texts."""
        return (*self.categories, *self.dates, *self.texts)

    @property
    def input_names(self) -> tuple[str, ...]:
        """A name for each number of a row that the model sees."""
        names = [*self.numeric_names, *(f"{name} is missing" for name in self.indicators)]
        for name, category in self.categories.items():
            one_hot = self.encoding == "one_hot"
            names += [f"{name}={value}" for value in category.names] if one_hot else [name]
        return tuple(names)

    @property
    def in_features(self) -> int:
        """How many numbers a row has for the model."""
        return len(self.input_names)

    @property
    def embeddings(self) -> tuple[int, ...]:
        """For each of the last columns, how many categories its numbers stand for;
        empty unless they are to be embedded.
        """
        if self.encoding != "embedding":
            return ()
        return tuple(len(category.names) for category in self.categories.values())

    @property
    def out_features(self) -> int:
        """How many outputs the model has: a logit for two classes, one for each of more, or one for each target."""
        return sum(widths(self.classes)) or (1 if self.task == "binary" else len(self.target_names))

    @property
    def of_classes(self) -> Classes:
        """The classes of each target that has some: of one target its own, none for a regression."""
        return self.classes or (() if self.task == "regression" else (self.target_names,))

    def each(self, outputs: NDArray[Any]) -> list[NDArray[Any]]:
        """Return the outputs for each target of classes, from those of all, (n, out_features)."""
        return by_target(outputs, widths(self.classes)) if self.classes else [outputs]

    def features(self, table: Table) -> FloatArray:
        """Return the rows of a table as the model sees them, (n, in_features) float64."""
        if isinstance(table.features, DiskRows):
            return self._lay_out(table.features[:].astype(np.float64), ())
        numeric = list(_numeric(self.feature_names, self.categories).values())
        values = table.features[:, numeric] if self.categories else table.features
        return self._lay_out(values, [self._numbers_of(table, name) for name in self.categories])

    def _numbers_of(self, table: Table, name: str) -> NDArray[np.int64]:
        """Return a column of categories of a table in memory as their numbers."""
        assert table.categories is not None and isinstance(table.features, np.ndarray)
        codes = table.features[:, self.feature_names.index(name)]
        return self.categories[name].numbers(codes, table.categories[name])

    def _lay_out(self, values: FloatArray, numbers: Sequence[NDArray[np.int64]]) -> FloatArray:
        """Return the columns of the model from those of the numbers, and the categories' numbers."""
        lacking = np.isnan(values)
        whole = np.where(lacking, self.fills, values) if lacking.any() else values
        scaled = whole if self.scaler is None else self.scaler.transform(whole)
        if not self.indicators and not self.categories:
            return scaled
        places = [self.numeric_names.index(name) for name in self.indicators]
        blocks = [scaled, lacking[:, places].astype(np.float64)]
        for category, codes in zip(self.categories.values(), numbers, strict=True):
            if self.encoding == "one_hot":
                blocks.append((codes[:, None] == np.arange(len(category.names))).astype(np.float64))
            else:
                blocks.append(codes[:, None].astype(np.float64))
        return np.concatenate(blocks, axis=1)

    def grouped(self, table: Table) -> Iterator[str]:
        """Return what is to be said of the columns of the training part that had more categories than may be."""
        for name, category in self.categories.items():
            if not category.other:
                continue
            codes = table.features[:, self.feature_names.index(name)]
            different = len(np.unique(codes[~np.isnan(codes)]))
            share = np.mean(self._numbers_of(table, name) == category.fallback)
            names = "list it under data.drop if it is a name or a number of the row; "
            yield (
                f"column {shown(name)}: of {different:,} categories the {len(category.values):,} most frequent are told"
                f" apart, and the others, in {share:.1%} of the training rows, are one, '(other)';"
                f" {names if different * 2 > len(table) else ''}data.max_categories or data.categories: embedding tells"
                " more apart"
            )

    def notice(self, table: Table, noticed: Noticed) -> None:
        """Count what there is in a table that the training part did not have: missing values, and categories."""
        if isinstance(table.features, DiskRows) or table.categories is None:
            return
        same = {part for name, dates in self.dates.items() for part in dates.columns(name)[1:]}
        for name, index in _numeric(self.feature_names, self.categories).items():
            if name not in self.indicators and name not in same:
                fill = self.fills[self.numeric_names.index(name)]
                noticed.lacks(name, int(np.isnan(table.features[:, index]).sum()), f"filled with {fill:g}")
        for name, category in self.categories.items():
            codes, texts = table.features[:, self.feature_names.index(name)], table.categories[name]
            lacking, known = np.isnan(codes), spellings(category.values)
            if not category.other:  # else there are such in the training part too
                found = Counter(texts[code] for code in codes[~lacking].astype(np.int64).tolist())
                unknown = Counter({text: count for text, count in found.items() if text not in known})
                noticed.strange(name, unknown, f"taken for {shown(category.names[category.fallback])}")
            if not category.missing:
                noticed.lacks(name, int(lacking.sum()), f"taken for {shown(category.names[category.of_missing])}")

    def encode(self, columns: Mapping[str, Sequence[Any] | NDArray[Any]]) -> tuple[FloatArray, list[str]]:
        """Raw rows as the model sees them, and what was noticed about them.

        `columns` maps names to columns of one length, in any order: texts, numbers, None or NaN for a missing value. A
        pandas DataFrame is one, and so is what `read_columns` gives. A column that the model needs and that is not
        there, and a cell that is no finite number where one is needed, are a DataError that names the place.
        """
        absent = [name for name in self.column_names if name not in columns]
        source = getattr(columns, "source", "the table")
        if absent:
            known = quoted(columns, 20)
            raise DataError(f"{source} lacks {quoted_columns(absent)} that the model was trained on; it has {known}")
        notices = []
        further = [str(name) for name in columns if name not in self.column_names]
        if further:
            are = "column is" if len(further) == 1 else "columns are"
            notices.append(f"{len(further)} further {are} not used: {quoted(further)}")
        noticed = Noticed()
        features = self.encode_piece(columns, noticed)
        return features, [*notices, *noticed.sentences()]

    def encode_piece(self, columns: Mapping[str, Sequence[Any] | NDArray[Any]], noticed: Noticed) -> FloatArray:
        """As `encode`, for some of many rows, all columns known to be there;
        what is noticed is counted in `noticed`.
        """
        where = getattr(columns, "where", lambda row: f"row {row + 1}")
        notation = getattr(columns, "notation", Notation(missing=frozenset(self.missing_values)))
        numeric = []
        told, parts, mistakes = set(self.indicators), dict[str, FloatArray](), Mistakes()
        for name, dates in self.dates.items():
            with mistakes.gathered():
                place = partial(_place, where, name)
                stamps = dates.stamps(columns[name], notation.missing, place)
                parts |= zip(dates.columns(name), parts_of(stamps, dates.parts), strict=True)
            told |= set(dates.columns(name)[0 if dates.columns(name)[0] in self.indicators else 1 :])
        for name in self.texts:
            parts |= zip(hashed_columns(name), hashed(columns[name], notation.missing).T, strict=True)
        for name, fill in zip(self.numeric_names, self.fills, strict=True):
            unit = self.units.get(name, "")
            with mistakes.gathered():
                if name in parts:
                    column = parts[name]
                elif name in columns:
                    column = as_numbers(columns[name], name, where, notation, unit, name in self.truths)
                    noticed.bare(name, without_unit(columns[name], notation, unit), unit)
                else:  # a part of a date that is none
                    continue
                if name not in told:
                    noticed.lacks(name, int(np.isnan(column).sum()), f"filled with {fill:g}")
                numeric.append(column)
        mistakes.tell()
        numbers = []
        for name, category in self.categories.items():
            known = spellings(category.values)
            texts = as_texts(columns[name], known, notation)
            unknown = Counter(text for text in texts if text is not None and text not in known)
            noticed.strange(name, unknown, f"taken for {shown(category.names[category.fallback])}")
            if not category.missing:
                lacking = sum(text is None for text in texts)
                noticed.lacks(name, lacking, f"taken for {shown(category.names[category.of_missing])}")
            codes = [category.of_missing if text is None else known.get(text, category.fallback) for text in texts]
            numbers.append(np.array(codes, np.int64))
        rows = len(numeric[0]) if numeric else len(numbers[0])
        values = np.stack(numeric, axis=1) if numeric else np.empty((rows, 0))
        return self._lay_out(values, numbers)

    def targets(self, table: Table) -> Any:
        """Return the targets as the loss sees them: class numbers (n,), values (n, k) float64, or `encoded` classes."""
        if self.classes:
            return encoded(table.targets, self.classes)
        return table.targets if self.target_scaler is None else self.target_scaler.transform(table.targets)

    def in_units(self, outputs: NDArray[Any]) -> FloatArray:
        """Return outputs for a regression (n, k) in the units of the targets."""
        values = outputs.astype(np.float64)
        return values if self.target_scaler is None else self.target_scaler.inverse_transform(values)

    @property
    def target_scale(self) -> FloatArray | None:
        """What an error of the model is multiplied by to be in the units of the targets."""
        return None if self.target_scaler is None else self.target_scaler.scale

    def state(self) -> dict[str, Any]:
        """Return all of it as plain values, exact in JSON: `from_state` gives an equal object back."""
        added: dict[str, Any] = {"units": dict(self.units)} if self.units else {}
        if self.texts:
            added["texts"] = self.texts
        if self.truths:
            added["truths"] = self.truths
        if self.dates:
            added["dates"] = {name: dates.state() for name, dates in self.dates.items()}
        if self.classes:
            added["classes"] = self.classes
        if self.rare is not None:
            added["rare"] = self.rare
        return added | {
            "task": self.task,
            "feature_names": self.feature_names,
            "target_names": self.target_names,
            "scaler": None if self.scaler is None else self.scaler.state(),
            "target_scaler": None if self.target_scaler is None else self.target_scaler.state(),
            "fills": self.fills,
            "indicators": self.indicators,
            "categories": [[name, category.state()] for name, category in self.categories.items()],
            "encoding": self.encoding,
            "missing_values": self.missing_values,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Rebuild from what `state` returned."""
        scalers = {name: scaler_from_state(state[name]) for name in ("scaler", "target_scaler")}
        return cls(
            state["task"],
            tuple(state["feature_names"]),
            tuple(state["target_names"]),
            **scalers,
            fills=tuple(state["fills"]),
            indicators=tuple(state["indicators"]),
            categories={name: Category.from_state(each) for name, each in state["categories"]},
            encoding=state["encoding"],
            missing_values=tuple(state["missing_values"]),
            units=state.get("units", {}),
            texts=tuple(state.get("texts", ())),
            truths=tuple(state.get("truths", ())),
            dates={name: Dates.from_state(one) for name, one in state.get("dates", {}).items()},
            rare=Rare(tuple(state["rare"][0]), state["rare"][1]) if state.get("rare") else None,
            classes=tuple(map(tuple, state.get("classes", ()))),
        )


def _numeric(names: Sequence[str], categories: Mapping[str, Any]) -> dict[str, int]:
    """Return the columns of numbers, and where they are."""
    return {name: index for index, name in enumerate(names) if name not in categories}


def _holds_truths(column: FloatArray) -> bool:
    """Return whether a column has no other values than 0 and 1."""
    first = column[:100]
    return bool(np.isin(first[~np.isnan(first)], (0, 1)).all() and np.isin(column[~np.isnan(column)], (0, 1)).all())


def _place(where: Callable[[int], str], name: str, row: int) -> str:
    return f"{where(row)}: column {shown(name)}"

"""From a table to what a model sees: fitted on the training part alone, saved with the model as plain numbers.

Note [Columns of the model]
~~~~~~~~~~~~~~~~~~~~~~~~~~~
The rows that a model sees are laid out as follows, and `input_names` names them:

    the numeric columns      missing values filled with the training part's median, then brought to a common size
    their indicators         1.0 where a value was missing, for each numeric column that lacked one in the training part
    the categorical columns  one-hot: 1.0 in the column of the row's category, else 0.0
                             embedding: the category's number

The categories of a column are those of the training part, in the order of their texts. If it lacked values there,
"missing" is a further category, the last one. A category that is not known, and a missing value where there is no such
category, are taken for missing if that is a category, and else for the most frequent one; `encode` says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from nanotorch.train.data.data_notices import Noticed
from nanotorch.train.data.disk_rows import DiskRows
from nanotorch.train.data.standardizer import How, QuantileScaler, Standardizer, fit_scaler, scaler_from_state
from nanotorch.train.data.table import DataError, FloatArray, Table, Task
from nanotorch.train.terminal.text_report import listed

LISTED = 5  # columns or values in one notice
Encoding = Literal["one_hot", "embedding"]


@dataclass(frozen=True, slots=True)
class Category:
    """What the training part had in a categorical column.

    Attributes:
        values: its categories, sorted.
        missing: whether it lacked values, so that "missing" is a category too, the last one.
        fallback: the number of the category that an unknown one is taken for.
    """

    values: tuple[str, ...]
    missing: bool
    fallback: int

    @classmethod
    def fit(cls, codes: FloatArray, texts: Sequence[str]) -> Self:
        """Learn from numbers of categories, NaN for missing, and the texts that they stand for."""
        lacking = np.isnan(codes)
        used, counts = np.unique(codes[~lacking].astype(np.int64), return_counts=True)
        found = sorted(zip([texts[code] for code in used.tolist()], counts.tolist(), strict=True))
        values = tuple(value for value, _ in found)
        frequent = max(range(len(found)), key=lambda index: found[index][1])
        missing = bool(lacking.any())
        return cls(values, missing, len(values) if missing else frequent)

    @property
    def names(self) -> tuple[str, ...]:
        """The categories, "missing" included."""
        return (*self.values, "(missing)") if self.missing else self.values

    def numbers(self, codes: FloatArray, texts: Sequence[str]) -> NDArray[np.int64]:
        """Return numbers among `texts`, NaN for missing, as numbers of these categories."""
        known = {value: number for number, value in enumerate(self.values)}
        table = np.array([*(known.get(text, self.fallback) for text in texts), self.fallback], np.int64)
        return table[np.where(np.isnan(codes), len(texts), codes).astype(np.int64)]

    def state(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        return {"values": self.values, "missing": self.missing, "fallback": self.fallback}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Rebuild from what `state` returned."""
        return cls(tuple(state["values"]), state["missing"], state["fallback"])


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """What was done to the columns of the training part, and is done to every other row that the model sees.

    Attributes:
        task: "binary", "multiclass" or "regression".
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
            )
        texts = table.categories or {}
        numeric = _numeric(table.feature_names, texts)
        for name, index in numeric.items():
            if np.isnan(table.features[:, index]).all():
                raise DataError(
                    f"column {name!r} has no value in any row for training; list it under data.drop", "data", "drop"
                )
        values = table.features[:, list(numeric.values())] if texts else table.features
        lacking = np.isnan(values)
        fills = np.nanmedian(values, axis=0) if lacking.any() else np.median(values, axis=0)
        indicators = tuple(name for index, name in enumerate(numeric) if lacking[:, index].any())
        scaler = fit_scaler(np.where(lacking, fills, values), standardize) if numeric else None
        regression = table.task == "regression"
        target_scaler = (
            Standardizer.fit(table.targets, "standardize_target") if regression and standardize_target else None
        )
        categories = {}
        for name, known in texts.items():
            codes = table.features[:, table.feature_names.index(name)]
            if np.isnan(codes).all():
                raise DataError(
                    f"column {name!r} has no value in any row for training; list it under data.drop", "data", "drop"
                )
            categories[name] = Category.fit(codes, known)
            count = len(categories[name].values)
            if max_categories is not None and count > max_categories:
                raise DataError(
                    f"column {name!r} has {count} different texts in {len(table)} rows for training, more than"
                    f" data.max_categories={max_categories}: list it under data.drop, or allow more (data.categories:"
                    " embedding keeps the model small)",
                    "data",
                    "max_categories",
                )
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
        )

    # -- what the model sees (Note [Columns of the model])

    @property
    def numeric_names(self) -> tuple[str, ...]:
        """The columns that hold numbers."""
        return tuple(name for name in self.feature_names if name not in self.categories)

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
        return 1 if self.task == "binary" else len(self.target_names)

    def features(self, table: Table) -> FloatArray:
        """Return the rows of a table as the model sees them, (n, in_features) float64."""
        if isinstance(table.features, DiskRows):
            return self._lay_out(table.features[:].astype(np.float64), ())
        texts = table.categories or {}
        numeric = list(_numeric(self.feature_names, self.categories).values())
        values = table.features[:, numeric] if self.categories else table.features
        numbers = [
            category.numbers(table.features[:, self.feature_names.index(name)], texts[name])
            for name, category in self.categories.items()
        ]
        return self._lay_out(values, numbers)

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

    def notice(self, table: Table, noticed: Noticed) -> None:
        """Count what there is in a table that the training part did not have: missing values, and categories."""
        if isinstance(table.features, DiskRows) or table.categories is None:
            return
        for name, index in _numeric(self.feature_names, self.categories).items():
            if name not in self.indicators:
                fill = self.fills[self.numeric_names.index(name)]
                noticed.lacks(name, int(np.isnan(table.features[:, index]).sum()), f"filled with {fill:g}")
        for name, category in self.categories.items():
            codes, texts = table.features[:, self.feature_names.index(name)], table.categories[name]
            lacking = np.isnan(codes)
            taken = f"taken for {category.names[category.fallback]!r}"
            found = Counter(texts[code] for code in codes[~lacking].astype(np.int64).tolist())
            noticed.strange(
                name, Counter({text: count for text, count in found.items() if text not in category.values}), taken
            )
            if not category.missing:
                noticed.lacks(name, int(lacking.sum()), taken)

    def encode(self, columns: Mapping[str, Sequence[Any] | NDArray[Any]]) -> tuple[FloatArray, list[str]]:
        """Raw rows as the model sees them, and what was noticed about them.

        `columns` maps names to columns of one length, in any order: texts, numbers, None or NaN for a missing value. A
        pandas DataFrame is one, and so is what `read_columns` gives. A column that the model needs and that is not
        there, and a cell that is no finite number where one is needed, are a DataError that names the place.
        """
        absent = [name for name in self.feature_names if name not in columns]
        source = getattr(columns, "source", "the table")
        if absent:
            has = [str(name) for name in columns]
            known = ", ".join(map(repr, has[:20])) + (", ..." if len(has) > 20 else "")
            raise DataError(
                f"{source} lacks {'column' if len(absent) == 1 else 'columns'} {_listed(absent)} that the model"
                f" was trained on; it has {known}"
            )
        notices = []
        further = [str(name) for name in columns if name not in self.feature_names]
        if further:
            are = "column is" if len(further) == 1 else "columns are"
            notices.append(f"{len(further)} further {are} not used: {_listed(further)}")
        noticed = Noticed()
        features = self.encode_piece(columns, noticed)
        return features, [*notices, *noticed.sentences()]

    def encode_piece(self, columns: Mapping[str, Sequence[Any] | NDArray[Any]], noticed: Noticed) -> FloatArray:
        """As `encode`, for some of many rows, all columns known to be there;
        what is noticed is counted in `noticed`.
        """
        where = getattr(columns, "where", lambda row: f"row {row + 1}")
        numeric = [_as_column(columns[name], name, where, self.missing_values) for name in self.numeric_names]
        for name, column, fill in zip(self.numeric_names, numeric, self.fills, strict=False):
            if name not in self.indicators:
                noticed.lacks(name, int(np.isnan(column).sum()), f"filled with {fill:g}")
        numbers = []
        for name, category in self.categories.items():
            texts = _as_texts(columns[name], category.values, self.missing_values)
            known: dict[str | None, int] = {value: number for number, value in enumerate(category.values)}
            taken = f"taken for {category.names[category.fallback]!r}"
            noticed.strange(name, Counter(text for text in texts if text is not None and text not in known), taken)
            if not category.missing:
                noticed.lacks(name, sum(text is None for text in texts), taken)
            numbers.append(np.array([known.get(text, category.fallback) for text in texts], np.int64))
        rows = len(numeric[0]) if numeric else len(numbers[0])
        values = np.stack(numeric, axis=1) if numeric else np.empty((rows, 0))
        return self._lay_out(values, numbers)

    def targets(self, table: Table) -> Any:
        """Return the targets as the loss sees them: class numbers (n,), or values (n, k) float64."""
        return table.targets if self.target_scaler is None else self.target_scaler.transform(table.targets)

    @property
    def target_scale(self) -> FloatArray | None:
        """What an error of the model is multiplied by to be in the units of the targets."""
        return None if self.target_scaler is None else self.target_scaler.scale

    def state(self) -> dict[str, Any]:
        """Return all of it as plain values, exact in JSON: `from_state` gives an equal object back."""
        return {
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
        )


def _numeric(names: Sequence[str], categories: Mapping[str, Any]) -> dict[str, int]:
    """Return the columns of numbers, and where they are."""
    return {name: index for index, name in enumerate(names) if name not in categories}


def _listed(names: Sequence[str]) -> str:
    return listed(list(map(repr, names)), LISTED)


def _is_missing(value: Any, missing: Sequence[str]) -> bool:
    """Return whether a value stands for none: None, NaN (or pandas' NA and NaT), or one of the texts for it."""
    if value is None or (isinstance(value, str) and value.strip() in missing):
        return True
    return type(value).__name__ in ("NAType", "NaTType") or (
        isinstance(value, float | np.floating) and bool(value != value)
    )


def _as_column(values: Sequence[Any] | NDArray[Any], name: str, where: Any, missing: Sequence[str]) -> FloatArray:
    """Return a column of anything as numbers, NaN where a value is missing."""
    column = np.asarray(values)
    if column.ndim != 1:
        raise DataError(f"column {name!r} has shape {column.shape}; one value a row is needed")
    if column.dtype.kind in "fiub":
        numbers = column.astype(np.float64)
    else:
        numbers = np.empty(len(column))
        for row, value in enumerate(np.asarray(values, object)):
            try:
                numbers[row] = np.nan if _is_missing(value, missing) else float(value)
            except (TypeError, ValueError):
                raise DataError(f"{where(row)}: column {name!r} holds {value!r}, which is not a number") from None
    infinite = np.isinf(numbers)
    if infinite.any():
        row = int(np.argmax(infinite))
        raise DataError(f"{where(row)}: column {name!r} is {numbers[row]}, which is not finite")
    return numbers


def _as_texts(values: Sequence[Any] | NDArray[Any], known: Sequence[str], missing: Sequence[str]) -> list[str | None]:
    """Return a column of anything as texts, None where a value is missing;
    1.0 is the category "1" where there is one.
    """
    seen: dict[str, str | None] = {}
    texts: list[str | None] = []
    for value in np.asarray(values, object).tolist():
        if isinstance(value, str) and value in seen:
            texts.append(seen[value])
            continue
        text = None if _is_missing(value, missing) else str(value).strip()
        if text is not None and text not in known and text.endswith(".0") and text[:-2] in known:
            text = text[:-2]
        if isinstance(value, str):
            seen[value] = text
        texts.append(text)
    return texts

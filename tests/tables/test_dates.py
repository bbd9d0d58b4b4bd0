"""Dates and times become numbers, in training, predictions and ONNX alike; pandas is the oracle."""

from __future__ import annotations

import datetime
import json
import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanotorch.train.cli.evaluate import main as evaluate
from nanotorch.train.cli.predict import main as predict
from nanotorch.train.data.columns import dates
from nanotorch.train.data.columns.dates import PARTS, Dates, parts_of, read
from nanotorch.train.data.preprocessing import Preprocessing
from nanotorch.train.data.table import DataError, TableError
from nanotorch.train.data.table_file import table_file
from nanotorch.train.use import onnx_export, python_export
from nanotorch.train.use.loaded_run import load_run
from nanotorch.train.use.onnx_layers import ExportError
from own_runs import damage, numbers, read_rows, trained


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., str]:
    """Write a table of dates and some target."""

    def write(*texts: str) -> str:
        path = tmp_path / "table.csv"
        rows = [f'"{text}",{row % 3}.5' for row, text in enumerate(texts)]
        path.write_text("\n".join(["when,y", *rows]), encoding="utf-8")
        return str(path)

    return write


def expected(stamps: Any) -> dict[str, np.ndarray[Any, Any]]:
    """All parts of dates, by pandas."""
    series = pandas.Series(pandas.to_datetime(stamps)).dt
    turns = {
        "month": (series.month - 1) / 12,
        "weekday": series.day_of_week / 7,
        "hour": (series.hour + series.minute / 60 + (series.second + series.microsecond / 1e6) / 3600) / 24,
    }
    found = {"year": series.year.to_numpy(np.float64)}
    for name, turn in turns.items():
        found[f"{name} (sin)"] = np.sin(2 * np.pi * turn.to_numpy())
        found[f"{name} (cos)"] = np.cos(2 * np.pi * turn.to_numpy())
    elapsed = pandas.Series(pandas.to_datetime(stamps)) - pandas.Timestamp("1970-01-01")
    return found | {"elapsed (days)": (elapsed / pandas.Timedelta(days=1)).to_numpy()}


SOME = ["1999-12-31 23:59:59.999999", "2000-02-29 00:00:00", "1969-07-20 20:17:40", "2024-03-01 12:30:00", "1600-01-01"]


def test_the_parts_are_those_of_pandas() -> None:
    found = parts_of(np.array([*SOME, "NaT"], "datetime64[us]"))
    for part, values in zip(PARTS, found, strict=True):
        np.testing.assert_allclose(values[:-1], expected(np.array(SOME, "datetime64[us]"))[part], atol=1e-9)
        assert np.isnan(values[-1])


@settings(max_examples=100, deadline=None)
@given(st.datetimes(datetime.datetime(1, 1, 2), datetime.datetime(9999, 12, 30), timezones=st.none() | st.timezones()))
def test_what_python_writes_is_read(stamp: datetime.datetime) -> None:
    offset = stamp.utcoffset()
    if offset is not None and offset.total_seconds() % 60:
        return  # seconds in an offset, before there were zones
    for text in (stamp.isoformat(), str(stamp)):
        assert read(text, "year-month-day") == datetime.datetime.fromisoformat(text)
    dates = Dates("year-month-day", offset is not None)
    one_by_one = dates.stamps([stamp.isoformat(), f"{stamp.year:04d}-1-1{'T00:00Z' * dates.utc}"], frozenset(), str)
    assert dates.stamps([stamp], frozenset(), str)[0] == one_by_one[0]
    if offset is not None and not offset:
        assert dates.stamps([stamp.isoformat()[:-6] + "Z"], frozenset(), str)[0] == one_by_one[0]
    naive = stamp.replace(tzinfo=None, microsecond=0)
    year = f"{stamp.year:04d}"
    assert read(f"{stamp.day}/{stamp.month}/{year} {naive:%H:%M:%S}", "day/month/year") == naive
    assert read(f"{stamp.month}/{stamp.day}/{year}, {naive:%I:%M:%S %p}", "month/day/year") == naive
    assert read(f"{stamp.day:02d}.{stamp.month:02d}.{year}", "day.month.year") == naive.replace(
        hour=0, minute=0, second=0
    )


@pytest.mark.parametrize(
    ("texts", "form"),
    [
        (["2020-01-31", "2021-02-28"], "year-month-day"),
        (["2020-01-31 10:00", "2021-02-28 11:30:05.5"], "year-month-day"),
        (["2020/1/31", "2021/2/28"], "year-month-day"),
        (["31.1.2020", "28.2.2021"], "day.month.year"),
        (["31/01/2020", "02/03/2021"], "day/month/year"),
        (["01-31-2020", "02-03-2021"], "month/day/year"),
        (["1/31/2020 1:05 PM", "2/3/2021 12:00 am"], "month/day/year"),
        (["31 Jan 2020", "2-March-2021"], "day name year"),
        (["Jan 31, 2020", "March 2 2021"], "name day year"),
        (["2020-01", "2021-12"], "year-month"),
        (["10:30", "9:05:07"], "hour:minute"),
        (["05/05/2020", "06/06/2021"], "day/month/year"),  # the same by both
    ],
)
def test_forms_are_found(texts: list[str], form: str, written: Callable[..., str]) -> None:
    table = table_file(written(*texts, "", texts[0]), "y")
    assert table.dates["when"].form == form and table.categories == {}
    assert f"column 'when' holds dates or times ({form}); the model sees" in table.notices[0]
    assert np.isnan(table.features[2]).all() and not np.isnan(table.features[[0, 1, 3]]).any()


def test_only_parts_that_differ_are_features(written: Callable[..., str]) -> None:
    table = table_file(written("2020-01-06", "2020-02-10", "2020-03-09"), "y")  # Mondays
    assert table.feature_names == ("when: month (sin)", "when: month (cos)", "when: elapsed (days)")
    assert table.notices[0].endswith("(year-month-day); the model sees month, elapsed")
    whole = table_file(written(*SOME), "y")
    for name, column in zip(whole.feature_names, whole.features.T, strict=True):
        want = expected(np.array(SOME, "datetime64[us]"))[name.removeprefix("when: ")]
        np.testing.assert_allclose(column, want, atol=1e-9)


def test_parts_can_be_dropped(written: Callable[..., str]) -> None:
    path = written(*SOME)
    table = table_file(path, "y", drop=["when: year", "when: elapsed (days)"])
    assert table.feature_names == tuple(f"when: {part}" for part in PARTS[1:-1])
    assert table.dates["when"].parts == PARTS[1:-1]
    with pytest.raises(DataError, match=r"data.drop leaves nothing of column 'when'; name the column itself"):
        table_file(path, "y", drop=[f"when: {part}" for part in PARTS])
    with pytest.raises(DataError, match=r"has no column 'when: year', which data.drop names"):
        table_file(path, "y", drop=["when: year"], categorical=["when"])


def test_times_with_an_offset_are_meant_in_utc(written: Callable[..., str]) -> None:
    table = table_file(written("2020-01-01T01:00+02:00", "2020-01-01T01:00Z", "2020-01-01 01:00:00 -0130"), "y")
    assert table.dates["when"].utc and ", in UTC)" in table.notices[0]
    hours = (table.features[:, -1] - 18262) * 24
    np.testing.assert_allclose(hours, [-1, 1, 2.5], atol=1e-6)
    with pytest.raises(DataError, match=r"line 3: column 'when' holds '2020-01-02', which has no offset, and"):
        table_file(written("2020-01-01T01:00+02:00", "2020-01-02"), "y")


DAYS = ["2020-01-01", "2020-01-02"]


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        (
            ["03/04/2020", "05/06/2021"],
            {},
            r"line 2: column 'when' holds '03/04/2020', and no row tells whether that is day/month/year or"
            r" month/day/year; set data.date_format",
        ),
        (
            ["2020-01-01", "2020-02-30", "2020-03-01"],
            {},
            r"line 3: column 'when' holds '2020-02-30', which is no date, among 2 of the form year-month-day in 3",
        ),
        (["2020-01-01", "soon"], {"dates": ["when"]}, r"line 3: column 'when' holds 'soon', which is no date, among 1"),
        (["a", "b"], {"dates": ["when"]}, r"line 2: column 'when' holds 'a', which is no date; mend it"),
        (["1", "2"], {"dates": ["when"]}, r"line 2: column 'when' holds '1', which is no date; mend it"),
        (["1.2.20", "31.2.20"], {"dates": ["when"], "date_format": "%d.%m.%y"}, r"'31.2.20', which is no date, among"),
        (DAYS, {"dates": ["wen"]}, r"has no column 'wen', which data.dates names \(did you mean"),
        (DAYS, {"dates": ["when"], "numeric": ["when"]}, r"data.dates names 'when', as another"),
        (DAYS, {"target": "when"}, r"the target 'when' holds dates, which are neither classes"),
    ],
)
def test_what_cannot_be_told_or_read_is_said(
    texts: list[str], options: dict[str, Any], message: str, written: Callable[..., str]
) -> None:
    with pytest.raises(DataError, match=message):
        table_file(**{"file": written(*texts), "target": "y", **options})


def test_stated_formats_and_categories(written: Callable[..., str]) -> None:
    path = written("03/04/2020", "05/06/2021")
    by_day = table_file(path, "y", date_format="day/month/year").features[:, -1]
    by_month = table_file(path, "y", date_format="%m/%d/%Y").features[:, -1]
    np.testing.assert_array_equal(by_day, expected(["2020-04-03", "2021-06-05"])["elapsed (days)"])
    np.testing.assert_array_equal(by_month, expected(["2020-03-04", "2021-05-06"])["elapsed (days)"])
    assert table_file(path, "y", categorical=["when"]).categories == {"when": ("03/04/2020", "05/06/2021")}
    path = written("20200403", "20210605", "")
    assert table_file(path, "y").feature_names == ("when",)
    stated = table_file(path, "y", dates=["when"], date_format="%Y%m%d").features
    np.testing.assert_array_equal(stated[:, -1], [*by_day, np.nan])


@pytest.mark.parametrize("way", ["%Y%m%d", "%d%m%Y", "%m%d%Y"])
def test_dates_without_marks(tmp_path: Path, way: str) -> None:
    days = [datetime.date(2020, 1, 3) + datetime.timedelta(17 * number) for number in range(40)]
    path = tmp_path / "t.csv"
    texts = [day.strftime(way) for day in days]
    path.write_text("when,y\n" + "".join(f"{text},{row}\n" for row, text in enumerate(texts)), encoding="utf-8")
    read = table_file(str(path), "y", dates=["when"])
    np.testing.assert_array_equal(read.features[:, -1], [(day - datetime.date(1970, 1, 1)).days for day in days])
    numbers = table_file(str(path), "y")
    assert numbers.feature_names == ("when",)
    assert "all others are dates" in " ".join(numbers.notices) and "data.dates: [when]" in " ".join(numbers.notices)
    assert "are dates" not in " ".join(table_file(str(path), "y", numeric=["when"]).notices)
    path.write_text("when,y\n" + "".join(f"{20200000 + 7 * row},{row}\n" for row in range(40)), encoding="utf-8")
    assert "are dates" not in " ".join(table_file(str(path), "y").notices)


def test_dates_without_marks_that_may_be_two_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("when,y\n03042020,1\n05062021,2\n", encoding="utf-8")
    with pytest.raises(TableError, match=r"whether that is daymonthyear or monthdayyear; set data\.date_format"):
        table_file(str(path), "y", dates=["when"])
    stated = table_file(str(path), "y", dates=["when"], date_format="daymonthyear").features
    assert (np.datetime64("1970-01-01") + stated[:, -1].astype(int)).astype(str).tolist() == [
        "2020-04-03",
        "2021-06-05",
    ]


@pytest.mark.parametrize("text", ["20200131T130500Z", "20200131T1305Z", "20200131 13:05Z"])
def test_compact_times(text: str) -> None:
    assert read(text, "yearmonthday") == datetime.datetime(2020, 1, 31, 13, 5, tzinfo=datetime.UTC)


def test_a_stated_format_is_that_of_the_columns_that_it_reads(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("by_day,iso,y\n03/04/2020,2020-04-03,0.5\n05/06/2021,2021-06-05,1.5\n", encoding="utf-8")
    table = table_file(str(path), "y", date_format="day/month/year")
    half = len(table.feature_names) // 2
    assert [name.partition(":")[0] for name in table.feature_names] == ["by_day"] * half + ["iso"] * half
    np.testing.assert_array_equal(table.features[:, :half], table.features[:, half:])


def test_parquet_and_csv_are_one(tmp_path: Path) -> None:
    texts = ["2020-01-01 10:00", "NaT", "2021-05-06 11:00:00.25", "1950-02-03"]
    stamps = pandas.Series(np.array(texts, "datetime64[us]"))
    frames = {
        "zoned": stamps.dt.tz_localize("Europe/Berlin"),
        "naive": stamps.astype("datetime64[ns]"),
        "day": stamps.dt.date,
        "time": stamps.dt.time,
        "y": [0.5, 1.5, 2.5, 0.5],
    }
    pandas.DataFrame(frames).to_parquet(tmp_path / "t.parquet")
    pandas.DataFrame(frames).to_csv(tmp_path / "t.csv", index=False)
    from_csv, from_parquet = (table_file(str(tmp_path / f"t.{ending}"), "y") for ending in ("csv", "parquet"))
    assert from_csv.feature_names == from_parquet.feature_names and len(from_csv.dates) == 4
    np.testing.assert_array_equal(from_csv.features, from_parquet.features)
    wait = pyarrow.array([90, None, 1], pyarrow.duration("s"))
    pyarrow.parquet.write_table(pyarrow.table({"wait": wait, "y": [0.5, 1.5, 2.5]}), tmp_path / "d.parquet")
    np.testing.assert_array_equal(table_file(str(tmp_path / "d.parquet"), "y").features, [[90], [np.nan], [1]])


# ------------------------------------------------------------ in a run


def rows_of(seed: int, count: int = 90) -> pandas.DataFrame:
    generator = np.random.default_rng(seed)
    when = pandas.Timestamp("2020-01-01") + pandas.to_timedelta(generator.integers(0, 10**8, count), unit="s")
    price = np.sin(when.day_of_week) + generator.normal(0, 0.1, count) + when.year
    size = generator.normal(size=count)
    cities = ["Rome", "Oslo", "Bern"] * (count // 3)
    frame = pandas.DataFrame({"when": when, "size": size, "city": cities, "price": price})
    frame.loc[::10, "when"] = None
    return frame


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("dates")
    rows_of(0).to_csv(place / "table.csv", index=False)
    return trained(place, f"{{file: {place / 'table.csv'}, target: price}}", "MSELoss")


def test_new_rows_of_every_kind_of_file(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    preprocessing = load_run(run).preprocessing
    assert preprocessing.column_names == ("when", "size", "city") and preprocessing.indicators == ("when: year",)
    again = Preprocessing.from_state(json.loads(json.dumps(preprocessing.state())))
    assert again.dates == preprocessing.dates and again.state() == preprocessing.state()
    frame = rows_of(1)
    frame.to_csv(tmp_path / "new.csv", index=False)
    frame.to_parquet(tmp_path / "new.parquet")
    frame.to_excel(tmp_path / "new.xlsx", index=False)
    found = []
    for ending in ("csv", "parquet", "xlsx"):
        arguments = ["--input", f"{tmp_path}/new.{ending}", "--output", f"{tmp_path}/out.csv", "--keep", "when"]
        assert predict([str(run), *arguments]) == 0
        found.append(numbers(read_rows(tmp_path / "out.csv"), "prediction"))
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])
    encoded, notices = preprocessing.encode(frame)
    as_table = preprocessing.encode(pandas.read_csv(tmp_path / "new.csv"))[0]
    np.testing.assert_array_equal(encoded, as_table)
    assert notices == ["1 further column is not used: 'price'"] and np.isfinite(encoded).all()
    capsys.readouterr()
    assert evaluate([str(run), "--input", f"{tmp_path}/new.parquet", "--json"]) == 0
    rmse = np.sqrt(np.mean((found[0][:, 0] - frame["price"]) ** 2))
    assert json.loads(capsys.readouterr().out)["scores"]["rows"]["rmse"] == pytest.approx(rmse, rel=1e-5)
    assert evaluate([str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["scores"] == json.loads((run / "summary.json").read_text())["scores"]


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("soon", "rows.csv, line 3: column 'when' holds 'soon', which is no date of the form year-month-day"),
        ("1/2/2020", "column 'when' holds '1/2/2020', which is no date"),
        ("2020-01-01T00:00Z", "column 'when' holds '2020-01-01T00:00Z', which has an offset, and the others have none"),
    ],
)
def test_new_rows_that_hold_no_date(
    run: Path, tmp_path: Path, cell: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.csv").write_text(f"when,size,city\n2020-01-01,1,Rome\n{cell},2,Oslo\n")
    assert predict([str(run), "--input", f"{tmp_path}/rows.csv", "--output", "-"]) == 1
    printed = capsys.readouterr().err
    assert message in printed and "Traceback" not in printed


def test_onnx_takes_seconds_and_gives_the_same(run: Path, tmp_path: Path) -> None:
    loaded = load_run(run)
    model = onnx_export.exported(loaded)
    inputs = {one.name: one for one in model.graph.input}
    assert inputs["when"].doc_string == "seconds since 1970-01-01 00:00, NaN where it is missing"
    assert list(inputs) == ["when", "size", "city"]
    assert onnx_export.difference(loaded, partial(onnx_export.answer_of, model, loaded), rows=2000) < 1e-5
    with pytest.raises(ExportError, match=r"takes (dates|categories) \("):
        onnx_export.exported(loaded, matrix=True)
    assert onnx_export.save(loaded, tmp_path / "m.onnx")[1] < 1e-5


def test_a_python_file_reads_dates(run: Path, tmp_path: Path) -> None:
    loaded, frame = load_run(run), rows_of(1)
    assert python_export.save(loaded, tmp_path / "m.py") < 1e-5
    frame.to_csv(tmp_path / "rows.csv", index=False)
    command = [sys.executable, str(tmp_path / "m.py"), str(tmp_path / "rows.csv")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    arguments = ["--input", f"{tmp_path}/rows.csv", "--output", f"{tmp_path}/out.csv"]
    assert predict([str(run), *arguments]) == 0
    expected = numbers(read_rows(tmp_path / "out.csv"), "prediction")[:, 0]
    np.testing.assert_allclose([float(line) for line in done.stdout.split()[1:]], expected, rtol=1e-6)
    (tmp_path / "rows.csv").write_text("when,size,city\nnow,1,Rome\n")
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "column 'when' holds 'now', which is no date such as 2020-01-31" in done.stderr


def test_times_in_utc_are_exported(tmp_path: Path) -> None:
    frame = rows_of(2, 60)
    frame["when"] = frame["when"].dt.tz_localize("Asia/Tokyo")
    frame.assign(day=frame["when"].dt.date).to_csv(tmp_path / "table.csv", index=False)
    loaded = load_run(trained(tmp_path, f"{{file: {tmp_path / 'table.csv'}, target: price}}", "MSELoss", epochs=1))
    assert [dates.utc for dates in loaded.preprocessing.dates.values()] == [True, False]
    assert onnx_export.save(loaded, tmp_path / "m.onnx")[1] < 1e-5
    assert python_export.save(loaded, tmp_path / "m.py") < 1e-5
    exported: dict[str, Any] = {"__name__": "m"}
    exec((tmp_path / "m.py").read_text(), exported)
    row = {"when": ["2020-01-02T03:00Z"], "size": [1], "city": ["Rome"], "day": ["2020-01-02"]}
    assert np.isfinite(exported["predict"](row)["prediction"]).all()
    for name, cell in (("when", "2020-01-02"), ("when", "2020-01-02Z"), ("day", "2020-01-02T03:00Z")):
        with pytest.raises(ValueError, match="is no date such as"):  # and none to predict
            exported["predict"]({**row, name: [cell]})
        with pytest.raises(DataError, match=f"column '{name}'"):
            loaded.preprocessing.encode({**row, name: [cell]})


def test_times_and_the_quantiles_of_dates_are_exported(tmp_path: Path) -> None:
    """Two months have one cosine: were it two, with quantiles that are apart, another machine's could be the other."""
    rows = [f"{row * 7 % 24}:{row * 11 % 60:02},2020-{1 + row % 12:02}-01,{row % 5}.5" for row in range(90)]
    (tmp_path / "table.csv").write_text("\n".join(["at,when,y", *rows]))
    data = f"{{file: {tmp_path / 'table.csv'}, target: y, standardize: quantile}}"
    loaded = load_run(trained(tmp_path, data, "MSELoss", epochs=1))
    assert loaded.preprocessing.dates["at"].form == "hour:minute"
    assert onnx_export.save(loaded, tmp_path / "m.onnx")[1] < 1e-5
    assert python_export.save(loaded, tmp_path / "m.py") < 1e-5
    command = [sys.executable, str(tmp_path / "m.py"), str(tmp_path / "table.csv")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert predict([str(tmp_path / "run"), "--input", f"{tmp_path}/table.csv", "--output", f"{tmp_path}/out.csv"]) == 0
    expected = numbers(read_rows(tmp_path / "out.csv"), "prediction")[:, 0]
    np.testing.assert_allclose([float(line) for line in done.stdout.split()[1:]], expected, rtol=1e-6)
    (tmp_path / "table.csv").write_text("at,when\n24:05,2020-01-01\n1 PM,2020-01-01\n")
    done = subprocess.run(command, capture_output=True, text=True)
    assert "column 'at' holds '1 PM', which is no date such as 13:05" in done.stderr


def test_damaged_states_are_refused(run: Path) -> None:
    state = next((run / "checkpoints").glob("step-*/state.json")).relative_to(run)
    whole = (run / state).read_bytes()
    for before, after in ((b'"when: year"', b'"when: yeer"'), (b'"form": "year-month-day"', b'"form": "auto"')):
        assert before in whole
        damage(run, state, whole.replace(before, after))
        with pytest.raises(ValueError, match="dates"):
            load_run(run, str(run / state.parent))
    damage(run, state, whole)


def test_another_order_of_year_day_and_month_is_kept() -> None:
    dates = Dates("%Y-%d-%m", False)
    assert dates.stamps(["2020-01-02"], frozenset(), str)[0] == np.datetime64("2020-02-01")
    with pytest.raises(DataError, match="is no date of the form %Y-%d-%m"):
        dates.stamps(["2020-01-31"], frozenset(), str)


def test_dates_of_other_libraries() -> None:
    dates = Dates("year-month-day", False)
    time = datetime.datetime(2020, 1, 2, 3)
    values = [time.date(), time, pandas.Timestamp("2020-01-02"), pandas.NaT, pandas.NA, None]
    found = dates.stamps(values, frozenset(), str)
    wanted = ["2020-01-02", "2020-01-02T03", "2020-01-02", "NaT", "NaT", "NaT"]
    np.testing.assert_array_equal(found, np.array(wanted, "datetime64[us]"))
    aware = pandas.Series(pandas.to_datetime(["2020-01-02T03:00+02:00"]))
    assert Dates("year-month-day", True).stamps(aware, frozenset(), str)[0] == np.datetime64("2020-01-02T01:00")
    with pytest.raises(DataError):
        dates.stamps(aware, frozenset(), str)
    assert issubclass(TableError, DataError)


# ------------------------------------------------------------ many at once

WRITTEN = {
    "day.month.year": "{d:02}.{m:02}.{y:04}{t}",
    "day/month/year": "{d:02}/{m:02}/{y:04}{t}",
    "month/day/year": "{m:02}-{d:02}-{y:04}{t}",
    "year-month-day": "{y:04}-{m:02}-{d:02}{t}{o}",
}
TIMES = ("", " 00:00", "T23:59:59", " 12:30:01.5", " 07:08:09.123456")
OFFSETS = ("+02:00", "-11:30", "+00:00", "+23:59")


@pytest.mark.parametrize("form", WRITTEN)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_dates_read_at_once_are_those_read_one_by_one(form: str, data: st.DataObject) -> None:
    """Where not all can be read at once, nothing is; the oracle reads every text alone."""
    utc = form == "year-month-day"
    lists = st.lists(
        st.tuples(
            st.integers(1, 31), st.integers(1, 12), st.sampled_from([1, 1582, 1900, 1969, 2000, 2024, 9999]),
            st.sampled_from(TIMES[1:] if utc else TIMES), st.sampled_from(OFFSETS), st.booleans(),
        ), min_size=1, max_size=12,
    )  # fmt: skip
    texts = [
        None if lacks and row else WRITTEN[form].format(d=d, m=m, y=y, t=t, o=o)
        for row, (d, m, y, t, o, lacks) in enumerate(data.draw(lists))
    ]
    alone = [None if text is None else dates.read(text, form) for text in texts]
    found = dates._stamps_at_once(texts, form, utc)
    if any(text is not None and stamp is None for text, stamp in zip(texts, alone, strict=True)):
        assert found is None
        return
    assert found is not None
    for stamp, one in zip(found, alone, strict=True):
        assert np.isnat(stamp) if one is None else stamp == dates._stamp(one)


@pytest.mark.parametrize(
    "text",
    [
        "1.2.2020",
        "01/02-2020",
        "01.02.2020 1:30 PM",
        "\N{ARABIC-INDIC DIGIT ZERO}1.02.2020",
        "01.02.2020\n",
        "01.02.20200",
    ],
)
def test_dates_in_further_spellings_are_not_read_at_once(text: str) -> None:
    for form in WRITTEN:
        for utc in (False, True):
            assert dates._stamps_at_once(["01.02.2020", text], form, utc) is None


def test_parts_of_dates_of_an_exported_file_are_those_of_training(tmp_path: Path) -> None:
    """The file has a program of its own for them: both agree on dates of every kind."""
    generator = np.random.default_rng(0)
    stamps = generator.integers(-(2**55), 2**57, 400).astype("datetime64[us]")
    stamps[:6] = np.array(["0001-01-01", "1969-12-31T23:59:59.999999", "1970-01-01", "2000-02-29", "2100-03-01",
                           "9999-12-31T23:59:59.999999"], "datetime64[us]")  # fmt: skip
    texts = np.datetime_as_string(stamps).tolist()
    names = {"DATES": {"when": (False, PARTS)}, "PATTERNS": dates.PLAIN, "MISSING": [""], "DAY": dates.DAY,
             "DIGITS": dates.DIGITS, "TIMES": [], "np": np, "re": re}  # fmt: skip
    exec(python_export.DATES, names)
    found = names["with_parts_of_dates"]({"when": [*texts, None]})  # type: ignore[operator]
    for part, expected in zip(PARTS, parts_of(np.r_[stamps, np.datetime64("NaT")]), strict=True):
        np.testing.assert_array_equal(np.array(found[f"when: {part}"], float), expected)

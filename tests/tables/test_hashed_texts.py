"""Columns of free text are refused, or become sums of hashed words, the same in training and afterwards."""

from __future__ import annotations

import json
import zlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas
import pytest

from nanotorch.train.cli.evaluate import main as evaluate
from nanotorch.train.cli.predict import main as predict
from nanotorch.train.data.columns import hashed_texts
from nanotorch.train.data.columns.hashed_texts import WIDTH, hashed, hashed_columns, is_free_text
from nanotorch.train.data.preprocessing import Preprocessing
from nanotorch.train.data.table import DataError
from nanotorch.train.data.table_file import table_file
from nanotorch.train.use import onnx_export, python_export
from nanotorch.train.use.loaded_run import load_run
from nanotorch.train.use.onnx_layers import ExportError
from own_runs import numbers, read_rows, trained, write_rows

GOOD, BAD = ["lovely", "great", "excellent"], ["awful", "poor", "terrible"]


def reviews(path: Path, rows: int = 240, seed: int = 0) -> list[dict[str, str]]:
    generator, table = np.random.default_rng(seed), []
    for row in range(rows):
        liked = bool(generator.integers(2))
        word = generator.choice(GOOD if liked else BAD)
        text = f"Wine no. {row}: a {word} bottle, from place {generator.integers(10**6)}"
        table.append({"review": "" if row % 40 == 7 else text, "x": f"{generator.normal():.3f}", "liked": str(liked)})
    write_rows(path, table)
    return table


def test_rows_are_sums_of_words_and_pairs_of_length_one() -> None:
    found = hashed(["Red wine, red!", "", None, "NA"], frozenset(["NA"]))
    expected = np.zeros(WIDTH)
    for one in ("red", "wine", "red", "red wine", "wine red"):
        place = zlib.crc32(one.encode())
        expected[place % WIDTH] += 1 if place >= 2**31 else -1
    np.testing.assert_allclose(found[0], expected / np.linalg.norm(expected))
    assert not found[1:].any()
    np.testing.assert_array_equal(hashed(pandas.Series(["Red wine, red!", None, pandas.NA], dtype="string")), found[:3])


def test_free_text_is_refused_or_hashed_and_names_are_categories(tmp_path: Path) -> None:
    table = reviews(tmp_path / "t.csv")
    with pytest.raises(
        DataError, match=r"column 'review' holds free text, such as 'Wine no. 0: a .*\.\.\.'; list it under data.drop"
    ):
        table_file(str(tmp_path / "t.csv"), "liked")
    assert table_file(str(tmp_path / "t.csv"), "liked", drop=["review"]).feature_names == ("x",)
    assert "review" in (table_file(str(tmp_path / "t.csv"), "liked", categorical=["review"]).categories or {})
    made = table_file(str(tmp_path / "t.csv"), "liked", text="hash")
    assert made.feature_names == (*hashed_columns("review"), "x") and made.texts == ("review",)
    assert "column 'review' holds free text; the model sees 64 sums of its words" in made.notices
    np.testing.assert_array_equal(made.features[:, :WIDTH], hashed([row["review"] for row in table]))
    write_rows(tmp_path / "t.csv", [{**row, "review": f"id {number}"} for number, row in enumerate(table)])
    assert "review" in (table_file(str(tmp_path / "t.csv"), "liked").categories or {})


@pytest.mark.parametrize(("different", "words", "free"), [(101, 3, True), (100, 3, False), (101, 2, False)])
def test_free_texts_are_many_and_of_three_words_on_average(different: int, words: int, free: bool) -> None:
    texts = [" ".join([f"word{number}"] * words) for number in range(different)]
    assert is_free_text(np.array([*texts, None], object)) == free
    assert not is_free_text(np.array(texts * 2, object))


def test_a_run_on_texts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reviews(tmp_path / "t.csv")
    data = f"{{file: {tmp_path / 't.csv'}, target: liked, text: hash}}"
    run = trained(tmp_path, data, "BCEWithLogitsLoss", epochs=20)
    loaded = load_run(run)
    assert loaded.preprocessing.column_names == ("review", "x")
    assert Preprocessing.from_state(json.loads(json.dumps(loaded.preprocessing.state()))).texts == ("review",)
    truth = reviews(tmp_path / "new.csv", seed=1)
    assert (
        predict([str(run), "--input", f"{tmp_path}/new.csv", "--output", f"{tmp_path}/o.csv", "--keep", "review"]) == 0
    )
    found = read_rows(tmp_path / "o.csv")
    right = np.mean([row["prediction"] == known["liked"] for row, known in zip(found, truth, strict=True)])
    assert right > 0.9 and numbers(found, "prob").shape == (240, 2)
    capsys.readouterr()
    assert evaluate([str(run), "--input", f"{tmp_path}/new.csv", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["scores"]["rows"]["accuracy"] == right
    for export in (onnx_export.save, python_export.save):
        with pytest.raises(ExportError, match=r"this model takes free text \('review'\), for which there"):
            export(loaded, tmp_path / "m")


def test_many_words_are_hashed_as_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oracle counts word by word, and more words come than are remembered."""
    monkeypatch.setattr(hashed_texts, "MOST_REMEMBERED", 7)
    generator = np.random.default_rng(0)
    texts = [" ".join(f"w{n}" for n in generator.integers(0, 40, generator.integers(0, 12))) for _ in range(200)]
    expected = np.zeros((200, WIDTH))
    for row, text in enumerate(texts):
        words = text.split()
        for one in words + [f"{a} {b}" for a, b in pairwise(words)]:
            code = zlib.crc32(one.encode())
            expected[row, code % WIDTH] += 1 if code >= 2**31 else -1
    length = np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(hashed(np.array([*texts, None], object))[:-1], expected / np.maximum(length, 1e-300))
    assert hashed([]).shape == (0, WIDTH)

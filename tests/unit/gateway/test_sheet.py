import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import sheet


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t1", "\r1", "\n1", "\0=1", "\uff1d1", '=HYPERLINK("https://x")']
)
def test_no_cell_is_a_formula(text: str) -> None:
    assert sheet.harmless(text) == f"'{text}"


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a;=1", "a;'=1"),
        ("a;  @SUM(A1);b;-1", "a;  '@SUM(A1);b;'-1"),
        ("a\t+1", "a\t'+1"),
        ("a;\uff1d1", "a;'\uff1d1"),
        ('a;"=1', "a;\"'=1"),
        ("a\r\n=1", "a\r\n'=1"),
        ("=1;=1", "'=1;'=1"),
    ],
)
def test_no_part_of_a_cell_is_a_formula_where_semicolons_or_tabs_part_cells(text: str, written: str) -> None:
    assert sheet.harmless(text) == written


@pytest.mark.parametrize(
    "text", ["", "ada@acme.example", "'", "credential.get", "a=1", " =1", "7", "a;b=1; c", "a, =1"]
)
def test_other_cells_stay_as_they_are(text: str) -> None:
    assert sheet.harmless(text) == text


@given(st.lists(st.dictionaries(st.sampled_from(sheet.COLUMNS), st.text())))
def test_what_is_written_is_read_again(rows: list[dict[str, str]]) -> None:
    text = (sheet.head() + sheet.lines(rows) + sheet.note("The end.")).encode(errors="replace").decode()
    head, *cells, note = csv.reader(io.StringIO(text, newline=""))
    assert head == list(sheet.COLUMNS)
    expected = [
        [sheet.harmless(row.get(name, "")).encode(errors="replace").decode() for name in sheet.COLUMNS] for row in rows
    ]
    assert cells == expected
    assert note == ["The end."] + [""] * (len(sheet.COLUMNS) - 1)

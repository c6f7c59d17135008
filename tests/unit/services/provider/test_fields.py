import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.provider.fields import flaw_of_secret, is_e164, pasted, pasted_number, pasted_secret
from tenantvault.secret import Secret

WRAPPING = st.text("\t\n \u00a0\u200b\ufeff\"'`\u201c\u201d\u2018\u2019\u00ab\u00bb", max_size=6)
KEYS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="\"'`"), min_size=7)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("key", "key"),
        ("  key\n", "key"),
        ("Bearer key", "key"),
        ("bearer\tkey", "key"),
        ('"Bearer key"', "key"),
        ("Bearer “key”", "key"),
        ("\ufeffkey\u200b", "key"),
        ("\u00a0'key'\u00a0", "key"),
        ("Bearerkey", "Bearerkey"),
        ("two words", "two words"),
        ("", ""),
        (' "" ', ""),
    ],
)
def test_what_copy_and_paste_leaves_around_a_text_is_taken_away(typed: str, meant: str) -> None:
    assert meant == pasted(typed)


@given(before=WRAPPING, bearer=st.sampled_from(["", "Bearer ", "BEARER \t"]), key=KEYS, after=WRAPPING)
def test_a_key_survives_any_wrapping(before: str, bearer: str, key: str, after: str) -> None:
    assert key == pasted(before + bearer + key + after)


@given(st.text())
def test_trimming_twice_changes_nothing(text: str) -> None:
    assert pasted(text) == pasted(pasted(text))
    assert pasted_number(text) == pasted_number(pasted_number(text))


@given(st.text())
def test_trimming_a_secret_trims_its_text(text: str) -> None:
    assert Secret(pasted(text)) == pasted_secret(Secret(text))


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("+14155550100", "+14155550100"),
        (" +1 (415) 555-0100 ", "+14155550100"),
        ("+1.415.555.0100", "+14155550100"),
        ("+49\u00a030\u2011901820", "+4930901820"),
        ("whatsapp:+14155550100", "+14155550100"),
        ("WhatsApp: +14155550100", "+14155550100"),
        ("", ""),
    ],
)
def test_a_number_loses_the_marks_that_people_set(typed: str, meant: str) -> None:
    assert meant == pasted_number(typed)


@pytest.mark.parametrize("typed", ["+44 (0)20 7946 0018", "+44(0) 20 7946 0018"])
def test_a_trunk_prefix_does_not_become_part_of_another_number(typed: str) -> None:
    assert not is_e164(pasted_number(typed))


@given(st.from_regex(r"\+[1-9][0-9]{1,14}", fullmatch=True), st.data())
def test_marks_between_its_digits_do_not_change_a_number(number: str, data: st.DataObject) -> None:
    marks = st.sampled_from(["", " ", "-", ".", "\u00a0", "\u2011"])
    typed = "".join(digit + data.draw(marks) for digit in number)
    assert number == pasted_number(typed)
    assert is_e164(pasted_number(typed))


@pytest.mark.parametrize(
    "number",
    [
        "",
        "+",
        "+1",
        "14155550100",
        "+04155550100",
        "+1415555010012345",
        "+1415555010x",
        "+1٤155550100",
        "+14155550100\n",
    ],
)
def test_what_is_no_e164_number(number: str) -> None:
    assert not is_e164(number)


@pytest.mark.parametrize(
    ("value", "flaw"),
    [
        ("x" * 20, ""),
        ("x" * 256, ""),
        ("x" * 19, "has at least 20 characters"),
        ("x" * 257, "has at most 256 characters"),
        ("x" * 20 + " y", "holds white space"),
        ("x" * 20 + "\r\nX-Other: y", "holds white space"),
        ("x" * 20 + "é", "holds white space or characters"),
        ("", "holds white space or characters"),
    ],
)
def test_a_secret_must_fit_into_a_header(value: str, flaw: str) -> None:
    found = flaw_of_secret(Secret(value), shortest=20)
    assert found.startswith(flaw)
    assert bool(flaw) == bool(found)


def test_a_text_that_is_much_too_long_is_left_to_the_check_of_its_length() -> None:
    blanks = " " * 1_000_000 + "x"
    assert blanks == pasted(blanks)
    assert blanks == pasted_number(blanks)

from pathlib import Path

import pytest

from deploy.local import logfile
from deploy.local.logfile import open_log, tail


def test_it_goes_on_where_it_ended(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "vault.log"
    for text in (b"one\n", b"two\n"):
        with open_log(path) as log:
            log.write(text)

    assert path.read_bytes() == b"one\ntwo\n"
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_a_large_one_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logfile, "_ROTATE_BYTES", 3)
    path = tmp_path / "vault.log"
    path.write_text("full\n")

    open_log(path).close()

    assert path.read_text() == ""
    assert (tmp_path / "vault.log.1").read_text() == "full\n"


def test_the_tail_has_the_last_lines(tmp_path: Path) -> None:
    path = tmp_path / "vault.log"
    path.write_text("".join(f"line {number}\n" for number in range(10_000)))

    assert tail(path, lines=2) == "\n    line 9998\n    line 9999"


def test_the_tail_of_nothing_is_empty(tmp_path: Path) -> None:
    assert tail(tmp_path / "none.log") == ""


def test_bytes_that_are_no_text_are_shown_somehow(tmp_path: Path) -> None:
    path = tmp_path / "vault.log"
    path.write_bytes(b"\xff\xfe ends\n")

    assert tail(path).endswith(" ends")

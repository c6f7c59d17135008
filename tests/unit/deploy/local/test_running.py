from pathlib import Path

import pytest

from deploy.local.errors import LocalError
from deploy.local.running import Running, claim, find

RUNNING = Running(
    pid=1234, gateway_url="http://localhost:8400", vault_target="127.0.0.1:7401", provider_target="127.0.0.1:7402"
)


def test_others_find_the_stack_that_runs(tmp_path: Path) -> None:
    with claim(tmp_path) as tell:
        tell(RUNNING)

        assert find(tmp_path) == RUNNING


def test_a_second_stack_is_told_where_the_first_is(tmp_path: Path) -> None:
    with claim(tmp_path) as tell:
        tell(RUNNING)
        with pytest.raises(LocalError, match=r"already running .*process 1234, http://localhost:8400"), claim(tmp_path):
            pass

        assert find(tmp_path) == RUNNING


def test_a_second_stack_is_refused_while_the_first_starts(tmp_path: Path) -> None:
    with claim(tmp_path):  # noqa: SIM117  # one holds, the other tries
        with pytest.raises(LocalError, match="already running"), claim(tmp_path):
            pass


def test_after_its_end_nothing_is_found_and_another_may_run(tmp_path: Path) -> None:
    with claim(tmp_path) as tell:
        tell(RUNNING)

    with pytest.raises(LocalError, match="not running"):
        find(tmp_path)
    with claim(tmp_path):
        pass


def test_what_a_killed_stack_left_is_not_believed(tmp_path: Path) -> None:
    with claim(tmp_path) as tell:
        tell(RUNNING)
        left = (tmp_path / "running.json").read_text()
    (tmp_path / "running.json").write_text(left)

    with pytest.raises(LocalError, match="not running"):
        find(tmp_path)


@pytest.mark.parametrize("left", ["", "{", "[]", '{"pid": 1}', '{"pid": 1, "other": 2}'])
def test_a_damaged_note_is_no_stack(tmp_path: Path, left: str) -> None:
    with claim(tmp_path):
        (tmp_path / "running.json").write_text(left)
        with pytest.raises(LocalError, match="not running"):
            find(tmp_path)


def test_a_folder_without_a_stack_has_none(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="make run"):
        find(tmp_path / "nowhere")

"""Completion: the script, and what it is answered with."""

from typing import Any

import pytest

pytest.importorskip("click")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_the_one_that_the_variable_gives(offline: Any, shell: str) -> None:
    ran = offline("completion", shell)

    assert 0 == ran.status
    assert f"_TENANTVAULT_COMPLETE={shell}_complete" in ran.out
    assert ran.out.strip() == offline(environ={"_TENANTVAULT_COMPLETE": f"{shell}_source"}).out.strip()
    assert {"shell": shell, "script": ran.out[:-1]} == offline("completion", shell, "--json").data


def test_another_shell_is_refused(offline: Any) -> None:
    assert 2 == offline("completion", "tcsh").status


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("tenantvault re", ["resolve"]),
        ("tenantvault get acme G", ["googleCalendar"]),
        ("tenantvault resolve ph", ["phone_number"]),
        ("tenantvault org unfreeze --on", ["--on-behalf-of"]),
    ],
)
def test_commands_options_and_names_are_completed(offline: Any, words: str, offered: list[str]) -> None:
    environ = {"_TENANTVAULT_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}

    assert offered == [line.partition(",")[2] for line in offline(environ=environ).lines]

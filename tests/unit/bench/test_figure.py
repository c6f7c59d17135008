from pathlib import Path

import pytest

from tests.bench.figure import Figure, complaints, table, write


def figure(value: float, goal: str = "", name: str = "a call") -> Figure:
    return Figure(name=name, value=value, unit="ms", goal=goal)


@pytest.mark.parametrize(
    ("goal", "met", "not_met"),
    [("≤ 0.5", (0.4, 0.5), (0.51,)), ("< 5", (4.9,), (5, 6)), ("≥ 99", (99, 100), (98.9,)), ("> 2", (2.1,), (2, 1))],
)
def test_a_goal_is_a_bound(goal: str, met: tuple[float, ...], not_met: tuple[float, ...]) -> None:
    assert {figure(value, goal).met for value in met} == {True}
    assert {figure(value, goal).met for value in not_met} == {False}
    assert figure(1).met is None


@pytest.mark.parametrize("goal", ["5", "= 5", "≤5", "≤ five", "≤ 5 ms"])
def test_what_is_no_bound_is_no_goal(goal: str) -> None:
    with pytest.raises(ValueError, match="is no goal"):
        assert figure(1, goal).met


@pytest.mark.parametrize(("goal", "times"), [("", 2), ("≤ 1", 2), ("< 1", 2), ("≥ 1", 0.5), ("> 1", 0.5)])
def test_what_is_worse_depends_on_the_goal(goal: str, times: float) -> None:
    assert figure(6, goal).worse_than(3) == times


def test_a_figure_that_became_much_worse_is_complained_of(tmp_path: Path) -> None:
    kept = tmp_path / "new" / "figures.json"
    write([figure(10, name="slower"), figure(10, name="much slower"), figure(10, "≥ 1", name="fewer")], kept)
    now = [figure(15, name="slower"), figure(16, name="much slower"), figure(5, "≥ 1", name="fewer")]
    assert ["much slower: 16 ms, was 10: 1.60 times worse", "fewer: 5 ms, was 10: 2.00 times worse"] == complaints(
        [*now, figure(1e9, name="nobody knows it yet")], kept
    )


def test_the_table_says_which_goals_are_not_met() -> None:
    head, met, not_met, without = table([figure(1, "≤ 2"), figure(3, "≤ 2"), figure(3)]).splitlines()
    assert head.split() == ["Figure", "Value", "Goal", "Reference"]
    assert met.split() == ["a", "call", "1", "ms", "≤", "2", "met"]
    assert not_met.split() == ["a", "call", "3", "ms", "≤", "2", "NOT", "MET"]
    assert without.split() == ["a", "call", "3", "ms"]

from deploy.sandbox.journal import DROPPED, Exchange, Journal

GET = Exchange(provider="vapi", method="GET", path="/assistant", account="a")


def test_a_request_is_open_until_it_is_answered() -> None:
    journal = Journal()

    journal.begin(GET)
    journal.begin(GET)
    journal.finish(GET, 200)

    assert [(None, 1), (200, 1)] == [(entry["status"], entry["count"]) for entry in journal.entries()]


def test_equal_answers_are_counted_together() -> None:
    journal = Journal()

    for status in (200, DROPPED, 200):
        journal.begin(GET)
        journal.finish(GET, status)

    assert [(200, 2), (DROPPED, 1)] == [(entry["status"], entry["count"]) for entry in journal.entries()]


def test_a_request_that_was_under_way_at_a_reset_is_counted_when_it_ends() -> None:
    journal = Journal()

    journal.begin(GET)
    journal.clear()
    journal.finish(GET, 200)

    assert [(200, 1)] == [(entry["status"], entry["count"]) for entry in journal.entries()]

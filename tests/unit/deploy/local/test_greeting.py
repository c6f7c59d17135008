import re
from pathlib import Path

from deploy.local.greeting import SANDBOX_CREDENTIALS, greeting

SANDBOX_README = Path(__file__).parents[4] / "deploy" / "sandbox" / "README.md"


def test_it_says_where_everything_is() -> None:
    text = greeting(url="http://localhost:8401", root=Path(".local"), live=False, webhooks=False)

    for part in ("http://localhost:8401", "acme or globex", "make fetch ORG=acme", ".local/logs", "Ctrl-C", "sandbox"):
        assert part in text


def test_the_credentials_are_ones_that_the_sandbox_knows() -> None:
    documented = SANDBOX_README.read_text()
    values = [value for value in SANDBOX_CREDENTIALS.split() if re.search(r"\d{4}", value)]

    assert len(values) == 6
    assert all(value in documented for value in values)


def test_live_shows_no_sandbox_and_warns_that_webhooks_go_nowhere() -> None:
    text = greeting(url="http://localhost:8400", root=Path(".local"), live=True, webhooks=False)

    assert "LIVE" in text
    assert "TENANTVAULT_VAPI_WEBHOOK_URL" in text
    assert "sandbox" not in text
    assert "TENANTVAULT_VAPI_WEBHOOK_URL" not in greeting(
        url="http://localhost:8400", root=Path(".local"), live=True, webhooks=True
    )

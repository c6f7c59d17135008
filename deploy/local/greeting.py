"""What the person at the terminal reads once everything is ready."""

from pathlib import Path
from typing import Final

from deploy.local.environments import DEMO_ORGS

SANDBOX_CREDENTIALS: Final = """\
Vapi        API key ac3e0000-0000-4000-8000-000000000001
Twilio      Account SID ACac3e0000000000000000002025550100
            Auth Token 0010555202000000000000000000e3ca
            phone number +12025550100
Resend      API key re_acme0001_acme00000000000000000001
ElevenLabs  API key sk_ac3e000000000000ac3e0000000000000000000000000001
Google      any e-mail address, on the stand-in's own page"""
"""What to type in for the org acme; `deploy/sandbox/README.md` has more, and says what each does."""


def greeting(*, url: str, root: Path, live: bool, webhooks: bool) -> str:
    """Where everything is. `webhooks` tells whether real assistants have an address for theirs."""
    lines = [
        ("Dashboard", url),
        ("Sign in", f"choose the org {' or '.join(DEMO_ORGS)}; no password, this machine only"),
        *(_live(webhooks=webhooks) if live else _sandbox()),
        ("Fetch", "make fetch ORG=acme PROVIDER=vapi (in another terminal, once acme has connected Vapi)"),
        ("Data", f"{root}, logs in {root / 'logs'}"),
        ("Stop", "Ctrl-C"),
    ]
    return "\n".join(["", "TenantVault is ready.", "", *(f"  {label:<10}{text}".rstrip() for label, text in lines), ""])


def _sandbox() -> list[tuple[str, str]]:
    return [
        ("Providers", "sandbox: stand-ins on this machine, for which acme can type in"),
        *(("", f"  {line}") for line in SANDBOX_CREDENTIALS.splitlines()),
    ]


def _live(*, webhooks: bool) -> list[tuple[str, str]]:
    lines = [("Providers", "LIVE: the providers' real hosts, with real accounts")]
    if not webhooks:
        lines.append(("", "Vapi's webhooks go nowhere: set TENANTVAULT_VAPI_WEBHOOK_URL to where yours should go"))
    return lines

"""`tenantvault doctor`: whether the vault is well."""

import click

from tenantvault.cli.connection import LONG, Access, access_options
from tenantvault.cli.output import Output, Status, iso, output_option, readable, table, time_in
from tenantvault.v1.admin_service_pb2 import DiagnoseRequest, DiagnoseResponse


@click.command(short_help="Run the vault's self-checks.")
@access_options
@output_option
def doctor(access: Access, output: Output) -> None:
    """Run every self-check of the vault, and show what each found."""
    with access.open(seconds=LONG) as vault:
        answer = vault.call(vault.admin.Diagnose, DiagnoseRequest())
    passed = bool(answer.findings) and all(finding.passed for finding in answer.findings)
    checked_at = time_in(answer, "checked_at")
    output.show(
        {
            "passed": passed,
            "checked_at": iso(checked_at),
            "findings": [
                {"check": finding.check, "passed": finding.passed, "problem": finding.problem}
                for finding in answer.findings
            ],
        },
        _described(answer, readable(checked_at), passed=passed),
    )
    if not passed:
        raise click.exceptions.Exit(Status.NO)


def _described(answer: DiagnoseResponse, checked_at: str, *, passed: bool) -> list[str]:
    rows = [(finding.check, "ok" if finding.passed else "FAILED", finding.problem) for finding in answer.findings]
    failed = sum(not finding.passed for finding in answer.findings)
    verdict = "All is well" if passed else f"{failed} of {len(rows)} checks failed"
    return [*table(("CHECK", "RESULT", "WHAT TO DO"), rows), "", f"{verdict}, {checked_at or 'just now'}."]

"""What the docs name is what the code has, and the other way round."""

import re
from pathlib import Path

import pytest

import gateway.problems
from tenantvault import errors
from tests.architecture.provider_docs import PAGE, page

ROOT = Path(__file__).parents[2]
DOCS = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "clients/python/README.md"]
CODE = [
    path
    for folder in ("services", "gateway", "clients/python/src", "deploy/sandbox")
    for path in sorted((ROOT / folder).rglob("*.py"))
]
PROTOS = sorted((ROOT / "proto").rglob("*.proto"))
# `_FILE` behind a secret setting's name is one rule, not a setting for each.
SETTING = re.compile(r"TENANTVAULT_[A-Z]+(?:_[A-Z]+)*\b")


def text(paths: list[Path]) -> str:
    return "\n".join(path.read_text("utf-8") for path in paths)


def settings(source: str) -> set[str]:
    found = {name.removesuffix("_FILE") for name in SETTING.findall(source)}
    return found | ({"TENANTVAULT_POLICY_FILE", "TENANTVAULT_JWKS_FILE"} & set(SETTING.findall(source)))


def test_every_setting_is_documented_and_every_documented_setting_exists() -> None:
    documented = settings((ROOT / "docs/operations.md").read_text("utf-8"))
    derived = {"TENANTVAULT_POLICY", "TENANTVAULT_JWKS"}
    assert settings(text(CODE)) - derived == documented - derived


def test_every_error_is_documented_with_its_statuses() -> None:
    rows = dict(re.findall(r"^\| `([A-Z_]+)` \|(.*)\|$", (ROOT / "docs/errors.md").read_text("utf-8"), re.MULTILINE))
    for leaf in errors.LEAVES:
        cells = [cell.strip() for cell in rows.pop(leaf.reason).split("|")]
        row = gateway.problems.TABLE[leaf.reason]
        assert leaf.retryable == row.retryable, leaf.reason
        assert [f"`{leaf.__name__}`", leaf.code, str(row.status), "yes" if leaf.retryable else "no"] == cells[:4]
    own = {code: row.status for code, row in gateway.problems.TABLE.items() if code not in errors.BY_REASON}
    assert own == {code: int(row.split("|")[0]) for code, row in rows.items()}


def test_every_metric_is_documented_and_every_documented_metric_exists() -> None:
    metric = re.compile(r'"(tenantvault_[a-z_]+)"')
    roles = {"tenantvault_app", "tenantvault_owner", "tenantvault_lookup"}
    rows = re.findall(r"^\| `(tenantvault_[a-z_]+)", (ROOT / "docs/operations.md").read_text("utf-8"), re.MULTILINE)
    # Prometheus writes a counter's name with `_total` behind it.
    assert set(metric.findall(text(CODE))) - roles == {name.removesuffix("_total") for name in rows}


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_every_method_named_in_the_docs_is_in_the_contract(path: Path) -> None:
    methods = set(re.findall(r"rpc (\w+)\(", text(PROTOS)))
    services = set(re.findall(r"service (\w+) \{", text(PROTOS)))
    for service, method in re.findall(r"`(\w+Service)\.(\w+)`", path.read_text("utf-8")):
        assert service in services
        assert method in methods


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_every_link_and_path_in_the_docs_leads_somewhere(path: Path) -> None:
    source = path.read_text("utf-8")
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", source):
        assert (path.parent / target).exists(), target
    for target in re.findall(r"`((?:services|gateway|deploy|tests|docs|proto|clients)/[\w./-]*)`", source):
        assert (ROOT / target).exists(), target


def test_every_make_target_in_the_docs_exists() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = set(re.findall(r"`(?:[A-Z]+=\S+ )*make ([a-z0-9-]+)", text(DOCS)))
    assert named
    assert set() == named - targets


def test_the_page_of_the_providers_is_what_the_forms_show() -> None:
    assert page() == PAGE.read_text("utf-8"), "write it anew with `make docs`"

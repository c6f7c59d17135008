"""What a deployment may put in the place of our assistants."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.sandbox.vapi_assistant import problems
from services.provider.providers.vapi.body import assistant
from services.provider.providers.vapi.templates import Templates, load_templates, standard
from tenantvault.credentials import VapiCredential
from tenantvault.secret import Secret

CREDENTIAL = VapiCredential(api_key=Secret("k"), webhook_secret=Secret("s"))


def body(templates: Templates, role: str = "inbound") -> dict[str, Any]:
    return assistant(
        "acme", role, mark="tenantvault", url="https://hooks.test", credential=CREDENTIAL, templates=templates
    )


def written(tmp_path: Path, value: object) -> Path:
    path = tmp_path / "templates.json"
    path.write_text(json.dumps(value))
    return path


@pytest.mark.parametrize("value", [{}, {"inbound": {}}, {"inbound": {}, "outbound": {}}])
def test_a_file_that_says_nothing_changes_nothing(tmp_path: Path, value: object) -> None:
    assert standard() == load_templates(written(tmp_path, value))


def test_a_field_takes_the_place_of_the_standard_one_as_a_whole(tmp_path: Path) -> None:
    model = {"provider": "anthropic", "model": "claude", "temperature": 0.2}
    templates = load_templates(written(tmp_path, {"inbound": {"model": model, "endCallMessage": "Bye."}}))
    assert {**standard().by_role["inbound"], "model": model, "endCallMessage": "Bye."} == templates.by_role["inbound"]
    assert standard().by_role["outbound"] == templates.by_role["outbound"]


def test_null_takes_a_field_away(tmp_path: Path) -> None:
    templates = load_templates(written(tmp_path, {"outbound": {"maxDurationSeconds": None}}))
    assert "maxDurationSeconds" not in body(templates, "outbound")


def test_other_templates_are_another_spec(tmp_path: Path) -> None:
    templates = load_templates(written(tmp_path, {"inbound": {"firstMessage": "Acme, good morning!"}}))
    before, after = body(standard()), body(templates)
    assert "Acme, good morning!" == after["firstMessage"]
    assert before["metadata"]["spec_hash"] != after["metadata"]["spec_hash"]
    assert body(standard(), "outbound") == body(templates, "outbound")


@pytest.mark.parametrize("name", ["name", "server", "metadata", "serverMessages"])
@pytest.mark.parametrize("value", ["x", {}, None])
def test_what_is_ours_cannot_be_replaced(tmp_path: Path, name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"inbound: {name} is set by this service"):
        load_templates(written(tmp_path, {"inbound": {name: value}}))


FLAWED: list[tuple[dict[str, object], str]] = [
    ({"firstMessageMode": "assistant-sings"}, "firstMessageMode is one of"),
    ({"firstMessage": 7}, "firstMessage is a text"),
    ({"maxDurationSeconds": 9}, "from 10 to 43200"),
    ({"maxDurationSeconds": 43201}, "from 10 to 43200"),
    ({"maxDurationSeconds": "600"}, "from 10 to 43200"),
    ({"maxDurationSeconds": True}, "from 10 to 43200"),
    ({"model": {"provider": "openai"}}, "model is an object with the text model"),
    ({"model": {"model": "gpt-4o"}}, "model is an object with the text provider"),
    ({"model": "gpt-4o"}, "model is an object"),
    ({"voice": {"provider": "11labs"}}, "text voiceId"),
    ({"voice": {"voiceId": "x", "provider": ""}}, "text provider"),
    ({"transcriber": {}}, "text provider"),
]


@pytest.mark.parametrize(("fields", "sentence"), FLAWED)
def test_what_vapi_would_not_take_is_refused_at_the_start(
    tmp_path: Path, fields: dict[str, object], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence) as caught:
        load_templates(written(tmp_path, {"outbound": fields}))
    assert "outbound" in str(caught.value)


@pytest.mark.parametrize("seconds", [10, 43200, 600.5])
def test_the_limits_themselves_are_good(tmp_path: Path, seconds: float) -> None:
    templates = load_templates(written(tmp_path, {"inbound": {"maxDurationSeconds": seconds}}))
    assert [] == problems(body(templates))


@pytest.mark.parametrize("value", [[], "x", None, {"inbound": []}, {"inbound": "x"}])
def test_another_shape_is_refused(tmp_path: Path, value: object) -> None:
    with pytest.raises(ValueError, match="JSON object"):
        load_templates(written(tmp_path, value))


def test_another_role_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mascot"):
        load_templates(written(tmp_path, {"mascot": {}}))


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 100_000])
def test_what_is_no_json_is_refused_without_quoting_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "templates.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="cannot be read as JSON"):
        load_templates(path)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="FileNotFoundError"):
        load_templates(tmp_path / "templates.json")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(["firstMessage", "firstMessageMode", "maxDurationSeconds", "model", "voice", "transcriber"])


@given(st.dictionaries(NAMES, JSON))
def test_what_is_taken_is_taken_by_vapi_too(tmp_path_factory: pytest.TempPathFactory, fields: dict[str, Any]) -> None:
    path = written(tmp_path_factory.mktemp("t"), {"inbound": fields})
    try:
        templates = load_templates(path)
    except ValueError:
        return
    assert [] == problems(body(templates))

"""The tree of errors, the contract's enum, the documentation and the wire agree."""

import copy
import pickle
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf.any_pb2 import Any
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from hypothesis import given
from hypothesis import strategies as st

from tenantvault import errors
from tenantvault._status import DETAILS, from_status, to_status
from tenantvault.errors import (
    BY_REASON,
    LEAVES,
    DeadlineExceeded,
    InternalError,
    InvalidRequest,
    TenantVaultError,
    VaultUnavailable,
)
from tenantvault.v1 import error_reason_pb2
from tenantvault.v1.error_reason_pb2 import ErrorReason

README = Path(__file__).parents[1] / "README.md"


def classes(root: type[TenantVaultError] = TenantVaultError) -> Iterator[type[TenantVaultError]]:
    for child in root.__subclasses__():
        if child.__module__ == errors.__name__:  # others may have classes of their own below ours
            yield child
            yield from classes(child)


class Failed:
    """A failed call, as far as it matters."""

    def __init__(self, code: grpc.StatusCode, trailers: tuple[tuple[str, str | bytes], ...] | None = ()) -> None:
        self._code = code
        self._trailers = trailers

    def code(self) -> grpc.StatusCode:
        return self._code

    def trailing_metadata(self) -> tuple[tuple[str, str | bytes], ...] | None:
        return self._trailers


def over_the_wire(error: TenantVaultError) -> TenantVaultError:
    code, _, trailers = to_status(error)
    return from_status(Failed(code, trailers))


def test_the_leaves_are_the_contracts_reasons_in_its_order() -> None:
    names = [name.removeprefix("ERROR_REASON_") for name in ErrorReason.keys()]  # noqa: SIM118  # no mapping

    assert names[1:] == [leaf.reason for leaf in LEAVES]
    assert "UNSPECIFIED" == names[0]


def test_every_class_is_a_leaf_or_has_one_below() -> None:
    for kind in classes():
        assert kind in LEAVES or any(issubclass(leaf, kind) for leaf in LEAVES), kind


def test_every_class_with_a_reason_is_a_leaf() -> None:
    assert set(LEAVES) == {kind for kind in classes() if "reason" in vars(kind)}
    assert len(LEAVES) == len(BY_REASON)


@pytest.mark.parametrize(
    "twin", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, copy.deepcopy], ids=["pickle", "copy", "deep"]
)
@pytest.mark.parametrize("leaf", LEAVES)
def test_every_error_reaches_another_process_as_it_was(
    leaf: type[TenantVaultError], twin: Callable[[TenantVaultError], TenantVaultError]
) -> None:
    error = leaf("Do this.", fields={"org_id": "Give one."}, retry_after=2.5)
    error.add_note("Seen in a worker.")
    arrived = twin(error)

    assert leaf is type(arrived)
    assert ("Do this.", {"org_id": "Give one."}, 2.5) == (arrived.message, dict(arrived.fields), arrived.retry_after)
    assert ["Seen in a worker."] == arrived.__notes__
    with pytest.raises(TypeError):
        arrived.fields["org_id"] = "Another."  # type: ignore[index]  # it is to fail


@pytest.mark.parametrize("leaf", LEAVES)
def test_every_leaf_says_what_it_is(leaf: type[TenantVaultError]) -> None:
    assert leaf.code in grpc.StatusCode.__members__
    assert leaf.sentence.endswith(".")
    assert leaf.sentence != TenantVaultError.sentence
    assert leaf.sentence == str(leaf()) == leaf().message
    assert leaf.__doc__


def test_every_class_is_in_the_tree_of_the_module_and_of_the_readme() -> None:
    named = {kind.__name__ for kind in classes()} | {"TenantVaultError"}
    tree = r"[A-Z]\w+(?=[:,\s])"

    assert named == set(re.findall(tree, str(errors.__doc__).split("Each leaf")[0])) & named
    drawn = README.read_text("utf-8").split("    TenantVaultError")[1].split("Each has")[0]
    assert named - {"TenantVaultError"} == set(re.findall(tree, drawn))


def test_the_tree_marks_what_is_retryable() -> None:
    lines = str(errors.__doc__).split("Each leaf")[0].splitlines()
    named = {getattr(errors, re.findall(r"[A-Z]\w+", line)[0]): line for line in lines if "retryable" in line}
    exempt = tuple(kind for kind, line in named.items() if "not retryable" in line)
    marked = tuple(kind for kind in named if kind not in exempt)

    assert {leaf for leaf in LEAVES if issubclass(leaf, marked) and not issubclass(leaf, exempt)} == {
        leaf for leaf in LEAVES if leaf.retryable
    }


@pytest.mark.parametrize(
    ("leaf", "family", "code"),
    [
        (errors.ReauthRequired, errors.ProviderRefused, "FAILED_PRECONDITION"),
        (errors.ConsentDenied, errors.ProviderRefused, "FAILED_PRECONDITION"),
        (errors.ProviderConflict, errors.ProviderRefused, "FAILED_PRECONDITION"),
        (errors.ProviderMisconfigured, errors.ProviderUnreachable, "FAILED_PRECONDITION"),
        (errors.OAuthStateInvalid, errors.InvalidRequest, "INVALID_ARGUMENT"),
    ],
)
def test_what_calls_for_a_person_is_in_its_family_and_not_tried_again(
    leaf: type[TenantVaultError], family: type[TenantVaultError], code: str
) -> None:
    assert issubclass(leaf, family)
    assert (code, False) == (leaf.code, leaf.retryable)


def test_every_reason_is_documented_in_the_contract_with_its_status_and_an_example() -> None:
    stub = Path(error_reason_pb2.__file__).with_suffix(".pyi").read_text("utf-8")
    documented = dict(re.findall(r'^    ERROR_REASON_(\w+): .*?\n    """(.*?)"""', stub, re.MULTILINE | re.DOTALL))

    assert {"UNSPECIFIED", *BY_REASON} == set(documented)
    for leaf in LEAVES:
        text = " ".join(documented[leaf.reason].split())
        assert f"Status {leaf.code}" in text
        assert f'"reason": "{leaf.reason}", "domain": "tenantvault"' in text


# What XML calls characters: protobuf carries no surrogates.
TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(
    st.sampled_from(LEAVES),
    TEXT.filter(bool),
    st.dictionaries(TEXT, TEXT),
    st.none() | st.integers(0, 999_999).map(lambda milliseconds: milliseconds / 1000),
)
def test_an_error_survives_the_wire(
    leaf: type[TenantVaultError], message: str, fields: dict[str, str], retry_after: float | None
) -> None:
    error = over_the_wire(leaf(message, fields=fields, retry_after=retry_after))

    assert leaf is type(error)
    assert (message, fields) == (error.message, error.fields)
    assert (
        retry_after == pytest.approx(error.retry_after, rel=1e-5) if retry_after is not None else not error.retry_after
    )


@pytest.mark.parametrize("leaf", LEAVES)
def test_an_error_goes_out_with_its_code_and_sentence(leaf: type[TenantVaultError]) -> None:
    code, message, trailers = to_status(leaf("Do this."))

    assert (grpc.StatusCode[leaf.code], "Do this.") == (code, message)
    assert [DETAILS] == [key for key, _ in trailers]


def packed(*details: ErrorInfo | BadRequest | RetryInfo) -> bytes:
    status = Status(code=3, message="foreign text")
    for detail in details:
        wrapped = Any()
        wrapped.Pack(detail)
        status.details.append(wrapped)
    encoded: bytes = status.SerializeToString()
    return encoded


@pytest.mark.parametrize(
    "trailers",
    [
        None,
        (),
        (("other", "x"),),
        ((DETAILS, "text"),),
        ((DETAILS, b"\xff\xff"),),
        ((DETAILS, packed()),),
        ((DETAILS, packed(RetryInfo())),),
        ((DETAILS, packed(ErrorInfo(reason="INTERNAL", domain="googleapis.com"))),),
        ((DETAILS, packed(ErrorInfo(reason="REASON_OF_A_NEWER_SERVER", domain="tenantvault"))),),
    ],
)
def test_a_status_without_our_details_becomes_the_nearest_class_with_its_own_sentence(
    trailers: tuple[tuple[str, str | bytes], ...] | None,
) -> None:
    for code, kind in [
        (grpc.StatusCode.UNAVAILABLE, VaultUnavailable),
        (grpc.StatusCode.DEADLINE_EXCEEDED, DeadlineExceeded),
        (grpc.StatusCode.DATA_LOSS, InternalError),
    ]:
        error = from_status(Failed(code, trailers))
        assert kind is type(error)
        assert kind.sentence == error.message


def test_our_details_are_found_among_others() -> None:
    bad = BadRequest(field_violations=[BadRequest.FieldViolation(field="a", description="b")])
    info = ErrorInfo(reason="INVALID_REQUEST", domain="tenantvault", metadata={"retry_after_seconds": "soon"})

    error = from_status(Failed(grpc.StatusCode.UNKNOWN, ((DETAILS, packed(RetryInfo(), bad, info)),)))

    assert InvalidRequest is type(error)
    assert ({"a": "b"}, None) == (error.fields, error.retry_after)


def test_fields_cannot_be_changed() -> None:
    fields = {"a": "b"}
    error = InvalidRequest(fields=fields)
    fields["c"] = "d"

    assert {"a": "b"} == error.fields
    with pytest.raises(TypeError):
        error.fields["c"] = "d"  # type: ignore[index]  # which is the point

"""Fuzz the seal: `python tests/fuzz/fuzz_seal.py [-max_total_time=60] [CORPUS]`; the options are libFuzzer's.

Each input is taken as a sealed record, as parts of associated data, and as associated data. The corpus is a folder that
the golden records are put into; without one it is `.local/fuzz/seal`. An input that fails is kept in `.local/fuzz`.
"""

import importlib
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import xor
from pathlib import Path
from typing import Final

from services.vault import seal

ROOT: Final = Path(__file__).parents[2]
LOCAL: Final = ROOT / ".local/fuzz"
VECTORS: Final = json.loads((ROOT / "tests/vectors/seal.json").read_text("utf-8"))

_BODY: Final = 65
# One record of many kilobytes would make libFuzzer try as many bytes each time.
_SMALL: Final = 2_048
_BEHIND_ITS_HEAD: Final = 0x80
_CHANGED: Final = 0x40


@dataclass(frozen=True, slots=True)
class Golden:
    """A record that opens for ever."""

    key: bytes
    associated: bytes
    plaintext: bytes
    sealed: bytes


GOLDEN: Final = [
    Golden(*(bytes.fromhex(vector[name]) for name in ("key", "associated", "plaintext", "sealed")))
    for vector in VECTORS["seal"]
    if len(vector["sealed"]) < 2 * _SMALL
]


def seeds() -> list[bytes]:
    """Each golden record, whole, without its head and with a bit changed, and each golden encoding."""
    whole = [bytes([number]) + golden.sealed for number, golden in enumerate(GOLDEN)]
    bodies = [bytes([_BEHIND_ITS_HEAD | number]) + golden.sealed[_BODY:] for number, golden in enumerate(GOLDEN)]
    changed = [bytes([_CHANGED | number, 0, 0, 1]) for number in range(len(GOLDEN))]
    return whole + bodies + changed + [bytes.fromhex(vector["encoded"]) for vector in VECTORS["associated_data"]]


def check_record(data: bytes) -> None:
    """The golden record opens as ever, anything else under its key is Unreadable and says no more."""
    golden, sealed = candidate(data)
    try:
        plaintext = seal.unlock(golden.key, sealed, golden.associated).open()
    except seal.Unreadable as refused:
        assert sealed != golden.sealed, "the golden record does not open"
        check_refusal(refused)
    else:
        assert sealed == golden.sealed, "a record opens that was never sealed"
        assert plaintext == golden.plaintext, "the golden record opens as something else"


def candidate(data: bytes) -> tuple[Golden, bytes]:
    """What to open. The first byte names a golden record and says what the rest is.

    It is a whole record; or what is behind the golden record's salt and commitment, as no chance finds a commitment and
    the cipher would not be reached; or a place in the golden record, in two bytes, and the bits that change from there.
    """
    choice, rest = int.from_bytes(data[:1]), data[1:]
    golden = GOLDEN[choice % _CHANGED % len(GOLDEN)]
    if choice & _BEHIND_ITS_HEAD:
        return golden, golden.sealed[:_BODY] + rest
    if choice & _CHANGED:
        size = len(golden.sealed)
        bits = bytes(int.from_bytes(rest[:2]) % size) + rest[2:]
        return golden, bytes(map(xor, golden.sealed, bits[:size].ljust(size, b"\0")))
    return golden, rest


def check_refusal(refused: Exception) -> None:
    """It is no more than its name: no text, and nothing that caused it."""
    assert type(refused) is seal.Unreadable, "a refusal of another kind"
    assert (refused.args, refused.__cause__) == ((), None), "a refusal that says more"


def check_parts(parts: Sequence[str | int | bytes]) -> None:
    """What the parts encode as is read back from their encoding."""
    assert list(map(encoded, parts)) == decoded(seal.associated_data(*parts)), "the parts do not come back"


def check_encoding(data: bytes) -> None:
    """Bytes that can be decoded are what their parts encode as: no sequence has two encodings."""
    try:
        parts = decoded(data)
    except ValueError:
        return
    assert data == seal.associated_data(*parts), "a sequence has two encodings"


def encoded(part: str | int | bytes) -> bytes:
    """A part's own bytes, as the docstring of `associated_data` has it."""
    if isinstance(part, int):
        return part.to_bytes(8)
    return part.encode() if isinstance(part, str) else part


def decoded(data: bytes) -> list[bytes]:
    """The bytes of each part of associated data.

    Raises:
        ValueError: no parts encode as these bytes.
    """
    parts = []
    while data:
        end = 4 + int.from_bytes(data[:4])
        if len(data) < end:
            raise ValueError("cut off")
        parts.append(data[4:end])
        data = data[end:]
    return parts


def fuzz(arguments: Sequence[str]) -> None:
    """Try inputs until libFuzzer ends the process, with status 0 when none has failed."""
    import atheris

    with atheris.instrument_imports(include=[seal.__name__]):
        importlib.reload(seal)

    def parts(data: bytes) -> Iterator[str | int | bytes]:
        provider = atheris.FuzzedDataProvider(data)
        for _ in range(provider.ConsumeIntInRange(0, 16)):
            kind, length = provider.ConsumeIntInRange(0, 2), provider.ConsumeIntInRange(0, 64)
            if kind == 0:
                yield provider.ConsumeUnicodeNoSurrogates(length)
            elif kind == 1:
                yield provider.ConsumeIntInRange(0, 2**64 - 1)
            else:
                yield provider.ConsumeBytes(length)

    def check(data: bytes) -> None:
        check_record(data)
        check_parts([*parts(data)])
        check_encoding(data)

    options = [argument for argument in arguments if argument.startswith("-")]
    # libFuzzer takes a file for one input to try again.
    corpus = [argument for argument in arguments if not argument.startswith("-")] or [str(LOCAL / "seal")]
    if not Path(corpus[0]).is_file():
        plant(Path(corpus[0]))
    LOCAL.mkdir(parents=True, exist_ok=True)
    # Inputs that are made shorter would leave no golden record whole.
    ours = ["-reduce_inputs=0", f"-artifact_prefix={LOCAL}/"]
    atheris.Setup([sys.argv[0], *ours, *options, *corpus], check)
    atheris.Fuzz()


def plant(corpus: Path) -> None:
    """Put the seeds into a folder."""
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds()):
        (corpus / f"golden-{number}").write_bytes(seed)


if __name__ == "__main__":
    fuzz(sys.argv[1:])

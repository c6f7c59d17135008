"""TCP ports: which one a server is given."""

import pytest

from deploy.local import ports
from deploy.local.errors import LocalError
from deploy.local.ports import free_port

EPHEMERAL = 32_768


def test_a_port_that_is_taken_is_passed_over_and_none_is_a_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    def is_free(port: int) -> bool:
        tried.append(port)
        return len(tried) > 3

    monkeypatch.setattr(ports, "is_free", is_free)
    assert free_port() == tried[-1]
    assert 4 == len(tried)
    assert all(1024 < port < EPHEMERAL for port in tried)


def test_a_machine_without_a_free_port_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "is_free", lambda port: False)
    with pytest.raises(LocalError, match="No TCP port is free"):
        free_port()

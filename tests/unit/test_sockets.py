import asyncio
import socket

import pytest
from pytest_socket import SocketBlockedError


async def test_a_unit_test_cannot_open_a_socket() -> None:
    with pytest.warns(UserWarning, match="A test tried"), pytest.raises(SocketBlockedError):
        socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    with pytest.warns(UserWarning, match="A test tried"), pytest.raises(SocketBlockedError):
        await asyncio.open_connection("127.0.0.1", 1)

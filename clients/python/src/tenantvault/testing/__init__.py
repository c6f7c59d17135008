"""A vault for the tests of those who use the client: a real gRPC server in the same process, which answers from memory.

    from tenantvault import Secret, VapiCredential
    from tenantvault.testing import FakeVault

    with FakeVault() as vault, vault.client() as client:
        vault.connect("acme", VapiCredential(api_key=Secret("key")))
        assert client.vapi("acme").credential.api_key.reveal() == "key"

`tenantvault.testing.fixtures` has fixtures for pytest.
"""

from tenantvault.testing.faults import Call
from tenantvault.testing.memory import OVERLAP
from tenantvault.testing.vault import FakeVault

__all__ = ["OVERLAP", "Call", "FakeVault"]

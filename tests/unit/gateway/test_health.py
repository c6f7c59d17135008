import pytest
from grpc_health.v1.health_pb2 import HealthCheckResponse

from tenantvault.errors import DeadlineExceeded, VaultUnavailable
from tests.unit.gateway.fakes import Gateway


async def test_the_gateway_is_alive_whatever_its_services_do(gateway: Gateway) -> None:
    gateway.health["vault"].failure = VaultUnavailable()
    answer = await gateway.client.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "alive"})


async def test_the_gateway_is_ready_when_both_services_serve(gateway: Gateway) -> None:
    answer = await gateway.client.get("/readyz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ready"})


@pytest.mark.parametrize("failure", [VaultUnavailable(), DeadlineExceeded()])
async def test_a_service_that_does_not_answer_is_named(gateway: Gateway, failure: Exception) -> None:
    gateway.health["provider"].failure = failure
    answer = await gateway.client.get("/readyz")
    assert (answer.status_code, answer.json()["code"]) == (503, "NOT_READY")
    assert list(answer.json()["fields"]) == ["provider"]
    assert "provider" in answer.json()["detail"]
    assert "retry-after" in answer.headers


async def test_a_service_that_is_not_serving_is_named(gateway: Gateway) -> None:
    for fake in gateway.health.values():
        fake.status = HealthCheckResponse.NOT_SERVING
    answer = await gateway.client.get("/readyz")
    assert (answer.status_code, list(answer.json()["fields"])) == (503, ["vault", "provider"])


async def test_each_service_has_a_second(gateway: Gateway) -> None:
    await gateway.client.get("/readyz")
    assert [fake.asked for fake in gateway.health.values()] == [{"timeout": 1.0}] * 2

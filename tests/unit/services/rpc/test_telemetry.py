from prometheus_client import generate_latest

from services.rpc.telemetry import Telemetry


def test_a_call_is_counted_by_method_peer_and_code() -> None:
    telemetry = Telemetry()
    for code in ("OK", "OK", "NOT_FOUND"):
        telemetry.record(method="/a/B", peer="provider", code=code, seconds=0.002)
    text = generate_latest(telemetry.registry).decode()
    assert 'tenantvault_rpc_calls_total{code="OK",method="/a/B",peer="provider"} 2.0' in text
    assert 'tenantvault_rpc_calls_total{code="NOT_FOUND",method="/a/B",peer="provider"} 1.0' in text
    assert 'tenantvault_rpc_seconds_bucket{le="0.001",method="/a/B"} 0.0' in text
    assert 'tenantvault_rpc_seconds_bucket{le="0.0025",method="/a/B"} 3.0' in text
    assert 'tenantvault_rpc_seconds_count{method="/a/B"} 3.0' in text


def test_two_processes_in_one_interpreter_count_apart() -> None:
    one, other = Telemetry(), Telemetry()
    one.record(method="/a/B", peer="p", code="OK", seconds=0)
    assert b"/a/B" not in generate_latest(other.registry)


def test_what_a_process_counts_is_read_when_somebody_looks() -> None:
    telemetry, counts = Telemetry(), {"hits": 1, "misses": 0}
    telemetry.count("tenantvault_cache_reads", "Reads.", lambda: counts)
    counts["hits"] = 7
    assert 7 == telemetry.registry.get_sample_value("tenantvault_cache_reads_total", {"outcome": "hits"})
    assert 0 == telemetry.registry.get_sample_value("tenantvault_cache_reads_total", {"outcome": "misses"})

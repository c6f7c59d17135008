import asyncio

from services.rpc.tasks import end


async def test_a_task_that_loses_a_cancellation_is_cancelled_again() -> None:
    lost = 0

    async def work() -> None:
        nonlocal lost
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if lost == 2:
                    raise
                lost += 1

    tasks = [asyncio.create_task(work()) for _ in range(2)]
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await end(*tasks, again_after=0.001)
    assert all(task.cancelled() for task in tasks)


async def test_what_has_ended_or_failed_is_let_be() -> None:
    async def fail() -> None:
        raise ValueError

    failed = asyncio.create_task(fail())
    await asyncio.sleep(0)
    await end(failed)
    assert isinstance(failed.exception(), ValueError)
    await end()

"""The end of tasks."""

import asyncio


async def end(*tasks: "asyncio.Task[None]", again_after: float = 1.0) -> None:
    """Cancel tasks and return when they have ended; what they end with is theirs.

    They are cancelled again after so many seconds: what runs out of time at the moment of a cancellation can lose it
    (https://github.com/python/cpython/issues/86296), and who waits after one cancellation waits for ever.
    """
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=again_after)
    await asyncio.gather(*tasks, return_exceptions=True)

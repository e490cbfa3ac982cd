"""The two flows for Temporal: worker and client in one. Arguments: address, flow, count, how many at once."""

import asyncio
import json
import sys
import time
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

SECONDS = timedelta(seconds=30)


@activity.defn
async def say(words: str) -> str:
    return words


@workflow.defn
class Three:
    @workflow.run
    async def run(self, name: str) -> str:
        for words in (f"Hello {name}", "Please keep to the plan of your medicines.", "Please come to see us next week."):
            await workflow.execute_activity(say, words, start_to_close_timeout=SECONDS)
        return "done"


@workflow.defn
class Signal:
    def __init__(self) -> None:
        self.told = False

    @workflow.run
    async def run(self, name: str) -> str:
        await workflow.wait_condition(lambda: self.told)
        await asyncio.sleep(1)
        return "done"

    @workflow.signal
    def tell(self) -> None:
        self.told = True


async def main() -> None:
    address, flow, count, at_once = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    client = await Client.connect(address)
    times: list[float] = []
    numbers = iter(range(count))

    async def one_after_the_other() -> None:
        for number in numbers:
            began = time.monotonic()
            arguments = {"id": f"{flow}-{number}", "task_queue": "bench"}
            if flow == "three":
                await client.execute_workflow(Three.run, "you", **arguments)
            else:
                handle = await client.start_workflow(Signal.run, "you", **arguments)
                await handle.signal(Signal.tell)
                await handle.result()
            times.append((time.monotonic() - began) * 1000)

    runner = UnsandboxedWorkflowRunner()
    async with Worker(client, task_queue="bench", workflows=[Three, Signal], activities=[say], workflow_runner=runner):
        began = time.monotonic()
        await asyncio.gather(*(one_after_the_other() for _ in range(at_once)))
        seconds = time.monotonic() - began
    times.sort()
    last = len(times) - 1
    print(json.dumps({"seconds": seconds, "p50_ms": times[last // 2], "p99_ms": times[round(last * 0.99)],
                      "cpu_ms": time.process_time() * 1000}))


asyncio.run(main())

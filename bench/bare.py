"""The unit everything is measured in: a bare aiohttp handler on uvloop that reads the body and returns a constant Response.

    python -m bench.bare PATH ...

serves POST on each fixed PATH, prints "bare serves URL" like the real server, and ends on SIGTERM. Besides: POST /hold, which is held for
the seconds that its body names and then answers 204 (what a held connection costs in aiohttp alone), and GET /healthz.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys

import uvloop
from aiohttp import web

ANSWER = b'{"id":"00000000-0000-7000-8000-000000000000","queue":"default","status":"queued","created":true}'


async def constant(request: web.Request) -> web.Response:
    """Read the body, answer a constant."""
    await request.read()
    return web.Response(body=ANSWER, content_type="application/json")


async def hold(request: web.Request) -> web.Response:
    """Hold the request for as long as it asks for."""
    await asyncio.sleep(json.loads(await request.read())["wait"])
    return web.Response(status=204)


async def healthz(_: web.Request) -> web.Response:
    """The loop turns."""
    return web.Response()


async def serve(paths: list[str]) -> None:
    """Serve on a free port until SIGTERM."""
    app = web.Application()
    for path in paths:
        app.router.add_post(path, constant)
    app.router.add_post("/hold", hold)
    app.router.add_get("/healthz", healthz)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1_024)
    await site.start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    print(f"bare serves http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await stop.wait()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1:]))

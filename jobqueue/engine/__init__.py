"""The queue's core, pure and synchronous: no asyncio, no I/O, and it never reads a clock."""

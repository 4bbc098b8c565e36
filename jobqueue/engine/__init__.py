"""The queue as a pure, synchronous machine: no asyncio, no I/O, never reads a clock."""

"""The HTTP edge: the only part of the server that imports aiohttp."""

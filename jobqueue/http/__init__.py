"""The HTTP edge: the one room of the server that imports aiohttp."""

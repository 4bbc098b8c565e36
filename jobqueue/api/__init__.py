"""The HTTP edge: decode, call one backend operation, encode."""

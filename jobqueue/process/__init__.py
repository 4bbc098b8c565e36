"""The server process: settings, start, end."""

"""The process: settings, start, end."""

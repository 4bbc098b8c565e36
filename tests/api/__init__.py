"""The native HTTP API as wire dialogues: a server in this process, real sockets, time that stands still."""

"""One file that keeps everything: the durable journal."""

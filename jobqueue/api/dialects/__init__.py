"""Other systems' HTTP APIs, translated onto ours. One file a dialect; docs/dialects.md says how their words map."""

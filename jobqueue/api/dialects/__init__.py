"""Other systems' HTTP APIs, translated to ours. One file for each dialect; docs/dialects.md says how their terms map."""

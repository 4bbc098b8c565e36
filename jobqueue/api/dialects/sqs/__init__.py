"""Amazon SQS: both its protocols, with one set of actions. See docs/dialects.md."""

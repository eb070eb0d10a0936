"""From image files to shards."""

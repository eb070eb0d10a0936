"""Images on disk become arrays in shards. No torch in this room."""

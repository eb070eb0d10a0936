"""The JSON reports of the stages: their schema, and how they are written and read."""

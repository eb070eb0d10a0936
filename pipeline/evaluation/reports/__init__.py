"""The JSON reports: their schema, and short views of them."""

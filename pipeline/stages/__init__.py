"""One module per DVC stage: read inputs, call the pure core, write outputs."""

"""What differs between new images and those that a model was judged on."""

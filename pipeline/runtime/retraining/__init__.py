"""What a scheduler calls: from images that may be new to a model that may be better."""

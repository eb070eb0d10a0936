"""Where a network looks: class-activation maps, and the boxes that they give."""

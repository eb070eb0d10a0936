"""Whether one model is better than another on the same images, and which one ships."""

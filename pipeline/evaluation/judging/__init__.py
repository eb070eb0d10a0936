"""Whether one model is better than another, and which one ships."""

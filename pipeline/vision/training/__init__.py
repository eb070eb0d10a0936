"""Training: from scratch, transferred or fine-tuned, on one worker or many."""

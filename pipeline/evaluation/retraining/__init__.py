"""What a scheduled retraining finds, decides and reports; nothing here reads or writes."""

"""What a network is made of: its layers, what each sees, and what each can be turned into."""

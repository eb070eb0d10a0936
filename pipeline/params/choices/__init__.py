"""What has a name and options: their defaults are part of every result that leaves them out."""

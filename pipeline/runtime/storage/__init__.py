"""Files that a cluster's processes share: a folder or a bucket, where each lies by its sha256."""

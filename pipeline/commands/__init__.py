"""Commands for people, beside the stages that dvc repro runs."""

"""Folders of Hugging Face: a configuration and weights, built by transformers where it is there."""

"""Pickles, gone through without being run."""

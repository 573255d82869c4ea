"""Measurements as tables of ready text, one file per kind; folded where a net is too long."""

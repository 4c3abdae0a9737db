"""Inputs that are wrong, each with its answer."""

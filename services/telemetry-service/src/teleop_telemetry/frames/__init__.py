"""Samples as they are taken in and given out, and what is counted of them; pure."""

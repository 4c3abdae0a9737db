"""Video that has come: what is in it, whether it is whole, and how it is noted in the store."""

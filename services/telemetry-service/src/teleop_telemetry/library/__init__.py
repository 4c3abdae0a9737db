"""The library of episodes: which there are, and what people judge of them."""

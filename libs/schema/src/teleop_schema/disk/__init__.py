"""Code that all programs share that read files of their machine."""

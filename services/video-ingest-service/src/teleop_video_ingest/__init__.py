"""Takes video chunks and dataset files over resumable HTTP, keeps them, and gives them back."""

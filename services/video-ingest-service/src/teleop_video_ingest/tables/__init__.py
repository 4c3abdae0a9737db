"""SQL, each statement next to the function that runs it."""

"""SQL, each statement beside the function that runs it."""

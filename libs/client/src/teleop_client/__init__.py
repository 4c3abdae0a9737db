"""What everything shares that speaks to the backend: requests, uploads, when to try again."""

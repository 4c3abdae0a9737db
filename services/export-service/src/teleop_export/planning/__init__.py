"""What is exported: which sessions, episodes, frames and columns, and what is said of it; pure."""

"""Tells other programs what has happened: signed requests to addresses that an admin has allowed."""

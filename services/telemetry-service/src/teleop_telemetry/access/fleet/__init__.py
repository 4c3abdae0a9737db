"""How robots join without a line of their own: with that of their fleet, or once an admin approves."""

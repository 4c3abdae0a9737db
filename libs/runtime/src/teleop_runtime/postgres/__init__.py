"""How every service reaches PostgreSQL."""

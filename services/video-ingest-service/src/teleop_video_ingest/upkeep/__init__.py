"""What goes on by itself: the sweep, later looks, room."""

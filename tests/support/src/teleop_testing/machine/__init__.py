"""What a machine does to programs: full disks, power cuts, other users."""

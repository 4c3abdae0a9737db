"""Makes and revokes tokens, and enrols robots; `teleop_runtime.gate` checks them, in every service."""

"""Makes and revokes tokens, enrols robots, lets people sign in; `teleop_runtime.gate` checks them all."""

"""Who may do what: tokens, roles, needs and enrolment codes. Pure; `serving.guard` applies it."""

"""Floor 2: noise levels, schedules, transitions, and denoisers that answer with a posterior."""

"""What papers and notes say should happen, as experiments: `python -m claims`; see harness.py."""

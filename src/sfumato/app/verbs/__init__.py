"""One file a verb: its options, and the sentences around a call of the Python interface."""

"""Data: from a user's files to tensors in [-1, 1] and back.

    open_data (sources)  ->  Dataset (loader): stored integers or floats, memory-mapped, with their Facts
    Loader (loader)      ->  which examples a step sees, as a pure function of (seed, examples seen)
    pixels               ->  stored values <-> model values, and pictures on disk
    examine (inspect)    ->  the doctor's report in plain words

This file imports nothing: the child processes that decode images start without torch.
"""

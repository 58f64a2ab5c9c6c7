"""Rooms: everything about one family of figures lives in one folder, ``papers/<paper>/<room>``, and nowhere else."""

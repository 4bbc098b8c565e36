"""The suite that defines a backend: whatever passes it is one. See `rig.py` for what a new backend must bring along."""

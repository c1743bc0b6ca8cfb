"""What training with this recipe does, shown by experiments that anyone repeats: `python -m experiments NAME`."""

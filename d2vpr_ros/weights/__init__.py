"""Official weights: where they come from, how they get here, and the form in which they are kept."""

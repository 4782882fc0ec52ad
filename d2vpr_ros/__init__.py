"""d2vpr_ros: tells a robot where it is from what its camera sees, and stays silent when it is not sure."""

__version__ = "0.2.0"

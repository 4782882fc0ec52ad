"""d2vpr_ros: visual place recognition. Camera images give the pose of a robot, or no pose if it is not sure."""

__version__ = "0.2.0"

"""Loop closure: places seen again, the pose graph over them, and the corrected map.

closer    a place in, closures out: the one object that node, verb and tests drive
graph     odometry and closures -> corrected poses
correct   corrected poses into the map, in one transaction
"""

"""List the topics of a bag with types and counts, and its duration."""

from __future__ import annotations

import argparse
from pathlib import Path

from d2vpr_ros.bags.reader import open_bag


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bag", type=Path, metavar="BAG", help="rosbag2 directory, .mcap or .db3 file, or rosbag1 .bag")


def main(args: argparse.Namespace) -> int:
    with open_bag(args.bag) as bag:
        topics = list(bag.topics.values())
        left_out = [f"{name} ({encoding})" for name, encoding in bag.foreign.items()]
        duration_s = (bag.end_ns - bag.start_ns) / 1e9
        print(f"{bag.path}: {sum(topic.count for topic in topics)} messages over {duration_s:.1f} s")
    longest_name = max((len(topic.name) for topic in topics), default=0)
    longest_type = max((len(topic.msgtype) for topic in topics), default=0)
    for topic in topics:
        print(f"  {topic.name:{longest_name}}  {topic.msgtype:{longest_type}}  {topic.count}")
    if left_out:
        print(f"  left out, not ROS 2: {', '.join(left_out)}")
    return 0

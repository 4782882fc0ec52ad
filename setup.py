"""Builds d2vpr_ros as an ament_python package (colcon) and as a plain Python package (pip)."""

import sys
from pathlib import Path

from setuptools import find_packages, setup

NAME = "d2vpr_ros"
SHARE = f"share/{NAME}"


def files(folder: str) -> list[str]:
    return sorted(str(path) for path in Path(folder).glob("*") if path.is_file())


# `ros2 run` and `ros2 launch` look in lib/<package>: colcon puts commands there, pip, which makes a wheel, in bin only.
FOR_ROS2_RUN = [(f"lib/{NAME}", files("scripts/lib"))] if "bdist_wheel" in sys.argv else []

setup(
    name=NAME,
    version="0.2.0",
    description="Visual place recognition for ROS 2: a pose from camera images, and no pose if it is not sure",
    license="Apache-2.0",
    maintainer="d2vpr_ros maintainers",
    maintainer_email="d2vpr-ros@users.noreply.github.com",
    python_requires=">=3.10",
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    package_data={f"{NAME}.evaluation": ["*.css", "*.j2", "*.js"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (SHARE, ["package.xml"]),
        (f"{SHARE}/launch", files("launch")),
        (f"{SHARE}/config", files("config")),
        (f"{SHARE}/rtabmap", files("rtabmap")),
        (f"{SHARE}/weights", files("models/weights")),
        (f"{SHARE}/hook", ["resource/path.dsv"]),  # named in colcon.pkg: `d2vpr` is on the PATH of the workspace
        *FOR_ROS2_RUN,
    ],
    zip_safe=False,
    # No ROS package is named here: an apt installation of ROS has no metadata that pip would find.
    # scripts/setup installs the exact versions of requirements/. What runs the network is an extra, torch or onnx: a
    # Jetson has NVIDIA's builds of both, and a robot with exported weights needs no torch.
    install_requires=[
        "faiss-cpu",
        "jinja2",
        "numpy",
        "pyproj",
        "pyyaml",
        "rosbags>=0.11,<0.12",
        "rosbags-image",
        "safetensors",
        "scipy",
        "setuptools",
        "tqdm",
    ],
    extras_require={
        "export": ["onnx", "onnxruntime>=1.20", "torch>=2.3"],
        "milvus": ["milvus-lite>=3,<4", "pymilvus>=3,<4"],
        "onnx": ["onnxruntime>=1.20"],
        "sim": ["moderngl"],
        # `colcon test` runs pytest because it stands here.
        "test": ["hypothesis", "mypy", "pyogrio", "pytest<9", "ruff"],
        "torch": ["torch>=2.3"],
        "train": ["ai-edge-litert", "pytorch-lightning", "pytorch-metric-learning", "scikit-learn", "tensorboard"],
    },
    entry_points={
        "console_scripts": [
            f"d2vpr = {NAME}.entry:d2vpr",
            f"d2vpr_localizer = {NAME}.entry:d2vpr_localizer",
            f"d2vpr_map_builder = {NAME}.entry:d2vpr_map_builder",
            f"d2vpr_rtabmap_links = {NAME}.entry:d2vpr_rtabmap_links",
        ],
    },
)

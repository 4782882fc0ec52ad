# d2vpr_ros on a Jetson with JetPack 5.1 (L4T r35): on its processor, without its GPU.
# JetPack 5 brings Python 3.8, and its builds of torch and ONNX Runtime for the GPU are for that; d2vpr_ros needs 3.10.
# So this is the plain ROS 2 Humble image (Ubuntu 22.04), which runs on L4T r35's kernel; upgrade to JetPack 6 for the GPU.
# UNTESTED: nobody has run it yet. From the root of the repository:
#   docker build -f docker/jetpack5.Dockerfile -t d2vpr_ros .
#   docker run --rm -it --network host --ipc host -v $PWD:/data d2vpr_ros \
#     d2vpr_localizer --ros-args -p map:=/data/site.d2map -p weights:=/data/nano.onnx
FROM ros:humble-ros-base-jammy

ENV DEBIAN_FRONTEND=noninteractive LANG=C.UTF-8
RUN apt-get update && apt-get install -y --no-install-recommends python3-pip \
       ros-humble-cv-bridge ros-humble-tf2-ros-py ros-humble-sensor-msgs-py \
    && rm -rf /var/lib/apt/lists/*

COPY requirements /src/requirements
RUN pip3 install --no-cache-dir -r /src/requirements/arrays-with-ros.txt -r /src/requirements/runtime.txt \
       onnxruntime==1.23.2

COPY . /src
RUN pip3 install --no-cache-dir --no-deps /src
ENV FASTRTPS_DEFAULT_PROFILES_FILE=/src/config/fastdds.xml
ENTRYPOINT ["/bin/bash", "-c", "source /opt/ros/humble/setup.bash && exec \"$@\"", "--"]
